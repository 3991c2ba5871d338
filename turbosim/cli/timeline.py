"""``turbosim timeline``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common
from turbosim.cli.common import ClockChoice, EngineChoice, L2Choice, LaunchChoice
from turbosim.cli.simulate import Causal, Number, workload_of
from turbosim.errors import UsageError

EXAMPLE = ("Example: turbosim timeline --hw a100_sxm_80gb --kernel flash --model phi3-medium --seq 4k -o flash.json.gz "
           "--png flash.png --from 20000 --to 32000, then open flash.json.gz in ui.perfetto.dev")


def timeline(
    hw: common.Hw,
    kernel: Annotated[str, typer.Option(help="Kernel, see `turbosim list`.")] = "flash",
    model: common.Model = None,
    phase: common.PhaseName = "prefill",
    batch: Annotated[int, typer.Option(help="Sequences.")] = 1,
    seq: Annotated[str | None, typer.Option(help="Tokens per sequence; 8k is 8192.")] = None,
    q_heads: Number = None,
    kv_heads: Number = None,
    head_dim: Number = None,
    seq_q: Number = None,
    seq_k: Number = None,
    causal: Causal = None,
    m: Number = None,
    n: Number = None,
    k: Number = None,
    nbytes: Annotated[str | None, typer.Option("--bytes", help="Size for copy, with a unit.")] = None,
    options: common.Settings = None,
    sm: Annotated[int, typer.Option(help="SM to record.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="Chrome/Perfetto JSON, .json or .json.gz.")] = Path(
        "timeline.json.gz"),
    png: Annotated[Path | None, typer.Option(help="Also draw a window of cycles.")] = None,
    begin: Annotated[float, typer.Option("--from", help="First cycle of the picture.")] = 0.0,
    end: Annotated[float, typer.Option("--to", help="Last cycle of the picture.")] = 12000.0,
    engine: common.Engine = EngineChoice.NUMBA,
    clock: common.Clock = ClockChoice.SUSTAINED,
    launch: common.LaunchMode = LaunchChoice.GRAPH,
    l2: common.L2State = L2Choice.COLD,
) -> None:
    """Record one SM and write its timeline: units, warp groups with stall reasons, copies in flight."""
    from turbosim.hw import load_gpu
    from turbosim.views.timeline import chrome_trace_bytes, figure

    common.check_output("--output", output, ".json", ".json.gz")
    if png is not None:
        common.check_output("--png", png, ".png", ".svg")
    if end <= begin:
        raise UsageError(f"--to: must be above --from, got {end:g} and {begin:g}")
    shape = {"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim, "seq_q": seq_q, "seq_k": seq_k,
             "m": m, "n": n, "k": k}
    workload = workload_of(kernel, model, phase, batch, seq, shape, causal, nbytes)
    result = common.simulate(load_gpu(hw), workload, kernel, common.settings(options), engine, clock, launch, l2, (sm,))
    common.write_file(output, chrome_trace_bytes(result, compress=output.suffix == ".gz"))
    if png is not None:
        common.write_figure(figure(result, begin, end, sm), png)
