"""Fast-forwarding: exact replay of SMs that have become periodic.

In the main loop of a compute-bound kernel an SM repeats itself: the same turns at the same distances, only loop
variables, tile numbers and signal counts move on. All that ties it to the rest of the GPU are its memory accesses. So
once an SM's state has repeated, one period is recorded: the turns that access memory, what they access, the state after
each of them, and for each copy the latest arrival that no wait would notice. From then on only the accesses are
replayed, at their exact ticks and in the global order of turns, through the same L2 and channels. When a copy would
arrive too late to go unnoticed, or the loop nears its end, the SM's full state is restored from the snapshot of that
turn and detailed simulation goes on. Nothing is approximated: totals equal those of the full replay, which tests check.
"""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.numba_layout import (
    ACCESS_AT,
    ACCESS_INDEX,
    ACCESS_LIMIT,
    ACCESS_OWN,
    ACCESS_SLOT,
    ACCESS_STEP,
    ACCESS_TILE,
    ACCESSES,
    ACTOR_BITS,
    ANCHOR_ACTOR,
    ANCHOR_AT,
    ANCHORS_LEFT,
    ASTRAY,
    CLEAN,
    COLUMNS,
    COUNTER,
    FAILURES,
    FIRST_ACCESS,
    FORWARD,
    GRID_SLOTS,
    HISTORY,
    IDLE,
    ISSUED,
    KIND,
    LOAD,
    LOOP,
    LOOP_HEAD,
    LOOP_NEXT,
    LOOP_SLOT,
    MAX_ACCESSES,
    MAX_PERIODS,
    MAX_TURNS,
    MAX_WAITS,
    MODE,
    NEVER,
    NEXT_TURN,
    OCCUPANCY,
    PERIOD,
    PERIOD_NUMBER,
    RECORDING,
    RING_DONE,
    ROLES,
    SEEN,
    SKIP,
    START,
    START_HASH,
    TERM,
    TERMS,
    TURN_ACTOR,
    TURN_TIME,
    TURNS,
    WAIT,
    WAITS,
    WINDOW,
    Forward,
    Machine,
)
from turbosim.engine.numba_memory import set_leaf
from turbosim.engine.numba_state import digest_of, keep_sums, loop_slot, put_back, snapshot

MIN_PERIODS = 4
"""Fewer are not worth recording."""
PATIENCE = 24
"""Anchors without a repetition before a pause."""


@jit
def _reset(f: Forward, sm: int, pause: int) -> None:
    f.scalars[sm, MODE] = IDLE
    f.scalars[sm, ANCHOR_ACTOR] = -1
    f.scalars[sm, SEEN] = 0
    f.scalars[sm, SKIP] = pause


@jit
def _fail(f: Forward, sm: int) -> None:
    """Give up a recording; try again after a pause that grows with every failure."""
    f.scalars[sm, FAILURES] = min(9, f.scalars[sm, FAILURES] + 1)
    _reset(f, sm, 4 << f.scalars[sm, FAILURES])


@jit
def record_wait(m: Machine, f: Forward, sm: int, slot: int, counter: int, value: int, now: int, done: int) -> None:
    """Note a wait for data; one that holds its role spoils the recording."""
    if not f.data_counter[counter]:
        return
    count = f.scalars[sm, WAITS]
    if done > now or count == MAX_WAITS:
        f.scalars[sm, CLEAN] = 0
        return
    local = slot - sm * m.config[OCCUPANCY]
    f.wait_time[sm, count] = now - f.scalars[sm, START]
    f.wait_counter[sm, count] = local * len(f.data_counter) + counter
    f.wait_until[sm, count] = value - f.start_issued[sm, local, counter]
    f.scalars[sm, WAITS] = count + 1


@jit
def record_access(m: Machine, f: Forward, sm: int, slot: int, counter: int, at: int, tile: int, own: int) -> None:
    """Note a load or store, and when the SM's own units are done with it, relative to its issue."""
    count = f.scalars[sm, ACCESSES]
    if count == MAX_ACCESSES:
        f.scalars[sm, CLEAN] = 0
        return
    f.accesses[sm, count, ACCESS_AT] = at
    f.accesses[sm, count, ACCESS_SLOT] = slot
    f.accesses[sm, count, ACCESS_TILE] = tile
    f.accesses[sm, count, ACCESS_OWN] = own
    if m.table[at * COLUMNS + KIND] == LOAD:
        local = slot - sm * m.config[OCCUPANCY]
        f.accesses[sm, count, ACCESS_INDEX] = m.signals[slot, counter, ISSUED] - f.start_issued[sm, local, counter]
    f.scalars[sm, ACCESSES] = count + 1


