"""Lowering: a program and a GPU at a clock become integer ticks.

First-principles costs: a unit is busy for work / rate, rounded up to whole ticks. The rates are those of the hardware
file; nothing here is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from turbosim.engine.lowered import (
    ENV_SIZE,
    GRID_SLOTS,
    LOOP_SLOTS,
    PARAM_SLOTS,
    RATE_SHIFT,
    SHARE_SHIFT,
    Expr,
    Instruction,
    Kind,
    LoweredLaunch,
    LoweredProgram,
    LoweredTensor,
    Memory,
)
from turbosim.errors import ProgramError
from turbosim.hw.spec import Dtype, Gpu, Unit
from turbosim.program.occupancy import WARP_SIZE, occupancy
from turbosim.program.ops import Affine, Compute, Load, Loop, Mma, Op, Signal, Store, Wait
from turbosim.program.program import Counter, CounterKind, Launch, Program, Role, Scheduler
from turbosim.program.work import class_counts, sectors, trip_counts
from turbosim.result import TICKS_PER_CYCLE, UNITS, Reason
from turbosim.units import show

ClockName = Literal["boost", "tensor_spec", "sustained", "power"]
LaunchMode = Literal["graph", "stream"]

_BITS = {Dtype.FP16: 16, Dtype.FP16_ACC16: 16, Dtype.BF16: 16, Dtype.TF32: 32, Dtype.FP8: 8, Dtype.INT8: 8,
         Dtype.INT4: 4}
_UNIT_INDEX = {unit: i for i, unit in enumerate(UNITS)}
_SUBCORE_UNITS = frozenset(UNITS) - {Unit.SMEM, Unit.COPY}
_BYTES_PER_WARP_ACCESS = WARP_SIZE * 16
"""LDSM.x4, LDS.128, LDG.128 and LDGSTS.128 move 16 bytes per thread."""


MOST_TILES = 100_000_000
"""Tiles of a program: the cache model takes 32 bytes for each."""


LOAD_WINDOW = 1e-6
"""Time constant with which the load of a memory channel is forgotten [s]."""


def ticks(cycles: float) -> int:
    """Return *cycles* in ticks, rounded up."""
    return math.ceil(cycles * TICKS_PER_CYCLE - 1e-9)


def hertz_of(gpu: Gpu, clock: ClockName | float) -> float:
    """Return the SM clock called *clock* [Hz]; a number is one. ``power`` depends on the run and starts at boost."""
    if isinstance(clock, (int, float)):
        return float(clock)
    return gpu.clock.boost if clock == "power" else gpu.clock.hertz(clock)


def lower(gpu: Gpu, program: Program, clock: ClockName | float = "sustained", launch: LaunchMode = "graph"
          ) -> LoweredProgram:
    """Return *program* in ticks on *gpu* at a clock as :func:`hertz_of` takes it.

    Raises ProgramError when a launch does not fit on an SM or uses an instruction the GPU lacks, or when the tensors do
    not fit into device memory.
    """
    hertz = hertz_of(gpu, clock)
    _check_size(gpu, program)
    memory = lower_memory(gpu, hertz)
    tensors, tiles = _place(program, gpu, memory)
    tensor_index = {t.name: i for i, t in enumerate(program.tensors)}
    tile_bytes = [t.tile_bytes for t in program.tensors]
    overhead = ticks((gpu.launch.graph if launch == "graph" else gpu.launch.stream) * hertz)
    launches = tuple(
        _LaunchLowering(gpu, item, tensor_index, tile_bytes).lower(overhead) for item in program.launches
    )
    return LoweredProgram(gpu.sm.count, tensors, tiles, memory, launches)


def _check_size(gpu: Gpu, program: Program) -> None:
    """Refuse what device memory or the cache model cannot hold."""
    needed = sum(t.nbytes for t in program.tensors)
    if needed > gpu.hbm.capacity:
        raise ProgramError(
            f"program {program.name!r} on {gpu.name}: its tensors take {show(needed, 'B')}, "
            f"{show(needed - gpu.hbm.capacity, 'B')} more than the {show(gpu.hbm.capacity, 'B')} of device memory; "
            f"use a smaller problem")
    tiles = sum(t.tiles for t in program.tensors)
    if tiles > MOST_TILES:
        raise ProgramError(
            f"program {program.name!r}: its tensors have {tiles:,} tiles, the cache model keeps a state for at most "
            f"{MOST_TILES:,}; use larger tiles or a smaller problem")


def lower_memory(gpu: Gpu, hertz: float) -> Memory:
    """Return L2 and device memory in ticks of the clock *hertz*."""
    per_second = hertz * TICKS_PER_CYCLE

    def rate(bytes_per_second: float) -> int:
        return max(1, math.ceil(per_second / bytes_per_second * (1 << RATE_SHIFT)))

    hbm = gpu.hbm.bandwidth * gpu.hbm.efficiency / gpu.hbm.channels
    return Memory(
        l2_capacity=int(gpu.l2.capacity * gpu.l2.shared_fraction),
        # A line is in the partition that it is homed in, and in the SM's own where that is another one.
        l2_held=int(gpu.l2.capacity * gpu.l2.partitions / (2 * gpu.l2.partitions - 1)),
        dirty=round(gpu.l2.dirty_share * (1 << SHARE_SHIFT)),
        l2_rate=rate(gpu.l2.bandwidth),
        hbm_rate=rate(hbm),
        channels=gpu.hbm.channels,
        interleave=int(gpu.hbm.interleave),
        turnaround=math.ceil(rate(hbm) * gpu.hbm.turnaround),
        loaded_latency=ticks(gpu.hbm.loaded_latency * hertz),
        window=ticks(LOAD_WINDOW * hertz),
        # A tile is spread over both partitions by the address hash, so its last sector is a far one.
        l2_latency=ticks(gpu.l2.latency_far * hertz),
        dram_latency=ticks(gpu.hbm.latency * hertz),
        bulk_latency=ticks(gpu.copy_engine.tma_latency),
    )


def apart(gpu: Gpu, run_bytes: int | None) -> float:
    """Return how many times as long device memory takes for runs of *run_bytes* that lie apart as for long ones.

    Each run is in another row of its bank, and a pseudo-channel opens no more than one row in ``hbm.activation``.
    """
    hbm = gpu.hbm
    if run_bytes is None:
        return 1.0
    opened = hbm.activation / (hbm.channels * hbm.pseudo_channels)
    return max(1.0, opened * hbm.bandwidth * hbm.efficiency / run_bytes)


def _place(program: Program, gpu: Gpu, memory: Memory) -> tuple[tuple[LoweredTensor, ...], int]:
    """Lay the tensors out one after the other, each on an interleave boundary."""
    placed = []
    interleave = memory.interleave
    address = first = 0
    for tensor in program.tensors:
        rate = math.ceil(memory.hbm_rate * apart(gpu, tensor.run_bytes))
        placed.append(LoweredTensor(first, address, tensor.tile_bytes, tensor.tiles, rate))
        first += tensor.tiles
        address += -(-tensor.tiles * tensor.tile_bytes // interleave) * interleave
    return tuple(placed), first


def _has_blocks(body: Iterable[Op | Loop]) -> bool:
    """Return whether the duration of an operation is given."""
    return any(_has_blocks(x.body) if isinstance(x, Loop) else isinstance(x, Compute) and bool(x.cycles) for x in body)


class _LaunchLowering:
    """Lowers one launch."""

    def __init__(self, gpu: Gpu, launch: Launch, tensor_index: Mapping[str, int], tile_bytes: list[int]) -> None:
        self.gpu = gpu
        self.launch = launch
        self.tensor_index = tensor_index
        self.tile_bytes = tile_bytes
        self.counters: dict[str, tuple[int, Counter]] = {c.name: (i, c) for i, c in enumerate(launch.counters)}
        self.params = [name for name, _ in launch.classes[0].params]
        self.write_conflict = max((self._conflict_of(role.body) for role in launch.roles), default=0.0)
        self.slots = {dim.name: i for i, dim in enumerate(launch.grid)}
        self.slots |= {name: GRID_SLOTS + LOOP_SLOTS + i for i, name in enumerate(self.params)}

    def lower(self, overhead: int) -> LoweredLaunch:
        launch = self.launch
        per_sm, limit = occupancy(self.gpu, launch)
        tables = dict(launch.class_of)
        return LoweredLaunch(
            name=launch.name,
            grid=tuple(dim.size for dim in launch.grid),
            streams=tuple(tuple(self._stream(role)) for role in launch.roles),
            role_names=tuple(role.name for role in launch.roles),
            warps=launch.warps,
            counters=len(launch.counters),
            class_of=tuple(tables.get(dim.name, (0,) * dim.size) for dim in launch.grid),
            class_params=tuple(self._params(dict(c.params)) for c in launch.classes),
            occupancy=per_sm,
            occupancy_limit=limit,
            cta_launch=ticks(self.gpu.launch.cta),
            overhead=overhead,
            fixed_busy=self._fixed_busy(),
            scheduler=launch.scheduler,
            class_signals=() if launch.scheduler is Scheduler.SINGLE else tuple(
                self._signals(dict(c.params)) for c in launch.classes),
        )

    def _conflict_of(self, body: Iterable[Op | Loop]) -> float:
        """Return by how much a register write delays the asynchronous products of *body* [cycles]."""
        most = 0.0
        for item in body:
            if isinstance(item, Loop):
                most = max(most, self._conflict_of(item.body))
            elif isinstance(item, Compute) and item.mma is not None:
                path = self.gpu.tensor.get(item.mma.path)
                most = max(most, path.write_conflict or 0.0 if path is not None else 0.0)
        return most

    def _signals(self, params: dict[str, int]) -> tuple[int, ...]:
        """Return the signals of each counter in one element of the grid."""
        counts = [0] * len(self.launch.counters)
        for role in self.launch.roles:
            for op, times in trip_counts(role.body, params):
                name = op.signal if isinstance(op, Compute) else op.counter if isinstance(op, (Load, Signal)) else None
                if name is not None:
                    counts[self.counters[name][0]] += times
        return tuple(counts)

    def _fixed_busy(self) -> tuple[int, ...]:
        """Return the ticks per unit of the blocks whose duration is given."""
        busy = [0] * len(UNITS)
        roles = [role for role in self.launch.roles if _has_blocks(role.body)]
        for cta_class, ctas in class_counts(self.launch) if roles else ():
            for role in roles:
                for op, times in trip_counts(role.body, dict(cta_class.params)):
                    if isinstance(op, Compute) and op.cycles:
                        for unit, taken in _claims(self._demand(op)[0]):
                            busy[unit] += taken * times * ctas
        return tuple(busy)

    def _params(self, values: dict[str, int]) -> tuple[int, ...]:
        row = [values[name] for name in self.params]
        return tuple(row + [0] * (PARAM_SLOTS - len(row)))

    def _stream(self, role: Role) -> list[Instruction]:
        out: list[Instruction] = []
        self._body(role, role.body, self.slots, 0, out)
        out.append(Instruction(Kind.END, "end"))
        return out

    def _body(self, role: Role, body: Iterable[Op | Loop], slots: Mapping[str, int], depth: int,
              out: list[Instruction]) -> None:
        for item in body:
            if not isinstance(item, Loop):
                out.append(self._op(role, item, slots))
                continue
            slot = GRID_SLOTS + depth
            head = len(out)
            out.append(Instruction(Kind.LOOP))
            self._body(role, item.body, {**slots, item.variable: slot}, depth + 1, out)
            out.append(Instruction(Kind.NEXT, slot=slot, jump=head + 1))
            out[head] = Instruction(Kind.LOOP, item.variable, expr=_expr(item.trips, slots), slot=slot, jump=len(out))

    def _op(self, role: Role, op: Op, slots: Mapping[str, int]) -> Instruction:
        if isinstance(op, Compute):
            return self._compute(role, op)
        if isinstance(op, Load):
            return self._load(op, slots)
        if isinstance(op, Store):
            return self._store(op, slots)
        index, counter = self.counters[op.counter]
        if isinstance(op, Wait):
            return Instruction(Kind.WAIT, op.label, counter=index, expr=_expr(op.until, slots))
        return self._signal(op, index, counter)

    def _signal(self, op: Signal, index: int, counter: Counter) -> Instruction:
        barrier = self.gpu.barrier
        cycles = barrier.sync if counter.kind is CounterKind.BARRIER else barrier.mbarrier
        return Instruction(Kind.SIGNAL, op.label, latency=max(1, ticks(cycles)), counter=index, code=Reason.BARRIER)

    def _demand(self, op: Compute) -> tuple[dict[Unit, float], float]:
        """Return the cycles of each unit at the SM's rate, and the latency after them [cycles]."""
        demand: dict[Unit, float] = {}
        warp_instructions = 0.0
        latency = 0.0
        for op_class, lanes in op.lanes:
            pipe = self.gpu.pipes.get(op_class)
            if pipe is None:
                raise ProgramError(
                    f"launch {self.launch.name!r} on {self.gpu.name}: {op.label!r} needs the {op_class.value!r} "
                    f"instruction class, which this GPU does not have")
            demand[pipe.unit] = demand.get(pipe.unit, 0.0) + lanes / pipe.rate
            warp_instructions += lanes / WARP_SIZE
            latency = max(latency, pipe.latency)
        if op.smem_bytes:
            demand[Unit.SMEM] = demand.get(Unit.SMEM, 0.0) + op.smem_bytes / self.gpu.sm.smem_bandwidth
            if op.mma is None or not op.mma.path.is_async:
                # Asynchronous MMA reads its operands itself; otherwise LDSM or LDS instructions do.
                warp_instructions += op.smem_bytes / _BYTES_PER_WARP_ACCESS
            latency = max(latency, self.gpu.sm.smem_latency)
        if op.mma is not None:
            cycles, instructions, path_latency = self._mma(op.label, op.mma)
            demand[Unit.TENSOR] = cycles
            warp_instructions += instructions
            latency = max(latency, path_latency)
        warp_instructions = op.instructions or warp_instructions
        if warp_instructions:
            demand[Unit.ISSUE] = demand.get(Unit.ISSUE, 0.0) + warp_instructions / self.gpu.sm.schedulers
        return demand, latency + sum(self.gpu.pipes[c].latency * n for c, n in op.chain)

    def _compute(self, role: Role, op: Compute) -> Instruction:
        demand, latency = self._demand(op)
        if op.cycles:
            longest = max(demand, key=lambda unit: demand[unit], default=Unit.ISSUE)
            taken = tuple(ticks(cycles) for cycles in op.cycles)
            return Instruction(Kind.COMPUTE, op.label, own_ticks=taken[-1],
                               by_residents=taken if len(set(taken)) > 1 else (), code=_UNIT_INDEX[longest])
        claims = _claims(demand)
        share = max(1.0, self.gpu.sm.schedulers / role.warps)
        own = max((cycles * share for unit, cycles in demand.items() if unit in _SUBCORE_UNITS), default=0.0)
        own_ticks = ticks(own) if share > 1 else 0
        if op.signal is None:
            writes = sum(lanes for _, lanes in op.lanes) / WARP_SIZE / self.gpu.sm.schedulers * share
            return Instruction(Kind.COMPUTE, op.label, claims, own_ticks, latency=ticks(latency), pieces=op.pieces,
                               conflict=ticks(self.write_conflict * writes), code=_UNIT_INDEX[Unit.ISSUE])
        index, _ = self.counters[op.signal]
        spread = 0
        if op.mma is not None and op.mma.path.is_async:
            spread = ticks(demand.pop(Unit.SMEM, 0.0))
            claims = _claims(demand)
        return Instruction(Kind.ASYNC, op.label, claims, own_ticks, spread, max(1, ticks(latency)), counter=index,
                           code=Reason.MMA)

    def _mma(self, label: str, mma: Mma) -> tuple[float, float, float]:
        """Return (cycles at the SM's rate, warp instructions, latency in cycles)."""
        path = self.gpu.tensor.get(mma.path)
        rate = path.rates.get(mma.dtype) if path is not None else None
        if path is None or rate is None:
            has = ", ".join(f"{p.value} {d.value}" for p, t in self.gpu.tensor.items() for d in t.rates)
            raise ProgramError(
                f"launch {self.launch.name!r} on {self.gpu.name}: {label!r} needs {mma.path.value} {mma.dtype.value}, "
                f"which this GPU does not have; it has {has}")
        per_instruction = path.macs_per_instruction_fp16 * 16 / _BITS[mma.dtype]
        return mma.macs / rate, math.ceil(mma.macs / per_instruction), path.latency

    def _load(self, op: Load, slots: Mapping[str, int]) -> Instruction:
        tensor = self.tensor_index[op.tensor]
        nbytes = sectors(self.tile_bytes[tensor] if op.nbytes is None else op.nbytes)
        if op.bulk and not self.gpu.copy_engine.tma:
            raise ProgramError(
                f"launch {self.launch.name!r} on {self.gpu.name}: {op.label!r} is a bulk tensor copy (TMA), which this "
                f"GPU does not have; use 16-byte asynchronous copies")
        index, _ = self.counters[op.counter]
        # What the other CTAs of a cluster ask for comes in through the same port.
        received = nbytes * op.shared_by
        return Instruction(Kind.LOAD, op.label, self._transfer(received, op.smem, op.bulk), counter=index,
                           tensor=tensor, nbytes=nbytes, bulk=op.bulk, expr=_expr(op.tile, slots))

    def _store(self, op: Store, slots: Mapping[str, int]) -> Instruction:
        tensor = self.tensor_index[op.tensor]
        nbytes = sectors(self.tile_bytes[tensor] if op.nbytes is None else op.nbytes)
        return Instruction(Kind.STORE, op.label, self._transfer(nbytes, smem=False, bulk=False), tensor=tensor,
                           nbytes=nbytes, expr=_expr(op.tile, slots))

    def _transfer(self, nbytes: int, smem: bool, bulk: bool) -> tuple[tuple[int, int], ...]:
        instructions = 1.0 if bulk else math.ceil(nbytes / _BYTES_PER_WARP_ACCESS)
        demand = {Unit.COPY: nbytes / self.gpu.copy_engine.bandwidth,
                  Unit.ISSUE: instructions / self.gpu.sm.schedulers}
        if smem:
            demand[Unit.SMEM] = nbytes / self.gpu.sm.smem_bandwidth
        return _claims(demand)


def _claims(demand: Mapping[Unit, float]) -> tuple[tuple[int, int], ...]:
    return tuple((_UNIT_INDEX[u], ticks(demand[u])) for u in UNITS if demand.get(u, 0.0) > 0)


def _expr(affine: Affine, slots: Mapping[str, int]) -> Expr:
    terms = tuple((slots[name], c) for name, c in affine.terms)
    if any(not 0 <= s < ENV_SIZE for s, _ in terms):
        raise AssertionError(terms)
    return Expr(affine.const, terms)
