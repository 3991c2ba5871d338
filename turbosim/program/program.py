"""The tile-level trace: what schedules write, engines replay and :mod:`turbosim.program.work` counts.

A *launch* is a grid of CTAs over a few *CTA classes*, which differ in integer parameters (trip counts). All CTAs of a
launch run the same *roles* (warp groups), each a stream of tile operations kept as loops, so that a program's size
does not depend on the sequence length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from turbosim.program.ops import Loop, Op


class CounterKind(StrEnum):
    """What a counter synchronises; names the reason for waiting on it."""

    DATA = "data"
    """Arrival of copies (``cp.async`` groups, or an mbarrier that counts bytes)."""
    MMA = "mma"
    """Completion of asynchronous tensor-core work (``wgmma`` groups)."""
    BARRIER = "barrier"
    """CTA-wide barrier among roles."""
    MBARRIER = "mbarrier"
    """Hand-over between roles (a stage is free again)."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A monotone count of completed signals, one per CTA.

    Signals complete in the order in which they were issued, as ``cp.async`` and ``wgmma`` groups do.
    """

    name: str
    kind: CounterKind


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in global memory, cut into equal tiles, which are numbered as if their bytes were consecutive."""

    name: str
    tiles: int
    tile_bytes: int
    dtype: str
    size: int | None = None
    """Exact size where the last tile of a row is partial [B]; ``tiles * tile_bytes`` where None."""
    run_bytes: int | None = None
    """Bytes of a tile that are consecutive in memory, as a row's in a tile of a matrix; None where all are."""

    @property
    def nbytes(self) -> int:
        """Size [B]."""
        return self.tiles * self.tile_bytes if self.size is None else self.size


@dataclass(frozen=True, slots=True)
class Role:
    """A group of warps that run one stream. Four warps (one per scheduler) can use the full rate of an SM's pipes."""

    name: str
    warps: int
    body: tuple[Op | Loop, ...]


@dataclass(frozen=True, slots=True)
class Dim:
    """One grid dimension; its name is a variable in tile expressions."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class CtaClass:
    """CTAs with the same parameters."""

    name: str
    params: tuple[tuple[str, int], ...] = ()


class Scheduler(StrEnum):
    """Which elements of the grid a CTA works on."""

    SINGLE = "single"
    """One, then the CTA ends and the hardware puts another in its place."""
    STATIC = "static"
    """Persistent: as many CTAs as fit, each of which strides through the grid by their number. A role that has ended
    one element goes on at once with the next."""
    DYNAMIC = "dynamic"
    """Persistent: the first role of a CTA to ask for an element takes the next of the grid for all of them."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch. CTAs are issued in the order of their linear index, the first dimension fastest."""

    name: str
    grid: tuple[Dim, ...]
    roles: tuple[Role, ...]
    counters: tuple[Counter, ...] = ()
    classes: tuple[CtaClass, ...] = (CtaClass("all"),)
    class_of: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """(dimension, one number per coordinate): a CTA's class is the sum of its coordinates' numbers, 0 without any."""
    smem_bytes: int = 0
    """Shared memory per CTA [B]."""
    registers_per_thread: int = 128
    tensor_memory_bytes: int = 0
    """Tensor memory per CTA (tcgen05) [B]."""
    scheduler: Scheduler = Scheduler.SINGLE
    """What a role does that has ended. Counters of persistent CTAs are not reset; waits count from what the signals of
    earlier elements add up to, so that a wait for no signal of the present one, or fewer, is for earlier ones'."""

    @property
    def warps(self) -> int:
        """Warps per CTA."""
        return sum(role.warps for role in self.roles)

    @property
    def ctas(self) -> int:
        """CTAs in the grid."""
        total = 1
        for dim in self.grid:
            total *= dim.size
        return total


@dataclass(frozen=True, slots=True)
class Program:
    """Launches that run one after the other over shared tensors."""

    name: str
    tensors: tuple[Tensor, ...]
    launches: tuple[Launch, ...]
    useful_flops: int = 0
    """FLOPs of the mathematical definition, without padding and masked work."""
    meta: dict[str, str | int | float | bool] = field(default_factory=dict)
    """Free description: kernel, options and shape. Not read by the engines."""

    def tensor(self, name: str) -> Tensor:
        """Return the tensor called *name*. Raises KeyError."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(name)
