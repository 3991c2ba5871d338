"""A picture of a search: every feasible point over two objectives, and the front of those that no other beats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbosim.errors import UsageError
from turbosim.study.objectives import Objective
from turbosim.study.search import Search, Trial, minimised
from turbosim.units import UNITS
from turbosim.views.style import DARK, LIGHT, MARKERS, MEDIUM, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORDS = {"time_s": "time", "area_mm2": "die area", "cost_usd": "cost", "energy_j": "energy", "power_w": "power"}


def figure(search: Search, title: str, by: str = "kernel") -> Figure:
    """Return the picture: a panel for every pair of objectives, points on the front in colours by the axis *by*.

    Raises UsageError for fewer than two objectives.
    """
    from matplotlib.figure import Figure

    pairs = [(i, j) for i in range(len(search.objectives)) for j in range(i + 1, len(search.objectives))]
    if not pairs:
        raise UsageError("a picture of a front needs two objectives")
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    picture = Figure(figsize=(1.2 + 5.2 * columns, 0.9 + 4 * rows), layout="constrained")
    panels = picture.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(pairs):]:
        panel.set_visible(False)
    for panel, (i, j) in zip(panels, pairs, strict=False):
        _panel(panel, search, i, j, by)
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=9)
    picture.suptitle(title, x=0.02, ha="left", fontsize=11, color=DARK)
    return picture


def _panel(axes: Axes, search: Search, i: int, j: int, by: str) -> None:
    first, second = search.objectives[i], search.objectives[j]
    scales = [_scale(o, [t.values[k] for t in search.trials if t.values]) for k, o in ((i, first), (j, second))]

    def places(trials: list[Trial]) -> tuple[list[float], list[float]]:
        good = [t.values for t in trials if t.values is not None]
        return [v[i] / scales[0][0] for v in good], [v[j] / scales[1][0] for v in good]

    front = search.front
    beaten = [t for t in search.trials if t.values is not None and t not in front]
    axes.scatter(*places(beaten), s=14, color="#C8C8C8", label="beaten by another point", zorder=1)
    if len(search.objectives) == 2:
        ordered = sorted(front, key=lambda t: minimised(t, search.objectives))
        steps = "post" if not second.maximize else "pre"
        axes.step(*places(ordered), where=steps, color=LIGHT, linewidth=1, zorder=2)  # type: ignore[arg-type]
    names = list(dict.fromkeys(str(t.axes.get(by, "")) for t in front))
    for n, name in enumerate(sorted(names)):
        chosen = [t for t in front if str(t.axes.get(by, "")) == name]
        label = f"on the front: {name}" if name else "on the front"
        axes.scatter(*places(chosen), s=42, color=OKABE_ITO[n % len(OKABE_ITO)], marker=MARKERS[n % len(MARKERS)],
                     edgecolors="white", linewidths=0.6, label=label, zorder=3)
    for axis, objective, (_, unit) in ((axes.xaxis, first, scales[0]), (axes.yaxis, second, scales[1])):
        word = WORDS.get(objective.name, objective.name)
        better = "more is better" if objective.maximize else "less is better"
        axis.set_label_text(f"{word} [{unit}], {better}" if unit else f"{word}, {better}")
    axes.tick_params(colors=MEDIUM, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)


def _scale(objective: Objective, values: list[float]) -> tuple[float, str]:
    """Return factor and unit in which *values* are drawn."""
    if objective.unit in ("s", "J"):
        largest = max(map(abs, values), default=1.0)
        unit, factor = next(((u, f) for u, f in UNITS[objective.unit].items() if largest >= f), ("", 0.0))
        if factor:
            return factor, unit
    return 1.0, objective.unit
