"""Micro-benchmarks as values: each says how long it takes on a GPU, by simulation.

Streaming kernels are measured on far more bytes than a simulation needs: their time per byte is that between two runs
of different length, or less what the launch and the first access take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from turbosim.calibration import programs
from turbosim.engine.api import L2Start, run
from turbosim.hw.override import with_overrides
from turbosim.hw.spec import Gpu
from turbosim.program.program import Program
from turbosim.validation.row import Method

Level = Literal["near", "far", "dram"]
TURNS = 5
"""Chunks of a shared buffer that each SM reads: what is measured takes so long that its ramp does not count."""
CAPACITIES = 4
"""Working sets beyond this many capacities of L2 behave as this one does."""


class Benchmark(Protocol):
    """A measured kernel with its sizes."""

    per_byte: ClassVar[bool]
    """Whether the time is that of a byte, as of a bandwidth."""

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the predicted time at *clock* [Hz]: per byte for a bandwidth, else of one access or one run [s]."""
        ...


def _time(gpu: Gpu, program: Program, clock: float, l2: L2Start = "cold", method: Method = "graph") -> float:
    """Return the time of *program* as *method* measures it [s]."""
    result = run(gpu, program, clock=clock, l2=l2, launch="stream" if method == "events" else "graph")
    if method == "ncu":
        return result.time_s * sum(launch.ticks for launch in result.launches) / result.ticks
    return result.time_s


def _between(time: Callable[[int], float], short: int, long: int) -> float:
    """Return the time of one more unit of length, from runs of two lengths [s]."""
    return (time(long) - time(short)) / (long - short)


@dataclass(frozen=True)
class Chase:
    """Loads that each need the one before, all served by one level of memory."""

    level: Level
    per_byte: ClassVar[bool] = False

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the time of an access [s]. ``near`` is what the engine would find if every hit were a near one."""
        if self.level == "near":
            gpu = with_overrides(gpu, {"l2.latency_far": gpu.l2.latency_near})
        l2: L2Start = "cold" if self.level == "dram" else "warm"
        return _between(lambda n: _time(gpu, programs.chase(n), clock, l2), 16, 64)


@dataclass(frozen=True)
class SharedRead:
    """Reads of a buffer of *chunks* x 512 KiB by all SMs, again and again."""

    chunks: int
    per_byte: ClassVar[bool] = True

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the time of a byte that is read [s]."""
        # What a run touches is enough to fill any L2, and all that a second run can find there.
        chunks = min(self.chunks, TURNS * gpu.sm.count)
        time = _time(gpu, programs.shared_read(gpu, chunks, TURNS), clock, "warm", "ncu")
        ramp = gpu.launch.cta / clock + gpu.l2.latency_far
        return (time - ramp) / (TURNS * gpu.sm.count * programs.CHUNK_BYTES)


@dataclass(frozen=True)
class Stream:
    """Vectors that are read and written together by one CTA of *threads* threads per SM, one double each at a time."""

    reads: int
    writes: int
    threads: int
    per_byte: ClassVar[bool] = True

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the time of a byte that is read or written [s]."""
        step = gpu.sm.count * self.threads * programs.ACCESS * (self.reads + self.writes)

        def time(steps: int) -> float:
            return _time(gpu, programs.stream(gpu, self.threads, self.reads, self.writes, steps), clock)

        # Enough for every channel to have its share many times over.
        more = max(8, min(128, int(8 * gpu.hbm.channels * gpu.hbm.interleave / step)))
        return _between(time, 4, 4 + more) / step


@dataclass(frozen=True)
class Scale:
    """A small elementwise kernel on *elements* doubles, back to back with others on the same data."""

    elements: int
    method: Method
    per_byte: ClassVar[bool] = False

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the time of one kernel and of what is between two [s]."""
        return _time(gpu, programs.elementwise(self.elements), clock, "warm", self.method)


@dataclass(frozen=True)
class Copy:
    """``copy`` of the micro suite."""

    nbytes: int
    tile_bytes: int
    warps: int
    l2: L2Start
    method: Method
    per_byte: ClassVar[bool] = True

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the time over the bytes read and written [s]."""
        most = CAPACITIES * int(gpu.l2.capacity)

        def time(nbytes: int) -> float:
            return _time(gpu, programs.copy(nbytes, self.tile_bytes, self.warps), clock, self.l2, self.method)

        if self.nbytes <= 2 * most:
            whole = time(self.nbytes)
        else:
            whole = time(most) + _between(time, most, 2 * most) * (self.nbytes - most)
        return whole / (2 * self.nbytes)


@dataclass(frozen=True)
class L2Read:
    """``l2_read`` of the micro suite: a buffer read *passes* times by all SMs together."""

    nbytes: int
    passes: int
    ctas: int
    tile_bytes: int
    warps: int
    l2: L2Start
    method: Method
    per_byte: ClassVar[bool] = True

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the time over the bytes read [s]."""
        program = programs.sweep(self.nbytes, self.tile_bytes, self.passes, self.ctas, self.warps)
        return _time(gpu, program, clock, self.l2, self.method) / (self.nbytes * self.passes)


@dataclass(frozen=True)
class TileRead:
    """``tile_read`` of the micro suite: CTAs that stream tiles of their own rows."""

    ctas: int
    tile_bytes: int
    piece: int
    """Bytes of a tile's row."""
    turns: int
    stages: int
    warps: int
    l2: L2Start
    method: Method
    per_byte: ClassVar[bool] = False

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the time of a run [s]."""
        program = programs.tile_read(self.ctas, self.tile_bytes, self.piece, self.turns, self.stages, self.warps)
        return _time(gpu, program, clock, self.l2, self.method)


@dataclass(frozen=True)
class Empty:
    """``empty`` of the micro suite: CTAs that do nothing."""

    ctas: int
    warps: int
    method: Method
    per_byte: ClassVar[bool] = False

    def seconds(self, gpu: Gpu, clock: float) -> float:
        """Return the time of a run [s]."""
        return _time(gpu, programs.empty(self.ctas, self.warps), clock, method=self.method)
