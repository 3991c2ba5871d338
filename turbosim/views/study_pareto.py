"""Two objectives of a study, and its Pareto front: the points that no other beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbosim.errors import UsageError
from turbosim.study.objectives import check_comparable
from turbosim.study.pareto import front
from turbosim.study.pictures import Picture
from turbosim.views.study_columns import Column, Columns, is_geometric, log_ticks
from turbosim.views.style import DARK, LIGHT, MARKERS, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 14
"""Most points of the front that are named."""


def figure(columns: Columns, picture: Picture) -> Figure:
    """Return *picture* of the points of *columns*. Raises UsageError for columns without numbers."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = [picture.x or "time_s", picture.y or _second(columns)]
    x, y = (columns.column(name, option, numeric=True) for name, option in zip(names, "xy", strict=True))
    for name in picture.maximize:
        if name not in names:
            raise UsageError(f"maximize: {name} is none of the objectives {names[0]} and {names[1]}")
    check_comparable(columns.study, names, [n for n in columns.varying() if n in columns.study.axis_names])
    frame = columns.frame[columns.frame[[x.name, y.name]].notna().all(axis=1)]
    if frame.empty:
        raise UsageError(f"pareto: no point has both {x.name} and {y.name}")
    signs = [-1 if name in picture.maximize or (not picture.maximize and columns.is_higher_better(name)) else 1
             for name in names]
    xs, ys = x.values(frame), y.values(frame)
    best = front([(signs[0] * a, signs[1] * b) for a, b in zip(xs, ys, strict=True)])
    fig = Figure(figsize=(8.6, 5.6), layout="constrained")
    axes = fig.add_subplot()
    _scales(axes, xs, ys)
    by = picture.by or ("kernel" if frame["kernel"].nunique() > 1 else "hw" if frame["hw"].nunique() > 1 else "")
    looks = {}
    if by:
        columns.check(by, "by")
        looks = {v: (OKABE_ITO[n % 6], MARKERS[n % len(MARKERS)]) for n, v in enumerate(columns.order(by))}
        if len(looks) > len(MARKERS):
            raise UsageError(f"by: {by} has {len(looks)} values, at most {len(MARKERS)} can be told apart")
    chosen = set(best)
    kinds = frame[by].tolist() if by else [None] * len(frame)
    for place, (a, b, kind) in enumerate(zip(xs, ys, kinds, strict=True)):
        colour, marker = looks.get(kind, (OKABE_ITO[0], "o"))
        on = place in chosen
        axes.plot(a, b, marker=marker, color=colour, markersize=8 if on else 5, linestyle="none", zorder=4 if on else 2,
                  alpha=1.0 if on else 0.35, markeredgecolor=DARK if on else colour, markeredgewidth=1.0 if on else 0)
    axes.plot([xs[n] for n in best], [ys[n] for n in best], drawstyle="steps-post" if signs[0] > 0 else "steps-pre",
              color=DARK, linewidth=1.1, zorder=3)
    axes.set_xlabel(_objective(x, signs[0]))
    axes.set_ylabel(_objective(y, signs[1]))
    axes.grid(visible=True, color="#EBEBEB", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Line2D([], [], color=colour, marker=marker, linestyle="none", label=columns.text(by, kind))
               for kind, (colour, marker) in looks.items()]
    handles.append(Line2D([], [], color=DARK, marker="o", markerfacecolor="white", label="Pareto front"))
    fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), fontsize=9, frameon=False)
    facts = ", ".join(filter(None, (columns.fixed(frame), f"{len(best)} of {len(frame):,} points are on the front",
                                    columns.baseline(*names))))
    fig.suptitle(f"{columns.study.title}\n{facts}", fontsize=11, x=0.01, ha="left")
    fig.draw_without_rendering()
    _name(axes, columns, [n for n in columns.varying(frame) if n not in (by, x.name, y.name)], best, xs, ys,
          frame.to_dict("records"))
    return fig


def _second(columns: Columns) -> str:
    """Return the second objective unless told: power, else an axis of hardware."""
    for name in ("power_w", *columns.study.axis_names):
        if name in columns.frame.columns and columns.frame[name].nunique() > 1 and columns.column(name).numeric:
            return name
    raise UsageError("pareto: say which columns are the objectives, with x and y")


def _scales(axes: Axes, xs: list[float], ys: list[float]) -> None:
    for values, axis, scale in ((xs, axes.xaxis, axes.set_xscale), (ys, axes.yaxis, axes.set_yscale)):
        if is_geometric(values):
            scale("log")
            log_ticks(axis, values)


def _objective(column: Column, sign: int) -> str:
    return f"{column.label}, {'lower' if sign > 0 else 'higher'} is better"


def _name(axes: Axes, columns: Columns, names: list[str], best: list[int], xs: list[float], ys: list[float],
          records: list[dict[str, object]]) -> None:
    """Write beside points of the front what they are, evenly chosen among many."""
    from textalloc import allocate

    if not names or not best:
        return
    step = max(1, -(-len(best) // NAMED))
    shown = best[::step]
    texts = [columns.group(names, records[n]) for n in shown]
    allocate(axes, [xs[n] for n in shown], [ys[n] for n in shown], texts, x_scatter=xs, y_scatter=ys, textsize=8,
             margin=0.006, min_distance=0.012, max_distance=0.2, nbr_candidates=300, linecolor=LIGHT, linewidth=0.6,
             textcolor=DARK, avoid_label_lines_overlap=True)
