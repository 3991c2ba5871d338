"""The compiled loop of :mod:`turbosim.sass.replay`: the rules of :mod:`turbosim.sass.machine`, skipping idle cycles."""

from __future__ import annotations

from typing import Any

from turbosim.compiled import jit, jit_cached
from turbosim.sass import replay_state as f
from turbosim.sass.machine import BARRIERS, NEVER, TICKS
from turbosim.sass.replay_phases import acts_in, close, commit, copy, count, look_ahead, wait_phase, write


@jit
def _room(i: int, s: int, table: Any, scheduler: Any, queue: Any, depth: int) -> int:
    """Return when the queue of scheduler *s* takes instruction *i*."""
    if table[i, f.PIPE] != f.MIO or scheduler[s, f.QUEUED] < depth:
        return 0
    return int(queue[s, (scheduler[s, f.QUEUED] - depth) % f.RING])


@jit
def _pipe_free(i: int, s: int, table: Any, scheduler: Any) -> int:
    """Return when the pipe of instruction *i* is free; what is queued does not wait for it."""
    pipe = table[i, f.PIPE]
    if table[i, f.KIND] in (f.ASYNC, f.UNIT) or pipe in (f.MIO, f.CONTROL):
        return 0
    return int(scheduler[s, f.PIPE_FREE + pipe])


@jit
def _ports(i: int, s: int, table: Any, scheduler: Any, window: int) -> int:
    """Return when the operands of instruction *i* can be read soon enough."""
    return int(scheduler[s, f.PORTS_FREE] - window) if table[i, f.PORTS] else 0


@jit
def _enter(w: int, first: Any, last: Any, walks: Any, warp: Any) -> None:
    """Let warp *w* begin the block at its place in the walk."""
    block = walks[warp[w, f.AT]]
    warp[w, f.PC] = first[block]
    warp[w, f.LAST] = last[block]


@jit
def _start(slot: int, at: int, table: Any, model: Any, first: Any, last: Any, walks: Any, spans: Any, order: Any,
           warp: Any, ends: Any, scheduler: Any, slots: Any, sm: Any, cta_starts: Any) -> None:
    """Give *slot* the next CTA at cycle *at*, if there is one."""
    if sm[f.NEXT_CTA] == len(order):
        return
    cta = sm[f.NEXT_CTA]
    sm[f.NEXT_CTA] += 1
    begin = at + model[f.CTA_LATENCY]
    cta_starts[cta] = begin
    per_cta = spans.shape[1]
    slots[slot, f.CTA], slots[slot, f.RUNNING] = cta, per_cta
    slots[slot, f.PRODUCTS] = 0
    for barrier in range(BARRIERS):
        slots[slot, f.ARRIVED + barrier] = slots[slot, f.COMMITTED + barrier] = 0
        slots[slot, f.ANNOUNCED + barrier] = slots[slot, f.DELIVERED + barrier] = slots[slot, f.LANDED + barrier] = 0
    for n in range(per_cta):
        w = slot * per_cta + n
        for column in range(f.WARP_FIELDS):
            warp[w, column] = 0
        warp[w, f.ALIVE], warp[w, f.BARRED] = 1, -1
        warp[w, f.AT] = spans[order[cta], n, 0]
        warp[w, f.END] = warp[w, f.AT] + spans[order[cta], n, 1]
        _enter(w, first, last, walks, warp)
        warp[w, f.ISSUED] = warp[w, f.READY] = warp[w, f.RELEASED] = begin
        look_ahead(w, table, warp, ends)
        s = w % len(scheduler)
        scheduler[s, f.NEXT] = min(scheduler[s, f.NEXT], begin)
    sm[f.LIVING] += per_cta


