"""Benchmark of sweeps, all in one run: ``python -m analysis.bench_sweep``.

Prints points per second and core, the gain of a second core, the share of time that the journal takes, the peak memory
of 10,000 points on a local pool, or with ``--dask`` on a cluster of two worker processes, and the time of resuming when
all are done.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from turbosim.study.document import read_study
from turbosim.study.sweep import Report, run_study

SPEED = """\
title: "{kernel} {phase} at 8k"
hw: h200_sxm
kernel: "{kernel}"
workload: {{model: llama3-8b, phase: {phase}, batch: 1, seq: 8k}}
axes:
  hbm.bandwidth: {{from: 2 TB/s, to: 8 TB/s}}
  pipes.sfu.rate: {{from: 8, to: 64}}
  sm.smem_bandwidth: {{from: 96 B/clk, to: 192 B/clk}}
sampling: {{method: latin-hypercube, points: {points}, seed: 1}}
"""
MANY = """\
title: many small points
hw: h200_sxm
kernel: flash
workload: {{model: llama3-8b, phase: decode, batch: 1, seq: 1k}}
axes:
  hbm.bandwidth: {{from: 2 TB/s, to: 8 TB/s}}
  pipes.sfu.rate: {{from: 8, to: 64}}
sampling: {{method: latin-hypercube, points: {points}, seed: 1}}
"""


TWO_CORES = 1.9
"""Rounds in which two processes that share nothing do less than this many times the work of one are not counted: other
work had a part of the second core."""


def swept(folder: Path, text: str, name: str, jobs: int) -> Report:
    """Return the report of a sweep in a folder of its own."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return run_study(read_study(path), folder / name, jobs=jobs)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those it has waited for [s]."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(x.ru_utime + x.ru_stime for x in used)


def spin(seconds: float) -> int:
    """Return how many digests of 4 KiB one process computes in *seconds*."""
    data, done, end = bytes(4096), 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        hashlib.sha256(data).digest()
        done += 1
    return done


def machine_gain(pool: ProcessPoolExecutor, seconds: float = 1.0) -> float:
    """Return how many times the work of one process two do at once that share nothing: all that a sweep can gain."""
    alone = pool.submit(spin, seconds).result()
    return sum(x.result() for x in [pool.submit(spin, seconds) for _ in range(2)]) / alone


@dataclass(frozen=True)
class Round:
    """A sweep on one core, then one of twice the points on two."""

    rates: tuple[float, float]
    """Points a second, on one core and on two."""
    per_cpu: tuple[float, float]
    """Points per second of CPU time, which other work on the machine changes less."""
    journal: float
    """The larger share of the processes' time that the journal took."""
    machine: float
    """The least that two processes that share nothing gained, before, between and after."""

    @property
    def gain(self) -> float:
        """What the second core gained."""
        return self.rates[1] / self.rates[0]


def round_of(folder: Path, phase: str, kernel: str, points: int, pool: ProcessPoolExecutor, number: int) -> Round:
    """Sweep on one core and on two; that processes have to start is part of it."""
    machine, rates, per_cpu, journal = [machine_gain(pool)], [], [], []
    for jobs in (1, 2):
        before = cpu_seconds()
        text = SPEED.format(kernel=kernel, phase=phase, points=points * jobs)
        report = swept(folder, text, f"{phase}-{kernel}-{jobs}-{number}", jobs)
        rates.append(report.simulated / report.seconds)
        per_cpu.append(report.simulated / (cpu_seconds() - before))
        journal.append(report.journal_s / (report.seconds * jobs))
        machine.append(machine_gain(pool))
    return Round((rates[0], rates[1]), (per_cpu[0], per_cpu[1]), max(journal), min(machine))


