"""A function over many items in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[Item], Outcome], items: Sequence[Item], jobs: int
                 ) -> Generator[tuple[int, Outcome | None], None, None]:
    """Yield (place of an item, its outcome) from *jobs* processes, in the order in which items are finished.

    The outcome is None where the process of an item ended without one. What *function* raises is raised here. The
    processes are gone once the iterator is exhausted or closed, and soon after this process ends in whatever way. As
    they are started afresh (``spawn``), a script must begin its work below ``if __name__ == "__main__"``.
    """
    left = dict(enumerate(items))
    while left:
        with closing(_pooled(function, left, jobs)) as outcomes:
            for place, outcome in outcomes:
                del left[place]
                yield place, outcome
        # A process that ends takes the pool with it, and the pool does not tell which item it had: one of the first.
        for place in list(left)[:jobs]:
            with closing(_pooled(function, {place: left.pop(place)}, 1)) as outcomes:
                yield place, dict(outcomes).get(place)


def _pooled(function: Callable[[Item], Outcome], items: Mapping[int, Item], jobs: int
            ) -> Generator[tuple[int, Outcome], None, None]:
    """Yield as :func:`in_processes`, until a process ends unasked."""
    pool = ProcessPoolExecutor(min(jobs, len(items)), multiprocessing.get_context("spawn"), _begin, (Path.cwd(),))
    at_work = True
    try:
        with _unheard_by_children():
            places = {pool.submit(function, item): place for place, item in items.items()}
        for future in as_completed(places):
            yield places[future], future.result()
        at_work = False
    except BrokenProcessPool:
        return
    finally:
        # Python before 3.14 has no public way to end those that work.
        for process in list(pool._processes.values()) if at_work else ():  # noqa: SLF001
            process.terminate()
        pool.shutdown(cancel_futures=True)


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
    # A blocked signal, unlike an ignored one, is not lost here.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
