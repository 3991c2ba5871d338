"""``turbosim timeline``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common
from turbosim.cli.workload import WorkloadOptions, with_workload
from turbosim.errors import UsageError

EXAMPLE = common.examples(
    "turbosim timeline --hw a100_sxm_80gb --model phi3-medium --seq 4k -o flash.json.gz",
    "turbosim timeline --hw a100_sxm_80gb --kernel turbo --model phi3-medium --seq 2k --png turbo.png --from 8000 "
    "--to 14000",
    after="Open flash.json.gz in https://ui.perfetto.dev.")


@with_workload
def timeline(
    hw: common.Hw,
    workload: WorkloadOptions,
    sm: Annotated[int, typer.Option(help="SM to record.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="Chrome/Perfetto JSON, .json or .json.gz.")] = Path(
        "timeline.json.gz"),
    png: Annotated[Path | None, typer.Option(help="Also draw a window of cycles.")] = None,
    begin: Annotated[float, typer.Option("--from", help="First cycle of the picture.")] = 0.0,
    end: Annotated[float, typer.Option("--to", help="Last cycle of the picture.")] = 12000.0,
    engine: common.Engine = "numba",
    clock: common.Clock = "sustained",
    launch: common.LaunchMode = "graph",
    l2: common.L2State = "cold",
) -> None:
    """Record one SM and write its timeline: units, warp groups with stall reasons, copies in flight."""
    from turbosim.hw import load_gpu
    from turbosim.views.timeline import chrome_trace_bytes
    from turbosim.views.timeline_figure import figure

    common.check_output("--output", output, ".json", ".json.gz")
    if png is not None:
        common.check_output("--png", png, ".png", ".svg")
    if end <= begin:
        raise UsageError(f"--to: must be above --from, got {end:g} and {begin:g}")
    gpu = load_gpu(hw)
    if not 0 <= sm < gpu.sm.count:
        raise UsageError(f"--sm: must be 0 to {gpu.sm.count - 1} on {gpu.name}, got {sm}")
    result = common.simulate(gpu, workload.build(), workload.kernel, workload.kernel_options(), engine, clock,
                             launch, l2, (sm,))
    common.write_file(output, chrome_trace_bytes(result, compress=output.suffix == ".gz"))
    if png is not None:
        common.write_figure(figure(result, begin, end, sm), png)
