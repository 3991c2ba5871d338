"""What a device must do to be measured on, and the figures that describe its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kernels.case import Prepared


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of the repeats of one row."""

    samples: Sequence[float]
    """Seconds a run."""
    began: float
    """``time.monotonic()`` when the repeats began; other processes read the same clock."""
    ended: float

    def quantile(self, share: float) -> float:
        """Return the quantile *share*, interpolated linearly between samples [s]."""
        ordered = sorted(self.samples)
        position = share * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (position - low) * (ordered[high] - ordered[low])


class Device(Protocol):
    """Where kernels run."""

    source: str
    """The rows' column of this name."""
    target: str
    """The device that :attr:`kernels.case.Kernel.prepare` is told."""

    def facts(self) -> dict[str, Any]:
        """Return GPU name, sizes and versions for ``meta.json``; ``gpu`` and ``triton`` are among them."""

    def uuid(self) -> str | None:
        """Return the driver's identifier of the GPU, by which its sensors are found; it is not stored."""

    def time_events(self, prepared: Prepared, cold: bool) -> Timing:
        """Time launches one by one, with inputs evicted from L2 before each if *cold*."""

    def time_graph(self, prepared: Prepared) -> Timing:
        """Time launches within CUDA graphs; a sample is the mean of one graph."""

    def release(self) -> None:
        """Free what the last case held."""

    def healthy(self) -> bool:
        """Whether the device still computes: a sticky error makes every later call of the process fail."""
