"""How far predicted counters are from measured ones: bytes relative to those, shares by their difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turbosim.validation.counters import COUNTERS
from turbosim.validation.predict import Outcome, Rung


@dataclass(frozen=True)
class CounterScore:
    """Errors of one counter by one rung: shares of the measured bytes, or differences of shares."""

    count: int
    """Rows that have it and for which it is predicted."""
    mean: float
    """Of the absolute error, as are p90 and worst."""
    p90: float
    worst: float
    bias: float
    """Mean error; negative is too little."""
    worst_row: Outcome


def counter_error(outcome: Outcome, rung: Rung, counter: str) -> float | None:
    """Return the error of *counter*; None where it is not measured, not predicted, or of bytes of which there are
    none."""
    measured = dict(outcome.row.counters).get(counter)
    predicted = outcome.counters.get(rung, {}).get(counter)
    if measured is None or predicted is None:
        return None
    if not COUNTERS[counter].in_bytes:
        return predicted - measured
    return predicted / measured - 1 if measured else None


def counter_score(outcomes: Sequence[Outcome], rung: Rung, counter: str) -> CounterScore | None:
    """Return the errors of *counter* by *rung*; None where no row has one."""
    import numpy as np

    pairs = [(e, o) for o in outcomes if (e := counter_error(o, rung, counter)) is not None]
    if not pairs:
        return None
    errors = np.array([e for e, _ in pairs])
    size = np.abs(errors)
    return CounterScore(len(pairs), float(size.mean()), float(np.percentile(size, 90)), float(size.max()),
                        float(errors.mean()), pairs[int(size.argmax())][1])


def measured_names(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the counters that some of *outcomes* have measured, in the order of the columns."""
    there = {name for o in outcomes for name, _ in o.row.counters}
    return [name for name in COUNTERS if name in there]
