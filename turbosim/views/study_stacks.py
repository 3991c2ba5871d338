"""Where the time of points or groups goes: stall reasons stacked to all of it, and busy shares of units.

Units are busy at the same time, so that their shares do not add up to anything: each has a panel of its own.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from turbosim.errors import UsageError
from turbosim.study.pictures import Picture
from turbosim.views.study_columns import Columns
from turbosim.views.style import DARK, MEDIUM, OKABE_ITO, ink_on
from turbosim.views.summary import reason_words
from turbosim.views.timeline_figure import Look, reason_looks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BARS = 48
REASONS = 16
"""Most reasons that are told apart; the rest is one."""
_REST = Look("#FFFFFF", "")


def _bars(columns: Columns, picture: Picture, prefix: str) -> tuple[list[str], pd.DataFrame]:
    """Return the name of every bar and the shares, a row per bar: means over the points of a group."""
    frame = columns.frame
    shares = [c for c in frame.columns if c.startswith(prefix)]
    names = [columns.check(name, "by") for name in picture.by.split(",")] if picture.by else columns.varying()
    if not names:
        return [columns.fixed(frame) or columns.study.title], frame[shares].iloc[:1].reset_index(drop=True)
    order = {name: {v: n for n, v in enumerate(columns.order(name))} for name in names}
    groups = sorted(frame.groupby(names, dropna=False, sort=False),
                    key=lambda item: [order[n].get(v, -1) for n, v in zip(names, item[0], strict=True)])
    if len(groups) > BARS:
        raise UsageError(f"{picture.kind}: {len(groups)} bars, at most {BARS} are legible; group points with by, or "
                         "select some with where")
    texts = [columns.group(names, dict(zip(names, key, strict=True)))
             + (f" (mean of {len(rows)})" if len(rows) > 1 else "") for key, rows in groups]
    import pandas

    return texts, pandas.DataFrame([rows[shares].mean() for _, rows in groups]).reset_index(drop=True)


def stalls(columns: Columns, picture: Picture) -> Figure:
    """Return a bar per point or group, stacked of stall reasons. Raises UsageError for too many bars."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    texts, shares = _bars(columns, picture, "stall.")
    means = shares.mean().sort_values(ascending=False)
    # What nowhere takes a fiftieth is not worth a colour.
    kept = [c for c in means.index if shares[c].max() >= 0.02][:REASONS]
    looks = reason_looks() | {"kernel launch": Look("#444444")}
    fig = Figure(figsize=(11, 2.2 + 0.3 * len(texts)), layout="constrained")
    axes = fig.add_subplot()
    left = [0.0] * len(texts)
    handles = []
    for name in kept:
        look = looks[reason_words(name[6:])]
        widths = [100 * v for v in shares[name]]
        axes.barh(range(len(texts)), widths, left=left, height=0.76, color=look.colour, hatch=look.hatch,
                  edgecolor=MEDIUM if look.hatch else "white", linewidth=0.4)
        handles.append(Patch(facecolor=look.colour, hatch=look.hatch, edgecolor=MEDIUM if look.hatch else "white",
                             linewidth=0.4, label=reason_words(name[6:])))
        for place, width in enumerate(widths):
            if width >= 4.5:
                axes.annotate(f"{width:.0f}", (left[place] + width / 2, place), ha="center", va="center", fontsize=7.5,
                              color="black" if look.hatch else ink_on(look.colour),
                              bbox={"facecolor": look.colour, "linewidth": 0, "pad": 0.8} if look.hatch else None)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    rest = [max(0.0, 100 - v) for v in left]
    if max(rest) > 0.05:
        axes.barh(range(len(texts)), rest, left=left, height=0.76, color=_REST.colour, edgecolor=MEDIUM, linewidth=0.4)
        handles.append(Patch(facecolor=_REST.colour, edgecolor=MEDIUM, linewidth=0.4, label="everything else"))
    axes.set_yticks(range(len(texts)), texts, fontsize=8.5)
    axes.set_ylim(len(texts) - 0.45, -0.55)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of warp-group time [%]")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8.5, frameon=False, handleheight=1.1)
    _title(fig, columns, "where warp-group time goes")
    return fig


def utilisation(columns: Columns, picture: Picture) -> Figure:
    """Return a panel per unit with a bar per point or group. Raises UsageError for too many bars."""
    from matplotlib.figure import Figure

    texts, shares = _bars(columns, picture, "util.")
    units = [c for c in shares.columns if shares[c].max() >= 0.005]
    fig = Figure(figsize=(3.2 + 1.02 * len(units), 1.7 + 0.27 * len(texts)), layout="constrained")
    panels: list[Any] = list(fig.subplots(1, len(units), sharex=True, sharey=True, squeeze=False)[0])
    for n, (axes, name) in enumerate(zip(panels, units, strict=True)):
        values = [100 * v for v in shares[name]]
        axes.barh(range(len(texts)), [100] * len(texts), height=0.74, color="#F0F0F0")
        axes.barh(range(len(texts)), values, height=0.74, color=OKABE_ITO[0])
        for place, value in enumerate(values):
            inside = value > 55
            axes.annotate(f"{value:.0f}", (value, place), xytext=(-3 if inside else 3, 0), textcoords="offset points",
                          ha="right" if inside else "left", va="center", fontsize=7.5,
                          color="white" if inside else DARK)
        axes.set_title({"cvt": "conversion", "smem": "shared mem.", "l2": "L2", "hbm": "device mem.", "sfu": "SFU",
                        "fma": "FP32", "int": "integer"}.get(name[5:], name[5:]), fontsize=9)
        axes.set_xlim(0, 100)
        axes.set_xticks([0, 50, 100])
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        if n == 0:
            axes.set_yticks(range(len(texts)), texts, fontsize=8.5)
            axes.set_ylim(len(texts) - 0.45, -0.55)
    fig.supxlabel("time that the unit is busy [%]", fontsize=10)
    _title(fig, columns, "how busy every unit is")
    return fig


def _title(fig: Figure, columns: Columns, what: str) -> None:
    facts = ", ".join(filter(None, (columns.fixed(columns.frame), what)))
    fig.suptitle("\n".join((columns.study.title, *textwrap.wrap(facts, 110))), fontsize=11, x=0.01, ha="left")
