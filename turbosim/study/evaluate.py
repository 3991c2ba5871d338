"""From points to outcomes, in one process; programs are built, checked and counted once for points that share them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turbosim.engine.api import Checked, check, checked, run
from turbosim.errors import TurbosimError, UsageError
from turbosim.hw import Gpu, with_overrides
from turbosim.result import Result
from turbosim.schedules.registry import get_schedule
from turbosim.study.axis import Value
from turbosim.study.study import Task

KEPT = 8
"""Programs, and as many GPUs, kept for the next points."""

OUTCOMES: dict[str, str] = {
    "time_s": "s", "clock_hz": "Hz", "cycles": "", "flops": "FLOP", "tflops": "TFLOP/s", "hbm_bytes": "B",
    "hbm_gbps": "GB/s", "l2_bytes": "B", "l2_hit_rate": "", "compulsory_bytes": "B", "roofline_s": "s",
    "intensity": "FLOP/B", "bound": "", "ctas_per_sm": "", "occupancy_limit": "", "waves": "", "energy_j": "J",
    "power_w": "W"}
"""Columns of a simulated point and their units, beside ``util.*``, ``stall.*`` (shares) and ``energy.*`` [J]."""


@dataclass(frozen=True)
class Done:
    """What became of one point."""

    outcome: dict[str, Any]
    """``status`` (``ok`` or ``failed``), ``reason``, and for ``ok`` the columns of :data:`OUTCOMES`."""
    wall_s: float
    """Time that the simulation took."""


@dataclass
class Evaluator:
    """Simulates points on *gpus*, the GPUs of a study by name."""

    gpus: Mapping[str, Gpu]
    _programs: OrderedDict[Any, Checked] = field(default_factory=OrderedDict)
    _hardware: OrderedDict[Any, Gpu] = field(default_factory=OrderedDict)

    def __reduce__(self) -> tuple[type[Evaluator], tuple[Mapping[str, Gpu]]]:
        """Leave behind what is kept when it is sent to another process."""
        return Evaluator, (self.gpus,)

    def __call__(self, task: Task) -> Done:
        """Return the outcome of *task*; what cannot be simulated fails with the reason."""
        start = time.perf_counter()
        try:
            outcome = outcome_of(self.simulate(task))
        except TurbosimError as error:
            outcome = failed(reason_of(error))
        except MemoryError:
            outcome = failed("there is too little memory")
        except Exception as error:
            # A defect in one of ten thousand points is told with the point; the others are not its fault.
            outcome = failed(f"a defect of turbosim: {type(error).__name__}: {error}")
        return Done(outcome, time.perf_counter() - start)

    def check(self, task: Task) -> None:
        """Raise as :meth:`simulate` where *task* has no program, or one that its GPU does not run."""
        if task.workload is None:
            raise UsageError(task.refused)
        gpu = self._gpu(task)
        how: dict[str, Any] = task.run
        check(gpu, self._program(task, gpu), how["clock"], how["launch"])

    def simulate(self, task: Task, record: tuple[int, ...] = ()) -> Result:
        """Return the whole result of *task*, with a timeline of the SMs *record*.

        Raises as :func:`turbosim.api.simulate`, UsageError if it is refused.
        """
        if task.workload is None:
            raise UsageError(task.refused)
        gpu = self._gpu(task)
        how: dict[str, Any] = task.run
        return run(gpu, self._program(task, gpu), clock=how["clock"], launch=how["launch"], l2=how["l2"],
                   engine=how["engine"], workload=task.workload.describe(), record=record)

    def _gpu(self, task: Task) -> Gpu:
        name = (task.hw, *task.overrides.items())
        if name not in self._hardware:
            base = self.gpus[task.hw]
            _keep(self._hardware, name, with_overrides(base, task.overrides) if task.overrides else base)
        return self._hardware[name]

    def _program(self, task: Task, gpu: Gpu) -> Checked:
        """Return the program, checked; it is built for every GPU, and those before with the same one are reused."""
        assert task.workload is not None
        program = get_schedule(task.kernel).program(gpu, task.workload, dict(task.settings))
        name = (task.kernel, task.workload, *task.settings.items())
        before = self._programs.get(name)
        if before is None or before.program != program:
            before = checked(program)
        _keep(self._programs, name, before)
        return before


def _keep(cache: OrderedDict[Any, Any], name: Any, value: Any) -> None:
    cache[name] = value
    cache.move_to_end(name)
    if len(cache) > KEPT:
        cache.popitem(last=False)


def reason_of(error: TurbosimError) -> str:
    """Return why a point has no outcome, on one line."""
    return str(error).splitlines()[0]


def failed(reason: str) -> dict[str, Any]:
    """Return the outcome of a point that has none."""
    return {"status": "failed", "reason": reason}


def outcome_of(result: Result) -> dict[str, Any]:
    """Return the columns of a simulated point."""
    main = max(result.launches, key=lambda x: x.ticks)
    outcome: dict[str, Any] = {
        "status": "ok", "reason": "", "time_s": result.time_s, "clock_hz": result.clock_hz, "cycles": result.cycles,
        "flops": result.useful_flops, "tflops": result.tflops, "hbm_bytes": result.dram_bytes,
        "hbm_gbps": result.dram_bandwidth_Bps / 1e9, "l2_bytes": result.l2_bytes, "l2_hit_rate": result.l2_hit_rate,
        "compulsory_bytes": result.compulsory_bytes, "roofline_s": result.bound_s,
        "intensity": result.arithmetic_intensity, "bound": result.bound, "ctas_per_sm": main.ctas_per_sm,
        "occupancy_limit": main.occupancy_limit, "waves": main.ctas / (result.sms * main.ctas_per_sm),
        "energy_j": result.total_energy_j, "power_w": result.power_w,
        "program": " ".join(f"{k}={_word(v)}" for k, v in result.options.items())}
    outcome |= {f"util.{unit}": _share(share) for unit, share in result.utilization.items()}
    outcome |= {f"stall.{reason}": _share(share) for reason, share in result.stalls.items()}
    outcome |= {f"energy.{part}": joules for part, joules in result.energy_j.items()}
    return outcome


def _word(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _share(share: float) -> float:
    """Return *share* with as many digits as a table of ten thousand rows needs."""
    return float(f"{share:.6g}")
