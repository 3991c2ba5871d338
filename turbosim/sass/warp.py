"""Steps of instructions that concern the warp: special registers, votes, predicates as bits, local memory, waits."""

from __future__ import annotations

from typing import Any

import numpy as np

from turbosim.sass import semantics as s
from turbosim.sass.instruction import ZERO, Instruction, Kind, Operand
from turbosim.sass.opcodes import PREDICATES, Maker, need
from turbosim.sass.steps import (
    ACTIVE,
    LOCAL,
    UNIFORM_PREDICATES,
    Slots,
    Source,
    Step,
    Unknown,
    Values,
    bits,
    first_lane,
    flag,
    guard_bits,
    known_in,
    lanes_of,
    slot,
    step,
    store,
    word,
)
from turbosim.sass.steps import PREDICATES as VECTOR_PREDICATES


def special(slots: Slots, inst: Instruction) -> Step:
    """S2R d, special; CS2R writes two words."""
    first, source = inst.operands
    need(source.kind == Kind.SPECIAL)
    if inst.name == "CS2R" and "32" not in inst.modifiers:
        return step(inst, [slot(first), slot(first, 1)], [Source(slots.special(source.text))], s.split)
    return step(inst, [slot(first)], [Source(slots.special(source.text))], lambda value: value)


def to_uniform(slots: Slots, inst: Instruction) -> Step:
    """R2UR d, a: the value of the first lane that acts."""
    first, a = inst.operands
    need(first.kind == Kind.UNIFORM)
    target, source, enabled = slot(first), word(slots, a), lanes_of(inst)

    def run(values: Values) -> None:
        if (lanes := enabled(values)) is False:
            return
        value = lanes if isinstance(lanes, Unknown) else known_in(values[source.slot], lanes)
        if isinstance(value, Unknown):
            value = value.origin
        else:
            acting = s.spread_flag(lanes) & s.spread_flag(values[ACTIVE])
            value = first_lane(value if source.change is None else source.change(value), acting)
        store(values, target, value, True)

    reads = bits([source.slot, ACTIVE]) | guard_bits(inst)
    return Step(inst.index, run, reads, bits([target]), inst.guard is None, True)


def vote(_: Slots, inst: Instruction) -> Step:
    """VOTE [d,] p, q: the lanes where q, as bits, and whether any or all are."""
    *written, asked = inst.operands
    need(len(written) <= 2 and inst.modifiers[0] in ("ANY", "ALL", "EQ"))
    mode = inst.modifiers[0]

    def compute(q: Any, active: Any) -> Any:
        lanes = s.spread_flag(active)
        votes = s.spread_flag(q) & lanes
        every = bool((votes == lanes).all())
        some = bool(votes.any())
        verdict = {"ANY": some, "ALL": every, "EQ": every or not some}[mode]
        ballot = int((votes.astype(np.uint64) << np.arange(s.LANES, dtype=np.uint64)).sum())
        results = [verdict if o.kind in PREDICATES else ballot for o in written]
        return results[0] if len(results) == 1 else tuple(results)

    return step(inst, [slot(o) for o in written], [flag(asked), Source(ACTIVE)], compute)


def elect(_slots: Slots, inst: Instruction) -> Step:
    """ELECT p, d, q: true in the first lane, whose number is d."""
    p, number, _ = inst.operands

    def compute(active: Any) -> Any:
        first = int(s.spread_flag(active).argmax())
        return np.arange(s.LANES) == first, first

    return step(inst, [slot(p), slot(number)], [Source(ACTIVE)], compute)


def shuffle(slots: Slots, inst: Instruction) -> Step:
    """SHFL p, d, a, lane, bounds."""
    p, first, a, lane, bounds = inst.operands
    mode = inst.modifiers[0]
    return step(inst, [slot(p), slot(first)], [word(slots, o) for o in (a, lane, bounds)],
                lambda value, n, c: s.shuffled(value, n, c, mode))


def _byte(operand: Operand) -> int:
    """Return the first bit of the byte that a suffix names."""
    return 8 * int(operand.suffix[1]) if operand.suffix[:1] == "B" else 0


def from_predicates(slots: Slots, inst: Instruction) -> Step:
    """P2R d, PR, a, mask: a with the bits of the mask taken from the predicates."""
    first, _, a, chosen = inst.operands
    need(chosen.kind == Kind.INTEGER and not a.suffix)
    begin = 8 * int(inst.modifiers[0][1]) if inst.modifiers and inst.modifiers[0][0] == "B" else 0
    base = UNIFORM_PREDICATES if first.kind == Kind.UNIFORM else VECTOR_PREDICATES
    taken = [n for n in range(7) if int(chosen.value) >> n & 1]
    kept = s.LOW ^ (int(chosen.value) & 127) << begin

    def compute(old: Any, *flags: Any) -> Any:
        result = old & kept
        for number, value in zip(taken, flags, strict=True):
            result = result | s.as_word(value) << begin + number
        return result

    return step(inst, [slot(first)], [word(slots, a), *(Source(base + n) for n in taken)], compute)


