"""How far predictions are from measurements: errors of time, relative to the measured one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from turbosim.validation.predict import Outcome, Rung


@dataclass(frozen=True, order=True)
class Group:
    """Rows that are scored together."""

    dataset: str
    gpu: str
    kernel: str


@dataclass(frozen=True)
class Score:
    """Errors of one rung on one group; shares of the measured time."""

    count: int
    """Rows with a prediction."""
    mean: float
    """Of the absolute error, as are median, p90 and worst."""
    median: float
    p90: float
    worst: float
    bias: float
    """Mean error; negative is too fast."""
    slope: float | None
    """Of log(predicted) over log(measured), least squares: below 1, long runs are predicted too short against short
    ones. None for fewer than three rows or equal times."""
    kendall: float | None
    """Kendall's tau-b between measured and predicted times: 1 ranks all pairs as measured. None as for slope."""


def grouped(outcomes: Sequence[Outcome]) -> dict[Group, list[Outcome]]:
    """Return *outcomes* by group, in the order of the rows."""
    groups: dict[Group, list[Outcome]] = {}
    for outcome in outcomes:
        row = outcome.row
        groups.setdefault(Group(row.dataset, row.gpu, row.kernel), []).append(outcome)
    return groups


def score(outcomes: Sequence[Outcome], rung: Rung) -> Score | None:
    """Return the errors of *rung*; None where it predicts none of the rows."""
    pairs = [(o.row.time_s, o.times[rung]) for o in outcomes if rung in o.times]
    return score_of(pairs) if pairs else None


def score_of(pairs: Sequence[tuple[float, float]]) -> Score:
    """Return the errors of (measured, predicted) times; there is at least one."""
    import numpy as np

    errors = np.array([p / m - 1 for m, p in pairs])
    size = np.abs(errors)
    slope, kendall = _trend(pairs)
    return Score(len(pairs), float(size.mean()), float(np.median(size)), float(np.percentile(size, 90)),
                 float(size.max()), float(errors.mean()), slope, kendall)


def _trend(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    import numpy as np
    from scipy.stats import kendalltau

    measured, predicted = np.log(np.array(pairs)).T
    if len(pairs) < 3 or math.isclose(np.ptp(measured), 0, abs_tol=1e-12) or np.ptp(predicted) == 0:
        return None, None
    return float(np.polyfit(measured, predicted, 1)[0]), float(kendalltau(measured, predicted).statistic)
