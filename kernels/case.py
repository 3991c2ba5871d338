"""A kernel made ready to run on one shape: what the measuring harness times and what the tests check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """Outcome of one run on outputs that were poisoned with NaN before."""

    error: float
    """Deviation from the reference; NaN when an output was not written."""
    tolerance: float
    """Largest deviation that is right."""
    measure: str
    """What *error* is, such as ``relative L2 of O``."""

    @property
    def ok(self) -> bool:
        """Whether the outputs are right."""
        return self.error <= self.tolerance


def first_wrong(*checks: Check) -> Check:
    """Return the first of *checks* that is not right, else the first."""
    return next((check for check in checks if not check.ok), checks[0])


@dataclass(frozen=True, slots=True)
class Prepared:
    """Inputs on the device, and what to do with them."""

    launch: Callable[[], Sequence[Any]]
    """Enqueue all kernels of one run on the current stream; returns triton's compiled kernels in launch order (None or
    nothing in interpreter mode). It may take memory from torch's allocator, which costs the host some time and the GPU
    none: timings keep the host ahead, and a CUDA graph allocates when it is captured."""
    check: Callable[[], Check]
    """Poison the outputs, run once, and compare each with its reference: the first that is wrong, else the main one."""
    flops: int
    """Useful operations of a run: what the mathematics needs, causal masking and padding taken off."""
    nbytes: int
    """Bytes a run must move between device memory and the chip at least: every input and output once."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One measurable kernel, or pipeline of kernels."""

    name: str
    title: str
    defaults: Mapping[str, int | str | bool]
    """Options with their default values: tile sizes, ``warps``, ``stages``, variants."""
    prepare: Callable[[Any, Mapping[str, int | str | bool], str, int], Prepared]
    """``prepare(shape, options, device, seed)``: *shape* is a :class:`turbosim.workload.Attention`, or for
    micro-benchmarks a mapping of sizes; *options* override some defaults. Raises UsageError for an option or shape the
    kernel cannot do."""
