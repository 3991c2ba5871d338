"""A calibration as tables, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turbosim.calibration.calibrate import Calibration, Curve
from turbosim.calibration.fit import Fitted
from turbosim.units import show

if TYPE_CHECKING:
    from rich.console import RenderableType

PARAMETER_HEADERS = ("parameter", "before", "after", "95 % interval", "rows", "")
CURVE_HEADERS = ("micro-benchmark", "rows", "fitted", "median before", "after", "p90 before", "after")
CLOSE = 0.5
"""Correlation from which on a pair is named."""


def parameter_lines(parameters: Sequence[Fitted]) -> list[list[str]]:
    """Return the cells of :data:`PARAMETER_HEADERS` for each parameter; the last is why it keeps its value."""
    lines = []
    for f in parameters:
        def shown(value: float | None, of: Fitted = f) -> str:
            return "" if value is None else show(value, of.parameter.dimension)

        interval = f"{shown(f.low)} to {shown(f.high)}" if f.determined else ""
        lines.append([f.parameter.path, shown(f.before), shown(f.after) if f.determined else "kept", interval,
                      str(f.rows) if f.determined else "", f.reason])
    return lines


def curve_lines(curves: Sequence[Curve]) -> list[list[str]]:
    """Return the cells of :data:`CURVE_HEADERS` for each curve."""
    import numpy as np

    lines = []
    for curve in curves:
        before, after = (np.abs(np.array(errors)) for errors in (curve.before, curve.after))
        lines.append([curve.name, str(len(curve.rows)), "yes" if curve.fitted else "no",
                      *(f"{f(x):.1%}" for f in (np.median, lambda x: np.percentile(x, 90)) for x in (before, after))])
    return lines


def notes(found: Calibration) -> list[str]:
    """Return what else there is to know: conditioning, correlated pairs, rows that were not used."""
    lines = []
    if found.singular_values:
        lines.append("singular values of the scaled Jacobian: " + ", ".join(f"{s:.2f}" for s in found.singular_values))
    pairs = [f"{a} and {b} ({c:+.2f})" for a, b, c in found.correlations if abs(c) >= CLOSE]
    if pairs:
        lines.append("errors go together: " + ", ".join(pairs))
    for file in found.files:
        if file.skipped:
            reasons = "; ".join(f"{count} {reason}" for reason, count in file.skipped.items())
            lines.append(f"{file.path.name}: rows not used: {reasons}")
    return lines


def to_table(found: Calibration) -> RenderableType:
    """Return the parameters, the errors of the curves, and notes."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for title, headers, lines, words in (
            (f"Parameters of {found.gpu.name}, fitted on rows of {found.label}", PARAMETER_HEADERS,
             parameter_lines(found.parameters), ("parameter", "")),
            ("Absolute errors of the predicted times", CURVE_HEADERS, curve_lines(found.curves), ("micro-benchmark",))):
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
        for name in headers:
            table.add_column(name, justify="left" if name in words else "right", no_wrap=bool(name))
        for line in lines:
            table.add_row(*line)
        parts += [table, ""]
    return Group(*parts, *(Text(note) for note in notes(found)))


def to_markdown(found: Calibration) -> list[str]:
    """Return the lines of both tables and the notes."""
    lines: list[str] = []
    for headers, cells in ((PARAMETER_HEADERS, parameter_lines(found.parameters)),
                           (CURVE_HEADERS, curve_lines(found.curves))):
        lines += [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
        lines += [f"| {' | '.join(line)} |" for line in cells]
        lines.append("")
    return [*lines, *(f"- {note}" for note in notes(found))]


def to_json(found: Calibration) -> dict[str, Any]:
    """Return everything as plain values, in SI units."""
    return {
        "hw": found.gpu.name, "gpu": found.label,
        "parameters": [{"path": f.parameter.path, "dimension": f.parameter.dimension, "before": f.before,
                        "after": f.after, "interval": None if f.low is None else [f.low, f.high], "rows": f.rows,
                        "on": list(f.curves), "determined": f.determined, "reason": f.reason or None}
                       for f in found.parameters],
        "singular_values": list(found.singular_values),
        "correlations": [{"a": a, "b": b, "value": c} for a, b, c in found.correlations],
        "curves": [{"name": c.name, "fitted": c.fitted, "rows": [
            {"where": r.where, "x": r.x, "clock_hz": r.clock, "measured_s": r.measured, "error_before": b,
             "error_after": a} for r, b, a in zip(c.rows, c.before, c.after, strict=True)]} for c in found.curves],
        "files": [{"file": str(f.path), "sha256": f.sha256, "used": list(found.used()[f.path]),
                   "not_used": dict(f.skipped)} for f in found.files],
    }
