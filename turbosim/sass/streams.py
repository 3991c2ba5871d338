"""Which tiles of which tensors a kernel moves: memory instructions put together, and their addresses as functions.

A *stream* is the memory instructions of one piece of code that move one tensor in one direction. All warps of a CTA
together move a region at a time; regions of a tensor are its tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from turbosim.errors import ProgramError
from turbosim.sass.access import Access
from turbosim.sass.launch import SPACING, Launch
from turbosim.sass.semantics import LANES
from turbosim.sass.traffic import SECTOR

STORES = ("STG", "RED", "REDG", "ATOMG", "ATOM", "UTMASTG")


@dataclass(frozen=True)
class Stream:
    """Instructions that move a region together."""

    part: str
    """The block or loop that they are in."""
    instructions: tuple[int, ...]
    tensor: str
    store: bool
    scattered: bool = False
    """Whether where it moves data depends on data."""


@dataclass(frozen=True)
class Region:
    """What a CTA's stream moves at one visit: first byte of its first warp in the tensor, and what all warps touch."""

    start: int
    sectors: np.ndarray
    """int64[sectors]: those that are touched, ascending, numbered from the beginning of the tensor."""

    @property
    def nbytes(self) -> int:
        """Bytes of all sectors."""
        return SECTOR * len(self.sectors)


def tensor_of(launch: Launch, address: int) -> str | None:
    """Return the tensor that *address* lies in or near; None for none."""
    for name, first in launch.addresses.items():
        if -SPACING // 2 < address - first < SPACING // 2:
            return name
    return None


def instruction_tensors(launch: Launch, accesses: Sequence[Access]) -> dict[int, str]:
    """Return the tensor of every global memory instruction that is active at least once."""
    found: dict[int, str] = {}
    for access in accesses:
        if access.space == "global" and access.addresses is not None and access.index not in found:
            lanes = access.addresses if access.active is None else access.addresses[access.active]
            name = tensor_of(launch, int(lanes[0])) if len(lanes) else None
            if name is not None:
                found[access.index] = name
    return found


