"""Counters of a profiler: which columns hold them, which values can be, and what a simulation has in their place.

The columns are those of ``python -m kernels.measure --counters`` (``kernels/measure/counters.py`` has the metrics of
Nsight Compute). Bytes add up over the kernels of a run; shares are averaged over them by their time. Time in which no
kernel runs is in none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from turbosim.hw import load_gpu
from turbosim.hw.spec import Gpu, Unit
from turbosim.result import LaunchResult, Result
from turbosim.units import parse, show
from turbosim.validation.cells import Line
from turbosim.validation.roofline import compute_seconds, read_write_bytes, roofline_seconds
from turbosim.validation.row import L2State, Row

SLACK = 0.02
"""Several replays of a kernel give its counters; they need not fit each other, nor its time, more exactly."""
TOO_FEW = 1 / 100
"""Share of the inputs below which bytes read with a cold cache are taken for some in a larger unit."""
CLOCKS = (1e8, 5e9)
"""SM clocks that GPUs have [Hz]."""


@dataclass(frozen=True)
class Counter:
    """A column, and what is compared with it."""

    name: str
    measured: str
    predicted: str
    unit: Unit | None = None
    """Whose busy share it is."""

    @property
    def in_bytes(self) -> bool:
        """Whether it is bytes; else it is a share from 0 to 1."""
        return self.name.endswith("_bytes")


COUNTERS: dict[str, Counter] = {c.name: c for c in (
    Counter("dram_read_bytes", "bytes read from device memory", "the same"),
    Counter("dram_write_bytes", "bytes written to device memory while kernels run",
            "bytes stored, less what a cold L2 keeps dirty at the end (l2.dirty_share of it); from a dirty one also "
            "the foreign lines that make room"),
    Counter("l2_hit_rate", "share of all sector accesses of L2 that hit",
            "share of loaded and stored bytes: loads hit that need no read of device memory of their own, stores do"),
    Counter("tensor_util", "share of cycles the tensor cores are busy", "the same", Unit.TENSOR),
    Counter("xu_util", "share of the XU's instruction rate", "busy share of the SFUs, which convert, too", Unit.SFU),
    Counter("fma_util", "share of cycles the FMA pipe is busy", "the same", Unit.FMA),
    Counter("alu_util", "share of cycles the ALU is busy", "busy share of the integer pipe, without packing", Unit.INT),
    Counter("issue_util", "share of cycles in which schedulers issue", "the same", Unit.ISSUE))}
ROOFLINE = ("dram_read_bytes", "dram_write_bytes", "tensor_util")
"""What the roofline predicts: inputs and outputs once, and compute over the whole time."""


@lru_cache(maxsize=32)
def _shipped(gpu: str) -> Gpu:
    return load_gpu(gpu)


def read_counters(line: Line) -> tuple[tuple[str, float], ...]:
    """Return the counters that *line* has. Raises ConfigError, with the place, for bytes or shares that cannot be."""
    found = []
    for counter in COUNTERS.values():
        if not line.cells.get(counter.name, "").strip():
            continue
        value = line.number(counter.name)
        if value < 0:
            raise line.error_in(counter.name, f"must be at least 0, got {value:g}; correct it, or leave it empty")
        if not counter.in_bytes and value > 1 + SLACK:
            hint = f"is it in percent? Then write {value / 100:g}" if value <= 100 * (1 + SLACK) else \
                "correct it, or leave it empty"
            raise line.error_in(counter.name, f"must be a share from 0 to 1, got {value:g}; {hint}")
        found.append((counter.name, value))
    return tuple(found)


def sm_clock(line: Line) -> float:
    """Return the SM clock in column ``sm_clock_hz`` [Hz]. Raises ConfigError, with the place, for no clock of a GPU."""
    hertz, (low, high) = line.positive("sm_clock_hz"), CLOCKS
    if not low <= hertz <= high:
        units = [unit for unit, size in (("kHz", 1e3), ("MHz", 1e6), ("GHz", 1e9)) if low <= hertz * size <= high]
        fix = f"is it in {units[0]}? Then write {parse(f'{hertz!r} {units[0]}', 'Hz'):g}" if units else "correct it"
        raise line.error_in("sm_clock_hz", f"must be an SM clock in Hz, {show(low, 'Hz', 3)} to {show(high, 'Hz', 3)}, "
                                           f"got {hertz:g}; {fix}")
    return hertz


def clock_of(line: Line, time_s: float) -> float:
    """Return the SM clock of a profiled row [Hz], its ``cycles`` over its time. Raises ConfigError for no clock."""
    cycles = line.number("cycles")
    low, high = CLOCKS
    if not low <= cycles / time_s <= high:
        raise line.error_in("cycles", f"must be SM cycles of the same run, at {show(low, 'Hz', 3)} to "
                                      f"{show(high, 'Hz', 3)}, got {cycles:g} in {show(time_s, 's', 3)}; are they "
                                      f"summed over SMs, or is the time in another unit than its column's?")
    return cycles / time_s


def check_bytes(line: Line, row: Row) -> None:
    """Raise ConfigError, with the place, where the bytes of *row* are more than its time, or fewer than its inputs,
    allow."""
    gpu = _shipped(row.gpu)
    given = {name: value for name, value in row.counters if COUNTERS[name].in_bytes}
    most = gpu.hbm.bandwidth * row.time_s
    if sum(given.values()) > most * (1 + SLACK):
        name = max(given, key=lambda n: given[n])
        moved = " + ".join(show(value, "B", 3) for value in given.values())
        raise line.error_in(name, f"must be bytes of one run, and {gpu.name} moves at most {show(most, 'B', 3)} in "
                                  f"{show(row.time_s, 's', 3)}, got {moved}; are they of all repeats, or the time of "
                                  f"another run?")
    reads, _ = read_write_bytes(row)
    read = given.get("dram_read_bytes")
    if read is not None and row.protocol.l2 == "cold" and read < reads * TOO_FEW:
        raise line.error_in("dram_read_bytes", f"must be at least the inputs, which are not in L2, "
                                               f"{show(reads, 'B', 3)}, got {show(read, 'B', 3)}; is it in kB or MB? "
                                               f"Then write bytes")


def dirty_capacity(gpu: Gpu) -> float:
    """Return the bytes that stores may leave in L2 without reaching device memory [B].

    ``l2.dirty_share`` of what L2 holds of data that SMs on all its partitions read.
    """
    partitions = gpu.l2.partitions
    return gpu.l2.dirty_share * gpu.l2.capacity * partitions / (2 * partitions - 1)


def counters_of(gpu: Gpu, results: Sequence[Result], l2: L2State) -> dict[str, float]:
    """Return the counters of a run, whose launches *results* has, each result starting with L2 as *l2* says."""
    launches = [(result, launch) for result in results for launch in result.launches]
    times = [launch.ticks / result.clock_hz for result, launch in launches]
    found = {"dram_read_bytes": float(sum(result.dram_read_bytes for result in results)),
             "dram_write_bytes": float(sum(_written(gpu, result, l2) for result in results))}
    for counter in COUNTERS.values():
        if not counter.in_bytes:
            shares = (_share(counter, result.sms, launch) for result, launch in launches)
            found[counter.name] = sum(s * t for s, t in zip(shares, times, strict=True)) / sum(times)
    return found


def _share(counter: Counter, sms: int, launch: LaunchResult) -> float:
    if counter.unit is not None:
        return launch.busy_ticks[counter.unit] / (launch.ticks * sms)
    moved = launch.l2_read_bytes + launch.l2_write_bytes
    return (launch.l2_hit_bytes + launch.l2_write_bytes) / moved if moved else 0.0


def _written(gpu: Gpu, result: Result, l2: L2State) -> float:
    """Return the bytes that reach device memory while the launches of *result*, which stores through, run."""
    stored, kept = result.dram_write_bytes, dirty_capacity(gpu)
    if l2 == "cold":
        return max(0.0, stored - kept)
    if l2 == "warm" and stored <= kept:
        # Each run overwrites in L2 what the one before has left there.
        return 0.0
    return stored + result.evicted_bytes


def roofline_counters(gpu: Gpu, row: Row) -> dict[str, float]:
    """Return what the roofline says of the counters in :data:`ROOFLINE`."""
    reads, writes = read_write_bytes(row)
    hertz = row.protocol.clock or gpu.clock.hertz("tensor_spec")
    return dict(zip(ROOFLINE, (float(reads), float(writes), compute_seconds(gpu, row, hertz)
                               / roofline_seconds(gpu, row)), strict=True))
