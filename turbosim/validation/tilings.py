"""How predictions rank the tilings of one kernel on one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turbosim.validation.predict import Outcome, Rung
from turbosim.validation.row import TILING, Row

LEAST = 3
"""Different tilings that make a group."""


@dataclass(frozen=True)
class TilingRank:
    """Rows that are equal in everything but the tiling they state, their times and clocks."""

    first: Row
    count: int
    """Rows with a prediction."""
    kendall: float
    """Kendall's tau-b between measured and predicted times; 0 where all predictions are equal, which rank nothing."""


@dataclass(frozen=True)
class TilingScore:
    """Kendall's tau over tilings, group by group."""

    ranks: tuple[TilingRank, ...]

    @property
    def mean(self) -> float:
        """Mean over the groups."""
        return sum(r.kendall for r in self.ranks) / len(self.ranks)


def tiling_score(outcomes: Sequence[Outcome], rung: Rung) -> TilingScore | None:
    """Return how *rung* ranks tilings; None without a group of three that it predicts and whose times differ."""
    groups: dict[object, list[Outcome]] = {}
    for outcome in outcomes:
        if rung in outcome.times and outcome.row.tiling:
            groups.setdefault(_alike(outcome.row), []).append(outcome)
    ranks = [_rank(group, rung) for group in groups.values() if len({o.row.tiling for o in group}) >= LEAST
             and len({o.row.time_s for o in group}) > 1]
    return TilingScore(tuple(ranks)) if ranks else None


def _alike(row: Row) -> object:
    other = tuple(sorted((name, value) for name, value in row.options if name not in TILING))
    return (row.dataset, row.gpu, row.kernel, row.version, row.dtype, row.workload, row.stream, row.protocol.l2,
            row.protocol.method, other)


def _rank(group: Sequence[Outcome], rung: Rung) -> TilingRank:
    from scipy.stats import kendalltau

    # Equal predictions may differ in their last digits, where a clock is derived from each row's cycles.
    measured, predicted = [o.row.time_s for o in group], [float(f"{o.times[rung]:.6g}") for o in group]
    tau = float(kendalltau(measured, predicted).statistic) if len(set(predicted)) > 1 else 0.0
    return TilingRank(group[0].row, len(group), tau)
