"""A value of a study over one axis: a line for each choice on the others, named at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbosim.errors import UsageError
from turbosim.study.pictures import Picture
from turbosim.views.study_columns import Column, Columns, is_geometric, log_ticks
from turbosim.views.style import DARK, LIGHT, MARKERS, OKABE_ITO

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 12
LINES = 6
"""Most lines of a panel, as many as there are colours that are told apart."""


def figure(columns: Columns, picture: Picture) -> Figure:
    """Return *picture* of the points of *columns*. Raises UsageError for columns that do not go together."""
    from matplotlib.figure import Figure

    frame = columns.frame
    x = columns.column(picture.x or _default_x(columns), "x")
    value = columns.column(picture.value or columns.default_value(), "value", numeric=True)
    others = [name for name in columns.varying() if name != x.name]
    if picture.by:
        columns.check(picture.by, "by")
        others = [picture.by, *(n for n in others if n != picture.by)]
    lines, panels = _share(columns, others)
    keys = _groups(columns, panels)
    if len(keys) > PANELS:
        raise UsageError(f"lines: {len(keys)} panels for {', '.join(panels)}, at most {PANELS}; select points with "
                         "where")
    wide = min(len(keys), 3) if len(keys) != 4 else 2
    high = -(-len(keys) // wide)
    fig = Figure(figsize=((8.2, 4.9) if len(keys) == 1 else (1.4 + 4.6 * wide, 0.9 + 3.5 * high)), layout="constrained")
    grid = list(fig.subplots(high, wide, sharex=True, sharey=True, squeeze=False).flat)
    styles = {text: n for n, text in enumerate(columns.group(lines, dict(zip(lines, key, strict=True)))
                                               for key in _groups(columns, lines))}
    ends = [(axes, _draw(axes, columns, _rows(frame, panels, key), x, value, lines, styles))
            for axes, key in zip(grid, keys, strict=False)]
    for axes, key in zip(grid, keys, strict=False):
        _frame(axes, columns, x, value)
        if panels:
            axes.set_title(columns.group(panels, dict(zip(panels, key, strict=True))), loc="left", fontsize=10)
    for axes in grid[len(keys):]:
        axes.set_visible(False)
    for n, axes in enumerate(grid[:len(keys)]):
        if n % wide == 0:
            axes.set_ylabel(value.label)
        if n + wide >= len(keys):
            axes.set_xlabel(x.label)
            axes.tick_params(labelbottom=True)
    notes = [columns.fixed(frame, [x.name, *lines, *panels]), columns.baseline(value.name)]
    fig.suptitle(columns.study.title + "".join(f"\n{note}" for note in [", ".join(filter(None, notes))] if note),
                 fontsize=11, x=0.01, ha="left")
    name_ends(fig, ends)
    return fig


def _default_x(columns: Columns) -> str:
    """Return the axis of numbers with the most values."""
    names = [n for n in columns.varying() if columns.column(n).numeric] or columns.varying()
    if not names:
        raise UsageError("lines: the points do not differ on any axis; there is nothing to draw a line over")
    return max(names, key=lambda n: columns.frame[n].nunique())


def _share(columns: Columns, others: list[str]) -> tuple[list[str], list[str]]:
    """Return the axes of the lines and those of the panels."""
    lines: list[str] = []
    count = 1
    for name in others:
        size = columns.frame[name].nunique()
        if count * size <= LINES:
            lines.append(name)
            count *= size
    return lines, [n for n in others if n not in lines]


def _groups(columns: Columns, names: list[str]) -> list[tuple[Any, ...]]:
    """Return the combinations of values that occur, in the order of the study."""
    found = set(columns.frame[names].itertuples(index=False, name=None)) if names else {()}
    order = {name: {v: n for n, v in enumerate(columns.order(name))} for name in names}
    return sorted(found, key=lambda key: [order[n][v] for n, v in zip(names, key, strict=True)])


def _rows(frame: pd.DataFrame, names: list[str], key: tuple[Any, ...]) -> pd.DataFrame:
    for name, wanted in zip(names, key, strict=True):
        frame = frame[frame[name] == wanted]
    return frame


def _draw(axes: Axes, columns: Columns, frame: pd.DataFrame, x: Column, value: Column, lines: list[str],
          styles: dict[str, int]) -> list[tuple[float, float, str, str]]:
    """Draw the lines of a panel and return (x, y, name, colour) of their right ends."""
    ends = []
    places = {v: n for n, v in enumerate(columns.order(x.name))}
    for key in _groups(columns, lines):
        rows = _rows(frame, lines, key)
        rows = rows[rows[value.name].notna()]
        if rows.empty:
            continue
        if rows[x.name].duplicated().any():
            raise UsageError(f"lines: several points of a line have the same {x.name}, and no axis tells them apart; "
                             "select points with where")
        rows = rows.sort_values(x.name, key=lambda s: s.map(places))
        text = columns.group(lines, dict(zip(lines, key, strict=True)))
        number = styles[text]
        colour = OKABE_ITO[number % LINES]
        across = x.values(rows) if x.numeric else [places[v] for v in rows[x.name]]
        up = value.values(rows)
        axes.plot(across, up, color=colour, marker=MARKERS[number % len(MARKERS)], markersize=5.5, linewidth=1.6,
                  clip_on=False, zorder=3)
        ends.append((across[-1], up[-1], text, colour))
    return ends


def _frame(axes: Axes, columns: Columns, x: Column, value: Column) -> None:
    """Scale, tick and rule a panel."""
    from matplotlib.ticker import NullLocator

    known = columns.order(x.name)
    if x.numeric:
        numbers = [float(v) * x.factor for v in known]
        if is_geometric(numbers):
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        if len(numbers) <= 12:
            axes.set_xticks(_apart(numbers), [f"{v:g}" for v in _apart(numbers)])
    else:
        axes.set_xticks(range(len(known)), [columns.text(x.name, v, bare=True) for v in known], fontsize=9)
    if value.name in columns.study.metrics and columns.baseline(value.name):
        axes.axhline(1, color=LIGHT, linewidth=0.9, zorder=1)
    ups = [v * value.factor for v in columns.frame[value.name].dropna()]
    if ups and min(ups) > 0 and max(ups) / min(ups) > 30:
        axes.set_yscale("log")
        log_ticks(axes.yaxis, ups)
    elif ups and min(ups) >= 0:
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, axis="y", color="#EBEBEB", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=DARK, labelsize=9)


def _apart(numbers: list[float]) -> list[float]:
    """Return the numbers whose ticks do not run into each other."""
    if not is_geometric(numbers):
        least = (max(numbers) - min(numbers)) / 16 if len(numbers) > 1 else 0.0
        kept = numbers[:1]
        for n in numbers[1:]:
            if n - kept[-1] >= least:
                kept.append(n)
        return kept
    ratio = (max(numbers) / min(numbers)) ** (1 / 16)
    kept = numbers[:1]
    for n in numbers[1:]:
        if n / kept[-1] >= ratio:
            kept.append(n)
    return kept


def name_ends(fig: Figure, ends: list[tuple[Axes, list[tuple[float, float, str, str]]]]) -> None:
    """Write names to the right of the panels, each beside the end of its line, none over another."""
    notes = [(axes, [axes.annotate(
        text, (x, y), xytext=(1.03, y), textcoords=axes.get_yaxis_transform(), fontsize=9, color=_ink(colour),
        va="center", annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": LIGHT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 4})
        for x, y, text, colour in sorted(found, key=lambda end: end[1]) if text]) for axes, found in ends]
    # Heights can be compared when the layout is final, and moving them does not change it.
    fig.draw_without_rendering()
    for axes, row in notes:
        heights = [axes.transData.transform(note.xy)[1] for note in row]
        spread = _spread(heights, 12 * fig.dpi / 72)
        for note, height in zip(row, spread, strict=True):
            note.xyann = (1.03, float(axes.transData.inverted().transform((0, height))[1]))


def _ink(colour: str) -> str:
    """Return the colour for text: pale ones darker, so that they read on white."""
    red, green, blue = (int(colour[i:i + 2], 16) for i in (1, 3, 5))
    if 0.299 * red + 0.587 * green + 0.114 * blue > 140:
        red, green, blue = (int(c * 0.68) for c in (red, green, blue))
    return f"#{red:02X}{green:02X}{blue:02X}"


def _spread(heights: list[float], least: float) -> list[float]:
    """Return *heights*, which rise, moved as little as it takes for them to be *least* apart."""
    # Runs that are too close stand around their mean; runs that meet become one.
    runs: list[tuple[float, int]] = []
    for height in heights:
        middle, size = height, 1
        while runs and middle - runs[-1][0] < least * (size + runs[-1][1]) / 2:
            before, count = runs.pop()
            middle = (middle * size + before * count) / (size + count)
            size += count
        runs.append((middle, size))
    return [middle + least * (n - (size - 1) / 2) for middle, size in runs for n in range(size)]
