"""What instructions do to the registers of a warp, as functions over one list of values.

Every register, predicate, constant and special register has a slot of that list. A step reads slots and writes slots;
one whose inputs are not known writes :class:`Unknown`, which says whence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from turbosim.sass.instruction import ZERO, Instruction, Kind, Operand
from turbosim.sass.semantics import LOW, Flag, select, spread_flag

REGISTERS, UNIFORMS, PREDICATES, UNIFORM_PREDICATES = 0, 256, 512, 768
LOCAL, ACTIVE, ALIVE, RECORDS, VISIT, MEMORY, SHARED, SCRATCH, VARIABLES = range(1024, 1033)
"""Local memory (a dict of words by address); lanes that execute, and that have not left; where accesses go, which visit
of its block a step belongs to; known contents of global memory; words of shared memory and of global scratch memory, by
address, where the kernel makes tensor maps there."""

FILES = {Kind.REGISTER: REGISTERS, Kind.UNIFORM: UNIFORMS, Kind.PREDICATE: PREDICATES,
         Kind.UNIFORM_PREDICATE: UNIFORM_PREDICATES}
ONE, TRUE = REGISTERS + ZERO, PREDICATES + ZERO
"""Slots of RZ and PT."""

Values = list[Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that does not follow from the launch: *index* is the instruction it comes from, *what* a description."""

    index: int
    what: str

    @property
    def origin(self) -> Unknown:
        """Return the same without what a subclass knows of the value."""
        return self


@dataclass(frozen=True, slots=True)
class SomeLanes(Unknown):
    """A value that is *known* in *lanes*, as after an instruction that one thread executed; unknown in the others."""

    known: Any
    lanes: Any

    @property
    def origin(self) -> Unknown:
        """Where the doubt comes from."""
        return Unknown(self.index, self.what)


def known_in(value: Any, lanes: Flag) -> Any:
    """Return *value*, or what is known of it where that is so in all of *lanes*."""
    if isinstance(value, SomeLanes) and not (spread_flag(lanes) & ~value.lanes).any():
        return value.known
    return value


class NotModelled(Exception):  # noqa: N818  (control flow of this package, never an error of a user)
    """An operand or modifier that a step cannot be made for."""


class Slots:
    """Numbers of slots; those of constants are given out as they are asked for."""

    def __init__(self) -> None:
        self.literals: dict[int, int] = {}
        self.constants: dict[int, int] = {}
        self.specials: dict[str, int] = {}
        self.size = VARIABLES

    def _new(self) -> int:
        self.size += 1
        return self.size - 1

    def literal(self, value: int) -> int:
        """Return the slot of a value that is part of the code."""
        if value not in self.literals:
            self.literals[value] = self._new()
        return self.literals[value]

    def constant(self, offset: int) -> int:
        """Return the slot of the word at byte *offset* of constant bank 0."""
        if offset % 4:
            raise NotModelled
        if offset not in self.constants:
            self.constants[offset] = self._new()
        return self.constants[offset]

    def special(self, name: str) -> int:
        """Return the slot of special register *name*."""
        if name not in self.specials:
            self.specials[name] = self._new()
        return self.specials[name]


@dataclass(frozen=True, slots=True)
class Step:
    """What one instruction does."""

    index: int
    run: Callable[[Values], None]
    reads: int
    """Bit mask of the slots below VARIABLES."""
    writes: int
    kills: bool
    """Whether it writes always."""
    known: bool
    """Whether its result follows from what it reads, rather than being Unknown."""


@dataclass(frozen=True, slots=True)
class Source:
    """A word or flag that a step reads, and what is done to it first."""

    slot: int
    change: Callable[[Any], Any] | None = None


def negate(word: Any) -> Any:
    """Return the two's complement."""
    return -word & LOW


def invert(word: Any) -> Any:
    """Return the one's complement."""
    return word ^ LOW


def opposite(flag: Flag) -> Flag:
    """Return logical not."""
    return flag ^ True


def slot(operand: Operand, plus: int = 0) -> int:
    """Return the slot of a register or predicate, or of the *plus*-th after it."""
    return FILES[operand.kind] + (ZERO if operand.index == ZERO else operand.index + plus)


def word(slots: Slots, operand: Operand, plus: int = 0, signs: bool = True) -> Source:
    """Return an operand's word, or the *plus*-th of a longer one. *signs* False leaves its sign to the caller."""
    if operand.suffix or (operand.absolute and signs):
        raise NotModelled
    match operand.kind:
        case Kind.REGISTER | Kind.UNIFORM:
            number = slot(operand, plus)
        case Kind.INTEGER:
            return Source(slots.literal(int(operand.value) >> 32 * plus & LOW))
        case Kind.CONSTANT if operand.index == 0 and operand.base == operand.uniform == ZERO:
            number = slots.constant(operand.offset + 4 * plus)
        case _:
            raise NotModelled
    if not signs:
        return Source(number)
    if operand.negative and plus:
        raise NotModelled
    return Source(number, negate if operand.negative else invert if operand.inverted else None)


