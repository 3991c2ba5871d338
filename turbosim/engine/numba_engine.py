"""The numba engine: packs a lowered launch into arrays, runs the compiled loop, unpacks the sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from turbosim.engine import numba_ctas
from turbosim.engine import numba_kernel as nk
from turbosim.engine import numba_layout as nl
from turbosim.engine.lowered import ENV_SIZE, LOOP_SLOTS, SPREADS, LoweredProgram
from turbosim.engine.numba_pack import Code, forward_state
from turbosim.engine.totals import LaunchTotals, Records
from turbosim.errors import SimulationError
from turbosim.program.program import Scheduler
from turbosim.result import UNITS, OpRecord, Reason, StallRecord, UnitRecord

_BUDGET = 4_000_000
"""Turns per call of the compiled loop: between calls Ctrl-C is seen and progress is reported."""

Progress = Callable[[int, int], None]


def is_compiled() -> bool:
    """Whether the loop is compiled, in this process or in the disk cache: if not, the first launch takes seconds."""
    return bool(nk.run.signatures) or _on_disk()


def _on_disk() -> bool:
    from pathlib import Path

    cache = Path(nk.run._cache.cache_path)  # noqa: SLF001 - numba offers no public way to ask
    return any(cache.glob("numba_kernel.run-*.nbc"))


def _zeros(*shape: int) -> nl.Array:
    return np.zeros(shape, np.int64)


def _array(values: Sequence[object]) -> nl.Array:
    return np.array(values, np.int64)


class NumbaEngine:
    """Replays the launches of a program one after the other; the L2 cache carries over."""

    name = "numba"

    def __init__(self, program: LoweredProgram, record: frozenset[int] = frozenset(),
                 progress: Progress | None = None, fast_forward: bool = True, *, dirty: bool = False) -> None:
        self.program = program
        self.fast_forward = fast_forward and not record
        self.record = record
        self.progress = progress
        tiles = program.tiles
        # The L2 cache carries over from launch to launch.
        self.tiles = np.zeros((tiles, 4), np.int64)
        self.tiles[:, nl.LAST_USE] = -1
        self.l2_used = 0
        self.foreign = program.memory.l2_held if dirty else 0
        # Twice what can be resident, so that compacting the log pays for itself; transfers move whole sectors of 32 B.
        self.uses = np.zeros(2 * min(tiles, program.memory.l2_capacity // 32) + (1 << 16), np.int64)
        self.uses_span = (0, 0)
        self.tensor_first = np.array([t.first_tile for t in program.tensors], np.int64)
        self.tensor_address = np.array([t.address for t in program.tensors], np.int64)
        self.tensor_bytes = np.array([t.tile_bytes for t in program.tensors], np.int64)
        self.tensor_rate = np.array([t.rate for t in program.tensors], np.int64)

    def run_launch(self, index: int) -> tuple[LaunchTotals, Records]:
        """Replay one launch.

        Raises SimulationError on a deadlock, or when more than 32 signals of a counter are outstanding.
        """
        capacity = 1 << 14
        before = self.uses_span, self.l2_used, self.foreign
        keep = (self.tiles.copy(), self.uses.copy()) if self.record else None
        while True:
            run = _LaunchRun(self, index, capacity)
            if run.execute():
                self.l2_used = int(run.state[nl.L2_USED])
                self.foreign = int(run.state[nl.FOREIGN])
                self.uses_span = (int(run.state[nl.USES_BEGIN]), int(run.state[nl.USES_END]))
                return run.totals(), run.unpack_records()
            # The records did not fit: start again from the same cache with more room.
            assert keep is not None
            self.tiles, self.uses = keep[0].copy(), keep[1].copy()
            self.uses_span, self.l2_used, self.foreign = before
            capacity *= 4


class _LaunchRun:
    def __init__(self, engine: NumbaEngine, index: int, capacity: int) -> None:
        self.engine = engine
        self.index = index
        program = engine.program
        launch = self.launch = program.launches[index]
        self.roles = len(launch.streams)
        self.slots = launch.occupancy
        self.places = program.sms * launch.occupancy
        if self.places * self.roles >= 1 << nl.ACTOR_BITS:
            raise SimulationError(
                f"launch {launch.name!r}: {self.places * self.roles:,} roles are resident, the engine's limit is "
                f"{(1 << nl.ACTOR_BITS) - 1:,}; use the simpy engine")
        self.machine = self._machine(capacity if engine.record else 512)
        self.state = self.machine.state
        self.forward = forward_state(self.machine, launch, program.sms, engine.fast_forward)

    def _machine(self, room: int) -> nl.Machine:
        engine, launch, program = self.engine, self.launch, self.engine.program
        memory = program.memory
        places = self.places
        actors = places * self.roles
        counters = max(1, launch.counters)
        code = Code(launch, program)
        state = _zeros(nl.STATES)
        state[nl.L2_USED] = engine.l2_used
        state[nl.FOREIGN] = engine.foreign
        state[nl.USES_BEGIN], state[nl.USES_END] = engine.uses_span
        engine.tiles[:, nl.READY] = 0
        recorded = _zeros(program.sms)
        recorded[[sm for sm in engine.record if sm < program.sms]] = 1
        class_of = _zeros(len(launch.grid), max(launch.grid))
        for dim, table in enumerate(launch.class_of):
            class_of[dim, : len(table)] = table
        leaves = 1 << max(1, (actors - 1).bit_length())
        return nl.Machine(
            config=_array([
                self.roles, launch.counters, launch.ctas, launch.cta_launch, len(launch.grid),
                memory.l2_capacity, memory.l2_rate, memory.hbm_rate, memory.channels, memory.interleave,
                memory.l2_latency, memory.dram_latency, memory.turnaround, launch.occupancy, self._stride(),
                memory.dirty, int(any(i.conflict for stream in launch.streams for i in stream)), memory.loaded_latency,
                memory.window]),
            state=state,
            table=code.table,
            claims=code.claims,
            terms=code.terms,
            durations=code.durations,
            stream_start=code.stream_start,
            grid=_array(launch.grid),
            class_of=class_of,
            class_params=_array(launch.class_params),
            tensor_first=engine.tensor_first,
            tensor_address=engine.tensor_address,
            tensor_bytes=engine.tensor_bytes,
            tensor_rate=engine.tensor_rate,
            tree=np.full(2 * leaves, nl.NEVER, np.int64),
            pc=_zeros(actors),
            piece=_zeros(actors),
            env=_zeros(actors, ENV_SIZE),
            trips=_zeros(actors, LOOP_SLOTS),
            op_start=_zeros(actors),
            blocked_on=np.full(actors, -1, np.int64),
            blocked_until=_zeros(actors),
            blocked_since=_zeros(actors),
            signals=_zeros(places, counters, 4),
            rings=_zeros(places, counters, nl.WINDOW, 2),
            slot_cta=np.full(places, -1, np.int64),
            role_cta=_zeros(actors),
            following=_zeros(launch.ctas if launch.scheduler is Scheduler.DYNAMIC else 1),
            earlier=_zeros(actors, counters),
            class_signals=_array(launch.class_signals or [()]),
            roles_left=np.full(places, self.roles, np.int64),
            role_end=_zeros(actors),
            slot_free=_zeros(places),
            residents=_zeros(program.sms),
            freed=_zeros(places),
            unit_free=_zeros(program.sms * len(UNITS)),
            reads=_zeros(program.sms, SPREADS, 3),
            read_count=_zeros(program.sms),
            writes=_zeros(actors, 3),
            busy=_zeros(program.sms, len(UNITS)),
            ops=_zeros(program.sms),
            reasons=_zeros(program.sms, self.roles, len(Reason)),
            channels=_zeros(memory.channels, nl.CHANNEL_COLUMNS),
            tiles=engine.tiles,
            uses=engine.uses,
            sm_last_end=_zeros(program.sms),
            recorded=recorded,
            op_log=_zeros(room, 7),
            unit_log=_zeros(2 * room, 7),
            stall_log=_zeros(2 * room, 6),
            slot_of=np.repeat(np.arange(places), self.roles),
            sm_of=np.repeat(np.arange(program.sms), launch.occupancy))

    def _stride(self) -> int:
        return {Scheduler.SINGLE: 0, Scheduler.STATIC: self.places, Scheduler.DYNAMIC: -1}[self.launch.scheduler]

    def execute(self) -> bool:
        """Run to the end; return False when the records did not fit."""
        self.started = int(numba_ctas.first_ctas(self.machine, self.engine.program.sms))
        # A static schedule has shared out the rest of the grid.
        self.state[nl.NEXT_CTA] = self.launch.ctas if self.launch.scheduler is Scheduler.STATIC else self.started
        total = self.launch.ctas
        while self.machine.tree[1] != nl.NEVER or self.state[nl.FREED]:
            nk.run(_BUDGET, self.machine, self.forward)
            status = self.state[nl.STATUS]
            if status == nl.RECORDS_FULL:
                return False
            if status == nl.COUNTER_WINDOW:
                raise SimulationError(
                    f"launch {self.launch.name!r}: a role waits for a signal more than {nl.WINDOW} signals back that "
                    f"is not complete; use the simpy engine")
            if self.engine.progress is not None:
                self.engine.progress(int(self.state[nl.FINISHED]), total)
        stuck = np.flatnonzero(self.machine.slot_cta >= 0)
        if len(stuck):
            raise SimulationError(self._deadlock(stuck))
        return True

    def _deadlock(self, stuck: np.ndarray[Any, Any]) -> str:
        first: list[int] = stuck.tolist()
        place = min(first, key=lambda p: (p % self.slots, p // self.slots))
        labels = [i.label for stream in self.launch.streams for i in stream]
        at = []
        for role, name in enumerate(self.launch.role_names):
            pc = self.machine.pc[place * self.roles + role]
            # A blocked role has already advanced past its wait; a finished one stands at its end.
            if labels[pc] != "end" or self.machine.blocked_on[place * self.roles + role] >= 0:
                at.append(f"{name} at {labels[pc - 1]!r}")
        return (f"launch {self.launch.name!r}: deadlock in {len(stuck)} CTAs; CTA {self.machine.slot_cta[place]}: "
                f"{'; '.join(at)}")

    @property
    def end(self) -> int:
        return int(max(self.state[nl.DRAINED], self.machine.sm_last_end.max()))

    def _forwarded(self) -> nl.Array:
        """Return what all segments that were repeated add to the sums of the SMs."""
        count = self.forward.counts[nl.KNOWN]
        times: nl.Array = self.forward.states[:count, nl.TIMES] @ self.forward.sums[:count]
        return times

    def totals(self) -> LaunchTotals:
        end = self.end
        forwarded = self._forwarded()
        of_roles = self.roles * len(Reason)
        reasons = self.machine.reasons.sum(axis=0) + forwarded[:of_roles].reshape(self.roles, len(Reason))
        busy = self.machine.busy.sum(axis=0) + forwarded[of_roles:-1]
        reasons[:, Reason.NO_CTA] += int((end - self.machine.slot_free).sum())
        state = self.state
        return LaunchTotals(
            ticks=end, ops=int(self.machine.ops.sum() + forwarded[-1]),
            busy=tuple(int(x) for x in busy), l2_busy=int(state[nl.L2_BUSY]),
            hbm_busy=int(state[nl.HBM_BUSY]), l2_read_bytes=int(state[nl.READ]), l2_hit_bytes=int(state[nl.HIT]),
            l2_write_bytes=int(state[nl.WRITE]), dram_read_bytes=int(state[nl.DRAM_READ]),
            dram_write_bytes=int(state[nl.DRAM_WRITE]), evicted_bytes=int(state[nl.EVICTED]),
            reasons=tuple(tuple(int(x) for x in row) for row in reasons),
            sm_last_end=tuple(int(x) for x in self.machine.sm_last_end))

    def unpack_records(self) -> Records:
        records = Records()
        launch, end = self.index, self.end
        for sm, slot, role, cta, op, start, stop in self.machine.op_log[: self.state[nl.N_OPS]].tolist():
            records.ops.append(OpRecord(launch, sm, slot % self.slots, role, cta, op, start, stop))
        for sm, unit, slot, role, op, start, stop in self.machine.unit_log[: self.state[nl.N_UNITS]].tolist():
            records.units.append(UnitRecord(launch, sm, unit, slot % self.slots, role, op, start, stop))
        for sm, slot, role, reason, start, stop in self.machine.stall_log[: self.state[nl.N_STALLS]].tolist():
            records.stalls.append(StallRecord(launch, sm, slot % self.slots, role, reason, start, stop))
        for place in range(self.places):
            sm, number = divmod(place, self.slots)
            if not self.machine.recorded[sm]:
                continue
            started = number * self.engine.program.sms + sm < self.started
            for role in range(self.roles):
                if started and self.launch.cta_launch:
                    records.stalls.append(
                        StallRecord(launch, sm, number, role, Reason.CTA_LAUNCH, 0, self.launch.cta_launch))
                if self.machine.slot_free[place] < end:
                    records.stalls.append(
                        StallRecord(launch, sm, number, role, Reason.NO_CTA, int(self.machine.slot_free[place]), end))
        return records
