"""All points of a study, simulated and journalled; what is done is never done again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from turbosim.errors import ConfigError, TurbosimError, UsageError
from turbosim.processes import cores
from turbosim.study.constraints import all_dropped
from turbosim.study.failures import Failure, failures_of, none_of
from turbosim.study.possible import REASONS, check_possible
from turbosim.study.session import Counts, Session
from turbosim.study.study import Study, Task

Progress = Callable[[int, int], None]


class NoPointError(TurbosimError):
    """None of the points of a study was simulated, though their programs fit their GPUs (exit code 1)."""


@dataclass
class Report(Counts):
    """What a sweep did. It is filled while the sweep runs, so that it also tells about one that was interrupted."""

    points: int = 0
    """Points that meet the constraints."""
    dropped: int = 0
    """Points that do not."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failed points by reason, those of earlier sweeps included."""
    causes: list[Failure] = field(default_factory=list)
    """The most frequent reasons, with what in the study the points owe them to."""
    torn: bool = False
    """Whether the last row of an earlier sweep had been cut off."""
    seconds: float = 0.0
    journal_s: float = 0.0
    """Of these, time spent on writing."""


def plan(study: Study) -> tuple[list[Task], int]:
    """Return the points of *study* and how many the constraints drop.

    Raises ConfigError if they drop all, or none of the others can be simulated.
    """
    tasks, dropped = [], 0
    for axes in study.candidates():
        if study.allows(axes):
            tasks.append(study.task(axes))
        else:
            dropped += 1
    if not tasks:
        raise ConfigError(all_dropped(study, list(study.candidates())))
    check_possible(study, tasks)
    return tasks, dropped


def run_study(study: Study, folder: str | Path, *, jobs: int | None = None, dask: str | None = None,
              reuse: Sequence[Path] = (), retry: bool = False, progress: Progress | None = None,
              into: Report | None = None) -> Report:
    """Simulate the points of *study* that *folder* has no row of, and return what was done.

    *jobs* processes share the work, as many as cores if None, or the workers of the scheduler at *dask*; they change
    nothing of the rows. *reuse* and *retry* as in :class:`~turbosim.study.session.Session`; *progress* is called with
    (points with a row, all); *into* is the report to fill. A script must begin its work below ``if __name__ ==
    "__main__"``. Raises as :func:`plan` and :class:`~turbosim.study.session.Session`, NoPointError if no point has a
    time.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs: must be at least 1, got {jobs}")
    report = Report() if into is None else into
    folder = Path(folder)
    start = time.perf_counter()
    tasks, report.dropped = plan(study)
    report.points = len(tasks)
    with Session(study, folder, jobs=jobs or cores(), dask=dask, reuse=reuse, retry=retry,
                 counts=report) as session:
        report.torn = bool(session.journal.torn)

        def note() -> None:
            report.seconds, report.journal_s = time.perf_counter() - start, session.journal.spent_s
            if progress is not None:
                progress(report.done, report.points)

        try:
            pending = session.pending(tasks)
            note()
            for _ in session.simulated(pending):
                note()
        finally:
            note()
            failed = session.journal.index.failed
            reasons = {t.point: failed[study.digest, t.point] for t in tasks if (study.digest, t.point) in failed}
            report.failures = Counter(reasons.values())
    report.causes = failures_of(study, tasks, reasons, REASONS)
    if len(reasons) >= report.points:
        raise NoPointError(none_of(report.points, report.causes))
    return report
