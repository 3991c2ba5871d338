"""What a sweep would do, and for how long, without doing it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from turbosim.processes import cores
from turbosim.study.evaluate import Evaluator
from turbosim.study.journal import NAME, Index, index_of
from turbosim.study.study import Study, Task
from turbosim.study.sweep import plan

MOST_TIMED = 12
"""Points that are simulated for the forecast."""
PATIENCE_S = 15.0
"""No further point is simulated after this time."""


@dataclass(frozen=True)
class Forecast:
    """What a sweep would do."""

    points: int
    dropped: int
    done: int
    reused: int
    new: int
    timed: int
    """Points that were simulated for the forecast."""
    seconds: float
    """Predicted time of the sweep [s]."""
    jobs: int


def forecast(study: Study, folder: Path, *, jobs: int | None = None, reuse: Sequence[Path] = (),
             retry: bool = False) -> Forecast:
    """Count the points of *study* and predict how long those that *folder* has no row of would take.

    A few points, spread over kernels and phases, are simulated; others take as long as the one of the same phase, if
    possible of the same kernel, that is nearest in FLOPs, by the ratio of these. Nothing is written. Raises as
    :func:`~turbosim.study.sweep.plan`.
    """
    tasks, dropped = plan(study)
    index = index_of(folder / NAME) if (folder / NAME).is_file() else Index()
    others = [index_of(path / NAME) for path in reuse]
    done = reused = 0
    new: dict[str, Task] = {}
    for task in tasks:
        found = index.by_point.get((study.digest, task.point))
        if found is not None and found[0] == task.key and not retry:
            done += 1
        elif any(task.key in x.by_key for x in (index, *others)) or task.key in new:
            reused += 1
        else:
            new[task.key] = task
    jobs = min(jobs or cores(), max(1, len(new)))
    timed = _timed(study, list(new.values()))
    seconds = sum(_predicted(task, timed) for task in new.values()) / jobs if timed else 0.0
    return Forecast(len(tasks), dropped, done, reused, len(new), len(timed), seconds, jobs)


def _timed(study: Study, tasks: Sequence[Task]) -> list[tuple[Task, float]]:
    """Return a few of *tasks* with the time that each takes."""
    programs: dict[tuple[object, ...], Task] = {}
    for task in tasks:
        programs.setdefault((task.kernel, str(task.settings), str(task.workload)), task)
    groups: dict[tuple[object, ...], list[Task]] = {}
    for task in sorted(programs.values(), key=lambda t: t.effort):
        groups.setdefault((_phase(task), task.kernel), []).append(task)
    # Of every group the middle one first, then its ends: FLOPs of different phases or kernels take different times.
    ranked = sorted((i != len(group) // 2, place, i) for place, group in enumerate(groups.values())
                    for i in {0, len(group) // 2, len(group) - 1})
    members = list(groups.values())
    spread = [members[place][i] for _, place, i in ranked[:MOST_TIMED]]
    evaluator = Evaluator({name: r.gpu for name, r in study.hardware.items()})
    found: list[tuple[Task, float]] = []
    start = time.perf_counter()
    for task in sorted(spread, key=lambda t: t.effort):
        if found and time.perf_counter() - start > PATIENCE_S:
            break
        if not found:
            # The first one compiles or loads the engine.
            evaluator(task)
            start = time.perf_counter()
        found.append((task, evaluator(task).wall_s))
    return found


def _phase(task: Task) -> object:
    return getattr(task.workload, "phase", None)


def _predicted(task: Task, timed: Sequence[tuple[Task, float]]) -> float:
    def distance(item: tuple[Task, float]) -> tuple[bool, bool, bool, float]:
        other = item[0]
        return (_phase(other) != _phase(task), other.kernel != task.kernel, other.settings != task.settings,
                abs(other.effort - task.effort) / max(other.effort, task.effort, 1.0))

    nearest, seconds = min(timed, key=distance)
    return seconds * (max(task.effort, 1.0) / max(nearest.effort, 1.0) if nearest.effort != task.effort else 1.0)
