"""The SimPy engine: the readable definition of what a program means.

Every SM unit, L2 and every memory channel is a SimPy resource; every role of a CTA is a SimPy process that walks its
stream. The engine is slow and stays as the oracle: :mod:`turbosim.engine.numba_engine` must agree with it tick for
tick.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import simpy

from turbosim.engine.lowered import (
    ENV_SIZE,
    GRID_SLOTS,
    LOOP_SLOTS,
    Instruction,
    Kind,
    LoweredLaunch,
    LoweredProgram,
    part_of,
)
from turbosim.engine.simpy_parts import CtaCounter, MemorySystem, Server, SharedMemory, Steps, TensorCores, Turn, when
from turbosim.engine.totals import LaunchTotals, Records
from turbosim.errors import SimulationError
from turbosim.hw.spec import Unit
from turbosim.program.program import Scheduler
from turbosim.result import UNITS, OpRecord, Reason, StallRecord, UnitRecord

TENSOR, SMEM = UNITS.index(Unit.TENSOR), UNITS.index(Unit.SMEM)


class SimpyEngine:
    """Replays the launches of a program one after the other; the L2 cache carries over."""

    name = "simpy"

    def __init__(self, program: LoweredProgram, record: frozenset[int] = frozenset(), *, dirty: bool = False) -> None:
        self.program = program
        self.record = record
        self.memory = MemorySystem(program, dirty)

    def run_launch(self, index: int) -> tuple[LaunchTotals, Records]:
        """Replay one launch. Raises SimulationError on a deadlock."""
        return _LaunchRun(self.program, index, self.memory, self.record).run()


class _Slot:
    """A place for one CTA on one SM."""

    def __init__(self, sm: int, number: int) -> None:
        self.sm = sm
        self.number = number
        self.cta = -1
        self.after: dict[int, int] = {}
        """Dynamic: the element of the grid that each element is followed by, -1 after the last."""
        self.counters: list[CtaCounter] = []
        self.role_ends: dict[int, int] = {}
        self.free_since = 0
        self.at: dict[int, str] = {}
        """Label of the instruction each unfinished role is at, for deadlock reports."""


class _LaunchRun:
    def __init__(self, program: LoweredProgram, index: int, memory: MemorySystem, record: frozenset[int]) -> None:
        self.program = program
        self.index = index
        self.launch: LoweredLaunch = program.launches[index]
        self.memory = memory
        self.recorded = record
        self.env = simpy.Environment()
        memory.start(self.env)
        special = {Unit.SMEM: SharedMemory, Unit.TENSOR: TensorCores}
        self.units = [[special.get(u, Server)(self.env) for u in UNITS]
                      for _ in range(program.sms)]
        self.roles = len(self.launch.streams)
        self.first_op = [0]
        for stream in self.launch.streams:
            self.first_op.append(self.first_op[-1] + len(stream))
        self.next_cta = 0
        self.slots = 0
        self.ops = 0
        self.drained_at = 0
        self.reasons = [[0] * len(Reason) for _ in range(self.roles)]
        self.sm_last_end = [0] * program.sms
        self.residents = [0] * program.sms
        """CTAs on each SM, from the tick in which they are given to it to the end of that in which they end."""
        self.free: list[_Slot] = []
        """Slots whose CTA has ended in this tick."""
        self.records = Records()

    def run(self) -> tuple[LaunchTotals, Records]:
        slots = [_Slot(sm, n) for n in range(self.launch.occupancy) for sm in range(self.program.sms)]
        self.slots = len(slots)
        self.free = slots
        self._deal()
        if self.launch.scheduler is Scheduler.STATIC:
            # The rest of the grid is shared out.
            self.next_cta = self.launch.ctas
        self.env.run()
        stuck = [s for s in slots if s.cta >= 0]
        if stuck:
            slot = stuck[0]
            roles = "; ".join(f"{self.launch.role_names[r]} at {label!r}" for r, label in sorted(slot.at.items()))
            raise SimulationError(
                f"launch {self.launch.name!r}: deadlock in {len(stuck)} CTAs; CTA {slot.cta}: {roles}")
        end = max(self.drained_at, *self.sm_last_end)
        for slot in slots:
            for role in range(self.roles):
                self._account(slot, role, Reason.NO_CTA, slot.free_since, end)
        return self._totals(end), self.records

    def _totals(self, end: int) -> LaunchTotals:
        memory = self.memory
        busy = [sum(sm[u].busy for sm in self.units) for u in range(len(UNITS))]
        return LaunchTotals(
            ticks=end, ops=self.ops, busy=tuple(busy), l2_busy=memory.l2.busy,
            hbm_busy=sum(c.busy for c in memory.channels), l2_read_bytes=memory.read_bytes,
            l2_hit_bytes=memory.hit_bytes, l2_write_bytes=memory.write_bytes, dram_read_bytes=memory.dram_read_bytes,
            dram_write_bytes=memory.dram_write_bytes, evicted_bytes=memory.evicted_bytes,
            reasons=tuple(tuple(r) for r in self.reasons), sm_last_end=tuple(self.sm_last_end))

    # CTA scheduler -------------------------------------------------------------------------------------------------

    def _release(self, slot: _Slot) -> None:
        """Free *slot*, to be dealt out at the end of the tick."""
        slot.cta = -1
        slot.free_since = int(self.env.now)
        self.free.append(slot)
        if len(self.free) == 1:
            self.env.process(self._deal_last())

    def _deal_last(self) -> Steps:
        yield Turn(self.env, self.program.sms * self.launch.occupancy * self.roles)
        for slot in self.free:
            self.residents[slot.sm] -= 1
        self._deal()

    def _deal(self) -> None:
        """Give the next CTAs of the grid to free slots, of the SM with the fewest CTAs first.

        Hardware places a CTA on the SM with the most room: G. Gilman, S. Ogden, T. Guo and R. Walls, "Demystifying the
        Placement Policies of the NVIDIA GPU Thread Block Scheduler for Concurrent Kernels", 2020.
        """
        then = list(self.residents)
        order = []
        for slot in sorted(self.free, key=lambda s: s.number):
            order.append((then[slot.sm], slot.sm, slot))
            then[slot.sm] += 1
        self.free = []
        order.sort(key=lambda entry: entry[:2])
        for _, _, slot in order[:self.launch.ctas - self.next_cta]:
            self._start(slot)

    def _start(self, slot: _Slot) -> None:
        """Give the next CTA to *slot*."""
        self.residents[slot.sm] += 1
        slot.cta = self._take()
        slot.after = {}
        slot.counters = [CtaCounter(self.env) for _ in range(self.launch.counters)]
        slot.role_ends = {}
        for role in range(self.roles):
            self.env.process(self._role(slot, role))

    def _take(self) -> int:
        """Take the next element of the grid."""
        self.next_cta += 1
        return self.next_cta - 1

    def _following(self, slot: _Slot, cta: int) -> int:
        """Return the element of the grid on which the CTA in *slot* works after *cta*, -1 if there is none."""
        if self.launch.scheduler is Scheduler.SINGLE:
            return -1
        if self.launch.scheduler is Scheduler.STATIC:
            following = cta + self.slots
            return following if following < self.launch.ctas else -1
        if cta not in slot.after:
            slot.after[cta] = self._take() if self.next_cta < self.launch.ctas else -1
        return slot.after[cta]

    def _place(self, cta: int) -> tuple[list[int], int]:
        """Return the coordinates and the class of an element of the grid."""
        coordinates = []
        for size in self.launch.grid:
            coordinates.append(cta % size)
            cta //= size
        return coordinates, sum(table[at] for table, at in zip(self.launch.class_of, coordinates, strict=True))

    def _environment(self, cta: int) -> list[int]:
        """Return the environment of a CTA at its start."""
        coordinates, cta_class = self._place(cta)
        params = list(self.launch.class_params[cta_class])
        environment = coordinates + [0] * (GRID_SLOTS + LOOP_SLOTS - len(coordinates)) + params
        return environment[:ENV_SIZE]

    # Roles ---------------------------------------------------------------------------------------------------------

    def _role(self, slot: _Slot, role: int) -> Steps:
        launched = int(self.env.now)
        slot.at[role] = "launch"
        actor = (slot.sm * self.launch.occupancy + slot.number) * self.roles + role
        yield self.env.timeout(self.launch.cta_launch)
        self._account(slot, role, Reason.CTA_LAUNCH, launched, int(self.env.now))
        yield Turn(self.env, actor)
        cta = slot.cta
        earlier = [0] * self.launch.counters
        while cta >= 0:
            yield from self._element(slot, role, actor, cta, earlier)
            following = self._following(slot, cta)
            if following >= 0:
                for counter, signals in enumerate(self.launch.class_signals[self._place(cta)[1]]):
                    earlier[counter] += signals
            cta = following
        self._end_role(slot, role)

    def _element(self, slot: _Slot, role: int, actor: int, cta: int, earlier: list[int]) -> Steps:
        """Walk the stream of a role for *cta*; *earlier* has the signals of each counter before it."""
        environment = self._environment(cta)
        trips: dict[int, int] = {}
        stream = self.launch.streams[role]
        pc = 0
        while stream[pc].kind is not Kind.END:
            inst = stream[pc]
            pc += 1
            if inst.kind is Kind.LOOP:
                trips[inst.slot] = inst.expr.value(environment)
                environment[inst.slot] = 0
                if trips[inst.slot] <= 0:
                    pc = inst.jump
            elif inst.kind is Kind.NEXT:
                environment[inst.slot] += 1
                if environment[inst.slot] < trips[inst.slot]:
                    pc = inst.jump
            else:
                slot.at[role] = inst.label
                yield from self._execute(slot, role, actor, cta, pc - 1, inst, environment, earlier)

    def _end_role(self, slot: _Slot, role: int) -> None:
        now = int(self.env.now)
        del slot.at[role]
        slot.role_ends[role] = now
        if len(slot.role_ends) < self.roles:
            return
        for other, ended in slot.role_ends.items():
            self._account(slot, other, Reason.DONE, ended, now)
        self.sm_last_end[slot.sm] = max(self.sm_last_end[slot.sm], now)
        self._release(slot)

    def _execute(self, slot: _Slot, role: int, actor: int, cta: int, pc: int, inst: Instruction,
                 environment: list[int], earlier: list[int]) -> Steps:
        self.ops += 1
        start = int(self.env.now)
        op = self.first_op[role] + pc

        def done(end: int) -> None:
            if slot.sm in self.recorded:
                self.records.ops.append(OpRecord(self.index, slot.sm, slot.number, role, cta, op, start, end))

        if inst.kind is Kind.COMPUTE:
            yield from self._compute(slot, role, actor, op, inst)
            done(int(self.env.now))
        elif inst.kind is Kind.WAIT:
            yield from self._wait(slot, role, actor, inst, inst.expr.value(environment) + earlier[inst.counter])
            done(int(self.env.now))
        elif inst.kind is Kind.STORE:
            drained = self.memory.store(inst.tensor, inst.expr.value(environment), inst.nbytes,
                                        self._claim(slot, role, op, inst.claims))
            self.env.process(self._drain(drained, done))
        else:
            if inst.kind is Kind.LOAD:
                extra = self.program.memory.bulk_latency if inst.bulk else 0
                work: simpy.Event = self.memory.load(
                    inst.tensor, inst.expr.value(environment), inst.nbytes,
                    self._claim(slot, role, op, inst.claims), extra)
                completion = slot.counters[inst.counter].signal(work, 0, None)
            elif inst.kind is Kind.ASYNC:
                work = self.env.process(self._own_work(inst, self._claim(slot, role, op, inst.claims, inst.spread)))
                completion = slot.counters[inst.counter].signal(work, inst.latency, inst.code)
            else:
                work = self.env.timeout(0)
                completion = slot.counters[inst.counter].signal(work, inst.latency, inst.code)
            when(completion.done, done)

    def _drain(self, drained: simpy.Process, done: Callable[[int], None]) -> Steps:
        end = yield drained
        self.drained_at = max(self.drained_at, end)
        done(end)

    def _claim(self, slot: _Slot, role: int, op: int, claims: tuple[tuple[int, int], ...],
               spread: int = 0) -> list[simpy.Process]:
        """Queue for several units of the SM at once, and read operands while on the tensor cores."""
        units = self.units[slot.sm]
        services = []
        for unit, ticks in claims:
            if spread and unit == TENSOR:
                start = units[unit].start()
                cast("SharedMemory", units[SMEM]).read(start, units[unit].end(start, max(ticks, spread)), spread)
            services.append(units[unit].serve(ticks, held=spread if unit == TENSOR else 0))
        if slot.sm in self.recorded:
            for (unit, _), service in zip(claims, services, strict=True):
                when(service, partial(self._record_unit, slot, role, op, unit))
        return services

    def _record_unit(self, slot: _Slot, role: int, op: int, unit: int, served: tuple[int, int]) -> None:
        self.records.units.append(UnitRecord(self.index, slot.sm, unit, slot.number, role, op, *served))

    def _own_work(self, inst: Instruction, services: list[simpy.Process]) -> Steps:
        start = int(self.env.now)
        yield self.env.all_of(services)
        rest = start + inst.own_ticks - int(self.env.now)
        if rest > 0:
            yield self.env.timeout(rest)

    def _compute(self, slot: _Slot, role: int, actor: int, op: int, inst: Instruction) -> Steps:
        own_ticks = inst.least_ticks(self.residents[slot.sm])
        for piece in range(inst.pieces):
            start = int(self.env.now)
            claims = tuple((u, part) for u, t in inst.claims if (part := part_of(t, piece, inst.pieces)))
            services = self._claim(slot, role, op, claims)
            if inst.conflict:
                units = self.units[slot.sm]
                until = max([units[u].free for u, _ in claims] + [start + part_of(own_ticks, piece, inst.pieces)])
                cast("TensorCores", units[TENSOR]).write(actor, until, part_of(inst.conflict, piece, inst.pieces))
            served, unit = start, inst.code
            if services:
                yield self.env.all_of(services)
                end = int(self.env.now)
                intervals = [cast("tuple[int, int]", s.value) for s in services]
                served, unit = next((i[0], u) for (u, _), i in zip(claims, intervals, strict=True) if i[1] == end)
            rest = start + part_of(own_ticks, piece, inst.pieces) - int(self.env.now)
            if rest > 0:
                yield self.env.timeout(rest)
            self._account(slot, role, Reason(len(UNITS) + unit), start, served)
            self._account(slot, role, Reason(unit), served, int(self.env.now))
            if piece == inst.pieces - 1 and inst.latency:
                before = int(self.env.now)
                yield self.env.timeout(inst.latency)
                self._account(slot, role, Reason.LATENCY, before, int(self.env.now))
            yield Turn(self.env, actor)

    def _wait(self, slot: _Slot, role: int, actor: int, inst: Instruction, until: int) -> Steps:
        if until <= 0:
            return
        counter = slot.counters[inst.counter]
        if len(counter.signals) < until:
            start = int(self.env.now)
            yield counter.issued(until)
            self._account(slot, role, Reason.BARRIER, start, int(self.env.now))
        completion = counter.signals[until - 1]
        # Signals take at least one tick, so a completion due at this very tick has been triggered before this turn.
        if not completion.done.triggered:
            start = int(self.env.now)
            yield completion.done
            self._account(slot, role, Reason(completion.code), start, int(self.env.now))
            yield Turn(self.env, actor)

    def _account(self, slot: _Slot, role: int, reason: Reason, start: int, end: int) -> None:
        if end == start:
            return
        self.reasons[role][reason] += end - start
        if slot.sm in self.recorded:
            self.records.stalls.append(StallRecord(self.index, slot.sm, slot.number, role, int(reason), start, end))

