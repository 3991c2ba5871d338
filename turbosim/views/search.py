"""What a search found: the points that no other beats, as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from turbosim.study.search import Search, Trial
from turbosim.study.study import Study
from turbosim.units import show
from turbosim.views.study import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST = 40
"""Rows of the table."""


def to_json(study: Study, search: Search) -> dict[str, Any]:
    """Return the search as plain values, numbers in SI units."""
    return {"study": study.title, "trials": len(search.trials), "exhausted": search.exhausted,
            "simulated": search.simulated, "done_before": search.before, "reused": search.reused,
            "infeasible": dict(search.infeasible),
            "objectives": [{"name": o.name, "unit": o.unit, "sense": "maximize" if o.maximize else "minimize"}
                           for o in search.objectives],
            "front": [_row(search, t) for t in search.front]}


def _row(search: Search, trial: Trial) -> dict[str, Any]:
    values = dict(zip((o.name for o in search.objectives), trial.values or (), strict=True))
    return {"trial": trial.number, **trial.axes, **values}


def to_csv(search: Search) -> bytes:
    """Return the front as CSV, numbers in SI units."""
    rows = [_row(search, t) for t in search.front]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["trial"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def counts(search: Search) -> str:
    """Return the numbers of a search on one line."""
    infeasible = sum(search.infeasible.values())
    parts = [f"{search.simulated:,} simulated", f"{search.before:,} done before" if search.before else "",
             f"{search.reused:,} reused" if search.reused else "", f"{infeasible:,} infeasible" if infeasible else ""]
    every = ", all there are" if search.exhausted else ""
    return f"{len(search.trials):,} points{every}: {', '.join(filter(None, parts))}"


def summary(study: Study, search: Search) -> RenderableType:
    """Return the front as a table, and why points are infeasible."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    front = search.front
    senses = " and ".join(f"{'large' if o.maximize else 'small'} {o.name}" for o in search.objectives)
    table = Table(title=f"{len(front)} points that no other beats: {senses}", title_justify="left", box=None,
                  padding=(0, 2))
    for axis in study.axes:
        table.add_column(axis.name, justify="left" if axis.name in ("hw", "kernel") else "right", overflow="fold")
    for o in search.objectives:
        table.add_column(o.name if o.unit in ("", "s", "J") else f"{o.name} [{o.unit}]".replace("[", "\\["),
                         justify="right")
    for trial in front[:MOST]:
        assert trial.values is not None
        cells = [show(float(trial.axes[a.name]), "B") if a.dimension == "B" else shown(trial.axes[a.name], a.dimension)
                 for a in study.axes]
        cells += [shown(v, o.unit if o.unit in ("s", "J") else "")
                  for o, v in zip(search.objectives, trial.values, strict=True)]
        table.add_row(*map(Text, cells))
    parts: list[RenderableType] = [Text(counts(search)), "", table]
    if len(front) > MOST:
        parts.append(Text(f"  and {len(front) - MOST} more; --json and --csv have all"))
    if search.infeasible:
        told = Table(title="infeasible", title_justify="left", box=None, padding=(0, 2), show_header=False)
        for reason, times in search.infeasible.most_common(10):
            told.add_row(f"{times:,}", Text(reason))
        parts += ["", told]
    return Group(*parts)
