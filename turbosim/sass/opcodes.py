"""Steps of the integer, predicate and move instructions, by opcode.

Operand orders are those of nvdisasm's text. The uniform data path's opcodes are those of the vector's after a ``U``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from turbosim.sass import conversion
from turbosim.sass import semantics as s
from turbosim.sass.instruction import ZERO, Instruction, Kind, Operand
from turbosim.sass.steps import NotModelled, Slots, Source, Step, flag, slot, step, word

PREDICATES = (Kind.PREDICATE, Kind.UNIFORM_PREDICATE)
Maker = Callable[[Slots, Instruction], Step]


def fields(inst: Instruction) -> tuple[Operand, list[Operand], list[Operand], list[Operand]]:
    """Return destination, predicates written, sources, and predicates read, of an instruction in that order."""
    first, *rest = inst.operands
    outputs: list[Operand] = []
    inputs: list[Operand] = []
    while rest and rest[0].kind in PREDICATES:
        outputs.append(rest.pop(0))
    while rest and rest[-1].kind in PREDICATES:
        inputs.insert(0, rest.pop())
    return first, outputs, rest, inputs


def pair(slots: Slots, operand: Operand) -> list[Source]:
    """Return both words of a 64-bit operand."""
    return [word(slots, operand), word(slots, operand, 1)]


def sign(operand: Operand) -> str:
    """Return what precedes an operand."""
    return "-" if operand.negative else "~" if operand.inverted else ""


def need(condition: bool) -> None:
    """Refuse a form that is not modelled."""
    if not condition:
        raise NotModelled


def add(slots: Slots, inst: Instruction) -> Step:
    """IADD3 d, carry, carry, a, b, c, carries; VIADD and IADD have fewer."""
    first, outputs, sources, inputs = fields(inst)
    signs = [sign(o) for o in sources]
    if "64" in inst.modifiers:
        need(all(o.index == ZERO for o in outputs) and not inputs and "~" not in signs)

        def long(*words: Any) -> Any:
            total: Any = 0
            for number, negative in enumerate(signs):
                term = s.join(words[2 * number], words[2 * number + 1])
                total = total + (s.ALL - term + 1 & s.ALL if negative else term) & s.ALL
            return s.split(total)

        words = [word(slots, o, n, signs=False) for o in sources for n in (0, 1)]
        return step(inst, [slot(first), slot(first, 1)], words, long)
    need(set(inst.modifiers) <= {"X"} and len(outputs) <= 2 and ("X" in inst.modifiers or not inputs))
    count, writes = len(sources), [slot(o) for o in (first, *outputs)]
    read = [word(slots, o, signs=False) for o in sources] + [flag(o) for o in inputs]
    if len(writes) == 1:
        return step(inst, writes, read, lambda *v: s.add(tuple(zip(v[:count], signs, strict=True)), v[count:])[0])
    return step(inst, writes, read,
                lambda *v: s.add(tuple(zip(v[:count], signs, strict=True)), v[count:])[:len(writes)])


def multiply(slots: Slots, inst: Instruction) -> Step:
    """IMAD d, a, b, c; HI and WIDE add a 64-bit c and may write and read carries."""
    first, outputs, (a, b, c), inputs = fields(inst)
    signed = "U32" not in inst.modifiers
    factors = [word(slots, a), word(slots, b)]
    if not {"HI", "WIDE"} & set(inst.modifiers):
        need(not outputs)
        flags = [flag(o) for o in inputs]
        return step(inst, [slot(first)], [*factors, word(slots, c), *flags],
                    (lambda x, y, z, carry: x * y + z + s.as_word(carry) & s.LOW) if flags else
                    (lambda x, y, z: x * y + z & s.LOW))
    need(len(outputs) <= 1 and len(inputs) <= 1 and (signed or not (a.negative or b.negative)))

    def compute(x: Any, y: Any, low: Any, high: Any, carry: Any = False) -> Any:
        total, over = s.multiply_add(x, y, s.join(low, high), signed, carry)
        parts = s.split(total)
        kept = parts if "WIDE" in inst.modifiers else parts[1:]
        return (*kept, over) if outputs else kept if len(kept) > 1 else kept[0]

    writes = [slot(first), slot(first, 1)] if "WIDE" in inst.modifiers else [slot(first)]
    return step(inst, writes + [slot(o) for o in outputs], [*factors, *pair(slots, c), *map(flag, inputs)], compute)


def shifted_add(slots: Slots, inst: Instruction) -> Step:
    """LEA d, carry, a, b, shift: (a << shift) + b; HI the upper word of {c, a}, or with SX32 of a extended."""
    first, outputs, sources, inputs = fields(inst)
    upper, extended = "HI" in inst.modifiers, "SX32" in inst.modifiers
    need(len(sources) == (4 if upper and not extended else 3) and len(outputs) <= 1
         and ("X" in inst.modifiers or not inputs) and not (upper and sign(sources[0])))
    base = sign(sources[1])

    def compute(a: Any, b: Any, c: Any, amount: Any, *carries: Any) -> Any:
        if extended:
            c = s.extend(a) >> 32
        moved = s.shift(a, amount, c, True, 64, False, False, upper)
        total, over, _ = s.add(((moved, ""), (b, base)), carries)
        return (total, over) if outputs else total

    a, b, amount = sources[0], sources[1], sources[-1]
    high = word(slots, sources[2]) if len(sources) == 4 else Source(slots.literal(0))
    read = [word(slots, a), word(slots, b, signs=False), high, word(slots, amount), *map(flag, inputs)]
    return step(inst, [slot(o) for o in (first, *outputs)], read, compute)


def funnel(slots: Slots, inst: Instruction) -> Step:
    """SHF d, low, amount, high."""
    first, outputs, (low, amount, high), inputs = fields(inst)
    need(not outputs and not inputs)
    marks = set(inst.modifiers)
    left, wrap, upper = "L" in marks, "W" in marks, "HI" in marks
    width = 64 if marks & {"U64", "S64"} else 32
    signed = bool(marks & {"S32", "S64"})
    return step(inst, [slot(first)], [word(slots, o) for o in (low, amount, high)],
                lambda a, n, c: s.shift(a, n, c, left, width, signed, wrap, upper))


def predicate_logic(_: Slots, inst: Instruction) -> Step:
    """PLOP3.LUT p, q, a, b, c, table of p, table of q."""
    p, q, a, b, c, table, other = inst.operands
    one, two = int(table.value), int(other.value)
    return step(inst, [slot(p), slot(q)], [flag(o) for o in (a, b, c)],
                lambda x, y, z: (s.lookup_flags(one, x, y, z), s.lookup_flags(two, x, y, z)))


def compare(slots: Slots, inst: Instruction) -> Step:
    """ISETP p, q, a, b, r [, below]: p is the comparison, q its opposite, both combined with r."""
    p, q, a, b, r, *below = inst.operands
    relation, marks = inst.modifiers[0], set(inst.modifiers[1:])
    combine: Callable[[Any, Any], Any] = next((f for n, f in (
        ("AND", lambda x, y: x & y), ("OR", lambda x, y: x | y), ("XOR", lambda x, y: x ^ y)) if n in marks))
    signed, long = not marks & {"U32", "U64"}, bool(marks & {"U64", "S64"})
    writes = [slot(p)] if q.index == ZERO else [slot(p), slot(q)]
    need(not (long and below))

    def finish(result: Any, other: Any) -> Any:
        return combine(result, other) if len(writes) == 1 else (combine(result, other), combine(result ^ True, other))

    if long:
        return step(inst, writes, [*pair(slots, a), *pair(slots, b), flag(r)], lambda al, ah, bl, bh, other: finish(
            s.compare(relation, s.join(al, ah), s.join(bl, bh), signed, bits=64), other))
    return step(inst, writes, [word(slots, a), word(slots, b), flag(r), *map(flag, below)],
                lambda x, y, other, *low: finish(s.compare(relation, x, y, signed, *low), other))


def choose(slots: Slots, inst: Instruction) -> Step:
    """SEL d, a, b, p."""
    first, a, b, p = inst.operands
    if "64" in inst.modifiers:
        return step(inst, [slot(first), slot(first, 1)], [*pair(slots, a), *pair(slots, b), flag(p)],
                    lambda al, ah, bl, bh, f: (s.select(f, al, bl), s.select(f, ah, bh)))
    need(not inst.modifiers)
    return step(inst, [slot(first)], [word(slots, a), word(slots, b), flag(p)], lambda x, y, f: s.select(f, x, y))


def extreme(slots: Slots, inst: Instruction) -> Step:
    """IMNMX d, a, b, p: the least if p, else the greatest; VIADDMNMX of a + b and c."""
    first, outputs, sources, inputs = fields(inst)
    need(set(inst.modifiers) <= {"U32", "S32"} and len(inputs) == 1 and all(o.index == ZERO for o in outputs))
    signed = "U32" not in inst.modifiers

    def compute(*values: Any) -> Any:
        *terms, last, want_least = values
        total = sum(terms) & s.LOW
        return s.select(want_least, s.least(total, last, signed), s.greatest(total, last, signed))

    return step(inst, [slot(first)], [*(word(slots, o) for o in sources), flag(inputs[0])], compute)


def plain(function: Callable[..., Any], *allowed: str) -> Callable[[Slots, Instruction], Step]:
    """Return the maker for d, sources... of a *function* that takes the modifiers, then the sources."""
    def make(slots: Slots, inst: Instruction) -> Step:
        first, *sources = inst.operands
        need(set(inst.modifiers) <= set(allowed))
        marks = set(inst.modifiers)
        return step(inst, [slot(first)], [word(slots, o) for o in sources], lambda *v: function(marks, *v))

    return make


def move(slots: Slots, inst: Instruction) -> Step:
    """MOV d, a."""
    first, a = inst.operands[:2]
    if "64" in inst.modifiers:
        return step(inst, [slot(first), slot(first, 1)], pair(slots, a), lambda low, high: (low, high))
    return step(inst, [slot(first)], [word(slots, a)], lambda value: value)


def constant(slots: Slots, inst: Instruction) -> Step:
    """LDC d, c[0][at]."""
    first, at = inst.operands
    marks = set(inst.modifiers)
    if part := marks & {"U8", "S8", "U16", "S16"}:
        kind = part.pop()
        size, begin = int(kind[1:]), 8 * (at.offset % 4)
        need(at.index == 0 and at.base == at.uniform == ZERO)
        return step(inst, [slot(first)], [Source(slots.constant(at.offset & ~3))],
                    lambda value: s.extend_field(value >> begin, size, kind[0] == "S", False))
    count = 4 if "128" in marks else 2 if "64" in marks else 1
    return step(inst, [slot(first, n) for n in range(count)], [word(slots, at, n) for n in range(count)],
                lambda *v: v if count > 1 else v[0])


def float_constant(slots: Slots, inst: Instruction) -> Step:
    """HFMA2 d, -RZ, RZ, high, low: how the compiler loads a word with the FP16 pipe."""
    first, a, b, high, low = inst.operands
    need(a.index == b.index == ZERO and a.kind == Kind.REGISTER and high.kind != Kind.REGISTER != low.kind)
    encoded = 0
    for operand in (high, low):
        need(operand.kind in (Kind.FLOAT, Kind.INTEGER) and not math.isnan(operand.value))
        if "BF16_V2" in inst.modifiers:
            half = int(struct.unpack("<I", struct.pack("<f", operand.value))[0]) >> 16
        else:
            half = int(struct.unpack("<H", struct.pack("<e", operand.value))[0])
        encoded = encoded << 16 | half
    return step(inst, [slot(first)], [Source(slots.literal(encoded))], lambda value: value)


def _sign_extend(marks: set[str], a: Any, width: Any) -> Any:
    return s.extend_field(a, width, "U32" not in marks, "W" in marks)


def _int_to_float(slots: Slots, inst: Instruction) -> Step:
    """I2F d, a."""
    first, a = inst.operands
    marks = set(inst.modifiers)
    need(marks <= {"F32", "S32", "U32", "S64", "U64", "RN", "RZ", "RP", "RM"})
    long, signed = bool(marks & {"S64", "U64"}), not marks & {"U32", "U64"}
    rounding = next((m for m in ("RZ", "RP", "RM") if m in marks), "RN")
    if long:
        return step(inst, [slot(first)], pair(slots, a),
                    lambda low, high: conversion.float_of_int(s.join(low, high), signed, 64, rounding))
    return step(inst, [slot(first)], [word(slots, a)], lambda v: conversion.float_of_int(v, signed, 32, rounding))


def _float_to_int(slots: Slots, inst: Instruction) -> Step:
    """F2I d, a."""
    first, a = inst.operands
    marks = set(inst.modifiers)
    need(marks <= {"F32", "S32", "U32", "S64", "U64", "FTZ", "NTZ", "TRUNC", "FLOOR", "CEIL"})
    long, signed = bool(marks & {"S64", "U64"}), not marks & {"U32", "U64"}
    rounding = next((m for m in ("TRUNC", "FLOOR", "CEIL") if m in marks), "RN")
    need(not sign(a))
    if long:
        return step(inst, [slot(first), slot(first, 1)], [word(slots, a)],
                    lambda v: s.split(conversion.int_of_float(v, signed, 64, rounding)))
    return step(inst, [slot(first)], [word(slots, a)], lambda v: conversion.int_of_float(v, signed, 32, rounding))


def _reciprocal(slots: Slots, inst: Instruction) -> Step:
    """MUFU.RCP d, a."""
    first, a = inst.operands
    need(inst.modifiers == ("RCP",) and not sign(a))
    return step(inst, [slot(first)], [word(slots, a)], conversion.reciprocal)


MODELLED: dict[str, Maker] = {
    **dict.fromkeys(("IADD3", "IADD", "VIADD"), add), "IMAD": multiply, "LEA": shifted_add, "SHF": funnel,
    "PLOP3": predicate_logic, "ISETP": compare, "SEL": choose,
    **dict.fromkeys(("IMNMX", "VIMNMX", "VIADDMNMX"), extreme),
    "IABS": plain(lambda _, a: s.magnitude(a)),
    "SGXT": plain(_sign_extend, "U32", "W"),
    "PRMT": plain(lambda _, a, selector, c: s.permute(a, selector, c)),
    "BMSK": plain(lambda marks, position, width: s.mask(position, width, "W" in marks), "W"),
    "POPC": plain(lambda _, a: s.count_ones(a)),
    "FLO": plain(lambda marks, a: s.find_one(a, "U32" not in marks, "SH" in marks), "U32", "SH"),
    "BREV": plain(lambda _, a: s.reverse(a)),
    "MOV": move, **dict.fromkeys(("LDC", "LDCU"), constant),
    "HFMA2": float_constant, "I2F": _int_to_float, "I2FP": _int_to_float, "F2I": _float_to_int, "MUFU": _reciprocal,
}
