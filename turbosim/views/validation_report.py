"""Pictures of predictions against measurements, and a CSV of all rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbosim.validation.predict import Findings, Outcome, Rung
from turbosim.views import validation_counters
from turbosim.views.style import DARK, LIGHT, MARKERS, MEDIUM, OKABE_ITO
from turbosim.views.validation import to_csv, to_markdown
from turbosim.workload import Attention

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BANDS = (0.1, 0.25)
"""Errors between which the bands of the scatter lie."""
CLIPPED = 1.5
"""Errors are drawn from -1 to this; larger ones at it."""


def write_report(folder: Path, findings: Findings, rungs: Sequence[Rung]) -> list[Path]:
    """Write scatter, error_by_shape, residuals and counters as PNG and SVG, rows.csv and table.md; return their paths.

    Without counters there is no picture of them.
    """
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in (("scatter", scatter(findings, rungs)), ("error_by_shape", by_shape(findings, rungs[-1])),
                          ("residuals", residuals(findings, rungs)),
                          ("counters", validation_counters.picture(findings, rungs))):
        if picture is None:
            continue
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            with rc_context({"svg.fonttype": "none", "svg.hashsalt": "turbosim"}):
                picture.savefig(path, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            written.append(path)
    for name, text in (("rows.csv", to_csv(findings, rungs)), ("table.md", to_markdown(findings, rungs))):
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def _by_set(findings: Findings, rung: Rung) -> dict[str, list[Outcome]]:
    sets: dict[str, list[Outcome]] = {}
    for outcome in findings.outcomes:
        if rung in outcome.times:
            sets.setdefault(f"{outcome.row.dataset}, {outcome.row.gpu}", []).append(outcome)
    return sets


def _numbers(findings: Findings) -> dict[str, int]:
    """Return a number for each set and GPU, the same in every panel."""
    names = dict.fromkeys(f"{o.row.dataset}, {o.row.gpu}" for o in findings.outcomes)
    return {name: number for number, name in enumerate(names)}


def _look(number: int) -> dict[str, Any]:
    return {"color": OKABE_ITO[number % len(OKABE_ITO)], "marker": MARKERS[number % len(MARKERS)], "s": 12,
            "alpha": 0.6, "linewidths": 0}


def _columns(rungs: Sequence[Rung], height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    picture = Figure(figsize=(1.2 + 4.6 * len(rungs), height), layout="constrained")
    return picture, list(picture.subplots(1, len(rungs), sharex=True, sharey=True, squeeze=False)[0])


def scatter(findings: Findings, rungs: Sequence[Rung]) -> Figure:
    """Return predicted over measured times, both logarithmic, a panel per model, with bands of 10 and 25 %."""
    picture, panels = _columns(rungs, 6.2)
    numbers = _numbers(findings)
    for axes, rung in zip(panels, rungs, strict=True):
        sets = _by_set(findings, rung)
        for name, outcomes in sets.items():
            axes.scatter([o.row.time_s for o in outcomes], [o.times[rung] for o in outcomes], label=name,
                         **_look(numbers[name]))
        axes.set(xscale="log", yscale="log", title=rung, xlabel="measured time [s]")
        if sets:
            ends = [f(o.row.time_s for some in sets.values() for o in some) for f in (min, max)]
            axes.plot(ends, ends, color=DARK, linewidth=0.8)
            for band, shade in zip(BANDS, (0.28, 0.14), strict=True):
                axes.fill_between(ends, [e * (1 - band) for e in ends], [e * (1 + band) for e in ends], color=LIGHT,
                                  alpha=shade, linewidth=0, label=f"within {band:.0%}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("predicted time [s]")
    _legend(picture, panels)
    return picture


def by_shape(findings: Findings, rung: Rung) -> Figure:
    """Return the error of *rung* over the keys per sequence and over the batch, of attention."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10.4, 5), layout="constrained")
    panels = list(picture.subplots(1, 2, sharey=True))
    numbers = _numbers(findings)
    ways: tuple[tuple[str, Callable[[Attention], int]], ...] = (
        ("keys per sequence", lambda w: w.seq_k), ("sequences in the batch", lambda w: w.batch))
    for axes, (label, size) in zip(panels, ways, strict=True):
        for name, outcomes in _by_set(findings, rung).items():
            points = [(size(o.row.workload), min(o.error(rung), CLIPPED)) for o in outcomes
                      if isinstance(o.row.workload, Attention)]
            if points:
                axes.scatter(*zip(*points, strict=True), label=name, **_look(numbers[name]))
        axes.axhline(0, color=DARK, linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:+.0%}")
    panels[0].set_ylabel("error of the predicted time, negative is too fast")
    picture.suptitle(f"Attention, {rung}" + _clipped(findings, [rung]), fontsize=11)
    _legend(picture, panels)
    return picture


def residuals(findings: Findings, rungs: Sequence[Rung]) -> Figure:
    """Return a histogram of the errors of each model, the sets stacked."""
    picture, panels = _columns(rungs, 4.6)
    numbers = _numbers(findings)
    bins = [-1 + 0.05 * n for n in range(math.ceil((1 + CLIPPED) / 0.05) + 1)]
    for axes, rung in zip(panels, rungs, strict=True):
        sets = _by_set(findings, rung)
        if sets:
            axes.hist([[min(o.error(rung), CLIPPED) for o in some] for some in sets.values()], bins=bins, stacked=True,
                      label=list(sets), color=[_look(numbers[name])["color"] for name in sets])
        axes.axvline(0, color=DARK, linewidth=0.8)
        axes.set(title=rung, xlabel="error of the predicted time")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:+.0%}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("rows")
    if note := _clipped(findings, rungs):
        picture.suptitle(note.removeprefix("; "), fontsize=8, color=MEDIUM)
    _legend(picture, panels)
    return picture


def _clipped(findings: Findings, rungs: Sequence[Rung]) -> str:
    over = sum(o.error(r) > CLIPPED for o in findings.outcomes for r in rungs if r in o.times)
    return f"; {over} errors above {CLIPPED:+.0%} are drawn there" if over else ""


def _legend(picture: Figure, panels: Sequence[Axes]) -> None:
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if entries:
        picture.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=2, fontsize=8,
                       frameon=False)
