"""Errors with the shipped hardware files beside those with others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turbosim.validation.predict import Findings, Rung
from turbosim.validation.score import Score, grouped, score

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADERS = ("set", "GPU", "kernel", "model", "rows", "mean\nshipped", "given", "median\nshipped", "given",
           "p90\nshipped", "given", "bias\nshipped", "given")


def pairs(shipped: Findings, given: Findings, rungs: Sequence[Rung]) -> list[tuple[tuple[str, ...], Score, Score]]:
    """Return set, GPU, kernel and model with the scores of the rows that both predict."""
    both = {o.row for o in shipped.outcomes} & {o.row for o in given.outcomes}
    groups = [grouped([o for o in findings.outcomes if o.row in both]) for findings in (shipped, given)]
    found: list[tuple[tuple[str, ...], Score, Score]] = []
    for group, outcomes in groups[0].items():
        for rung in rungs:
            scores = score(outcomes, rung), score(groups[1][group], rung)
            if scores[0] is not None and scores[1] is not None:
                found.append(((group.dataset, group.gpu, group.kernel, rung), scores[0], scores[1]))
    return found


def to_table(shipped: Findings, given: Findings, rungs: Sequence[Rung]) -> RenderableType:
    """Return errors of the predicted time with the shipped and with the given hardware files."""
    from rich.table import Table

    table = Table(title="Errors with the shipped and with the given hardware files", title_justify="left", box=None,
                  padding=(0, 1), pad_edge=False)
    for number, name in enumerate(HEADERS):
        # A long name goes on in the next line: cut, two of them may look the same.
        table.add_column(name, justify="left" if number < 4 else "right", no_wrap=number >= 4, overflow="fold")
    for names, a, b in pairs(shipped, given, rungs):
        cells = [f"{x:.1%}" for name in ("mean", "median", "p90") for x in (getattr(a, name), getattr(b, name))]
        table.add_row(*names, str(a.count), *cells, f"{a.bias:+.1%}", f"{b.bias:+.1%}")
    return table


def to_json(shipped: Findings, given: Findings, rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    """Return the same as plain values."""
    return [{**dict(zip(("set", "gpu", "kernel", "model"), names, strict=True)), "shipped": dataclasses.asdict(a),
             "given": dataclasses.asdict(b)} for names, a, b in pairs(shipped, given, rungs)]
