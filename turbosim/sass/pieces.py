"""A common tile for streams of different sizes: a stream with a larger region moves several tiles.

Compilers unroll one loop over a tensor and leave another as it is; what both read must have one number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from turbosim.program.ops import Affine, Load, Loop, Op, Store, var
from turbosim.sass.streams import Form, Stream, Tiling
from turbosim.sass.traffic import SECTOR

MOST_PIECES = 64
"""Tiles that a stream moves at a visit."""
MOST_PADDING = 8
"""A common tile may be larger than what moves by one part in this many."""

MOST_INFLATED = 2
"""Bytes of whole tiles for each of the tensor, where sizes that no tile divides explain the rest."""


@dataclass(frozen=True)
class Runs:
    """Where the bytes of a region lie: *count* runs of *nbytes*, *pitch* bytes from one to the next."""

    first: int
    """First byte, counted from where the region is said to start."""
    count: int
    pitch: int
    nbytes: int

    def pieces(self, tile: int) -> int:
        """Return the number of tiles of *tile* bytes that they take."""
        return self.count * -(-self.nbytes // tile)


def runs_of(sectors: np.ndarray, start: int) -> Runs | None:
    """Return the runs of ascending *sectors* (int64[n]) of a region that starts at byte *start*; None if they differ.

    The first byte is *start* where that is in the first sector.
    """
    ends = np.flatnonzero(np.diff(sectors) > 1) + 1
    begins = np.concatenate(([0], ends))
    lengths = np.diff(np.concatenate((begins, [len(sectors)])))
    pitches = np.diff(sectors[begins])
    if (lengths != lengths[0]).any() or (len(pitches) and (pitches != pitches[0]).any()):
        return None
    first = int(sectors[0]) * SECTOR - start
    return Runs(0 if -SECTOR < first <= 0 else first, len(begins), SECTOR * int(pitches[0]) if len(pitches) else 0,
                SECTOR * int(lengths[0]))


@dataclass(frozen=True)
class Pieces:
    """How a stream moves its region tile by tile."""

    runs: Runs
    tile: int

    def form(self, form: Form, name: str) -> Form:
        """Return the first byte of a piece: of run ``name.run``, and there ``name.tile``, of a region at *form*."""
        return Form(form.const + self.runs.first, (*form.terms, *((n, step) for n, _, step in self.loops(name))))

    def loops(self, name: str) -> list[tuple[str, int, int]]:
        """Return variables, the number of their values, and by how many bytes each step moves."""
        found = [(f"{name}_run", self.runs.count, self.runs.pitch),
                 (f"{name}_tile", -(-self.runs.nbytes // self.tile), self.tile)]
        return [loop for loop in found if loop[1] > 1]

    @property
    def count(self) -> int:
        """Tiles that the stream moves at a visit."""
        return self.runs.pieces(self.tile)

    def ops(self, name: str, move: Load | Store) -> list[Op | Loop]:
        """Return *move*, whose tile is a function of the variables of :meth:`loops`, for every piece."""
        last = (self.runs.nbytes - 1) % self.tile + 1
        ops: list[Op | Loop] = [replace(move, nbytes=last)]
        variable, count = f"{name}_tile", -(-self.runs.nbytes // self.tile)
        if count > 1:
            step = dict(move.tile.terms)[variable]
            end = replace(move, tile=move.tile + (var(variable) * -1 + (count - 1)) * step, nbytes=last)
            whole = count - (last < self.tile)
            ops = [Loop(variable, Affine(whole), (replace(move, nbytes=self.tile),)), *([end] if whole < count else [])]
        return ops if self.runs.count == 1 else [Loop(f"{name}_run", Affine(self.runs.count), tuple(ops))]


def common_tile(streams: Sequence[tuple[Runs, Form]]) -> int | None:
    """Return the tile [B] that all *streams* move whole numbers of, or nearly so; None where there is none.

    It is the one with the least padding, counting a sector for each piece.
    """
    lengths = {runs.nbytes for runs, _ in streams}
    steps = {abs(c) for _, form in streams for _, c in form.terms} | {r.pitch for r, _ in streams if r.count > 1}
    candidates = lengths | {gcd(a, b) for a in lengths for b in lengths | steps}
    # Regions that begin within a tile would have its number.
    fitting = [t for t in candidates if t % SECTOR == 0 and min(steps, default=t) >= t
               and all(runs.pieces(t) <= MOST_PIECES for runs, _ in streams)]
    moved = sum(r.count * r.nbytes for r, _ in streams)

    def padding(tile: int) -> int:
        return sum(r.pieces(tile) * tile for r, _ in streams) - moved

    best = min(fitting, key=lambda t: (padding(t) + SECTOR * sum(r.pieces(t) for r, _ in streams), -t), default=None)
    return best if best is not None and MOST_PADDING * padding(best) <= moved else None


@dataclass(frozen=True)
class Tiled:
    """The tiles of a tensor, and how the streams move them that move several at a time."""

    tiling: Tiling
    pieces: Mapping[Stream, Pieces]
    apart: bool = False
    """Whether streams of different sizes number the same bytes differently, since they have no common tile."""


def tiled(tensor: str, nbytes: int, moved: Mapping[Stream, int], runs: Mapping[Stream, Runs],
          forms: Mapping[Stream, tuple[Form, Mapping[str, int]]]) -> Tiled:
    """Return the tiles of *tensor*, of *nbytes*, which streams move *moved* bytes of at a visit, in *runs*.

    *forms* have the number of values of each of their variables. A tile is the largest region, unless regions overlap,
    begin within others or are far more than the tensor has bytes for: then it is what the streams have in common.
    """
    region = max(moved.values())
    whole = Tiling(nbytes, region, list(forms.values()))
    several = len(set(moved.values())) > 1
    inflated = whole.tiles > -(-nbytes // region)
    overlapping = inflated and any(abs(c) < region for form, _ in forms.values() for _, c in form.terms)
    within = any(whole.left_over(form) + moved[s] > region for s, (form, _) in forms.items())
    if within and not several and (between := _between(whole, runs, forms)):
        return Tiled(Tiling(nbytes, region, list(forms.values()), between=between), {})
    # What a mask leaves of a tile is seldom a whole part of it, as a loop that is not unrolled moves it.
    parts = inflated and all(region % n == 0 for n in moved.values())
    if not overlapping and not (several and (within or parts or whole.tiles * region > MOST_INFLATED * nbytes)):
        return Tiled(whole, {})
    tile = None
    if all(s in runs for s in forms) and (several or all(r.count == 1 for r in runs.values())):
        tile = common_tile([(runs[s], form) for s, (form, _) in forms.items()])
    if tile is not None:
        pieces = {s: Pieces(runs[s], tile) for s in forms}
        placed = [(pieces[s].form(form, tensor), {**sizes, **{n: count for n, count, _ in pieces[s].loops(tensor)}})
                  for s, (form, sizes) in forms.items()]
        common = Tiling(nbytes, tile, placed, reduced=True)
        if within or common.tiles * tile < whole.tiles * region:
            return Tiled(common, pieces)
    return Tiled(whole, {}, several and (inflated or within))


def _between(whole: Tiling, runs: Mapping[Stream, Runs], forms: Mapping[Stream, tuple[Form, Mapping[str, int]]]) -> int:
    """Return the stride [B] of regions that begin within each other's strides, but share no byte: blocks of columns.

    The turns of a loop that was unrolled are such: no variable tells them apart. 0 where regions may share bytes.
    """
    stride = gcd(*(whole.left_over(form) for form, _ in forms.values()))
    return stride if all(s in runs and runs[s].nbytes <= stride for s in forms) else 0
