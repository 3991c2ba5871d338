"""Studies none of whose points can be simulated: known without simulating any."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from turbosim.errors import ConfigError, TurbosimError
from turbosim.study.evaluate import Evaluator, reason_of
from turbosim.study.failures import Failure, failures_of, none_of
from turbosim.study.study import Study, Task

PATIENCE_S = 10.0
"""No further point is looked at after this time."""
REASONS = 10
"""Reasons that are traced to the study."""


def check_possible(study: Study, tasks: Sequence[Task]) -> None:
    """Raise ConfigError, with the lines that cause it, if none of *tasks*, the points of *study*, can be simulated.

    Programs are built, and fitted to their GPUs, until there is one that runs: mostly the first. Where none was found
    in :data:`PATIENCE_S`, the sweep finds out.
    """
    evaluator = Evaluator({name: r.gpu for name, r in study.hardware.items()})
    reasons: dict[str, str] = {}
    start = time.perf_counter()
    for task in tasks:
        reason = _refusal(evaluator, task)
        if reason is None:
            return
        reasons[task.point] = reason
        if time.perf_counter() - start > PATIENCE_S:
            return
    if tasks:
        cause = _option(study, evaluator, tasks, reasons)
        causes = failures_of(study, tasks, reasons, REASONS) if cause is None else [cause]
        raise ConfigError(none_of(len(tasks), causes))


def _refusal(evaluator: Evaluator, task: Task) -> str | None:
    """Return why *task* cannot be simulated, None if that is not known."""
    try:
        evaluator.check(task)
    except TurbosimError as error:
        return reason_of(error)
    except Exception:
        # Too little memory, or a defect: the row of the point tells it.
        return None
    return None


def _option(study: Study, evaluator: Evaluator, tasks: Sequence[Task], reasons: Mapping[str, str]) -> Failure | None:
    """Return the kernel option that all *tasks* have and one of each of *reasons* can be simulated without, if any."""
    firsts = {reasons[task.point]: task for task in reversed(tasks)}
    for name in study.settings:
        without = (replace(t, settings={k: v for k, v in t.settings.items() if k != name}) for t in firsts.values())
        if all(_refusal(evaluator, task) is None for task in without):
            loc = study.places.entry(f"set.{name}")
            at = f"{loc[-1]} ({study.places.where(loc, key=True)})"
            return Failure(reasons[tasks[0].point], len(tasks), len(firsts) - 1, at)
    return None
