"""Sensitivity over ranges: the shares of a metric's variance that each axis causes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from turbosim.errors import UsageError
from turbosim.processes import cores
from turbosim.study.constraints import dropped_by
from turbosim.study.objectives import NoFrontError, Objective, value_of
from turbosim.study.results import needed
from turbosim.study.session import Session, rows_of
from turbosim.study.study import Study


@dataclass(frozen=True)
class Index:
    """Shares of the metric's variance that an axis causes, with half-widths of 95 % intervals."""

    axis: str
    first: float
    first_conf: float
    total: float
    total_conf: float


@dataclass(frozen=True)
class Global:
    """Sobol indices over the ranges of a study's axes."""

    metric: Objective
    points: int
    samples: int
    seed: int
    mean: float
    deviation: float
    axes: tuple[Index, ...]
    """By total index, the largest first."""


def sobol(study: Study, folder: Path, metric: Objective, *, samples: int = 64, seed: int = 0, jobs: int | None = None,
          dask: str | None = None, progress: Callable[[int, int], None] | None = None) -> Global:
    """Return the Sobol indices of *metric* over the axes of *study*, by samples x (axes + 2) points.

    Axes are drawn evenly, a log range evenly in its logarithm, a list as its places. Raises UsageError where SALib is
    missing, *samples* is no power of two, there are fewer than two axes, or points break constraints; NoFrontError
    where points have no value: the design has no room for gaps.
    """
    needed("SALib", "--method sobol", "search")
    from SALib.analyze import sobol as analyse
    from SALib.sample import sobol as draw

    if samples < 2 or samples & (samples - 1):
        raise UsageError(f"--samples: must be a power of two, got {samples}")
    if len(study.axes) < 2:
        raise UsageError(f"{study.path}: Sobol indices need two axes or more, got {len(study.axes)}")
    problem = {"num_vars": len(study.axes), "names": list(study.axis_names), "bounds": [[0.0, 1.0]] * len(study.axes)}
    shares = draw.sample(problem, samples, calc_second_order=False, seed=seed).tolist()
    points = [{a.name: a.at(min(share, 1 - 1e-12)) for a, share in zip(study.axes, row, strict=True)} for row in shares]
    if broken := sum(not study.allows(axes) for axes in points):
        place = study.places.where(("constraints",), key=True)
        raise UsageError(f"{place}: constraints: {broken:,} of {len(points):,} points break one, and Sobol indices "
                         f"need all points: {dropped_by(study, points)}; drop the constraints, or narrow the ranges")
    tasks = [study.task(axes) for axes in points]
    with Session(study, folder, jobs=jobs or cores(), dask=dask) as session:
        rows = rows_of(session, tasks, progress)
    values = []
    for task in tasks:
        row = rows[task.point]
        value, reason = value_of(study, row, metric)
        if value is None:
            where = ", ".join(f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in task.axes.items())
            raise NoFrontError(f"{metric.name} has no value at {where}: {reason}; Sobol indices need all points")
        values.append(value)
    import numpy as np

    outcome = np.array(values)
    mean, deviation = float(outcome.mean()), float(outcome.std())
    if deviation <= 1e-12 * abs(mean):
        raise NoFrontError(f"{metric.name} is {mean:g} at all {len(values):,} points: nothing moves it")
    # SALib takes 0 for none.
    found = analyse.analyze(problem, outcome, calc_second_order=False, conf_level=0.95, seed=seed + 1)
    indices = [Index(a.name, *(float(found[k][i]) for k in ("S1", "S1_conf", "ST", "ST_conf")))
               for i, a in enumerate(study.axes)]
    indices.sort(key=lambda x: -x.total)
    return Global(metric, len({t.point for t in tasks}), samples, seed, mean, deviation, tuple(indices))
