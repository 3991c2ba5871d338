"""A study: what varies over what, and the simulation that each of its points stands for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from turbosim.errors import TurbosimError, UsageError
from turbosim.hw import Gpu, Resolved, with_overrides
from turbosim.hw.fields import Node, node_at
from turbosim.hw.override import find_field
from turbosim.hw.rules import Path as Field
from turbosim.hw.rules import flat
from turbosim.schedules.registry import get_schedule
from turbosim.silicon import area_of, cost_of
from turbosim.study import shapes
from turbosim.study.axis import Axis, Kind, Value
from turbosim.study.expression import Expression
from turbosim.study.pictures import Picture
from turbosim.study.places import Places
from turbosim.study.sampling import Sampling, sample
from turbosim.study.version import engine_version
from turbosim.workload import Workload

RUN_DEFAULTS: dict[str, Value] = {"clock": "sustained", "launch": "graph", "l2": "cold", "engine": "numba"}
"""How a program is run, unless the study says otherwise."""
_DESCRIBED = frozenset((*shapes.ALL, "nbytes"))
_UNREAD = {("name",), ("title",), ("note",), ("hypothetical",), ("schema_version",)}


@dataclass(frozen=True)
class Task:
    """One point, resolved: everything that its simulation needs beside the GPUs of the study."""

    point: str
    """Digest of the values on the axes: which point of the study it is."""
    key: str
    """Digest of what determines the outcome: hardware, kernel, workload, how it is run, and the engine's sources."""
    axes: dict[str, Value]
    hw: str
    overrides: dict[str, Value]
    """Hardware fields by dotted name, in SI units."""
    kernel: str
    settings: dict[str, Value]
    workload: Workload | None
    run: dict[str, Value]
    refused: str = ""
    """Why there is nothing to simulate."""

    @property
    def effort(self) -> float:
        """FLOPs, or bytes of a copy: what a simulation's duration grows with, roughly."""
        return float(getattr(self.workload, "nbytes", 0) or getattr(self.workload, "flops", 0))


def split_kernel(text: str) -> tuple[str, dict[str, str]]:
    """Return name and options of ``NAME:OPTION=VALUE:...``. Raises UsageError."""
    name, *pairs = text.strip().split(":")
    settings = {}
    for pair in pairs:
        option, sign, value = pair.partition("=")
        if not sign or not option or not value:
            raise UsageError(f"kernel {text!r}: {pair!r} is not option=value")
        settings[option.strip()] = value.strip()
    return name, settings


