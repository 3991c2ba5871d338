"""Run a program on a GPU: validate, lower, replay, and put the result together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from turbosim.engine.lower import ClockName, LaunchMode, lower
from turbosim.engine.lowered import LoweredLaunch, LoweredProgram
from turbosim.engine.totals import LaunchTotals, Records
from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Gpu
from turbosim.program.program import Program
from turbosim.program.validate import validate
from turbosim.program.work import compulsory_read_bytes, program_work
from turbosim.result import UNITS, LaunchResult, Recording, Result
from turbosim.roofline import bound_seconds, peaks_used

EngineName = Literal["numba", "simpy"]
L2Start = Literal["cold", "warm"]
ENGINES: tuple[EngineName, ...] = ("numba", "simpy")
CLOCKS: tuple[ClockName, ...] = ("boost", "tensor_spec", "sustained")
LAUNCH_MODES: tuple[LaunchMode, ...] = ("graph", "stream")
L2_STARTS: tuple[L2Start, ...] = ("cold", "warm")


def run(gpu: Gpu, program: Program, *, engine: EngineName = "numba", clock: ClockName = "sustained",
        launch: LaunchMode = "graph", l2: L2Start = "cold", record: Iterable[int] = (),
        progress: Callable[[int, int], None] | None = None,
        workload: dict[str, object] | None = None) -> Result:
    """Replay *program* on *gpu* and return what was found.

    *clock* selects one of the SM clocks of the hardware file, *launch* the overhead between kernels, *l2* whether the
    cache starts empty or as a run of the same program has left it. *record* names SMs whose every operation, unit
    service and stall is kept. *progress* is called with (finished, all) CTAs of the present launch; *workload* is
    carried into the result as it is.

    Raises ProgramError when the program is not well formed or does not fit the GPU, SimulationError on a deadlock,
    UsageError for an unknown engine, clock, launch mode or L2 state.
    """
    _check("engine", engine, ENGINES)
    _check("clock", clock, CLOCKS)
    _check("launch", launch, LAUNCH_MODES)
    _check("l2", l2, L2_STARTS)
    recorded = frozenset(record)
    for sm in sorted(recorded):
        if not 0 <= sm < gpu.sm.count:
            raise UsageError(f"record: SMs must be 0 to {gpu.sm.count - 1} on {gpu.name}, got {sm}")
    validate(program)
    lowered = lower(gpu, program, clock, launch)
    totals, records = _replay(lowered, engine, l2, recorded, progress)
    return _result(gpu, program, lowered, totals, records, clock, engine, l2, workload, bool(recorded))


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"unknown {name} {value!r}: not among {', '.join(known)}{did_you_mean(value, known)}")


def _replay(lowered: LoweredProgram, engine: EngineName, l2: L2Start, recorded: frozenset[int],
            progress: Callable[[int, int], None] | None) -> tuple[list[LaunchTotals], list[Records]]:
    if engine == "numba":
        from turbosim.engine.numba_engine import NumbaEngine

        replay: NumbaEngine | SimpyEngine = NumbaEngine(lowered, recorded, progress)
    else:
        from turbosim.engine.simpy_engine import SimpyEngine

        replay = SimpyEngine(lowered, recorded)
    for _ in range(1 if l2 == "cold" else 2):
        pairs = [replay.run_launch(i) for i in range(len(lowered.launches))]
    return [t for t, _ in pairs], [r.ordered() for _, r in pairs]


def _result(gpu: Gpu, program: Program, lowered: LoweredProgram, totals: list[LaunchTotals], records: list[Records],
            clock: ClockName, engine: EngineName, l2: L2Start, workload: dict[str, object] | None,
            recorded: bool) -> Result:
    work = program_work(program)
    hertz = gpu.clock.hertz(clock)
    recording = None
    if recorded:
        recording = Recording(
            tuple(x for r in records for x in r.ops), tuple(x for r in records for x in r.units),
            tuple(x for r in records for x in r.stalls),
            tuple(tuple(i.label for s in item.streams for i in s) for item in lowered.launches),
            tuple(item.role_names for item in lowered.launches))
    return Result(
        hw=gpu.name,
        kernel=str(program.meta.get("kernel", program.name)),
        workload=workload or {},
        options={k: v for k, v in program.meta.items() if k != "kernel"},
        engine=engine,
        clock_hz=hertz,
        sms=gpu.sm.count,
        hbm_channels=gpu.hbm.channels,
        launches=tuple(_launch_result(item, total) for item, total in zip(lowered.launches, totals, strict=True)),
        useful_flops=program.useful_flops,
        compulsory_bytes=compulsory_read_bytes(program, work) + work.write_bytes,
        bound_s=bound_seconds(gpu, program, hertz, warm=l2 == "warm"),
        peak_macs=peaks_used(gpu, work, hertz),
        recording=recording,
    )


def _launch_result(launch: LoweredLaunch, total: LaunchTotals) -> LaunchResult:
    busy = {u: queued + fixed for u, queued, fixed in zip(UNITS, total.busy, launch.fixed_busy, strict=True)}
    return LaunchResult(
        name=launch.name, ctas=launch.ctas, ctas_per_sm=launch.occupancy, occupancy_limit=launch.occupancy_limit,
        warps_per_cta=launch.warps, ticks=total.ticks, overhead_ticks=launch.overhead, ops=total.ops,
        busy_ticks=busy, l2_busy_ticks=total.l2_busy,
        hbm_busy_ticks=total.hbm_busy, l2_read_bytes=total.l2_read_bytes, l2_hit_bytes=total.l2_hit_bytes,
        l2_write_bytes=total.l2_write_bytes, dram_read_bytes=total.dram_read_bytes,
        dram_write_bytes=total.dram_write_bytes, reason_ticks=total.reasons, sm_last_end=total.sm_last_end)
