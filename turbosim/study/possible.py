"""Studies none of whose points can be simulated: known without simulating any."""

from __future__ import annotations

import time
from collections.abc import Sequence

from turbosim.errors import ConfigError, TurbosimError
from turbosim.study.evaluate import Evaluator, reason_of
from turbosim.study.failures import failures_of, none_of
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
        try:
            evaluator.check(task)
            return
        except TurbosimError as error:
            reasons[task.point] = reason_of(error)
        except Exception:
            # Too little memory, or a defect: the row of the point tells it.
            return
        if time.perf_counter() - start > PATIENCE_S:
            return
    if tasks:
        raise ConfigError(none_of(len(tasks), failures_of(study, tasks, reasons, REASONS)))