@jit
def _pick(s: int, now: int, per_scheduler: int, table: Any, model: Any, warp: Any, scheduler: Any, queue: Any) -> int:
    """Return the warp that scheduler *s* issues from, or -1 after noting when it will find one."""
    schedulers = len(scheduler)
    soonest = NEVER
    turn = scheduler[s, f.PICK]
    for _ in range(per_scheduler):
        turn += 1
        if turn >= per_scheduler:
            turn = 0
        w = turn * schedulers + s
        if not warp[w, f.ALIVE] or warp[w, f.BARRED] >= 0:
            continue
        until = warp[w, f.EARLIEST]
        if until <= now:
            i = warp[w, f.PC]
            until = max(max(until, _pipe_free(i, s, table, scheduler)),
                        max(_room(i, s, table, scheduler, queue, model[f.DEPTH]),
                            _ports(i, s, table, scheduler, model[f.WINDOW])))
            if until <= now:
                scheduler[s, f.PICK] = turn
                scheduler[s, f.NEXT] = now + 1
                return int(w)
        soonest = min(soonest, until)
    scheduler[s, f.NEXT] = soonest
    return -1


@jit
def _account(w: int, s: int, now: int, table: Any, model: Any, warp: Any, scheduler: Any, queue: Any,
             waits: Any) -> None:
    """Divide the cycles since the last issue among the reasons, in the order in which they bind."""
    i = warp[w, f.PC]
    at = warp[w, f.ISSUED]
    if warp[w, f.READY] > at:
        waits[i, f.W_STALL] += warp[w, f.READY] - at
        at = warp[w, f.READY]
    if warp[w, f.RELEASED] > at:
        waits[i, f.W_BARRIER] += warp[w, f.RELEASED] - at
        at = warp[w, f.RELEASED]
    if warp[w, f.BOARDS_FREE] > at:
        waits[i, f.W_BOARD] += warp[w, f.BOARDS_FREE] - at
        at = warp[w, f.BOARDS_FREE]
    if warp[w, f.GROUPS_ENDED] > at:
        waits[i, f.W_GROUP] += warp[w, f.GROUPS_ENDED] - at
        at = warp[w, f.GROUPS_ENDED]
    if at == now:
        return
    until = _room(i, s, table, scheduler, queue, model[f.DEPTH])
    if until > at:
        waits[i, f.W_QUEUE] += until - at
        at = until
    until = _pipe_free(i, s, table, scheduler)
    if until > at:
        waits[i, f.W_PIPE] += until - at
        at = until
    until = _ports(i, s, table, scheduler, model[f.WINDOW])
    if until > at:
        waits[i, f.W_PORTS] += until - at
        at = until
    waits[i, f.W_OTHER] += now - at


