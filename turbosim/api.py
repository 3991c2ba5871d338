"""The Python entry points: a GPU, a workload and a kernel name in, a :class:`~turbosim.result.Result` out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbosim.engine.api import EngineName, L2Start, run
from turbosim.engine.lower import ClockName, LaunchMode
from turbosim.hw import load_gpu
from turbosim.hw.spec import Gpu
from turbosim.program.program import Program
from turbosim.result import Result
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Workload

if TYPE_CHECKING:
    from turbosim.sass.description import Description
    from turbosim.sass.expressions import Value


def build_program(gpu: str | Path | Gpu, workload: Workload, kernel: str = "flash",
                  options: dict[str, Any] | None = None) -> Program:
    """Return the program *kernel* runs for *workload* on *gpu* (a name, a YAML file, or a Gpu).

    Raises UsageError for an unknown GPU, kernel or option, or a workload the kernel cannot do; ConfigError for a
    hardware file that is not acceptable.
    """
    spec = gpu if isinstance(gpu, Gpu) else load_gpu(gpu)
    return get_schedule(kernel).program(spec, workload, options)


def simulate(gpu: str | Path | Gpu, workload: Workload, kernel: str = "flash", *,
             options: dict[str, Any] | None = None, engine: EngineName = "numba", clock: ClockName = "sustained",
             launch: LaunchMode = "graph", l2: L2Start = "cold", record: Iterable[int] = (),
             progress: Callable[[int, int], None] | None = None) -> Result:
    """Simulate *kernel* on *workload* and return time, traffic, utilisation and stall reasons.

    The keyword arguments are those of :func:`turbosim.engine.api.run`; *options* are the kernel's. Raises as
    :func:`build_program` and :func:`~turbosim.engine.api.run` do.
    """
    spec = gpu if isinstance(gpu, Gpu) else load_gpu(gpu)
    program = build_program(spec, workload, kernel, options)
    return run(spec, program, engine=engine, clock=clock, launch=launch, l2=l2, record=record, progress=progress,
               workload=workload.describe())


def lift_kernel(gpu: str | Path | Gpu, kernel: Description | str | Path, settings: Mapping[str, Value] | None = None, *,
                clock: ClockName = "sustained") -> Program:
    """Compile a Triton kernel for *gpu*, which need not be present, and return it as a program for that GPU.

    *kernel* is a launch description, its YAML file, or FILE.py:FUNCTION with one beside it; *settings* replace its
    sizes, constants and compiler options. Raises UsageError, ConfigError or ProgramError with the reason.
    """
    from turbosim.sass.prepare import find_description, prepare, program_of

    spec = gpu if isinstance(gpu, Gpu) else load_gpu(gpu)
    if isinstance(kernel, (str, Path)):
        kernel = find_description(str(kernel), replaced=settings or ())
    return program_of(prepare(kernel, spec, settings), spec, clock)


def simulate_kernel(gpu: str | Path | Gpu, kernel: Description | str | Path,
                    settings: Mapping[str, Value] | None = None, *, engine: EngineName = "numba",
                    clock: ClockName = "sustained", launch: LaunchMode = "graph", l2: L2Start = "cold",
                    record: Iterable[int] = (), progress: Callable[[int, int], None] | None = None) -> Result:
    """Compile a Triton kernel for *gpu*, lift it and simulate it.

    Arguments as :func:`lift_kernel` and :func:`~turbosim.engine.api.run`, raises as they do.
    """
    spec = gpu if isinstance(gpu, Gpu) else load_gpu(gpu)
    return run(spec, lift_kernel(spec, kernel, settings, clock=clock), engine=engine, clock=clock, launch=launch, l2=l2,
               record=record, progress=progress)
