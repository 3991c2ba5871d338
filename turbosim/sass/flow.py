"""Control flow of a kernel: basic blocks, the edges between them, and loops."""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.sass.instruction import Instruction

ENDS = ("EXIT", "BRA", "BRX", "BRXU", "JMP", "JMX", "RET", "CALL", "KILL", "BREAK", "WARPSYNC")
"""Opcodes after which another instruction than the next may follow."""


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions *first* to *last*, both included, that are entered at the first only."""

    first: int
    last: int
    following: tuple[int, ...]
    """Numbers of the blocks that may come next."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Blocks from *first* to *last* (numbers, in the order of the code), of which the last branches back."""

    first: int
    last: int
    back: int
    """Index of the branch."""


def blocks_of(instructions: tuple[Instruction, ...]) -> tuple[Block, ...]:
    """Return the basic blocks in the order of the code."""
    leaders = {0}
    for inst in instructions:
        if inst.target is not None:
            leaders.add(inst.target)
        if inst.name in ENDS:
            leaders.add(inst.index + 1)
    starts = sorted(s for s in leaders if s < len(instructions))
    number = {start: n for n, start in enumerate(starts)}
    blocks = []
    for n, start in enumerate(starts):
        last = (starts[n + 1] if n + 1 < len(starts) else len(instructions)) - 1
        end = instructions[last]
        following = [number[end.target]] if end.target is not None else []
        always = end.name in ("EXIT", "BRA", "RET", "KILL", "JMP") and end.guard is None and not _conditional(end)
        if not always and last + 1 < len(instructions):
            following.append(number[last + 1])
        blocks.append(Block(start, last, tuple(dict.fromkeys(following))))
    return tuple(blocks)


def _conditional(branch: Instruction) -> bool:
    """Whether a branch has its condition among its operands, as those on uniform predicates do."""
    return any(o.kind.value in ("P", "UP") for o in branch.operands)


def loops_of(instructions: tuple[Instruction, ...], blocks: tuple[Block, ...]) -> tuple[Loop, ...]:
    """Return the loops that do something, outermost first: spans closed by a branch to an earlier block.

    A branch to its own block alone is the trap that follows the code and no loop. Nor are waits for mbarriers, which
    the compiler puts behind the code, with a branch back into it, or which try again what succeeds.
    """
    at = {index: n for n, b in enumerate(blocks) for index in range(b.first, b.last + 1)}
    spans: dict[int, Loop] = {}
    waiting = _waiting(instructions, blocks)
    for inst in instructions:
        if at[inst.index] in waiting:
            continue
        if inst.target is not None and inst.name != "CALL" and inst.target < inst.index:
            first, last = at[inst.target], at[inst.index]
            if first == last and any(i.name == "SYNCS" and "TRYWAIT" in i.modifiers
                                     for i in instructions[inst.target:inst.index]):
                continue
            known = spans.get(first)
            if known is None or last > known.last:
                spans[first] = Loop(first, last, inst.index)
    return tuple(sorted(spans.values(), key=lambda loop: (loop.first, -loop.last)))


def _waiting(instructions: tuple[Instruction, ...], blocks: tuple[Block, ...]) -> frozenset[int]:
    """Return the blocks that do nothing but ask for an mbarrier again, and those that are reached from them alone."""
    spins = {n for n, b in enumerate(blocks) if n in b.following and "TRYWAIT" in instructions[b.first].modifiers
             and b.last == b.first + 1}
    before: dict[int, set[int]] = {}
    for n, block in enumerate(blocks):
        for other in block.following:
            before.setdefault(other, set()).add(n)
    return frozenset(spins | {n for n, origins in before.items() if origins <= spins})
