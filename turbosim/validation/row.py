"""A measured row: what was run, under which protocol, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from turbosim.errors import UsageError
from turbosim.workload import Attention, CopyBytes, Gemm, Phase, Workload

DTYPES = ("fp32", "tf32", "fp16", "fp16_acc16", "bf16", "fp8", "fp8_e4m3", "fp8_e5m2", "int8", "int4")
"""Operands that rows may have."""
Method = Literal["events", "graph", "ncu"]
L2State = Literal["cold", "dirty", "warm"]
"""Before each run: without the inputs, full of lines that something else has overwritten, or as a run leaves it."""

TILING = ("block_m", "block_n", "block_k", "group_m", "warps", "stages", "splits", "cluster", "tile_bytes",
          "ctas_per_sm")
"""Options of which an autotuner tries several values; all others change what is computed, or how."""


class Convention(StrEnum):
    """How a source counts the FLOPs of attention, 4 batch heads pairs head_dim."""

    CAUSAL_HALVED = "causal halved"
    """seq_q x seq_k pairs, half of them if causal."""
    UNMASKED = "unmasked"
    """The pairs that the mask lets through."""
    DENSE = "dense"
    """seq_q x seq_k pairs, causal or not."""

    def flops(self, workload: Workload) -> float:
        """Return the FLOPs that the source divides by the time; those of other workloads are not in question."""
        if not isinstance(workload, Attention) or self is Convention.UNMASKED:
            return workload.flops
        dense = 4 * workload.batch * workload.q_heads * workload.seq_q * workload.seq_k * workload.head_dim
        return dense / 2 if self is Convention.CAUSAL_HALVED and workload.causal else dense


TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units of times [s]."""
UNITS = (TIMES, {"TFLOP/s": 1e12, "GFLOP/s": 1e9, "FLOP/s": 1.0}, {"TB/s": 1e12, "GB/s": 1e9, "MB/s": 1e6, "B/s": 1.0})
"""Units that columns can be in, and those of the same kind, with their size."""


@dataclass(frozen=True)
class Protocol:
    """How times were taken; predictions follow it."""

    l2: L2State = "cold"
    method: Method = "events"
    """``events`` around launches from a stream, launches in a CUDA ``graph``, or the GPU time a profiler reports
    (``ncu``), without launch overhead."""
    clock: float | None = None
    """SM clock that was locked, or that was measured for the row [Hz]; None leaves it to the hardware file."""
    overhead: float = 0.0
    """What two events around a kernel measure beside the launch and the kernel [s]; of no other method."""
    highest: float | None = None
    """SM clock that was set, and that the board's power limit may have lowered [Hz]."""


@dataclass(frozen=True)
class Row:
    """One measurement."""

    where: str
    """``file:line``."""
    dataset: str
    gpu: str
    """Name of the hardware file."""
    kernel: str
    """As the data set calls it."""
    workload: Workload
    time_s: float
    protocol: Protocol
    dtype: str = "fp16"
    """Operands of the products."""
    version: str = ""
    options: tuple[tuple[str, str], ...] = ()
    """Options of the measured kernel, where the row states them, by the names of
    :mod:`turbosim.validation.own_options`."""
    stream: tuple[int, int] = (0, 0)
    """Bytes read and written by an elementwise kernel."""
    counters: tuple[tuple[str, float], ...] = ()
    """What a profiler counted (:mod:`turbosim.validation.counters`), where the row states it."""
    weights: str = ""
    """Of a matrix product's second operand in memory, where it differs."""
    column: str = "time_s"
    """That of the measured value."""
    unit: str = "s"
    """Of that column: one of :data:`UNITS`."""

    @property
    def name(self) -> str:
        """The row in a few words."""
        return " ".join(filter(None, (self.dataset, self.gpu, self.kernel, self.version, self.shape, self.tiling)))

    @property
    def tiling(self) -> str:
        """The tiling that the row states, as ``name=value:name=value``; 0 leaves a choice to the kernel."""
        return ":".join(f"{n}={v}" for n, v in self.options if n in TILING and v != "0")

    @property
    def shape(self) -> str:
        """The workload in a few words."""
        w = self.workload
        if isinstance(w, Attention):
            return (f"{w.phase.value} b{w.batch} h{w.q_heads}/{w.kv_heads} {w.seq_q}x{w.seq_k} d{w.head_dim}"
                    f"{' causal' if w.causal and w.phase is Phase.PREFILL else ''}")
        return f"{w.m}x{w.n}x{w.k}" if isinstance(w, Gemm) else f"{sum(self.stream)} B"


def stream_of(sizes: dict[str, int]) -> tuple[int, int]:
    """Return the bytes that an FP32 elementwise kernel reads and writes: ``rows`` x ``columns``, or two vectors' sum.

    Raises UsageError for other sizes.
    """
    if set(sizes) == {"rows", "columns"}:
        return 4 * sizes["rows"] * sizes["columns"], 4 * sizes["rows"] * sizes["columns"]
    if set(sizes) == {"count"}:
        return 8 * sizes["count"], 4 * sizes["count"]
    raise UsageError(f"sizes must be m, n, k or rows, columns or count, got {', '.join(sizes) or 'none'}")


def workload_of(sizes: dict[str, int]) -> tuple[Workload, tuple[int, int]]:
    """Return the workload of *sizes*, and the bytes it streams if it is elementwise. Raises UsageError.

    An elementwise kernel is a copy of the same traffic in sum.
    """
    if set(sizes) == {"m", "n", "k"}:
        return Gemm(sizes["m"], sizes["n"], sizes["k"]), (0, 0)
    stream = stream_of(sizes)
    return CopyBytes(sum(stream) // 2), stream
