"""A few CTAs of a launch, walked: their loops, and what they touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from turbosim.errors import ProgramError
from turbosim.sass.access import Access
from turbosim.sass.cubin import Kernel
from turbosim.sass.evaluate import Walk, walk
from turbosim.sass.flow import blocks_of, loops_of
from turbosim.sass.launch import Launch
from turbosim.sass.skeleton import Node, Run, shape_of

AXES = "xyz"
Cta = tuple[int, int, int]


@dataclass
class Sample:
    """One CTA's first warp."""

    cta: Cta
    nodes: tuple[Node, ...]
    walk: Walk
    counts: dict[str, int]
    """Executions of every part: turns of loops, 1 of blocks."""
    accesses: dict[tuple[int, int], Access]


def name_of(node: Node) -> str:
    """Return the name of a block or loop, which is that of its part in programs."""
    return f"loop{node.loop.first}" if isinstance(node, Run) else f"block{node}"


def spread(size: int) -> list[int]:
    """Return a few coordinates of an axis."""
    return sorted({0, 1, 2, size // 2, size - 1} & set(range(size)))


def offsets(sample: Sample, base: Sample) -> dict[str, int]:
    """Return the coordinates of *sample* counted from *base*."""
    return {a: c - b for a, c, b in zip(AXES, sample.cta, base.cta, strict=True)}


def _global(found: Walk) -> dict[tuple[int, int], Access]:
    return {(a.index, a.visit): a for a in found.accesses if a.space == "global"}


class Sampler:
    """Walks CTAs when they are asked for, and remembers them."""

    def __init__(self, kernel: Kernel, launch: Launch) -> None:
        self.kernel, self.launch = kernel, launch
        self.blocks = blocks_of(kernel.instructions)
        self.known: dict[Cta, Sample] = {}
        self._loops = loops_of(kernel.instructions, self.blocks)
        self._whole: dict[Cta, tuple[Walk, ...]] = {}

    def sample(self, cta: Cta) -> Sample:
        """Return what the first warp of *cta* does. Raises as :func:`turbosim.sass.evaluate.walk`."""
        if cta not in self.known:
            found = walk(self.kernel, self.launch, cta, 0)
            nodes = shape_of([int(b) for b in found.blocks], self._loops)
            counts: dict[str, int] = {}
            for node in nodes:
                counts[name_of(node)] = counts.get(name_of(node), 0) + (len(node.turns) if isinstance(node, Run) else 1)
            self.known[cta] = Sample(cta, nodes, found, counts, _global(found))
        return self.known[cta]

    def along(self, base: Sample, axis: int, coordinates: Sequence[int]) -> list[Sample]:
        """Return the CTAs that differ from *base* along *axis* only."""
        cta = list(base.cta)
        found = []
        for c in coordinates:
            cta[axis] = c
            found.append(self.sample((cta[0], cta[1], cta[2])))
        return found

    def by_warp(self, base: Sample, visits: int = 2) -> list[Mapping[tuple[int, int], Access]]:
        """Return the accesses of all warps of *base* in the first *visits* of every block."""
        if visits > 2:
            return [_global(walk(self.kernel, self.launch, base.cta, w, visits)) for w in range(self.launch.warps)]
        return [base.accesses, *(_global(w) for w in self.walks(base)[1:])]

    def walks(self, sample: Sample) -> tuple[Walk, ...]:
        """Return the walks of all warps of *sample*."""
        if sample.cta not in self._whole:
            self._whole[sample.cta] = (sample.walk, *(
                walk(self.kernel, self.launch, sample.cta, w) for w in range(1, self.launch.warps)))
        return self._whole[sample.cta]

    def order(self, samples: Sequence[Sample]) -> list[str]:
        """Return all parts in the order of the code, which must be that in which every CTA runs them."""
        where = f"kernel {self.kernel.name!r}"
        first: dict[str, int] = {}
        for sample in samples:
            for node in sample.nodes:
                first.setdefault(name_of(node), node.loop.first if isinstance(node, Run) else node)
        order = sorted(first, key=lambda name: first[name])
        for sample in samples:
            names = [name_of(node) for node in sample.nodes]
            if len(set(names)) < len(names):
                raise ProgramError(f"{where}: CTA {sample.cta} runs some code more than once outside of loops, "
                                   "which a program cannot say")
            if names != [n for n in order if n in sample.counts]:
                raise ProgramError(f"{where}: CTA {sample.cta} does not run its code in the order in which it "
                                   "stands, which a program cannot say")
        return order
