"""Rank configurations of a kernel for a GPU without running any."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from turbosim.engine.api import run
from turbosim.engine.lower import ClockName
from turbosim.errors import TurbosimError, UsageError
from turbosim.hw.spec import Gpu
from turbosim.result import Result
from turbosim.sass.description import Description
from turbosim.sass.expressions import Value
from turbosim.sass.prepare import lifted, prepare

MOST = 10_000
"""Configurations of one sweep."""


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
         settings: Mapping[str, Value] | None = None, *, clock: ClockName = "sustained",
         progress: Callable[[int, int], None] | None = None, into: list[Trial] | None = None) -> list[Trial]:
    """Return a trial of every combination of *sweep*, the fastest first, those without a time last.

    *settings* hold for all; *progress* is called with (finished, all); what is finished is appended to *into*, which an
    exception leaves. Raises as :func:`turbosim.sass.prepare.prepare` where that has nothing to do with the sweep.
    """
    trials = [] if into is None else into
    every = configurations(sweep)
    for changes in every:
        # Names and expressions are the description's: what is wrong with them is no property of a configuration.
        description.bind({**(settings or {}), **changes})
    for number, changes in enumerate(every):
        if progress is not None:
            progress(number, len(every))
        trials.append(_trial(description, gpu, {**(settings or {}), **changes}, changes, clock))
    reasons = {t.reason for t in trials}
    if len(reasons) == 1 and trials[0].result is None:
        # What fails everywhere is told as it is.
        prepared = prepare(description, gpu, {**(settings or {}), **trials[0].settings})
        lifted(prepared, gpu, clock)
    return ranked(trials)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return *trials*, the fastest first, those without a time last."""
    return sorted(trials, key=lambda t: (t.result is None, t.result.time_s if t.result else 0.0))


def _trial(description: Description, gpu: Gpu, settings: Mapping[str, Value], changes: Mapping[str, Value],
           clock: ClockName) -> Trial:
    resources = None
    bound = description.bind(settings)
    shown = {name: bound.values.get(name) for name in changes}
    try:
        prepared = prepare(description, gpu, settings)
        kernel = prepared.kernel
        resources = Resources(kernel.registers, kernel.stack_bytes, kernel.smem_bytes + prepared.launch.smem_bytes,
                              prepared.launch.warps)
        program = lifted(prepared, gpu, clock).program
        return Trial(shown, resources, run(gpu, program, clock=clock))
    except UsageError:
        raise
    except TurbosimError as error:
        return Trial(shown, resources, None, _short(str(error)))


def _short(message: str) -> str:
    """Return the first line of an error without the names of kernel and GPU, which all rows share."""
    return re.sub(r"^(launch|kernel) '\w+'( on \w+)?: ", "", message.splitlines()[0])
