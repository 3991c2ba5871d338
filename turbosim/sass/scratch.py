"""Shared memory and global scratch memory as the place where kernels make tensor maps.

One thread writes a tensor map to shared memory, by reading, changing and writing words; the threads of its warp then
copy it to scratch memory, a word each. Words are kept by address.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from turbosim.sass import semantics as s
from turbosim.sass.access import Address, results_of
from turbosim.sass.instruction import Instruction, Kind, Operand
from turbosim.sass.launch import SPACING
from turbosim.sass.opcodes import need
from turbosim.sass.steps import (
    SCRATCH,
    SHARED,
    Slots,
    Step,
    Unknown,
    Values,
    bits,
    guard_bits,
    lanes_of,
    opaque,
    slot,
    store,
)

Words = dict[int, Any]
"""Known words (int) by address."""
_WIDTHS = {"64": 2, "128": 4}
_NARROW = {"U8", "S8", "U16", "S16", "8", "16"}


def words_at(memory: Words, address: int, count: int) -> list[int] | None:
    """Return *count* words from *address* on; None unless all are known."""
    found = [memory.get(address + 4 * n) for n in range(count)]
    return None if any(w is None for w in found) else found  # type: ignore[return-value]


def _registers(inst: Instruction, operand: Operand) -> list[int]:
    need(operand.kind is Kind.REGISTER and not operand.suffix)
    return [slot(operand, n) for n in range(next((_WIDTHS[m] for m in inst.modifiers if m in _WIDTHS), 1))]


def load(_: Slots, inst: Instruction) -> Step:
    """LDS d, [at]."""
    need(not _NARROW & set(inst.modifiers) and len(inst.operands) == 2)
    address, enabled, unknown = Address(inst.operands[1], "shared"), lanes_of(inst), Unknown(inst.index, "")
    registers = _registers(inst, inst.operands[0])

    def run(values: Values) -> None:
        if (lanes := enabled(values)) is False:
            return
        at = None if isinstance(lanes, Unknown) else address.of(values)
        for number, target in enumerate(registers):
            value: Any = unknown
            if at is not None:
                acting = s.spread_flag(lanes)
                found = [values[SHARED].get(int(a) + 4 * number) if acts else 0
                         for a, acts in zip(at, acting, strict=True)]
                value = unknown if None in found else np.array(found, np.uint64)
            store(values, target, value, True if isinstance(lanes, Unknown) else lanes)

    reads = bits(address.reads) | bits([SHARED]) | guard_bits(inst)
    return Step(inst.index, run, reads, bits(registers), inst.guard is None, True)


def save(_: Slots, inst: Instruction) -> Step:
    """STS [at], a."""
    need(len(inst.operands) == 2)
    address, enabled = Address(inst.operands[0], "shared"), lanes_of(inst)
    registers = _registers(inst, inst.operands[1])
    narrow = bool(_NARROW & set(inst.modifiers))

    def run(values: Values) -> None:
        if (lanes := enabled(values)) is not False:
            at = address.of(values)
            _write(values[SHARED], at, [Unknown(inst.index, "") if narrow else values[r] for r in registers], lanes)

    reads = bits(address.reads) | bits(registers) | guard_bits(inst)
    return Step(inst.index, run, reads, bits([SHARED]), False, True)


def exchange(_: Slots, inst: Instruction) -> Step:
    """ATOMG.EXCH p, d, [at], a: where it goes to scratch memory, a store."""
    place = next(n for n, o in enumerate(inst.operands) if o.kind is Kind.ADDRESS)
    need("EXCH" in inst.modifiers and place + 1 < len(inst.operands))
    address, enabled = Address(inst.operands[place], "global"), lanes_of(inst)
    registers = _registers(inst, inst.operands[place + 1])
    written = results_of(inst)
    forget = opaque(inst, written)

    def run(values: Values) -> None:
        forget.run(values)
        lanes = enabled(values)
        at = None if lanes is False else address.of(values)
        # Scratch memory is at the beginning of the address space; an exchange elsewhere is of a tensor.
        if at is not None and int(at[0]) < SPACING:
            _write(values[SCRATCH], at, [values[r] for r in registers], lanes)

    reads = bits(address.reads) | bits(registers) | guard_bits(inst)
    return Step(inst.index, run, reads, bits([SCRATCH, *written]), False, True)


def _write(memory: Words, at: Any, values: list[Any], lanes: Any) -> None:
    """Write words in *lanes*; what is written to an unknown place may have changed any word."""
    if at is None or isinstance(lanes, Unknown):
        memory.clear()
        return
    for number, value in enumerate(values):
        words = None if isinstance(value, Unknown) else s.spread(value)
        for lane in np.flatnonzero(s.spread_flag(lanes)).tolist():
            where = int(at[lane]) + 4 * number
            if words is None:
                memory.pop(where, None)
            else:
                memory[where] = int(words[lane])
