"""Study files: YAML in, a checked :class:`~turbosim.study.study.Study` out, or every defect with its position."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw import Resolved, load_resolved
from turbosim.hw.document import key_place, read_document, shown, value_place
from turbosim.hw.fields import Node
from turbosim.hw.override import find_field
from turbosim.schedules.registry import get_schedule
from turbosim.study import shapes
from turbosim.study.axis import Axis, Kind, Range, Value
from turbosim.study.expression import Expression
from turbosim.study.expression import parse as parse_expression
from turbosim.study.known import column_names, likely_field, point_names
from turbosim.study.pictures import KINDS, Picture
from turbosim.study.sampling import METHODS, Method, Sampling
from turbosim.study.study import Study, split_kernel
from turbosim.study.values import CHOICES, chosen, number, option, seen, with_unit

Loc = tuple[str | int, ...]
T = TypeVar("T")
MOST_POINTS = 1_000_000
"""Points of a study, before constraints."""
_TABLES = {"workload": "", "options": "", "set": "set.", "axes": ""}
"""Tables whose lists are axes, and what the names of these begin with."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _File(_Strict):
    title: str = ""
    hw: Any = None
    kernel: Any = None
    workload: dict[str, Any] = {}
    options: dict[str, Any] = {}
    set: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    sampling: Any = "grid"
    constraints: list[str] = []
    metrics: dict[str, str] = {}
    baseline: dict[str, Any] = {}
    pictures: list[dict[str, Any]] = []


class _Sampling(_Strict):
    method: str
    points: int = 0
    seed: int = 0
    cross: list[str] = []


class _Picture(_Strict):
    kind: str
    x: str = ""
    y: str = ""
    value: str = ""
    by: str = ""
    where: str = ""
    maximize: list[str] = []
    name: str = ""


class _Range(_Strict):
    # Aliased: from is a keyword.
    low: Any
    to: Any
    steps: int | None = None
    scale: str = "linear"


def read_study(path: Path, hardware: Path | None = None) -> Study:
    """Return the study in the file *path*.

    Hardware files are looked for beside it, or, where a study was saved with them, in the folder *hardware*. Raises
    ConfigError, one line per defect, each with file:line:col.
    """
    return _Reader(path, read_document(path, "study"), hardware).study()


