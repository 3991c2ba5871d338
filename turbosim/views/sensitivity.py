"""What moves a metric, for a terminal and as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from turbosim.hw.override import find_field
from turbosim.study.sensitivity import Elasticity, Local
from turbosim.study.sobol import Global
from turbosim.study.study import Study
from turbosim.units import show
from turbosim.views.study import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST = 5e-4
"""Elasticities below it are zero in the table."""


def to_json(study: Study, found: Local | Global) -> dict[str, Any]:
    """Return the result as plain values, numbers in SI units."""
    head = {"study": study.title, "metric": found.metric.name, "unit": found.metric.unit}
    if isinstance(found, Local):
        return {**head, "method": "elasticity", "hw": found.hw, "at": found.at, "value": found.value,
                "step": found.step, "fields": [dataclasses.asdict(e) for e in found.fields]}
    return {**head, "method": "sobol", "points": found.points, "samples": found.samples, "seed": found.seed,
            "mean": found.mean, "deviation": found.deviation, "axes": [dataclasses.asdict(i) for i in found.axes]}


def place(study: Study, found: Local) -> str:
    """Return the point on one line."""
    kernel = found.at.get("kernel", study.kernel)
    axes = [f"{n} {shown(v, study.axis(n).dimension)}" for n, v in found.at.items() if n not in ("kernel", "hw")]
    value = shown(found.value, found.metric.unit if found.metric.unit in ("s", "J") else "")
    unit = "" if found.metric.unit in ("", "s", "J") else f" {found.metric.unit}"
    return f"{found.metric.name} of {kernel} on {found.hw} is {value}{unit}" + (f" at {', '.join(axes)}" * bool(axes))


def value_of(found: Elasticity) -> str:
    """Return the value of a field with its unit."""
    dimension = find_field(found.field, "")[1].dimension
    if isinstance(found.value, int):
        return f"{found.value:,}"
    return show(float(found.value), dimension) if dimension else f"{found.value:.4g}"


def summary(study: Study, found: Local | Global) -> RenderableType:
    """Return the result as a table, the strongest first."""
    return _local(study, found) if isinstance(found, Local) else _global(found)


def _local(study: Study, found: Local) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:+.3f}" if abs(value) >= LEAST else "0"

    moving = [e for e in found.fields if any(abs(x) >= LEAST for x in (e.central, e.down, e.up) if x is not None)]
    still = [e for e in found.fields if e.central is not None and e not in moving]
    stuck = [e for e in found.fields if e.central is None]
    table = Table(box=None, padding=(0, 2))
    for name in ("field", "value", f"-{1 - 1 / (1 + found.step):.1%}", f"+{found.step:.0%}", "elasticity", ""):
        table.add_column(name, justify="left" if name in ("field", "") else "right")
    for e in moving:
        table.add_row(e.field, value_of(e), cell(e.down), cell(e.up), cell(e.central), Text(e.note))
    parts: list[RenderableType] = [
        Text(place(study, found)),
        Text("elasticity: percent of the metric per percent of the field, below, above and over both; steepest first"),
        Text("how CTAs interleave moves times by some percent: sides that disagree are cliffs or noise, not slopes"),
        "", table]
    if still:
        parts += ["", Text(f"no effect ({len(still)}): {', '.join(e.field for e in still)}")]
    if stuck:
        parts += ["", Text("cannot be moved:"), *(Text(f"  {e.field}: {e.note}") for e in stuck)]
    return Group(*parts)


def _global(found: Global) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2))
    for name in ("axis", "first", "95 %", "total", "95 %"):
        table.add_column(name, justify="left" if name == "axis" else "right")
    for i in found.axes:
        table.add_row(i.axis, f"{i.first:.3f}", f"+-{i.first_conf:.3f}", f"{i.total:.3f}", f"+-{i.total_conf:.3f}")
    unit = found.metric.unit if found.metric.unit in ("s", "J") else ""
    spread = f"{shown(found.mean, unit)} +- {shown(found.deviation, unit)}"
    return Group(Text(f"{found.metric.name} is {spread} over {found.points:,} points (seed {found.seed})"),
                 Text("shares of its variance that an axis causes: alone, and with all others"), "", table)
