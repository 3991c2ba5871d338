"""Recording what an SM does from one known state to the next, for fast-forwarding."""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.numba_layout import (
    ACCESS_AHEAD,
    ACCESS_AT,
    ACCESS_OWN,
    ACCESSES,
    ACCESSES_HERE,
    CLEAN,
    COLUMNS,
    FIRST_ACCESS,
    FIRST_WAIT,
    FOLLOWER,
    ISSUED,
    KNOWN_ACCESSES,
    KNOWN_WAITS,
    LOOP_OF,
    MAX_ACCESSES,
    MAX_WAITS,
    MODE,
    OCCUPANCY,
    REASONS,
    RECORDING,
    ROLES,
    SEGMENT,
    STATE,
    STATE_AT,
    TICKS,
    TRIES,
    TURN_ROLE,
    TURNS_OF,
    UNITS,
    WAIT_COUNTER,
    WAIT_TICKS,
    WAIT_UNTIL,
    WAITS,
    WAITS_HERE,
    WINDOW,
    Forward,
    Machine,
)
from turbosim.engine.numba_signals import value_of
from turbosim.engine.numba_state import loop_slot

MAX_TRIES = 8
"""Recordings of a segment that could not be repeated."""


@jit
def _sum_of(m: Machine, sm: int, column: int) -> int:
    """Return one of the SM's sums: reasons of its roles, busy units, operations."""
    roles = m.config[ROLES]
    total: int = m.ops[sm]
    if column < roles * REASONS:
        total = m.reasons[sm, column // REASONS, column % REASONS]
    elif column < roles * REASONS + UNITS:
        total = m.busy[sm, column - roles * REASONS]
    return total


@jit
def begin(m: Machine, f: Forward, sm: int) -> None:
    """Begin to record the segment from the SM's state, unless it is known or could not be repeated so far."""
    scalars = f.scalars
    row = f.states[scalars[sm, STATE]]
    if row[SEGMENT] or row[TRIES] == MAX_TRIES:
        return
    row[TRIES] += 1
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    scalars[sm, MODE] = RECORDING
    scalars[sm, CLEAN] = 1
    scalars[sm, WAITS] = 0
    scalars[sm, ACCESSES] = 0
    for local in range(occupancy * roles):
        actor = sm * occupancy * roles + local
        slot = loop_slot(m, actor)
        f.began_roles[sm, local] = m.env[actor, slot] if slot >= 0 else 0
    for local in range(occupancy):
        for counter in range(len(f.data_counter)):
            f.began_issued[sm, local, counter] = m.signals[sm * occupancy + local, counter, ISSUED]
    for column in range(roles * REASONS + UNITS + 1):
        f.began_sums[sm, column] = _sum_of(m, sm, column)


@jit
def record_wait(m: Machine, f: Forward, sm: int, slot: int, counter: int, value: int, now: int, done: int) -> None:
    """Note a wait for data; one that holds its role cannot be repeated."""
    if not f.data_counter[counter]:
        return
    scalars = f.scalars
    count = scalars[sm, WAITS]
    local = slot - sm * m.config[OCCUPANCY]
    until = value - f.began_issued[sm, local, counter]
    if done > now or count == MAX_WAITS or until > 0 or until <= MAX_ACCESSES - WINDOW:
        scalars[sm, CLEAN] = 0
        return
    f.new_waits[sm, count, WAIT_TICKS] = now - scalars[sm, STATE_AT]
    f.new_waits[sm, count, WAIT_COUNTER] = local * len(f.data_counter) + counter
    f.new_waits[sm, count, WAIT_UNTIL] = until
    scalars[sm, WAITS] = count + 1


@jit
def record_access(m: Machine, f: Forward, sm: int, actor: int, at: int, tile: int, own: int) -> None:
    """Note a load or store, and when the SM's own units are done with it, relative to its issue."""
    scalars = f.scalars
    count = scalars[sm, ACCESSES]
    if count == MAX_ACCESSES:
        scalars[sm, CLEAN] = 0
        return
    slot = loop_slot(m, actor)
    if slot < 0:
        scalars[sm, CLEAN] = 0
        return
    local = actor - sm * m.config[OCCUPANCY] * m.config[ROLES]
    variable = m.env[actor, slot]
    m.env[actor, slot] = f.began_roles[sm, local]
    began = value_of(m.table, m.terms, m.env, at * COLUMNS, actor)
    m.env[actor, slot] = variable
    f.new_accesses[sm, count, ACCESS_AT] = at
    f.new_accesses[sm, count, ACCESS_AHEAD] = tile - began
    f.new_accesses[sm, count, ACCESS_OWN] = own
    scalars[sm, ACCESSES] = count + 1


@jit
def link(m: Machine, f: Forward, sm: int, actor: int, follower: int, now: int) -> None:
    """Keep the segment that has been recorded, unless another SM has done so or there is no room."""
    scalars, counts = f.scalars, f.counts
    known = scalars[sm, STATE]
    row = f.states[known]
    waits, accesses = scalars[sm, WAITS], scalars[sm, ACCESSES]
    first_wait, first_access = counts[KNOWN_WAITS], counts[KNOWN_ACCESSES]
    if row[SEGMENT] or first_wait + waits > len(f.waits) or first_access + accesses > len(f.accesses):
        return
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    first = sm * occupancy * roles
    row[SEGMENT] = 1
    row[FOLLOWER] = follower
    row[TICKS] = now - scalars[sm, STATE_AT]
    row[TURN_ROLE] = actor - first
    row[FIRST_WAIT] = first_wait
    row[WAITS_HERE] = waits
    row[FIRST_ACCESS] = first_access
    row[ACCESSES_HERE] = accesses
    counts[KNOWN_WAITS] += waits
    counts[KNOWN_ACCESSES] += accesses
    for column in range(3):
        for i in range(waits):
            f.waits[first_wait + i, column] = f.new_waits[sm, i, column]
        for i in range(accesses):
            f.accesses[first_access + i, column] = f.new_accesses[sm, i, column]
    for local in range(occupancy * roles):
        slot = f.roles[known, local, LOOP_OF]
        f.roles[known, local, TURNS_OF] = m.env[first + local, slot] - f.began_roles[sm, local] if slot >= 0 else 0
    for local in range(occupancy):
        for counter in range(len(f.data_counter)):
            issued = m.signals[sm * occupancy + local, counter, ISSUED] - f.began_issued[sm, local, counter]
            f.issued[known, local, counter] = 0 if f.data_counter[counter] else issued
    for column in range(roles * REASONS + UNITS + 1):
        f.sums[known, column] = _sum_of(m, sm, column) - f.began_sums[sm, column]
