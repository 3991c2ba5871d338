"""The state of an SM for fast-forwarding: its digest, what is kept of it after a turn, and putting that back."""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.lowered import SPREADS
from turbosim.engine.numba_layout import (
    ACTOR_BITS,
    COLUMNS,
    GRID_SLOTS,
    ISSUED,
    LAST_CODE,
    LAST_DONE,
    LOOP_SLOT,
    LOOP_SLOTS,
    MAX_TURNS,
    NEVER,
    OCCUPANCY,
    PENDING,
    PERIOD,
    PERIOD_NUMBER,
    READ_END,
    READ_START,
    READ_TICKS,
    REASONS,
    RING_CODE,
    RING_DONE,
    ROLES,
    TURNS,
    UNITS,
    WINDOW,
    Forward,
    Machine,
)
from turbosim.engine.numba_memory import set_leaf
from turbosim.engine.numba_smem import keep_reads, put_reads


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
def digest_of(m: Machine, f: Forward, sm: int, now: int) -> int:
    """Return a hash of everything about an SM that decides its future, relative to *now*, data arrivals aside."""
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    first = sm * occupancy * roles
    leaves = len(m.tree) >> 1
    # The durations of blocks may depend on the SM's CTAs, none of which ends while all of them repeat their loops.
    digest = _mix(1469598103934665603, m.residents[sm])
    for actor in range(first, first + occupancy * roles):
        key = m.tree[leaves + actor]
        digest = _mix(digest, m.pc[actor] * 64 + m.piece[actor])
        digest = _mix(digest, -1 if key == NEVER else (key >> ACTOR_BITS) - now)
        on = m.blocked_on[actor]
        digest = _mix(digest, on)
        if on >= 0:
            digest = _mix(digest, m.blocked_until[actor] - m.signals[actor // roles, on, ISSUED])
            digest = _mix(digest, m.blocked_since[actor] - now)
        slot = loop_slot(m, actor)
        for variable in range(GRID_SLOTS, GRID_SLOTS + LOOP_SLOTS):
            if variable != slot:
                digest = _mix(digest, m.env[actor, variable])
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
            digest = _mix(digest, max(0, m.signals[place, counter, LAST_DONE] - now))
            count = m.signals[place, counter, ISSUED]
            for back in range(min(PENDING, count)):
                done = m.rings[place, counter, (count - 1 - back) & (WINDOW - 1), RING_DONE]
                digest = _mix(digest, max(0, done - now))
    return digest


@jit
def keep_sums(m: Machine, f: Forward, sm: int, turn: int) -> None:
    """Keep the SM's sums as they are after *turn*."""
    roles = m.config[ROLES]
    for role in range(roles):
        for reason in range(REASONS):
            f.snap_sums[sm, turn, role * REASONS + reason] = m.reasons[sm, role, reason]
    for unit in range(UNITS):
        f.snap_sums[sm, turn, roles * REASONS + unit] = m.busy[sm, unit]
    f.snap_sums[sm, turn, roles * REASONS + UNITS] = m.ops[sm]


@jit
def snapshot(m: Machine, f: Forward, sm: int, turn: int, now: int) -> bool:
    """Keep the SM's state after a turn; False if more signals are pending than a snapshot holds."""
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    leaves = len(m.tree) >> 1
    for local in range(occupancy * roles):
        actor = sm * occupancy * roles + local
        row = f.snap_actor[sm, turn, local]
        row[0] = m.pc[actor]
        row[1] = m.piece[actor]
        row[2] = m.tree[leaves + actor]
        row[3] = m.blocked_on[actor]
        row[4] = m.blocked_until[actor]
        row[5] = m.blocked_since[actor]
        slot = loop_slot(m, actor)
        row[6] = m.env[actor, slot] if slot >= 0 else 0
    for unit in range(UNITS):
        f.snap_unit[sm, turn, unit] = m.unit_free[sm * UNITS + unit]
    keep_reads(m, f, sm, turn)
    for local in range(occupancy):
        place = sm * occupancy + local
        for counter in range(len(f.data_counter)):
            count = m.signals[place, counter, ISSUED]
            f.snap_issued[sm, turn, local, counter] = count
            f.snap_last[sm, turn, local, counter] = m.signals[place, counter, LAST_DONE]
            f.snap_code[sm, turn, local, counter] = m.signals[place, counter, LAST_CODE]
            if f.data_counter[counter]:
                continue
            for back in range(min(PENDING, count)):
                f.snap_ring[sm, turn, local, counter, back] = (
                    m.rings[place, counter, (count - 1 - back) & (WINDOW - 1), RING_DONE])
                f.snap_ring_code[sm, turn, local, counter, back] = (
                    m.rings[place, counter, (count - 1 - back) & (WINDOW - 1), RING_CODE])
            if count > PENDING and m.rings[place, counter, (count - 1 - PENDING) & (WINDOW - 1), RING_DONE] > now:
                return False
    keep_sums(m, f, sm, turn)
    return True


@jit
def put_back(m: Machine, f: Forward, sm: int, turn: int) -> None:
    """Put the SM back into the state after *turn* of the present period."""
    scalars = f.scalars
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    leaves = len(m.tree) >> 1
    number = scalars[sm, PERIOD_NUMBER]
    shift = number * scalars[sm, PERIOD]
    for local in range(occupancy * roles):
        actor = sm * occupancy * roles + local
        row = f.snap_actor[sm, turn, local]
        m.pc[actor] = row[0]
        m.piece[actor] = row[1]
        m.blocked_on[actor] = row[3]
        slot = loop_slot(m, actor)
        if slot >= 0:
            m.env[actor, slot] = row[6] + number * f.step_variable[sm, local]
        if row[3] >= 0:
            m.blocked_until[actor] = row[4] + number * f.step_issued[sm, local // roles, row[3]]
            m.blocked_since[actor] = row[5] + shift
        set_leaf(m.tree, leaves + actor, NEVER if row[2] == NEVER else row[2] + (shift << ACTOR_BITS))
    for unit in range(UNITS):
        m.unit_free[sm * UNITS + unit] = f.snap_unit[sm, turn, unit] + shift
    put_reads(m, f, sm, turn, shift)
    for local in range(occupancy):
        place = sm * occupancy + local
        for counter in range(len(f.data_counter)):
            if f.data_counter[counter]:
                continue
            count = f.snap_issued[sm, turn, local, counter] + number * f.step_issued[sm, local, counter]
            moves = shift if f.step_issued[sm, local, counter] else 0
            m.signals[place, counter, ISSUED] = count
            m.signals[place, counter, LAST_DONE] = f.snap_last[sm, turn, local, counter] + moves
            m.signals[place, counter, LAST_CODE] = f.snap_code[sm, turn, local, counter]
            for back in range(min(PENDING, f.snap_issued[sm, turn, local, counter])):
                at = (count - 1 - back) & (WINDOW - 1)
                m.rings[place, counter, at, RING_DONE] = f.snap_ring[sm, turn, local, counter, back] + moves
                m.rings[place, counter, at, RING_CODE] = f.snap_ring_code[sm, turn, local, counter, back]
    last = scalars[sm, TURNS] - 1
    for column in range(roles * REASONS + UNITS + 1):
        start = f.snap_sums[sm, MAX_TURNS, column]
        whole = f.snap_sums[sm, last, column] - start
        gained = (number - 1) * whole + f.snap_sums[sm, turn, column] - start
        if column < roles * REASONS:
            m.reasons[sm, column // REASONS, column % REASONS] += gained
        elif column < roles * REASONS + UNITS:
            m.busy[sm, column - roles * REASONS] += gained
        else:
            m.ops[sm] += gained
