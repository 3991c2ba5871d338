"""Where a sensitivity is taken: the point, and the fields that are moved."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.fields import ROOT
from turbosim.hw.override import find_field
from turbosim.study.axis import Axis, Kind, Value
from turbosim.study.known import hardware_names, likely_field
from turbosim.study.objectives import Objective
from turbosim.study.study import Study


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
        try:
            found[name] = _read(study.axis(name), value)
        except UsageError as error:
            raise UsageError(f"--at: {name}: {error}") from None
    return found


def _read(axis: Axis, text: str) -> Value:
    from turbosim.study import shapes
    from turbosim.study.values import CHOICES, chosen
    from turbosim.study.values import number as quantity

    if axis.kind is Kind.HARDWARE:
        value: str | float = text
        with contextlib.suppress(ValueError):
            # As in a study, where what has several units needs one.
            value = int(text) if text.lstrip("+-").isdecimal() else float(text)
        return quantity(find_field(axis.name, "")[1], value)
    if axis.name in CHOICES:
        return chosen(axis.name, text)
    if axis.kind is Kind.WORKLOAD and axis.name != "causal":
        return shapes.parse_field(axis.name, text)
    for value in axis.values:
        if str(value).lower() == text.lower():
            return value
    raise UsageError(f"has no value {text!r}; there are {', '.join(map(str, axis.values))}")
