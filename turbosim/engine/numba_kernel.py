"""The compiled event loop: the semantics of :mod:`turbosim.engine.simpy_engine` over flat arrays.

Every server is first come first served and non-preemptive, so a request's end is known when it is made
(``max(now, free) + ticks``). One heap entry per role is therefore enough; it is keyed by (tick, actor number), which
is the order of turns that the SimPy engine defines. The loop is one long function because calls and tuples in it cost
more than the simulation itself.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.int64]

# Columns of the instruction table.
(KIND, CLAIM, CLAIMS, OWN, LATENCY, PIECES, COUNTER, CODE, TENSOR, NBYTES, EXTRA, CONST, TERM, TERMS, SLOT, JUMP,
 L2_TICKS) = range(17)
COLUMNS = 17

# Instruction kinds, as in lowered.Kind.
COMPUTE, ASYNC, LOAD, STORE, SIGNAL, WAIT, LOOP, NEXT, END = range(9)

# Scalars of a launch.
(SMS, SLOTS, ROLES, COUNTERS, CTAS, CTA_LAUNCH, CLASS_DIM, DIMS, L2_CAPACITY, HBM_RATE, CHANNELS, INTERLEAVE,
 L2_LATENCY, DRAM_LATENCY, TILES) = range(15)
CONFIGS = 15

# Scalars of the state; also carries sums.
(HEAP, NEXT_CTA, L2_FREE, L2_USED, DRAINED, OPS, L2_BUSY, HBM_BUSY, READ, HIT, WRITE, DRAM_READ, DRAM_WRITE, STATUS,
 N_OPS, N_UNITS, N_STALLS, RUNNING, FINISHED) = range(19)
STATES = 19

# Status codes.
OK, COUNTER_WINDOW, RECORDS_FULL = range(3)

UNITS = 10
ISSUE = 7
LATENCY_REASON, DATA_L2, DATA_DRAM, _, BARRIER, LAUNCH_REASON, DONE, NO_CTA = range(20, 28)
REASONS = 28

WINDOW = 32
"""Signals of a counter whose completion is remembered."""
ACTOR_BITS = 21
GRID_SLOTS, LOOP_SLOTS, PARAM_SLOTS = 5, 3, 6
RATE_ROUND = (1 << 20) - 1


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, boundscheck=False)(function)


@_jit
def _sift_down(heap: Array, size: int, key: int) -> None:
    """Fill the hole at the root with *key*."""
    at = 0
    child = 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = key


@_jit
def _push(heap: Array, size: int, key: int) -> None:
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent] <= key:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = key


@_jit
def _unlink(before: Array, after: Array, tile: int) -> None:
    after[before[tile]] = after[tile]
    before[after[tile]] = before[tile]


@_jit
def _link_first(before: Array, after: Array, head: int, tile: int) -> None:
    first = after[head]
    after[head] = tile
    before[tile] = head
    after[tile] = first
    before[first] = tile


@_jit
def _insert(before: Array, after: Array, size: Array, head: int, tile: int, nbytes: int, used: int,
            capacity: int) -> int:
    """Make room for *tile* and insert it; return the bytes in use."""
    if nbytes > capacity:
        return used
    while used + nbytes > capacity:
        last = before[head]
        _unlink(before, after, last)
        used -= size[last]
        size[last] = 0
    _link_first(before, after, head, tile)
    size[tile] = nbytes
    return used + nbytes


@_jit
def _channels(channel_free: Array, now: int, address: int, nbytes: int, interleave: int, rate: int,
              state: Array) -> int:
    """Queue a transfer on its memory channels; return its end."""
    channels = len(channel_free)
    end = address + nbytes
    last = now
    while address < end:
        granule = address // interleave
        part = min(end, (granule + 1) * interleave) - address
        row = granule // channels
        channel = (granule + 7 * row + 3 * (row // channels)) % channels
        ticks = (part * rate + RATE_ROUND) >> 20
        served = max(now, channel_free[channel]) + ticks
        channel_free[channel] = served
        state[HBM_BUSY] += ticks
        last = max(last, served)
        address += part
    return last


@_jit
def _start_cta(slot: int, cta: int, config: Array, grid: Array, class_of: Array, class_params: Array, env: Array,
               pc: Array, stream_start: Array, issued: Array, last_done: Array) -> None:
    """Set up the environment, program counters and counters of a CTA's roles."""
    roles = config[ROLES]
    first = slot * roles
    cta_class = 0
    rest = cta
    for dim in range(config[DIMS]):
        coordinate = rest % grid[dim]
        rest //= grid[dim]
        env[first, dim] = coordinate
        if dim == config[CLASS_DIM]:
            cta_class = class_of[coordinate]
    for i in range(LOOP_SLOTS):
        env[first, GRID_SLOTS + i] = 0
    for i in range(PARAM_SLOTS):
        env[first, GRID_SLOTS + LOOP_SLOTS + i] = class_params[cta_class, i]
    for role in range(roles):
        pc[first + role] = stream_start[role]
        if role:
            env[first + role, :] = env[first, :]
    issued[slot, :] = 0
    last_done[slot, :] = 0


