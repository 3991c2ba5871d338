"""What varies in a study file: lists and ranges become axes, single values stay."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw import Resolved, load_resolved
from turbosim.hw.fields import Node
from turbosim.hw.override import find_field
from turbosim.schedules.registry import SCHEDULES, get_schedule
from turbosim.study import shapes
from turbosim.study.axis import Axis, Kind, Range, Value
from turbosim.study.known import likely_field
from turbosim.study.places import Loc, Places, Strict
from turbosim.study.study import split_kernel
from turbosim.study.values import CHOICES, chosen, number, option, seen, with_unit

MOST_POINTS = 1_000_000
"""Points of a study, before constraints."""
_TABLES = {"workload": "", "options": "", "set": "set.", "axes": ""}
"""Tables whose lists are axes, and what the names of these begin with."""


class File(Strict):
    """The keys of a study file."""

    title: str = ""
    hw: Any = None
    kernel: Any = None
    workload: dict[str, Any] = Field({})
    options: dict[str, Any] = Field({})
    set: dict[str, Any] = Field({})
    axes: dict[str, Any] = Field({})
    sampling: Any = "grid"
    constraints: list[str] = Field([])
    metrics: dict[str, str] = Field({})
    baseline: dict[str, Any] = Field({})
    pictures: list[Any] = Field([])


class _Range(Strict):
    # Aliased: from is a keyword.
    low: Any
    to: Any
    steps: int | None = None
    scale: str = "linear"


class AxisReader(Places):
    """Reads what stands under the keys that can have lists."""

    def __init__(self, path: Path, document: CommentedMap, folder: Path | None) -> None:
        super().__init__(path, document)
        self.folder = folder
        """Where hardware files were saved with the study."""
        self.hardware: dict[str, Resolved] = {}
        self.kernels: dict[str, list[str]] = {}
        """Options given with each text that names a kernel."""

    def split(self, file: File) -> tuple[list[Axis], dict[str, Value]]:
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
            self.defect(loc, str(error) if "is a table" in str(error) else _unknown(name), key=True)
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

    def load(self, value: object) -> str:
        """Load the GPU *value*, a name or a file, and return its name. Raises UsageError."""
        if not isinstance(value, str):
            raise UsageError(f"must be the name of a GPU or a hardware file, got {seen(value)}")
        name: str | Path = value
        if self.folder is not None and (saved := self.folder / f"{Path(value).stem}.yaml").is_file():
            name = saved
        elif value.endswith((".yaml", ".yml")):
            if (beside := self.path.parent / value).is_file():
                name = beside
            elif not Path(value).is_file():
                raise UsageError(f"no file {value!r}, neither beside the study nor in the working directory; write the "
                                 "path of a hardware file, or the name of a GPU, for example h200_sxm")
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
            raise UsageError(f"must be a kernel, with options after colons if any, got {seen(value)}")
        if compiled := re.match(r"\s*(\S+\.(?:py:\w+|py|cubin|ya?ml))(?=[:\s]|$)", value):
            raise UsageError(f"{compiled[1]!r} is a compiled kernel, and studies take schedules: "
                             f"{', '.join(SCHEDULES)}; `turbosim tune {compiled[1]} --sweep NAME=V,V` tries "
                             "its configurations")
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


def _unknown(name: str) -> str:
    """Return what is wrong with *name*, under which nothing can vary, and what was probably meant."""
    table, _, rest = name.partition(".")
    option = name.rpartition(".")[2]
    options = {f.name for schedule in SCHEDULES.values() for f in dataclasses.fields(schedule.options)}
    what, own = {"workload": ("fields of the workload", shapes.ALL),
                 "options": ("options of a run", tuple(CHOICES))}.get(table, ("", ()))
    if rest and own and option not in options:
        name = f"{rest!r}" if rest in own else f"one of {', '.join(own)}{did_you_mean(rest, own)}"
        return f"{what} vary under their own names; write {name}"
    if option in options and table in (option, "workload", "options", "kernel", *SCHEDULES):
        return f"unknown hardware field, and options of kernels vary as set.NAME; write 'set.{option}'"
    known = ("hw", "kernel", *CHOICES, *shapes.ALL)
    hint = likely_field(name) if "." in name else did_you_mean(name, known) or likely_field(name)
    return f"unknown hardware field{hint}; turbosim hw show GPU --resolved lists all"
