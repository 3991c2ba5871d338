"""Speed of the issue-level model and of lifting: ``python -m analysis.bench_sass``.

Replays flash attention's machine code (sm_80, causal, 8k tokens, d = 64) on one SM with the compiled model and with its
plain definition, side by side, and times the way from Triton source to a simulated GPU in new processes, with empty
caches and with full ones. Needs torch and triton, and no GPU.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from analysis.lifting import machine_code, tensor
from kernels.machine_code import captured
from turbosim.hw import load_gpu
from turbosim.sass import oracle, replay
from turbosim.sass.build import code_of, cta_class, sm_model
from turbosim.sass.cubin import Kernel
from turbosim.sass.launch import Launch
from turbosim.sass.lift import resident
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


WAY = """
import json, time
from time import perf_counter
start = perf_counter()
from turbosim.api import lift_kernel, simulate_kernel
asked = %r, "kernels/flash.py:fwd", {"queries": %d, "CAUSAL": True}
loaded = perf_counter()
lift_kernel(*asked)
lifted = perf_counter()
result = simulate_kernel(*asked)
first = perf_counter()
simulate_kernel(*asked)
print(json.dumps([loaded - start, lifted - loaded, first - lifted, perf_counter() - first, result.time_s]))
"""
"""From Triton source to a time on a GPU, as a user of the library goes it; the last simulation finds all kept."""
TIMES = 5
"""Of each measurement, of which the median is printed: other work on the machine comes and goes."""


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that *act* takes, and what it returns."""
    start = time.perf_counter()
    found = act()
    return time.perf_counter() - start, found


def way(cache: str) -> list[float]:
    """Go the way in a new process; return the seconds of its parts, the GPU's time, and the process's seconds."""
    environment = {**os.environ, "TRITON_CACHE_DIR": cache, "TURBOSIM_CACHE_DIR": cache}
    whole, done = timed(lambda: subprocess.run([sys.executable, "-c", WAY % (GPU.name, TOKENS)], check=True,
                                               capture_output=True, text=True, env=environment))
    return [*json.loads(done.stdout), whole]


def ways() -> None:
    """Print how long the way from source to time takes, with empty caches and with full ones."""
    found: dict[str, list[list[float]]] = {"empty": [], "full": []}
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory() as cache:
            for runs in found.values():
                runs.append(way(cache))
    print("aims: with empty caches compile, lift and simulate in 5 s, with full ones in 0.5 s")
    for state, runs in found.items():
        loading, lifting, simulating, again, seconds, whole = (statistics.median(x) for x in zip(*runs, strict=True))
        together = [sum(run[1:3]) for run in runs]
        print(f"{state} caches: compile and lift {lifting:.2f} s, simulate {simulating:.2f} s, together "
              f"{statistics.median(together):.2f} s ({min(together):.2f} to {max(together):.2f}) for "
              f"{seconds * 1e3:.3f} ms on the GPU; again {again:.2f} s; loading turbosim {loading:.2f} s, the process "
              f"{whole:.2f} s")


def main() -> None:
    """Print the measurements."""
    # What numba keeps of the compiled models is kept from here on, as on any machine in use.
    ways()
    kernel, launch = compiled()
    slots = resident(kernel, launch, GPU)
    one, walks = cta_class(kernel, launch, (launch.grid[0] // 2, 0, 0))
    case = code_of(kernel, Rules.of(GPU), walks), [one]
    model = sm_model(GPU, GPU.clock.hertz("sustained"))
    replay.replay(*case, [0], 1, model)
    began = time.process_time()
    runs = [timed(lambda: replay.replay(*case, [0] * slots * 8, slots, model)) for _ in range(TIMES)]
    cpu = (time.process_time() - began) / TIMES
    fast, many = statistics.median(seconds for seconds, _ in runs), runs[0][1]
    slow, few = timed(lambda: oracle.replay(*case, [0], 1, model))
    rates = many.instructions / fast / 1e6, few.instructions / slow / 1e6
    print("aim: 10 million warp instructions a second and core")
    print(f"replay: {rates[0]:.1f} million warp instructions a second ({many.instructions:,} in {fast:.2f} s; "
          f"{many.instructions / cpu / 1e6:.1f} million a second of CPU time), "
          f"plain definition {rates[1]:.3f} million, ratio {rates[0] / rates[1]:.0f}")


if __name__ == "__main__":
    main()
