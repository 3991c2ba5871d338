"""Study files: YAML in, a checked :class:`~turbosim.study.study.Study` out, or every defect with its position."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from turbosim.errors import did_you_mean
from turbosim.hw.document import read_document
from turbosim.study import shapes
from turbosim.study.axes import MOST_POINTS, AxisReader, File
from turbosim.study.axis import Axis, Value
from turbosim.study.evaluate import OUTCOMES
from turbosim.study.expression import Expression
from turbosim.study.expression import parse as parse_expression
from turbosim.study.impossible import impossible
from turbosim.study.known import column_names, outcome_names, point_names, quantity_names
from turbosim.study.pictures import read_pictures
from turbosim.study.places import Loc, Strict
from turbosim.study.sampling import METHODS, Sampling
from turbosim.study.study import Names, Study, split_kernel
from turbosim.study.values import CHOICES


class _Sampling(Strict):
    method: str
    points: int = 0
    seed: int = 0
    cross: list[str] = Field([])


def read_study(path: str | Path, hardware: Path | None = None) -> Study:
    """Return the study in the file *path*.

    Hardware files are looked for beside it, or, where a study was saved with them, in the folder *hardware*. Raises
    ConfigError, one line per defect, each with file:line:col.
    """
    path = Path(path)
    return _Reader(path, read_document(path, "study"), hardware).study()


class _Reader(AxisReader):
    """Reads one document."""

    def study(self) -> Study:
        """Return the study. Raises ConfigError."""
        file = self.valid(File, self.document, ())
        if file is None:
            self.finish()
        axes, fixed = self.split(file)
        for name in ("hw", "kernel"):
            if name not in fixed and not any(a.name == name for a in axes) and not self.defects:
                self.defect((), f"{name}: missing; write for example "
                                f"{name}: {'h200_sxm' if name == 'hw' else 'flash'}")
        sampling = self.sampling(axes)
        if not self.defects:
            self.check_options(axes, fixed)
            for axis, place, rule in impossible(self.hardware, axes, self.written):
                self.defect((*self.entry(axis.name), place), f"no point can have it: {rule}")
        if self.defects:
            # Expressions are not held against names that are not known.
            self.finish()
        names = {split_kernel(text)[0] for text in self.kernels}
        columns = column_names(axes, names)
        constraints = self.constraints(file, axes, point_names(axes, names), columns)
        metrics = self.metrics(file, axes, columns)
        baseline = self.baseline(file, axes, sampling, metrics)
        pictures = read_pictures(self, file.pictures, [*columns, *metrics])
        self.finish_if_defective()
        study = Study(
            title=file.title or self.path.stem, path=self.path, text=self.path.read_text(encoding="utf-8"),
            hardware=self.hardware, kernel=cast(str | None, fixed.get("kernel")),
            workload={n: v for n, v in fixed.items() if n in shapes.ALL},
            run={n: v for n, v in fixed.items() if n in CHOICES},
            settings={n.removeprefix("set."): v for n, v in fixed.items() if n.startswith("set.")},
            axes=tuple(axes), sampling=sampling, constraints=tuple(constraints), metrics=metrics, baseline=baseline,
            pictures=pictures, places=self)
        self.rehearse(study)
        return study

    def sampling(self, axes: list[Axis]) -> Sampling:
        """Return how points are taken."""
        raw = self.document.get("sampling", "grid")
        given = self.valid(_Sampling, {"method": raw} if isinstance(raw, str) else raw, ("sampling",))
        if given is None:
            return Sampling()
        loc: Loc = ("sampling",) if isinstance(raw, str) else ("sampling", "method")
        if given.method not in METHODS:
            self.defect(loc, f"must be one of {', '.join(METHODS)}, got {given.method!r}"
                             f"{did_you_mean(given.method, METHODS)}")
            return Sampling()
        drawn = given.method in ("random", "latin-hypercube")
        if drawn and not 1 <= given.points <= MOST_POINTS:
            self.defect(loc, f"{given.method} needs points, 1 to {MOST_POINTS:,}, for example "
                             f"{{method: {given.method}, points: 200}}, got {given.points}")
        for key in ("points", "seed", "cross"):
            if not drawn and not isinstance(raw, str) and key in raw:
                self.defect(("sampling", key), f"does not apply to {given.method}", key=True)
        names = [a.name for a in axes]
        for i, name in enumerate(given.cross):
            if name not in names:
                self.defect(("sampling", "cross", i), f"{name!r} is no axis{did_you_mean(name, names)}")
        for axis in axes:
            if not axis.values and not (drawn and axis.name not in given.cross):
                self.defect(self.entry(axis.name), "needs steps: only random and latin-hypercube draw from a range",
                            key=True)
        if given.method == "zip" and len({len(a.values) for a in axes}) > 1:
            counts = ", ".join(f"{a.name} {len(a.values)}" for a in axes)
            self.defect(loc, f"zip needs as many values on every axis, got {counts}")
        total = max(1, given.points) if drawn else 1
        for axis in axes:
            if given.method == "grid" or axis.name in given.cross:
                total *= len(axis.values)
        if total > MOST_POINTS:
            self.defect(loc, f"the axes have {total:,} points, at most {MOST_POINTS:,} are taken; draw some of them: "
                             "{method: latin-hypercube, points: 1000}")
        return Sampling(given.method, given.points, given.seed, tuple(given.cross))

    def constraints(self, file: File, axes: list[Axis], known: Mapping[str, str], columns: Mapping[str, str]
                    ) -> list[Expression]:
        """Return the constraints, over the names *known* among *columns*."""
        found = []
        quantities = quantity_names(axes)
        for i, text in enumerate(file.constraints):
            parsed = self.attempt(("constraints", i), parse_expression, text, {**columns, **known}, quantities)
            late = [name for name in parsed.names if name not in known] if parsed is not None else []
            if late:
                self.defect(("constraints", i), f"{text!r}: {late[0]} is what a simulation finds, and constraints "
                            "choose the points before; `turbosim results` has a condition of SQL for it")
            elif parsed is not None:
                found.append(parsed)
        return found

    def metrics(self, file: File, axes: list[Axis], known: dict[str, str]) -> dict[str, Expression]:
        """Return the derived metrics; one may read those before it."""
        found: dict[str, Expression] = {}
        names = dict(known)
        fields = quantity_names(axes) - set(outcome_names())
        quantities = fields | {f"baseline.{name}" for name in fields}
        for name, text in file.metrics.items():
            if re.fullmatch(r"[A-Za-z]\w*", name) is None or name in known or name in ("status", "reason", "key"):
                self.defect(("metrics", name), "is the name of a column already; choose another" if name in known else
                            "is a name of letters, digits and underscores", key=True)
                continue
            expression = self.attempt(("metrics", name), parse_expression, text, names, quantities)
            if expression is not None:
                found[name] = expression
                names |= dict.fromkeys((name, f"baseline.{name}"), "")
        return found

    def baseline(self, file: File, axes: list[Axis], sampling: Sampling, metrics: Mapping[str, Expression]
                 ) -> dict[str, Value]:
        """Return the values that select the baseline of a point."""
        by_name = {a.name: a for a in axes}
        found: dict[str, Value] = {}
        for name, raw in file.baseline.items():
            loc: Loc = ("baseline", name)
            if name not in by_name:
                self.defect(loc, f"is no axis{did_you_mean(name, by_name)}; there are "
                                 f"{', '.join(by_name) or 'none'}", key=True)
                continue
            axis = by_name[name]
            value = self.attempt(loc, self.converter(name)[2], raw)
            if value is not None and value not in axis.values:
                self.defect(loc, f"{raw} is not among the values of the axis")
            elif sampling.method != "grid" and name not in sampling.cross:
                self.defect(loc, "is drawn with the others, so that few points have a baseline; add it to "
                                 f"sampling.cross: {{method: latin-hypercube, points: 100, cross: [{name}]}}", key=True)
            elif value is not None:
                found[name] = value
        for name, metric in metrics.items():
            if not file.baseline and any(x.startswith("baseline.") for x in metric.names):
                self.defect(("metrics", name), "reads a baseline, and the study has none; write for example "
                                               "baseline: {kernel: flash}")
        return found

    def rehearse(self, study: Study) -> None:
        """Find operands that do not go together, at the first point and with 1 for what a simulation finds."""
        names = _Rehearsal(Names(study, next(study.candidates())))
        for i, constraint in enumerate(study.constraints):
            value = self.attempt(("constraints", i), constraint.value, names)
            if value is not None and not isinstance(value, bool):
                self.defect(("constraints", i), f"{constraint.text!r} is {value!r} at the first point, and a "
                            "constraint is true or false; compare it, for example with <=")
        for name, metric in study.metrics.items():
            names.found[name] = self.attempt(("metrics", name), metric.value, names)
        self.finish_if_defective()


class _Rehearsal(Mapping[str, Any]):
    """Values of the right types."""

    def __init__(self, point: Names) -> None:
        self.point = point
        self.found: dict[str, Any] = {name: "" if name in ("bound", "occupancy_limit") else 1.0 for name in OUTCOMES}

    def __getitem__(self, name: str) -> Any:
        name = name.removeprefix("baseline.")
        if name.startswith(("util.", "stall.", "energy.")):
            return 1.0
        return self.found[name] if name in self.found else self.point[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)
