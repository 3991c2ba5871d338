"""Benchmark of the engines, side by side in one run: ``python -m analysis.bench_engines``.

Prints the speed of numba (full replay, and with fast-forward) over SimPy on the same programs, the cost of Llama-3-8B
attention on an H200 as the sequence grows, its peak memory, and the wall time of whole ``turbosim simulate`` processes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

from turbosim import Phase, attention_of, build_program, get_model, load_gpu, simulate, with_overrides
from turbosim.engine.lower import lower
from turbosim.engine.lowered import LoweredProgram
from turbosim.engine.numba_engine import NumbaEngine
from turbosim.engine.simpy_engine import SimpyEngine

LENGTHS = (1024, 4096, 8192, 16384, 32768, 65536, 131072)


def timed(engine: NumbaEngine | SimpyEngine, program: LoweredProgram) -> tuple[float, int, int]:
    """Return (seconds, tile operations, ticks) of a whole replay."""
    start = time.perf_counter()
    totals = [engine.run_launch(i)[0] for i in range(len(program.launches))]
    return time.perf_counter() - start, sum(t.ops for t in totals), sum(t.ticks for t in totals)


def best(make: type[NumbaEngine], program: LoweredProgram, runs: int, **options: bool) -> tuple[float, int, int]:
    """Return the fastest of *runs* replays."""
    return min(timed(make(program, **options), program) for _ in range(runs))


def compare_engines() -> None:
    """Print seconds, operations per second and ratios of the engines on the same programs."""
    print("engines on the same program (SimPy once, numba best of 5)")
    print(f"{'program':34} {'tile ops':>10} {'SimPy s':>9} {'numba s':>9} {'ratio':>7} {'M ops/s':>8} "
          f"{'fast-fwd s':>10} {'ratio':>7}")
    gpu = load_gpu("h200_sxm")
    small = with_overrides(gpu, {"sm.count": 16, "hbm.bandwidth": gpu.hbm.bandwidth * 16 / 132})
    for kernel, phase, seq in (("flash", Phase.PREFILL, 2048), ("turbo", Phase.PREFILL, 2048),
                               ("flash", Phase.DECODE, 32768), ("turbo", Phase.DECODE, 32768)):
        program = lower(small, build_program(small, attention_of(get_model("llama3-8b"), phase, 1, seq), kernel))
        slow, ops, ticks = timed(SimpyEngine(program), program)
        full, _, same = best(NumbaEngine, program, 5, fast_forward=False)
        fast, _, also = best(NumbaEngine, program, 5)
        if not ticks == same == also:
            raise AssertionError("the engines disagree")
        print(f"{f'{kernel} {phase.value} {seq} on 16 SMs':34} {ops:10,} {slow:9.2f} {full:9.4f} {slow / full:7.0f} "
              f"{ops / full / 1e6:8.1f} {fast:10.4f} {slow / fast:7.0f}")


def scale(phase: Phase, kernel: str) -> None:
    """Print the cost of one simulation as the sequence grows."""
    print(f"\nllama3-8b {phase.value}, {kernel}, batch 1, on h200_sxm: whole simulate() calls")
    print(f"{'tokens':>8} {'wall s':>8} {'tile ops':>14} {'M ops/s':>8} {'simulated':>12} {'peak MB':>8}")
    for seq in LENGTHS:
        start = time.perf_counter()
        result = simulate("h200_sxm", attention_of(get_model("llama3-8b"), phase, 1, seq), kernel)
        wall = time.perf_counter() - start
        ops = sum(x.ops for x in result.launches)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"{seq:8} {wall:8.3f} {ops:14,} {ops / wall / 1e6:8.1f} {result.time_s * 1e3:9.3f} ms {peak:8.0f}")


def processes() -> None:
    """Print the wall time of whole processes; the first may compile."""
    print("\nwhole processes")
    for words in ("--kernel flash --model llama3-8b --seq 8192",
                  "--kernel turbo --phase prefill --model phi3-medium --batch 4 --seq 8192"):
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "turbosim", "simulate", "--hw", "h200_sxm", *words.split(), "--json"],
                           check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
        print(f"  turbosim simulate --hw h200_sxm {words}: {', '.join(f'{s:.2f}' for s in seconds)} s")


def main() -> None:
    """Run all parts."""
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}; one thread is used")
    start = time.perf_counter()
    simulate("h200_sxm", attention_of(get_model("llama3-8b"), Phase.PREFILL, 1, 256), "flash")
    print(f"first simulation, with compilation or its cache: {time.perf_counter() - start:.1f} s\n")
    compare_engines()
    for kernel in ("flash", "turbo"):
        scale(Phase.PREFILL, kernel)
    for kernel in ("flash", "turbo", "kivi", "gear"):
        scale(Phase.DECODE, kernel)
    processes()


if __name__ == "__main__":
    main()