def speed(folder: Path, phase: str, kernel: str, points: int, target: float, rounds: int) -> None:
    """Print medians of *rounds* in which the machine had two cores to give, and how many it had not, up to as many."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        machine_gain(pool, 0.1)
        every: list[Round] = []
        while len(every) < 2 * rounds and sum(r.machine >= TWO_CORES for r in every) < rounds:
            every.append(round_of(folder, phase, kernel, points, pool, len(every)))
    good = [r for r in every if r.machine >= TWO_CORES]
    told = good or every
    one, two, one_cpu, two_cpu, gain, machine, journal = (median(x) for x in zip(*(
        (*r.rates, *r.per_cpu, r.gain, r.machine, r.journal) for r in told), strict=True))
    print(f"{phase:8} {kernel:8} {target:7.0f} {one:9.1f} {one_cpu:9.1f} {two:9.1f} {two_cpu:9.1f} {gain:6.2f} "
          f"{min(r.gain for r in told):6.2f} {max(r.gain for r in told):6.2f} {machine:9.2f} {journal:8.2%}   "
          f"{len(good)} of {len(every)}", flush=True)


def speeds(folder: Path, scale: float, rounds: int) -> None:
    """Print the speed of every phase and kernel, *scale* times as many points of each."""
    print("targets: points per second and core as below, 1.8 times as many on two cores (where two processes "
          "that share nothing, \"machine\", get near 2), journal under 2 %, 10,000 points resumed in under 5 s\n"
          f"medians of {rounds} rounds of one core and two in turn; those count in which \"machine\" is at least "
          f"{TWO_CORES}, if any is\n"
          "                            1 core             2 cores             gain\n"
          f"{'phase':8} {'kernel':8} {'target':>7} {'/s':>9} {'/CPU s':>9} {'/s':>9} {'/CPU s':>9} {'median':>6} "
          f"{'least':>6} {'most':>6} {'machine':>9} {'journal':>8}   rounds")
    for phase, kernel, points, target in (
            ("decode", "flash", 6000, 20), ("decode", "turbo", 2000, 20), ("prefill", "flash", 380, 5),
            ("prefill", "flash3", 420, 5), ("prefill", "turbo", 280, 5)):
        speed(folder, phase, kernel, max(1, int(points * scale)), target, rounds)


def many(folder: Path, points: int, jobs: int, dask: str = "") -> None:
    """Print time and memory of many points, and the time of resuming with all of them done, each a process.

    *jobs* processes share the points, or the workers of the dask scheduler at *dask*, if given.
    """
    path = folder / "many.yaml"
    path.write_text(MANY.format(points=points))
    program = ("import re, resource, sys, time\n"
               "start = time.perf_counter()\n"
               "from pathlib import Path\n"
               "from turbosim.study.document import read_study\n"
               "from turbosim.study.sweep import run_study\n"
               "if __name__ == '__main__':\n"
               "    study = read_study(Path(sys.argv[1]))\n"
               "    how = {'dask': sys.argv[4]} if sys.argv[4] else {'jobs': int(sys.argv[3])}\n"
               "    report = run_study(study, Path(sys.argv[2]), **how)\n"
               "    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3\n"
               # ru_maxrss is that of the process which started this one, if larger.
               "    kilobytes = re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]\n"
               "    one = '' if sys.argv[4] else f'one worker {workers:.0f} MB, '\n"
               "    print(f'{report.simulated:,} simulated, {report.before:,} done before: '\n"
               "          f'{time.perf_counter() - start:.1f} s, peak {int(kilobytes) * 1024 / 1e6:.0f} MB, {one}'\n"
               "          f'journal {report.journal_s / (report.seconds * int(sys.argv[3])):.2%}')\n")
    script = folder / "many.py"
    script.write_text(program)
    where = f"cluster of {jobs} dask workers, peak of its client" if dask else f"{jobs} processes"
    print(f"\n{points:,} points, {where}; then the same again")
    for _ in range(2):
        subprocess.run([sys.executable, script, path, folder / "many", str(jobs), dask], check=True,
                       env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "turbosim", "sweep", path, "-o", folder / "many", "--json",
                        *(("--dask", dask) if dask else ())], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    print(f"turbosim sweep with all done, parquet written anew: {median(taken):.1f} s "
          f"({min(taken):.1f} to {max(taken):.1f} s)")


def cluster_of(workers: int, stack: ExitStack) -> str:
    """Return the address of the scheduler of a dask cluster with *workers* processes, which *stack* ends."""
    from distributed import LocalCluster

    cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, processes=True,
                                               dashboard_address=":0", host="127.0.0.1", silence_logs=50))
    return str(cluster.scheduler_address)


def main() -> None:
    """Run all parts."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--points", type=int, default=10_000, help="of the large study; 0 leaves it out")
    arguments.add_argument("--scale", type=float, default=1.0, help="of the number of points whose speed is measured")
    arguments.add_argument("--rounds", type=int, default=3, help="of one core and two, in turn")
    arguments.add_argument("--dask", action="store_true", help="the large study on a dask cluster of two workers")
    chosen = arguments.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}; "
          "llama3-8b, batch 1, H200")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        swept(folder, SPEED.format(kernel="flash", phase="decode", points=2), "compile", 1)
        if chosen.scale:
            speeds(folder, chosen.scale, chosen.rounds)
        if chosen.points:
            with ExitStack() as stack:
                many(folder, chosen.points, 2, cluster_of(2, stack) if chosen.dask else "")
    print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
