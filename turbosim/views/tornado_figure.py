"""A tornado: what moves a metric, a bar per field or axis, the strongest on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbosim.study.sensitivity import Local
from turbosim.study.sobol import Global
from turbosim.views.sensitivity import LEAST, value_of
from turbosim.views.style import DARK, MEDIUM, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 15
"""Bars."""


def figure(found: Local | Global, title: str) -> Figure:
    """Return the picture of *found*."""
    return _local(found, title) if isinstance(found, Local) else _global(found, title)


def _begun(rows: int, title: str) -> Figure:
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8.5, 1.7 + 0.34 * max(2, rows)), layout="constrained")
    picture.suptitle(title, x=0.02, ha="left", fontsize=11, color=DARK)
    return picture


def _local(found: Local, title: str) -> Figure:
    moving = [e for e in found.fields if any(abs(x) >= LEAST for x in (e.central, e.down, e.up) if x is not None)]
    bars = moving[:MOST]
    picture = _begun(len(bars), title)
    axes = picture.add_subplot()
    for n, e in enumerate(bars):
        for offset, value, colour in ((-0.19, e.down, OKABE_ITO[0]), (0.19, e.up, OKABE_ITO[4])):
            if value is not None:
                axes.barh(n + offset, value, height=0.34, color=colour)
    axes.set_yticks(range(len(bars)), [f"{e.field} ({value_of(e)})" for e in bars], fontsize=9, color=DARK)
    axes.set_ylim(max(len(bars), 1) - 0.4, -0.6)
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.set_xlabel(f"elasticity of {found.metric.name}: % of it per % of the field [-]")
    from matplotlib.patches import Patch

    handles = [Patch(color=OKABE_ITO[0], label=f"field over {1 + found.step:g}"),
               Patch(color=OKABE_ITO[4], label=f"field times {1 + found.step:g}")]
    picture.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    if len(moving) > len(bars):
        axes.set_title(f"{len(moving) - len(bars)} weaker fields are not shown", fontsize=8, color=MEDIUM, loc="right")
    _finish(axes)
    return picture


def _global(found: Global, title: str) -> Figure:
    bars = found.axes[:MOST]
    picture = _begun(len(bars), title)
    axes = picture.add_subplot()
    for offset, colour, label, values in (
            (-0.19, OKABE_ITO[0], "alone", [(i.first, i.first_conf) for i in bars]),
            (0.19, OKABE_ITO[4], "with all others", [(i.total, i.total_conf) for i in bars])):
        axes.barh([n + offset for n in range(len(bars))], [v for v, _ in values], height=0.34, color=colour,
                  label=label, xerr=[c for _, c in values], error_kw={"elinewidth": 1, "ecolor": DARK, "capsize": 2})
    axes.set_yticks(range(len(bars)), [i.axis for i in bars], fontsize=9, color=DARK)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.set_xlabel(f"share of the variance of {found.metric.name} that the axis causes, with 95 % intervals [-]")
    picture.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    _finish(axes)
    return picture


def _finish(axes: object) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#EEEEEE")
    axes.set_axisbelow(True)
