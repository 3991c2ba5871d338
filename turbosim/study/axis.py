"""Axes of a study: what varies, over which values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

Value = int | float | bool | str
"""Numbers are in SI base units."""


class Kind(StrEnum):
    """What an axis changes."""

    HW = "hw"
    """The whole GPU."""
    HARDWARE = "hardware"
    """One field of the GPU."""
    KERNEL = "kernel"
    """The kernel, with options after colons."""
    SET = "set"
    """One option of the kernel, called ``set.NAME``."""
    WORKLOAD = "workload"
    """One field of the workload."""
    RUN = "run"
    """Clock, launch overhead, state of L2, or engine."""


@dataclass(frozen=True)
class Range:
    """Values between two bounds, both included."""

    low: float
    high: float
    log: bool
    """Whether equal ratios, rather than equal differences, are equally far."""
    whole: bool
    """Whether values are whole numbers."""

    def at(self, share: float) -> int | float:
        """Return the value *share* (0 to 1) of the way from *low* to *high*."""
        if self.log:
            value = self.low * math.pow(self.high / self.low, share)
        else:
            value = self.low + (self.high - self.low) * share
        # Twelve digits, so that 4e12 is not 3999999999999.9995.
        rounded = round(value) if self.whole else float(f"{value:.12g}")
        return min(max(rounded, self.low), self.high)


@dataclass(frozen=True)
class Axis:
    """One thing that varies."""

    name: str
    """As in the study: ``hbm.bandwidth``, ``kernel``, ``seq``, ``set.block_m``."""
    kind: Kind
    values: tuple[Value, ...]
    """Of a range, as many as it has steps; none if it has no steps."""
    dimension: str = ""
    """Unit of the values, a key of :data:`turbosim.units.UNITS`; empty without one."""
    range: Range | None = None
    """Where the study gives bounds instead of values."""
    line: int = 1
    column: int = 1

    def at(self, share: float) -> Value:
        """Return the value *share* (0 to below 1) of the way along the axis."""
        if self.range is not None:
            return self.range.at(share)
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
