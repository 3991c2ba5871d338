"""A value of a study over two axes, a panel for each choice on the others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from turbosim.errors import UsageError
from turbosim.study.pictures import Picture
from turbosim.views.study_columns import Column, Columns
from turbosim.views.style import OKABE_ITO, WAITING, ink_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 12
LETTER = 0.082
"""Width of a letter of a panel's title [inch]."""
WRITTEN = 400
"""Most cells of a panel whose values are written in them."""


def figure(columns: Columns, picture: Picture) -> Figure:
    """Return *picture* of the points of *columns*. Raises UsageError for columns that do not go together."""
    from matplotlib.figure import Figure

    frame = columns.frame
    x, y = _two(columns, picture)
    value = columns.column(picture.value or columns.default_value(), "value")
    panels = [n for n in columns.varying() if n not in (x.name, y.name)]
    keys = list(dict.fromkeys(frame.sort_values(panels)[panels].itertuples(index=False, name=None))) if panels else [()]
    if panels:
        orders = {name: {v: n for n, v in enumerate(columns.order(name))} for name in panels}
        keys.sort(key=lambda key: [orders[n][v] for n, v in zip(panels, key, strict=True)])
    if len(keys) > PANELS:
        raise UsageError(f"heatmap: {len(keys)} panels for {', '.join(panels)}, at most {PANELS}; select points with "
                         "where")
    across, up = columns.order(x.name), columns.order(y.name)
    cell_w, cell_h = max(0.34, min(0.78, 10 / len(across))), max(0.24, min(0.42, 6.5 / len(up)))
    titles = [columns.group(panels, dict(zip(panels, key, strict=True))) if panels else "" for key in keys]
    # The longest part of a title has to fit the width of its panel.
    cell_w = max(cell_w, max(len(part) for title in titles for part in title.split(", ")) * LETTER / len(across))
    titles = [_wrapped(title, cell_w * len(across)) for title in titles]
    wide = min(len(keys), 4, max(1, int(13 / (cell_w * len(across)))))
    high = math.ceil(len(keys) / wide)
    labels = max(len(_tick(columns, y, v)) for v in up) * 0.085
    fig = Figure(figsize=(max(6.2, 1.9 + labels + wide * (cell_w * len(across) + 0.25)),
                          max(3.0, 1.5 + high * (cell_h * len(up) + 0.6 + 0.17 * max(t.count("\n") for t in titles)))),
                 layout="constrained")
    one_label = high > 1 and len(y.label) * LETTER > cell_h * len(up)
    grid = list(fig.subplots(high, wide, sharex=True, sharey=True, squeeze=False).flat)
    cells = [_cells(frame, panels, key, x, y, value) for key in keys]
    shades = _Shades(value, [v for panel in cells for v in panel.values()])
    for n, (axes, panel) in enumerate(zip(grid, cells, strict=False)):
        for (a, b), shown in panel.items():
            _cell(axes, across.index(a), up.index(b), shades.colour(shown),
                  shades.text(shown) if len(across) * len(up) <= WRITTEN else "")
        axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
        if not y.numeric:
            axes.invert_yaxis()
        texts = [_tick(columns, x, v) for v in across]
        turned = max(map(len, texts)) * 0.09 > cell_w
        axes.set_xticks(range(len(across)), texts, rotation=45 if turned else 0, fontsize=9,
                        ha="right" if turned else "center", rotation_mode="anchor")
        axes.set_yticks(range(len(up)), [_tick(columns, y, v) for v in up], fontsize=9)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if panels:
            axes.set_title(titles[n], loc="left", fontsize=10)
        if n % wide == 0 and not one_label:
            axes.set_ylabel(y.label)
        if n + wide >= len(keys):
            axes.set_xlabel(x.label)
            axes.tick_params(labelbottom=True)
    if one_label:
        fig.supylabel(y.label, fontsize=10)
    for axes in grid[len(keys):]:
        axes.set_visible(False)
    notes = filter(None, (columns.fixed(frame, [x.name, y.name, *panels]), columns.baseline(value.name),
                          "grey: no value" if shades.empty else "",
                          "white: no result" if any(len(c) < len(across) * len(up) for c in cells) else ""))
    fig.suptitle("\n".join(filter(None, (columns.study.title, ", ".join(notes)))), fontsize=11, x=0.01, ha="left")
    shades.key(fig, grid[:len(keys)])
    return fig


