"""The compiled loop of :mod:`turbosim.sass.replay`: the rules of :mod:`turbosim.sass.machine`, skipping idle cycles."""

from __future__ import annotations

from typing import Any

from turbosim.compiled import jit, jit_cached
from turbosim.sass.machine import BARRIERS, GROUPS, NEVER, SCOREBOARDS, TICKS, Column, Kind, Pipe, Wait

# Compiled code does not know enumerations: their values as plain numbers.
(_PIPE, _INTERVAL, _LATENCY, _READ, _SHARED, _GLOBAL, _KIND, _ARGUMENT, _STALL, _WRITE, _READ_BOARD, _WAIT,
 _PORTS) = (int(c) for c in Column)
(_PLAIN, _BARRIER, _ARRIVE, _LOAD, _COPY, _GROUP, _WAIT_GROUP, _STORE, _ASYNC, _WAIT_MMA,
 _EXIT) = (int(k) for k in Kind)
(_W_STALL, _W_BOARD, _W_GROUP, _W_BARRIER, _W_PIPE, _W_QUEUE, _W_PORTS, _W_OTHER) = (int(w) for w in Wait)
_TENSOR, _MIO, _CONTROL, _PIPES = int(Pipe.TENSOR), int(Pipe.MIO), int(Pipe.CONTROL), len(Pipe)
RING = 64
"""Places of a scheduler's queue that are remembered: the largest depth."""

# Fields of a warp's row of state.
(ALIVE, _BARRED, PC, _LAST, _AT, _END, _ISSUED, _READY, _RELEASED, _BOARDS_FREE, _GROUPS_ENDED, _EARLIEST, _OPEN,
 _CLOSED, _BOARD) = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16)
WARP_FIELDS = _BOARD + SCOREBOARDS
# Fields of a scheduler's row of state.
(PICK, _QUEUED, NEXT, _PORTS_FREE, _PIPE_FREE) = range(5)
SCHEDULER_FIELDS = _PIPE_FREE + _PIPES
# Fields of a slot's row of state: CTA, warps that run, arrivals at its barriers.
(_CTA, _RUNNING, ARRIVED) = range(3)
# Fields of the SM's state.
(_PATH_FREE, _L2_FREE, _NEXT_CTA, _LIVING, CYCLES, INSTRUCTIONS, PATH_BUSY, L2_BUSY) = range(8)
# Fields of the model.
(_SCHEDULERS, _WINDOW, _DEPTH, _L2_RATE, _L2_LATENCY, _BARRIER_LATENCY, _CTA_LATENCY) = range(7)
_DONE, TOO_LONG, DEADLOCK, OVERRUN = range(4)


@jit
def _look_ahead(w: int, table: Any, warp: Any, ends: Any) -> None:
    """Find when the next instruction of warp *w* can be issued as far as the warp itself is concerned."""
    i = warp[w, PC]
    until = 0
    mask = table[i, _WAIT]
    board = _BOARD
    while mask:
        if mask & 1 and warp[w, board] > until:
            until = warp[w, board]
        mask >>= 1
        board += 1
    warp[w, _BOARDS_FREE] = until
    ended = 0
    kind = table[i, _KIND]
    if kind in (_WAIT_GROUP, _WAIT_MMA):
        which = 0 if kind == _WAIT_GROUP else 1
        needed = warp[w, _CLOSED + which] - table[i, _ARGUMENT]
        if needed > 0:
            # A group ends no earlier than the one before it.
            ended = ends[w, which, (needed - 1) % GROUPS]
    warp[w, _GROUPS_ENDED] = ended
    warp[w, _EARLIEST] = max(max(warp[w, _READY], warp[w, _RELEASED]), max(until, ended))


@jit
def _room(i: int, s: int, table: Any, scheduler: Any, queue: Any, depth: int) -> int:
    """Return when the queue of scheduler *s* takes instruction *i*."""
    if table[i, _PIPE] != _MIO or scheduler[s, _QUEUED] < depth:
        return 0
    return int(queue[s, (scheduler[s, _QUEUED] - depth) % RING])


@jit
def _pipe_free(i: int, s: int, table: Any, scheduler: Any) -> int:
    """Return when the pipe of instruction *i* is free; what is queued does not wait for it."""
    pipe = table[i, _PIPE]
    if table[i, _KIND] == _ASYNC or pipe in (_MIO, _CONTROL):
        return 0
    return int(scheduler[s, _PIPE_FREE + pipe])


@jit
def _ports(i: int, s: int, table: Any, scheduler: Any, window: int) -> int:
    """Return when the operands of instruction *i* can be read soon enough."""
    return int(scheduler[s, _PORTS_FREE] - window) if table[i, _PORTS] else 0


@jit
def _enter(w: int, first: Any, last: Any, walks: Any, warp: Any) -> None:
    """Let warp *w* begin the block at its place in the walk."""
    block = walks[warp[w, _AT]]
    warp[w, PC] = first[block]
    warp[w, _LAST] = last[block]


