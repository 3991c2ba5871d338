"""Which hardware field moves a metric most: elasticities at one point, and Sobol indices over the axes of a study."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turbosim.errors import UsageError
from turbosim.hw import with_overrides
from turbosim.hw.fields import Node
from turbosim.hw.override import find_field
from turbosim.processes import cores
from turbosim.study.axis import Axis, Kind, Value
from turbosim.study.objectives import Objective, value_of
from turbosim.study.point import numeric_fields
from turbosim.study.sampling import Sampling
from turbosim.study.session import Session, rows_of
from turbosim.study.study import Study, Task

Progress = Callable[[int, int], None]
NOTHING = 1e-9
"""Elasticities smaller than this are rounding."""


@dataclass(frozen=True)
class Elasticity:
    """How the metric follows one field, as d ln(metric) / d ln(field)."""

    field: str
    value: Value
    """At the point."""
    down: float | None
    """From the value below to the point; None where that cannot be simulated."""
    up: float | None
    """From the point to the value above."""
    central: float | None
    """From the value below to that above, or of the one side there is."""
    low: Value | None
    high: Value | None
    note: str = ""
    """Why a side is missing."""


@dataclass(frozen=True)
class Local:
    """Elasticities at one point."""

    metric: Objective
    at: dict[str, Value]
    """The point."""
    hw: str
    value: float
    step: float
    fields: tuple[Elasticity, ...]
    """By the magnitude of the steeper side, the largest first."""


def elasticities(study: Study, folder: Path, metric: Objective, *, at: Mapping[str, Value], step: float = 0.1,
                 fields: Sequence[str] | None = None, jobs: int | None = None, dask: str | None = None,
                 progress: Progress | None = None) -> Local:
    """Return the elasticities of *metric* at the point *at*, each field times and over 1 + *step*.

    Whole numbers move by at least one. Raises UsageError where the metric has no positive value at the point, and as
    :class:`Session`.
    """
    names = numeric_fields(study, at, metric) if fields is None else list(fields)
    wide = _with_axes(study, names)
    base = {name: study.hardware_value(at, name) for name in names}
    everywhere: dict[str, Value] = {**{n: v for n, v in base.items() if v is not None}, **at}
    moves: dict[tuple[str, int], Value] = {}
    notes: dict[str, list[str]] = {name: [] for name in names}
    tasks: dict[tuple[str, int], Task] = {("", 0): study.task(at)}
    for name in names:
        if not float(everywhere[name]):
            notes[name].append("is 0, which no share of it moves")
            continue
        for side in (-1, 1):
            try:
                value = _moved(find_field(name, "")[1], everywhere[name], side, step)
                with_overrides(study.hardware[study.hw_of(at)].gpu, {**study.overrides_of(at), name: value})
            except UsageError as error:
                notes[name].append(f"{'down' if side < 0 else 'up'}: {_rule(str(error), name)}")
                continue
            moves[name, side] = value
            tasks[name, side] = _varied(wide, everywhere, at, name, value)
    with Session(wide, folder, jobs=jobs or cores(), dask=dask) as session:
        rows = rows_of(session, list(tasks.values()), progress)
    values = {}
    for key, task in tasks.items():
        values[key], reason = value_of(wide, rows[task.point], metric)
        if values[key] is None:
            if not key[0]:
                raise UsageError(f"{metric.name} has no value at the point: {reason}")
            notes[key[0]].append(f"{'down' if key[1] < 0 else 'up'}: {reason}")
    centre = values["", 0]
    assert centre is not None
    if centre <= 0:
        raise UsageError(f"{metric.name} is {centre:g} at the point: only a positive one has elasticities")
    found = []
    for name in names:
        low, high = moves.get((name, -1)), moves.get((name, 1))
        middle = float(everywhere[name]), centre
        below, above = values.get((name, -1)), values.get((name, 1))
        down = _slope((float(low), below), middle) if low is not None and below else None
        up = _slope(middle, (float(high), above)) if high is not None and above else None
        if down is not None and up is not None and low is not None and high is not None and below and above:
            central: float | None = _slope((float(low), below), (float(high), above))
        else:
            central = up if down is None else down
        found.append(Elasticity(name, everywhere[name], down, up, central, low, high, "; ".join(notes[name])))
        if (low, high) != (None, None) and find_field(name, "")[1].python is int and float(everywhere[name]) * step < 1:
            notes[name].append(f"moved to {' and '.join(str(v) for v in (low, high) if v is not None)}")
            found[-1] = dataclasses.replace(found[-1], note="; ".join(notes[name]))
    # Sides of opposite signs, as about a point that is itself an outlier, must not cancel.
    found.sort(key=lambda e: (-_steepest(e), e.field))
    return Local(metric, dict(at), study.hw_of(at), centre, step, tuple(found))


def _steepest(found: Elasticity) -> float:
    return max((abs(x) for x in (found.central, found.down, found.up) if x is not None), default=-1.0)


def _rule(message: str, name: str) -> str:
    first = message.splitlines()[0].removeprefix("hardware field ")
    return first.removeprefix(f"{name}: ").removeprefix(f"{name} ")


def _moved(node: Node, value: Value, side: int, step: float) -> Value:
    """Return *value* one step up or down, a whole number by at least one. Raises UsageError if it does not fit."""
    moved = float(value) * math.pow(1 + step, side)
    if node.python is int:
        moved = max(moved, float(value) + 1) if side > 0 else min(moved, float(value) - 1)
        moved = math.ceil(moved - 1e-9) if side > 0 else math.floor(moved + 1e-9)
    fitting, rule = node.check(moved)
    if rule is not None:
        raise UsageError(f"{rule}, got {moved:g}")
    found: Value = fitting
    return found


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    slope = math.log(b[1] / a[1]) / math.log(b[0] / a[0])
    return 0.0 if abs(slope) < NOTHING else slope


def _with_axes(study: Study, names: Sequence[str]) -> Study:
    """Return *study* with the hardware fields *names* as further axes."""
    more = [Axis(n, Kind.HARDWARE, (), find_field(n, "")[1].dimension) for n in names if n not in study.axis_names]
    # What is drawn tells these rows from the study's own.
    return dataclasses.replace(study, axes=(*study.axes, *more), sampling=Sampling("random", cross=tuple(names)))


def _varied(wide: Study, everywhere: Mapping[str, Value], at: Mapping[str, Value], name: str, value: Value) -> Task:
    """Return the point *at* with the field *name* at *value*; its row tells that field and the axes alone."""
    task = wide.task({**everywhere, name: value})
    kept = {**at, name: value}
    axes = {n: task.axes[n] for n in kept}
    overrides = {n: v for n, v in task.overrides.items() if n in kept}
    digest = hashlib.sha256(json.dumps(axes, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return dataclasses.replace(task, point=digest, axes=axes, overrides=overrides)