def _wrapped(title: str, inches: float) -> str:
    """Return *title* in lines of at most *inches*, broken between its parts."""
    lines: list[str] = []
    for part in title.split(", "):
        if lines and (len(lines[-1]) + len(part) + 2) * LETTER <= inches:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return ",\n".join(lines)


def _tick(columns: Columns, column: Column, value: Any) -> str:
    """Return what stands at a row or column; the unit is in the label."""
    if column.numeric and column.dimension:
        return f"{value * column.factor:g}"
    return columns.text(column.name, value, bare=True)


def _two(columns: Columns, picture: Picture) -> tuple[Column, Column]:
    """Return the columns across and up: those asked for, else the two axes with the most values."""
    free = [n for n in columns.varying() if n not in (picture.x, picture.y)]
    free.sort(key=lambda n: (not columns.column(n).numeric, -columns.frame[n].nunique()))
    names = [picture.x or (free.pop(0) if free else "")]
    names.append(picture.y or (free.pop(0) if free else ""))
    if "" in names:
        raise UsageError("heatmap: the points differ on fewer than two axes; draw lines")
    if names[0] == names[1]:
        raise UsageError(f"heatmap: x and y are both {names[0]}; choose two columns")
    return columns.column(names[0], "x"), columns.column(names[1], "y")


def _cells(frame: Any, panels: list[str], key: tuple[Any, ...], x: Column, y: Column, value: Column
           ) -> dict[tuple[Any, Any], Any]:
    """Return the values of a panel by the values across and up; None where the point has none."""
    for name, wanted in zip(panels, key, strict=True):
        frame = frame[frame[name] == wanted]
    if frame.duplicated([x.name, y.name]).any():
        raise UsageError(f"heatmap: several points have the same {x.name} and {y.name}; select points with where")
    return {(a, b): None if v != v or v is None else v * value.factor if value.numeric else str(v)
            for a, b, v in frame[[x.name, y.name, value.name]].itertuples(index=False, name=None)}


class _Shades:
    """Colours of values: cividis for numbers, the palette for words."""

    def __init__(self, value: Column, values: list[Any]) -> None:
        from matplotlib import colormaps
        from matplotlib.colors import LogNorm, Normalize

        self.value = value
        self.empty = None in values
        known = [v for v in values if v is not None]
        if not known:
            raise UsageError(f"heatmap: no point has a value of {value.name}")
        if value.numeric:
            low, high = min(known), max(known)
            self.map = colormaps["cividis"]
            log = low > 0 and high / low > 50
            self.norm = LogNorm(low, high) if log else Normalize(low, high if high > low else low + 1)
            self.digits = 3 if high < 1000 or log else max(3, len(str(int(high))))
        else:
            self.words = sorted(set(known))
            if len(self.words) > len(OKABE_ITO):
                raise UsageError(f"heatmap: {value.name} has {len(self.words)} different values; at most "
                                 f"{len(OKABE_ITO)} can be told apart")

    def colour(self, value: Any) -> str:
        """Return ``#rrggbb``."""
        from matplotlib.colors import to_hex

        if value is None:
            return WAITING
        if self.value.numeric:
            return to_hex(self.map(self.norm(value)))
        return OKABE_ITO[self.words.index(value)]

    def text(self, value: Any) -> str:
        """Return what is written in a cell."""
        if value is None:
            return ""
        return f"{value:.{self.digits}g}" if self.value.numeric else str(value)

    def key(self, fig: Figure, panels: list[Axes]) -> None:
        """Draw the colour bar, or the words."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.patches import Patch

        if self.value.numeric:
            bar = fig.colorbar(ScalarMappable(self.norm, self.map), ax=panels, aspect=28, pad=0.02)
            bar.set_label(self.value.label.replace(" = ", "\n= "))
            bar.outline.set_visible(False)
        else:
            fig.legend(handles=[Patch(color=self.colour(w), label=w) for w in self.words], title=self.value.label,
                       loc="outside lower center", ncols=len(self.words), frameon=False, fontsize=9)


def _cell(axes: Axes, column: int, row: int, colour: str, text: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.0))
    if text:
        axes.annotate(text, (column, row), ha="center", va="center", fontsize=8, color=ink_on(colour))
