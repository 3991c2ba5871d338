"""What the failed points of a study have that others have not, and where the study says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from turbosim.study.axis import Axis, Value
from turbosim.study.places import Loc
from turbosim.study.study import Study, Task

MOST = 3
"""Values of an axis, and causes of an error, that are named."""


@dataclass(frozen=True)
class Failure:
    """Points that failed for the same values, by the most frequent reason."""

    reason: str
    points: int
    more: int
    """Other reasons of these."""
    at: str
    """The values that tell them from others, each with file:line:col, or the entry that all of them owe it to."""


def failures_of(study: Study, tasks: Sequence[Task], reasons: Mapping[str, str], most: int) -> list[Failure]:
    """Return why points among *tasks* failed, *reasons* by point, at most *most* reasons."""
    failed: dict[str, list[Task]] = {}
    for task in tasks:
        if task.point in reasons:
            failed.setdefault(reasons[task.point], []).append(task)
    done = [task for task in tasks if task.point not in reasons]
    found: dict[str, Failure] = {}
    for reason in sorted(failed, key=lambda r: -len(failed[r]))[:most]:
        others = done or [t for t in tasks if reasons[t.point] != reason]
        at = _at(study, failed[reason], others, reason)
        # Reasons often differ in a number only.
        before = found.get(at, Failure(reason, 0, -1, at))
        found[at] = replace(before, points=before.points + len(failed[reason]), more=before.more + 1)
    return sorted(found.values(), key=lambda f: -f.points)


def told(failure: Failure) -> str:
    """Return where *failure* comes from, and the reason."""
    more = f" (and {failure.more} more reason{'s' * (failure.more > 1)})" if failure.more else ""
    return f"{failure.at}: {failure.reason}{more}"


def none_of(points: int, causes: Sequence[Failure]) -> str:
    """Return why none of *points* can be simulated: the most frequent of *causes*, each with where it comes from."""
    head = f"none of the {points:,} points can be simulated" if points > 1 else "the only point cannot be simulated"
    if causes[0].points == points:
        return f"{head}: {told(causes[0])}"
    return "\n".join((f"{head}:", *(f"{cause.points:,} of them: {told(cause)}" for cause in causes[:MOST])))


def _at(study: Study, failed: Sequence[Task], others: Sequence[Task], reason: str) -> str:
    names = _telling(study, failed, others, reason) if others else []
    if names:
        return ", ".join(_values(study, study.axis(n), dict.fromkeys(t.axes[n] for t in failed)) for n in names)
    loc = _entry(study, reason)
    return f"{loc[-1]} ({study.places.where(loc, key=len(loc) > 1)})"


def _telling(study: Study, failed: Sequence[Task], others: Sequence[Task], reason: str) -> list[str]:
    """Return axes whose values together tell *failed* from *others*, none of which can be done without."""
    def spread(name: str) -> tuple[bool, float]:
        seen = {t.axes[name] for t in failed}
        # Axes that failed points have all values of are left out first, those that the reason names last.
        return _named(name, reason), -len(seen) / len(seen | {t.axes[name] for t in others})

    names = list(study.axis_names)
    for name in sorted(names, key=spread):
        fewer = [n for n in names if n != name]
        seen = {tuple(t.axes[n] for n in fewer) for t in failed}
        if not any(tuple(t.axes[n] for n in fewer) in seen for t in others):
            names = fewer
    return names


def _named(name: str, reason: str) -> bool:
    """Whether *reason* speaks of the axis or option *name*."""
    return name.removeprefix("set.") in reason.replace(",", " ").replace(":", " ").split()


def _values(study: Study, axis: Axis, values: Mapping[Value, None]) -> str:
    """Return *values* of *axis* with where they stand."""
    entry = study.places.entry(axis.name)
    if axis.range is not None:
        return f"{axis.name} ({study.places.where(entry, key=True)})"
    places = [axis.values.index(value) for value in values]
    shown = [f"{study.places.written(axis, place)} ({study.places.where((*entry, place))})" for place in places]
    more = [f"{len(shown) - MOST} more"] if len(shown) > MOST else []
    return f"{axis.name}={', '.join((*shown[:MOST], *more))}"


def _entry(study: Study, reason: str) -> Loc:
    """Return the entry that *reason*, which all points share, speaks of; the kernel's if it names none.

    What is too large or no shape at all is so by the workload.
    """
    if reason.startswith("workload: ") and "workload" in study.places.document:
        return ("workload",)
    names = [*study.axis_names, *(f"set.{n}" for n in study.settings), *study.workload, *study.run]
    named = (study.places.entry(n) for n in names if n != "kernel" and _named(n, reason))
    of_work = reason.startswith(("attention: ", "gemm: ", "copy: ", "program ")) and "workload" in study.places.document
    return next(named, ("workload",) if of_work else study.places.entry("kernel"))
