"""Run a program on a GPU: validate, lower, replay, and put the result together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from turbosim.engine.lower import ClockName, LaunchMode, hertz_of, lower
from turbosim.engine.lowered import LoweredLaunch, LoweredProgram
from turbosim.engine.totals import LaunchTotals, Records
from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Gpu
from turbosim.power import Between, energy_data, energy_of, find_clock, padding_of, with_between, without_energy
from turbosim.program.program import Program
from turbosim.program.validate import validate
from turbosim.program.work import Work, compulsory_read_bytes, program_work
from turbosim.result import UNITS, LaunchResult, Recording, Result
from turbosim.roofline import bound_seconds, peaks_used

EngineName = Literal["numba", "simpy"]
L2Start = Literal["cold", "dirty", "warm"]
ENGINES: tuple[EngineName, ...] = ("numba", "simpy")
CLOCKS: tuple[ClockName, ...] = ("boost", "tensor_spec", "sustained", "power")
LAUNCH_MODES: tuple[LaunchMode, ...] = ("graph", "stream")
L2_STARTS: tuple[L2Start, ...] = ("cold", "dirty", "warm")


@dataclass(frozen=True)
class Checked:
    """A well-formed program and its work: what many runs of it on different hardware need to find out only once."""

    program: Program
    work: Work


def checked(program: Program) -> Checked:
    """Return *program* for several runs. Raises ProgramError when it is not well formed."""
    validate(program)
    return Checked(program, program_work(program))


def check(gpu: Gpu, ready: Checked, clock: ClockName | float, launch: LaunchMode) -> None:
    """Raise what :func:`run` does of a program that does not run on *gpu*, without running it."""
    if clock == "power":
        energy_data(gpu, ready.work)
    lower(gpu, ready.program, clock, launch)


def run(gpu: Gpu, program: Program | Checked, *, engine: EngineName = "numba", clock: ClockName | float = "sustained",
        launch: LaunchMode = "graph", l2: L2Start = "cold", record: Iterable[int] = (),
        progress: Callable[[int, int], None] | None = None,
        workload: dict[str, object] | None = None, between: Between | None = None) -> Result:
    """Replay *program* on *gpu* and return what was found.

    *clock* selects one of the SM clocks of the hardware file, or is one [Hz]; ``power`` is the highest at which the
    average power is within the board's limit, found in a few replays, with *between* the average over many runs and
    what is between them. *launch* selects the overhead between kernels, *l2* whether the cache starts empty, full of
    lines that something else has overwritten, as Triton's do_bench leaves it, or as a run of the same program does.
    *record* names SMs whose every operation, unit service and stall is kept. *progress* is called with (finished, all)
    CTAs of the present launch; *workload* is carried into the result as it is.

    Raises ProgramError when the program is not well formed or does not fit the GPU, SimulationError on a deadlock,
    UsageError for an unknown engine, clock, launch mode or L2 state, or for ``power`` on a GPU without energies.
    """
    _check("engine", engine, ENGINES)
    _check_clock(clock)
    _check("launch", launch, LAUNCH_MODES)
    _check("l2", l2, L2_STARTS)
    recorded = frozenset(record)
    for sm in sorted(recorded):
        if not 0 <= sm < gpu.sm.count:
            raise UsageError(f"record: SMs must be 0 to {gpu.sm.count - 1} on {gpu.name}, got {sm}")
    ready = program if isinstance(program, Checked) else checked(program)

    def at(hertz: float, record: frozenset[int]) -> Result:
        lowered = lower(gpu, ready.program, hertz, launch)
        totals, records = _replay(lowered, engine, l2, record, progress)
        return _result(gpu, ready, lowered, totals, records, hertz, engine, l2, workload, bool(record))

    if clock != "power":
        return at(hertz_of(gpu, clock), recorded)
    energy_data(gpu, ready.work)
    runs: dict[float, Result] = {}

    def measure(hertz: float) -> tuple[float, dict[str, float]]:
        found = runs[hertz] = at(hertz, frozenset())
        if between is None:
            return found.time_s, found.energy_j
        return with_between(gpu, found.time_s, found.energy_j, between, hertz)

    hertz = find_clock(gpu, measure)
    return at(hertz, recorded) if recorded or hertz not in runs else runs[hertz]


def _check_clock(clock: ClockName | float) -> None:
    if isinstance(clock, str):
        _check("clock", clock, CLOCKS)
    elif isinstance(clock, bool) or not 1e6 <= clock <= 1e11:
        raise UsageError(f"clock: a number is in Hz, 1e6 to 1e11, got {clock!r}; write for example 1.41e9")


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"unknown {name} {value!r}: not among {', '.join(known)}{did_you_mean(value, known)}")


def _replay(lowered: LoweredProgram, engine: EngineName, l2: L2Start, recorded: frozenset[int],
            progress: Callable[[int, int], None] | None) -> tuple[list[LaunchTotals], list[Records]]:
    if engine == "numba":
        from turbosim.engine.numba_engine import NumbaEngine

        replay: NumbaEngine | SimpyEngine = NumbaEngine(lowered, recorded, progress, dirty=l2 == "dirty")
    else:
        from turbosim.engine.simpy_engine import SimpyEngine

        replay = SimpyEngine(lowered, recorded, dirty=l2 == "dirty")
    for _ in range(2 if l2 == "warm" else 1):
        pairs = [replay.run_launch(i) for i in range(len(lowered.launches))]
    return [t for t, _ in pairs], [r.ordered() for _, r in pairs]


def _result(gpu: Gpu, ready: Checked, lowered: LoweredProgram, totals: list[LaunchTotals], records: list[Records],
            hertz: float, engine: EngineName, l2: L2Start, workload: dict[str, object] | None,
            recorded: bool) -> Result:
    program, work = ready.program, ready.work
    recording = None
    if recorded:
        recording = Recording(
            tuple(x for r in records for x in r.ops), tuple(x for r in records for x in r.units),
            tuple(x for r in records for x in r.stalls),
            tuple(tuple(i.label for s in item.streams for i in s) for item in lowered.launches),
            tuple(item.role_names for item in lowered.launches))
    result = Result(
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
        bound_s=bound_seconds(gpu, program, hertz, warm=l2 == "warm", work=work),
        peak_macs=peaks_used(gpu, work, hertz),
        recording=recording,
    )
    if without_energy(gpu, work):
        return result
    padding = padding_of(work, program.useful_flops)
    energy = energy_of(gpu, work, result.l2_bytes, result.dram_bytes, result.time_s, hertz, padding)
    return replace(result, energy_j=energy, power_limit_w=gpu.power.limit)


def _launch_result(launch: LoweredLaunch, total: LaunchTotals) -> LaunchResult:
    busy = {u: queued + fixed for u, queued, fixed in zip(UNITS, total.busy, launch.fixed_busy, strict=True)}
    return LaunchResult(
        name=launch.name, ctas=launch.ctas, ctas_per_sm=launch.occupancy, occupancy_limit=launch.occupancy_limit,
        warps_per_cta=launch.warps, ticks=total.ticks, overhead_ticks=launch.overhead, ops=total.ops,
        busy_ticks=busy, l2_busy_ticks=total.l2_busy,
        hbm_busy_ticks=total.hbm_busy, l2_read_bytes=total.l2_read_bytes, l2_hit_bytes=total.l2_hit_bytes,
        l2_write_bytes=total.l2_write_bytes, dram_read_bytes=total.dram_read_bytes,
        dram_write_bytes=total.dram_write_bytes, evicted_bytes=total.evicted_bytes,
        reason_ticks=total.reasons, sm_last_end=total.sm_last_end)
