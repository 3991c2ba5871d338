"""Rows of the project's own micro suite (``python -m kernels.measure --suite micro``) as micro-benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from turbosim.calibration.benchmarks import Copy, Empty, L2Read, TileRead
from turbosim.calibration.rows import MicroRow, Parsed, Skip, Sustained
from turbosim.hw.spec import Gpu
from turbosim.schedules.tiles import ceil_div
from turbosim.validation.cells import Line
from turbosim.validation.counters import sm_clock
from turbosim.validation.identity import digest_of
from turbosim.validation.row import Method

COLUMNS = frozenset({"gpu", "kernel", "phase", "sizes", "time_s"})
ELEMENT = 4
"""Bytes of an element of ``copy`` and ``l2_read``."""
_TENSOR = ("mma_fp16", "mma_int8")
_OTHER = ("exp2", "fma_fp16", "i2f", "f2i", "f2h", "smem")


def clock_of(lines: Sequence[Line], gpu: Gpu) -> float:
    """Return the clock of rows that state none [Hz]."""
    del lines
    return gpu.clock.boost


def parse(line: Line, gpu: Gpu, clock: float) -> Parsed:
    """Return the row of *line*, or why it is not used. Raises ConfigError for what is not of the layout."""
    if line.cells.get("status", "ok") in ("wrong", "failed"):
        return Skip("not timed")
    kernel = line.choice("kernel", ("copy", "l2_read", "tile_read", "empty", *_TENSOR, *_OTHER))
    if line.cells.get("sm_clock_hz", "").strip():
        clock = sm_clock(line)
    sizes = line.sizes("sizes")
    if kernel in _TENSOR and line.cells.get("power_w", "").strip() and line.cells.get("sm_clock_hz", "").strip():
        return Sustained(line.where, _digest(line, sizes), clock, line.positive("power_w"))
    if kernel in (*_TENSOR, *_OTHER):
        return Skip("of a unit of the SM, whose rates are not fitted")
    options, digest = line.sizes("options"), _digest(line, sizes)
    method: Method = line.choice("method", ("events", "graph", "ncu"))  # type: ignore[assignment]
    time, warps = line.positive("time_s"), options.get("warps", 4)
    if kernel == "empty":
        ctas = _size(line, sizes, "ctas")
        return MicroRow(line.where, digest, f"empty, {method}", ctas, time, Empty(ctas, warps, method), clock)
    l2 = line.choice("l2", ("cold", "warm"))
    if kernel == "tile_read":
        ctas, piece, depth = (_size(line, sizes, name) for name in ("ctas", "piece", "depth"))
        stages, tile = options.get("stages", 3), _size(line, sizes, "rows") * piece
        # It shows how rows of a tile lie in memory, which no parameter may be bent to.
        return MicroRow(line.where, digest, f"tile_read, pieces of {piece} B, {l2}, {method}", ctas, time,
                        TileRead(ctas, tile, piece, ceil_div(depth, piece), stages, warps,
                                 l2, method), clock, fitted=False)  # type: ignore[arg-type]
    nbytes, tile = _size(line, sizes, "nbytes"), ELEMENT * options.get("block", 4096)
    curve = f"{kernel}, {l2}, {method}"
    if kernel == "copy":
        return MicroRow(line.where, digest, curve, nbytes, time / (2 * nbytes),
                        Copy(nbytes, tile, warps, l2, method), clock,  # type: ignore[arg-type]
                        fitted=l2 == "cold" or nbytes > gpu.l2.capacity)
    passes = _size(line, sizes, "passes")
    return MicroRow(line.where, digest, curve, nbytes, time / (nbytes * passes),
                    L2Read(nbytes, passes, _size(line, sizes, "ctas"), tile, warps, l2, method), clock)  # type: ignore[arg-type]


def _digest(line: Line, sizes: dict[str, int]) -> str:
    nbytes = sizes.get("nbytes", 0)
    shape = {"read": nbytes, "written": nbytes} if line.text("kernel") == "copy" else sizes
    return digest_of(line.text("gpu"), shape, line.positive("time_s"))


def _size(line: Line, sizes: dict[str, int], name: str) -> int:
    if name not in sizes:
        raise line.error(f"column sizes has no {name}, which {line.text('kernel')} needs")
    return sizes[name]