@_jit
def run(budget: int, config: Array, state: Array, table: Array, claims: Array, terms: Array, stream_start: Array,
        grid: Array, class_of: Array, class_params: Array, tensor_first: Array, tensor_address: Array,
        tensor_bytes: Array, heap: Array, pc: Array, piece: Array, env: Array, trips: Array, op_start: Array,
        blocked_on: Array, blocked_until: Array, blocked_since: Array, issued: Array, last_done: Array,
        last_code: Array, ring_done: Array, ring_code: Array, slot_cta: Array, roles_left: Array, role_end: Array,
        slot_free: Array, unit_free: Array, busy: Array, channel_free: Array, tile_size: Array, tile_ready: Array,
        before: Array, after: Array, reasons: Array, sm_last_end: Array, recorded: Array, op_log: Array,
        unit_log: Array, stall_log: Array) -> int:
    """Process up to *budget* turns; return how many are left to process (0: the heap is empty).

    All state lives in the arrays, so that calls can be repeated until the launch is over.
    """
    slots = config[SLOTS]
    roles = config[ROLES]
    head = config[TILES]
    l2_latency = config[L2_LATENCY]
    mask = (1 << ACTOR_BITS) - 1
    size = state[HEAP]
    pushes = np.empty(roles + 1, np.int64)

    while size > 0 and budget > 0:
        budget -= 1
        key = heap[0]
        now = key >> ACTOR_BITS
        actor = key & mask
        slot = actor // roles
        role = actor - slot * roles
        sm = slot // slots
        record = recorded[sm]
        base = sm * UNITS
        pushed = 0
        wake = -1
        if state[N_OPS] + 64 > len(op_log) or state[N_UNITS] + 256 > len(unit_log) \
                or state[N_STALLS] + 64 > len(stall_log):
            state[STATUS] = RECORDS_FULL
            break

        while wake < 0:
            at = pc[actor]
            inst = table[at]
            kind = inst[KIND]

            if kind == COMPUTE:
                pieces = inst[PIECES]
                part_number = piece[actor]
                if part_number == 0:
                    state[OPS] += 1
                    op_start[actor] = now
                end = now
                served = now
                unit = ISSUE
                for c in range(inst[CLAIM], inst[CLAIM] + inst[CLAIMS]):
                    ticks = claims[c, 1]
                    if pieces > 1:
                        ticks = ticks * (part_number + 1) // pieces - ticks * part_number // pieces
                        if ticks == 0:
                            continue
                    which = claims[c, 0]
                    start = max(now, unit_free[base + which])
                    stop = start + ticks
                    unit_free[base + which] = stop
                    busy[which] += ticks
                    if stop > end:
                        end = stop
                        served = start
                        unit = which
                    if record:
                        log = unit_log[state[N_UNITS]]
                        state[N_UNITS] += 1
                        log[0], log[1], log[2], log[3] = sm, which, slot, role
                        log[4], log[5], log[6] = at, start, stop
                own = inst[OWN]
                if own:
                    end = max(end, now + own * (part_number + 1) // pieces - own * part_number // pieces)
                reasons[role, UNITS + unit] += served - now
                reasons[role, unit] += end - served
                wake = end
                if part_number == pieces - 1:
                    piece[actor] = 0
                    pc[actor] = at + 1
                    wake = end + inst[LATENCY]
                    reasons[role, LATENCY_REASON] += inst[LATENCY]
                else:
                    piece[actor] = part_number + 1
                if record:
                    for reason, since, until in ((UNITS + unit, now, served), (unit, served, end),
                                                 (LATENCY_REASON, end, wake)):
                        if until > since:
                            log = stall_log[state[N_STALLS]]
                            state[N_STALLS] += 1
                            log[0], log[1], log[2], log[3], log[4], log[5] = sm, slot, role, reason, since, until
                    if part_number == pieces - 1:
                        log = op_log[state[N_OPS]]
                        state[N_OPS] += 1
                        log[0], log[1], log[2], log[3] = sm, slot, role, slot_cta[slot]
                        log[4], log[5], log[6] = at, op_start[actor], wake
                continue

            if kind == NEXT:
                variable = inst[SLOT]
                env[actor, variable] += 1
                if env[actor, variable] < trips[actor, variable - GRID_SLOTS]:
                    pc[actor] = inst[JUMP]
                else:
                    pc[actor] = at + 1
                continue

            if kind == END:
                role_end[actor] = now
                roles_left[slot] -= 1
                if roles_left[slot] > 0:
                    wake = -2
                    break
                first = slot * roles
                for other in range(roles):
                    idle = now - role_end[first + other]
                    reasons[other, DONE] += idle
                    if record and idle:
                        log = stall_log[state[N_STALLS]]
                        state[N_STALLS] += 1
                        log[0], log[1], log[2], log[3] = sm, slot, other, DONE
                        log[4], log[5] = role_end[first + other], now
                sm_last_end[sm] = max(sm_last_end[sm], now)
                slot_free[slot] = now
                state[FINISHED] += 1
                if state[NEXT_CTA] == config[CTAS]:
                    slot_cta[slot] = -1
                    wake = -2
                    break
                slot_cta[slot] = state[NEXT_CTA]
                state[NEXT_CTA] += 1
                roles_left[slot] = roles
                _start_cta(slot, slot_cta[slot], config, grid, class_of, class_params, env, pc, stream_start, issued,
                           last_done)
                wake = now + config[CTA_LAUNCH]
                for other in range(roles):
                    reasons[other, LAUNCH_REASON] += config[CTA_LAUNCH]
                    if record and config[CTA_LAUNCH]:
                        log = stall_log[state[N_STALLS]]
                        state[N_STALLS] += 1
                        log[0], log[1], log[2], log[3] = sm, slot, other, LAUNCH_REASON
                        log[4], log[5] = now, wake
                    if first + other != actor:
                        pushes[pushed] = (wake << ACTOR_BITS) | (first + other)
                        pushed += 1
                continue

            # The other kinds read an expression.
            value = inst[CONST]
            for term in range(inst[TERM], inst[TERM] + inst[TERMS]):
                value += terms[term, 1] * env[actor, terms[term, 0]]
            pc[actor] = at + 1

            if kind == LOOP:
                variable = inst[SLOT]
                env[actor, variable] = 0
                trips[actor, variable - GRID_SLOTS] = value
                if value <= 0:
                    pc[actor] = inst[JUMP]
                continue

            state[OPS] += 1
            counter = inst[COUNTER]

            if kind == WAIT:
                count = issued[slot, counter]
                done = now
                code = BARRIER
                if value > count:
                    blocked_on[actor] = counter
                    blocked_until[actor] = value
                    blocked_since[actor] = now
                    op_start[actor] = at
                    wake = -2
                    break
                if value > 0:
                    if value > count - WINDOW:
                        done = ring_done[slot, counter, (value - 1) % WINDOW]
                        code = ring_code[slot, counter, (value - 1) % WINDOW]
                    elif ring_done[slot, counter, count % WINDOW] > now:
                        state[STATUS] = COUNTER_WINDOW
                        state[HEAP] = size
                        return budget
                if done > now:
                    wake = done
                    reasons[role, code] += done - now
                if record:
                    log = op_log[state[N_OPS]]
                    state[N_OPS] += 1
                    log[0], log[1], log[2], log[3] = sm, slot, role, slot_cta[slot]
                    log[4], log[5], log[6] = at, now, max(now, done)
                    if done > now:
                        log = stall_log[state[N_STALLS]]
                        state[N_STALLS] += 1
                        log[0], log[1], log[2], log[3], log[4], log[5] = sm, slot, role, code, now, done
                continue

            # ASYNC, LOAD, STORE and SIGNAL claim what they need and let the role go on.
            end = now
            for c in range(inst[CLAIM], inst[CLAIM] + inst[CLAIMS]):
                which = claims[c, 0]
                start = max(now, unit_free[base + which])
                stop = start + claims[c, 1]
                unit_free[base + which] = stop
                busy[which] += claims[c, 1]
                end = max(end, stop)
                if record:
                    log = unit_log[state[N_UNITS]]
                    state[N_UNITS] += 1
                    log[0], log[1], log[2], log[3] = sm, which, slot, role
                    log[4], log[5], log[6] = at, start, stop
            code = inst[CODE]

            if kind == ASYNC:
                end = max(end, now + inst[OWN]) + inst[LATENCY]
            elif kind == SIGNAL:
                end = now + inst[LATENCY]
            else:
                nbytes = inst[NBYTES]
                tensor = inst[TENSOR]
                tile = tensor_first[tensor] + value
                address = tensor_address[tensor] + value * tensor_bytes[tensor]
                l2_end = max(now, state[L2_FREE]) + inst[L2_TICKS]
                state[L2_FREE] = l2_end
                state[L2_BUSY] += inst[L2_TICKS]
                resident = tile_size[tile] > 0
                if resident:
                    _unlink(before, after, tile)
                    _link_first(before, after, head, tile)
                if kind == LOAD:
                    state[READ] += nbytes
                    if resident:
                        state[HIT] += nbytes
                    else:
                        state[DRAM_READ] += nbytes
                        fill = _channels(channel_free, now, address, nbytes, config[INTERLEAVE], config[HBM_RATE], state)
                        tile_ready[tile] = max(l2_end, fill) + config[DRAM_LATENCY]
                        state[L2_USED] = _insert(before, after, tile_size, head, tile, nbytes, state[L2_USED],
                                                 config[L2_CAPACITY])
                    end = max(end, l2_end) + l2_latency
                    code = DATA_L2
                    if tile_ready[tile] > end:
                        end = tile_ready[tile]
                        code = DATA_DRAM
                    end += inst[EXTRA]
                else:
                    state[WRITE] += nbytes
                    state[DRAM_WRITE] += nbytes
                    drained = _channels(channel_free, now, address, nbytes, config[INTERLEAVE], config[HBM_RATE], state)
                    if not resident:
                        state[L2_USED] = _insert(before, after, tile_size, head, tile, nbytes, state[L2_USED],
                                                 config[L2_CAPACITY])
                    tile_ready[tile] = l2_end
                    end = max(end, max(l2_end, drained))
                    state[DRAINED] = max(state[DRAINED], end)

            if kind != STORE:
                # Signals complete in the order of their issue.
                if end < last_done[slot, counter]:
                    end = last_done[slot, counter]
                    code = last_code[slot, counter]
                last_done[slot, counter] = end
                last_code[slot, counter] = code
                count = issued[slot, counter]
                ring_done[slot, counter, count % WINDOW] = end
                ring_code[slot, counter, count % WINDOW] = code
                issued[slot, counter] = count + 1
                first = slot * roles
                for other in range(first, first + roles):
                    if blocked_on[other] == counter and blocked_until[other] == count + 1:
                        blocked_on[other] = -1
                        since = blocked_since[other]
                        reasons[other - first, BARRIER] += now - since
                        reasons[other - first, code] += end - now
                        pushes[pushed] = (end << ACTOR_BITS) | other
                        pushed += 1
                        if record:
                            log = op_log[state[N_OPS]]
                            state[N_OPS] += 1
                            log[0], log[1], log[2], log[3] = sm, slot, other - first, slot_cta[slot]
                            log[4], log[5], log[6] = op_start[other], since, end
                            for reason, begin, until in ((BARRIER, since, now), (code, now, end)):
                                if until > begin:
                                    log = stall_log[state[N_STALLS]]
                                    state[N_STALLS] += 1
                                    log[0], log[1], log[2], log[3] = sm, slot, other - first, reason
                                    log[4], log[5] = begin, until
            if record:
                log = op_log[state[N_OPS]]
                state[N_OPS] += 1
                log[0], log[1], log[2], log[3] = sm, slot, role, slot_cta[slot]
                log[4], log[5], log[6] = at, now, end
                if state[N_OPS] + 64 > len(op_log) or state[N_UNITS] + 256 > len(unit_log):
                    state[STATUS] = RECORDS_FULL
                    break

        if state[STATUS] != OK:
            break
        if wake >= 0:
            _sift_down(heap, size, (wake << ACTOR_BITS) | actor)
        else:
            size -= 1
            if size > 0:
                _sift_down(heap, size, heap[size])
        for i in range(pushed):
            _push(heap, size, pushes[i])
            size += 1
    state[HEAP] = size
    return budget
