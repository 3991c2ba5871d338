"""The state of an SM for fast-forwarding: its digest, keeping it, and putting an SM into it."""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.lowered import SPREADS
from turbosim.engine.numba_layout import (
    ACTOR_BITS,
    COLUMNS,
    COUNTER,
    GRID_SLOTS,
    ISSUED,
    KIND,
    LAST_CODE,
    LAST_DONE,
    LOOP_HEAD,
    LOOP_NEXT,
    LOOP_OF,
    LOOP_SLOT,
    LOOP_SLOTS,
    NEVER,
    OCCUPANCY,
    PENDING,
    READ_END,
    READ_START,
    READ_TICKS,
    READS_KEPT,
    RING_CODE,
    RING_DONE,
    ROLES,
    SNAP_CODE,
    SNAP_LAST,
    UNITS,
    WAIT,
    WINDOW,
    WRITE_END,
    WRITE_START,
    WRITE_TICKS,
    Forward,
    Machine,
)
from turbosim.engine.numba_memory import set_leaf
from turbosim.engine.numba_signals import value_of


@jit
def _mix(digest: int, value: int) -> int:
    digest ^= value
    digest *= 1099511628211
    return digest ^ (digest >> 29)


@jit
def loop_slot(m: Machine, actor: int) -> int:
    """Return the environment slot of the innermost loop a role is in, or -1."""
    return m.table[m.pc[actor] * COLUMNS + LOOP_SLOT]


@jit
def can_be_known(m: Machine, sm: int) -> bool:
    """Return whether an SM's future may be told from its digest: all its roles are in loops or have ended."""
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    leaves = len(m.tree) >> 1
    held = 0
    for place in range(sm * occupancy, (sm + 1) * occupancy):
        held += m.slot_cta[place] >= 0
    if held < m.residents[sm]:
        # A CTA has ended in this tick, and its slot is still to be dealt out.
        return False
    for actor in range(sm * occupancy * roles, (sm + 1) * occupancy * roles):
        if loop_slot(m, actor) < 0 and (m.tree[leaves + actor] != NEVER or m.blocked_on[actor] >= 0):
            return False
    return True


@jit
def digest_of(m: Machine, f: Forward, sm: int, now: int) -> int:
    """Return a hash of everything about an SM that decides its future, relative to *now*.

    Left out are arrivals of data and the variables of innermost loops, of which there is only what waits make of them.
    """
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    first = sm * occupancy * roles
    leaves = len(m.tree) >> 1
    # The durations of blocks may depend on the SM's CTAs.
    digest = _mix(1469598103934665603, m.residents[sm])
    for actor in range(first, first + occupancy * roles):
        key = m.tree[leaves + actor]
        digest = _mix(digest, m.pc[actor] * 64 + m.piece[actor])
        digest = _mix(digest, -1 if key == NEVER else (key >> ACTOR_BITS) - now)
        place = actor // roles
        on = m.blocked_on[actor]
        digest = _mix(digest, on)
        if on >= 0:
            digest = _mix(digest, m.blocked_until[actor] - m.signals[place, on, ISSUED])
            digest = _mix(digest, m.blocked_since[actor] - now)
        if m.writes[actor, WRITE_END] > now:
            digest = _mix(digest, m.writes[actor, WRITE_END] - now)
            digest = _mix(digest, m.writes[actor, WRITE_START] - now)
            digest = _mix(digest, m.writes[actor, WRITE_TICKS])
        slot = loop_slot(m, actor)
        if slot < 0:
            continue
        for variable in range(GRID_SLOTS, GRID_SLOTS + LOOP_SLOTS):
            if variable != slot:
                digest = _mix(digest, m.env[actor, variable])
        here = m.pc[actor] * COLUMNS
        for at in range(m.table[here + LOOP_HEAD] + 1, m.table[here + LOOP_NEXT]):
            if m.table[at * COLUMNS + KIND] == WAIT:
                counter = m.table[at * COLUMNS + COUNTER]
                until = value_of(m.table, m.terms, m.env, at * COLUMNS, actor) + m.earlier[actor, counter]
                digest = _mix(digest, until - m.signals[place, counter, ISSUED])
    for unit in range(UNITS):
        digest = _mix(digest, max(0, m.unit_free[sm * UNITS + unit] - now))
    for number in range(max(0, m.read_count[sm] - SPREADS), m.read_count[sm]):
        read = m.reads[sm, number % SPREADS]
        if read[READ_END] > now:
            digest = _mix(digest, read[READ_START] - now)
            digest = _mix(digest, read[READ_END] - now)
            digest = _mix(digest, read[READ_TICKS])
    for place in range(sm * occupancy, (sm + 1) * occupancy):
        for counter in range(len(f.data_counter)):
            if f.data_counter[counter]:
                continue
            left = m.signals[place, counter, LAST_DONE] - now
            digest = _mix(digest, left * 64 + m.signals[place, counter, LAST_CODE] if left > 0 else 0)
            count = m.signals[place, counter, ISSUED]
            for back in range(min(PENDING, count)):
                ring = m.rings[place, counter, (count - 1 - back) & (WINDOW - 1)]
                left = ring[RING_DONE] - now
                digest = _mix(digest, left * 64 + ring[RING_CODE] if left > 0 else 0)
    return digest