@jit
def _serve(w: int, s: int, now: int, per_cta: int, table: Any, model: Any, warp: Any, ends: Any, scheduler: Any,
           queue: Any, slots: Any, sm: Any) -> None:
    """Reserve what the next instruction of warp *w* needs, and note when its scoreboards and its group are free."""
    i = warp[w, f.PC]
    pipe, interval, kind = table[i, f.PIPE], table[i, f.INTERVAL], table[i, f.KIND]
    if table[i, f.PORTS]:
        scheduler[s, f.PORTS_FREE] = max(now, scheduler[s, f.PORTS_FREE]) + table[i, f.PORTS]
    if kind == f.PLAIN and pipe != f.MIO:
        # Most instructions: their pipe and their scoreboards.
        scheduler[s, f.PIPE_FREE + pipe] = now + interval
        board = table[i, f.WRITE]
        if board >= 0:
            done = now + table[i, f.SHARED] + table[i, f.LATENCY]
            warp[w, f.BOARD + board] = max(warp[w, f.BOARD + board], done)
        board = table[i, f.READ_BOARD]
        if board >= 0:
            warp[w, f.BOARD + board] = max(warp[w, f.BOARD + board], now + table[i, f.READ])
        return
    start = now
    bulk = kind in (f.BULK_LOAD, f.BULK_STORE)
    acts = acts_in(w, i, per_cta, table)
    shared = 0 if bulk else table[i, f.SHARED]
    if kind in (f.ASYNC, f.UNIT):
        start = max(now, sm[f.TENSOR_FREE] if kind == f.UNIT else scheduler[s, f.PIPE_FREE + f.TENSOR])
        end = start + interval
        if shared:
            sm[f.PATH_FREE] = max(now, sm[f.PATH_FREE]) + shared
            sm[f.PATH_BUSY] += shared
            end = max(end, sm[f.PATH_FREE])
        if kind == f.UNIT:
            sm[f.TENSOR_FREE] = end
        else:
            scheduler[s, f.PIPE_FREE + f.TENSOR] = scheduler[s, f.GROUPS_UNTIL] = end
        done = end + table[i, f.LATENCY]
    else:
        if bulk and not acts:
            # Issued only.
            start = now
        elif pipe == f.MIO:
            start = max(now, max(scheduler[s, f.PIPE_FREE + pipe], sm[f.PATH_FREE]))
            scheduler[s, f.PIPE_FREE + pipe] = start + interval
            sm[f.PATH_FREE] = start + shared
            queue[s, scheduler[s, f.QUEUED] % f.RING] = start
            scheduler[s, f.QUEUED] += 1
            sm[f.PATH_BUSY] += shared
        else:
            scheduler[s, f.PIPE_FREE + pipe] = now + interval
        done = start + shared + table[i, f.LATENCY]
        if bulk:
            done = copy(i, start, done, table, model, sm) if acts else now
        elif table[i, f.GLOBAL]:
            ticks = -(-table[i, f.GLOBAL] * TICKS * TICKS // model[f.L2_RATE])
            sm[f.L2_FREE] = max(sm[f.L2_FREE], (start + shared) * TICKS) + ticks
            sm[f.L2_BUSY] += ticks
            done = max(done, -(-sm[f.L2_FREE] // TICKS) + model[f.L2_LATENCY])
    if kind == f.WAIT_PHASE:
        done = wait_phase(w, i, per_cta, done, table, warp, slots)
    elif kind == f.FENCE_TENSOR:
        done = max(done, warp[w, f.STORED])
    elif kind == f.STORE_TENSOR:
        warp[w, f.STORED] = max(warp[w, f.STORED], done)
    board = table[i, f.WRITE]
    if board >= 0:
        warp[w, f.BOARD + board] = max(warp[w, f.BOARD + board], done)
    board = table[i, f.READ_BOARD]
    if board >= 0:
        warp[w, f.BOARD + board] = max(warp[w, f.BOARD + board], start + table[i, f.READ])
    if kind in (f.COPY, f.GROUP, f.ASYNC) or (kind == f.BULK_STORE and acts):
        which = f.WORK if kind == f.ASYNC else f.COPIES
        if kind != f.GROUP:
            warp[w, f.OPEN + which] = max(warp[w, f.OPEN + which], done)
        if kind == f.ASYNC:
            warp[w, f.OPEN_LEFT] = max(warp[w, f.OPEN_LEFT], scheduler[s, f.GROUPS_UNTIL])
        if kind == f.GROUP or (kind == f.ASYNC and table[i, f.ARGUMENT]):
            n = warp[w, f.CLOSED + which]
            close(w, which, warp[w, f.OPEN + which], ends, n)
            if kind == f.ASYNC:
                close(w, f.WORK_LEFT, warp[w, f.OPEN_LEFT], ends, n)
                warp[w, f.OPEN_LEFT] = 0
            warp[w, f.CLOSED + which] = n + 1
            warp[w, f.OPEN + which] = 0
    elif kind == f.UNIT:
        slots[w // per_cta, f.PRODUCTS] = max(slots[w // per_cta, f.PRODUCTS], done)
    elif kind == f.COMMIT:
        commit(w, i, per_cta, done, table, warp, ends, scheduler, slots)
    elif kind in (f.EXPECT, f.BULK_LOAD) and acts:
        count(w, i, per_cta, done, table, warp, ends, scheduler, slots)


@jit
def _arrive(w: int, i: int, now: int, per_cta: int, table: Any, model: Any, warp: Any, ends: Any, scheduler: Any,
            slots: Any) -> None:
    """Let warp *w* arrive at the barrier of instruction *i*, and all go on when it was the last."""
    slot = w // per_cta
    barrier, expected = table[i, f.ARGUMENT] & 255, table[i, f.ARGUMENT] >> 8
    if table[i, f.KIND] == f.BARRIER:
        warp[w, f.BARRED] = barrier
    slots[slot, f.ARRIVED + barrier] += 1
    if slots[slot, f.ARRIVED + barrier] < (expected or per_cta):
        return
    slots[slot, f.ARRIVED + barrier] = 0
    for o in range(slot * per_cta, (slot + 1) * per_cta):
        if warp[o, f.ALIVE] and warp[o, f.BARRED] == barrier:
            warp[o, f.BARRED] = -1
            warp[o, f.RELEASED] = now + model[f.BARRIER_LATENCY]
            look_ahead(o, table, warp, ends)
            s = o % len(scheduler)
            scheduler[s, f.NEXT] = min(scheduler[s, f.NEXT], warp[o, f.EARLIEST])


@jit_cached
def run(table: Any, first: Any, last: Any, walks: Any, spans: Any, order: Any, model: Any, limit: int, issues: Any,
         waits: Any, first_issue: Any, pipe_busy: Any, cta_starts: Any, cta_ends: Any, sm: Any, warp: Any, ends: Any,
         scheduler: Any, queue: Any, slots: Any) -> int:
    """Run to the end; *spans* (classes, warps, 2) holds begin and length of walks, *model* SmModel's fields."""
    schedulers, per_cta = len(scheduler), spans.shape[1]
    for slot in range(len(slots)):
        _start(slot, 0, table, model, first, last, walks, spans, order, warp, ends, scheduler, slots, sm, cta_starts)
    now = 0
    while True:
        soonest = NEVER
        for s in range(schedulers):
            if scheduler[s, f.NEXT] <= now:
                w = _pick(s, now, (len(warp) - s + schedulers - 1) // schedulers, table, model, warp, scheduler, queue)
                if w >= 0:
                    i = warp[w, f.PC]
                    _account(w, s, now, table, model, warp, scheduler, queue, waits)
                    sm[f.INSTRUCTIONS] += 1
                    issues[i] += 1
                    if first_issue[i] < 0:
                        first_issue[i] = now
                    if table[i, f.KIND] <= f.EXPECT or acts_in(w, i, per_cta, table):
                        pipe_busy[s, table[i, f.PIPE]] += table[i, f.INTERVAL]
                    _serve(w, s, now, per_cta, table, model, warp, ends, scheduler, queue, slots, sm)
                    if scheduler[s, f.GROUPS_UNTIL] > now and table[i, f.WRITES]:
                        write(s, i, now, table, model, warp, ends, scheduler)
                    warp[w, f.ISSUED] = now + 1
                    warp[w, f.READY] = now + max(1, table[i, f.STALL])
                    if i < warp[w, f.LAST]:
                        warp[w, f.PC] = i + 1
                    elif warp[w, f.AT] + 1 < warp[w, f.END]:
                        warp[w, f.AT] += 1
                        _enter(w, first, last, walks, warp)
                    elif table[i, f.KIND] == f.EXIT:
                        warp[w, f.ALIVE] = 0
                        sm[f.LIVING] -= 1
                        sm[f.CYCLES] = now + 1
                        slot = w // per_cta
                        slots[slot, f.RUNNING] -= 1
                        if slots[slot, f.RUNNING] == 0:
                            cta_ends[slots[slot, f.CTA]] = now + 1
                            _start(slot, now + 1, table, model, first, last, walks, spans, order, warp, ends, scheduler,
                                   slots, sm, cta_starts)
                    else:
                        return f.OVERRUN
                    if warp[w, f.ALIVE] and warp[w, f.ISSUED] == now + 1:
                        if table[i, f.KIND] == f.BARRIER or table[i, f.KIND] == f.ARRIVE:
                            _arrive(w, i, now, per_cta, table, model, warp, ends, scheduler, slots)
                        if warp[w, f.BARRED] < 0:
                            look_ahead(w, table, warp, ends)
        if not sm[f.LIVING]:
            return f.DONE
        for s in range(schedulers):
            soonest = min(soonest, scheduler[s, f.NEXT])
        if soonest == NEVER:
            return f.DEADLOCK
        now = max(now + 1, soonest)
        if now > limit:
            return f.TOO_LONG
