"""Hardware counters through Nsight Compute: bytes, L2 hit rate, busy pipes, cycles.

``ncu`` replays every kernel once per group of counters, with its caches emptied and without locking the clocks. Cases
run in batches, because starting it takes long; a marker kernel separates them in its output.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernels.measure.cases import Case
from kernels.measure.failures import shorten
from kernels.measure.link import DeadlineError, child_environment
from kernels.measure.schema import Value
from turbosim.errors import TurbosimError

BATCH = 8
START_S = 30.0
"""Time to begin a batch with."""
CASE_TIMEOUT_S = 60.0
MARKER = "counters_marker"

SUMS: dict[str, tuple[str, ...]] = {
    "time_s": ("gpu__time_duration.sum",),
    "cycles": ("sm__cycles_elapsed.max",),
    "dram_read_bytes": ("dram__bytes_read.sum",),
    "dram_write_bytes": ("dram__bytes_write.sum",),
}
"""Columns that add up over the kernels of a case -> metrics, the first that the GPU has."""
_BUSY = ".avg.pct_of_peak_sustained_elapsed"
SHARES: dict[str, tuple[str, ...]] = {
    "l2_hit_rate": ("lts__t_sector_hit_rate.pct",),
    "tensor_util": (f"sm__pipe_tensor_cycles_active{_BUSY}", f"sm__inst_executed_pipe_tensor{_BUSY}"),
    "xu_util": (f"sm__inst_executed_pipe_xu{_BUSY}",),
    "fma_util": (f"sm__pipe_fma_cycles_active{_BUSY}", f"sm__inst_executed_pipe_fma{_BUSY}"),
    "alu_util": (f"sm__pipe_alu_cycles_active{_BUSY}", f"sm__inst_executed_pipe_alu{_BUSY}"),
    "issue_util": (f"sm__issue_active{_BUSY}", f"smsp__issue_active{_BUSY}"),
}
"""Columns in percent, averaged over the kernels of a case by their time."""
UNITS = {"s": 1.0, "second": 1.0, "ms": 1e-3, "msecond": 1e-3, "us": 1e-6, "usecond": 1e-6, "ns": 1e-9, "nsecond": 1e-9}
Counts = dict[str, float]
"""Metric -> value of one kernel; time in seconds."""


def find_ncu() -> str:
    """Return the path of ``ncu``. Raises TurbosimError when there is none."""
    path = shutil.which("ncu")
    if path is None:
        raise TurbosimError("--counters: ncu is not on the PATH; install Nsight Compute, or leave the option out")
    return path


def choose(known: set[str]) -> dict[str, str]:
    """Return the metric of every column, among the base names *known* that ``ncu --query-metrics`` lists."""
    chosen = {}
    for column, metrics in {**SUMS, **SHARES}.items():
        for metric in metrics:
            if metric.split(".")[0] in known:
                chosen[column] = metric
                break
    return chosen


def parse(text: str) -> list[tuple[str, Counts]]:
    """Return (kernel name, counts) of every profiled kernel in *text*, the CSV output of ``ncu``, in order."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    kernels: dict[str, tuple[str, Counts]] = {}
    for row in csv.DictReader(lines):
        _, counts = kernels.setdefault(row["ID"], (row["Kernel Name"], {}))
        try:
            value = float(row["Metric Value"].replace(",", ""))
        except ValueError:
            continue
        counts[row["Metric Name"]] = value * UNITS.get(row["Metric Unit"], 1.0)
    return list(kernels.values())


def split(kernels: Sequence[tuple[str, Counts]]) -> list[list[Counts]]:
    """Return the kernels of each case: those that follow each marker."""
    cases: list[list[Counts]] = []
    for name, counts in kernels:
        if MARKER in name:
            cases.append([])
        elif cases:
            cases[-1].append(counts)
    return cases