@dataclass(frozen=True)
class Study:
    """A study file that was found acceptable."""

    title: str
    path: Path
    places: Places = field(repr=False, compare=False)
    """What stands where in the file."""
    text: str = field(repr=False)
    """The file's."""
    hardware: Mapping[str, Resolved] = field(repr=False)
    """GPUs by name, in the order of the study."""
    kernel: str | None
    """None where it is an axis."""
    workload: Mapping[str, Value]
    """Fields that do not vary."""
    run: Mapping[str, Value]
    """Clock, launch, l2 and engine, as far as they are given and do not vary."""
    settings: Mapping[str, Value]
    """Kernel options of all kernels that do not vary."""
    axes: tuple[Axis, ...]
    sampling: Sampling
    constraints: tuple[Expression, ...]
    metrics: Mapping[str, Expression]
    baseline: Mapping[str, Value]
    """Values on some axes: ``baseline.x`` of a metric is x at the point that has these and is otherwise the same."""
    pictures: tuple[Picture, ...] = ()

    def axis(self, name: str) -> Axis:
        """Return the axis called *name*. Raises KeyError."""
        return {a.name: a for a in self.axes}[name]

    @cached_property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes, in order."""
        return tuple(a.name for a in self.axes)

    @cached_property
    def digest(self) -> str:
        """Digest of all that determines which points there are; rows of the same study carry the same."""
        parts = [self._simulated, self.kernel, dict(self.workload), dict(self.run), dict(self.settings),
                 [[a.name, a.values, None if a.range is None else dataclasses.astuple(a.range)] for a in self.axes],
                 dataclasses.astuple(self.sampling), [c.text for c in self.constraints]]
        return _digest(parts)[:16]

    def candidates(self) -> Iterator[dict[str, Value]]:
        """Yield the values of every sampled point, constraints not yet heeded."""
        return sample(self.axes, self.sampling)

    def allows(self, axes: Mapping[str, Value], constraints: Sequence[Expression] | None = None) -> bool:
        """Whether the point at *axes* meets *constraints*, all unless given; one whose names have no value is met.

        Raises UsageError for a constraint whose operands do not go together.
        """
        asked = self.constraints if constraints is None else constraints
        if not asked:
            return True
        names = Names(self, axes)
        return all(c.value(names) in (True, None) for c in asked)

    def tasks(self) -> Iterator[Task]:
        """Yield every point that meets the constraints."""
        return (self.task(axes) for axes in self.candidates() if self.allows(axes))

    def hw_of(self, axes: Mapping[str, Value]) -> str:
        """Return the name of the GPU at *axes*."""
        return str(axes["hw"]) if "hw" in axes else next(iter(self.hardware))

    def overrides_of(self, axes: Mapping[str, Value]) -> dict[str, Value]:
        """Return the hardware fields that *axes* set."""
        return {a.name: axes[a.name] for a in self.axes if a.kind is Kind.HARDWARE}

    def gpu_of(self, axes: Mapping[str, Value]) -> Gpu:
        """Return the GPU at *axes*. Raises UsageError where its fields contradict each other."""
        return with_overrides(self.hardware[self.hw_of(axes)].gpu, self.overrides_of(axes))

    def kernel_of(self, axes: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
        """Return the kernel and its options at *axes*."""
        name, settings = split_kernel(str(axes.get("kernel", self.kernel)))
        return name, {**settings, **self.settings,
                      **{a.name.removeprefix("set."): axes[a.name] for a in self.axes if a.kind is Kind.SET}}

    def fields_of(self, axes: Mapping[str, Value]) -> dict[str, Value]:
        """Return the fields of the workload at *axes*."""
        return {**self.workload, **{a.name: axes[a.name] for a in self.axes if a.kind is Kind.WORKLOAD}}

    def chosen(self, axes: Mapping[str, Value]) -> dict[str, Value]:
        """Return *axes* in the order of the study, numbers in the type of their field. Raises KeyError."""
        return {a.name: self._nodes[a.name].check(axes[a.name])[0] if a.kind is Kind.HARDWARE else axes[a.name]
                for a in self.axes}

    def point_of(self, axes: Mapping[str, Value]) -> str:
        """Return the digest of the point at *axes*."""
        return _digest(self.chosen(axes))[:16]

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {a.name: find_field(a.name, "")[1] for a in self.axes if a.kind is Kind.HARDWARE}

    def task(self, axes: Mapping[str, Value]) -> Task:
        """Return the point at *axes*, a value for every axis."""
        chosen = self.chosen(axes)
        hw, overrides = self.hw_of(axes), self.overrides_of(chosen)
        kernel, settings = self.kernel_of(axes)
        fields = self.fields_of(axes)
        run = {**RUN_DEFAULTS, **self.run, **{a.name: axes[a.name] for a in self.axes if a.kind is Kind.RUN}}
        # Hardware mostly varies faster than what is run on it.
        if self._last.get("name") != (name := repr((kernel, settings, fields))):
            self._last.update(name=name, what=_resolved(kernel, settings, fields))
        workload, program, refused = self._last["what"]
        key = _digest([engine_version(), self._hardware_digest(hw, overrides), kernel, program, run])
        return Task(self.point_of(chosen), key, chosen, hw, overrides, kernel, settings, workload, run, refused)

    def _hardware_digest(self, hw: str, overrides: Mapping[str, Value]) -> str:
        """Return the digest of what is simulated of a GPU."""
        lines = self._lines[hw]
        changed = {name: f"{name}={json.dumps(value)}" for name, value in overrides.items() if self._is_read[name]}
        new = lines | changed
        return hashlib.sha256("\n".join(new.values() if len(new) == len(lines) else sorted(new.values())).encode()
                              ).hexdigest()

    @cached_property
    def _lines(self) -> dict[str, dict[str, str]]:
        """The simulated fields of every GPU as text, in the order of these texts."""
        return {hw: dict(sorted(((name, f"{name}={json.dumps(value)}") for name, value in values.items()),
                                key=lambda item: item[1])) for hw, values in self._simulated.items()}

    @cached_property
    def _is_read(self) -> dict[str, bool]:
        """Whether the fields that vary matter to a simulation."""
        return {a.name: _matters(find_field(a.name, "")[0]) for a in self.axes if a.kind is Kind.HARDWARE}

    @cached_property
    def _last(self) -> dict[str, Any]:
        """The kernel and workload of the last task."""
        return {}

    @cached_property
    def _simulated(self) -> dict[str, dict[str, Value]]:
        return {name: _simulated(flat(r.gpu.model_dump())) for name, r in self.hardware.items()}

    def hardware_value(self, axes: Mapping[str, Value], name: str) -> Value | None:
        """Return the hardware field *name* at *axes*; None where the GPU has none."""
        if name in self.axis_names:
            return axes[name]
        return self._all_values[self.hw_of(axes)].get(name)

    def silicon(self, axes: Mapping[str, Value]) -> dict[str, float | None]:
        """Return area and cost of the GPU at *axes*; None where nothing is known of its die."""
        values = self._all_values[self.hw_of(axes)] | self.overrides_of(axes)
        try:
            area = area_of(values).mm2
            return {"area_mm2": area, "cost_usd": cost_of(values, area).usd}
        except UsageError:
            return {"area_mm2": None, "cost_usd": None}

    @cached_property
    def _all_values(self) -> dict[str, dict[str, Value]]:
        return {name: {".".join(path): value for path, value in flat(r.gpu.model_dump()).items()}
                for name, r in self.hardware.items()}


class Names(Mapping[str, Any]):
    """What an expression may read of a point before it is simulated: axes, workload, hardware, kernel options."""

    def __init__(self, study: Study, axes: Mapping[str, Value]) -> None:
        self.study = study
        self.axes = axes
        self._known: dict[str, Any] = {"hw": study.hw_of(axes), "kernel": study.kernel, **RUN_DEFAULTS, **study.run,
                                       **{f"set.{n}": v for n, v in study.settings.items()}, **study.workload, **axes}

    def __getitem__(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        if name in _DESCRIBED:
            return self._described.get(name)
        if name in ("area_mm2", "cost_usd"):
            return self._silicon[name]
        return self.study.hardware_value(self.axes, name)

    @cached_property
    def _silicon(self) -> dict[str, float | None]:
        return self.study.silicon(self.axes)

    @cached_property
    def _described(self) -> dict[str, object]:
        try:
            schedule = get_schedule(self.study.kernel_of(self.axes)[0])
            return shapes.workload_of(schedule, self.study.fields_of(self.axes)).describe()
        except TurbosimError:
            return {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _resolved(kernel: str, settings: dict[str, Value], fields: Mapping[str, Value]
              ) -> tuple[Workload | None, list[Any], str]:
    """Return the workload, what determines the program beside hardware, and why there is none."""
    try:
        schedule = get_schedule(kernel)
        # An option as given and its default are the same program, unless giving it is refused in this phase.
        options = dataclasses.asdict(schedule.parse_options(settings))
        workload = shapes.workload_of(schedule, fields)
    except TurbosimError as error:
        return None, [dict(settings), dict(fields)], str(error).splitlines()[0]
    described = {k: v for k, v in workload.describe().items() if k != "model"}
    foreign = [n for n in settings if schedule.only.get(n) not in (None, described.get("phase"))]
    return workload, [options, described, foreign], ""


def _matters(path: Field) -> bool:
    node = node_at(path)
    return path not in _UNREAD and (node is None or not node.recorded)


def _simulated(values: Mapping[Field, Any]) -> dict[str, Value]:
    return {".".join(path): value for path, value in values.items() if _matters(path)}
