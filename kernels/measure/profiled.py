"""What Nsight Compute runs: every case of a job file once, a marker kernel before each.

``python -m kernels.measure.profiled JOB OUTCOMES``. *JOB* is ``{"names", "cases"}`` as JSON. *OUTCOMES* gets a line a
case, ``{"reason", "marked", "fatal"}``: why it failed or null, whether a marker was launched, whether the process ends.
Only what lies between the profiler's start and stop is profiled.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import triton  # type: ignore[import-untyped]

from kernels.case import Kernel
from kernels.measure.cases import from_json
from kernels.measure.failures import reason_of
from kernels.measure.measuring import SEED, with_types
from kernels.measure.worker import load


@triton.jit  # type: ignore[untyped-decorator]
def counters_marker() -> None:
    """Separates the kernels of one case from those of the next."""


def profile_case(kernel: Kernel, case: Any) -> str | None:
    """Run *case* once under the profiler, compiled and warm; return why it failed, or None."""
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    launch, reason = None, None
    try:
        launch = kernel.prepare(case.workload, with_types(dict(case.options), kernel.defaults), "cuda", SEED).launch
        launch()
        torch.cuda.synchronize()
    except Exception as error:
        reason = reason_of(error)
    runtime.cudaProfilerStart()
    try:
        counters_marker[(1,)]()
        if launch is not None and reason is None:
            launch()
        torch.cuda.synchronize()
    except Exception as error:
        reason = reason_of(error)
    finally:
        runtime.cudaProfilerStop()
    return reason


def main(job: Path, outcomes: Path) -> None:
    """Profile the cases of *job*."""
    plan = json.loads(job.read_text())
    kernels, broken = load(plan["names"])
    counters_marker[(1,)]()
    with outcomes.open("w") as file:
        for case in map(from_json, plan["cases"]):
            kernel = kernels.get(case.kernel)
            reason = profile_case(kernel, case) if kernel is not None else broken[case.kernel]
            usable = _usable()
            file.write(json.dumps({"reason": reason, "marked": kernel is not None, "fatal": not usable}) + "\n")
            file.flush()
            if not usable:
                return
            torch.cuda.empty_cache()


def _usable() -> bool:
    """Whether the GPU still computes after a case."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
