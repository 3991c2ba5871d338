"""Tile operations: what one role of a CTA executes.

Work is stated in quantities that do not depend on the GPU (matrix shapes, instruction counts, bytes); the lowering in
:mod:`turbosim.engine.lower` turns it into time. Counts are for all warps of the role together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from turbosim.hw.spec import Dtype, MmaPath, OpClass


@dataclass(frozen=True, slots=True)
class Affine:
    """``const + sum(coefficient * variable)`` over grid coordinates, loop variables and class parameters."""

    const: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: Affine | int) -> Affine:
        other = other if isinstance(other, Affine) else Affine(other)
        merged = dict(self.terms)
        for name, coefficient in other.terms:
            merged[name] = merged.get(name, 0) + coefficient
        return Affine(self.const + other.const, tuple((n, c) for n, c in merged.items() if c))

    def __mul__(self, factor: int) -> Affine:
        return Affine(self.const * factor, tuple((n, c * factor) for n, c in self.terms if factor))

    def __sub__(self, other: Affine | int) -> Affine:
        return self + other * -1

    __radd__ = __add__
    __rmul__ = __mul__

    def value(self, variables: Mapping[str, int]) -> int:
        """Evaluate. Raises KeyError when a variable is missing."""
        return self.const + sum(c * variables[n] for n, c in self.terms)

    def __str__(self) -> str:
        parts = [(f"{c}*{n}" if c != 1 else n) for n, c in self.terms]
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts).replace("+ -", "- ")


def var(name: str) -> Affine:
    """Return the variable called *name* as an expression."""
    return Affine(0, ((name, 1),))


@dataclass(frozen=True, slots=True)
class Mma:
    """One tile product (m, k) x (k, n) on the tensor cores; *count* of them back to back."""

    m: int
    n: int
    k: int
    dtype: Dtype
    path: MmaPath
    count: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding included."""
        return self.m * self.n * self.k * self.count


@dataclass(frozen=True, slots=True)
class Compute:
    """A block of warp instructions; its pipes work at the same time, and it ends when the slowest has ended.

    With *signal* set the block is asynchronous (``wgmma``): the role goes on at once and the counter is signalled at
    the end. *lanes* counts thread-level instructions per class; *chain* counts the instructions of the longest
    dependence chain, whose latencies are paid one after the other (row reductions, for instance).
    """

    label: str
    lanes: tuple[tuple[OpClass, int], ...] = ()
    mma: Mma | None = None
    smem_bytes: int = 0
    chain: tuple[tuple[OpClass, int], ...] = ()
    signal: str | None = None
    pieces: int = 1
    """The block is served in this many equal parts, one after the other, so that other warps' work can come in between
    as it does on hardware, where warps alternate instruction by instruction. 1 for asynchronous blocks."""
    cycles: tuple[float, ...] = ()
    """Durations [SM cycles] where a finer model of the SM has found them: with 1, 2, ... CTAs on the SM, the last one
    with more, too. The CTAs there when the block starts decide; one that comes or goes meanwhile changes nothing.
    Such a block's pipes count as busy, but it does not queue for them."""
    instructions: int = 0
    """Warp instructions that it issues, where that is known; 0: those that its other fields imply."""


@dataclass(frozen=True, slots=True)
class Load:
    """An asynchronous copy of one tile from global to shared memory or registers; signals *counter* on arrival."""

    label: str
    tensor: str
    tile: Affine
    counter: str
    nbytes: int | None = None
    """Bytes asked of L2; the tensor's tile size where None."""
    smem: bool = True
    """Whether the data lands in shared memory (False: registers)."""
    bulk: bool = False
    """One bulk (TMA) instruction instead of 16-byte copies per thread."""
    shared_by: int = 1
    """CTAs of a cluster that a bulk copy is multicast to. Each of them asks L2 for a tile of its own, of as many bytes,
    and all receive all of these: a CTA's shared memory takes ``shared_by`` times what it asks for itself.

    The CTAs are taken to run in step: the tile that a CTA asks for stands for those of the others, as if they arrived
    together. CTAs do not wait for each other, and are not placed together as those of a cluster are on hardware."""


@dataclass(frozen=True, slots=True)
class Store:
    """A posted write of one tile to global memory."""

    label: str
    tensor: str
    tile: Affine
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """Arrive at *counter*: its count grows by one, once all earlier signals of it are complete."""

    label: str
    counter: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Hold the role until *counter* has completed *until* signals."""

    label: str
    counter: str
    until: Affine


@dataclass(frozen=True, slots=True)
class Loop:
    """Run *body* for *variable* = 0 .. *trips* - 1. A non-positive trip count runs nothing."""

    variable: str
    trips: Affine
    body: tuple[Op | Loop, ...] = field(default=())


Op = Compute | Load | Store | Signal | Wait
