"""Rows of gpu-benches as micro-benchmarks.

Left out are kernels of which the model lacks a part: L1, stencils that reuse it, barriers over the grid, FMA sweeps.
Of a pointer chase the cycles that the SM counts are taken, since far beyond L2 the wall clock also holds misses of the
address translation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from turbosim.calibration.benchmarks import Chase, Scale, SharedRead, Stream
from turbosim.calibration.programs import CHUNK_BYTES
from turbosim.calibration.rows import MicroRow, Parsed, Skip
from turbosim.hw.spec import Gpu
from turbosim.validation.cells import Line
from turbosim.validation.identity import digest_of
from turbosim.validation.row import Method

COLUMNS = frozenset({"gpu", "kernel", "metric", "value", "notes"})
KIB = 1024
STREAMS = {"stream init (write)": ("stream write", 0, 1), "stream read": ("stream read", 1, 0),
           "stream scale (1r1w)": ("stream scale", 1, 1), "stream triad (2r1w)": ("stream triad", 2, 1)}
LAUNCHES: dict[str, tuple[str, Method]] = {
    "back-to-back scale kernel, stream launches": ("launch, stream", "events"),
    "back-to-back scale kernel, CUDA graph": ("launch, graph", "graph")}
SKIPPED = {"L1/L2 load bandwidth": "L1 is not modelled", "stream 3pt": "stencils reuse L1, which is not modelled",
           "stream 5pt": "stencils reuse L1, which is not modelled",
           "back-to-back scale kernel, persistent": "barriers over the grid are not modelled",
           "roofline FMA sweep": "power of FMA, for analysis.check_power"}
WRITTEN_SHARE = 0.1
"""Of a small kernel's time, what its writes would take at the peak of device memory: up to this, the time is that of
launch and ramp. Beyond, the engine writes through to memory what L2 would keep."""
_CYCLES = re.compile(r"working set (\d+) kB; ([\d.]+) cycles at (\d+) MHz")
_TOTAL = re.compile(r"(\d+) kB total working set, (\d+) kB chunk")
_THREADS = re.compile(r"one block/SM of (\d+) threads, \d+ threads in all, ([\d.]+)% occupancy")
_ELEMENTS = re.compile(r"N=(\d+) doubles")
L1_SHARE = 0.03
"""Largest share of a working set that shared memory, and hence L1, can hold: above, an SM hits L1 too often."""
HALF = 50.0
"""Occupancy from which on pure writes are used [%]: below, posted writes are limited by what the model lacks."""


def clock_of(lines: Sequence[Line], gpu: Gpu) -> float:
    """Return the SM clock that the pointer chase of *lines* states [Hz]; the boost clock where there is none."""
    for line in lines:
        found = _CYCLES.match(line.cells["notes"])
        if found:
            return float(found[3]) * 1e6
    return gpu.clock.boost


def parse(line: Line, gpu: Gpu, clock: float) -> Parsed:
    """Return the row of *line*, or why it is not used. Raises ConfigError for what is not of the layout."""
    kernel = line.text("kernel")
    for begin, reason in SKIPPED.items():
        if kernel.startswith(begin):
            return Skip(reason)
    if kernel == "pointer chase":
        return _chase(line, gpu, clock)
    value = line.positive("value")
    line.choice("metric", ("gbps",))
    if kernel.startswith("L2/DRAM load bandwidth"):
        total, chunk = (int(text) * KIB for text in _groups(line, _TOTAL, "kB total working set, kB chunk"))
        if chunk != CHUNK_BYTES or total % chunk:
            raise line.error(f"a working set is a multiple of chunks of {CHUNK_BYTES // KIB} kB, got "
                             f"{total // KIB} and {chunk // KIB} kB")
        return MicroRow(line.where, _digest(line, 1e-9 / value, working_set=total), "L2 and DRAM read", total,
                        1e-9 / value, SharedRead(total // chunk), clock,
                        fitted=gpu.sm.smem_capacity <= L1_SHARE * total)
    if kernel in STREAMS:
        curve, reads, writes = STREAMS[kernel]
        threads, share = _groups(line, _THREADS, "one block/SM of N threads")
        return MicroRow(line.where, _digest(line, 1e-9 / value, threads=int(threads)), curve, int(threads),
                        1e-9 / value, Stream(reads, writes, int(threads)), clock,
                        fitted=reads > 0 or float(share) >= HALF)
    if kernel in LAUNCHES:
        curve, method = LAUNCHES[kernel]
        elements = int(_groups(line, _ELEMENTS, "N=N doubles")[0])
        traffic = 16 * elements
        measured = traffic * 1e-9 / value
        digest = _digest(line, measured, read=traffic // 2, written=traffic // 2)
        return MicroRow(line.where, digest, curve, traffic, measured, Scale(elements, method), clock,
                        fitted=traffic / 2 / gpu.hbm.bandwidth <= WRITTEN_SHARE * measured)
    known = ", ".join(("pointer chase", "L2/DRAM load bandwidth", *STREAMS, *LAUNCHES))
    raise line.error(f"unknown micro-benchmark {kernel!r}: not among {known}")


def _digest(line: Line, seconds: float, **shape: int) -> str:
    return digest_of(line.text("gpu"), shape, seconds)


def _groups(line: Line, pattern: re.Pattern[str], example: str) -> tuple[str, ...]:
    found = pattern.match(line.cells["notes"])
    if found is None:
        raise line.error(f"column notes must begin like {example!r}, got {line.cells['notes']!r}")
    return found.groups()


def _chase(line: Line, gpu: Gpu, clock: float) -> Parsed:
    """Return a row if its working set lies well within one level of memory."""
    kib, cycles, megahertz = _groups(line, _CYCLES, "working set N kB; N cycles at N MHz")
    size, measured = int(kib) * KIB, float(cycles) / (float(megahertz) * 1e6)
    capacity, parts = gpu.l2.capacity, gpu.l2.partitions
    if size < 3 * gpu.sm.smem_capacity:
        return Skip("L1 is not modelled")
    if size <= 0.8 * capacity / parts:
        curve, level = ("latency, L2 near", "near") if parts > 1 else ("latency, L2", "far")
    elif parts > 1 and 0.75 * capacity <= size <= 0.95 * capacity:
        curve, level = "latency, L2 far", "far"
    elif size >= 1.5 * capacity:
        curve, level = "latency, DRAM", "dram"
    else:
        return Skip("pointer chase between two levels of memory")
    digest = _digest(line, measured, working_set=size)
    return MicroRow(line.where, digest, curve, size, measured, Chase(level), clock)  # type: ignore[arg-type]
