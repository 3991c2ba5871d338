"""``turbosim lift``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common, kernel

EXAMPLE = common.examples(
    "turbosim lift kernels/flash.py:fwd --target sm_90 --set queries=8k --set BLOCK_M=128 -o flash.trace && turbosim "
    "simulate --hw h200_sxm --trace flash.trace",
    "turbosim lift kernels/examples/softmax.py:softmax --hw a100_sxm_80gb -o softmax.trace",
    "turbosim lift softmax.yaml --hw l4 --set rows=1k -o softmax.trace",
    "turbosim lift softmax.cubin --target sm_80 -o softmax.trace",
    after="The trace is for one GPU: durations of its blocks are those of an SM of that GPU. `turbosim simulate` warns "
          "on a GPU whose SM differs, and refuses one that does not run the machine code.")


def lift(
    name: kernel.KernelName,
    output: Annotated[Path, typer.Option("-o", "--output", help="Trace; compressed if it ends in .gz.")],
    hw: kernel.Hw = None,
    target: kernel.Target = None,
    settings: kernel.Settings = None,
    launch_file: kernel.LaunchFile = None,
    clock: common.Clock = "sustained",
) -> None:
    """Write a Triton kernel, compiled for a GPU that need not be present, or a kernel of a cubin as a program, a trace.
    """
    from turbosim.program.store import save
    from turbosim.program.validate import validate
    from turbosim.sass.prepare import prepare, program_of

    common.check_output("--output", output)
    gpu = kernel.chosen_gpu(hw, target)
    description, values = kernel.described(name, launch_file, settings)
    prepared = prepare(description, gpu, values)
    kernel.announce_replay()
    program = program_of(prepared, gpu, clock)  # type: ignore[arg-type]
    validate(program)
    common.tell_assumed(program.meta)
    save(program, output)
    common.say_written(output)
