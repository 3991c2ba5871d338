"""Fast-forwarding: exact replay of what an SM has done before, by itself or on another SM.

In the main loop of a kernel SMs repeat themselves and each other: the same turns at the same distances, only loop
variables, tile numbers and signal counts move on. All that ties an SM to the rest of the GPU are its memory accesses.
So the state after a turn with accesses, relative to its tick, is known by its digest; and of the *segment* from it to
the next such turn is kept how long it takes, its accesses, what it adds to sums, and which copies its waits need. An SM
that comes into a known state goes forward from state to state: only the accesses are replayed, at their exact ticks
and in the global order of turns, through the same L2 and channels. When a copy will be too late for a wait of the next
segment, a loop ends in it, or it has not been recorded, the SM is put into the state and detailed simulation goes on.
Nothing is approximated: totals equal those of the full replay, which tests check. Schnarr and Larus, "Fast
Out-Of-Order Processor Simulation Using Memoization" (ASPLOS 1998), do so for a processor core.
"""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.numba_layout import (
    ACCESS_AHEAD,
    ACCESS_AT,
    ACCESS_OWN,
    ACCESSES_HERE,
    ACTOR_BITS,
    CLEAN,
    COLUMNS,
    COUNTER,
    DATA_DRAM,
    DATA_L2,
    DIGEST,
    DRAINED,
    EXTRA,
    FAILURES,
    FIRST_ACCESS,
    FIRST_WAIT,
    FOLLOWER,
    FORWARD,
    GRID_SLOTS,
    IDLE,
    ISSUED,
    KIND,
    KNOWN,
    LOOP_OF,
    MAX_STATES,
    MISSES,
    MODE,
    NBYTES,
    NEVER,
    OCCUPANCY,
    RECORDING,
    RING_DONE,
    ROLES,
    SEGMENT,
    SKIP,
    STATE,
    STATE_AT,
    STORE,
    TENSOR,
    TICKS,
    TIMES,
    TURN_ROLE,
    TURNS_OF,
    WAIT_COUNTER,
    WAIT_TICKS,
    WAIT_UNTIL,
    WAITS_HERE,
    WINDOW,
    Forward,
    Machine,
)
from turbosim.engine.numba_memory import read_tile, set_leaf, write_tile
from turbosim.engine.numba_record import begin, link
from turbosim.engine.numba_signals import complete, value_of
from turbosim.engine.numba_state import can_be_known, digest_of, is_kept_whole, keep, put_back

PATIENCE = 24
"""States in a row that lead nowhere before a pause."""


@jit
def after_turn(m: Machine, f: Forward, sm: int, actor: int, now: int) -> int:
    """Look for the state after a turn with memory accesses among the known ones; return the SM's mode."""
    scalars, counts = f.scalars, f.counts
    recorded = scalars[sm, MODE] == RECORDING and scalars[sm, CLEAN]
    scalars[sm, MODE] = IDLE
    if scalars[sm, SKIP] > 0:
        scalars[sm, SKIP] -= 1
        return IDLE
    if not can_be_known(m, sm):
        return IDLE
    digest = digest_of(m, f, sm, now)
    mask = len(f.buckets) - 1
    bucket = digest & mask
    while f.buckets[bucket] >= 0 and f.states[f.buckets[bucket], DIGEST] != digest:
        bucket = (bucket + 1) & mask
    known = f.buckets[bucket]
    if known < 0:
        if counts[KNOWN] == MAX_STATES or not is_kept_whole(m, f, sm, now):
            return _miss(f, sm)
        known = counts[KNOWN]
        counts[KNOWN] = known + 1
        f.buckets[bucket] = known
        f.states[known, DIGEST] = digest
        f.states[known, SEGMENT] = 0
        keep(m, f, sm, known, now)
    if recorded:
        link(m, f, sm, actor, known, now)
    scalars[sm, STATE] = known
    scalars[sm, STATE_AT] = now
    if _goes_on(m, f, sm, known, now):
        scalars[sm, MISSES] = 0
        scalars[sm, FAILURES] = 0
        scalars[sm, MODE] = FORWARD
        actors = m.config[ROLES] * m.config[OCCUPANCY]
        leaves = len(m.tree) >> 1
        for other in range(sm * actors, (sm + 1) * actors):
            set_leaf(m.tree, leaves + other, NEVER)
        _next_turn(m, f, sm, known, now)
        return FORWARD
    begin(m, f, sm)
    return _miss(f, sm)


