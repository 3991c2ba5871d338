"""Scores of predictions as tables, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from turbosim.units import show
from turbosim.validation.predict import ANALYTICAL, Findings, Outcome, Rung
from turbosim.validation.roofline import read_write_bytes
from turbosim.validation.score import Score, grouped, score
from turbosim.validation.thresholds import Quantity, Verdict
from turbosim.validation.tilings import TilingScore, tiling_score
from turbosim.views import validation_counters

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

WORST = 8
"""Rows that are named."""
REASONS = 5
"""Reasons that are named for a group and model."""
_HEADERS = ("rows", "mean", "median", "p90", "worst", "bias", "slope", "tau")
_OVER_TILINGS = "tau over tilings"


def _cells(found: Score) -> list[str]:
    def or_none(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    return [str(found.count), *(f"{v:.1%}" for v in (found.mean, found.median, found.p90, found.worst)),
            f"{found.bias:+.1%}", or_none(found.slope), or_none(found.kendall)]


def _tau_of(found: TilingScore | None) -> str:
    return "-" if found is None else f"{found.mean:.2f} of {len(found.ranks)}"


def has_tilings(findings: Findings, rungs: Sequence[Rung]) -> bool:
    """Whether rows have several tilings of one shape, so that Kendall's tau over them is shown."""
    return any(tiling_score(findings.outcomes, rung) is not None for rung in rungs)


def score_lines(findings: Findings, rungs: Sequence[Rung]) -> list[list[str]]:
    """Return set, GPU, kernel, model and the score, a line for each group and model with a prediction.

    With :func:`has_tilings`, the mean of Kendall's tau over tilings comes last, with the number of shapes.

    Groups that only analytical models predict are left out: :func:`unpredicted` has them.
    """
    lines = []
    tilings = has_tilings(findings, rungs)
    for group, outcomes in grouped(findings.outcomes).items():
        found = {rung: s for rung in rungs if (s := score(outcomes, rung)) is not None}
        if set(found) <= set(ANALYTICAL) and not set(rungs) <= set(ANALYTICAL):
            continue
        lines += [[group.dataset, group.gpu, group.kernel, rung, *_cells(s),
                   *([_tau_of(tiling_score(outcomes, rung))] if tilings else [])] for rung, s in found.items()]
    return lines


def unpredicted(findings: Findings, rungs: Sequence[Rung]) -> list[str]:
    """Return, for each group with rows that a model does not predict, how many of them for each of the reasons."""
    lines = []
    for group, outcomes in grouped(findings.outcomes).items():
        for rung in rungs:
            reasons = Counter(o.reasons[rung] for o in outcomes if rung not in o.times)
            start = f"{group.dataset} {group.gpu} {group.kernel}: {rung} predicts"
            lines += [f"{start} {count} of {len(outcomes)} rows not: {reason}"
                      for reason, count in reasons.most_common(REASONS)]
            if more := sum(count for _, count in reasons.most_common()[REASONS:]):
                lines.append(f"{start} {more} of {len(outcomes)} rows not, for {len(reasons) - REASONS} other reasons")
    return lines


def worst_of(findings: Findings, rung: Rung) -> list[Outcome]:
    """Return the rows with the largest errors."""
    return sorted((o for o in findings.outcomes if rung in o.times), key=lambda o: -abs(o.error(rung)))[:WORST]


