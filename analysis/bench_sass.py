"""Speed of the issue-level model and of lifting: ``python -m analysis.bench_sass``.

Replays flash attention's machine code (sm_80, causal, 8k tokens, d = 64) on one SM with the compiled model and with its
plain definition, side by side, and times the way from Triton source to a simulated GPU: with empty caches, with full
ones, and with Triton's alone. Needs torch and triton, and no GPU.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from analysis.lifting import machine_code, tensor
from kernels.machine_code import captured
from turbosim.engine.api import run
from turbosim.hw import load_gpu
from turbosim.program.program import Program
from turbosim.sass import oracle, replay
from turbosim.sass.build import code_of, cta_class, sm_model
from turbosim.sass.cubin import Kernel
from turbosim.sass.kept import lifted_program
from turbosim.sass.launch import Launch
from turbosim.sass.lift import lift, resident
from turbosim.sass.rules import Rules

GPU = load_gpu("a100_sxm_80gb")
BATCH, HEADS, TOKENS, D, ROWS = 4, 32, 8192, 64, 128


def compiled() -> tuple[Kernel, Launch]:
    """Compile the kernel, or take it from Triton's cache and its machine code from that of the process."""
    from kernels.ops.flash import flash_prefill

    q = tensor(BATCH, HEADS, TOKENS, D)
    options = {"block_m": ROWS, "block_n": 64, "warps": 4, "stages": 3}
    kernel, launch = machine_code(captured(lambda: flash_prefill(q, q, q, True, options))[0], GPU.name)
    return kernel, replace(launch, grid=(math.ceil(TOKENS / ROWS), HEADS, BATCH))


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that *act* takes, and what it returns."""
    start = time.perf_counter()
    found = act()
    return time.perf_counter() - start, found


def main() -> None:
    """Print the measurements."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = os.environ["TURBOSIM_CACHE_DIR"] = cache
        # As kept, and with everything but the program.
        ways: dict[str, Callable[[Kernel, Launch], Program]] = {
            "cold": lambda k, c: lifted_program(k, c, GPU), "warm": lambda k, c: lifted_program(k, c, GPU),
            "warm, lifted anew": lambda k, c: lift(k, c, GPU).program}
        for state, way in ways.items():
            compiling, (kernel, launch) = timed(compiled)
            lifting, program = timed(partial(way, kernel, launch))
            simulating, result = timed(partial(run, GPU, program))
            print(f"{state}: compile {compiling:.2f} s, lift {lifting:.2f} s, simulate {simulating:.2f} s, "
                  f"together {compiling + lifting + simulating:.2f} s for {result.time_s * 1e3:.3f} ms on the GPU")
    slots = resident(kernel, launch, GPU)
    one, walks = cta_class(kernel, launch, (launch.grid[0] // 2, 0, 0))
    case = code_of(kernel, Rules.of(GPU), walks), [one]
    model = sm_model(GPU, GPU.clock.hertz("sustained"))
    replay.replay(*case, [0], 1, model)
    fast, many = timed(lambda: replay.replay(*case, [0] * slots * 8, slots, model))
    slow, few = timed(lambda: oracle.replay(*case, [0], 1, model))
    rates = many.instructions / fast / 1e6, few.instructions / slow / 1e6
    print(f"replay: {rates[0]:.1f} million warp instructions a second ({many.instructions:,} in {fast:.2f} s), "
          f"plain definition {rates[1]:.3f} million, ratio {rates[0] / rates[1]:.0f}")


if __name__ == "__main__":
    main()