@jit
def is_kept_whole(m: Machine, f: Forward, sm: int, now: int) -> bool:
    """Return whether no more signals are pending than :func:`keep` holds."""
    occupancy = m.config[OCCUPANCY]
    for place in range(sm * occupancy, (sm + 1) * occupancy):
        for counter in range(len(f.data_counter)):
            count = m.signals[place, counter, ISSUED]
            if (not f.data_counter[counter] and count > PENDING
                    and m.rings[place, counter, (count - 1 - PENDING) & (WINDOW - 1), RING_DONE] > now):
                return False
    return True


@jit
def keep(m: Machine, f: Forward, sm: int, known: int, now: int) -> None:
    """Keep the SM's state as the known state *known*."""
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    leaves = len(m.tree) >> 1
    for local in range(occupancy * roles):
        actor = sm * occupancy * roles + local
        row = f.snap_actor[known, local]
        row[0] = m.pc[actor]
        row[1] = m.piece[actor]
        key = m.tree[leaves + actor]
        row[2] = -1 if key == NEVER else (key >> ACTOR_BITS) - now
        on = m.blocked_on[actor]
        row[3] = on
        if on >= 0:
            row[4] = m.blocked_until[actor] - m.signals[actor // roles, on, ISSUED]
            row[5] = m.blocked_since[actor] - now
        row[6] = max(0, m.writes[actor, WRITE_END] - now)
        row[7] = m.writes[actor, WRITE_END] - m.writes[actor, WRITE_START]
        row[8] = m.writes[actor, WRITE_TICKS]
        f.roles[known, local, LOOP_OF] = loop_slot(m, actor)
    for unit in range(UNITS):
        f.snap_unit[known, unit] = max(0, m.unit_free[sm * UNITS + unit] - now)
    count = m.read_count[sm]
    kept = min(SPREADS, count)
    f.states[known, READS_KEPT] = kept
    for number in range(kept):
        row = m.reads[sm, (count - kept + number) % SPREADS]
        f.snap_reads[known, number, READ_START] = row[READ_START] - now
        f.snap_reads[known, number, READ_END] = row[READ_END] - now
        f.snap_reads[known, number, READ_TICKS] = row[READ_TICKS]
    for local in range(occupancy):
        place = sm * occupancy + local
        for counter in range(len(f.data_counter)):
            if f.data_counter[counter]:
                continue
            count = m.signals[place, counter, ISSUED]
            f.snap_signal[known, local, counter, SNAP_LAST] = max(0, m.signals[place, counter, LAST_DONE] - now)
            f.snap_signal[known, local, counter, SNAP_CODE] = m.signals[place, counter, LAST_CODE]
            for back in range(min(PENDING, count)):
                ring = m.rings[place, counter, (count - 1 - back) & (WINDOW - 1)]
                f.snap_ring[known, local, counter, back, RING_DONE] = max(0, ring[RING_DONE] - now)
                f.snap_ring[known, local, counter, back, RING_CODE] = ring[RING_CODE]


@jit
def put_back(m: Machine, f: Forward, sm: int, known: int, now: int) -> None:
    """Put the SM into the known state *known* at *now*; loop variables and counts of signals are already right."""
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    leaves = len(m.tree) >> 1
    for local in range(occupancy * roles):
        actor = sm * occupancy * roles + local
        row = f.snap_actor[known, local]
        m.pc[actor] = row[0]
        m.piece[actor] = row[1]
        on = row[3]
        m.blocked_on[actor] = on
        if on >= 0:
            m.blocked_until[actor] = row[4] + m.signals[actor // roles, on, ISSUED]
            m.blocked_since[actor] = row[5] + now
        m.writes[actor, WRITE_END] = row[6] + now
        m.writes[actor, WRITE_START] = row[6] + now - row[7]
        m.writes[actor, WRITE_TICKS] = row[8]
        set_leaf(m.tree, leaves + actor, NEVER if row[2] < 0 else ((row[2] + now) << ACTOR_BITS) | actor)
    for unit in range(UNITS):
        m.unit_free[sm * UNITS + unit] = f.snap_unit[known, unit] + now
    m.read_count[sm] = f.states[known, READS_KEPT]
    for number in range(m.read_count[sm]):
        m.reads[sm, number, READ_START] = f.snap_reads[known, number, READ_START] + now
        m.reads[sm, number, READ_END] = f.snap_reads[known, number, READ_END] + now
        m.reads[sm, number, READ_TICKS] = f.snap_reads[known, number, READ_TICKS]
    for local in range(occupancy):
        place = sm * occupancy + local
        for counter in range(len(f.data_counter)):
            if f.data_counter[counter]:
                continue
            count = m.signals[place, counter, ISSUED]
            m.signals[place, counter, LAST_DONE] = f.snap_signal[known, local, counter, SNAP_LAST] + now
            m.signals[place, counter, LAST_CODE] = f.snap_signal[known, local, counter, SNAP_CODE]
            for back in range(min(PENDING, count)):
                at = (count - 1 - back) & (WINDOW - 1)
                m.rings[place, counter, at, RING_DONE] = f.snap_ring[known, local, counter, back, RING_DONE] + now
                m.rings[place, counter, at, RING_CODE] = f.snap_ring[known, local, counter, back, RING_CODE]
