"""Shared memory of an SM in the compiled engine, as :class:`turbosim.engine.simpy_parts.SharedMemory` defines it."""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.lowered import SPREADS
from turbosim.engine.numba_layout import READ_END, READ_START, READ_TICKS, SMEM_UNIT, UNITS, Forward, Machine


@jit
def read_operands(m: Machine, sm: int, start: int, end: int, ticks: int) -> None:
    """Read the operands of a product for *ticks* between *start* and *end*."""
    count = m.read_count[sm]
    row = m.reads[sm, count % SPREADS]
    row[READ_START] = start
    row[READ_END] = end
    row[READ_TICKS] = ticks
    m.read_count[sm] = count + 1
    m.busy[sm, SMEM_UNIT] += ticks
    free = m.unit_free[sm * UNITS + SMEM_UNIT]
    if free > start:
        m.unit_free[sm * UNITS + SMEM_UNIT] = free + ticks * (min(free, end) - start) // (end - start)


@jit
def end_of_service(m: Machine, sm: int, at: int, ticks: int) -> int:
    """Return when a request of *ticks* that is served from *at* ends, beside the operands of products."""
    count = m.read_count[sm]
    for number in range(max(0, count - SPREADS), count):
        row = m.reads[sm, number % SPREADS]
        start, end = row[READ_START], row[READ_END]
        if end <= at:
            continue
        if start > at:
            if start - at >= ticks:
                break
            ticks -= start - at
            at = start
        left = end - start - row[READ_TICKS]
        spare = (end - at) * left // (end - start)
        if spare >= ticks:
            at -= -ticks * (end - start) // left
            return at
        ticks -= spare
        at = end
    return at + ticks


@jit
def keep_reads(m: Machine, f: Forward, sm: int, turn: int) -> None:
    """Keep what products read after a turn, the latest first."""
    count = m.read_count[sm]
    for back in range(min(SPREADS, count)):
        for column in range(3):
            f.snap_reads[sm, turn, back, column] = m.reads[sm, (count - 1 - back) % SPREADS, column]


@jit
def put_reads(m: Machine, f: Forward, sm: int, turn: int, shift: int) -> None:
    """Put back what :func:`keep_reads` has kept, *shift* ticks later. Those that have ended count no more."""
    count = m.read_count[sm]
    for back in range(min(SPREADS, count)):
        row = m.reads[sm, (count - 1 - back) % SPREADS]
        row[READ_START] = f.snap_reads[sm, turn, back, READ_START] + shift
        row[READ_END] = f.snap_reads[sm, turn, back, READ_END] + shift
        row[READ_TICKS] = f.snap_reads[sm, turn, back, READ_TICKS]
