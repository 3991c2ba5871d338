"""Tensor cores of an SM in the compiled engine, as :class:`turbosim.engine.simpy_parts.TensorCores` defines them."""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.lowered import DELAYS
from turbosim.engine.numba_layout import (
    OCCUPANCY,
    ROLES,
    TENSOR_UNIT,
    UNITS,
    WRITE_END,
    WRITE_START,
    WRITE_TICKS,
    Machine,
)


@jit
def delayed(m: Machine, sm: int, start: int, end: int) -> int:
    """Return when a product from *start* to *end* ends beside the blocks that write registers meanwhile."""
    actors = m.config[OCCUPANCY] * m.config[ROLES]
    last = end
    # What is written during the delay delays it further.
    for _ in range(DELAYS):
        delay = 0
        for actor in range(sm * actors, (sm + 1) * actors):
            until = m.writes[actor, WRITE_END]
            if until > start:
                since = m.writes[actor, WRITE_START]
                delay += m.writes[actor, WRITE_TICKS] * (min(last, until) - max(start, since)) // (until - since)
        last = end + delay
    return last


@jit
def write(m: Machine, sm: int, actor: int, now: int, end: int, ticks: int) -> None:
    """Delay products by *ticks* from *now* to *end*: those so far by what follows them, later ones themselves."""
    if end == now:
        return
    at = sm * UNITS + TENSOR_UNIT
    free = m.unit_free[at]
    if free > now:
        last = free
        for _ in range(DELAYS):
            last = free + ticks * (min(last, end) - now) // (end - now)
        m.unit_free[at] = last
    m.writes[actor, WRITE_START] = now
    m.writes[actor, WRITE_END] = end
    m.writes[actor, WRITE_TICKS] = ticks
