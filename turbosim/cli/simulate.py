"""``turbosim simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common
from turbosim.cli.workload import WorkloadOptions, with_workload

EXAMPLE = common.examples(
    "turbosim simulate --hw h200_sxm --kernel turbo --model phi3-medium --batch 4 --seq 8k",
    "turbosim simulate --hw a100_sxm_80gb --model llama3-8b --phase decode --seq 32k --json",
    "turbosim simulate --hw a100_sxm_80gb --model llama3-8b --seq 16k --seq-q 2k",
    "turbosim simulate --hw rtx_4090 --q-heads 32 --kv-heads 8 --head-dim 64 --seq 4k --no-causal",
    "turbosim simulate --hw a100_sxm_80gb --kernel gemm --m 4k --n 4k --k 4k --set dtype=int8",
    "turbosim simulate --hw l4 --kernel copy --bytes '1 GiB'",
    "turbosim simulate --hw l4 --model llama3-8b --seq 1k --save-trace flash.gz && turbosim simulate --hw l40s "
    "--trace flash.gz",
    after="--seq 16k --seq-q 2k is a chunk of a prefill: the last 2k queries of 16k tokens.")


@with_workload
def simulate(
    hw: common.Hw,
    workload: WorkloadOptions,
    trace: Annotated[Path | None, typer.Option(help="Replay a saved program instead of a kernel.")] = None,
    save_trace: Annotated[Path | None, typer.Option(help="Save the program (.json or .gz).")] = None,
    engine: common.Engine = "numba",
    clock: common.Clock = "sustained",
    launch: common.LaunchMode = "graph",
    l2: common.L2State = "cold",
    as_json: common.Json = False,
) -> None:
    """Simulate one kernel on one GPU: time, throughput, bandwidth, utilisation, and where the time goes."""
    from turbosim.hw import load_gpu
    from turbosim.views.summary import to_json, to_table

    if trace is not None:
        workload.refuse_with_trace(*(["--save-trace"] if save_trace is not None else []))
    elif save_trace is not None:
        common.check_output("--save-trace", save_trace)
    gpu = load_gpu(hw)
    if trace is not None:
        from turbosim.engine.api import run
        from turbosim.program.store import load
        from turbosim.sass.origin import check_gpu

        program = load(trace)
        if warning := check_gpu(program, gpu):
            common.console(stderr=True).print(f"warning: {warning}", soft_wrap=True)
        common.tell_assumed(program.meta)
        common.announce_compilation(engine)
        with common.progress(program.name) as report:
            result = run(gpu, program, engine=engine, clock=clock, launch=launch, l2=l2,  # type: ignore[arg-type]
                         progress=report)
    else:
        shape, options = workload.build(), workload.kernel_options()
        if save_trace is not None:
            from turbosim.api import build_program
            from turbosim.program.store import save

            save(build_program(gpu, shape, workload.kernel, dict(options)), save_trace)
            common.say_written(save_trace)
        result = common.simulate(gpu, shape, workload.kernel, options, engine, clock, launch, l2)
    if as_json:
        common.emit_json(to_json(result))
    else:
        common.console().print(to_table(result))
