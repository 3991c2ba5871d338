"""What a GPU costs to make: dies with their yield, device memory, package; no design, masks, tests or margins.

Dies per wafer are those of the usual formula, pi (d/2)^2 / A - pi d / sqrt(2 A), and the yield is negative binomial,
(1 + A D / a)^-a. Cards are sold with parts of a die switched off, which saves dies with a defect there: the cost of a
die is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turbosim.hw import Gpu
from turbosim.silicon.area import area_of, origin, values_of
from turbosim.silicon.files import prices

WAFER_MM = 300.0
RETICLE_MM2 = 858.0
"""The largest die that an exposure covers, 26 mm by 33 mm."""


@dataclass(frozen=True)
class Cost:
    """Of one GPU [USD]."""

    dies: float
    memory: float
    package: float
    dies_per_wafer: float
    yielded: float
    """Share of dies without a defect."""

    @property
    def usd(self) -> float:
        """All together [USD]."""
        return self.dies + self.memory + self.package


def cost_of_gpu(gpu: Gpu) -> Cost:
    """Return the cost of *gpu*. Raises UsageError as :func:`cost_of`."""
    return cost_of(values_of(gpu))


def cost_of(values: Mapping[str, Any], mm2: float | None = None) -> Cost:
    """Return the cost of the GPU whose hardware fields are *values*, by dotted name and in SI units.

    *mm2* is the area of its dies, where that is known already. Infinite where no die fits on a wafer. Raises UsageError
    as :func:`~turbosim.silicon.area.area_of`.
    """
    data, _ = prices()
    _, _, chip, process = origin(values)
    making = data.processes[process]
    area = (area_of(values).mm2 if mm2 is None else mm2) / chip.dies
    per_wafer = dies_per_wafer(area)
    good = die_yield(area, making.defects, data.cluster)
    dies = chip.dies * making.wafer / (per_wafer * good) if per_wafer > 0 else math.inf
    memory = values["hbm.capacity"] / 1e9 * getattr(data.memory, chip.memory)
    return Cost(dies, memory, getattr(data.package, chip.memory), per_wafer, good)


def dies_per_wafer(mm2: float) -> float:
    """Return how many dies of *mm2* a wafer has, below zero where none fits."""
    return math.pi * (WAFER_MM / 2) ** 2 / mm2 - math.pi * WAFER_MM / math.sqrt(2 * mm2)


def die_yield(mm2: float, per_cm2: float, cluster: float) -> float:
    """Return the share of dies of *mm2* without any of the defects, *per_cm2* on average."""
    return math.pow(1 + mm2 / 100 * per_cm2 / cluster, -cluster)