@jit
def _miss(f: Forward, sm: int) -> int:
    """Count a state that leads nowhere; after many, pause, for longer each time. Return the mode."""
    scalars = f.scalars
    scalars[sm, MISSES] += 1
    if scalars[sm, MISSES] > PATIENCE:
        scalars[sm, MISSES] = 0
        scalars[sm, FAILURES] = min(9, scalars[sm, FAILURES] + 1)
        scalars[sm, SKIP] = 4 << scalars[sm, FAILURES]
        scalars[sm, MODE] = IDLE
    mode: int = scalars[sm, MODE]
    return mode


@jit
def _goes_on(m: Machine, f: Forward, sm: int, known: int, now: int) -> bool:
    """Return whether the segment from a known state comes about now: no loop ends in it and its data are there."""
    row = f.states[known]
    if not row[SEGMENT]:
        return False
    occupancy, counters = m.config[OCCUPANCY], len(f.data_counter)
    actors = m.config[ROLES] * occupancy
    for local in range(actors):
        turns = f.roles[known, local, TURNS_OF]
        if turns:
            actor, slot = sm * actors + local, f.roles[known, local, LOOP_OF]
            if m.env[actor, slot] + turns >= m.trips[actor, slot - GRID_SLOTS]:
                return False
    for w in range(row[FIRST_WAIT], row[FIRST_WAIT] + row[WAITS_HERE]):
        place = sm * occupancy + f.waits[w, WAIT_COUNTER] // counters
        counter = f.waits[w, WAIT_COUNTER] % counters
        needed = m.signals[place, counter, ISSUED] + f.waits[w, WAIT_UNTIL]
        done = m.rings[place, counter, (needed - 1) & (WINDOW - 1), RING_DONE]
        if needed > 0 and done > now + f.waits[w, WAIT_TICKS]:
            return False
    return True


@jit
def _next_turn(m: Machine, f: Forward, sm: int, known: int, now: int) -> None:
    """Enter the turn at the end of the segment from a known state.

    Its leaf is that of the SM's first role, whosever turn it is, so that one leaf changes per turn.
    """
    row = f.states[known]
    first = sm * m.config[ROLES] * m.config[OCCUPANCY]
    set_leaf(m.tree, (len(m.tree) >> 1) + first, ((now + row[TICKS]) << ACTOR_BITS) | (first + row[TURN_ROLE]))


@jit
def replay_turn(m: Machine, f: Forward, sm: int, actor: int, now: int) -> None:
    """Replay the accesses at the end of a segment, and go on from the state after it, or in detail."""
    scalars, table = f.scalars, m.table
    known = scalars[sm, STATE]
    row = f.states[known]
    roles, occupancy = m.config[ROLES], m.config[OCCUPANCY]
    first, place = sm * occupancy * roles, actor // roles
    for x in range(row[FIRST_ACCESS], row[FIRST_ACCESS] + row[ACCESSES_HERE]):
        inst = f.accesses[x, ACCESS_AT] * COLUMNS
        tile = value_of(table, m.terms, m.env, inst, actor) + f.accesses[x, ACCESS_AHEAD]
        own_end = now + f.accesses[x, ACCESS_OWN]
        if table[inst + KIND] == STORE:
            end = write_tile(m.config, m.state, m.tensor_first, m.tensor_address, m.tensor_bytes, m.tensor_rate,
                             m.channels, m.tiles, m.uses, table[inst + TENSOR], tile, table[inst + NBYTES], now,
                             own_end)
            m.state[DRAINED] = max(m.state[DRAINED], end)
            continue
        arrival = read_tile(m.config, m.state, m.tensor_first, m.tensor_address, m.tensor_bytes, m.tensor_rate,
                            m.channels, m.tiles, m.uses, table[inst + TENSOR], tile, table[inst + NBYTES], now, own_end)
        complete(m.signals, m.rings, place, table[inst + COUNTER], (arrival >> 1) + table[inst + EXTRA],
                 DATA_DRAM if arrival & 1 else DATA_L2)
    row[TIMES] += 1
    for local in range(occupancy * roles):
        turns = f.roles[known, local, TURNS_OF]
        if turns:
            m.env[first + local, f.roles[known, local, LOOP_OF]] += turns
    for local in range(occupancy):
        for counter in range(len(f.data_counter)):
            m.signals[sm * occupancy + local, counter, ISSUED] += f.issued[known, local, counter]
    known = row[FOLLOWER]
    scalars[sm, STATE] = known
    scalars[sm, STATE_AT] = now
    if _goes_on(m, f, sm, known, now):
        _next_turn(m, f, sm, known, now)
        return
    put_back(m, f, sm, known, now)
    scalars[sm, MODE] = IDLE
    begin(m, f, sm)
