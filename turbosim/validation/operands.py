"""Which operands the products of a schedule have, so that no row of others is predicted as if it had these."""

from __future__ import annotations

from turbosim.schedules.registry import get_schedule
from turbosim.validation.meta import Model
from turbosim.validation.own_options import UnmodelledError
from turbosim.validation.row import Row
from turbosim.workload import Attention, Gemm

HALF = ("fp16", "bf16")
"""Operands of 16 bits, whose products take the same time."""
_OTHERS = {"turbo": ("int8",), "sage": ("int8",)}
"""Further operands of schedules of attention: those that they quantise to."""


def operands_of(row: Row, model: Model) -> str:
    """Return the option ``dtype`` that *row* gives its schedule; empty where it needs none, or its meta file has one.

    Tilings, cases and options of the row that have one replace it.

    Raises UnmodelledError for operands that the schedule does not multiply.
    """
    assert model.schedule is not None
    schedule = get_schedule(model.schedule)
    if isinstance(row.workload, Attention):
        known = (*HALF, *_OTHERS.get(schedule.name, ()))
        if row.dtype not in known:
            raise UnmodelledError(f"schedule {schedule.name} multiplies {', '.join(known)}, and the row has "
                                  f"{row.dtype}")
        return ""
    has_option = isinstance(row.workload, Gemm) and "dtype" in schedule.options.__dataclass_fields__
    if not has_option or "dtype" in model.options or row.dtype == "fp16":
        return ""
    return row.dtype.partition("_")[0] if row.dtype.startswith("fp8") else row.dtype