@jit
def after_turn(m: Machine, f: Forward, sm: int, actor: int, at: int, now: int) -> None:
    """Look for a repetition after a turn with memory accesses, and drive the recording."""
    scalars = f.scalars
    if scalars[sm, MODE] == RECORDING:
        _end_recorded_turn(m, f, sm, actor, at, now)
        return
    variable = m.table[at * COLUMNS + LOOP_SLOT]
    if variable < 0 or m.trips[actor, variable - GRID_SLOTS] - m.env[actor, variable] < 2 * MIN_PERIODS:
        return
    scalars[sm, ASTRAY] = 0
    if scalars[sm, ANCHOR_ACTOR] < 0:
        scalars[sm, ANCHOR_ACTOR] = actor
        scalars[sm, ANCHOR_AT] = at
        scalars[sm, SEEN] = 0
    digest = digest_of(m, f, sm, now)
    seen = scalars[sm, SEEN]
    for back in range(1, min(seen, HISTORY) + 1):
        if f.hashes[sm, (seen - back) % HISTORY] == digest:
            _begin(m, f, sm, back, digest, now)
            return
    f.hashes[sm, seen % HISTORY] = digest
    scalars[sm, SEEN] = seen + 1
    if seen > PATIENCE:
        _fail(f, sm)


@jit
def _begin(m: Machine, f: Forward, sm: int, anchors: int, digest: int, now: int) -> None:
    """Start recording one period of *anchors* anchors."""
    scalars = f.scalars
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    scalars[sm, MODE] = RECORDING
    scalars[sm, ANCHORS_LEFT] = anchors
    scalars[sm, START] = now
    scalars[sm, START_HASH] = digest
    scalars[sm, TURNS] = 0
    scalars[sm, ACCESSES] = 0
    scalars[sm, WAITS] = 0
    scalars[sm, CLEAN] = 1
    f.turns[sm, 0, FIRST_ACCESS] = 0
    for local in range(occupancy):
        for counter in range(m.signals.shape[1]):
            f.start_issued[sm, local, counter] = m.signals[sm * occupancy + local, counter, ISSUED]
    for local in range(occupancy * roles):
        actor = sm * occupancy * roles + local
        slot = loop_slot(m, actor)
        f.start_variable[sm, local] = m.env[actor, slot] if slot >= 0 else 0
    keep_sums(m, f, sm, MAX_TURNS)


@jit
def _end_recorded_turn(m: Machine, f: Forward, sm: int, actor: int, at: int, now: int) -> None:
    scalars = f.scalars
    turn = scalars[sm, TURNS]
    if turn == MAX_TURNS or not scalars[sm, CLEAN] or not snapshot(m, f, sm, turn, now):
        _fail(f, sm)
        return
    f.turns[sm, turn, TURN_TIME] = now - scalars[sm, START]
    f.turns[sm, turn, TURN_ACTOR] = actor
    f.turns[sm, turn + 1, FIRST_ACCESS] = scalars[sm, ACCESSES]
    scalars[sm, TURNS] = turn + 1
    if actor == scalars[sm, ANCHOR_ACTOR] and at == scalars[sm, ANCHOR_AT]:
        scalars[sm, ANCHORS_LEFT] -= 1
        if scalars[sm, ANCHORS_LEFT] == 0:
            if digest_of(m, f, sm, now) == scalars[sm, START_HASH] and _steps(m, f, sm, now) and _limits(m, f, sm):
                _enter(m, f, sm)
            else:
                _fail(f, sm)


@jit
def _coefficient(m: Machine, at: int, slot: int) -> int:
    """Return the factor of a loop variable in an instruction's expression."""
    factor = 0
    first = m.table[at * COLUMNS + TERM]
    for term in range(first, first + m.table[at * COLUMNS + TERMS]):
        if m.terms[term, 0] == slot:
            factor += m.terms[term, 1]
    return factor


