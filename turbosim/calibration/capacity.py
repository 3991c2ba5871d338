"""The share of L2 that data read by all SMs can use, from where on bandwidth falls with the working set.

A buffer that is read again and again hits as long as it fits, and then no more: the prediction is a step, which has no
derivative. So every place of the step between two measured working sets is tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from turbosim.calibration.benchmarks import L2Read, SharedRead
from turbosim.calibration.model import Model
from turbosim.calibration.parameters import SHARED_FRACTION, Values
from turbosim.calibration.rows import MicroRow
from turbosim.hw.spec import Gpu

WINDOW = (0.2, 2.0)
"""Working sets, over the capacity, among which the step is looked for."""
STEP = (0.85, 1.5)
"""Working sets, over what fits, that serve to find the step and nothing else."""
RESAMPLES = 400
SCALE = 0.02


@dataclass(frozen=True)
class Capacity:
    """The fitted share, or why there is none."""

    value: float
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval; at least the working sets next to the step."""
    rows: int = 0
    curves: tuple[str, ...] = ()
    reason: str = ""


def on_step(row: MicroRow, gpu: Gpu, share: Capacity) -> bool:
    """Return whether the working set of *row* is near what fits, where hits depend on the order of the accesses."""
    fits = share.value * gpu.l2.capacity
    return isinstance(row.benchmark, (SharedRead, L2Read)) and STEP[0] * fits < row.x < STEP[1] * fits


def scan(model: Model, values: Values) -> Capacity:
    """Return the share with the least cost, and what resampling the rows gives for it."""
    import numpy as np

    capacity = model.gpu.l2.capacity
    rows = [n for n, row in enumerate(model.rows) if isinstance(row.benchmark, (SharedRead, L2Read))
            and WINDOW[0] * capacity < row.x < WINDOW[1] * capacity]
    sizes = sorted({model.rows[n].x / capacity for n in rows})
    old = values.get(SHARED_FRACTION.path, SHARED_FRACTION.value(model.gpu))
    inside = [s for s in sizes if s <= SHARED_FRACTION.high]
    if len(inside) < 3 or len(inside) == len(sizes):
        return Capacity(old, reason="no row depends on it" if not rows else "too few working sets around the capacity")
    edges = [*inside, sizes[len(inside)]]
    steps = [(a, min(b, SHARED_FRACTION.high)) for a, b in pairwise(edges)]
    measured = model.measured()[rows]
    errors = np.array([model.seconds({**values, SHARED_FRACTION.path: (a + b) / 2}, rows) - measured for a, b in steps])
    costs = np.sqrt(1 + (errors / SCALE) ** 2) - 1
    best = int(costs.sum(axis=1).argmin())
    if best == 0:
        return Capacity(old, reason="bandwidth falls before the smallest working set")
    drawn = np.random.default_rng(0).integers(len(rows), size=(RESAMPLES, len(rows)))
    found = np.sort([int(costs[:, d].sum(axis=1).argmin()) for d in drawn])
    low, high = found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES)]
    a, b = steps[best]
    return Capacity((a + b) / 2, steps[min(low, best)][0], steps[max(high, best)][1], len(rows),
                    tuple(dict.fromkeys(model.rows[n].curve for n in rows)))
