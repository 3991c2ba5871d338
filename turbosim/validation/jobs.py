"""Simulations that rows need, as values that another process can be sent, and their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turbosim.errors import TurbosimError
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import Gpu
from turbosim.processes import in_processes
from turbosim.result import Result
from turbosim.validation.counters import counters_of
from turbosim.validation.row import Protocol
from turbosim.workload import Workload

if TYPE_CHECKING:
    from turbosim.engine.api import EngineName
    from turbosim.engine.lower import ClockName

FEW = 200
LITTLE = 5e13
"""Up to as many simulations of schedules, of as many FLOPs in all, stay in one process: a second one has to load the
engine first."""
Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Job:
    """One simulation."""

    hw: str
    """Name or file of the GPU."""
    kernel: str
    """A schedule, or for a Triton kernel its launch description."""
    workload: Workload
    options: Pairs
    protocol: Protocol
    engine: EngineName = "numba"
    clock: ClockName = "sustained"
    """SM clock where the protocol knows none."""
    lifted: bool = False
    """Whether the kernel is compiled and lifted; its options are then settings of its launch."""
    work: float = 0.0
    """FLOPs or bytes, so that the longest can be started first."""
    counted: bool = False
    """Whether its answer has counters."""


@dataclass(frozen=True)
class Counted:
    """A time with counters."""

    time_s: float
    counters: Mapping[str, float]
    """:func:`turbosim.validation.counters.counters_of`."""


Answer = float | Counted | str
"""A time [s], with counters if they were asked for, or why there is none."""
ENDED = "its process ended without an answer; there may be too little memory for so many"


@lru_cache(maxsize=32)
def gpu_at(hw: str, clock: float | None, highest: float | None = None) -> Gpu:
    """Return the GPU *hw*, its sustained clock at *clock* [Hz] and none above *highest* [Hz] unless these are None."""
    gpu = load_gpu(hw)
    if clock is not None:
        gpu = with_overrides(gpu, {"clock.sustained": clock})
    if highest is not None:
        clocks = {f"clock.{name}": gpu.clock.hertz(name) for name in ("sustained", "tensor_spec", "boost")}
        gpu = with_overrides(gpu, {name: min(highest, hertz) for name, hertz in clocks.items()})
    return gpu


def seconds_of(answer: Answer | None) -> float | None:
    """Return the time in *answer* [s]; None where there is none."""
    return answer.time_s if isinstance(answer, Counted) else answer if isinstance(answer, float) else None


def answer(job: Job) -> Answer:
    """Return the time of *job* under its protocol [s], and its counters if it asks for them, or why there is none."""
    try:
        gpu = gpu_at(job.hw, job.protocol.clock, job.protocol.highest)
        results = _results(gpu, job)
    except TurbosimError as error:
        return str(error).splitlines()[0]
    if job.protocol.method == "ncu":
        seconds = sum(map(without_overhead, results))
    else:
        seconds = results[0].time_s + (job.protocol.overhead if job.protocol.method == "events" else 0.0)
    return Counted(seconds, counters_of(gpu, results, job.protocol.l2)) if job.counted else seconds


def _results(gpu: Gpu, job: Job) -> list[Result]:
    from turbosim.api import build_program, lift_kernel
    from turbosim.engine.api import run

    clock = job.clock if job.protocol.clock is None else "sustained"
    launch: Literal["graph", "stream"] = "stream" if job.protocol.method == "events" else "graph"
    program = lift_kernel(gpu, job.kernel, dict(job.options), clock=clock) if job.lifted else \
        build_program(gpu, job.workload, job.kernel, dict(job.options))
    programs = [program]
    if job.protocol.method == "ncu" and job.protocol.l2 == "cold":
        # A profiler empties the caches before each kernel of a run.
        programs = [replace(program, launches=(one,)) for one in program.launches]
    return [run(gpu, one, engine=job.engine, clock=clock, launch=launch, l2=job.protocol.l2) for one in programs]


def without_overhead(result: Result) -> float:
    """Return the GPU time of a result, the sum over its launches, as a profiler reports it [s]."""
    ticks = sum(launch.ticks for launch in result.launches)
    return result.time_s * ticks / result.ticks


def run_all(jobs: Iterable[Job], workers: int = 1, progress: Callable[[int, int], None] | None = None
            ) -> Mapping[Job, Answer]:
    """Return the answer of each of *jobs*, which are run by up to *workers* processes, the longest first."""
    order = sorted(set(jobs), key=lambda j: (-j.work, repr(j)))
    found: dict[Job, Answer] = {}
    slow = any(job.lifted for job in order)
    little = len(order) <= FEW and sum(job.work for job in order) <= LITTLE and not slow
    if workers == 1 or little or len(order) < 2:
        for job in order:
            found[job] = answer(job)
            _tell(progress, found, order)
        return found
    # The engine is compiled here, once, rather than by all.
    found[order[-1]] = answer(order[-1])
    for place, time in in_processes(answer, order[:-1], workers):
        found[order[place]] = ENDED if time is None else time
        _tell(progress, found, order)
    return found


def _tell(progress: Callable[[int, int], None] | None, found: Mapping[Job, Answer], order: list[Job]) -> None:
    if progress is not None:
        progress(len(found), len(order))


def triton_file(kernel: str) -> str:
    """Return the path of a Triton kernel of the checkout, from wherever turbosim runs."""
    checkout = Path(__file__).resolve().parents[2] / kernel
    return str(checkout) if Path(str(checkout).partition(".py:")[0] + ".py").is_file() else kernel