class _Reader:
    """Reads one document and collects what is wrong with it."""

    def __init__(self, path: Path, document: CommentedMap, folder: Path | None) -> None:
        self.path = path
        self.document = document
        self.folder = folder
        self.defects: list[tuple[int, int, str]] = []
        self.hardware: dict[str, Resolved] = {}
        self.kernels: dict[str, list[str]] = {}
        """Options given with each text that names a kernel."""

    def study(self) -> Study:
        """Return the study. Raises ConfigError."""
        file = self.valid(_File, self.document, ())
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
        if self.defects:
            # Expressions are not held against names that are not known.
            self.finish()
        names = {split_kernel(text)[0] for text in self.kernels}
        constraints = self.constraints(file, point_names(axes, names))
        metrics = self.metrics(file, column_names(axes, names))
        baseline = self.baseline(file, axes, sampling, metrics)
        pictures = self.pictures(file, [*column_names(axes, names), *metrics])
        self.finish_if_defective()
        return Study(
            title=file.title or self.path.stem, path=self.path, text=self.path.read_text(encoding="utf-8"),
            hardware=self.hardware, kernel=cast(str | None, fixed.get("kernel")),
            workload={n: v for n, v in fixed.items() if n in shapes.ALL},
            run={n: v for n, v in fixed.items() if n in CHOICES},
            settings={n.removeprefix("set."): v for n, v in fixed.items() if n.startswith("set.")},
            axes=tuple(axes), sampling=sampling, constraints=tuple(constraints), metrics=metrics, baseline=baseline,
            pictures=tuple(pictures))

    # What is wrong, and where

    def place(self, loc: Loc, key: bool = False) -> tuple[int, int]:
        """Return line and column of the value at *loc*, or of its *key*, as far as the document goes."""
        node: Any = self.document
        found = (1, 1)
        for depth, step in enumerate(loc):
            last = depth == len(loc) - 1
            if isinstance(node, CommentedMap) and step in node:
                scalar = not isinstance(node[step], CommentedMap)
                found = value_place(node, step) if last and not key and scalar else key_place(node, step)
            elif isinstance(node, CommentedSeq) and isinstance(step, int) and step < len(node):
                line, column = node.lc.item(step)
                found = (line + 1, column + 1)
            else:
                break
            node = node[step]
        return found

    def defect(self, loc: Loc, message: str, key: bool = False) -> None:
        """Add a defect at *loc*."""
        line, column = self.place(loc, key)
        names = ".".join(str(x) for x in loc if not isinstance(x, int))
        text = f"{names}: {message}" if names else message
        self.defects.append((line, column, f"{shown(self.path)}:{line}:{column}: {text}"))

    def finish(self) -> NoReturn:
        """Raise all defects, in the order of the file."""
        raise ConfigError("\n".join(dict.fromkeys(text for *_, text in sorted(self.defects))))

    def finish_if_defective(self) -> None:
        """Raise all defects if there are any."""
        if self.defects:
            self.finish()

    def attempt(self, loc: Loc, function: Callable[..., T], *arguments: Any) -> T | None:
        """Return what *function* returns; the UsageError it raises becomes a defect at *loc*."""
        try:
            return function(*arguments)
        except UsageError as error:
            self.defect(loc, str(error))
            return None

    def valid(self, model: type[BaseModel], value: Any, loc: Loc) -> Any:
        """Return *value* as *model*; None, with defects, if it is not one."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for item in error.errors():
                where, kind = item["loc"], item["type"]
                if kind == "extra_forbidden":
                    known = ["from" if f == "low" else f for f in model.model_fields]
                    self.defect((*loc, *where), f"unknown key{did_you_mean(str(where[-1]), known)}; there are "
                                                f"{', '.join(known)}", key=True)
                elif kind == "missing":
                    self.defect(loc, f"{'from' if where[-1] == 'low' else where[-1]} is missing", key=True)
                else:
                    text = item["msg"].replace("Input should be", "must be").replace("dictionary", "table")
                    self.defect((*loc, *where), f"{text}, got {seen(item['input'])}")
            return None

    # What varies

    def split(self, file: _File) -> tuple[list[Axis], dict[str, Value]]:
        """Return the axes and the values that do not vary."""
        entries: dict[str, tuple[str, ...]] = {}
        places: list[tuple[str, ...]] = [("hw",), ("kernel",)]
        places += [(table, str(n)) for table in _TABLES for n in getattr(file, table)]
        for loc in places:
            raw = getattr(file, loc[0]) if len(loc) == 1 else getattr(file, loc[0])[loc[1]]
            if raw is None and len(loc) == 1:
                continue
            name = loc[-1] if len(loc) == 1 else _TABLES[loc[0]] + loc[1]
            if not self.belongs(loc, name):
                continue
            if name in entries:
                first = ".".join(map(str, entries[name]))
                self.defect(loc, f"{name} is given twice, first as {first}; drop one", key=True)
                continue
            entries[name] = loc
        axes, fixed = [], {}
        for name, loc in entries.items():
            raw = self.document[loc[0]] if len(loc) == 1 else self.document[loc[0]][loc[1]]
            if isinstance(raw, (CommentedSeq, CommentedMap)):
                axis = self.axis(name, raw, loc)
                axes += [axis] if axis is not None else []
            elif loc[0] == "axes":
                self.defect(loc, f"must be a list of values or a range {{from, to, steps}}, got {seen(raw)}")
            else:
                value = self.attempt(loc, self.converter(name)[2], raw)
                if value is not None:
                    fixed[name] = value
        return axes, fixed

    def belongs(self, loc: tuple[str, ...], name: str) -> bool:
        """Whether *name* may stand at *loc*; a defect is added if not."""
        table = loc[0]
        if table == "workload" and name not in shapes.ALL:
            self.defect(loc, f"unknown field{did_you_mean(name, shapes.ALL)}; there are {', '.join(shapes.ALL)}",
                        key=True)
        elif table == "options" and name not in CHOICES:
            self.defect(loc, f"unknown option{did_you_mean(name, CHOICES)}; there are {', '.join(CHOICES)}, and kernel "
                             "options stand under set", key=True)
        elif table == "axes" and not self.is_axis(loc, name):
            pass
        else:
            return True
        return False

    def is_axis(self, loc: Loc, name: str) -> bool:
        """Whether there is something called *name* that can vary; a defect is added if not."""
        if name in ("hw", "kernel", *CHOICES, *shapes.ALL) or name.startswith("set."):
            return True
        try:
            node = find_field(name, "a GPU")[1]
        except UsageError as error:
            known = ("hw", "kernel", *CHOICES, *shapes.ALL)
            if "is a table" in str(error):
                self.defect(loc, str(error), key=True)
            else:
                hint = likely_field(name) if "." in name else did_you_mean(name, known) or likely_field(name)
                self.defect(loc, f"unknown hardware field{hint}; turbosim hw show GPU --resolved lists all", key=True)
            return False
        if node.kind != "quantity" and "." not in name:
            self.defect(loc, "cannot vary: nothing that is simulated depends on it", key=True)
            return False
        return True

    def converter(self, name: str) -> tuple[Kind, Node | None, Callable[[Any], Value]]:
        """Return kind, field and reading of the values of *name*."""
        if name == "hw":
            return Kind.HW, None, self.load
        if name == "kernel":
            return Kind.KERNEL, None, self.known_kernel
        if name in CHOICES:
            return Kind.RUN, None, lambda value: chosen(name, value)
        if name in shapes.ALL:
            return Kind.WORKLOAD, None, lambda value: shapes.parse_field(name, value)
        if name.startswith("set."):
            return Kind.SET, None, option
        node = find_field(name, "a GPU")[1]
        return Kind.HARDWARE, node, lambda value: number(node, value)

    def axis(self, name: str, raw: CommentedSeq | CommentedMap, loc: Loc) -> Axis | None:
        """Return the axis *name*; None, with a defect, if its values are not acceptable."""
        kind, node, convert = self.converter(name)
        dimension = node.dimension if node is not None else "B" if name == "bytes" else ""
        unit = "Hz" if name == "clock" else dimension
        line, column = self.place(loc, key=True)
        if isinstance(raw, CommentedMap):
            bounds = self.range(raw, loc, kind, node, unit, convert)
            if bounds is None:
                return None
            steps = raw.get("steps") or 0
            values = tuple(dict.fromkeys(bounds.at(i / (steps - 1)) for i in range(steps)))
            return Axis(name, kind, values, dimension, bounds, line, column)
        if not raw:
            self.defect(loc, "has no values; give at least one")
            return None
        found: dict[Value, Any] = {}
        before = len(self.defects)
        texts = with_unit(list(raw), unit)
        if texts != list(raw) and self.attempt((*loc, len(raw) - 1), convert, texts[-1]) is None:
            # The unit that all share.
            return None
        for i, (written, text) in enumerate(zip(raw, texts, strict=True)):
            value = self.attempt((*loc, i), convert, text)
            if value is None:
                continue
            if value in found and isinstance(value, bool) == isinstance(found[value], bool):
                how = "listed twice" if found[value] == written else f"the same as {found[value]}"
                self.defect((*loc, i), f"{written} is {how}; drop one")
            found[value] = written
        if len(self.defects) > before:
            return None
        if name == "clock" and not any(isinstance(value, str) for value in found):
            dimension = "Hz"
        return Axis(name, kind, tuple(found), dimension, None, line, column)

    def range(self, raw: CommentedMap, loc: Loc, kind: Kind, node: Node | None, unit: str,
              convert: Callable[[Any], Value]) -> Range | None:
        """Return the bounds ``{from, to, steps, scale}``; None, with a defect, if they are not acceptable."""
        given = self.valid(_Range, {"low" if k == "from" else k: v for k, v in raw.items()}, loc)
        if given is None:
            return None
        ends = []
        for key, text in zip(("from", "to"), with_unit([given.low, given.to], unit), strict=True):
            value = self.attempt((*loc, key), convert, text)
            if isinstance(value, (str, bool)):
                self.defect((*loc, key), f"must be a number, got {seen(raw[key])}")
            if value is None or isinstance(value, (str, bool)):
                return None
            ends.append(value)
        scales = ("linear", "log")
        if given.scale not in scales:
            self.defect((*loc, "scale"), f"must be linear or log, got {given.scale!r}"
                                         f"{did_you_mean(given.scale, scales)}")
        elif given.steps is not None and not 2 <= given.steps <= MOST_POINTS:
            self.defect((*loc, "steps"), f"must be 2 to {MOST_POINTS:,}, got {given.steps}")
        elif ends[1] <= ends[0]:
            self.defect((*loc, "to"), f"must be above from, got {raw['to']} and {raw['from']}")
        elif given.scale == "log" and ends[0] <= 0:
            self.defect((*loc, "from"), f"must be above 0 where the scale is log, got {raw['from']}")
        else:
            whole = kind in (Kind.WORKLOAD, Kind.SET) or (node is not None and node.python is int)
            return Range(ends[0], ends[1], given.scale == "log", whole)
        return None

    # GPUs and kernels

    def load(self, value: object) -> str:
        """Load the GPU *value*, a name or a file, and return its name. Raises UsageError."""
        if not isinstance(value, str):
            raise UsageError(f"is the name of a GPU or a hardware file, got {seen(value)}")
        name: str | Path = value
        if self.folder is not None and (saved := self.folder / f"{Path(value).stem}.yaml").is_file():
            name = saved
        elif value.endswith((".yaml", ".yml")) and (beside := self.path.parent / value).is_file():
            name = beside
        try:
            resolved = load_resolved(name)
        except ConfigError as error:
            # The file's own positions, below that of its name.
            raise UsageError(f"hardware file {value!r} is not acceptable\n{error}") from None
        self.hardware[resolved.gpu.name] = resolved
        return resolved.gpu.name

    def known_kernel(self, value: object) -> str:
        """Return the text *value* if it names a kernel, with options that it has. Raises UsageError."""
        if not isinstance(value, str):
            raise UsageError(f"is a kernel, options after colons, got {seen(value)}")
        name, settings = split_kernel(value)
        get_schedule(name).parse_options(settings)
        self.kernels[value] = list(settings)
        return value.strip()

    def check_options(self, axes: list[Axis], fixed: Mapping[str, Value]) -> None:
        """Hold kernel options against the kernels: each needs one that takes it."""
        schedules = {name: get_schedule(name) for name in (split_kernel(text)[0] for text in self.kernels)}
        for name, values in [(a.name, a.values) for a in axes] + [(n, (v,)) for n, v in fixed.items()]:
            if not name.startswith("set."):
                continue
            option = name.removeprefix("set.")
            loc: tuple[str, str] = ("axes", name) if name in self.document.get("axes", ()) else ("set", option)
            for i, value in enumerate(values):
                errors = []
                for schedule in schedules.values():
                    try:
                        schedule.parse_options({option: value})
                    except UsageError as error:
                        errors.append(str(error))
                if len(errors) == len(schedules):
                    known = "has no option" not in errors[0]
                    listed = known and isinstance(self.document[loc[0]][loc[1]], CommentedSeq)
                    self.defect((*loc, i) if listed else loc, errors[0], key=not listed)
                    break

    # How points are taken, and what is computed of them

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
                self.defect(self.loc_of(axis), "needs steps: only random and latin-hypercube draw from a range",
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
        return Sampling(cast(Method, given.method), given.points, given.seed, tuple(given.cross))

    def loc_of(self, axis: Axis) -> Loc:
        """Return where *axis* stands."""
        bare = axis.name.removeprefix("set.")
        for table, name in (("axes", axis.name), ("workload", bare), ("options", bare), ("set", bare)):
            if name in (self.document.get(table) or ()):
                return table, name
        return (axis.name,)

    def constraints(self, file: _File, known: Mapping[str, None]) -> list[Expression]:
        """Return the constraints."""
        found = [self.attempt(("constraints", i), parse_expression, text, known)
                 for i, text in enumerate(file.constraints)]
        return [x for x in found if x is not None]

    def metrics(self, file: _File, known: dict[str, None]) -> dict[str, Expression]:
        """Return the derived metrics; one may read those before it."""
        found: dict[str, Expression] = {}
        names = dict(known)
        for name, text in file.metrics.items():
            if re.fullmatch(r"[A-Za-z]\w*", name) is None or name in known or name in ("status", "reason", "key"):
                self.defect(("metrics", name), "is the name of a column already; choose another" if name in known else
                            "is a name of letters, digits and underscores", key=True)
                continue
            expression = self.attempt(("metrics", name), parse_expression, text, names)
            if expression is not None:
                found[name] = expression
                names |= dict.fromkeys((name, f"baseline.{name}"))
        return found

    def baseline(self, file: _File, axes: list[Axis], sampling: Sampling, metrics: Mapping[str, Expression]
                 ) -> dict[str, Value]:
        """Return the values that select the baseline of a point."""
        by_name = {a.name: a for a in axes}
        found: dict[str, Value] = {}
        for name, raw in file.baseline.items():
            loc: Loc = ("baseline", name)
            if name not in by_name:
                self.defect(loc, f"is no axis{did_you_mean(name, by_name)}", key=True)
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

    def pictures(self, file: _File, columns: list[str]) -> list[Picture]:
        """Return the pictures; what ``where`` selects is known when there are results."""
        found: list[Picture] = []
        for i, raw in enumerate(file.pictures):
            loc: Loc = ("pictures", i)
            given = self.valid(_Picture, raw, loc)
            if given is None:
                continue
            if given.kind not in KINDS:
                self.defect((*loc, "kind"), f"must be one of {', '.join(KINDS)}, got {given.kind!r}"
                                            f"{did_you_mean(given.kind, KINDS)}")
            for key in ("x", "y", "value", "by"):
                if (name := getattr(given, key)) and name not in columns:
                    self.defect((*loc, key), f"{name!r} is no column{did_you_mean(name, columns)}")
            picture = Picture(**{**given.model_dump(), "maximize": tuple(given.maximize)})
            if re.fullmatch(r"[\w-]+", picture.file) is None:
                self.defect((*loc, "name"), f"is a file name of letters, digits, - and _, got {picture.name!r}")
            elif picture.file in [p.file for p in found]:
                self.defect(loc, f"a picture is called {picture.file!r} already; give this one a name")
            found.append(picture)
        return found