def combine(kernels: Sequence[Counts], metrics: Mapping[str, str]) -> dict[str, Value]:
    """Return the columns of a case from the counts of its kernels; a column without counts is left out."""
    columns: dict[str, Value] = {}
    weights = [counts.get(metrics.get("time_s", ""), 0.0) for counts in kernels]
    for column, metric in metrics.items():
        if not all(metric in counts for counts in kernels):
            continue
        values = [counts[metric] for counts in kernels]
        if column in SUMS:
            columns[column] = sum(values)
        elif sum(weights) > 0:
            columns[column] = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights) / 100
    return columns


def profile(cases: Sequence[Case], names: Mapping[str, str], deadline: float) -> dict[str, dict[str, Value]]:
    """Return the counter columns, with ``status`` and ``reason``, of the first of *cases*, at least one, by key.

    Cases after one that ended the process are left out. Raises DeadlineError at *deadline* on the monotonic clock, and
    TurbosimError when ``ncu`` cannot profile at all.
    """
    ncu = find_ncu()
    metrics = choose(_known_metrics(ncu))
    with tempfile.TemporaryDirectory() as directory:
        job, outcomes, log = (Path(directory) / name for name in ("job.json", "outcomes.jsonl", "ncu.csv"))
        job.write_text(json.dumps({"names": dict(names), "cases": [case.to_json() for case in cases]}))
        command = [ncu, "--csv", "--print-units", "base", "--metrics", ",".join(metrics.values()),
                   "--log-file", str(log), "--profile-from-start", "off", "--target-processes", "all",
                   "--clock-control", "none", "--cache-control", "all",
                   sys.executable, "-m", "kernels.measure.profiled", str(job), str(outcomes)]
        limit = START_S + CASE_TIMEOUT_S * len(cases)
        left = deadline - time.monotonic()
        try:
            code, output = _run(command, min(limit, max(left, 1)))
            ended = f"exit code {code}"
        except subprocess.TimeoutExpired:
            if left <= limit:
                raise DeadlineError from None
            ended, output = f"timed out after {limit:g} s", ""
        text = log.read_text(errors="replace") if log.exists() else ""
        finished = [json.loads(line) for line in outcomes.read_text().splitlines()] if outcomes.exists() else []
    problem = next((line for line in (text + "\n" + output).splitlines() if "==ERROR==" in line), "")
    groups = split(parse(text))
    if not groups and problem:
        raise TurbosimError(shorten(f"--counters: ncu cannot profile here: {problem.replace('==ERROR==', '').strip()}"))
    return _results(cases, finished, groups, metrics, f"ncu: {ended}{problem and ': ' + problem}")


def _run(command: Sequence[str], timeout_s: float) -> tuple[int, str]:
    """Return exit code and output. Raises subprocess.TimeoutExpired.

    When the wait is cut short, the process that ncu profiles ends too: left alone it would keep the GPU busy.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               env=child_environment(), start_new_session=True)
    with process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output


def _results(cases: Sequence[Case], finished: Sequence[Mapping[str, Any]], groups: list[list[Counts]],
             metrics: Mapping[str, str], problem: str) -> dict[str, dict[str, Value]]:
    results: dict[str, dict[str, Value]] = {}
    remaining = iter(groups)
    for case, outcome in zip(cases, finished, strict=False):
        kernels = next(remaining, []) if outcome["marked"] else []
        if outcome["reason"] is not None:
            results[case.key] = {"status": "failed", "reason": str(outcome["reason"])}
        elif not kernels:
            results[case.key] = {"status": "failed", "reason": shorten(f"no kernel was profiled; {problem}")}
        else:
            results[case.key] = {"status": "ok", **combine(kernels, metrics)}
    # The process ends by itself after a case that has left the GPU unusable, else in the case it had begun.
    if len(finished) < len(cases) and not (finished and finished[-1]["fatal"]):
        results[cases[len(finished)].key] = {"status": "failed", "reason": shorten(problem)}
    return results


@functools.cache
def _known_metrics(ncu: str) -> set[str]:
    """Return the base names of the metrics of this GPU."""
    try:
        done = subprocess.run([ncu, "--query-metrics"], capture_output=True, text=True, timeout=120, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise TurbosimError(shorten(f"--counters: ncu does not list its metrics: {error}")) from None
    return {line.split()[0] for line in done.stdout.splitlines() if line.split()}