def to_predicates(_slots: Slots, inst: Instruction) -> Step:
    """R2P PR, a, mask: the predicates of the mask become bits of a."""
    _, a, chosen = inst.operands
    need(chosen.kind == Kind.INTEGER and a.kind in (Kind.REGISTER, Kind.UNIFORM))
    begin = _byte(a)
    base = UNIFORM_PREDICATES if a.kind == Kind.UNIFORM else VECTOR_PREDICATES
    taken = [n for n in range(7) if int(chosen.value) >> n & 1]

    def compute(value: Any) -> Any:
        flags = tuple(s.as_flag(value & 1 << begin + n) for n in taken)
        return flags if len(flags) > 1 else flags[0]

    return step(inst, [base + n for n in taken], [Source(slot(a))], compute)


def _succeeds(_: Slots, inst: Instruction) -> Step:
    """A wait, or an allocation, whose outcome is a predicate: it succeeds, or a loop around it would spin."""
    writes = [o for o in inst.operands[:2] if o.kind in (*PREDICATES, Kind.UNIFORM, Kind.REGISTER)]
    need(bool(writes) and writes[0].kind in PREDICATES)
    unknown = Unknown(inst.index, "")
    results = tuple(True if o.kind in PREDICATES else unknown for o in writes)
    return step(inst, [slot(o) for o in writes], [], lambda: results if len(results) > 1 else results[0])


def _waits(slots: Slots, inst: Instruction) -> Step:
    need("TRYWAIT" in inst.modifiers)
    return _succeeds(slots, inst)


def _checks(_: Slots, inst: Instruction) -> Step:
    """FCHK p, a, b: whether a / b needs the way for exponents at the ends of the range. It does not."""
    return step(inst, [slot(inst.operands[0])], [], lambda: False)


def _allocates(slots: Slots, inst: Instruction) -> Step:
    need("FIND_AND_SET" in inst.modifiers)
    return _succeeds(slots, inst)


_LOST = -1
"""Stands for a store to an unknown place, which may have changed any word."""


def local(_: Slots, inst: Instruction) -> Step:
    """LDL d, [at] and STL [at], a: words that the compiler keeps in memory.

    A word that nothing was stored to reads as 0: predicates are kept as bits of such words, and set one by one.
    """
    loads = inst.name == "LDL"
    at, register = inst.operands[::-1] if loads else inst.operands
    marks = set(inst.modifiers)
    need(at.kind == Kind.ADDRESS and at.uniform == ZERO and register.kind == Kind.REGISTER)
    narrow = bool(marks & {"U8", "S8", "U16", "S16", "8", "16"})
    need(not (narrow and loads))
    count = 4 if "128" in marks else 2 if "64" in marks else 1
    enabled, unknown = lanes_of(inst), Unknown(inst.index, "")
    registers = [slot(register, n) for n in range(count)]

    def place(values: Values) -> int | None:
        base = values[at.base]
        if isinstance(base, np.ndarray) and (base == base[0]).all():
            base = int(base[0])
        return base + at.offset & s.LOW if isinstance(base, int) else None

    def load(values: Values) -> None:
        if (lanes := enabled(values)) is False:
            return
        where, memory = place(values), values[LOCAL]
        for number, target in enumerate(registers):
            if where is None or isinstance(lanes, Unknown):
                store(values, target, unknown, True)
            else:
                store(values, target, memory.get(where + 4 * number, unknown if _LOST in memory else 0), lanes)

    def save(values: Values) -> None:
        if (lanes := enabled(values)) is False:
            return
        where, memory = place(values), values[LOCAL]
        if where is None:
            memory.clear()
            memory[_LOST] = unknown
            return
        for number, source in enumerate(registers):
            value = values[source]
            if narrow or isinstance(lanes, Unknown):
                value = unknown
            elif lanes is not True:
                old = memory.get(where + 4 * number, value)
                doubt = next((v.origin for v in (value, old) if isinstance(v, Unknown)), None)
                value = s.select(lanes, value, old) if doubt is None else doubt
            memory[where + 4 * number if not narrow else where & ~3] = value

    base = bits([at.base]) | guard_bits(inst)
    if loads:
        return Step(inst.index, load, base | 1 << LOCAL, bits(registers), inst.guard is None, True)
    return Step(inst.index, save, base | bits(registers), 1 << LOCAL, False, True)


CONCERNING: dict[str, Maker] = {
    **dict.fromkeys(("S2R", "S2UR", "CS2R"), special), "R2UR": to_uniform, "VOTE": vote, "VOTEU": vote,
    "ELECT": elect, "SHFL": shuffle, "P2R": from_predicates, "UP2UR": from_predicates, "R2P": to_predicates,
    "UR2UP": to_predicates, "SYNCS": _waits, "UTCATOMSWS": _allocates, "FCHK": _checks, "LDL": local, "STL": local,
}
"""Steps by opcode, as :data:`turbosim.sass.opcodes.MODELLED`."""
