"""Every schedule on small shapes, with its options."""

from __future__ import annotations

from typing import Any

from turbosim.hw.spec import Dtype, Gpu, MmaPath
from turbosim.workload import Attention, CopyBytes, Gemm, Phase, Workload

PREFILL = Attention(1, 4, 2, 200, 300, 64, causal=True, phase=Phase.PREFILL)
FULL = Attention(2, 2, 1, 96, 130, 128, causal=False, phase=Phase.PREFILL)
DECODE = Attention(2, 8, 2, 1, 700, 128, causal=False, phase=Phase.DECODE)
TOKEN = Attention(1, 4, 4, 1, 1, 64, causal=False, phase=Phase.DECODE)

CASES: list[tuple[str, dict[str, Any], Workload]] = [
    *[("flash", o, w) for w in (PREFILL, FULL) for o in ({}, {"stages": 3, "block_n": 32}, {"order": "heavy_first"})],
    *[("flash", o, w) for w, splits in ((DECODE, 3), (TOKEN, 1))
      for o in ({}, {"splits": splits, "stages": 2, "block_n": 64})],
    *[("turbo", o, w) for w in (PREFILL, FULL)
      for o in ({}, {"sas": False}, {"flashq": False}, {"bits": "4", "sas_variant": "naive", "convert": "i2f"},
                {"bits": "2", "sas_variant": "table", "p_scale": "fixed", "stages": 1}, {"quantise_inputs": True})],
    *[("turbo", o, w) for w in (DECODE, TOKEN) for o in ({}, {"bits": "4"}, {"bits": "2", "sas": False}, {"p_scale": "row"})],
    *[("kivi", o, w) for w, o in ((PREFILL, {}), (DECODE, {}), (DECODE, {"fused": True}), (TOKEN, {"bits": "2"}),
                                  (TOKEN, {"fused": True}))],
    *[("gear", {}, w) for w in (PREFILL, DECODE, TOKEN)],
    ("gemm", {}, Gemm(300, 200, 100)),
    ("gemm", {"dtype": "int8", "stages": 1}, Gemm(128, 512, 64)),
    *[("gemm", {"block_m": m, "block_n": n, "block_k": 32, "warps": w}, Gemm(100, 300, 200))
      for m, n, w in ((16, 64, 4), (32, 32, 8), (64, 64, 8), (128, 64, 16))],
    ("copy", {}, CopyBytes(1_000_000)),
    ("copy", {"write": False}, CopyBytes(4096)),
]

SOME_GPUS: list[tuple[str, dict[str, Any], Workload]] = [
    *[("flash3", o, w) for w in (PREFILL, FULL)
      for o in ({}, {"overlap": False}, {"pingpong": False, "scheduler": "single"}, {"scheduler": "static", "stages": 3, "block_n": 64},
                {"dtype": "fp8", "block_m": 64, "scheduler": "dynamic"}, {"p_smem": True, "block_n": 112})],
    *[("sage", o, w) for w in (PREFILL, FULL) for o in ({}, {"accumulate": "fp32", "warps": 8}, {"stages": 2})],
    *[("gemm", {"cluster": n, "stages": s}, Gemm(128 * n, 300, 500)) for n, s in ((2, 2), (4, 1))],
]
"""Schedules for GPUs with certain instructions: wgmma, products accumulated in FP16, and bulk copies (TMA)."""


def cases_of(gpu: Gpu) -> list[tuple[str, dict[str, Any], Workload]]:
    """Return the cases that *gpu* can run."""
    able = {"flash3": MmaPath.WGMMA in gpu.tensor,
            "sage": Dtype.FP16_ACC16 in gpu.tensor[MmaPath.MMA_SYNC].rates,
            "gemm": gpu.copy_engine.tma}
    return [*CASES, *(case for case in SOME_GPUS if able[case[0]])]


def case_id(case: tuple[str, dict[str, Any], Workload]) -> str:
    """Return a readable test id."""
    kernel, options, workload = case
    what = getattr(workload, "phase", "")
    return "-".join([kernel, *(f"{k}={v}" for k, v in options.items()), str(what),
                     str(getattr(workload, "seq_k", ""))]).strip("-")
