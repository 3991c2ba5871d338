"""The shape of a walk: straight code, and loops with their trips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from turbosim.sass.flow import Loop


@dataclass(frozen=True)
class Run:
    """One execution of a loop, turn by turn."""

    loop: Loop
    turns: tuple[tuple[Node, ...], ...]

    @property
    def template(self) -> tuple[Node, ...]:
        """A turn that stands for all: the second, since the first may lack what later ones have."""
        return self.turns[min(1, len(self.turns) - 1)]


Node = int | Run
"""A block, or a loop."""


def shape_of(blocks: Sequence[int], loops: Sequence[Loop]) -> tuple[Node, ...]:
    """Return the executed *blocks* with the turns of every loop put together."""
    headers: dict[int, Loop] = {}
    for loop in loops:
        headers.setdefault(loop.first, loop)
    nodes, at = _nodes(blocks, 0, None, headers)
    assert at == len(blocks)
    return nodes


def _nodes(blocks: Sequence[int], at: int, inside: Loop | None,
           headers: dict[int, Loop]) -> tuple[tuple[Node, ...], int]:
    """Return the nodes from *at* to the end of a turn of *inside*, and where that is."""
    nodes: list[Node] = []
    begin = at
    while at < len(blocks):
        block = blocks[at]
        if inside is not None:
            if not inside.first <= block <= inside.last or (block == inside.first and at > begin):
                break
            if block == inside.first:
                nodes.append(block)
                at += 1
                continue
        loop = headers.get(block)
        if loop is None:
            nodes.append(block)
            at += 1
            continue
        turns = []
        while at < len(blocks) and blocks[at] == loop.first:
            turn, at = _nodes(blocks, at, loop, headers)
            turns.append(turn)
        nodes.append(Run(loop, tuple(turns)))
    return tuple(nodes), at


def runs(nodes: Sequence[Node]) -> Iterator[Run]:
    """Yield the loops of *nodes* and, by their templates, of the loops in them."""
    for node in nodes:
        if isinstance(node, Run):
            yield node
            yield from runs(node.template)


def shortened(nodes: Sequence[Node], most: int) -> list[int]:
    """Return the blocks of *nodes* with no loop running more than *most* turns: its first and its last two are kept."""
    blocks: list[int] = []
    for node in nodes:
        if not isinstance(node, Run):
            blocks.append(node)
            continue
        turns = node.turns
        if len(turns) > most:
            turns = (*turns[:most - 2], *turns[-2:])
        for turn in turns:
            blocks += shortened(turn, most)
    return blocks