@jit
def _start(slot: int, at: int, table: Any, model: Any, first: Any, last: Any, walks: Any, spans: Any, order: Any,
           warp: Any, ends: Any, scheduler: Any, slots: Any, sm: Any, cta_starts: Any) -> None:
    """Give *slot* the next CTA at cycle *at*, if there is one."""
    if sm[_NEXT_CTA] == len(order):
        return
    cta = sm[_NEXT_CTA]
    sm[_NEXT_CTA] += 1
    begin = at + model[_CTA_LATENCY]
    cta_starts[cta] = begin
    per_cta = spans.shape[1]
    slots[slot, _CTA], slots[slot, _RUNNING] = cta, per_cta
    for barrier in range(BARRIERS):
        slots[slot, ARRIVED + barrier] = 0
    for n in range(per_cta):
        w = slot * per_cta + n
        for column in range(WARP_FIELDS):
            warp[w, column] = 0
        warp[w, ALIVE], warp[w, _BARRED] = 1, -1
        warp[w, _AT] = spans[order[cta], n, 0]
        warp[w, _END] = warp[w, _AT] + spans[order[cta], n, 1]
        _enter(w, first, last, walks, warp)
        warp[w, _ISSUED] = warp[w, _READY] = warp[w, _RELEASED] = begin
        _look_ahead(w, table, warp, ends)
        s = w % len(scheduler)
        scheduler[s, NEXT] = min(scheduler[s, NEXT], begin)
    sm[_LIVING] += per_cta


@jit
def _pick(s: int, now: int, per_scheduler: int, table: Any, model: Any, warp: Any, scheduler: Any, queue: Any) -> int:
    """Return the warp that scheduler *s* issues from, or -1 after noting when it will find one."""
    schedulers = len(scheduler)
    soonest = NEVER
    turn = scheduler[s, PICK]
    for _ in range(per_scheduler):
        turn += 1
        if turn >= per_scheduler:
            turn = 0
        w = turn * schedulers + s
        if not warp[w, ALIVE] or warp[w, _BARRED] >= 0:
            continue
        until = warp[w, _EARLIEST]
        if until <= now:
            i = warp[w, PC]
            until = max(max(until, _pipe_free(i, s, table, scheduler)),
                        max(_room(i, s, table, scheduler, queue, model[_DEPTH]),
                            _ports(i, s, table, scheduler, model[_WINDOW])))
            if until <= now:
                scheduler[s, PICK] = turn
                scheduler[s, NEXT] = now + 1
                return int(w)
        soonest = min(soonest, until)
    scheduler[s, NEXT] = soonest
    return -1


@jit
def _account(w: int, s: int, now: int, table: Any, model: Any, warp: Any, scheduler: Any, queue: Any,
             waits: Any) -> None:
    """Divide the cycles since the last issue among the reasons, in the order in which they bind."""
    i = warp[w, PC]
    at = warp[w, _ISSUED]
    if warp[w, _READY] > at:
        waits[i, _W_STALL] += warp[w, _READY] - at
        at = warp[w, _READY]
    if warp[w, _RELEASED] > at:
        waits[i, _W_BARRIER] += warp[w, _RELEASED] - at
        at = warp[w, _RELEASED]
    if warp[w, _BOARDS_FREE] > at:
        waits[i, _W_BOARD] += warp[w, _BOARDS_FREE] - at
        at = warp[w, _BOARDS_FREE]
    if warp[w, _GROUPS_ENDED] > at:
        waits[i, _W_GROUP] += warp[w, _GROUPS_ENDED] - at
        at = warp[w, _GROUPS_ENDED]
    if at == now:
        return
    until = _room(i, s, table, scheduler, queue, model[_DEPTH])
    if until > at:
        waits[i, _W_QUEUE] += until - at
        at = until
    until = _pipe_free(i, s, table, scheduler)
    if until > at:
        waits[i, _W_PIPE] += until - at
        at = until
    until = _ports(i, s, table, scheduler, model[_WINDOW])
    if until > at:
        waits[i, _W_PORTS] += until - at
        at = until
    waits[i, _W_OTHER] += now - at


