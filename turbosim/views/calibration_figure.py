"""Micro-benchmarks, measured and predicted before and after a calibration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from turbosim.calibration.calibrate import Calibration, Curve
from turbosim.views.style import DARK, MEDIUM, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
FEWEST = 5
"""Points of a curve that is drawn."""


def figure(found: Calibration) -> Figure:
    """Return a panel for each micro-benchmark with some rows; crosses mark rows that the fit did not use."""
    from matplotlib.figure import Figure

    names = [n for n in dict.fromkeys(c.name for c in found.curves)
             if sum(len(c.rows) for c in found.curves if c.name == n) >= FEWEST]
    rows = max(1, math.ceil(len(names) / COLUMNS))
    picture = Figure(figsize=(4.1 * COLUMNS, 3.0 * rows + 0.5), layout="constrained")
    panels = picture.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, name, [c for c in found.curves if c.name == name])
    for axes in panels[len(names):]:
        axes.set_visible(False)
    handles, labels = _legend(panels[:len(names)])
    picture.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    picture.suptitle(f"{found.gpu.title}: {found.label}", fontsize=11)
    return picture


def _legend(panels: Any) -> tuple[list[Any], list[str]]:
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    return list(entries.values()), list(entries)


def _panel(axes: Axes, name: str, curves: list[Curve]) -> None:
    bandwidth = curves[0].rows[0].benchmark.per_byte
    scale = 1.0 if bandwidth else 1e6 if name.startswith(("launch", "empty")) else 1e9
    points = sorted((r.x, 1e-9 / r.measured if bandwidth else r.measured * scale, b, a, c.fitted)
                    for c in curves for r, b, a in zip(c.rows, c.before, c.after, strict=True))
    for fitted, marker, label in ((True, "o", "measured, fitted"), (False, "x", "measured, not fitted")):
        some = [(x, y) for x, y, _, _, used in points if used is fitted]
        if some:
            axes.scatter([x for x, _ in some], [y for _, y in some], s=12, color=DARK if fitted else MEDIUM,
                         marker=marker, linewidths=0.8, label=label, zorder=3)
    for column, colour, style, label in ((2, OKABE_ITO[1], "--", "predicted before"),
                                         (3, OKABE_ITO[0], "-", "predicted after")):
        predicted = [p[1] / (1 + p[column]) if bandwidth else p[1] * (1 + p[column]) for p in points]
        axes.plot([p[0] for p in points], predicted, color=colour, linestyle=style, linewidth=1.2,
                  label=label)
    threads = name.startswith("stream")
    axes.set_xlabel("threads per SM" if threads else "CTAs" if name.startswith("empty") else "bytes")
    if not threads:
        axes.set_xscale("log")
    if scale == 1e6:
        axes.set_yscale("log")
    unit = "GB/s" if bandwidth else "us" if scale == 1e6 else "ns"
    axes.set(title=name, ylabel=unit)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
