"""``turbosim roofline``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turbosim.cli import common
from turbosim.cli.compare import Batches, Kernels, Seqs, run_all

if TYPE_CHECKING:
    from turbosim.views.compare import Comparison

EXAMPLE = common.examples(
    "turbosim roofline --hw a100_sxm_80gb --model phi3-medium -o a100.png",
    "turbosim roofline --hw h200_sxm --model llama3-8b --phase prefill --batch 1 --seq 1k,4k,16k "
    "--kernels flash,turbo,turbo:bits=2 -o h200.svg")


def roofline(
    hw: common.Hw,
    model: common.Model,
    phase: Annotated[str, typer.Option("--phase", help="prefill, decode, or both with a comma.")] = "prefill,decode",
    batch: Batches = "4",
    seq: Seqs = "1k,8k",
    kernels: Kernels = "flash,turbo",
    output: Annotated[Path, typer.Option("-o", "--output", help="Picture; PNG and SVG are both written.")] = Path(
        "roofline.png"),
    levels: Annotated[bool | None, typer.Option(
        "--levels/--no-levels", help="Mark every kernel's intensity at L2 and shared memory too; unless told, on "
                                     "pictures of few points.")] = None,
    engine: common.Engine = "numba",
    clock: common.Clock = "sustained",
    launch: common.LaunchMode = "graph",
    l2: common.L2State = "cold",
) -> None:
    """Draw the roofline of a GPU with simulated kernels as points, as PNG and SVG."""
    from turbosim.hw import load_gpu
    from turbosim.views.roofline import Point, figure

    common.check_output("--output", output, ".png", ".svg")
    gpu = load_gpu(hw)
    phases = [common.phase_of(p.strip()).value for p in phase.split(",")]
    points = []
    for which in dict.fromkeys(phases):
        comparisons: list[Comparison] = []
        run_all(gpu, model, which, batch, seq, kernels, engine, clock, launch, l2, comparisons, f"{which} points")
        points += [Point(label, which, item.batch, item.seq, result)
                   for item in comparisons for label, result in item.results.items()]
    batches = list(dict.fromkeys(p.batch for p in points))
    picture = figure(gpu, points, f"{model}, batch {batches[0]}" if len(batches) == 1 else model, levels)
    for suffix in (".png", ".svg"):
        common.write_figure(picture, output.with_suffix(suffix))
