"""The compiled event loop: the semantics of :mod:`turbosim.engine.simpy_engine` over flat arrays.

Every server is first come first served and non-preemptive, so a request's end is known when it is made
(``max(now, free) + ticks``). One pending turn per role is therefore enough. Turns are kept in a tournament tree keyed
by (tick, actor number), the order that the SimPy engine defines: unlike a binary heap it moves no entries and its
comparisons do not branch.

Only memory accesses, the end of a CTA and the dealing of the next tie SMs together. Between them an SM runs ahead of
the others: its own turns, in their order, without the tree, up to the next that has one of these.
"""

from __future__ import annotations

from turbosim.compiled import jit_cached
from turbosim.engine.numba_compute import serve_part
from turbosim.engine.numba_ctas import deal, next_element
from turbosim.engine.numba_forward import after_turn, replay_turn
from turbosim.engine.numba_layout import (
    ACTOR_BITS,
    ASYNC,
    BARRIER,
    CLAIM,
    CLAIMS,
    CLEAN,
    CODE,
    COLUMNS,
    COMPUTE,
    CONFLICTS,
    COUNTER,
    COUNTER_WINDOW,
    DATA_DRAM,
    DATA_L2,
    DONE,
    DRAINED,
    END,
    EXTRA,
    FINISHED,
    FORWARD,
    FREED,
    FREED_AT,
    GRID_SLOTS,
    ISSUED,
    JUMP,
    KIND,
    LATENCY,
    LOAD,
    LOOP,
    MODE,
    N_OPS,
    N_STALLS,
    N_UNITS,
    NBYTES,
    NEVER,
    NEXT,
    OCCUPANCY,
    OK,
    OWN,
    RECORDING,
    RECORDS_FULL,
    RING_CODE,
    RING_DONE,
    ROLES,
    SIGNAL,
    SLOT,
    SMEM_UNIT,
    SPREAD,
    STATUS,
    STORE,
    STRIDE,
    TENSOR,
    TENSOR_UNIT,
    UNITS,
    WAIT,
    WINDOW,
    Forward,
    Machine,
)
from turbosim.engine.numba_log import log_op, log_stall, log_unit
from turbosim.engine.numba_memory import read_tile, renew, write_tile
from turbosim.engine.numba_record import record_access, record_wait
from turbosim.engine.numba_signals import complete, value_of
from turbosim.engine.numba_smem import end_of_service, read_operands
from turbosim.engine.numba_tensor import delayed

SHARED = (LOAD, STORE, END)
"""What an SM waits for its turn among all SMs with."""


