"""The issue-level model of one SM in plain Python, a cycle at a time: slow, and the definition of right."""

from __future__ import annotations

from turbosim.errors import SimulationError
from turbosim.sass.machine import (
    BARRIERS,
    CONFLICT_TICKS,
    NEVER,
    SCOREBOARDS,
    TICKS,
    Code,
    Column,
    CtaClass,
    Kind,
    Pipe,
    Replay,
    SmModel,
    Wait,
    deadlock,
)
from turbosim.sass.oracle_mbarriers import Mbarriers
from turbosim.sass.oracle_warp import Warp


def replay(code: Code, ctas: list[CtaClass], order: list[int], slots: int, model: SmModel,
           limit: int = 10**7) -> Replay:
    """Run CTAs of the classes in *order*, *slots* at a time, on one SM. Raises SimulationError after *limit* cycles."""
    return _Machine(code, ctas, order, slots, model).run(limit)


class _Machine:
    def __init__(self, code: Code, ctas: list[CtaClass], order: list[int], slots: int, model: SmModel) -> None:
        self.code, self.ctas, self.order, self.slots, self.model = code, ctas, order, slots, model
        self.result = Replay.empty(len(code.table), model.schedulers, len(order))
        self.warps_per_cta = len(ctas[0].walks)
        self.warps: list[Warp | None] = [None] * (slots * self.warps_per_cta)
        self.cta_of = [-1] * slots
        self.next_cta = 0
        self.last = [-model.schedulers] * model.schedulers
        self.pipe_free = [[0] * len(Pipe) for _ in range(model.schedulers)]
        self.ports_free = [0] * model.schedulers
        self.groups_until = [0] * model.schedulers
        """When the tensor work of warp groups has left each scheduler's tensor core."""
        self.conflicts = [0] * model.schedulers
        """Delay of that work that is not a whole cycle yet."""
        self.queue: list[list[int]] = [[] for _ in range(model.schedulers)]
        self.path_free = 0
        self.l2_free = 0
        self.arrived = [[0] * BARRIERS for _ in range(slots)]
        self.tensor_free = 0
        self.products = [0] * slots
        """When the tensor work of each CTA that was issued has ended."""
        self.mbarriers = [Mbarriers() for _ in range(slots)]

    def run(self, limit: int) -> Replay:
        for slot in range(self.slots):
            self._start(slot, 0)
        now = 0
        while any(w is not None for w in self.warps):
            if now > limit:
                raise SimulationError(f"the SM did not come to an end in {limit} cycles")
            if all(w is None or w.barred or self._boards(w) == NEVER for w in self.warps):
                raise SimulationError(deadlock([(w.number, w.pc) for w in self.warps if w is not None]))
            for scheduler in range(self.model.schedulers):
                self._schedule(scheduler, now)
            now += 1
        return self.result

    def _start(self, slot: int, now: int) -> None:
        if self.next_cta == len(self.order):
            return
        cta = self.next_cta
        self.next_cta += 1
        self.cta_of[slot] = cta
        start = now + self.model.cta_latency
        self.result.cta_starts[cta] = start
        self.arrived[slot] = [0] * BARRIERS
        self.products[slot] = 0
        self.mbarriers[slot] = Mbarriers()
        for n, walk in enumerate(self.ctas[self.order[cta]].walks):
            number = slot * self.warps_per_cta + n
            warp = Warp(number, slot, [int(b) for b in walk], issued=start, ready=start, released=start)
            warp.pc = int(self.code.first[warp.walk[0]])
            self.warps[number] = warp

    def _schedule(self, scheduler: int, now: int) -> None:
        count = self.model.schedulers
        mine = len(range(scheduler, len(self.warps), count))
        for turn in range(1, mine + 1):
            number = (self.last[scheduler] // count + turn) % mine * count + scheduler
            warp = self.warps[number]
            if warp is not None and self._eligible(warp, scheduler, now):
                self.last[scheduler] = number
                self._issue(warp, scheduler, now)
                return

    def _field(self, warp: Warp, column: Column) -> int:
        return int(self.code.table[warp.pc, column])

    def _boards(self, warp: Warp) -> int:
        """Return when the scoreboards that the next instruction waits for are free."""
        mask = self._field(warp, Column.WAIT)
        return max((NEVER if b in warp.pending else warp.boards[b] for b in range(SCOREBOARDS) if mask >> b & 1),
                   default=0)

    def _groups(self, warp: Warp) -> int:
        """Return when as many groups have ended as the next instruction demands."""
        kind, allowed = self._field(warp, Column.KIND), self._field(warp, Column.ARGUMENT)
        if kind not in (Kind.WAIT_GROUP, Kind.WAIT_MMA):
            return 0
        ends = warp.copies if kind == Kind.WAIT_GROUP else warp.mma
        return max(ends[:len(ends) - allowed], default=0)

    def _queue_free(self, warp: Warp, scheduler: int) -> int:
        """Return when the queue has room for the next instruction."""
        if self._field(warp, Column.PIPE) != Pipe.MIO or len(self.queue[scheduler]) < self.model.queue_depth:
            return 0
        return self.queue[scheduler][-self.model.queue_depth]

    def _pipe(self, warp: Warp, scheduler: int) -> int:
        """Return when the pipe of the next instruction is free; what is queued does not wait for it."""
        pipe = self._field(warp, Column.PIPE)
        if self._field(warp, Column.KIND) in (Kind.ASYNC_MMA, Kind.UNIT_MMA) or pipe in (Pipe.MIO, Pipe.CONTROL):
            return 0
        return self.pipe_free[scheduler][pipe]

    def _ports(self, warp: Warp, scheduler: int) -> int:
        """Return when the operands of the next instruction can be read soon enough."""
        needed = self._field(warp, Column.PORTS)
        return self.ports_free[scheduler] - self.model.port_window if needed else 0

    def _eligible(self, warp: Warp, scheduler: int, now: int) -> bool:
        return not warp.barred and now >= max(
            warp.ready, warp.released, self._boards(warp), self._groups(warp), self._queue_free(warp, scheduler),
            self._pipe(warp, scheduler), self._ports(warp, scheduler))

    def _issue(self, warp: Warp, scheduler: int, now: int) -> None:
        pc = warp.pc
        self._account(warp, scheduler, now)
        self.result.instructions += 1
        self.result.issues[pc] += 1
        if self.result.first_issue[pc] < 0:
            self.result.first_issue[pc] = now
        self.result.issue_log.append((now, warp.number, pc))
        kind, argument = self._field(warp, Column.KIND), self._field(warp, Column.ARGUMENT)
        start, done = self._serve(warp, scheduler, now, kind)
        board = self._field(warp, Column.WRITE_BARRIER)
        if kind == Kind.WAIT_PHASE:
            done = self._wait_phase(warp, argument, board, done)
        elif kind == Kind.FENCE_TENSOR:
            done = max(done, warp.stored)
        elif kind == Kind.STORE_TENSOR:
            warp.stored = max(warp.stored, done)
        if board >= 0:
            warp.boards[board] = max(warp.boards[board], done)
        board = self._field(warp, Column.READ_BARRIER)
        if board >= 0:
            warp.boards[board] = max(warp.boards[board], start + self._field(warp, Column.READ))
        if kind == Kind.COPY or (kind == Kind.BULK_STORE and self._acts(warp)):
            warp.open_copies = max(warp.open_copies, done)
        elif kind == Kind.GROUP:
            warp.copies.append(max(warp.open_copies, warp.copies[-1] if warp.copies else 0))
            warp.open_copies = 0
        elif kind == Kind.ASYNC_MMA:
            warp.product(self.groups_until[scheduler], done, bool(argument))
        elif kind == Kind.UNIT_MMA:
            self.products[warp.slot] = max(self.products[warp.slot], done)
        elif kind == Kind.COMMIT:
            self.mbarriers[warp.slot].commit(argument, max(done, self.products[warp.slot]))
            self._release(warp.slot)
        elif kind in (Kind.EXPECT, Kind.BULK_LOAD) and self._acts(warp):
            of = self.mbarriers[warp.slot]
            (of.expect if kind == Kind.EXPECT else of.deliver)(argument & 255, argument >> 8, done)
            self._release(warp.slot)
        self._write(warp, scheduler, now)
        warp.issued = now + 1
        warp.ready = now + max(1, self._field(warp, Column.STALL))
        if kind in (Kind.BARRIER, Kind.ARRIVE):
            self._arrive(warp, now, kind, argument)
        if kind == Kind.EXIT:
            self._exit(warp, now)
        else:
            self._advance(warp)

    def _serve(self, warp: Warp, scheduler: int, now: int, kind: int) -> tuple[int, int]:
        """Return when service starts and when the result is there."""
        pipe, interval = self._field(warp, Column.PIPE), self._field(warp, Column.INTERVAL)
        if needed := self._field(warp, Column.PORTS):
            self.ports_free[scheduler] = max(now, self.ports_free[scheduler]) + needed
        bulk = kind in (Kind.BULK_LOAD, Kind.BULK_STORE)
        if bulk and not self._acts(warp):
            return now, now
        self.result.pipe_busy[scheduler, pipe] += interval
        shared = self._field(warp, Column.SHARED)
        if kind in (Kind.ASYNC_MMA, Kind.UNIT_MMA):
            start = max(now, self.tensor_free if kind == Kind.UNIT_MMA else self.pipe_free[scheduler][Pipe.TENSOR])
            end = start + interval
            if shared:
                self.path_free = max(now, self.path_free) + shared
                self.result.data_path_busy += shared
                end = max(end, self.path_free)
            if kind == Kind.UNIT_MMA:
                self.tensor_free = end
            else:
                self.pipe_free[scheduler][Pipe.TENSOR] = self.groups_until[scheduler] = end
            return start, end + self._field(warp, Column.LATENCY)
        copied, shared = shared, 0 if bulk else shared
        start = now
        if pipe == Pipe.MIO:
            start = max(now, self.pipe_free[scheduler][pipe], self.path_free)
            self.pipe_free[scheduler][pipe] = start + interval
            self.path_free = start + shared
            self.queue[scheduler].append(start)
            self.result.data_path_busy += shared
        else:
            self.pipe_free[scheduler][pipe] = now + interval
        done = start + shared + self._field(warp, Column.LATENCY)
        moved = self._field(warp, Column.GLOBAL)
        if bulk:
            return start, self._copy(start, done, copied, moved, kind)
        if moved:
            ticks = -(-moved * TICKS * TICKS // self.model.l2_rate)
            self.l2_free = max(self.l2_free, (start + shared) * TICKS) + ticks
            self.result.l2_busy += ticks
            done = max(done, -(-self.l2_free // TICKS) + self.model.l2_latency)
        return start, done

    def _write(self, warp: Warp, scheduler: int, now: int) -> None:
        """Delay the tensor work of warp groups by the registers that the next instruction of *warp* writes."""
        if self.groups_until[scheduler] <= now:
            return
        # Loads write when their data arrives, which is not followed: they count at issue, too.
        self.conflicts[scheduler] += self.model.write_conflict * self._field(warp, Column.WRITES)
        while self.conflicts[scheduler] >= CONFLICT_TICKS:
            self.conflicts[scheduler] -= CONFLICT_TICKS
            self.groups_until[scheduler] += 1
            self.pipe_free[scheduler][Pipe.TENSOR] += 1
            for other in self.warps[scheduler::self.model.schedulers]:
                if other is not None:
                    other.delay(now)

    def _acts(self, warp: Warp) -> bool:
        """Return whether *warp* is among those that execute a bulk copy, or what expects one."""
        return bool(self._field(warp, Column.WARPS) >> warp.number % self.warps_per_cta & 1)

    def _copy(self, start: int, done: int, shared: int, moved: int, kind: int) -> int:
        """Return when a bulk copy that begins at *start* ends."""
        self.path_free = max(start, self.path_free) + shared
        self.result.data_path_busy += shared
        done = max(done, self.path_free)
        if moved:
            ticks = -(-moved * TICKS * TICKS // self.model.l2_rate)
            self.l2_free = max(self.l2_free, start * TICKS) + ticks
            self.result.l2_busy += ticks
            if kind == Kind.BULK_LOAD:
                done = max(done, -(-self.l2_free // TICKS) + self.model.l2_latency)
        return done + self.model.bulk_latency if kind == Kind.BULK_LOAD else done

    def _wait_phase(self, warp: Warp, mbarrier: int, board: int, done: int) -> int:
        """Return when the warp's next phase is known to be complete, if it has been committed; else hold *board*."""
        phase = warp.waited[mbarrier]
        warp.waited[mbarrier] += 1
        complete = self.mbarriers[warp.slot].phase(mbarrier, phase)
        if complete is not None:
            return max(done, complete)
        if board >= 0:
            warp.pending[board] = mbarrier, phase
        return done

    def _release(self, slot: int) -> None:
        """Free the boards of a CTA's warps that are held for phases whose end has become known."""
        for warp in self.warps:
            if warp is None or warp.slot != slot:
                continue
            for board, (mbarrier, phase) in list(warp.pending.items()):
                complete = self.mbarriers[slot].phase(mbarrier, phase)
                if complete is not None:
                    del warp.pending[board]
                    warp.boards[board] = max(warp.boards[board], complete)

    def _arrive(self, warp: Warp, now: int, kind: int, argument: int) -> None:
        barrier, expected = argument & 255, (argument >> 8) or self.warps_per_cta
        warp.barred = kind == Kind.BARRIER
        if warp.barred:
            warp.released = -1 - barrier
        self.arrived[warp.slot][barrier] += 1
        if self.arrived[warp.slot][barrier] == expected:
            self.arrived[warp.slot][barrier] = 0
            for other in self.warps:
                if other is not None and other.slot == warp.slot and other.barred and other.released == -1 - barrier:
                    other.barred = False
                    other.released = now + self.model.barrier_latency

    def _advance(self, warp: Warp) -> None:
        if warp.pc < self.code.last[warp.walk[warp.at]]:
            warp.pc += 1
            return
        warp.at += 1
        if warp.at == len(warp.walk):
            raise SimulationError("a warp ran past its last instruction: its walk does not end with EXIT")
        warp.pc = int(self.code.first[warp.walk[warp.at]])

    def _exit(self, warp: Warp, now: int) -> None:
        if warp.at + 1 < len(warp.walk) or warp.pc < self.code.last[warp.walk[warp.at]]:
            # A guarded EXIT that this warp does not take.
            self._advance(warp)
            return
        self.warps[warp.number] = None
        self.result.cycles = now + 1
        if not any(w is not None and w.slot == warp.slot for w in self.warps):
            self.result.cta_ends[self.cta_of[warp.slot]] = now + 1
            self._start(warp.slot, now + 1)

    def _account(self, warp: Warp, scheduler: int, now: int) -> None:
        """Divide the cycles since the last issue among the reasons, in the order in which they bind."""
        bounds = ((Wait.STALL, warp.ready), (Wait.BARRIER, warp.released), (Wait.SCOREBOARD, self._boards(warp)),
                  (Wait.GROUP, self._groups(warp)), (Wait.QUEUE, self._queue_free(warp, scheduler)),
                  (Wait.PIPE, self._pipe(warp, scheduler)),
                  (Wait.PORTS, self._ports(warp, scheduler)))
        at = warp.issued
        for reason, until in bounds:
            if until > at:
                self.result.waits[warp.pc, reason] += until - at
                at = until
        self.result.waits[warp.pc, Wait.NOT_SELECTED] += now - at
