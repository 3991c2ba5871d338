"""A function over many items in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import selectors
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from turbosim.errors import SimulationError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

CHUNK = 32
"""Items that a process is given at once, at most: few enough for the buffer of a pipe."""
DEATHS = 2
"""Processes that an item may take along."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[Item], Outcome], items: Sequence[Item], jobs: int
                 ) -> Generator[tuple[int, Outcome | None], None, None]:
    """Yield as :func:`streamed` for few items that take long, each given out when a process is free for it.

    What *function* raises is raised here, with the traceback of its process as a note.
    """
    with closing(streamed(_Caught(function), items, jobs, most=1)) as outcomes:
        for place, outcome in outcomes:
            if isinstance(outcome, _Raised):
                raise outcome.error
            yield place, outcome


@dataclass(frozen=True)
class _Raised:
    error: Exception


@dataclass(frozen=True)
class _Caught:
    """A function whose exceptions are outcomes."""

    function: Callable[..., object]

    def __call__(self, item: object) -> Any:
        try:
            return self.function(item)
        except Exception as error:
            error.add_note(traceback.format_exc())
            return _Raised(error)


def streamed(function: Callable[[Item], Outcome], items: Sequence[Item], jobs: int, most: int = CHUNK
             ) -> Generator[tuple[int, Outcome | None], None, None]:
    """Yield (place of an item, its outcome) from *jobs* processes, as soon as each is finished.

    *function* is sent to every process once and may keep what helps with later items: those that follow each other
    mostly come to the same process, up to *most* at once. An item whose process ends is tried again in another one; its
    outcome is None where that ends too. *function* must not raise.

    The processes are gone once the iterator is exhausted or closed, and soon after this process ends in whatever
    way. As they are started afresh (``spawn``), a script must begin its work below ``if __name__ == "__main__"``.
    Raises SimulationError if processes end before they begin.
    """
    left = deque(range(len(items)))
    deaths: Counter[int] = Counter()
    stillborn = 0
    crew: list[_Worker] = []
    answers = selectors.DefaultSelector()
    try:
        while left or any(w.places for w in crew):
            while len(crew) < min(jobs, len(left) + sum(bool(w.places) for w in crew)):
                crew.append(_started(function))
                answers.register(crew[-1].connection, selectors.EVENT_READ, crew[-1])
            for worker in crew:
                # With one item still to do, the process does not wait for the next ones.
                if left and len(worker.places) <= (most > 1):
                    size = max(1, min(most, len(left) // (4 * jobs)))
                    worker.give([(place, items[place]) for place in (left.popleft() for _ in range(size))])
            for key, _ in answers.select():
                worker = key.data
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    crew.remove(worker)
                    answers.unregister(worker.connection)
                    worker.end()
                    places = list(worker.places)
                    if not worker.ready:
                        stillborn += 1
                        if stillborn > 2:
                            raise SimulationError("worker processes end before they begin; there may be too little "
                                                  "memory for so many jobs") from None
                    elif places:
                        deaths[places[0]] += 1
                        if deaths[places[0]] >= DEATHS:
                            yield places.pop(0), None
                    left.extendleft(reversed(places))
                    continue
                if message is None:
                    worker.ready, stillborn = True, 0
                else:
                    worker.places.popleft()
                    yield message
    finally:
        answers.close()
        for worker in crew:
            worker.end()


@dataclass
class _Worker:
    """A process, and the places of the items it has been given, in order."""

    process: BaseProcess
    connection: Connection
    places: deque[int] = field(default_factory=deque)
    ready: bool = False

    def give(self, chunk: list[tuple[int, Item]]) -> None:
        """Send items; that the process has ended is found when its answers are read."""
        self.places.extend(place for place, _ in chunk)
        with suppress(OSError):
            self.connection.send(chunk)

    def end(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def _started(function: Callable[[Item], Outcome]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(function, theirs, Path.cwd()), daemon=True)
    with _unheard_by_children():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(function: Callable[[Item], Outcome], connection: Connection, folder: Path) -> None:
    """Answer items until there are no more."""
    _begin(folder)
    connection.send(None)
    with suppress(EOFError, OSError):
        while True:
            for place, item in connection.recv():
                connection.send((place, function(item)))


def _begin(folder: Path) -> None:
    """Prepare a worker: the folder that relative paths mean, and the end of the parent as its own."""
    os.chdir(folder)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _unheard_by_children() -> Iterator[None]:
    """Start processes that Ctrl-C, which a terminal sends to all, does not reach: the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting Python's own helper process, which the first child does, would unblock the signal.
    resource_tracker.ensure_running()
    # A blocked signal, unlike an ignored one, is not lost here.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
