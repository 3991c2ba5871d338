"""What the micro-benchmarks compile to, for GPUs that need not be present."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHAIN = {"ctas": 4, "iterations": 64, "elements": 8}
HALVES = {**CHAIN, "elements": 16}
FP16 = {"ctas": 4, "iterations": 64, "m": 64, "n": 64, "k": 32}
INT8 = {**FP16, "k": 64}
CASES = {
    "empty": ("empty", {"ctas": 4}, {}, {}),
    "copy": ("copy", {"nbytes": 65536}, {}, {}),
    "copy, small block": ("copy", {"nbytes": 65536}, {"block": 1024}, {}),
    "l2_read": ("l2_read", {"nbytes": 65536, "passes": 3, "ctas": 2}, {}, {}),
    "smem": ("smem", {"ctas": 4, "iterations": 64}, {}, {}),
    "smem, large tile": ("smem", {"ctas": 4, "iterations": 64}, {"tile": 128, "warps": 8}, {}),
    "exp2": ("exp2", CHAIN, {}, {}),
    "fma_fp16": ("fma_fp16", HALVES, {}, {}),
    "fma_fp16, plain": ("fma_fp16", HALVES, {}, {"asm": False}),
    "i2f": ("i2f", CHAIN, {}, {}),
    "f2i": ("f2i", CHAIN, {}, {}),
    "f2h": ("f2h", CHAIN, {}, {}),
    "f2h, plain": ("f2h", CHAIN, {}, {"asm": False}),
    "mma_fp16": ("mma_fp16", FP16, {}, {}),
    "mma_fp16, two warps": ("mma_fp16", FP16, {"warps": 2}, {}),
    "mma_fp16, wide": ("mma_fp16", {**FP16, "m": 128, "n": 256, "k": 64}, {"warps": 8}, {}),
    "mma_int8": ("mma_int8", INT8, {}, {}),
    "mma_int8, two warps": ("mma_int8", INT8, {"warps": 2}, {}),
    "mma_int8, wide": ("mma_int8", {**INT8, "m": 128, "n": 256, "k": 128}, {"warps": 8}, {}),
}
TARGETS = (80, 89, 90, 100)


@pytest.fixture(scope="module")
def compiled(request, tmp_path_factory):
    """Return what compile_micro prints for one target; not in this process, where triton interprets."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    made = subprocess.run([sys.executable, "-m", "tests.kernels.compile_micro", str(request.param), json.dumps(CASES)],
                          env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=250)
    assert made.returncode == 0, made.stderr
    return request.param, json.loads(made.stdout)
