"""The kernels turbosim knows, by name."""

from __future__ import annotations

from typing import Any

from turbosim.errors import UsageError, did_you_mean
from turbosim.schedules.base import Schedule
from turbosim.schedules.copy import COPY
from turbosim.schedules.flash import FLASH
from turbosim.schedules.flash3 import FLASH3
from turbosim.schedules.gear import GEAR
from turbosim.schedules.gemm import GEMM
from turbosim.schedules.kivi import KIVI
from turbosim.schedules.sage import SAGE
from turbosim.schedules.turbo import TURBO

SCHEDULES: dict[str, Schedule[Any]] = {s.name: s for s in (FLASH, FLASH3, SAGE, TURBO, KIVI, GEAR, GEMM, COPY)}


def get_schedule(name: str) -> Schedule[Any]:
    """Return the schedule called *name*. Raises UsageError for an unknown one."""
    try:
        return SCHEDULES[name]
    except KeyError:
        known = ", ".join(SCHEDULES)
        raise UsageError(f"unknown kernel {name!r}: not among {known}{did_you_mean(name, SCHEDULES)}") from None