def verdict_lines(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """Return scope, model, quantity, reached, limit, whether it is met, aim, whether that is met."""
    lines = []
    for v in verdicts:
        for q, limit in v.threshold.limits.items():
            aim, reached = v.threshold.aims.get(q), v.aim_met(q)
            lines.append([v.threshold.scope, v.threshold.model, q, limit_text(q, v.reached[q]), limit_text(q, limit),
                          "MISSED" if q in v.missed else "met", "" if aim is None else limit_text(q, aim, 0),
                          "" if reached is None else "met" if reached else "missed"])
    return lines


def limit_text(quantity: Quantity, value: float, decimals: int = 1) -> str:
    """Return a limit, or what is held against it: an error in per cent, a rank correlation as it is."""
    return f"{value:.2f}" if quantity == "tau" else f"{value:.{decimals}%}"


def _table(title: str, headers: Sequence[str], lines: Sequence[Sequence[str]], texts: int, same: int = 0) -> Table:
    """Return a table whose first *texts* columns are text; of the first *same*, repeated cells are left blank."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(headers):
        # A long name goes on in the next line: cut, two of them may look the same.
        table.add_column(name, justify="left" if number < texts else "right", no_wrap=number >= texts, overflow="fold")
    before: list[str] = []
    for line in lines:
        repeated = line[:same] == before[:same]
        table.add_row(*(["" if repeated and n < same else cell for n, cell in enumerate(line)]))
        before = list(line)
    return table


def to_table(findings: Findings, verdicts: Sequence[Verdict], rungs: Sequence[Rung]) -> RenderableType:
    """Return the scores, the worst rows, what was left out and why, and the thresholds."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    if scores := score_lines(findings, rungs):
        parts.append(_table("Errors of the predicted time (bias: negative is too fast)",
                            ("set", "GPU", "kernel", "model", *_HEADERS,
                             *([_OVER_TILINGS] if has_tilings(findings, rungs) else [])), scores, 4, 3))
    for rung in judged_of(rungs):
        rows = [[o.row.name, show(o.row.time_s, "s", 3), show(o.times[rung], "s", 3), f"{o.error(rung):+.1%}"]
                for o in worst_of(findings, rung)]
        if rows:
            parts += ["", _table(f"Worst rows of {rung}", ("row", "measured", "predicted", "error"), rows, 1)]
    if counted := validation_counters.lines(findings, rungs):
        parts += ["", _table("Errors of predicted counters (bias: negative is too little; pp: percentage points)",
                             validation_counters.HEADERS, counted, 6, 3)]
    if said := validation_counters.notes(findings, rungs):
        parts += ["", *(Text(note) for note in said)]
    if notes := [*unpredicted(findings, rungs), *findings.left_out, *impossible_lines(findings)]:
        parts += [*([""] if parts else []), *(Text(note) for note in notes)]
    if verdicts:
        parts += ["", _table("Thresholds", ("rows", "model", "of", "reached", "limit", "", "aim", ""),
                             verdict_lines(verdicts), 3, 2)]
    return Group(*parts)


def impossible_lines(findings: Findings) -> list[str]:
    """Return a line for each row that was excluded, under their number."""
    if not findings.impossible:
        return []
    return [f"{len(findings.impossible)} rows excluded as impossible:",
            *(f"  {row.where}: {row.name}: {why}" for row, why in findings.impossible)]


def to_rows(findings: Findings, rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    """Return a flat row per measurement, times in seconds; ``MODEL_reason`` says why a model does not predict it."""
    rows = []
    for o in findings.outcomes:
        r = o.row
        reads, writes = read_write_bytes(r)
        row: dict[str, Any] = {"set": r.dataset, "where": r.where, "gpu": r.gpu, "kernel": r.kernel,
                               "version": r.version, "dtype": r.dtype, **r.workload.describe(),
                               "l2": r.protocol.l2, "method": r.protocol.method, "clock_hz": r.protocol.clock,
                               "options": ":".join(f"{n}={v}" for n, v in r.options),
                               "flops": r.workload.flops, "nbytes": reads + writes, "time_s": r.time_s}
        row.pop("model", None)
        for rung in rungs:
            row[f"{rung}_time_s"] = o.times.get(rung)
            row[f"{rung}_error"] = o.error(rung) if rung in o.times else None
            row[f"{rung}_tiling"] = o.choices.get(rung, "")
            row[f"{rung}_reason"] = o.reasons.get(rung, "")
        rows.append(row | validation_counters.columns(o, rungs))
    return rows


def to_csv(findings: Findings, rungs: Sequence[Rung]) -> str:
    """Return :func:`to_rows` as CSV."""
    rows = to_rows(findings, rungs)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n",
                            restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def to_json(findings: Findings, verdicts: Sequence[Verdict], rungs: Sequence[Rung]) -> dict[str, Any]:
    """Return scores, thresholds, what was left out and all rows."""
    groups = []
    for group, outcomes in grouped(findings.outcomes).items():
        scores = {rung: None if (s := score(outcomes, rung)) is None else dataclasses.asdict(s) for rung in rungs}
        groups.append({"set": group.dataset, "gpu": group.gpu, "kernel": group.kernel, "rows": len(outcomes),
                       "scores": scores, "tilings": {rung: _ranks(tiling_score(outcomes, rung)) for rung in rungs}})
    return {
        "groups": groups,
        "thresholds": [{"scope": v.threshold.scope, "model": v.threshold.model, "limits": dict(v.threshold.limits),
                        "aims": dict(v.threshold.aims), "reached": dict(v.reached),
                        "missed": list(v.missed)} for v in verdicts],
        "impossible": [{"where": row.where, "row": row.name, "why": why} for row, why in findings.impossible],
        "unpredicted": unpredicted(findings, rungs),
        "counters": validation_counters.to_json(findings, rungs),
        "left_out": list(findings.left_out),
        "rows": to_rows(findings, rungs),
    }


def _ranks(found: TilingScore | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"kendall": found.mean, "shapes": [{"row": r.first.name, "where": r.first.where, "rows": r.count,
                                               "kendall": r.kendall} for r in found.ranks]}


def judged_of(rungs: Sequence[Rung]) -> Sequence[Rung]:
    """Return the models whose predictions decide what is shown: those that simulate, where there are any."""
    return [rung for rung in rungs if rung not in ANALYTICAL] or rungs


def to_markdown(findings: Findings, rungs: Sequence[Rung]) -> str:
    """Return the scores as a Markdown table: a line per group, columns of mean and 90th percentile of every model.

    A group is there if a model that simulates predicts rows of it, or any does where none simulates; "-" stands for a
    model that has none. The number of rows is the largest of these models, and others are named with theirs. Bias and
    Kendall's tau are those of the last of them that predicts rows of the group.
    """
    judged = judged_of(rungs)
    tilings = has_tilings(findings, judged)
    lines = ["| set | GPU | kernel | rows | " + " | ".join(f"{r} mean | {r} p90" for r in rungs) + " | bias | tau |"
             + (f" {_OVER_TILINGS} |" if tilings else ""),
             "|---|---|---|" + "---:|" * (3 + 2 * len(rungs) + tilings)]
    for group, outcomes in grouped(findings.outcomes).items():
        scores = {rung: score(outcomes, rung) for rung in rungs}
        found = {rung: s for rung in judged if (s := scores[rung]) is not None}
        if not found:
            continue
        cells = [cell for s in scores.values()
                 for cell in (("-", "-") if s is None else (f"{s.mean:.1%}", f"{s.p90:.1%}"))]
        last, own = list(found.items())[-1]
        tau = "-" if own.kendall is None else f"{own.kendall:.2f}"
        lines.append(f"| {group.dataset} | {group.gpu} | {group.kernel} | {_counts(found)} | {' | '.join(cells)} | "
                     f"{own.bias:+.1%} | {tau} |"
                     + (f" {_tau_of(tiling_score(outcomes, last))} |" if tilings else ""))
    return "\n".join(lines) + "\n"


def _counts(found: Mapping[Rung, Score]) -> str:
    """Return the largest number of rows, and that of each model which predicts fewer."""
    most = max(s.count for s in found.values())
    fewer = ", ".join(f"{rung} {s.count}" for rung, s in found.items() if s.count < most)
    return f"{most} ({fewer})" if fewer else str(most)
