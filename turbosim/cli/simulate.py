"""``turbosim simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turbosim.cli import common
from turbosim.cli.common import ClockChoice, EngineChoice, L2Choice, LaunchChoice
from turbosim.errors import UsageError

if TYPE_CHECKING:
    from turbosim.workload import Workload

EXAMPLE = ("Examples: turbosim simulate --hw h200_sxm --kernel turbo --phase prefill --model phi3-medium --batch 4 "
           "--seq 8192 | turbosim simulate --hw a100_sxm_80gb --kernel gemm --m 4096 --n 4096 --k 4096 "
           "--set dtype=int8 "
           "| turbosim simulate --hw l4 --kernel copy --bytes '1 GiB' --json")

Number = Annotated[int | None, typer.Option()]
Causal = Annotated[bool | None, typer.Option("--causal/--no-causal", help="Default: causal in prefill.")]


def workload_of(kernel: str, model: str | None, phase: str, batch: int, seq: str | None, shape: dict[str, int | None],
                causal: bool | None, nbytes: str | None) -> Workload:
    """Return the workload the options describe. Raises UsageError for a combination that describes none."""
    from turbosim.schedules.registry import get_schedule
    from turbosim.workload import Attention, CopyBytes, Gemm, Phase, attention_of, get_model

    get_schedule(kernel)
    if kernel == "gemm":
        sizes = {n: shape[n] for n in ("m", "n", "k")}
        if None in sizes.values():
            raise UsageError("kernel 'gemm' needs --m, --n and --k")
        return Gemm(**{n: v for n, v in sizes.items() if v is not None})
    if kernel == "copy":
        if nbytes is None:
            raise UsageError("kernel 'copy' needs --bytes, for example --bytes '1 GiB'")
        return CopyBytes(common.nbytes(nbytes))
    which = common.phase_of(phase)
    if batch < 1:
        raise UsageError(f"--batch: must be at least 1, got {batch}")
    if model is not None:
        if seq is None:
            raise UsageError("--model needs --seq, for example --seq 8k")
        return attention_of(get_model(model), which, batch, common.count(seq, "--seq"))
    heads, dim = shape["q_heads"], shape["head_dim"]
    keys = shape["seq_k"] if shape["seq_k"] is not None else (None if seq is None else common.count(seq, "--seq"))
    if heads is None or dim is None or keys is None:
        raise UsageError("describe the attention with --model and --seq, or with --q-heads, --head-dim and --seq")
    prefill = which is Phase.PREFILL
    queries = shape["seq_q"] if shape["seq_q"] is not None else (keys if prefill else 1)
    kv_heads = shape["kv_heads"] if shape["kv_heads"] is not None else heads
    return Attention(batch, heads, kv_heads, queries, keys, dim, prefill if causal is None else causal, which)


def simulate(
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
    trace: Annotated[Path | None, typer.Option(help="Replay a saved program instead of a kernel.")] = None,
    save_trace: Annotated[Path | None, typer.Option(help="Save the program (.json or .gz).")] = None,
    engine: common.Engine = EngineChoice.NUMBA,
    clock: common.Clock = ClockChoice.SUSTAINED,
    launch: common.LaunchMode = LaunchChoice.GRAPH,
    l2: common.L2State = L2Choice.COLD,
    as_json: common.Json = False,
) -> None:
    """Simulate one kernel on one GPU: time, throughput, bandwidth, utilisation, and where the time goes."""
    from turbosim.hw import load_gpu
    from turbosim.views.summary import to_json, to_table

    gpu = load_gpu(hw)
    if save_trace is not None:
        common.check_output("--save-trace", save_trace)
    if trace is not None:
        from turbosim.engine.api import run
        from turbosim.program.store import load

        program = load(trace)
        common.announce_compilation(engine)
        with common.progress(program.name) as report:
            result = run(gpu, program, engine=engine.value, clock=clock.value, launch=launch.value, l2=l2.value,
                         progress=report)
    else:
        shape = {"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim, "seq_q": seq_q, "seq_k": seq_k,
                 "m": m, "n": n, "k": k}
        workload = workload_of(kernel, model, phase, batch, seq, shape, causal, nbytes)
        chosen = common.settings(options)
        if save_trace is not None:
            from turbosim.api import build_program
            from turbosim.program.store import save

            save(build_program(gpu, workload, kernel, dict(chosen)), save_trace)
        result = common.simulate(gpu, workload, kernel, chosen, engine, clock, launch, l2)
    if as_json:
        common.emit_json(to_json(result))
    else:
        common.console().print(to_table(result))
