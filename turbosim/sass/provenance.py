"""Which tensors an address may point into, where it depends on data itself, and which ones a value may follow from.

Pointers among the arguments are followed forwards through the code: what is computed from one may point into its
tensor, whatever is added. What is read from global memory points nowhere. Shared and local memory count as one place
each, so that pointers that pass through them are not told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from turbosim.sass.access import SPACES, Address
from turbosim.sass.cubin import Kernel
from turbosim.sass.instruction import ZERO, Instruction, Kind
from turbosim.sass.launch import Launch, Tensor
from turbosim.sass.plan import Plan, plan_of
from turbosim.sass.steps import LOCAL, PREDICATES, SHARED, VARIABLES, bits, slot

Names = frozenset[str]
_NONE: Names = frozenset()


@dataclass(frozen=True, slots=True)
class _Flow:
    """How pointers pass through one instruction."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    own: Names
    """Tensors whose pointers it takes from the arguments."""
    kills: bool


def pointed_at(kernel: Kernel, launch: Launch) -> dict[int, Names]:
    """Return the tensors of *launch* that each access to global memory may touch, by instruction."""
    plan = plan_of(kernel)
    origin: dict[int, str] = {}
    for parameter, argument in zip(kernel.parameters, launch.arguments, strict=False):
        if isinstance(argument, Tensor):
            low = kernel.parameter_base + parameter.offset
            origin |= {low: argument.name, low + 4: argument.name}
    flows = [_flow(plan, i, origin) for i in kernel.instructions]
    # The carry of a sum is no pointer.
    flows = [replace(f, writes=tuple(n for n in f.writes if not PREDICATES <= n < LOCAL)) for f in flows]
    found: dict[int, Names] = {}
    for index, state in _states(plan, flows):
        inst = kernel.instructions[index]
        if SPACES.get(inst.name) == "global":
            # Of a copy to shared memory the last address is that in global memory.
            operand = [o for o in inst.operands if o.kind == Kind.ADDRESS][-1]
            found[index] = _union(state, Address(operand, "global").reads)
    return found


def follows_from(kernel: Kernel, launch: Launch, index: int) -> Names:
    """Return the tensors of *launch* from whose contents the result of instruction *index* may follow."""
    plan, loaded = plan_of(kernel), pointed_at(kernel, launch)
    flows = [replace(_flow(plan, i, {}), own=loaded.get(i.index, _NONE)) for i in kernel.instructions]
    flow = flows[index]
    return next(flow.own | _union(state, flow.reads) for i, state in _states(plan, flows) if i == index)


def _states(plan: Plan, flows: Sequence[_Flow]) -> Iterable[tuple[int, Mapping[int, Names]]]:
    """Yield every instruction with what the slots hold before it."""
    entries: list[dict[int, Names]] = [{} for _ in plan.blocks]
    waiting = list(range(len(plan.blocks)))[::-1]
    while waiting:
        number = waiting.pop()
        at, state = plan.blocks[number], dict(entries[number])
        for flow in flows[at.first:at.last + 1]:
            _pass(flow, state)
        for other in plan.following(number):
            joined = {n: entries[other].get(n, _NONE) | names for n, names in state.items() if names}
            if any(names != entries[other].get(n, _NONE) for n, names in joined.items()):
                entries[other] |= joined
                waiting.append(other)
    for block, state in zip(plan.blocks, entries, strict=True):
        for index in range(block.first, block.last + 1):
            yield index, state
            _pass(flows[index], state)


def _flow(plan: Plan, inst: Instruction, origin: Mapping[int, str]) -> _Flow:
    reads, writes, kills = 0, 0, True
    for step in plan.effects(inst.index):
        reads, writes, kills = reads | step.reads, writes | step.writes, kills and step.kills
    operands = [o for o in inst.operands if o.kind in (Kind.REGISTER, Kind.UNIFORM) and o.index != ZERO]
    own: Names = frozenset(origin[o.offset] for o in inst.operands
                           if o.kind == Kind.CONSTANT and o.index == 0 and o.offset in origin)
    if inst.name in ("STS", "STSM"):
        return _Flow(tuple(_slots(bits(slot(o, n) for o in operands for n in range(4)))), (SHARED,), own, False)
    if inst.name in ("LDS", "LDSM"):
        return _Flow((SHARED,), tuple(_slots(writes)), own, kills)
    if SPACES.get(inst.name) == "global":
        return _Flow((), tuple(_slots(writes)), _NONE, kills)
    reads |= bits(slot(o) for o in operands)
    # What is written only is among the operands, too.
    reads &= ~(writes & ~sum(1 << n for n in {slot(o) for o in operands[1:]} | _of_steps(plan, inst.index)))
    return _Flow(tuple(_slots(reads)), tuple(_slots(writes)), own, kills)


def _of_steps(plan: Plan, index: int) -> set[int]:
    return {n for step in plan.effects(index) for n in _slots(step.reads)}


def _slots(mask: int) -> Iterable[int]:
    """Return the slots in *mask* of registers, predicates and memory."""
    return [n for n in range(VARIABLES) if mask >> n & 1 and (n < LOCAL or n in (LOCAL, SHARED))]


def _union(state: Mapping[int, Names], slots: Iterable[int]) -> Names:
    return _NONE.union(*(state.get(n, _NONE) for n in slots))


def _pass(flow: _Flow, state: dict[int, Names]) -> None:
    if not flow.writes:
        return
    names = flow.own | _union(state, flow.reads)
    for number in flow.writes:
        state[number] = names if flow.kills else names | state.get(number, _NONE)
