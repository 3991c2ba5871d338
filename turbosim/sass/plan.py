"""What of a kernel has to be evaluated to follow its control flow and its addresses.

Registers hold floats in one place and addresses in another, so that what is needed is found by following demand
backwards through the control flow: an instruction is needed where something it writes is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from turbosim.sass import scratch
from turbosim.sass.access import accesses_of, load, results_of
from turbosim.sass.bulk import COPIES, copies_of
from turbosim.sass.cubin import Kernel
from turbosim.sass.flow import blocks_of
from turbosim.sass.instruction import Instruction, Kind, parse_operand
from turbosim.sass.logic import LOGIC
from turbosim.sass.opcodes import MODELLED, Maker
from turbosim.sass.steps import NotModelled, Slots, Step, Values, bits, flag, guard_bits, opaque, slot
from turbosim.sass.tensor_memory import events_of
from turbosim.sass.warp import CONCERNING

_OF_DATA = ("LD", "ATOM", "RED", "F", "H", "D", "MUFU", "I2", "IMMA", "IGMMA", "BMMA", "BGMMA", "Q", "OMMA", "UTC",
            "SYNCS", "SHFL", "MATCH", "CS2R", "S2", "TLD", "TEX", "SU", "UF", "UI2F")
"""Beginnings of the opcodes whose results are data, and unknown by intention."""
_MAKERS = {**MODELLED, **LOGIC, **CONCERNING, "LDG": load}
_OF_MAPS: dict[str, Maker] = {"LDS": scratch.load, "STS": scratch.save, "ATOMG": scratch.exchange}


class Plan:
    """The steps of a kernel, and which of them are needed."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.slots = Slots()
        self.blocks = blocks_of(kernel.instructions)
        self.number = {b.first: n for n, b in enumerate(self.blocks)}
        self._effects: list[tuple[Step, ...]] = []
        self._records: list[tuple[Step, ...]] = []
        self._events: list[tuple[Step, ...]] = []
        self.unmodelled: dict[int, str] = {}
        """Opcodes, by instruction, that should be modelled and are not."""
        # Shared memory is followed where tensor maps may be made in it.
        self.makes_maps = any(i.name in COPIES for i in kernel.instructions) and any(
            i.name == "ATOMG" and "EXCH" in i.modifiers for i in kernel.instructions)
        self._makers = {**_MAKERS, **_OF_MAPS} if self.makes_maps else _MAKERS
        for inst in kernel.instructions:
            self._effects.append(tuple(self._effects_of(inst)))
            self._records.append((*accesses_of(inst), *copies_of(inst)))
            self._events.append(tuple(events_of(inst)))
        self._following = self._edges()
        self.traps = self._trapping()
        self._codes: dict[frozenset[int], tuple[tuple[Callable[[Values], None], ...], ...]] = {}
        self._demanded: dict[frozenset[int], tuple[tuple[int, ...], ...]] = {}

    def _effects_of(self, inst: Instruction) -> list[Step]:
        if inst.name in ("BRA", "EXIT", "CALL", "RET", "NOP"):
            return []
        makers = self._makers
        maker = makers.get(inst.name) or (makers.get(inst.name[1:]) if inst.name[0] == "U" else None)
        if maker is not None:
            try:
                return [maker(self.slots, inst)]
            except (NotModelled, ValueError, IndexError, KeyError, StopIteration):
                # Another form of operands than the makers know.
                pass
        written = results_of(inst)
        if written and not inst.name.startswith(_OF_DATA):
            self.unmodelled[inst.index] = inst.opcode
        return [opaque(inst, written)] if written else []

    def _edges(self) -> list[tuple[int, ...]]:
        """Return the blocks that may follow each, where a return may go behind any call."""
        ends = [self.kernel.instructions[b.last] for b in self.blocks]
        returns = tuple(n + 1 for n, end in enumerate(ends) if end.name == "CALL" and n + 1 < len(ends))
        return [b.following + returns if end.name == "RET" else b.following
                for b, end in zip(self.blocks, ends, strict=True)]

    def _trapping(self) -> frozenset[int]:
        """Return the blocks that stop the kernel for an error."""
        found = {n for n, b in enumerate(self.blocks)
                 if any(i.name == "BPT" for i in self.kernel.instructions[b.first:b.last + 1])}
        while True:
            more = {n for n, b in enumerate(self.blocks)
                    if (end := self.kernel.instructions[b.last]).guard is None and end.name in ("CALL", "BRA")
                    and end.target is not None and self.number[end.target] in found
                    and not any(o.kind in (Kind.PREDICATE, Kind.UNIFORM_PREDICATE) for o in end.operands)}
            if more <= found:
                return frozenset(found)
            found |= more

    def following(self, block: int) -> tuple[int, ...]:
        """Return the blocks that may follow *block*."""
        return self._following[block]

    def effects(self, index: int) -> tuple[Step, ...]:
        """Return the steps of an instruction's results."""
        return self._effects[index]

    def has_accesses(self, block: int) -> bool:
        """Return whether a block has memory instructions."""
        at = self.blocks[block]
        return any(self._records[at.first:at.last + 1])

    def code(self, finished: frozenset[int]) -> tuple[tuple[Callable[[Values], None], ...], ...]:
        """Return what to run in each block when the addresses in blocks *finished* are not wanted (any more)."""
        if finished not in self._codes:
            self._build(finished)
        return self._codes[finished]

    def demanded(self, finished: frozenset[int], block: int) -> tuple[int, ...]:
        """Return the instructions of a block that are needed."""
        self.code(finished)
        return self._demanded[finished][block]

    def _build(self, finished: frozenset[int]) -> None:
        entries = [0] * len(self.blocks)
        chosen: list[list[Step]] = [[] for _ in self.blocks]
        waiting = list(range(len(self.blocks)))
        before: list[list[int]] = [[] for _ in self.blocks]
        for block, following in enumerate(self._following):
            for other in following:
                before[other].append(block)
        queued = set(waiting)
        while waiting:
            block = waiting.pop()
            queued.discard(block)
            demand = 0
            for other in self._following[block]:
                demand |= entries[other]
            demand, chosen[block] = self._backwards(block, demand, block not in finished)
            if demand != entries[block]:
                entries[block] = demand
                for other in before[block]:
                    if other not in queued:
                        queued.add(other)
                        waiting.append(other)
        self._codes[finished] = tuple(tuple(s.run for s in reversed(steps)) for steps in chosen)
        self._demanded[finished] = tuple(tuple(s.index for s in reversed(steps)) for steps in chosen)

    def _backwards(self, block: int, demand: int, records: bool) -> tuple[int, list[Step]]:
        """Return what is demanded before a block, and its needed steps, last first."""
        needed = []
        at = self.blocks[block]
        for index in range(at.last, at.first - 1, -1):
            inst = self.kernel.instructions[index]
            if inst.name in ("BRA", "EXIT", "CALL", "RET", "JMP"):
                demand |= condition_bits(inst)
            for step in self._effects[index]:
                if step.writes & demand:
                    needed.append(step)
                    if step.kills:
                        demand &= ~step.writes
                    demand |= step.reads
            for step in (*self._events[index], *(self._records[index] if records else ())):
                needed.append(step)
                demand |= step.reads
        return demand, needed


def condition_bits(inst: Instruction) -> int:
    """Return the mask of the slots that a branch reads."""
    result = guard_bits(inst)
    for operand in inst.operands:
        if operand.kind in (Kind.PREDICATE, Kind.UNIFORM_PREDICATE):
            result |= bits([flag(operand).slot])
    if (back := return_slot(inst)) is not None:
        result |= bits([back])
    return result


def return_slot(inst: Instruction) -> int | None:
    """Return the slot of the address that a RET goes to; None for other instructions."""
    if inst.name != "RET" or not inst.operands:
        return None
    # Its text is that of a register, and the function it returns to without a comma.
    operand = parse_operand(inst.operands[0].text.partition(" ")[0])
    return slot(operand) if operand.kind == Kind.REGISTER else None


class Same:
    """A kernel that is equal to itself only: comparing instructions would take longer than preparing them."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def __hash__(self) -> int:
        return id(self.kernel)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.kernel is self.kernel


@lru_cache(maxsize=32)
def _prepared(same: Same) -> Plan:
    return Plan(same.kernel)


def plan_of(kernel: Kernel) -> Plan:
    """Return the plan of *kernel*, made once."""
    return _prepared(Same(kernel))
