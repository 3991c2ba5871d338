"""Integer and predicate arithmetic of SASS, on one value for a whole warp or one for each of its lanes.

A word is an ``int`` when all lanes have the same, else a uint64 array of 32, and in both cases below 2**32; a predicate
is a ``bool`` or a bool array of 32. Every function takes any mixture. Source: the PTX ISA manual, whose instructions
these implement, and the sequences that the compiler emits, as for integer division.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

LANES = 32
LOW, ALL = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
SIGN = 0x80000000

Word = Any
"""int or uint64[32], below 2**32; some functions take or return one below 2**64, and say so."""
Flag = Any
"""bool or bool[32]."""


def spread(value: Word) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return *value* as uint64[32]."""
    return value if isinstance(value, np.ndarray) else np.full(LANES, value, np.uint64)


def spread_flag(flag: Flag) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return *flag* as bool[32]."""
    return flag if isinstance(flag, np.ndarray) else np.full(LANES, flag, np.bool_)


def select(flag: Flag, a: Word, b: Word) -> Word:
    """Return *a* where *flag*, else *b*; of predicates too."""
    if isinstance(flag, bool):
        return a if flag else b
    if isinstance(a, bool | np.bool_) or (isinstance(a, np.ndarray) and a.dtype == np.bool_):
        return np.where(flag, spread_flag(a), spread_flag(b))
    return np.where(flag, spread(a), spread(b))


def each(function: Callable[..., int], *words: Word) -> Word:
    """Apply a function of ints lane by lane."""
    if not any(isinstance(w, np.ndarray) for w in words):
        return function(*words)
    columns = [w.tolist() if isinstance(w, np.ndarray) else [w] * LANES for w in words]
    return np.array([function(*values) for values in zip(*columns, strict=True)], np.uint64)


def join(low: Word, high: Word) -> Word:
    """Return the 64-bit value of two words."""
    return low | high << 32


def split(value: Word) -> tuple[Word, Word]:
    """Return low and high word of a 64-bit value."""
    return value & LOW, value >> 32


def extend(word: Word) -> Word:
    """Return *word* sign-extended to 64 bits."""
    return ((word ^ SIGN) - SIGN) & ALL


def as_flag(word: Word) -> Flag:
    """Return whether *word* is not 0."""
    return word != 0


def as_word(flag: Flag) -> Word:
    """Return 1 or 0."""
    return flag.astype(np.uint64) if isinstance(flag, np.ndarray) else int(flag)


def add(terms: tuple[tuple[Word, str], ...], carries: tuple[Flag, ...]) -> tuple[Word, Flag, Flag]:
    """Return sum, whether it carries at least once, and twice.

    A term's sign is ``""``, ``"-"`` or ``"~"``. The negative of 0 carries, so that a difference does where it does not
    borrow.
    """
    total: Word = 0
    for term, sign in terms:
        total = total + (term if not sign else (1 << 32) - term if sign == "-" else LOW - term)
    for carry in carries:
        total = total + as_word(carry)
    return total & LOW, total >= 1 << 32, total >= 1 << 33


def multiply_add(a: Word, b: Word, c: Word, signed: bool, carry: Flag = False) -> tuple[Word, Flag]:
    """Return a * b + c + carry modulo 2**64, and whether it carries; c is 64-bit."""
    product = extend(a) * extend(b) & ALL if signed else a * b
    total = product + c & ALL
    over = total < product
    if carry is not False:
        more = total + as_word(carry) & ALL
        total, over = more, over | (more < total)
    return total, over


def shift(low: Word, amount: Word, high: Word, left: bool, bits: int, signed: bool, wrap: bool, upper: bool) -> Word:
    """Funnel shift: return the low or *upper* word of {high, low} shifted by *amount*.

    *bits* (32 or 64) is what amounts wrap at, or are limited to.
    """
    amount = amount & bits - 1 if wrap else np.minimum(amount, bits) if isinstance(amount, np.ndarray) else min(
        amount, bits)
    value = join(low, high)
    if left:
        moved = value << amount & ALL
    elif not signed:
        moved = value >> amount
    elif isinstance(value, np.ndarray) or isinstance(amount, np.ndarray):
        moved = (spread(value).view(np.int64) >> spread(amount).view(np.int64)).view(np.uint64)
    else:
        moved = ((value ^ 1 << 63) - (1 << 63) >> amount) & ALL
    return moved >> 32 if upper else moved & LOW


def lookup(table: int, a: Word, b: Word, c: Word, full: Word = LOW) -> Word:
    """Return the bitwise function of three inputs whose truth table is *table*; *full* is all bits of a word.

    Bit 4a + 2b + c of the table is the output, so that a is 0xF0, b 0xCC and c 0xAA.
    """
    match table:
        case 0xC0:
            return a & b
        case 0xFC:
            return a | b
        case 0x3C:
            return a ^ b
        case 0xFE:
            return a | b | c
        case 0xF8:
            return a | b & c
    result: Word = 0
    for place in range(8):
        if table >> place & 1:
            result = result | ((a if place & 4 else a ^ full) & (b if place & 2 else b ^ full)
                               & (c if place & 1 else c ^ full))
    return result


def lookup_flags(table: int, a: Flag, b: Flag, c: Flag) -> Flag:
    """Return the function of three predicates whose truth table is *table*."""
    return as_flag(lookup(table, as_word(a), as_word(b), as_word(c), 1))


def compare(relation: str, a: Word, b: Word, signed: bool, below: Flag | None = None, bits: int = 32) -> Flag:
    """Return the comparison; *below*, that of the words under these, makes it one of longer integers."""
    if relation in "FT":
        return relation == "T"
    if signed:
        top = 1 << bits - 1
        a, b = a ^ top, b ^ top
    if below is None:
        match relation:
            case "LT":
                return a < b
            case "LE":
                return a <= b
            case "GT":
                return a > b
            case "GE":
                return a >= b
            case "EQ":
                return a == b
        return a != b
    if relation == "EQ":
        return (a == b) & below
    if relation == "NE":
        return (a != b) | below
    return (a < b if relation[0] == "L" else a > b) | (a == b) & below


def least(a: Word, b: Word, signed: bool) -> Word:
    """Return the smaller."""
    return select(compare("LT", a, b, signed), a, b)


def greatest(a: Word, b: Word, signed: bool) -> Word:
    """Return the larger."""
    return select(compare("LT", a, b, signed), b, a)


def magnitude(a: Word) -> Word:
    """Return the absolute value of a signed word."""
    return select(a >= SIGN, (1 << 32) - a & LOW, a)


def extend_field(a: Word, width: Word, signed: bool, wrap: bool) -> Word:
    """Return the lowest *width* bits of *a*, extended."""
    def one(value: int, bits: int) -> int:
        bits = bits & 31 if wrap else min(bits, 32)
        value &= (1 << bits) - 1
        return (value - (1 << bits)) & LOW if signed and bits and value >> bits - 1 else value

    if isinstance(width, int) and isinstance(a, np.ndarray):
        bits = width & 31 if wrap else min(width, 32)
        field = a & (1 << bits) - 1
        return (field ^ 1 << bits - 1) - (1 << bits - 1) & LOW if signed and bits else field
    return each(one, a, width)


def permute(a: Word, selector: Word, c: Word) -> Word:
    """Return four bytes of {c, a}; each nibble of *selector* picks one, or with its top bit that byte's sign."""
    def one(a: int, selector: int, c: int) -> int:
        both, result = a | c << 32, 0
        for place in range(4):
            nibble = selector >> 4 * place & 15
            byte = both >> 8 * (nibble & 7) & 255
            result |= (255 * (byte >> 7) if nibble & 8 else byte) << 8 * place
        return result

    return each(one, a, selector, c)


