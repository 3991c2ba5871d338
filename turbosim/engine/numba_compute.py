"""A part of a block of instructions on the pipes of an SM, in the compiled engine."""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.numba_layout import (
    CLAIM,
    CLAIMS,
    CODE,
    COLUMNS,
    CONFLICT,
    CONFLICTS,
    LATENCY,
    LATENCY_REASON,
    OWN,
    PIECES,
    RESIDENT_TICKS,
    SMEM_UNIT,
    TENSOR_UNIT,
    UNITS,
    Machine,
)
from turbosim.engine.numba_log import log_op, log_stall, log_unit
from turbosim.engine.numba_smem import end_of_service
from turbosim.engine.numba_tensor import delayed, write


@jit
def serve_part(m: Machine, sm: int, slot: int, role: int, actor: int, at: int, now: int) -> int:
    """Serve the next part of the block that a role is at; return when the role goes on."""
    table, record, base = m.table, m.recorded[sm], sm * UNITS
    inst = at * COLUMNS
    pieces = table[inst + PIECES]
    part_number = m.piece[actor]
    if part_number == 0:
        m.ops[sm] += 1
        m.op_start[actor] = now
    end = now
    served = now
    unit = table[inst + CODE]
    first_claim = table[inst + CLAIM] + part_number * table[inst + CLAIMS]
    for c in range(first_claim, first_claim + table[inst + CLAIMS]):
        ticks = m.claims[c, 1]
        if ticks == 0:
            continue
        which = m.claims[c, 0]
        start = max(now, m.unit_free[base + which])
        stop = start + ticks if which != SMEM_UNIT else end_of_service(m, sm, start, ticks)
        if which == TENSOR_UNIT and m.config[CONFLICTS]:
            stop = delayed(m, sm, start, stop)
        m.unit_free[base + which] = stop
        m.busy[sm, which] += ticks
        if stop > end:
            end = stop
            served = start
            unit = which
        if record:
            log_unit(m.unit_log, m.state, sm, which, slot, role, at, start, stop)
    own = table[inst + OWN]
    known = table[inst + RESIDENT_TICKS]
    if known:
        own = m.durations[own + min(m.residents[sm], known) - 1]
    if own:
        end = max(end, now + own * (part_number + 1) // pieces - own * part_number // pieces)
    conflict = table[inst + CONFLICT]
    if conflict:
        conflict = conflict * (part_number + 1) // pieces - conflict * part_number // pieces
        write(m, sm, actor, now, end, conflict)
    m.reasons[sm, role, UNITS + unit] += served - now
    m.reasons[sm, role, unit] += end - served
    wake = end
    if part_number == pieces - 1:
        m.piece[actor] = 0
        m.pc[actor] = at + 1
        wake = end + table[inst + LATENCY]
        m.reasons[sm, role, LATENCY_REASON] += table[inst + LATENCY]
    else:
        m.piece[actor] = part_number + 1
    if record:
        log_stall(m.stall_log, m.state, sm, slot, role, UNITS + unit, now, served)
        log_stall(m.stall_log, m.state, sm, slot, role, unit, served, end)
        log_stall(m.stall_log, m.state, sm, slot, role, LATENCY_REASON, end, wake)
        if part_number == pieces - 1:
            log_op(m.op_log, m.state, sm, slot, role, m.role_cta[actor], at, m.op_start[actor], wake)
    return wake
