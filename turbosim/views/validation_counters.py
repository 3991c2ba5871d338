"""Predicted counters beside measured ones: table, JSON, columns of the CSV, picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turbosim.validation.counter_score import CounterScore, counter_error, counter_score, measured_names
from turbosim.validation.counters import COUNTERS
from turbosim.validation.predict import Findings, Outcome, Rung
from turbosim.validation.score import Group, grouped
from turbosim.views.style import DARK, MARKERS, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADERS = ("set", "GPU", "kernel", "model", "counter", "worst row", "rows", "mean", "bias", "worst")
COLUMNS = 3
"""Panels beside each other."""
SMALL = 1024.0
"""Bytes below which the axes are linear, so that none have a place."""


def scores(findings: Findings, rungs: Sequence[Rung]) -> list[tuple[Group, Rung, str, CounterScore]]:
    """Return the score of every group, model and counter that has one."""
    return [(group, rung, name, found) for group, outcomes in grouped(findings.outcomes).items() for rung in rungs
            for name in measured_names(outcomes) if (found := counter_score(outcomes, rung, name)) is not None]


def error_text(counter: str, value: float, signed: bool = False) -> str:
    """Return an error of *counter*: per cent of the measured bytes, or percentage points of a share."""
    sign = "+" if signed else ""
    return f"{value:{sign}.1%}" if COUNTERS[counter].in_bytes else f"{100 * value:{sign}.1f} pp"


def lines(findings: Findings, rungs: Sequence[Rung]) -> list[list[str]]:
    """Return the cells under :data:`HEADERS`."""
    return [[group.dataset, group.gpu, group.kernel, rung, name, _label(s.worst_row, group), str(s.count),
             error_text(name, s.mean), error_text(name, s.bias, True), error_text(name, s.worst)]
            for group, rung, name, s in scores(findings, rungs)]


def _label(outcome: Outcome, group: Group) -> str:
    """Return the row in words, without what its group says."""
    return outcome.row.name.removeprefix(f"{group.dataset} {group.gpu} {group.kernel} ")


def notes(findings: Findings, rungs: Sequence[Rung]) -> list[str]:
    """Return what is compared with what, which models predict which counters not, and which rows have no error."""
    names = measured_names(findings.outcomes)
    found = [f"{name}: measured is the {COUNTERS[name].measured}; predicted is the {COUNTERS[name].predicted}"
             if COUNTERS[name].predicted != "the same" else f"{name}: {COUNTERS[name].measured}" for name in names]
    for rung in rungs:
        timed = [o for o in findings.outcomes if o.row.counters and rung in o.times]
        if without := [n for n in names if timed and not any(n in o.counters.get(rung, {}) for o in timed)]:
            found.append(f"{rung} predicts no {', '.join(without)}")
    zeros = {n: sum(dict(o.row.counters).get(n) == 0 for o in findings.outcomes) for n in names if COUNTERS[n].in_bytes}
    return found + [f"{name}: {count} rows with 0 measured bytes have no relative error and are left out"
                    for name, count in zeros.items() if count]


def to_json(findings: Findings, rungs: Sequence[Rung]) -> dict[str, Any]:
    """Return the scores and the notes."""
    return {"scores": [{"set": group.dataset, "gpu": group.gpu, "kernel": group.kernel, "model": rung,
                        "counter": name, "errors": "relative" if COUNTERS[name].in_bytes else "difference",
                        "count": s.count, "mean": s.mean, "p90": s.p90, "worst": s.worst, "bias": s.bias,
                        "worst_row": s.worst_row.row.name, "worst_where": s.worst_row.row.where}
                       for group, rung, name, s in scores(findings, rungs)],
            "notes": notes(findings, rungs)}


def columns(outcome: Outcome, rungs: Sequence[Rung]) -> dict[str, float | None]:
    """Return the measured counters of a row, and those predicted with their errors."""
    found: dict[str, float | None] = dict(outcome.row.counters)
    for rung in rungs:
        for name in dict(outcome.row.counters):
            found[f"{rung}_{name}"] = outcome.counters.get(rung, {}).get(name)
            found[f"{rung}_{name}_error"] = counter_error(outcome, rung, name)
    return found


def picture(findings: Findings, rungs: Sequence[Rung]) -> Figure | None:
    """Return predicted over measured counters, a panel for each and a colour for each model; None without counters."""
    from matplotlib.figure import Figure

    points = {name: {rung: found for rung in rungs if (found := [
        (dict(o.row.counters)[name], o.counters[rung][name]) for o in findings.outcomes
        if name in dict(o.row.counters) and name in o.counters.get(rung, {})])}
        for name in measured_names(findings.outcomes)}
    names = [name for name, models in points.items() if models]
    if not names:
        return None
    high = -(-len(names) // COLUMNS)
    drawn = Figure(figsize=(1.0 + 3.6 * min(COLUMNS, len(names)), 0.7 + 3.5 * high), layout="constrained")
    panels = drawn.subplots(high, min(COLUMNS, len(names)), squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        in_bytes = COUNTERS[name].in_bytes
        for number, rung in enumerate(rungs):
            if pairs := points[name].get(rung):
                axes.scatter(*zip(*pairs, strict=True), label=rung, s=14, alpha=0.7, linewidths=0,
                             color=OKABE_ITO[number], marker=MARKERS[number])
        ends = (-0.02, 1.02)
        if in_bytes:
            axes.set_xscale("symlog", linthresh=SMALL)
            axes.set_yscale("symlog", linthresh=SMALL)
            ends = (-SMALL / 4, max(SMALL, *(v for pairs in points[name].values() for p in pairs for v in p)) * 2)
        axes.set(xlim=ends, ylim=ends)
        axes.axline((0, 0), (1, 1), color=DARK, linewidth=0.8)
        unit = " [B]" if in_bytes else ""
        axes.set(title=name, xlabel=f"measured{unit}", ylabel=f"predicted{unit}")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(names):]:
        axes.set_visible(False)
    entries = {label: handle for axes in panels for handle, label in
               zip(*axes.get_legend_handles_labels(), strict=True)}
    drawn.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=len(rungs), fontsize=8,
                 frameon=False)
    return drawn