@jit
def _serve(w: int, s: int, now: int, table: Any, model: Any, warp: Any, ends: Any, scheduler: Any, queue: Any,
           sm: Any) -> None:
    """Reserve what the next instruction of warp *w* needs, and note when its scoreboards and its group are free."""
    i = warp[w, PC]
    pipe, interval, kind = table[i, _PIPE], table[i, _INTERVAL], table[i, _KIND]
    if table[i, _PORTS]:
        scheduler[s, _PORTS_FREE] = max(now, scheduler[s, _PORTS_FREE]) + table[i, _PORTS]
    start = now
    shared = table[i, _SHARED]
    if kind == _ASYNC:
        start = max(now, scheduler[s, _PIPE_FREE + _TENSOR])
        end = start + interval
        if shared:
            sm[_PATH_FREE] = max(now, sm[_PATH_FREE]) + shared
            sm[PATH_BUSY] += shared
            end = max(end, sm[_PATH_FREE])
        scheduler[s, _PIPE_FREE + _TENSOR] = end
        done = end + table[i, _LATENCY]
    else:
        if pipe == _MIO:
            start = max(now, max(scheduler[s, _PIPE_FREE + pipe], sm[_PATH_FREE]))
            scheduler[s, _PIPE_FREE + pipe] = start + interval
            sm[_PATH_FREE] = start + shared
            queue[s, scheduler[s, _QUEUED] % RING] = start
            scheduler[s, _QUEUED] += 1
            sm[PATH_BUSY] += shared
        else:
            scheduler[s, _PIPE_FREE + pipe] = now + interval
        done = start + shared + table[i, _LATENCY]
        if table[i, _GLOBAL]:
            ticks = -(-table[i, _GLOBAL] * TICKS * TICKS // model[_L2_RATE])
            sm[_L2_FREE] = max(sm[_L2_FREE], (start + shared) * TICKS) + ticks
            sm[L2_BUSY] += ticks
            done = max(done, -(-sm[_L2_FREE] // TICKS) + model[_L2_LATENCY])
    board = table[i, _WRITE]
    if board >= 0:
        warp[w, _BOARD + board] = max(warp[w, _BOARD + board], done)
    board = table[i, _READ_BOARD]
    if board >= 0:
        warp[w, _BOARD + board] = max(warp[w, _BOARD + board], start + table[i, _READ])
    if kind in (_COPY, _GROUP, _ASYNC):
        which = 1 if kind == _ASYNC else 0
        if kind != _GROUP:
            warp[w, _OPEN + which] = max(warp[w, _OPEN + which], done)
        if kind == _GROUP or (kind == _ASYNC and table[i, _ARGUMENT]):
            n = warp[w, _CLOSED + which]
            before = ends[w, which, (n - 1) % GROUPS] if n else 0
            ends[w, which, n % GROUPS] = max(warp[w, _OPEN + which], before)
            warp[w, _CLOSED + which] = n + 1
            warp[w, _OPEN + which] = 0


@jit
def _arrive(w: int, i: int, now: int, per_cta: int, table: Any, model: Any, warp: Any, ends: Any, scheduler: Any,
            slots: Any) -> None:
    """Let warp *w* arrive at the barrier of instruction *i*, and all go on when it was the last."""
    slot = w // per_cta
    barrier, expected = table[i, _ARGUMENT] & 255, table[i, _ARGUMENT] >> 8
    if table[i, _KIND] == _BARRIER:
        warp[w, _BARRED] = barrier
    slots[slot, ARRIVED + barrier] += 1
    if slots[slot, ARRIVED + barrier] < (expected or per_cta):
        return
    slots[slot, ARRIVED + barrier] = 0
    for o in range(slot * per_cta, (slot + 1) * per_cta):
        if warp[o, ALIVE] and warp[o, _BARRED] == barrier:
            warp[o, _BARRED] = -1
            warp[o, _RELEASED] = now + model[_BARRIER_LATENCY]
            _look_ahead(o, table, warp, ends)
            s = o % len(scheduler)
            scheduler[s, NEXT] = min(scheduler[s, NEXT], warp[o, _EARLIEST])


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
            if scheduler[s, NEXT] <= now:
                w = _pick(s, now, (len(warp) - s + schedulers - 1) // schedulers, table, model, warp, scheduler, queue)
                if w >= 0:
                    i = warp[w, PC]
                    _account(w, s, now, table, model, warp, scheduler, queue, waits)
                    sm[INSTRUCTIONS] += 1
                    issues[i] += 1
                    if first_issue[i] < 0:
                        first_issue[i] = now
                    pipe_busy[s, table[i, _PIPE]] += table[i, _INTERVAL]
                    _serve(w, s, now, table, model, warp, ends, scheduler, queue, sm)
                    warp[w, _ISSUED] = now + 1
                    warp[w, _READY] = now + max(1, table[i, _STALL])
                    if i < warp[w, _LAST]:
                        warp[w, PC] = i + 1
                    elif warp[w, _AT] + 1 < warp[w, _END]:
                        warp[w, _AT] += 1
                        _enter(w, first, last, walks, warp)
                    elif table[i, _KIND] == _EXIT:
                        warp[w, ALIVE] = 0
                        sm[_LIVING] -= 1
                        sm[CYCLES] = now + 1
                        slot = w // per_cta
                        slots[slot, _RUNNING] -= 1
                        if slots[slot, _RUNNING] == 0:
                            cta_ends[slots[slot, _CTA]] = now + 1
                            _start(slot, now + 1, table, model, first, last, walks, spans, order, warp, ends, scheduler,
                                   slots, sm, cta_starts)
                    else:
                        return OVERRUN
                    if warp[w, ALIVE] and warp[w, _ISSUED] == now + 1:
                        if table[i, _KIND] in (_BARRIER, _ARRIVE):
                            _arrive(w, i, now, per_cta, table, model, warp, ends, scheduler, slots)
                        if warp[w, _BARRED] < 0:
                            _look_ahead(w, table, warp, ends)
        if not sm[_LIVING]:
            return _DONE
        for s in range(schedulers):
            soonest = min(soonest, scheduler[s, NEXT])
        if soonest == NEVER:
            return DEADLOCK
        now = max(now + 1, soonest)
        if now > limit:
            return TOO_LONG
