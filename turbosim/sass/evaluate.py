"""Follow one warp through a kernel: the blocks it executes and the addresses it touches, without a GPU.

Only integer, predicate and control instructions are evaluated. Floating-point results and loaded values are unknown,
but for those of tensors whose contents the launch gives, and so is what follows from them; a branch on such a value is
an error, unless one of its sides traps. Waits for a barrier (mbarrier) succeed, and floating-point divisions need no
slow path. Lanes that take different ways are followed block by block in the order of the code, which is the order in
which a warp reconverges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from turbosim.errors import ProgramError
from turbosim.sass import semantics as s
from turbosim.sass.access import Access
from turbosim.sass.cubin import INSTRUCTION_BYTES, Kernel
from turbosim.sass.instruction import Instruction, Kind
from turbosim.sass.launch import Launch
from turbosim.sass.plan import Plan, Same, plan_of, return_slot
from turbosim.sass.provenance import follows_from
from turbosim.sass.steps import (
    ACTIVE,
    ALIVE,
    LOCAL,
    MEMORY,
    RECORDS,
    SCRATCH,
    SHARED,
    TRUE,
    VISIT,
    Unknown,
    Values,
    opposite,
    slot,
)
from turbosim.sass.tensor_memory import Event

LIMIT = 4_000_000
"""Blocks after which a walk is given up."""


@dataclass(frozen=True, eq=False)
class Walk:
    """What one warp executes."""

    blocks: npt.NDArray[np.int32]
    """Numbers of the blocks (:func:`turbosim.sass.flow.blocks_of`), in the order in which some of the lanes execute
    them."""
    accesses: tuple[Access, ...]
    """Memory accesses, of the first visits of each block, in the order of execution."""
    unmodelled: tuple[str, ...]
    """Opcodes that were needed, for a branch or an address, but are not modelled: their results count as unknown."""
    events: tuple[Event, ...] = ()
    """Products, commits, waits and allocations of tensor memory, expectations of bulk copies and the copies, in the
    order of execution."""
    warp: int = 0
    """Number of the warp in its CTA."""
    scratch: Mapping[int, int] = field(default_factory=dict, repr=False)
    """Words of global scratch memory that it has written and that are known, by address: tensor maps."""

    def times(self, block: int) -> int:
        """Return how often *block* is executed."""
        return int((self.blocks == block).sum())


def walk(kernel: Kernel, launch: Launch, cta: tuple[int, int, int], warp: int, visits: int = 2) -> Walk:
    """Follow *warp* of *cta* through *kernel*.

    Accesses are recorded of the first *visits* executions of every block. Raises UsageError when launch, CTA and warp
    do not fit the kernel, ProgramError when the way depends on data or does not end.
    """
    made = _maps(Same(kernel), launch, cta) if warp and plan_of(kernel).makes_maps else {}
    return _Walker(kernel, launch, cta, warp, visits, made).run()


@lru_cache(maxsize=64)
def _maps(same: Same, launch: Launch, cta: tuple[int, int, int]) -> Mapping[int, int]:
    """Return the tensor maps that the first warp of *cta* makes for all."""
    return walk(same.kernel, launch, cta, 0).scratch


class _Walker:
    def __init__(self, kernel: Kernel, launch: Launch, cta: tuple[int, int, int], warp: int, visits: int,
                 made: Mapping[int, int]) -> None:
        self._plan: Plan = plan_of(kernel)
        self._kernel, self._launch, self._visits, self._warp = kernel, launch, visits, warp
        constants, specials = launch.constants(kernel), launch.specials(cta, warp)
        slots = self._plan.slots
        values: Values = [0] * slots.size
        values[512:1024] = [False] * 512
        values[TRUE] = values[TRUE + 256] = True
        values[ACTIVE] = values[ALIVE] = True
        values[LOCAL], values[RECORDS], values[MEMORY] = {}, [], launch.contents(kernel)
        values[SHARED], values[SCRATCH] = {}, dict(made)
        for value, number in slots.literals.items():
            values[number] = value
        for offset, number in slots.constants.items():
            values[number] = constants.get(offset, Unknown(-1, f"the constant c[0x0][{offset:#x}]"))
        for name, number in slots.specials.items():
            values[number] = specials.get(name, Unknown(-1, f"the special register {name}"))
        self._values = values
        self._ends = [kernel.instructions[b.last] for b in self._plan.blocks]
        # Lanes that wait for the others at a block with a higher number, by block.
        self._waiting: dict[int, Any] = {}

    def run(self) -> Walk:
        plan, values = self._plan, self._values
        finished = frozenset() if self._visits else frozenset(range(len(plan.blocks)))
        code = plan.code(finished)
        counts = [0] * len(plan.blocks)
        executed: list[int] = []
        used: dict[tuple[frozenset[int], int], None] = {}
        over: set[int] = set()
        block: int | None = 0
        while block is not None:
            if self._waiting:
                block = self._reconverge(block)
            count = counts[block]
            if count == self._visits and count and block not in finished:
                # What only the addresses of blocks seen often enough need is left out from here on.
                over.update(n for n, c in enumerate(counts) if c >= self._visits)
                if not over <= finished:
                    finished = finished | over
                    code = plan.code(finished)
            values[VISIT] = count
            counts[block] = count + 1
            executed.append(block)
            used[finished, block] = None
            for act in code[block]:
                act(values)
            if len(executed) > LIMIT:
                raise ProgramError(
                    f"kernel {self._kernel.name!r}, warp {self._warp}: executed {LIMIT} blocks and did not end; the "
                    f"last ended at {self._at(self._ends[block])}. Give a smaller problem, or check the arguments")
            block = self._next(block)
        needed = {i for where in used for i in plan.demanded(*where)}
        missing = sorted({plan.unmodelled[i] for i in needed & plan.unmodelled.keys()})
        records = values[RECORDS]
        return Walk(np.array(executed, np.int32), tuple(r for r in records if isinstance(r, Access)), tuple(missing),
                    tuple(r for r in records if isinstance(r, Event)), self._warp, values[SCRATCH])

    def _reconverge(self, block: int) -> int:
        """Join the lanes that wait at *block*, or let those go first that are further back."""
        values = self._values
        if block in self._waiting:
            values[ACTIVE] = self._joined(values[ACTIVE], self._waiting.pop(block))
        first = min(self._waiting, default=block)
        if first < block:
            self._waiting[block], values[ACTIVE] = values[ACTIVE], self._waiting.pop(first)
            return first
        return block

    def _joined(self, a: Any, b: Any) -> Any:
        lanes = s.spread_flag(a) | s.spread_flag(b)
        return True if lanes.all() else lanes

    def _next(self, block: int) -> int | None:
        """Return the block that follows for the lanes that execute; None when all have left."""
        end = self._ends[block]
        name = end.name
        if name not in ("BRA", "EXIT", "CALL", "RET", "JMP", "BRX", "BRXU", "JMX", "KILL"):
            return block + 1
        condition = self._condition(end, block)
        if condition is False:
            return block + 1
        values = self._values
        active = values[ACTIVE]
        if condition is not True:
            taken = condition & s.spread_flag(active)
            stays = s.spread_flag(active) & ~taken
            if not taken.any():
                return block + 1
            if stays.any():
                return self._diverge(block, end, taken, stays)
        if name in ("EXIT", "KILL"):
            return self._leave(active)
        return self._target(end)

    def _diverge(self, block: int, end: Instruction, taken: Any, stays: Any) -> int | None:
        values = self._values
        if end.name in ("EXIT", "KILL"):
            values[ALIVE] = s.spread_flag(values[ALIVE]) & ~taken
            values[ACTIVE] = stays
            return block + 1
        target = self._target(end)
        self._wait(target, taken)
        values[ACTIVE] = stays
        return block + 1

    def _wait(self, block: int, lanes: Any) -> None:
        self._waiting[block] = self._joined(self._waiting[block], lanes) if block in self._waiting else lanes

    def _leave(self, active: Any) -> int | None:
        if not self._waiting:
            return None
        values = self._values
        values[ALIVE] = s.spread_flag(values[ALIVE]) & ~s.spread_flag(active)
        first = min(self._waiting)
        values[ACTIVE] = self._waiting.pop(first)
        return first

    def _target(self, end: Instruction) -> int:
        if end.name == "RET":
            register = return_slot(end)
            back = None if register is None else self._values[register]
            if isinstance(back, np.ndarray) and (back == back[0]).all():
                back = int(back[0])
            if isinstance(back, int) and back // INSTRUCTION_BYTES in self._plan.number:
                return self._plan.number[back // INSTRUCTION_BYTES]
        elif end.target is not None:
            return self._plan.number[end.target]
        raise ProgramError(f"kernel {self._kernel.name!r}: where {self._at(end)} goes is not known: indirect branches "
                           "and calls into other functions cannot be followed; compile the kernel without them")

    def _condition(self, end: Instruction, block: int) -> Any:
        """Return whether a branch is taken: True, False or bool[32]."""
        if "DIV" in end.modifiers:
            # To the way for lanes that diverged, which computes the same.
            return False
        condition: Any = True
        operands = [o for o in end.operands if o.kind in (Kind.PREDICATE, Kind.UNIFORM_PREDICATE)]
        for operand in ([end.guard] if end.guard else []) + operands:
            value = self._values[slot(operand)]
            if isinstance(value, Unknown):
                return self._untrapped(end, block, value)
            condition = condition & (opposite(value) if operand.inverted else value)
        return condition

    def _untrapped(self, end: Instruction, block: int, value: Unknown) -> bool:
        """Return the way that does not trap, for a branch on data."""
        if end.target is not None:
            traps = [n in self._plan.traps for n in (self._plan.number[end.target], block + 1)]
            if traps[0] != traps[1]:
                return traps[1]
        source = value.what
        if value.index >= 0:
            inst = self._kernel.instructions[value.index]
            source = f"the {'load' if inst.name.startswith('LD') else 'result of the instruction'} at {self._at(inst)}"
            if names := follows_from(self._kernel, self._launch, value.index):
                source += f", from the contents of {' and '.join(map(repr, sorted(names)))}"
        raise ProgramError(
            f"kernel {self._kernel.name!r}, warp {self._warp}: the branch at {self._at(end)} depends on {source}. The "
            "way of a warp must follow from sizes and integers of the launch: make a loop's turns an integer argument "
            "or a constant, choose between values with tl.where, and use approximations of functions that have a slow "
            f"path for some values, as tl.sin has{self._reason()}")

    def _reason(self) -> str:
        """Return what in the kernel branches on data as a rule, and what to do, or nothing."""
        if any(i.name in ("ATOM", "ATOMG") and "CAS" in i.modifiers for i in self._kernel.instructions):
            return (". Its compare-and-swap looks like a lock, and how long CTAs wait for each other is not modelled: "
                    "lift the kernel without it")
        if any(i.name == "ATOMS" for i in self._kernel.instructions):
            return (". Its atomics on shared memory are those of tl.histogram, whose counts by warp branch on the "
                    "values: tl.atomic_add to global memory, at addresses from the data, can be lifted")
        return ""

    def _at(self, inst: Instruction) -> str:
        return f"{INSTRUCTION_BYTES * inst.index:#06x}: {inst}"
