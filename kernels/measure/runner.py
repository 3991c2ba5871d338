"""Runs a plan: one worker at a time, a row on disk before the next is measured, and a stop before the time is over."""

from __future__ import annotations

import contextlib
import datetime
import platform
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernels.measure import counters, cuda
from kernels.measure.cases import Case, Option, columns_of
from kernels.measure.failures import shorten
from kernels.measure.link import DeadlineError, Worker, WorkerLostError
from kernels.measure.measuring import GRAPH_BELOW_S, missing
from kernels.measure.predict import FEWEST, MOST, ROW_TARGET_S, predict
from kernels.measure.sampler import PERIOD_S, Sampler, open_sensors
from kernels.measure.schema import Value
from kernels.measure.store import ROOT, Store, check_out, have_of, source_hashes

PROTOCOL = (
    f"A case is checked against its reference first and not timed when it is wrong. Before a row, launches for "
    f"{cuda.WARM_UP_S:g} s warm up. Repeats: {ROW_TARGET_S:g} s worth, {FEWEST} to {MOST}; the median and the 10th and "
    "90th percentiles are kept. Each repeat has its own pair of CUDA events. Cold: before each repeat a buffer of at "
    "least twice the size of L2 is written and read, outside the events. Warm: launches in a row on the same inputs. "
    f"Kernels below {GRAPH_BELOW_S * 1e6:g} us are timed in CUDA graphs of {cuda.GRAPH_LAUNCHES} launches too. Clocks, "
    f"power and temperature: mean of samples every {PERIOD_S * 1e3:g} ms. No setting of the GPU is changed.")
FAKE_PROTOCOL = "Fake device: nothing was measured; times follow from operations and bytes alone."
_OF_THE_CASE = ("flops", "nbytes", "error", "tolerance", "registers", "spills", "smem_bytes")
MARGIN_S = 3.0
"""Time kept back at the end of a call."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one call is to do."""

    cases: tuple[Case, ...]
    """In the order in which they run."""
    names: Mapping[str, str]
    """Kernel -> ``module:attribute``."""
    device: str
    out: Path
    limit_s: float
    case_timeout_s: float
    counters: bool = False
    about: Mapping[str, Value] = field(default_factory=dict)
    """Suite, part and the like, for ``meta.json``."""


@dataclass(slots=True)
class Progress:
    """How far a call has come. It stays readable when the call is interrupted."""

    rows: Counter[str] = field(default_factory=Counter)
    """Rows written by this call, by status."""
    cases: int = 0
    """Cases that were to be measured."""
    left: int = 0
    """Cases that are still to be measured."""
    next_s: float = 0.0
    """Predicted time of the shortest case left out for lack of time [s]."""


