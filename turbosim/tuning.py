"""Rank configurations of a kernel for a GPU without running any."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from turbosim.engine.api import run
from turbosim.engine.lower import ClockName
from turbosim.engine.numba_engine import is_compiled as engine_is_compiled
from turbosim.errors import TurbosimError, UsageError
from turbosim.hw.spec import Gpu
from turbosim.processes import in_processes
from turbosim.result import Result
from turbosim.sass.description import Description
from turbosim.sass.expressions import Value, evaluate
from turbosim.sass.prepare import prepare, program_of
from turbosim.sass.replay import is_compiled as replay_is_compiled

MOST = 10_000
"""Configurations of one sweep."""
_ENDED = "its process ended without an answer; there may be too little memory for so many jobs"


@dataclass(frozen=True)
class Resources:
    """What a compiled configuration needs."""

    registers: int
    """Per thread."""
    spill_bytes: int
    """Local memory per thread."""
    smem_bytes: int
    """Per CTA."""
    warps: int
    """Per CTA."""


@dataclass(frozen=True)
class Trial:
    """One configuration: its time, or why it has none."""

    settings: Mapping[str, Value]
    """What the sweep has set."""
    resources: Resources | None
    """None where it does not compile."""
    result: Result | None
    reason: str = ""
    """Why there is no result."""
    exit_code: int = 0
    """Of the error that is the reason."""

    @property
    def label(self) -> str:
        """The settings on one line."""
        return " ".join(f"{name}={value}" for name, value in self.settings.items())


def configurations(sweep: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Return every combination of *sweep*. Raises UsageError for more than 10,000 of them."""
    total = 1
    for values in sweep.values():
        total *= len(values)
    if total > MOST:
        raise UsageError(f"the sweep has {total:,} configurations, at most {MOST:,} are tried; give fewer values")
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]


def tune(description: Description, gpu: Gpu, sweep: Mapping[str, Sequence[Value]],
         settings: Mapping[str, Value] | None = None, *, clock: ClockName = "sustained", jobs: int = 1,
         progress: Callable[[int, int], None] | None = None, into: list[Trial] | None = None) -> list[Trial]:
    """Return a trial of every combination of *sweep*, the fastest first, those without a time last.

    *settings* hold for all; *jobs* processes share the work (:func:`turbosim.processes.in_processes` says what that
    asks of a script), and change nothing of the result; *progress* is called with (finished, all); *into* gets what is
    finished, also where an exception ends the work. Raises as :func:`turbosim.sass.prepare.prepare` where that has
    nothing to do with the sweep, UsageError for fewer than one job.
    """
    if jobs < 1:
        raise UsageError(f"jobs: must be at least 1, got {jobs}")
    every = configurations(sweep)
    wrong = [error for changes in every if (error := _defect(description, {**(settings or {}), **changes}))]
    if len(wrong) == len(every):
        # What is wrong with all is no property of a configuration.
        raise wrong[0]
    work = _Work(description, gpu, dict(settings or {}), clock)
    done: dict[int, Trial] = {}
    try:
        with closing(_trials(work, every, min(jobs, len(every)))) as trials:
            if progress is not None:
                progress(0, len(every))
            for place, trial in trials:
                done[place] = trial
                if progress is not None:
                    progress(len(done), len(every))
    finally:
        found = [done[place] for place in sorted(done)]
        if into is not None:
            into += found
    reasons = {t.reason for t in found}
    if len(reasons) == 1 and found[0].result is None and _ENDED not in reasons:
        # What fails everywhere is told as it is.
        prepared = prepare(description, gpu, {**(settings or {}), **found[0].settings})
        program_of(prepared, gpu, clock)
    return ranked(found)


def fixed_values(description: Description, sweep: Mapping[str, Sequence[Value]],
                 settings: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """Return the sizes, constants and compiler options that are the same in all configurations that have a launch."""
    found: dict[str, Value] | None = None
    for changes in configurations(sweep):
        try:
            values = description.bind({**(settings or {}), **changes}).values
        except TurbosimError:
            continue
        if found is None:
            found = {name: value for name, value in values.items() if name not in sweep}
        found = {name: value for name, value in found.items() if name in values and values[name] == value}
    return found or {}


def _literal(value: Value) -> Value:
    """Return the number that *value* spells, or itself."""
    try:
        return evaluate(value, {})
    except UsageError:
        return value


def _defect(description: Description, settings: dict[str, Value]) -> TurbosimError | None:
    """Return why *description* has no launch with *settings*, None if it has one."""
    try:
        description.bind(settings)
    except TurbosimError as error:
        return error
    return None


def _trials(work: _Work, every: Sequence[dict[str, Value]], jobs: int) -> Generator[tuple[int, Trial], None, None]:
    """Yield (place, trial) of *every* configuration, as they are finished."""
    first = 0
    # What Numba compiles is kept on disk: once here, instead of in every process.
    while first < len(every) and (jobs == 1 or not (engine_is_compiled() and replay_is_compiled())):
        yield first, work.trial(every[first])
        first += 1
    for place, trial in in_processes(work.trial, every[first:], jobs):
        at = first + place
        yield at, work.lost(every[at]) if trial is None else trial


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return *trials*, the fastest first, those without a time last."""
    return sorted(trials, key=lambda t: (t.result is None, t.result.time_s if t.result else 0.0))


@dataclass(frozen=True)
class _Work:
    """What all trials have in common."""

    description: Description
    gpu: Gpu
    settings: dict[str, Value]
    clock: ClockName

    def trial(self, changes: dict[str, Value]) -> Trial:
        """Return the trial of one configuration. Raises UsageError."""
        settings = {**self.settings, **changes}
        if error := _defect(self.description, settings):
            return Trial({name: _literal(value) for name, value in changes.items()}, None, None,
                         _short(str(error)), error.exit_code)
        resources = None
        try:
            prepared = prepare(self.description, self.gpu, settings)
            kernel = prepared.kernel
            resources = Resources(kernel.registers, kernel.stack_bytes, kernel.smem_bytes + prepared.launch.smem_bytes,
                                  prepared.launch.warps)
            program = program_of(prepared, self.gpu, self.clock)
            return Trial(self._shown(changes), resources, run(self.gpu, program, clock=self.clock))
        except UsageError:
            raise
        except TurbosimError as error:
            return Trial(self._shown(changes), resources, None, _short(str(error)), error.exit_code)

    def lost(self, changes: dict[str, Value]) -> Trial:
        """Return the trial of a configuration whose process has ended."""
        return Trial(self._shown(changes), None, None, _ENDED, TurbosimError.exit_code)

    def _shown(self, changes: dict[str, Value]) -> dict[str, Value]:
        bound = self.description.bind({**self.settings, **changes})
        return {name: bound.values.get(name) for name in changes}


def _short(message: str) -> str:
    """Return the first line of an error without the names of kernel and GPU, which all rows share."""
    return re.sub(r"^(launch|kernel) '\w+'( on \w+)?: ", "", message.splitlines()[0])
