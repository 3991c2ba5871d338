"""A picture of ranked configurations: a bar each, coloured by what bounds it, between its settings and its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from turbosim.bottleneck import BUSY, LATENCY, busiest_of
from turbosim.tuning import Trial
from turbosim.views.style import DARK, MEDIUM, OKABE_ITO
from turbosim.views.tune import rate, time_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 30
"""Bars; slower configurations are left out, and the picture says how many."""
_NUMBERS = ("TFLOP/s", "regs", "CTAs/SM", "spills", "busiest unit")
_RULES = {LATENCY: f" (no unit is busy {BUSY:.0%} of the time)"}
LONGEST = 4.0
"""Bars end at this multiple of the best time, so that the good ones can be told apart."""


def figure(trials: Sequence[Trial], title: str, about: Sequence[str] = ()) -> Figure:
    """Return the picture of *trials*, which are ranked, under *title* and lines *about* them.

    Those without a time are counted below.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    timed = [t for t in trials if t.result is not None]
    shown = timed[:MOST]
    picture = Figure(figsize=(10, 1.9 + 0.15 * len(about) + 0.24 * max(3, len(shown))), layout="constrained")
    axes = picture.add_subplot()
    bounds = sorted({t.result.bound for t in timed if t.result})
    colours = dict(zip(bounds, OKABE_ITO * 3, strict=False))
    unit, factor = time_unit(shown)
    times = [t.result.time_s * factor for t in shown if t.result]
    end = min(max(times, default=1.0), LONGEST * min(times, default=1.0)) * 1.04
    for place, (trial, time) in enumerate(zip(shown, times, strict=True)):
        assert trial.result is not None
        axes.barh(place, min(time, end), color=colours[trial.result.bound], height=0.72)
        if time > end:
            axes.annotate("longer ", (end, place), ha="right", va="center", fontsize=8, color="white")
    axes.set_xlim(0, end)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    text: dict[str, Any] = {"fontsize": 8, "family": "monospace", "color": DARK}
    left, header_left = _columns([[str(v) for v in t.settings.values()] for t in shown],
                                 list(shown[0].settings) if shown else [])
    right, header_right = _columns([_numbers(t, factor) for t in shown], [f"time [{unit}]", *_NUMBERS])
    axes.set_yticks(range(len(shown)), left, **text)
    other = axes.secondary_yaxis("right")
    other.set_yticks(range(len(shown)), right, **text)
    for side in (axes, other):
        side.tick_params(axis="y", length=0)
    for x, offset, header, align in ((0, -3.5, header_left, "right"), (1, 3.5, header_right, "left")):
        axes.annotate(header, (x, 1), (offset, 4), xycoords="axes fraction", textcoords="offset points", ha=align,
                      va="bottom", annotation_clip=False, **{**text, "color": MEDIUM})
    axes.set_xlabel(f"predicted time [{unit}]")
    axes.spines[["top", "right"]].set_visible(False)
    other.spines["right"].set_visible(False)
    lines = [part for line in about for part in wrap(line, 130)]
    picture.suptitle("\n".join([title, *lines]), fontsize=9, x=0.01, ha="left")
    if bounds:
        patches = [Patch(color=colours[b], label=f"bound by {b}{_RULES.get(b, '')}") for b in bounds]
        picture.legend(handles=patches, fontsize=8, loc="outside lower center", ncols=len(bounds), frameon=False)
    left_out = [f"{len(timed) - len(shown)} slower ones are not shown"] if len(timed) > len(shown) else []
    left_out += [f"{len(trials) - len(timed)} of {len(trials)} have no time"] if len(trials) > len(timed) else []
    if left_out:
        axes.set_title("; ".join(left_out), fontsize=8, color=MEDIUM, pad=18)
    return picture


def _numbers(trial: Trial, factor: float) -> list[str]:
    result, used = trial.result, trial.resources
    assert result is not None
    assert used is not None
    unit, share = busiest_of(result.utilization)
    return [f"{result.time_s * factor:.2f}", rate(result), str(used.registers),
            str(result.launches[0].ctas_per_sm), f"{used.spill_bytes} B" if used.spill_bytes else "",
            f"{unit} {share:4.0%}"]


def _columns(rows: list[list[str]], names: list[str]) -> tuple[list[str], str]:
    """Return the rows as text in columns, and their header; empty columns are left out."""
    kept = [n for n in range(len(names)) if any(row[n] for row in rows)]
    widths = {n: max(len(names[n]), *(len(row[n]) for row in rows)) for n in kept}

    def line(cells: list[str]) -> str:
        return "  ".join(cells[n].rjust(widths[n]) for n in kept)

    return [line(row) for row in rows], line(names)