@jit
def _steps(m: Machine, f: Forward, sm: int, now: int) -> bool:
    """Work out what moves on per period and for how many periods; False if it is not the same every time."""
    scalars = f.scalars
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    leaves = len(m.tree) >> 1
    scalars[sm, PERIOD] = now - scalars[sm, START]
    if scalars[sm, PERIOD] <= 0:
        return False
    held = 0
    for place in range(sm * occupancy, (sm + 1) * occupancy):
        held += m.slot_cta[place] >= 0
    if held < m.residents[sm]:
        # A CTA has ended in this tick, and its slot is still to be dealt out.
        return False
    for local in range(occupancy):
        for counter in range(len(f.data_counter)):
            step = m.signals[sm * occupancy + local, counter, ISSUED] - f.start_issued[sm, local, counter]
            if step < 0:
                return False
            f.step_issued[sm, local, counter] = step
    most = NEVER
    for local in range(occupancy * roles):
        actor = sm * occupancy * roles + local
        slot = loop_slot(m, actor)
        f.step_variable[sm, local] = 0
        if slot < 0:
            # Ended, or no CTA: anything else would be under way outside a loop.
            if m.tree[leaves + actor] != NEVER or m.blocked_on[actor] >= 0:
                return False
            continue
        step = m.env[actor, slot] - f.start_variable[sm, local]
        if step <= 0:
            return False
        f.step_variable[sm, local] = step
        most = min(most, (m.trips[actor, slot - GRID_SLOTS] - 1 - m.env[actor, slot]) // step)
        here = m.pc[actor] * COLUMNS
        for at in range(m.table[here + LOOP_HEAD] + 1, m.table[here + LOOP_NEXT]):
            kind = m.table[at * COLUMNS + KIND]
            if kind == LOOP:
                return False
            if kind == WAIT:
                counter = m.table[at * COLUMNS + COUNTER]
                if _coefficient(m, at, slot) * step != f.step_issued[sm, local // roles, counter]:
                    return False
    scalars[sm, MAX_PERIODS] = most
    return MIN_PERIODS <= most < NEVER


@jit
def _limits(m: Machine, f: Forward, sm: int) -> bool:
    """Work out the latest arrival of every copy that no wait notices, and tile numbers' steps."""
    scalars = f.scalars
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    counters = len(f.data_counter)
    period = scalars[sm, PERIOD]
    for turn in range(scalars[sm, TURNS]):
        actor = f.turns[sm, turn, TURN_ACTOR]
        local = actor - sm * occupancy * roles
        slot = loop_slot(m, actor)
        for x in range(f.turns[sm, turn, FIRST_ACCESS], f.turns[sm, turn + 1, FIRST_ACCESS]):
            at = f.accesses[sm, x, ACCESS_AT]
            if slot < 0 or m.table[at * COLUMNS + LOOP_SLOT] != slot:
                return False
            f.accesses[sm, x, ACCESS_STEP] = _coefficient(m, at, slot) * f.step_variable[sm, local]
            f.accesses[sm, x, ACCESS_LIMIT] = NEVER
            if m.table[at * COLUMNS + KIND] != LOAD:
                continue
            which = (f.accesses[sm, x, ACCESS_SLOT] - sm * occupancy) * counters + m.table[at * COLUMNS + COUNTER]
            step = f.step_issued[sm, which // counters, which % counters]
            for w in range(scalars[sm, WAITS]):
                if f.wait_counter[sm, w] != which:
                    continue
                # The first period in which this wait needs this signal.
                behind = f.accesses[sm, x, ACCESS_INDEX] + 1 - f.wait_until[sm, w]
                periods = -((-behind) // step)
                slack = f.wait_time[sm, w] + periods * period - f.turns[sm, turn, TURN_TIME]
                if slack < 0:
                    return False
                f.accesses[sm, x, ACCESS_LIMIT] = min(f.accesses[sm, x, ACCESS_LIMIT], slack)
    return _under_way(m, f, sm)


@jit
def _under_way(m: Machine, f: Forward, sm: int) -> bool:
    """Return whether all copies issued so far arrive before the waits of the periods to come need them."""
    scalars = f.scalars
    counters = len(f.data_counter)
    for w in range(scalars[sm, WAITS]):
        local, counter = f.wait_counter[sm, w] // counters, f.wait_counter[sm, w] % counters
        place = sm * m.config[OCCUPANCY] + local
        step = f.step_issued[sm, local, counter]
        if step == 0:
            return False
        number = 1
        needed = f.start_issued[sm, local, counter] + f.wait_until[sm, w] + step
        while needed <= m.signals[place, counter, ISSUED]:
            wait = scalars[sm, START] + f.wait_time[sm, w] + number * scalars[sm, PERIOD]
            if m.rings[place, counter, (needed - 1) & (WINDOW - 1), RING_DONE] > wait:
                return False
            number += 1
            needed += step
    return True


@jit
def _enter(m: Machine, f: Forward, sm: int) -> None:
    """Take the SM's roles out of the tree and put the first recorded turn of the next period in.

    Its leaf is that of the SM's first role, whosever turn it is, so that one leaf changes per turn.
    """
    scalars = f.scalars
    actors = m.config[ROLES] * m.config[OCCUPANCY]
    leaves = len(m.tree) >> 1
    for actor in range(sm * actors, (sm + 1) * actors):
        set_leaf(m.tree, leaves + actor, NEVER)
    scalars[sm, MODE] = FORWARD
    scalars[sm, PERIOD_NUMBER] = 1
    scalars[sm, NEXT_TURN] = 0
    scalars[sm, FAILURES] = 0
    first = f.turns[sm, 0, TURN_ACTOR]
    time = scalars[sm, START] + scalars[sm, PERIOD] + f.turns[sm, 0, TURN_TIME]
    set_leaf(m.tree, leaves + sm * actors, (time << ACTOR_BITS) | first)


@jit
def restore(m: Machine, f: Forward, sm: int, turn: int, pause: int) -> None:
    """Put the SM back into the state after *turn* of the present period, and resume detailed simulation."""
    put_back(m, f, sm, turn)
    _reset(f, sm, pause)
