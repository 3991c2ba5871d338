"""The part of the compiled SM model that says when a warp may go on, the groups of tensor work and the phases of
mbarriers that it waits for, and the bulk copies that complete these."""

from __future__ import annotations

from typing import Any

from turbosim.compiled import jit
from turbosim.sass import replay_state as f
from turbosim.sass.machine import CONFLICT_TICKS, GROUPS, NEVER, PHASES, SCOREBOARDS, TICKS


@jit
def look_ahead(w: int, table: Any, warp: Any, ends: Any) -> None:
    """Find when the next instruction of warp *w* can be issued as far as the warp itself is concerned."""
    i = warp[w, f.PC]
    until = 0
    mask = table[i, f.WAIT]
    board = f.BOARD
    while mask:
        if mask & 1:
            until = max(until, warp[w, board] if warp[w, board - f.BOARD + f.HELD] == 0 else NEVER)
        mask >>= 1
        board += 1
    warp[w, f.BOARDS_FREE] = until
    ended = 0
    kind = table[i, f.KIND]
    if kind in (f.WAIT_GROUP, f.WAIT_MMA):
        which = f.COPIES if kind == f.WAIT_GROUP else f.WORK
        needed = warp[w, f.CLOSED + which] - table[i, f.ARGUMENT]
        if needed > 0:
            # A group ends no earlier than the one before it.
            ended = ends[w, which, (needed - 1) % GROUPS]
    warp[w, f.GROUPS_ENDED] = ended
    warp[w, f.EARLIEST] = max(max(warp[w, f.READY], warp[w, f.RELEASED]), max(until, ended))


@jit
def close(w: int, which: int, end: int, ends: Any, n: int) -> None:
    """Note that the *n*-th group of warp *w* ends at *end*, and not before the group before it."""
    before = ends[w, which, (n - 1) % GROUPS] if n else 0
    ends[w, which, n % GROUPS] = max(end, before)


@jit
def write(s: int, i: int, now: int, table: Any, model: Any, warp: Any, ends: Any, scheduler: Any) -> None:
    """Delay the tensor work of warp groups by the registers that instruction *i* writes on scheduler *s*."""
    scheduler[s, f.CONFLICTS] += model[f.WRITE_CONFLICT] * table[i, f.WRITES]
    while scheduler[s, f.CONFLICTS] >= CONFLICT_TICKS:
        scheduler[s, f.CONFLICTS] -= CONFLICT_TICKS
        scheduler[s, f.GROUPS_UNTIL] += 1
        scheduler[s, f.PIPE_FREE + f.TENSOR] += 1
        for w in range(s, len(warp), len(scheduler)):
            if warp[w, f.ALIVE]:
                _delay(w, now, table, warp, ends)


@jit
def _delay(w: int, now: int, table: Any, warp: Any, ends: Any) -> None:
    """Let all tensor work of warp *w* that the tensor core has not finished at *now* end a cycle later."""
    if warp[w, f.OPEN_LEFT] > now:
        warp[w, f.OPEN_LEFT] += 1
        warp[w, f.OPEN + f.WORK] += 1
    n = warp[w, f.CLOSED + f.WORK] - 1
    oldest = max(0, n - GROUPS + 1)
    moved = False
    # A group leaves no earlier than the one before it.
    while n >= oldest and ends[w, f.WORK_LEFT, n % GROUPS] > now:
        ends[w, f.WORK_LEFT, n % GROUPS] += 1
        ends[w, f.WORK, n % GROUPS] += 1
        moved = True
        n -= 1
    if moved and table[warp[w, f.PC], f.KIND] == f.WAIT_MMA and warp[w, f.BARRED] < 0:
        look_ahead(w, table, warp, ends)


@jit
def wait_phase(w: int, i: int, per_cta: int, done: int, table: Any, warp: Any, slots: Any) -> int:
    """Return when the next phase of warp *w* is known to be complete, if it has been committed; else hold its board."""
    slot, mbarrier, board = w // per_cta, table[i, f.ARGUMENT], table[i, f.WRITE]
    phase = warp[w, f.WAITED + mbarrier]
    warp[w, f.WAITED + mbarrier] = phase + 1
    committed = slots[slot, f.COMMITTED + mbarrier]
    if phase < committed:
        if phase < committed - PHASES:
            return done
        return int(max(done, slots[slot, f.COMPLETE + mbarrier * PHASES + phase % PHASES]))
    if board >= 0:
        warp[w, f.HELD + board] = phase << 8 | mbarrier + 1
    return done


