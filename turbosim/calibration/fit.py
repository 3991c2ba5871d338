"""Robust least squares on relative errors, with what the rows determine and how well.

Times are compared as logarithms under a soft-L1 loss, so that rows the model misses do not pull far. A parameter that
moves no row, that only moves them as others do, or whose interval is wide keeps its value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbosim.calibration.capacity import Capacity, on_step, scan
from turbosim.calibration.model import Model
from turbosim.calibration.parameters import PARAMETERS, SHARED_FRACTION, YIELDING, Parameter, Values, ordered
from turbosim.calibration.rows import MicroRow
from turbosim.hw.spec import Gpu

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SCALE = 0.02
"""Relative error from which on a row's pull grows no more."""
INFLUENCE = 0.05
"""A row depends on a parameter if 1 % of it moves the row by more than this share of 1 %."""
COLLINEAR = 0.03
"""Smallest singular value of the Jacobian, its columns scaled to length 1, over the largest."""
WIDEST = 0.25
"""Half of a 95 % interval over the value, beyond which a parameter is not determined."""
FRESH = 0.03
"""Relative change of a parameter up to which derivatives serve on."""
NEEDED = 0.95
"""Share of the cost at which a parameter that the hardware file leaves out is kept."""
ROUNDS = 2
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Fitted:
    """What became of a parameter. A parameter that the rows do not determine keeps its value, and *reason* says why."""

    parameter: Parameter
    before: float
    after: float
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval."""
    rows: int = 0
    """Rows that depend on it."""
    curves: tuple[str, ...] = ()
    reason: str = ""

    @property
    def determined(self) -> bool:
        """Whether the rows determine it."""
        return not self.reason


@dataclass(frozen=True)
class Solution:
    """The fitted parameters, and what says whether they could be."""

    parameters: tuple[Fitted, ...]
    singular_values: tuple[float, ...] = ()
    """Of the Jacobian over the determined parameters, its columns scaled to length 1."""
    correlations: tuple[tuple[str, str, float], ...] = ()
    """Pairs of determined parameters whose errors go together, strongest first."""

    @property
    def values(self) -> Values:
        """Values of the determined parameters."""
        return {f.parameter.path: f.after for f in self.parameters if f.determined}


def fit(gpu: Gpu, rows: Sequence[MicroRow], tell: Callable[[], None] | None = None) -> Solution:
    """Fit the parameters of *gpu* on *rows*, of which there is at least one."""
    everything = Model(gpu, rows, tell)
    before = {p.path: p.value(gpu) for p in (*PARAMETERS, SHARED_FRACTION)}
    fixed: dict[str, str] = {}
    values = dict(before)
    for p in PARAMETERS:
        values[p.path] = min(max(values[p.path], p.low), p.high) if values[p.path] >= p.low else max(p.start, p.low)
    if gpu.l2.partitions == 1:
        # It follows the other latency.
        values.pop("l2.latency_near")
    share = scan(everything, values)
    for _ in range(ROUNDS):
        values[SHARED_FRACTION.path] = share.value
        model = Model(gpu, [r for r in rows if not on_step(r, gpu, share)], tell)
        _descend_with_need(model, values, fixed, before)
        again = scan(everything, values)
        if again.value == share.value:
            break
        share = again
    return _report(model, values, fixed, before, share)


def _free(values: Values, fixed: dict[str, str]) -> list[Parameter]:
    return [p for p in PARAMETERS if p.path in values and p.path not in fixed]


def _descend_with_need(model: Model, values: Values, fixed: dict[str, str], before: Values) -> None:
    """Move *values* to the least cost, with parameters that the hardware file leaves out only where that lowers it."""
    absent = {p.path: p for p in _free(values, fixed) if before[p.path] < p.low and p.start}
    plain = {**values, **{path: before[path] for path in absent}}
    plain_fixed = {**fixed, **dict.fromkeys(absent, f"lowers the cost by less than {1 - NEEDED:.0%}")}
    _descend(model, values, fixed, before)
    small = [path for path, p in absent.items() if path not in fixed and values[path] < p.start]
    if small:
        _descend(model, plain, plain_fixed, before)
        if _cost(model, values) > NEEDED * _cost(model, plain):
            values.update(plain)
            fixed.clear()
            fixed.update(plain_fixed)


def _cost(model: Model, values: Values) -> float:
    """Return the sum of the robust loss over the rows."""
    import numpy as np

    error = model.seconds(values) - model.measured()
    return float((2 * SCALE**2 * (np.sqrt(1 + (error / SCALE) ** 2) - 1)).sum())


def _descend(model: Model, values: Values, fixed: dict[str, str], before: Values) -> None:
    """Move *values* to the least cost, and add what the rows do not determine to *fixed*."""
    model.learn(values, [p.path for p in _free(values, fixed)])
    moved = False
    while free := _free(values, fixed):
        jacobian = model.jacobian(values, [p.path for p in free])
        problems = _without_influence(jacobian, free) or _collinear(jacobian, free)
        if moved and not problems:
            problems = _at_bound(values, free) or _wide(model, values, jacobian, free)
        if problems:
            fixed |= problems
            values.update({path: before[path] for path in problems})
        elif moved:
            return
        else:
            _least_squares(model, values, free)
        moved = not problems


def _least_squares(model: Model, values: Values, free: Sequence[Parameter]) -> None:
    """Move *values* of the *free* parameters to the least cost."""
    import numpy as np
    from scipy.optimize import least_squares

    names = [p.path for p in free]
    measured = model.measured()

    def at(x: Array) -> Values:
        return {**values, **dict(zip(names, np.exp(x).tolist(), strict=True))}

    known: list[tuple[Array, Array]] = []

    def slopes(x: Array) -> Array:
        if not known or abs(known[-1][0] - x).max() > FRESH:
            known.append((x.copy(), model.jacobian(at(x), names)))
        return known[-1][1]

    low, high = (np.log([getattr(p, end) for p in free]) for end in ("low", "high"))
    start = np.clip(np.log([values[n] for n in names]), low + 1e-9, high - 1e-9)
    found = least_squares(lambda x: model.seconds(at(x)) - measured, start, slopes, bounds=(low, high),
                          loss="soft_l1", f_scale=SCALE, xtol=2e-4, ftol=1e-6, max_nfev=25)
    values.update(at(found.x))


def _without_influence(jacobian: Array, free: Sequence[Parameter]) -> dict[str, str]:
    return {p.path: "no row depends on it" for p, column in zip(free, jacobian.T, strict=True)
            if (abs(column) > INFLUENCE).sum() < 2}


def _collinear(jacobian: Array, free: Sequence[Parameter]) -> dict[str, str]:
    """Return one of the parameters that can only be told together, if there are such."""
    import numpy as np

    _, singular, directions = np.linalg.svd(jacobian / np.linalg.norm(jacobian, axis=0), full_matrices=False)
    if singular[-1] > COLLINEAR * singular[0]:
        return {}
    involved = [p.path for p, part in zip(free, directions[-1], strict=True) if abs(part) > 0.2]
    kept = next((path for path in YIELDING if path in involved), involved[-1])
    return {kept: f"not told apart from {', '.join(path for path in involved if path != kept)}"}


def _at_bound(values: Values, free: Sequence[Parameter]) -> dict[str, str]:
    return {p.path: f"runs to the end of its range, {end:g}" for p in free for end in (p.low, p.high)
            if abs(values[p.path] / end - 1) < 1e-3}


def _errors(model: Model, values: Values, jacobian: Array) -> tuple[Array, Array]:
    """Return the covariance of the parameters' logarithms, and half of the intervals.

    That of a weighted least-squares fit at the solution, each row with the weight that the robust loss gives it.
    """
    import numpy as np
    from scipy.stats import t

    error = model.seconds(values) - model.measured()
    weight = 1 / np.sqrt(1 + (error / SCALE) ** 2)
    freedom = max(1, len(error) - jacobian.shape[1])
    variance = float((weight * error**2).sum()) / freedom
    covariance = variance * np.linalg.inv(jacobian.T @ (weight[:, None] * jacobian))
    return covariance, float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * np.sqrt(np.diag(covariance))


def _wide(model: Model, values: Values, jacobian: Array, free: Sequence[Parameter]) -> dict[str, str]:
    _, half = _errors(model, values, jacobian)
    worst = int(half.argmax())
    if half[worst] <= WIDEST:
        return {}
    return {free[worst].path: f"only known to within {min(half[worst], 9.99):.0%}"}


def _report(model: Model, values: Values, fixed: dict[str, str], before: Values, share: Capacity) -> Solution:
    import numpy as np

    free = _free(values, fixed)
    final = ordered(values, model.gpu)
    reports: dict[str, Fitted] = {}
    singular: tuple[float, ...] = ()
    pairs: list[tuple[str, str, float]] = []
    if free:
        jacobian = model.jacobian(values, [p.path for p in free])
        covariance, half = _errors(model, values, jacobian)
        for number, p in enumerate(free):
            rows = [r for r, slope in zip(model.rows, jacobian[:, number], strict=True) if abs(slope) > INFLUENCE]
            after = final[p.path]
            reports[p.path] = Fitted(p, before[p.path], after, after * float(np.exp(-half[number])),
                                     min(p.high, after * float(np.exp(half[number]))), len(rows),
                                     tuple(dict.fromkeys(r.curve for r in rows)))
        singular = tuple(float(s) for s in np.linalg.svd(jacobian / np.linalg.norm(jacobian, axis=0),
                                                         compute_uv=False))
        deviation = np.sqrt(np.diag(covariance))
        correlation = covariance / np.outer(deviation, deviation)
        pairs = [(free[a].path, free[b].path, float(correlation[a, b])) for a in range(len(free)) for b in range(a)]
        pairs.sort(key=lambda pair: -abs(pair[2]))
    for p in PARAMETERS:
        if p.path in fixed:
            reports[p.path] = Fitted(p, before[p.path], before[p.path], reason=fixed[p.path])
    for p in PARAMETERS:
        if p.path not in values:
            # One partition: the near latency is the other.
            far = reports["l2.latency_far"]
            reports[p.path] = (Fitted(p, before[p.path], far.after, far.low, far.high, far.rows, far.curves)
                               if far.determined else Fitted(p, before[p.path], before[p.path], reason=far.reason))
    fraction = Fitted(SHARED_FRACTION, before[SHARED_FRACTION.path],
                      before[SHARED_FRACTION.path] if share.reason else share.value, share.low, share.high, share.rows,
                      share.curves, share.reason)
    return Solution((*(reports[p.path] for p in PARAMETERS), fraction), singular, tuple(pairs))
