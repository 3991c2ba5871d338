"""What is fitted: fields of a hardware file, their bounds, and which gives way where two cannot be told apart."""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.hw.rules import ORDERED
from turbosim.hw.spec import Gpu


@dataclass(frozen=True)
class Parameter:
    """A field of a hardware file."""

    path: str
    dimension: str
    low: float
    high: float
    """Bounds, in SI units."""
    start: float = 0.0
    """Where the fit begins if the hardware file has less than the lower bound. A result below it must be needed."""

    def value(self, gpu: Gpu) -> float:
        """Return the value that *gpu* has."""
        found: object = gpu
        for name in self.path.split("."):
            found = getattr(found, name)
        assert isinstance(found, (int, float))
        return float(found)


PARAMETERS = (
    Parameter("hbm.efficiency", "", 0.3, 1.0),
    Parameter("hbm.turnaround", "", 1e-3, 2.0),
    Parameter("l2.bandwidth", "B/s", 1e11, 1e14),
    Parameter("l2.latency_near", "s", 2e-8, 2e-6),
    Parameter("l2.latency_far", "s", 2e-8, 2e-6),
    Parameter("hbm.latency", "s", 5e-8, 5e-6),
    Parameter("hbm.loaded_latency", "s", 1e-9, 5e-6, start=8e-8),
    Parameter("launch.stream", "s", 1e-8, 1e-4),
    Parameter("launch.graph", "s", 1e-8, 1e-4),
    Parameter("launch.cta", "clk", 1.0, 1e4),
    Parameter("copy_engine.bandwidth", "B/clk", 4.0, 1024.0),
)
"""Fitted by least squares."""
YIELDING = ("copy_engine.bandwidth", "launch.cta", "l2.latency_far")
"""Of parameters that the rows cannot tell apart, the first of these keeps its value, or else the last fitted one: what
other micro-benchmarks could have measured gives way to launches."""
SHARED_FRACTION = Parameter("l2.shared_fraction", "", 0.05, 1.0)
"""Fitted by trying values: what hits changes in steps."""
SUSTAINED = Parameter("clock.sustained", "Hz", 1e8, 1e10)
"""Read off rows whose power is at the board's limit."""

Values = dict[str, float]
"""Values by path."""


def ordered(values: Values, gpu: Gpu) -> Values:
    """Return *values* with those that a rule of hardware files puts below another no larger than that."""
    kept = dict(values)
    for low, high, _ in reversed(ORDERED):
        below, above = ".".join(low), ".".join(high)
        if below in kept or above in kept:
            kept[below] = min(kept.get(below, _of(gpu, below)), kept.get(above, _of(gpu, above)))
    if gpu.l2.partitions == 1 and "l2.latency_far" in kept:
        kept["l2.latency_near"] = kept["l2.latency_far"]
    return kept


def _of(gpu: Gpu, path: str) -> float:
    return Parameter(path, "", 0, 0).value(gpu)
