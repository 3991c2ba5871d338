"""Traffic at addresses that depend on data: an assumption in place of what the launch does not say.

Every lane that may act touches a sector of its own, and executions pass through the whole tensor before they come back
to its beginning. So a tensor larger than L2 is read from memory each time, and a smaller one once: the most traffic
that accesses at random can have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from turbosim.sass.access import Access
from turbosim.sass.cubin import INSTRUCTION_BYTES, Kernel
from turbosim.sass.launch import Launch
from turbosim.sass.provenance import pointed_at
from turbosim.sass.sampling import AXES
from turbosim.sass.streams import Form, Stream

MOST_PLACES = 1 << 14
"""Places in a tensor at which CTAs begin."""
LEAST_WRITTEN = 1 << 20
"""Bytes over which stores are spread where the tensor has less: programs write through, and what L2 merges in a few
lines of one channel of memory would queue for that channel."""


def depends_on_data(accesses: Iterable[Access]) -> set[int]:
    """Return the instructions that may act on global memory at an address that is not known."""
    return {a.index for a in accesses if a.space == "global" and a.addresses is None and a.box is None
            and (a.active is None or a.active.any())}


@dataclass
class Assumptions:
    """Instructions whose addresses depend on data, and the tensors that they are taken to touch."""

    kernel: Kernel
    launch: Launch
    tensors: dict[int, str | None] = field(default_factory=dict)
    """None where that depends on data, too."""
    _known: Mapping[int, frozenset[str]] | None = None

    def add(self, index: int) -> str | None:
        """Note instruction *index* and return its tensor."""
        if self._known is None:
            self._known = pointed_at(self.kernel, self.launch)
        names = self._known.get(index, frozenset())
        self.tensors[index] = next(iter(names)) if len(names) == 1 else None
        return self.tensors[index]

    def texts(self) -> tuple[str, ...]:
        """Return what is assumed, in words, of the instructions of each opcode and tensor together."""
        together: dict[tuple[str, str | None], list[int]] = {}
        for index, tensor in sorted(self.tensors.items()):
            together.setdefault((self.kernel.instructions[index].opcode, tensor), []).append(index)
        return tuple(self._text(*key, indices) for key, indices in together.items())

    def _text(self, opcode: str, tensor: str | None, indices: Sequence[int]) -> str:
        places = ", ".join(f"{INSTRUCTION_BYTES * i:#06x}" for i in indices[:4])
        more = f" and {len(indices) - 4} more" if len(indices) > 4 else ""
        where, what = f"kernel {self.kernel.name!r}", f"{opcode} at {places}{more}"
        if tensor is None:
            return f"{where}: the tensor of {what} depends on data: its traffic to L2 and memory is left out"
        return (f"{where}: addresses in {tensor!r} of {what} depend on data: every active lane is taken to touch 32 B "
                "of its own, evenly over the tensor")


class Spread:
    """Tile numbers of streams whose addresses depend on data."""

    def __init__(self, launch: Launch, groups: dict[str, int], columns: dict[str, list[int]], classes: bool) -> None:
        """*groups* and *columns* are those of the observer, which grow; *classes*: whether CTAs at x differ."""
        self._launch, self._grid = launch, dict(zip(AXES, launch.grid, strict=True))
        self._groups, self._columns, self._classes = groups, columns, classes

    def forms(self, moved: Mapping[Stream, int], turns: Mapping[str, int]) -> dict[Stream, Form]:
        """Return the form of the number of the tile of each stream of *moved*, which has their bytes at a visit.

        *turns* are those of loops, by part.
        """
        found: dict[Stream, Form] = {}
        for tensor in dict.fromkeys(s.tensor for s in moved):
            own = {s: turns.get(s.part, 1) for s in moved if s.tensor == tensor}
            nbytes = next(t.nbytes for t in self._launch.tensors if t.name == tensor)
            if any(s.store for s in own):
                nbytes = max(nbytes, LEAST_WRITTEN)
            found |= self._numbers(own, max(1, nbytes // max(moved[s] for s in own)))
        return found

    def _numbers(self, streams: Mapping[Stream, int], tiles: int) -> dict[Stream, Form]:
        """Return tile numbers below *tiles* for *streams* of one tensor, which are given with their turns."""
        steps = sum(streams.values()) <= tiles
        each = {s: turns if steps else 1 for s, turns in streams.items()}
        per_cta = min(sum(each.values()), tiles)
        terms = self._terms(min(tiles // per_cta, MOST_PLACES), per_cta)
        found, first = {}, 0
        for stream, turns in each.items():
            own = ((stream.part, 1),) if turns > 1 else ()
            found[stream] = Form(first % per_cta, (*terms, *own))
            first += turns
        return found

    def _terms(self, places: int, weight: int) -> tuple[tuple[str, int], ...]:
        """Return the terms of the CTA, which begins at one of *places* places *weight* tiles apart."""
        terms: list[tuple[str, int]] = []
        for axis in AXES:
            for name, size in self._coordinates(axis, places):
                if 1 < size <= places:
                    terms.append((name, weight))
                    weight, places = weight * size, places // size
        return tuple(terms)

    def _coordinates(self, axis: str, places: int) -> list[tuple[str, int]]:
        """Return the variables that *axis* gives, with their sizes, where one that turns over fits in *places*."""
        size = self._grid[axis]
        if axis in self._groups:
            group = self._groups[axis]
            return [(axis, group), (f"{axis}_group", size // group)]
        if size <= places or places == 1:
            return [(axis, size)]
        divisor = max(n for n in range(1, places + 1) if size % n == 0)
        if axis != AXES[0] or (4 * divisor >= 3 * places and not self._classes and not self._columns):
            if divisor > 1:
                self._groups[axis] = divisor
            return [(axis, divisor)]
        column = [x % places for x in range(size)]
        name = next((n for n, known in self._columns.items() if known == column), f"at{len(self._columns)}")
        self._columns[name] = column
        return [(name, places)]