@jit_cached
def run(budget: int, m: Machine, f: Forward) -> int:
    """Process up to *budget* turns; return the rest of the budget.

    The launch is over when the tree's root is NEVER. All state lives in the arrays, so that calls can be repeated
    until then.
    """
    config, state, table, claims, terms = m.config, m.state, m.table, m.claims, m.terms
    tree, pc, env, trips = m.tree, m.pc, m.env, m.trips
    signals, rings = m.signals, m.rings
    unit_free, busy, reasons, ops = m.unit_free, m.busy, m.reasons, m.ops
    blocked_on, blocked_until, blocked_since = m.blocked_on, m.blocked_until, m.blocked_since
    op_log, unit_log, stall_log = m.op_log, m.unit_log, m.stall_log
    slot_of, sm_of, recorded, op_start, role_cta = m.slot_of, m.sm_of, m.recorded, m.op_start, m.role_cta
    role_end, earlier = m.role_end, m.earlier
    roles_left, sm_last_end, slot_free = m.roles_left, m.sm_last_end, m.slot_free
    tensor_first, tensor_address = m.tensor_first, m.tensor_address
    tensor_bytes, tensor_rate = m.tensor_bytes, m.tensor_rate
    channels, tiles, uses = m.channels, m.tiles, m.uses
    scalars = f.scalars
    roles, persistent = config[ROLES], config[STRIDE] != 0
    mask = (1 << ACTOR_BITS) - 1
    leaves = len(tree) >> 1
    fast = f.enabled[0] != 0
    resident = roles * config[OCCUPANCY]

    while budget > 0:
        budget -= 1
        key = tree[1]
        if state[FREED] and key >> ACTOR_BITS > state[FREED_AT]:
            if not deal(m):
                state[STATUS] = RECORDS_FULL
                break
            continue
        if key == NEVER:
            break
        now = key >> ACTOR_BITS
        actor = key & mask
        slot = slot_of[actor]
        role = actor - slot * roles
        sm = sm_of[slot]
        record = recorded[sm]
        base = sm * UNITS
        wake = -1
        touched = -1
        mode = 0
        if fast:
            mode = scalars[sm, MODE]
            if mode == FORWARD:
                replay_turn(m, f, sm, actor, now)
                continue
        first_leaf = leaves + sm * resident
        alone = False
        while True:
            if record and (state[N_OPS] + 64 > len(op_log) or state[N_UNITS] + 256 > len(unit_log)
                           or state[N_STALLS] + 64 > len(stall_log)):
                state[STATUS] = RECORDS_FULL
                break

            while wake < 0:
                at = pc[actor]
                inst = at * COLUMNS
                kind = table[inst + KIND]
                if alone and kind in SHARED:
                    wake = now
                    break

                if kind == COMPUTE:
                    wake = serve_part(m, sm, slot, role, actor, at, now)
                    continue

                if kind == NEXT:
                    variable = table[inst + SLOT]
                    env[actor, variable] += 1
                    if env[actor, variable] < trips[actor, variable - GRID_SLOTS]:
                        pc[actor] = table[inst + JUMP]
                    else:
                        pc[actor] = at + 1
                        if mode == RECORDING:
                            scalars[sm, CLEAN] = 0
                    continue

                if kind == END:
                    if mode == RECORDING:
                        scalars[sm, CLEAN] = 0
                    if persistent and next_element(m, actor, role):
                        if role == 0:
                            state[FINISHED] += 1
                        continue
                    role_end[actor] = now
                    roles_left[slot] -= 1
                    if roles_left[slot] > 0:
                        wake = -2
                        break
                    first = slot * roles
                    for other in range(roles):
                        ended = role_end[first + other]
                        reasons[sm, other, DONE] += now - ended
                        if record:
                            log_stall(stall_log, state, sm, slot, other, DONE, ended, now)
                    sm_last_end[sm] = max(sm_last_end[sm], now)
                    slot_free[slot] = now
                    state[FINISHED] += 1
                    m.slot_cta[slot] = -1
                    m.freed[state[FREED]] = slot
                    state[FREED] += 1
                    state[FREED_AT] = now
                    wake = -2
                    break

                # The other kinds read an expression.
                value = value_of(table, terms, env, inst, actor)
                pc[actor] = at + 1

                if kind == LOOP:
                    if mode == RECORDING:
                        scalars[sm, CLEAN] = 0
                    variable = table[inst + SLOT]
                    env[actor, variable] = 0
                    trips[actor, variable - GRID_SLOTS] = value
                    if value <= 0:
                        pc[actor] = table[inst + JUMP]
                    continue

                ops[sm] += 1
                counter = table[inst + COUNTER]

                if kind == WAIT:
                    value += earlier[actor, counter]
                    count = signals[slot, counter, ISSUED]
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
                            done = rings[slot, counter, (value - 1) & (WINDOW - 1), RING_DONE]
                            code = rings[slot, counter, (value - 1) & (WINDOW - 1), RING_CODE]
                        elif rings[slot, counter, count & (WINDOW - 1), RING_DONE] > now:
                            state[STATUS] = COUNTER_WINDOW
                            return budget
                    if mode == RECORDING:
                        record_wait(m, f, sm, slot, counter, value, now, done)
                    if done > now:
                        wake = done
                        reasons[sm, role, code] += done - now
                    if record:
                        log_op(op_log, state, sm, slot, role, role_cta[actor], at, now, max(now, done))
                        log_stall(stall_log, state, sm, slot, role, code, now, max(now, done))
                    continue

                # ASYNC, LOAD, STORE and SIGNAL claim what they need and let the role go on.
                end = now
                for c in range(table[inst + CLAIM], table[inst + CLAIM] + table[inst + CLAIMS]):
                    which = claims[c, 0]
                    start = max(now, unit_free[base + which])
                    stop = start + claims[c, 1] if which != SMEM_UNIT else end_of_service(m, sm, start, claims[c, 1])
                    if which == TENSOR_UNIT:
                        stop = max(stop, start + table[inst + SPREAD])
                        if config[CONFLICTS]:
                            stop = delayed(m, sm, start, stop)
                    if which == TENSOR_UNIT and table[inst + SPREAD]:
                        read_operands(m, sm, start, stop, table[inst + SPREAD])
                    unit_free[base + which] = stop
                    busy[sm, which] += claims[c, 1]
                    end = max(end, stop)
                    if record:
                        log_unit(unit_log, state, sm, which, slot, role, at, start, stop)
                code = table[inst + CODE]

                if kind == ASYNC:
                    end = max(end, now + table[inst + OWN]) + table[inst + LATENCY]
                elif kind == SIGNAL:
                    end = now + table[inst + LATENCY]
                else:
                    touched = at
                    if mode == RECORDING:
                        record_access(m, f, sm, actor, at, value, end - now)
                    if kind == LOAD:
                        arrival = read_tile(config, state, tensor_first, tensor_address, tensor_bytes, tensor_rate,
                                            channels, tiles, uses, table[inst + TENSOR], value,
                                            table[inst + NBYTES], now, end)
                        code = DATA_DRAM if arrival & 1 else DATA_L2
                        end = (arrival >> 1) + table[inst + EXTRA]
                    else:
                        end = write_tile(config, state, tensor_first, tensor_address, tensor_bytes, tensor_rate,
                                         channels, tiles, uses, table[inst + TENSOR], value,
                                         table[inst + NBYTES], now, end)
                        state[DRAINED] = max(state[DRAINED], end)

                if kind != STORE:
                    end, code, count = complete(signals, rings, slot, counter, end, code)
                    first = slot * roles
                    for other in range(first, first + roles):
                        if blocked_on[other] == counter and blocked_until[other] == count + 1:
                            blocked_on[other] = -1
                            since = blocked_since[other]
                            reasons[sm, other - first, BARRIER] += now - since
                            reasons[sm, other - first, code] += end - now
                            tree[leaves + other] = (end << ACTOR_BITS) | other
                            if mode == RECORDING:
                                record_wait(m, f, sm, slot, counter, count + 1, now, end)
                            if record:
                                log_op(op_log, state, sm, slot, other - first, role_cta[other], op_start[other], since,
                                        end)
                                log_stall(stall_log, state, sm, slot, other - first, BARRIER, since, now)
                                log_stall(stall_log, state, sm, slot, other - first, code, now, end)
                if record:
                    log_op(op_log, state, sm, slot, role, role_cta[actor], at, now, end)
                    if state[N_OPS] + 64 > len(op_log) or state[N_UNITS] + 256 > len(unit_log):
                        state[STATUS] = RECORDS_FULL
                        break

            if state[STATUS] != OK:
                break
            tree[leaves + actor] = NEVER if wake < 0 else (wake << ACTOR_BITS) | actor
            if touched >= 0 and fast:
                mode = after_turn(m, f, sm, actor, now)
                if mode == FORWARD:
                    break
            if state[FREED] or budget == 0:
                break
            key = NEVER
            for leaf in range(first_leaf, first_leaf + resident):
                key = min(key, tree[leaf])
            if key == NEVER:
                break
            actor = key & mask
            if table[pc[actor] * COLUMNS + KIND] in SHARED:
                break
            budget -= 1
            alone = True
            now = key >> ACTOR_BITS
            slot = slot_of[actor]
            role = actor - slot * roles
            wake = -1
            touched = -1
        for leaf in range(first_leaf, first_leaf + resident):
            renew(tree, leaf)
        if state[STATUS] != OK:
            break
    return budget


