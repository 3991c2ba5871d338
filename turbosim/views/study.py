"""What a sweep did and found, for a terminal and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbosim.study.journal import NAME
from turbosim.study.results import Rows, without_value
from turbosim.study.study import Study
from turbosim.study.sweep import Report
from turbosim.units import UNITS, show

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 10
"""Points of the table."""


def to_json(study: Study, folder: Path, report: Report) -> dict[str, Any]:
    """Return what a sweep did as plain values; the rows themselves are printed by ``turbosim results``."""
    missing = without_value(Rows(study, folder / NAME)) if study.metrics else {}
    return {"study": study.title, "folder": str(folder), "points": report.points, "dropped": report.dropped,
            "done_before": report.before, "reused": report.reused, "simulated": report.simulated,
            "failed": dict(report.failures), "without_value": missing, "seconds": report.seconds,
            "journal_s": report.journal_s}


def counts(report: Report) -> str:
    """Return the numbers of a sweep on one line."""
    parts = [f"{report.simulated:,} simulated", f"{report.before:,} done before" if report.before else "",
             f"{report.reused:,} reused" if report.reused else "",
             f"{sum(report.failures.values()):,} of all failed" if report.failures else "",
             f"{report.dropped:,} dropped by constraints" if report.dropped else ""]
    return f"{report.points:,} points: {', '.join(filter(None, parts))}; {report.seconds:.1f} s"


def shown(value: Any, dimension: str = "") -> str:
    """Return one value of a table."""
    if value is None or value != value:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        if dimension in UNITS and dimension not in ("", "B"):
            return show(value, dimension)
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return str(value)


def summary(study: Study, folder: Path, report: Report) -> RenderableType:
    """Return what a sweep did, its fastest and slowest points, and why others failed."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Rows(study, folder / NAME)
    done = len(rows.times)
    order = sorted(rows.times, key=lambda point: rows.times[point])
    title = "points, the fastest first"
    if done > SHOWN:
        title, order = f"fastest and slowest of {done:,} points", [*order[:SHOWN // 2], *order[-(SHOWN // 2):]]
    columns = [(a.name, a.dimension) for a in study.axes] + [("time_s", "s"), ("bound", "")]
    columns += [(name, "") for name in study.metrics]
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2))
    for name, _ in columns:
        text = name in ("bound", "kernel", "hw")
        table.add_column("time" if name == "time_s" else name, justify="left" if text else "right", overflow="fold")
    for i, point in enumerate(order):
        record = rows.record(rows.at(point))
        if done > SHOWN and i == SHOWN // 2:
            table.add_row(*("..." for _ in columns))
        table.add_row(*(shown(record.get(name), dimension) for name, dimension in columns))
    parts: list[RenderableType] = [Text(counts(report)), "", table]
    if missing := without_value(rows):
        parts.append("")
        parts += [Text(f"{name} ({study.places.where(('metrics', name))}) has no value at {times:,} of {done:,} points")
                  for name, times in missing.items()]
    if report.failures:
        failed = Table(title="failed", title_justify="left", box=None, padding=(0, 2), show_header=False)
        for reason, times in report.failures.most_common(SHOWN):
            failed.add_row(f"{times:,}", Text(reason))
        parts += ["", failed]
    return Group(*parts)
