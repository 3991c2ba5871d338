"""The roofline of a workload: what no kernel can beat on a chip, and the simplest prediction of its time.

Compute is bound by the fastest instruction path that has the type, memory by the bytes of each input and output at the
device memory's specified bandwidth. Nothing else is known to it: no launch, no tiles, no softmax.
"""

from __future__ import annotations

from turbosim.hw.spec import Dtype, Gpu
from turbosim.validation.row import Row
from turbosim.workload import Attention, Gemm

_BITS = {"int4": 4, "int8": 8, "fp8": 8, "fp32": 32}


def peak_flops(gpu: Gpu, dtype: str, hertz: float) -> float:
    """Return FLOP/s of all tensor cores for operands of *dtype*; FP16 for types that the GPU's file does not have."""
    known = set(Dtype)
    kind = next((Dtype(name) for name in (dtype, dtype.partition("_")[0]) if name in known), Dtype.FP16)
    rates = [path.rates.get(kind) or path.rates[Dtype.FP16] for path in gpu.tensor.values()]
    return 2 * max(rates) * gpu.sm.count * hertz


def compute_seconds(gpu: Gpu, row: Row, hertz: float) -> float:
    """Return the tensor cores' time [s].

    Attention with INT8 scores has its second product in FP16 with FP16 accumulation, as SageAttention does.
    """
    work = row.workload
    if isinstance(work, Attention) and row.dtype == "int8":
        half = work.flops / 2
        return half / peak_flops(gpu, "int8", hertz) + half / peak_flops(gpu, "fp16_acc16", hertz)
    return work.flops / peak_flops(gpu, row.dtype, hertz)


def read_write_bytes(row: Row) -> tuple[int, int]:
    """Return the bytes of all inputs and of all outputs."""
    work, size = row.workload, _bits(row.dtype) // 8
    if isinstance(work, Attention):
        q = work.batch * work.q_heads * work.seq_q * work.head_dim
        k = work.batch * work.kv_heads * work.seq_k * work.head_dim
        return size * (q + k) + 2 * k, 2 * q
    if isinstance(work, Gemm):
        weights = work.k * work.n * _bits(row.weights or row.dtype) // 8
        return size * work.k * work.m + weights, 2 * work.m * work.n
    return row.stream


def _bits(dtype: str) -> int:
    return _BITS.get(dtype.partition("_")[0], 16)


def roofline_seconds(gpu: Gpu, row: Row) -> float:
    """Return the larger of compute and memory time [s], at the clock of the vendor's peak unless one was locked."""
    reads, writes = read_write_bytes(row)
    hertz = row.protocol.clock or gpu.clock.hertz("tensor_spec")
    return max(compute_seconds(gpu, row, hertz), (reads + writes) / gpu.hbm.bandwidth)


def least_seconds(gpu: Gpu, row: Row) -> float:
    """Return a time that no measurement of *row* can be below [s].

    The clock is the highest of the hardware file; outputs may stay in L2, as may inputs that were there.
    """
    clocks = [gpu.clock.hertz("boost"), gpu.clock.hertz("tensor_spec"), gpu.clock.hertz("sustained")]
    hertz = row.protocol.clock or max(clocks)
    reads, _ = read_write_bytes(row)
    in_cache = gpu.l2.capacity if row.protocol.l2 == "warm" else 0
    return max(compute_seconds(gpu, row, hertz), (reads - in_cache) / gpu.hbm.bandwidth)