@jit
def commit(w: int, i: int, per_cta: int, done: int, table: Any, warp: Any, ends: Any, scheduler: Any,
           slots: Any) -> None:
    """Note when the phase that instruction *i* commits is complete, and release the boards that are held for it."""
    slot = w // per_cta
    release(w, table[i, f.ARGUMENT], per_cta, max(done, slots[slot, f.PRODUCTS]), table, warp, ends, scheduler, slots)


@jit
def count(w: int, i: int, per_cta: int, done: int, table: Any, warp: Any, ends: Any, scheduler: Any,
          slots: Any) -> None:
    """Count bytes that an mbarrier expects, or has got; release the phases that have got theirs."""
    slot, mbarrier, nbytes = w // per_cta, table[i, f.ARGUMENT] & 255, table[i, f.ARGUMENT] >> 8
    places = f.EXPECTED + mbarrier * PHASES
    if table[i, f.KIND] == f.EXPECT:
        announced = slots[slot, f.ANNOUNCED + mbarrier]
        before = slots[slot, places + (announced - 1) % PHASES] if announced else 0
        slots[slot, places + announced % PHASES] = before + nbytes
        slots[slot, f.ANNOUNCED + mbarrier] = announced + 1
    else:
        slots[slot, f.DELIVERED + mbarrier] += nbytes
    slots[slot, f.LANDED + mbarrier] = max(slots[slot, f.LANDED + mbarrier], done)
    while slots[slot, f.COMMITTED + mbarrier] < slots[slot, f.ANNOUNCED + mbarrier]:
        if slots[slot, f.DELIVERED + mbarrier] < slots[slot, places + slots[slot, f.COMMITTED + mbarrier] % PHASES]:
            break
        release(w, mbarrier, per_cta, slots[slot, f.LANDED + mbarrier], table, warp, ends, scheduler, slots)


@jit
def release(w: int, mbarrier: int, per_cta: int, done: int, table: Any, warp: Any, ends: Any, scheduler: Any,
            slots: Any) -> None:
    """Note when the next phase of an mbarrier is complete, and release the boards that are held for it."""
    slot = w // per_cta
    phase = slots[slot, f.COMMITTED + mbarrier]
    slots[slot, f.COMMITTED + mbarrier] = phase + 1
    places = f.COMPLETE + mbarrier * PHASES
    complete = done
    if phase:
        complete = max(complete, slots[slot, places + (phase - 1) % PHASES])
    slots[slot, places + phase % PHASES] = complete
    held = phase << 8 | mbarrier + 1
    for o in range(slot * per_cta, (slot + 1) * per_cta):
        found = False
        for board in range(SCOREBOARDS):
            if warp[o, f.HELD + board] == held:
                warp[o, f.HELD + board] = 0
                warp[o, f.BOARD + board] = max(warp[o, f.BOARD + board], complete)
                found = True
        # The warp that issues the commit looks ahead after it.
        if found and o != w and warp[o, f.ALIVE] and warp[o, f.BARRED] < 0:
            look_ahead(o, table, warp, ends)
            s = o % len(scheduler)
            scheduler[s, f.NEXT] = min(scheduler[s, f.NEXT], warp[o, f.EARLIEST])


@jit
def acts_in(w: int, i: int, per_cta: int, table: Any) -> bool:
    """Return whether warp *w* is among those that execute instruction *i*, where that is one of bulk copies."""
    return bool(table[i, f.KIND] not in (f.EXPECT, f.BULK_LOAD, f.BULK_STORE) or table[i, f.WARPS] >> w % per_cta & 1)


@jit
def copy(i: int, start: int, done: int, table: Any, model: Any, sm: Any) -> int:
    """Return when the bulk copy of instruction *i* that begins at *start* ends, and not before *done*."""
    shared = table[i, f.SHARED]
    sm[f.PATH_FREE] = max(start, sm[f.PATH_FREE]) + shared
    sm[f.PATH_BUSY] += shared
    done = max(done, sm[f.PATH_FREE])
    loads = table[i, f.KIND] == f.BULK_LOAD
    if table[i, f.GLOBAL]:
        ticks = -(-table[i, f.GLOBAL] * TICKS * TICKS // model[f.L2_RATE])
        sm[f.L2_FREE] = max(sm[f.L2_FREE], start * TICKS) + ticks
        sm[f.L2_BUSY] += ticks
        if loads:
            done = max(done, -(-sm[f.L2_FREE] // TICKS) + model[f.L2_LATENCY])
    return int(done + model[f.BULK_LATENCY] if loads else done)
