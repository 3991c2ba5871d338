"""Records of the compiled engine: rows of operations, services and stalls of the SMs that are recorded."""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.numba_layout import N_OPS, N_STALLS, N_UNITS, Array


@jit
def log_op(log: Array, state: Array, sm: int, slot: int, role: int, cta: int, op: int, start: int, end: int) -> None:
    """Enter an operation of a role."""
    row = log[state[N_OPS]]
    state[N_OPS] += 1
    row[0], row[1], row[2], row[3], row[4], row[5], row[6] = sm, slot, role, cta, op, start, end


@jit
def log_unit(log: Array, state: Array, sm: int, unit: int, slot: int, role: int, op: int, start: int,
             end: int) -> None:
    """Enter a service of a unit."""
    row = log[state[N_UNITS]]
    state[N_UNITS] += 1
    row[0], row[1], row[2], row[3], row[4], row[5], row[6] = sm, unit, slot, role, op, start, end


@jit
def log_stall(log: Array, state: Array, sm: int, slot: int, role: int, reason: int, start: int, end: int) -> None:
    """Enter the time that a role waits for *reason*, unless it is none."""
    if end == start:
        return
    row = log[state[N_STALLS]]
    state[N_STALLS] += 1
    row[0], row[1], row[2], row[3], row[4], row[5] = sm, slot, role, reason, start, end