def region_of(stream: Stream, launch: Launch, by_warp: Sequence[Mapping[tuple[int, int], Access]],
              visit: int) -> Region | None:
    """Return what *stream* moves at *visit*; None when no lane is active.

    *by_warp* holds the accesses of some warps by instruction and visit; the bytes are those of these warps.
    """
    first, touched = None, []
    for warp, accesses in enumerate(by_warp):
        for index in stream.instructions:
            access = accesses.get((index, visit))
            if access is None or access.addresses is None:
                continue
            lanes = access.addresses if access.active is None else access.addresses[access.active]
            if not len(lanes):
                continue
            if warp == 0 and first is None:
                # That of the first lane: others may have wrapped around at the end of the tensor.
                first = int(lanes[0])
            touched += [lanes // SECTOR, (lanes + np.uint64(access.nbytes - 1)) // SECTOR]
    if first is None:
        return None
    begin = launch.addresses[stream.tensor]
    return Region(first - begin, np.unique(np.concatenate(touched)).astype(np.int64) - begin // SECTOR)


def scattered_bytes(stream: Stream, by_warp: Sequence[Mapping[tuple[int, int], Access]]) -> int:
    """Return the most that a scattered *stream* moves at a visit, every active lane sectors of its own."""
    moved = [0, 0]
    for accesses in by_warp:
        for index in stream.instructions:
            for visit in (0, 1):
                access = accesses.get((index, visit))
                if access is not None:
                    lanes = LANES if access.active is None else int(access.active.sum())
                    moved[visit] += lanes * SECTOR * max(1, access.nbytes // SECTOR)
    return max(moved)


@dataclass(frozen=True)
class Form:
    """``const + sum(coefficient * variable)`` [byte]."""

    const: int
    terms: tuple[tuple[str, int], ...]

    def value(self, variables: Mapping[str, int]) -> int:
        """Return the value for *variables*."""
        return self.const + sum(c * variables[v] for v, c in self.terms)


def fit(where: str, samples: Sequence[tuple[Mapping[str, int], int]], variables: Sequence[str]) -> Form | None:
    """Return the form through all *samples*, which must include the origin; None when there is none."""
    origin = next((value for at, value in samples if not any(at.values())), None)
    if origin is None:
        raise ProgramError(f"{where}: nothing is known at the origin of the grid")
    terms = []
    for variable in variables:
        steps = [(at[variable], value - origin) for at, value in samples
                 if at[variable] and not any(v for n, v in at.items() if n != variable)]
        if steps:
            size, change = min(steps)
            if change % size:
                return None
            if change:
                terms.append((variable, change // size))
    form = Form(origin, tuple(terms))
    return form if all(form.value(at) == value for at, value in samples) else None


class Tiling:
    """A number for every region of a tensor, from the form of its start.

    Regions that start at multiples of their size are numbered by that. Else (a matrix, a block of columns at a time)
    starts are sums of multiples of a few strides, and the multiples are the digits of the number.
    """

    def __init__(self, nbytes: int, region: int, forms: Sequence[tuple[Form, Mapping[str, int]]],
                 reduced: bool = False, between: int = 0) -> None:
        """*forms* come with the number of values that each of their variables takes.

        *between* is a further stride, of regions that no variable tells apart: those of a loop that was unrolled.

        *reduced* says that a stride which is a multiple of a smaller one within its reach is no digit of its own, so
        that streams which come to a region by different steps give it one number.
        """
        self.tile_bytes = region
        values = [f.const for f, _ in forms] + [c for f, _ in forms for _, c in f.terms]
        if all(v % region == 0 for v in values):
            self._weights = {region: 1}
        else:
            self._weights = self._digits_of(forms, reduced, between)
        ends = [self.number(form).value({v: (sizes[v] - 1) * (c > 0) for v, c in form.terms}) for form, sizes in forms]
        self.tiles = max(max(ends, default=0) + 1, -(-nbytes // region))

    @staticmethod
    def _digits_of(forms: Sequence[tuple[Form, Mapping[str, int]]], reduced: bool, between: int) -> dict[int, int]:
        """Return the weight of every stride."""
        steps = {abs(c) for form, _ in forms for _, c in form.terms} | ({between} if between else set())
        strides = sorted(steps) or [1]
        if reduced:
            strides = _reduced(strides, forms)
        extents = dict.fromkeys(strides, 1)
        for form, sizes in forms:
            low, high = _split(form.const, strides), _split(form.const, strides)
            for variable, c in form.terms:
                for stride, times in _split(abs(c), strides).items():
                    (high if c > 0 else low)[stride] += times * (sizes[variable] - 1) * (1 if c > 0 else -1)
            for stride in strides:
                extents[stride] = max(extents[stride], high[stride] + 1)
        weights, weight = {}, 1
        for stride in strides:
            weights[stride] = weight
            weight *= extents[stride]
        return weights

    def left_over(self, form: Form) -> int:
        """Return the bytes between the beginning of a tile and that of the region at *form*."""
        return form.const - sum(stride * times for stride, times in _split(form.const, sorted(self._weights)).items())

    def number(self, form: Form) -> Form:
        """Return *form* as a tile number."""
        strides = sorted(self._weights)
        digits = _split(form.const, strides)
        terms = []
        for variable, c in form.terms:
            steps = _split(abs(c), strides)
            terms.append((variable, sum(self._weights[s] * n for s, n in steps.items()) * (1 if c > 0 else -1)))
        return Form(sum(self._weights[s] * n for s, n in digits.items()), tuple(terms))


def _reduced(strides: Sequence[int], forms: Sequence[tuple[Form, Mapping[str, int]]]) -> list[int]:
    """Return the ascending *strides* without those that steps of smaller ones reach."""
    kept: list[int] = []
    for stride in strides:
        reach = max(sum((sizes[v] - 1) * abs(c) for v, c in form.terms if abs(c) < stride) for form, sizes in forms)
        if not any(stride % smaller == 0 and stride <= reach + smaller for smaller in kept):
            kept.append(stride)
    return kept


def _split(value: int, strides: Sequence[int]) -> dict[int, int]:
    """Return how often each of the ascending *strides* goes into *value*, the largest first."""
    found = {}
    for stride in reversed(strides):
        found[stride], value = divmod(value, stride)
    return found
