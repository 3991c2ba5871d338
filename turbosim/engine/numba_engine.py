"""The numba engine: packs a lowered launch into arrays, runs the compiled loop, unpacks the sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from turbosim.engine import numba_kernel as nk
from turbosim.engine.lowered import ENV_SIZE, LOOP_SLOTS, Instruction, LoweredLaunch, LoweredProgram
from turbosim.engine.totals import LaunchTotals, Records
from turbosim.errors import SimulationError
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


class NumbaEngine:
    """Replays the launches of a program one after the other; the L2 cache carries over."""

    name = "numba"

    def __init__(self, program: LoweredProgram, record: frozenset[int] = frozenset(),
                 progress: Progress | None = None) -> None:
        self.program = program
        self.record = record
        self.progress = progress
        tiles = program.tiles
        # L2 residency: bytes per tile (0: not resident) and a list in order of use, whose head is entry `tiles`.
        self.tile_size = np.zeros(tiles + 1, np.int64)
        self.before = np.full(tiles + 1, tiles, np.int64)
        self.after = np.full(tiles + 1, tiles, np.int64)
        self.l2_used = 0
        self.tensor_first = np.array([t.first_tile for t in program.tensors], np.int64)
        self.tensor_address = np.array([t.address for t in program.tensors], np.int64)
        self.tensor_bytes = np.array([t.tile_bytes for t in program.tensors], np.int64)

    def run_launch(self, index: int) -> tuple[LaunchTotals, Records]:
        """Replay one launch.

        Raises SimulationError on a deadlock, or when more than 32 signals of a counter are outstanding.
        """
        capacity = 1 << 14
        keep = (self.tile_size.copy(), self.before.copy(), self.after.copy(), self.l2_used) if self.record else None
        while True:
            run = _LaunchRun(self, index, capacity)
            if run.execute():
                self.l2_used = int(run.state[nk.L2_USED])
                return run.totals(), run.unpack_records()
            # The records did not fit: start again from the same cache with more room.
            assert keep is not None
            self.tile_size, self.before, self.after, self.l2_used = (
                keep[0].copy(), keep[1].copy(), keep[2].copy(), keep[3])
            capacity *= 4


class _LaunchRun:
    def __init__(self, engine: NumbaEngine, index: int, capacity: int) -> None:
        self.engine = engine
        self.index = index
        program = engine.program
        launch = self.launch = program.launches[index]
        memory = program.memory
        self.roles = len(launch.streams)
        self.slots = launch.occupancy
        places = self.places = program.sms * launch.occupancy
        actors = places * self.roles
        if actors >= 1 << nk.ACTOR_BITS:
            raise SimulationError(f"launch {launch.name!r}: {actors:,} roles are resident, the engine's limit is "
                                  f"{(1 << nk.ACTOR_BITS) - 1:,}; use the simpy engine")
        i64 = np.int64
        self.config = np.array([
            program.sms, launch.occupancy, self.roles, launch.counters, launch.ctas, launch.cta_launch,
            launch.class_dim, len(launch.grid), memory.l2_capacity, memory.hbm_rate, memory.channels,
            memory.interleave, memory.l2_latency, memory.dram_latency, program.tiles], i64)
        self.state = np.zeros(nk.STATES, i64)
        self.state[nk.L2_USED] = engine.l2_used
        self.code = _Code(launch, program)
        self.grid = np.array(launch.grid, i64)
        self.class_of = np.array(launch.class_of or (0,), i64)
        self.class_params = np.array(launch.class_params, i64)
        self.heap = np.zeros(actors + 1, i64)
        self.pc = np.zeros(actors, i64)
        self.env = np.zeros((actors, ENV_SIZE), i64)
        counters = max(1, launch.counters)
        self.issued = np.zeros((places, counters), i64)
        self.last_done = np.zeros((places, counters), i64)
        self.slot_cta = np.full(places, -1, i64)
        self.slot_free = np.zeros(places, i64)
        self.busy = np.zeros(len(UNITS), i64)
        self.reasons = np.zeros((self.roles, len(Reason)), i64)
        self.sm_last_end = np.zeros(program.sms, i64)
        self.recorded = np.zeros(program.sms, i64)
        self.recorded[[sm for sm in engine.record if sm < program.sms]] = 1
        room = capacity if engine.record else 512
        self.op_log = np.zeros((room, 7), i64)
        self.unit_log = np.zeros((2 * room, 7), i64)
        self.stall_log = np.zeros((2 * room, 6), i64)
        self.arguments: tuple[Any, ...] = (
            self.config, self.state, self.code.table, self.code.claims, self.code.terms, self.code.stream_start,
            self.grid, self.class_of, self.class_params, engine.tensor_first, engine.tensor_address,
            engine.tensor_bytes, self.heap, self.pc, np.zeros(actors, i64), self.env,
            np.zeros((actors, LOOP_SLOTS), i64), np.zeros(actors, i64), np.full(actors, -1, i64),
            np.zeros(actors, i64), np.zeros(actors, i64), self.issued, self.last_done,
            np.zeros((places, counters), i64), np.zeros((places, counters, nk.WINDOW), i64),
            np.zeros((places, counters, nk.WINDOW), i64), self.slot_cta, np.full(places, self.roles, i64),
            np.zeros(actors, i64), self.slot_free, np.zeros(program.sms * len(UNITS), i64), self.busy,
            np.zeros(memory.channels, i64), engine.tile_size, np.zeros(program.tiles + 1, i64), engine.before,
            engine.after, self.reasons, self.sm_last_end, self.recorded, self.op_log, self.unit_log, self.stall_log)

    def execute(self) -> bool:
        """Run to the end; return False when the records did not fit."""
        self._first_ctas()
        total = self.launch.ctas
        while self.state[nk.HEAP]:
            nk.run(_BUDGET, *self.arguments)
            status = self.state[nk.STATUS]
            if status == nk.RECORDS_FULL:
                return False
            if status == nk.COUNTER_WINDOW:
                raise SimulationError(
                    f"launch {self.launch.name!r}: a role waits for a signal more than {nk.WINDOW} signals back that "
                    f"is not complete; use the simpy engine")
            if self.engine.progress is not None:
                self.engine.progress(int(self.state[nk.FINISHED]), total)
        stuck = np.flatnonzero(self.slot_cta >= 0)
        if len(stuck):
            raise SimulationError(self._deadlock(stuck))
        return True

    def _first_ctas(self) -> None:
        """Fill the slots: one CTA on every SM, then a second, as the hardware scheduler does."""
        launch = self.launch
        cta = 0
        actors = []
        for number in range(self.slots):
            for sm in range(self.engine.program.sms):
                if cta == launch.ctas:
                    break
                place = sm * self.slots + number
                self.slot_cta[place] = cta
                nk._start_cta(  # noqa: SLF001
                    place, cta, self.config, self.grid, self.class_of, self.class_params, self.env, self.pc,
                    self.code.stream_start, self.issued, self.last_done)
                actors += range(place * self.roles, (place + 1) * self.roles)
                cta += 1
        keys = [(launch.cta_launch << nk.ACTOR_BITS) | actor for actor in sorted(actors)]
        self.heap[: len(keys)] = keys
        self.state[nk.HEAP] = len(keys)
        self.state[nk.NEXT_CTA] = cta
        self.started = cta
        self.reasons[:, Reason.CTA_LAUNCH] += cta * launch.cta_launch

    def _deadlock(self, stuck: np.ndarray[Any, Any]) -> str:
        place = min(stuck, key=lambda p: (p % self.slots, p // self.slots))
        labels = [i.label for stream in self.launch.streams for i in stream]
        at = []
        for role, name in enumerate(self.launch.role_names):
            pc = self.pc[place * self.roles + role]
            # A blocked role has already advanced past its wait; a finished one stands at its end.
            if labels[pc] != "end" or self.arguments[18][place * self.roles + role] >= 0:
                at.append(f"{name} at {labels[pc - 1]!r}")
        return (f"launch {self.launch.name!r}: deadlock in {len(stuck)} CTAs; CTA {self.slot_cta[place]}: "
                f"{'; '.join(at)}")

    @property
    def end(self) -> int:
        return int(max(self.state[nk.DRAINED], self.sm_last_end.max()))

    def totals(self) -> LaunchTotals:
        end = self.end
        self.reasons[:, Reason.NO_CTA] += int((end - self.slot_free).sum())
        state = self.state
        return LaunchTotals(
            ticks=end, ops=int(state[nk.OPS]), busy=tuple(int(x) for x in self.busy), l2_busy=int(state[nk.L2_BUSY]),
            hbm_busy=int(state[nk.HBM_BUSY]), l2_read_bytes=int(state[nk.READ]), l2_hit_bytes=int(state[nk.HIT]),
            l2_write_bytes=int(state[nk.WRITE]), dram_read_bytes=int(state[nk.DRAM_READ]),
            dram_write_bytes=int(state[nk.DRAM_WRITE]),
            reasons=tuple(tuple(int(x) for x in row) for row in self.reasons),
            sm_last_end=tuple(int(x) for x in self.sm_last_end))

    def unpack_records(self) -> Records:
        records = Records()
        launch, end = self.index, self.end
        for sm, slot, role, cta, op, start, stop in self.op_log[: self.state[nk.N_OPS]].tolist():
            records.ops.append(OpRecord(launch, sm, slot % self.slots, role, cta, op, start, stop))
        for sm, unit, slot, role, op, start, stop in self.unit_log[: self.state[nk.N_UNITS]].tolist():
            records.units.append(UnitRecord(launch, sm, unit, slot % self.slots, role, op, start, stop))
        for sm, slot, role, reason, start, stop in self.stall_log[: self.state[nk.N_STALLS]].tolist():
            records.stalls.append(StallRecord(launch, sm, slot % self.slots, role, reason, start, stop))
        for place in range(self.places):
            sm, number = divmod(place, self.slots)
            if not self.recorded[sm]:
                continue
            started = number * self.engine.program.sms + sm < self.started
            for role in range(self.roles):
                if started and self.launch.cta_launch:
                    records.stalls.append(
                        StallRecord(launch, sm, number, role, Reason.CTA_LAUNCH, 0, self.launch.cta_launch))
                if self.slot_free[place] < end:
                    records.stalls.append(
                        StallRecord(launch, sm, number, role, Reason.NO_CTA, int(self.slot_free[place]), end))
        return records


class _Code:
    """The streams of a launch as tables."""

    def __init__(self, launch: LoweredLaunch, program: LoweredProgram) -> None:
        self.rows: list[list[int]] = []
        self.claim_rows: list[tuple[int, int]] = []
        self.term_rows: list[tuple[int, int]] = []
        self.program = program
        starts = []
        for stream in launch.streams:
            first = len(self.rows)
            starts.append(first)
            for instruction in stream:
                self._add(instruction, first)
        self.table = np.array(self.rows, np.int64)
        self.claims = np.array(self.claim_rows or [(0, 0)], np.int64)
        self.terms = np.array(self.term_rows or [(0, 0)], np.int64)
        self.stream_start = np.array(starts, np.int64)

    def _add(self, inst: Instruction, first: int) -> None:
        memory = self.program.memory
        row = [0] * nk.COLUMNS
        row[nk.KIND] = int(inst.kind)
        row[nk.CLAIM], row[nk.CLAIMS] = len(self.claim_rows), len(inst.claims)
        row[nk.OWN], row[nk.LATENCY], row[nk.PIECES] = inst.own_ticks, inst.latency, inst.pieces
        row[nk.COUNTER], row[nk.CODE] = inst.counter, inst.code
        row[nk.TENSOR], row[nk.NBYTES] = inst.tensor, inst.nbytes
        row[nk.EXTRA] = memory.bulk_latency if inst.bulk else 0
        row[nk.CONST] = inst.expr.const
        row[nk.TERM], row[nk.TERMS] = len(self.term_rows), len(inst.expr.terms)
        row[nk.SLOT], row[nk.JUMP] = inst.slot, first + inst.jump
        row[nk.L2_TICKS] = memory.service(memory.l2_rate, inst.nbytes)
        self.rows.append(row)
        self.claim_rows += inst.claims
        self.term_rows += inst.expr.terms
