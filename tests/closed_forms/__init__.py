"""What every kernel must compute, load and store, from the workload, its options and its tile sizes alone.

Nothing here walks a program: these are the sums that programs and simulations have to arrive at.
"""

from __future__ import annotations

from tests.closed_forms.decode import flash_decode, fused_decode, published_decode, turbo_decode
from tests.closed_forms.prefill import flash3_prefill, flash_prefill, quantising_prefill, sage_prefill, turbo_prefill
from tests.closed_forms.totals import COUNTED, NEWEST, Options, Totals, seen, up
from turbosim.hw.spec import Dtype, MmaPath
from turbosim.workload import CopyBytes, Gemm, Phase, Workload

__all__ = ["COUNTED", "Totals", "closed_form"]


def closed_form(kernel: str, arch: str, work: Workload, options: Options, meta: Options) -> Totals:
    """Return the totals of *kernel* with *options*, whose program reports its tile sizes in *meta*."""
    t = Totals()
    if isinstance(work, CopyBytes):
        t.inputs = work.nbytes
        tiles = up(work.nbytes, meta["tile_bytes"])
        t.load("source", tiles, meta["tile_bytes"])
        if options.get("write", True):
            t.store("target", tiles, meta["tile_bytes"])
        return t
    if isinstance(work, Gemm):
        gemm(t, arch, work, options, meta)
        return t
    # Unless given, SAS runs on the unit where the GPU has one.
    options = {"kernel": kernel, **options} | ({"sas_variant": meta["sas_variant"]} if "sas_variant" in meta else {})
    t.flops = 4 * work.batch * work.q_heads * work.head_dim * sum(seen(work, row) for row in range(work.seq_q))
    {("flash", Phase.PREFILL): flash_prefill, ("flash3", Phase.PREFILL): flash3_prefill,
     ("sage", Phase.PREFILL): sage_prefill, ("turbo", Phase.PREFILL): turbo_prefill,
     ("kivi", Phase.PREFILL): quantising_prefill, ("gear", Phase.PREFILL): quantising_prefill,
     ("flash", Phase.DECODE): flash_decode, ("turbo", Phase.DECODE): turbo_decode,
     ("kivi", Phase.DECODE): fused_decode if options.get("fused") else published_decode,
     ("gear", Phase.DECODE): published_decode}[kernel, work.phase](t, arch, work, options, meta)
    return t


def gemm(t: Totals, arch: str, work: Gemm, options: Options, meta: Options) -> None:
    dtype = Dtype(options.get("dtype", "fp16"))
    bits = {Dtype.INT4: 4, Dtype.INT8: 8, Dtype.FP8: 8}.get(dtype, 16)
    m, n, k = meta["block_m"], meta["block_n"], meta["block_k"]
    tiles, groups = up(work.m, m) * up(work.n, n), meta["warps"] // 4
    t.flops, t.inputs = 2 * work.m * work.n * work.k, bits * work.k * (work.m + work.n) // 8
    t.macs[NEWEST[arch] if m >= 64 else MmaPath.MMA_SYNC, dtype] = tiles * up(work.k, k) * m * n * k
    t.load("A", tiles * up(work.k, k), m * k * bits // 8)
    t.load("B", tiles * up(work.k, k), n * k * bits // 8 // meta["cluster"])
    t.store("C", tiles * groups, m * n // groups * 2)
