"""Which hardware field moves a metric most: elasticities at one point, and Sobol indices over the axes of a study."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw import with_overrides
from turbosim.hw.fields import ROOT, Node
from turbosim.hw.override import find_field
from turbosim.processes import cores
from turbosim.study.axis import Axis, Kind, Value
from turbosim.study.journal import Row
from turbosim.study.known import hardware_names, likely_field
from turbosim.study.objectives import Objective, number, record_of
from turbosim.study.results import needed
from turbosim.study.sampling import Sampling
from turbosim.study.search import NoFrontError, rows_of
from turbosim.study.session import Session
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


def point_of(study: Study, given: Mapping[str, Value]) -> dict[str, Value]:
    """Return the point at which fields are varied.

    *given* values hold; a hardware field is as the GPU has it, any other axis at its baseline or its first value.
    Raises UsageError for a name that is no axis, and where a range or a GPU leaves the value open.
    """
    for name in given:
        if name not in study.axis_names:
            raise UsageError(f"--at: {name!r} is no axis{did_you_mean(name, study.axis_names)}; there are "
                             f"{', '.join(study.axis_names) or 'none'}")
    axes: dict[str, Value] = {}
    hw = str(given.get("hw") or study.baseline.get("hw") or next(iter(study.hardware)))
    for axis in study.axes:
        if axis.name in given:
            axes[axis.name] = given[axis.name]
        elif axis.name == "hw":
            axes["hw"] = hw
        elif axis.kind is Kind.HARDWARE:
            values = {".".join(map(str, path)): leaf.value for path, leaf in study.hardware[hw].leaves.items()}
            if axis.name not in values:
                raise UsageError(f"--at: {hw} has no {axis.name}; write for example --at {axis.name}=VALUE")
            axes[axis.name] = values[axis.name]
        elif axis.name in study.baseline:
            axes[axis.name] = study.baseline[axis.name]
        elif axis.values:
            axes[axis.name] = axis.values[0]
        else:
            raise UsageError(f"--at: {axis.name} has a range; write for example --at {axis.name}={axis.at(0.5)}")
    return axes


def numeric_fields(study: Study, axes: Mapping[str, Value], metric: Objective) -> list[str]:
    """Return the numeric hardware fields that the GPU at *axes* has and that can matter to *metric*."""
    found = []
    for name in hardware_names():
        node = find_field(name, "")[1]
        value = study.hardware_value(axes, name)
        if (node.kind != "quantity" or node.recorded or isinstance(value, (str, bool)) or not value
                or (name.startswith("energy.") and metric.name in ("time_s", "cycles", "tflops", "hbm_gbps"))):
            continue
        found.append(name)
    return found


def chosen_fields(study: Study, axes: Mapping[str, Value], text: str) -> list[str]:
    """Return the hardware fields, or tables of them, that *text* lists. Raises UsageError for what is none."""
    known = [n for n in hardware_names() if study.hardware_value(axes, n) is not None]
    found: dict[str, None] = {}
    for part in filter(None, (x.strip() for x in text.split(","))):
        inside = [n for n in known if n == part or n.startswith(f"{part}.")]
        numeric = [n for n in inside if find_field(n, "")[1].kind == "quantity"]
        if not inside:
            raise UsageError(f"--fields: {study.hw_of(axes)} has no hardware field {part!r}"
                             f"{likely_field(part) or did_you_mean(part, [n for n, _ in ROOT.children])}")
        if not numeric:
            raise UsageError(f"--fields: {part} is not a number")
        found |= dict.fromkeys(numeric)
    return list(found)


def elasticities(study: Study, folder: Path, metric: Objective, *, at: Mapping[str, Value], step: float = 0.1,
                 fields: Sequence[str] | None = None, jobs: int | None = None, progress: Progress | None = None
                 ) -> Local:
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
        for side in (-1, 1):
            try:
                value = _moved(find_field(name, "")[1], everywhere[name], side, step)
                with_overrides(study.hardware[study.hw_of(at)].gpu, {**study.overrides_of(at), name: value})
            except UsageError as error:
                notes[name].append(f"{'down' if side < 0 else 'up'}: {_rule(str(error), name)}")
                continue
            moves[name, side] = value
            tasks[name, side] = _varied(wide, everywhere, at, name, value)
    with Session(wide, folder, jobs=jobs or cores()) as session:
        rows = rows_of(session, list(tasks.values()), jobs or cores(), progress)
    values = {}
    for key, task in tasks.items():
        values[key], reason = _value(wide, rows[task.point], metric)
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


def _value(study: Study, row: Row, metric: Objective) -> tuple[float | None, str]:
    if row["outcome"]["status"] != "ok":
        return None, str(row["outcome"]["reason"])
    known = dataclasses.replace(study, axes=tuple(a for a in study.axes if a.name in row["axes"]), baseline={})
    found = number(record_of(known, row, None), known, row, metric.name)
    return (found, "") if found is None or found > 0 else (None, f"{metric.name} is {found:g}")


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


def sobol(study: Study, folder: Path, metric: Objective, *, samples: int = 64, seed: int = 0, jobs: int | None = None,
          progress: Progress | None = None) -> Global:
    """Return the Sobol indices of *metric* over the axes of *study*, by samples x (axes + 2) points.

    Axes are drawn evenly, a log range evenly in its logarithm, a list as its places. Raises UsageError where SALib is
    missing, *samples* is no power of two, or there are fewer than two axes; NoFrontError where points break constraints
    or have no value: the design has no room for gaps.
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
        raise UsageError(f"{study.path}: {broken:,} of {len(points):,} points break a constraint, and Sobol indices "
                         "need all of them; drop the constraints, or narrow the ranges")
    tasks = [study.task(axes) for axes in points]
    with Session(study, folder, jobs=jobs or cores()) as session:
        rows = rows_of(session, tasks, jobs or cores(), progress)
    values = []
    for task in tasks:
        row = rows[task.point]
        value, reason = _value(study, row, metric)
        if value is None:
            where = ", ".join(f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in task.axes.items())
            raise NoFrontError(f"{metric.name} has no value at {where}: {reason}; Sobol indices need all points")
        values.append(value)
    import numpy as np

    outcome = np.array(values)
    mean, deviation = float(outcome.mean()), float(outcome.std())
    if deviation <= 1e-12 * abs(mean):
        raise NoFrontError(f"{metric.name} is {mean:g} at all {len(values):,} points: nothing moves it")
    found = analyse.analyze(problem, outcome, calc_second_order=False, conf_level=0.95, seed=seed)
    indices = [Index(a.name, *(float(found[k][i]) for k in ("S1", "S1_conf", "ST", "ST_conf")))
               for i, a in enumerate(study.axes)]
    indices.sort(key=lambda x: -x.total)
    return Global(metric, len({t.point for t in tasks}), samples, seed, mean, deviation, tuple(indices))