class Run:
    """One call's state: worker, store, sensors and the clock."""

    def __init__(self, plan: Plan, progress: Progress, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._progress = progress
        self._say = say
        self._began = time.monotonic()
        self._deadline = self._began + plan.limit_s - min(MARGIN_S, 0.1 * plan.limit_s)
        self._spent = self._predicted = 0.0
        self._worker: Worker | None = None
        self._hello: dict[str, Any] = {}
        self._sampler: Sampler | None = None

    def execute(self) -> None:
        """Measure what the directory lacks. Raises TurbosimError, with the finished rows on disk."""
        plan = self._plan
        check_out(plan.out)
        if plan.counters:
            counters.find_ncu()
        try:
            self._start_worker()
            with Store(plan.out) as store:
                sensors = open_sensors(self._hello["uuid"]) if plan.device == "cuda" else None
                store.open(self._meta(sensors.driver() if sensors else None,
                                      sensors.clock_policy() if sensors else "unknown: no sensors"))
                if sensors is not None:
                    self._sampler = Sampler(sensors.read)
                    self._sampler.start()
                for name, reason in self._hello["broken"].items():
                    self._say(f"kernel {name!r} cannot be imported: {reason}")
                self._measure_all(store)
                if plan.counters:
                    self._stop_worker()
                    self._count_all(store)
        finally:
            self._stop_worker()
            if self._sampler is not None:
                self._sampler.stop()

    def _start_worker(self) -> Worker:
        if self._worker is None or not self._worker.alive:
            self._worker = Worker(self._plan.device, self._plan.names)
            self._hello = self._worker.hello
        return self._worker

    def _stop_worker(self) -> None:
        if self._worker is not None and self._worker.alive:
            self._worker.kill()

    def _measure_all(self, store: Store) -> None:
        todo = [case for case in self._plan.cases if missing(have_of(store.done, case.key))]
        progress = self._progress
        progress.cases = progress.left = len(todo)
        for number, (case, predicted) in enumerate(zip(todo, predict(todo), strict=True), start=1):
            needed = predicted * self._pace()
            if time.monotonic() + needed > self._deadline:
                progress.next_s = min(progress.next_s or needed, needed)
                continue
            began = time.monotonic()
            try:
                outcome = self._measure(store, case)
            except DeadlineError:
                progress.next_s = needed
                return
            self._spent += time.monotonic() - began
            self._predicted += predicted
            progress.left -= 1
            self._say(f"[{number}/{len(todo)}] {case.title()}: {outcome}")

    def _pace(self) -> float:
        """Return how much slower than predicted cases have been, once some have been measured."""
        return min(10.0, max(0.2, self._spent / self._predicted)) if self._predicted > 10 else 1.0

    def _measure(self, store: Store, case: Case) -> str:
        """Write the rows that *case* lacks; return what they say, for people."""
        if case.kernel in self._hello["broken"]:
            self._append(store, case, {"status": "failed", "reason": self._hello["broken"][case.kernel]})
            return "failed: cannot be imported"
        said = []
        worker = self._start_worker()
        try:
            have = have_of(store.done, case.key)
            for answer in worker.measure(case, have, self._plan.case_timeout_s, self._deadline):
                row = answer["row"]
                if answer["interval"] is not None and self._sampler is not None:
                    row.update(self._sampler.mean(*answer["interval"]))
                self._append(store, case, row)
                where = " ".join(filter(None, (row.get("l2"), row.get("method")))) or "case"
                said.append(f"{where} {row['time_s'] * 1e6:.1f} us" if row["status"] == "ok"
                            else f"{where} {row['status']}: {row['reason']}")
        except WorkerLostError as error:
            self._append(store, case, {"status": "failed", "reason": str(error)})
            said.append(f"failed: {error}")
        return ", ".join(said)

    def _count_all(self, store: Store) -> None:
        """Write the counters of every case that was timed."""
        todo = [case for case in self._plan.cases
                if ("cold", "events") in (have := store.done.get(case.key, {})) and ("cold", "ncu") not in have
                and have["cold", "events"]["status"] == "ok"]
        while todo:
            batch = todo[:counters.BATCH]
            if time.monotonic() + counters.START_S > self._deadline:
                self._say(f"counters: {len(todo)} cases left for lack of time")
                return
            try:
                results = counters.profile(batch, self._plan.names, self._deadline)
            except DeadlineError:
                self._say(f"counters: {len(todo)} cases left for lack of time")
                return
            for case in batch[:len(results)]:
                timed = store.done[case.key]["cold", "events"]
                kept = {c: timed.get(c) for c in _OF_THE_CASE}
                self._append(store, case, {**kept, "l2": "cold", "method": "ncu", **results[case.key]})
            todo = todo[len(results):]
            self._say(f"counters: {len(todo)} cases to go")

    def _append(self, store: Store, case: Case, row: Mapping[str, Value]) -> None:
        defaults: Mapping[str, Option] = self._hello["defaults"].get(case.kernel, {})
        with _uninterrupted():
            store.append({"source": self._hello["source"], "gpu": self._hello["facts"]["gpu"],
                          **columns_of(case, defaults), **row})
            self._progress.rows[str(row["status"])] += 1

    def _meta(self, driver: str | None, clock_policy: str) -> dict[str, Any]:
        return {**self._hello["facts"], "driver": driver, "python": platform.python_version(),
                "clock_policy": clock_policy,
                "protocol": PROTOCOL if self._plan.device == "cuda" else FAKE_PROTOCOL,
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "command": shlex.join(["python", "-m", "kernels.measure", *sys.argv[1:]]),
                "git_commit": _git_commit(), **self._plan.about,
                "kernel_defaults": self._hello["defaults"], "kernel_sources": source_hashes()}


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block, so that a row is written whole and counted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt


def _git_commit() -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10,
                              check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return shorten(done.stdout)
