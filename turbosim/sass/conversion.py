"""Conversions between integers and binary32, and reciprocals, as integer divisions use them. Words as in semantics."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from turbosim.sass.semantics import SIGN, Word, each


def float_of_int(value: Word, signed: bool, bits: int, rounding: str) -> Word:
    """Return the binary32 encoding of an integer of *bits*; *rounding* is RN, RZ, RP or RM."""
    def one(value: int) -> int:
        negative = signed and bool(value >> bits - 1)
        size = (1 << bits) - value if negative else value
        if not size:
            return 0
        excess = size.bit_length() - 24
        if excess <= 0:
            kept = size << -excess
        else:
            kept, rest, half = size >> excess, size & (1 << excess) - 1, 1 << excess - 1
            up = {"RN": rest > half or (rest == half and kept & 1 == 1), "RZ": False, "RP": rest > 0 and not negative,
                  "RM": rest > 0 and negative}
            kept += up[rounding]
            if kept >> 24:
                kept, excess = kept >> 1, excess + 1
        return negative << 31 | excess + 150 << 23 | kept & 0x7FFFFF

    return each(one, value)


_ROUNDINGS: dict[str, Callable[[float], int]] = {"RN": round, "TRUNC": math.trunc, "FLOOR": math.floor,
                                                  "CEIL": math.ceil}


def int_of_float(value: Word, signed: bool, bits: int, rounding: str) -> Word:
    """Return a binary32 encoding as an integer of *bits*, within its range; *rounding* is RN, TRUNC, FLOOR or CEIL."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def one(value: int) -> int:
        number = struct.unpack("<f", struct.pack("<I", value))[0]
        if number != number:
            return 0 if bits == 32 else 1 << bits - 1
        if number in (float("inf"), float("-inf")):
            return (high if number > 0 else low) & (1 << bits) - 1
        return min(max(_ROUNDINGS[rounding](number), low), high) & (1 << bits) - 1

    return each(one, value)


def reciprocal(value: Word) -> Word:
    """Return the binary32 encoding of 1 / x, rounded to nearest where hardware may be 1 ulp off [MUFU.RCP]."""
    def one(value: int) -> int:
        number = struct.unpack("<f", struct.pack("<I", value))[0]
        if number != number:
            return 0x7FFFFFFF
        if not value & 0x7F800000:
            return value & SIGN | 0x7F800000
        try:
            return int(struct.unpack("<I", struct.pack("<f", 1 / number))[0])
        except OverflowError:
            return value & SIGN | 0x7F800000

    return each(one, value)