def mask(position: Word, width: Word, wrap: bool) -> Word:
    """Return *width* ones from bit *position*."""
    def one(position: int, width: int) -> int:
        if wrap:
            position, width = position & 31, width & 31
        return (1 << min(width, 32)) - 1 << min(position, 32) & LOW

    return each(one, position, width)


def find_one(a: Word, signed: bool, from_top: bool) -> Word:
    """Return the place of the highest bit that is not the sign, or its distance from the top; all ones for none."""
    def one(a: int) -> int:
        a = a ^ LOW if signed and a & SIGN else a
        return LOW if not a else 32 - a.bit_length() if from_top else a.bit_length() - 1

    return each(one, a)


def count_ones(a: Word) -> Word:
    """Return the population count."""
    return each(int.bit_count, a)


def reverse(a: Word) -> Word:
    """Return the bits in reverse order."""
    return each(lambda a: int(f"{a:032b}"[::-1], 2), a)


def shuffled(value: Word, lane: Word, bounds: Word, mode: str) -> tuple[Flag, Word]:
    """Return, for SHFL, whether a lane's source was in range, and what it got; *mode* is IDX, UP, DOWN or BFLY."""
    own = np.arange(LANES, dtype=np.int64)
    lane, bounds = (spread(w).astype(np.int64) for w in (lane & 31, bounds))
    segment, limit = bounds >> 8 & 31, bounds & 31
    most = own & segment | limit & ~segment
    match mode:
        case "IDX":
            source = own & segment | lane & ~segment
        case "UP":
            source = own - lane
        case "DOWN":
            source = own + lane
        case _:
            source = own ^ lane
    inside = source >= most if mode == "UP" else source <= most
    return inside, spread(value)[np.where(inside, source, own) & 31]
