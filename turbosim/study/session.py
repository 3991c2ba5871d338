"""Points in, rows out: what is in the journal is looked up, the rest is simulated and written to it.

Commands that choose their points as they go, such as a search, use it as ``sweep`` does::

    with Session(study, Path("results"), jobs=2) as session:
        for row in session.rows(study.task(axes) for axes in chosen):
            print(flatten(row)["time_s"])
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from turbosim.engine.numba_engine import is_compiled
from turbosim.processes import streamed
from turbosim.study.evaluate import Done, Evaluator, failed
from turbosim.study.journal import NAME, Index, Journal, Row, index_of
from turbosim.study.saved import save_study
from turbosim.study.study import Study, Task
from turbosim.study.version import engine_version

KILLED = "it ended its process twice; there may be too little memory for so many jobs"
ALONE_S = 4.0
"""What takes less than this in all is not shared among processes: to start them takes longer."""


@dataclass
class Counts:
    """What became of the points that a session was asked for."""

    before: int = 0
    """In the journal already."""
    reused: int = 0
    """Copied from a point that is simulated in the same way."""
    simulated: int = 0
    failed: int = 0
    """Among those simulated."""

    @property
    def done(self) -> int:
        """Points with a row."""
        return self.before + self.reused + self.simulated


class Session:
    """A study with its output folder, open for writing by this process alone. A context manager."""

    def __init__(self, study: Study, folder: Path, *, jobs: int = 1, dask: str | None = None,
                 reuse: Sequence[Path] = (), retry: bool = False, counts: Counts | None = None) -> None:
        """Open *folder* for *study*, whose file and hardware are saved in it.

        *jobs* processes share the work, or the workers of the dask scheduler at the address *dask*. Rows of the
        folders *reuse* are taken over where they are for the same simulation; with *retry*, failed points are simulated
        again. It counts in *counts*, if given. Raises as :class:`~turbosim.study.journal.Journal` and
        :class:`~turbosim.study.cluster.Cluster`.
        """
        self.study = study
        self.folder = folder
        self.jobs = jobs
        self.retry = retry
        self.counts = Counts() if counts is None else counts
        self._others: list[tuple[Path, Index]] = [(path / NAME, index_of(path / NAME)) for path in reuse]
        self.cluster = None
        if dask is not None:
            from turbosim.study.cluster import Cluster

            self.cluster = Cluster(dask)
        try:
            self.journal = Journal(folder)
        except BaseException:
            self._disconnect()
            raise
        try:
            save_study(study, folder)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        self._evaluator = Evaluator({name: r.gpu for name, r in study.hardware.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        try:
            self.journal.__exit__(kind, value, trace)
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        if self.cluster is not None:
            self.cluster.close()

    def rows(self, tasks: Iterable[Task]) -> Iterator[Row]:
        """Yield the row of every task: known ones first, then others as they are finished, each journalled before."""
        pending: list[Task] = []
        for task in tasks:
            row = self.known(task)
            if row is None:
                pending.append(task)
            else:
                yield row
        yield from self.simulated(pending)

    def pending(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks that have to be simulated; rows that can be reused are written."""
        return [task for task in tasks if not self.is_known(task)]

    def is_known(self, task: Task) -> bool:
        """Whether the journal has a row of *task*, now if not before."""
        found = self.journal.index.by_point.get((self.study.digest, task.point))
        if found is not None and found[0] == task.key and not self.retry:
            self.counts.before += 1
            return True
        return self.known(task) is not None

    def known(self, task: Task) -> Row | None:
        """Return the row of *task*, None if it has to be simulated; one that can be reused is written."""
        index = self.journal.index
        found = index.by_point.get((self.study.digest, task.point))
        if found is not None and found[0] == task.key:
            row = self.journal.row(found[1])
            if row["outcome"]["status"] == "ok" or not self.retry:
                self.counts.before += 1
                return row
            return None
        same = self._same(task)
        if same is None or (self.retry and same["outcome"]["status"] != "ok"):
            return None
        self.counts.reused += 1
        return self._written(task, Done(same["outcome"], same["wall_s"]))

    def _same(self, task: Task) -> Row | None:
        """Return a row, of any point, with the key of *task*."""
        offset = self.journal.index.by_key.get(task.key)
        if offset is not None:
            return self.journal.row(offset)
        for path, index in self._others:
            if (offset := index.by_key.get(task.key)) is not None:
                with path.open("rb") as file:
                    file.seek(offset)
                    row: Row = json.loads(file.readline())
                    return row
        return None

    def simulated(self, tasks: Sequence[Task]) -> Generator[Row, None, None]:
        """Simulate *tasks* and yield their rows as they are finished and written."""
        twins: dict[str, list[Task]] = {}
        for task in tasks:
            twins.setdefault(task.key, []).append(task)
        # The longest first, so that all processes end together; those that share a program one after the other.
        order = sorted((same[0] for same in twins.values()), key=_cost)
        for task, done in self._done(order):
            for place, twin in enumerate(twins[task.key]):
                # Counted when it is written: Ctrl-C must not tell of a row that there is not.
                row = self._written(twin, done)
                self.counts.simulated += place == 0
                self.counts.failed += place == 0 and done.outcome["status"] != "ok"
                self.counts.reused += place > 0
                yield row

    def _done(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Done]]:
        first = 0
        if self.cluster is None:
            # What Numba compiles is kept on disk: once here, instead of in every process.
            while first < len(tasks) and (self.jobs == 1 or len(tasks) - first == 1 or not is_compiled()):
                yield tasks[first], self._evaluator(tasks[first])
                first += 1
            found = streamed(self._evaluator, tasks[first:], self.jobs)
        else:
            found = self.cluster.streamed(self._evaluator, tasks)
        try:
            for place, done in found:
                yield tasks[first + place], Done(failed(KILLED), 0.0) if done is None else done
        finally:
            found.close()

    def _written(self, task: Task, done: Done) -> Row:
        row = row_of(self.study, task, done)
        self.journal.append(row)
        return row


def _cost(task: Task) -> tuple[object, ...]:
    return -task.effort, task.kernel, str(task.workload), str(task.settings), str(task.run), task.hw


def row_of(study: Study, task: Task, done: Done) -> Row:
    """Return the row of *task*."""
    workload = {} if task.workload is None else task.workload.describe()
    return {"point": task.point, "key": task.key, "study": study.digest, "version": engine_version(), "hw": task.hw,
            "kernel": task.axes.get("kernel", study.kernel), "axes": task.axes, "workload": workload,
            "wall_s": round(done.wall_s, 6), "outcome": done.outcome}


def rows_of(session: Session, tasks: list[Task], progress: Callable[[int, int], None] | None = None) -> dict[str, Row]:
    """Return the row of every task by point; *progress* is called with (simulated, all that have to be).

    The processes of *session* are started only where the rest takes longer than they do.
    """
    rows: dict[str, Row] = {}
    pending = []
    for task in {task.point: task for task in tasks}.values():
        row = session.known(task)
        if row is None:
            pending.append(task)
        else:
            rows[task.point] = row
    known, jobs = len(rows), session.jobs

    def simulate(some: list[Task]) -> float:
        took = 0.0
        for row in session.simulated(some):
            rows[row["point"]] = row
            took = row["wall_s"]
            if progress is not None:
                progress(len(rows) - known, len(pending))
        return took

    # The first one says how long the others take.
    session.jobs = 1
    took = simulate(pending[:1])
    session.jobs = jobs if took * len(pending[1:]) > ALONE_S else 1
    simulate(pending[1:])
    session.jobs = jobs
    return rows