def flag(operand: Operand) -> Source:
    """Return a predicate operand."""
    if operand.kind not in (Kind.PREDICATE, Kind.UNIFORM_PREDICATE) or operand.suffix:
        raise NotModelled
    return Source(slot(operand), opposite if operand.inverted else None)


def bits(slots: Iterable[int]) -> int:
    """Return the mask of those of *slots* that change during a walk."""
    result = 0
    for number in slots:
        if number < VARIABLES and number & 255 != ZERO:
            result |= 1 << number
    return result


def step(inst: Instruction, writes: list[int], sources: list[Source], compute: Callable[..., Any]) -> Step:
    """Return the step that writes to *writes* what *compute* returns for *sources*: a value, or a tuple for several."""
    numbers = [s.slot for s in sources]
    changes = [(place, s.change) for place, s in enumerate(sources) if s.change is not None]
    single = len(writes) == 1
    enabled = lanes_of(inst)

    def run(values: Values) -> None:
        lanes = enabled(values)
        if lanes is False:
            return
        inputs = [values[n] for n in numbers]
        result: Any = lanes if isinstance(lanes, Unknown) else None
        for place, value in enumerate(inputs):
            if isinstance(value, Unknown):
                if isinstance(value, SomeLanes) and result is None:
                    inputs[place] = value = known_in(value, lanes)
                if isinstance(value, Unknown):
                    result = value.origin
                    break
        if result is None:
            for place, change in changes:
                inputs[place] = change(inputs[place])
            result = compute(*inputs)
            if single:
                store(values, writes[0], result, lanes)
            else:
                for number, part in zip(writes, result, strict=True):
                    store(values, number, part, lanes)
        else:
            for number in writes:
                store(values, number, result, True)

    return Step(inst.index, run, bits(numbers) | guard_bits(inst), bits(writes), inst.guard is None, True)


def opaque(inst: Instruction, writes: list[int]) -> Step:
    """Return the step that makes *writes* unknown."""
    unknown = Unknown(inst.index, "")
    kept = [n for n in writes if n & 255 != ZERO]
    enabled = lanes_of(inst)

    def run(values: Values) -> None:
        if enabled(values) is not False:
            for number in kept:
                values[number] = unknown

    return Step(inst.index, run, guard_bits(inst), bits(kept), inst.guard is None, False)


def guard_bits(inst: Instruction) -> int:
    """Return the mask of the slot of the instruction's predicate."""
    return bits([slot(inst.guard)]) if inst.guard else 0


def lanes_of(inst: Instruction) -> Callable[[Values], Any]:
    """Return a function that says which lanes act: True for all, False for none, bool[32], or Unknown."""
    # The uniform data path acts once for the warp, whichever lanes execute.
    uniform = bool(inst.operands) and inst.operands[0].kind in (Kind.UNIFORM, Kind.UNIFORM_PREDICATE)
    if inst.guard is None:
        return (lambda _values: True) if uniform else (lambda values: values[ACTIVE])
    number, inverted = slot(inst.guard), inst.guard.inverted

    def enabled(values: Values) -> Any:
        chosen = values[number]
        if isinstance(chosen, Unknown):
            return chosen
        if inverted:
            chosen = chosen ^ True
        if not uniform and values[ACTIVE] is not True:
            chosen = chosen & values[ACTIVE]
        if isinstance(chosen, np.ndarray) and not chosen.any():
            return False
        return chosen

    return enabled


def first_lane(value: Any, lanes: Any) -> Any:
    """Return *value* in the first of *lanes*."""
    return int(value[int(spread_flag(lanes).argmax())]) if isinstance(value, np.ndarray) else value


def store(values: Values, number: int, value: Any, lanes: Flag) -> None:
    """Write *value* in *lanes*."""
    if number & 255 == ZERO and number < LOCAL:
        return
    if lanes is not True:
        old = values[number]
        if not (spread_flag(lanes) | ~spread_flag(values[ALIVE])).all():
            if isinstance(old, Unknown):
                values[number] = _joined(old, value, spread_flag(lanes))
                return
            value = value.origin if isinstance(value, Unknown) else select(lanes, value, old)
    values[number] = value


def _joined(old: Unknown, value: Any, lanes: Any) -> Unknown:
    """Return *value* in *lanes* and *old* in the others."""
    if isinstance(value, Unknown):
        return old.origin
    before, seen = (old.known, old.lanes) if isinstance(old, SomeLanes) else (0, spread_flag(False))
    return SomeLanes(old.index, old.what, select(lanes, value, before), seen | lanes)