def at_of(study: Study, texts: Sequence[str]) -> dict[str, Value]:
    """Return the values that ``NAME=VALUE`` texts give to axes. Raises UsageError."""
    found: dict[str, Value] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise UsageError(f"--at: {text!r} is not name=value")
        if name not in study.axis_names:
            raise UsageError(f"--at: {name!r} is no axis{did_you_mean(name, study.axis_names)}; there are "
                             f"{', '.join(study.axis_names) or 'none'}")
        found[name] = _read(study.axis(name), value)
    return found


def _read(axis: Axis, text: str) -> Value:
    from turbosim.study import shapes
    from turbosim.study.values import CHOICES, chosen
    from turbosim.study.values import number as quantity

    if axis.kind is Kind.HARDWARE:
        value: str | float = text
        with contextlib.suppress(ValueError):
            # In SI units, as in a study.
            value = float(text)
        return quantity(find_field(axis.name, "")[1], value)
    if axis.name in CHOICES:
        return chosen(axis.name, text)
    if axis.kind is Kind.WORKLOAD and axis.name != "causal":
        return shapes.parse_field(axis.name, text)
    for value in axis.values:
        if str(value).lower() == text.lower():
            return value
    raise UsageError(f"--at: {axis.name} has no value {text!r}; there are {', '.join(map(str, axis.values))}")

