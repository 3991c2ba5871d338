"""Which constraints of a study drop points, told with where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from turbosim.study.axis import Value
from turbosim.study.expression import Expression
from turbosim.study.study import Study


def all_dropped(study: Study, points: Sequence[Mapping[str, Value]], tried: bool = False) -> str:
    """Return which constraint drops all *points* alone, or how many each of them drops, with file:line:col.

    *tried* says that there may be others than these. At least one constraint drops each of *points*.
    """
    each = _each(study, points)
    every = f"all {len(points):,} points{' that were tried' if tried else ''}"
    more = ", or try more points with --trials" if tried else ""
    for place, (constraint, dropped) in enumerate(each):
        if dropped == len(points):
            return study.places.told(("constraints", place), f"{constraint.text!r} drops {every}; loosen it"
                                     f"{_further(study, constraint)}{more}")
    return study.places.told(("constraints",), f"together drop {every}, {_shares(study, each)}; loosen one of them"
                             f"{more}", key=True)


def dropped_by(study: Study, points: Sequence[Mapping[str, Value]]) -> str:
    """Return how many of *points* each constraint drops, with file:line:col; empty if none drops any."""
    return _shares(study, _each(study, points))


def _each(study: Study, points: Sequence[Mapping[str, Value]]) -> list[tuple[Expression, int]]:
    return [(c, sum(not study.allows(axes, [c]) for axes in points)) for c in study.constraints]


def _shares(study: Study, each: Sequence[tuple[Expression, int]]) -> str:
    return ", ".join(f"{c.text!r} ({study.places.where(('constraints', place))}) {n:,}"
                     for place, (c, n) in enumerate(each) if n)


def _further(study: Study, constraint: Expression) -> str:
    """Return how an axis that *constraint* reads can be changed, so that some points meet it."""
    name = next((n for n in constraint.names if n in study.axis_names), None)
    if name is None:
        return ""
    return f", or {'widen' if study.axis(name).range is not None else 'add values to'} {name}"
