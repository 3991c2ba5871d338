"""Issue slots of lifted blocks: one for each instruction of each warp, whatever it does."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from turbosim.engine.api import run
from turbosim.hw import load_gpu
from turbosim.hw.spec import Unit
from turbosim.program.ops import Compute
from turbosim.program.work import class_counts, trip_counts
from turbosim.sass.prepare import find_description, lifted, prepare

GELU = '''
import triton
import triton.language as tl


@triton.jit
def gelu(X, Y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(X + at).to(tl.float32)
    for _ in range(8):
        x = 0.5 * x * (1.0 + 0.7978845608 * x * (1.0 + 0.044715 * x * x))
    tl.store(Y + at, x.to(tl.float16))
'''
DESCRIPTION = """
kernel: gelu.py:gelu
sizes: {n: 8388608}
constants: {BLOCK: 2048}
arguments:
  X: {dtype: fp16, shape: [n]}
  Y: {dtype: fp16, shape: [n]}
  n: n
grid: ["n // BLOCK"]
num_warps: 4
"""


def lift_it(path, name):
    gpu = load_gpu(name)
    return lifted(prepare(find_description(path), gpu, {}), gpu).program


@pytest.mark.parametrize("name", ["a100_sxm_80gb", "h100_sxm", "b200"])
def test_no_unit_is_busy_for_longer_than_the_run(name, tmp_path, monkeypatch, triton_cache):
    """On a B200 two FP32 operations are one instruction, FFMA2, which takes two cycles of its pipe."""
    monkeypatch.setenv("TURBOSIM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TRITON_CACHE_DIR", triton_cache)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    (tmp_path / "gelu.py").write_text(GELU)
    (tmp_path / "gelu.gelu.yaml").write_text(DESCRIPTION)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        program = pool.submit(lift_it, str(tmp_path / "gelu.py") + ":gelu", name).result()
    gpu = load_gpu(name)
    result = run(gpu, program)
    share = {unit: ticks / result.ticks / gpu.sm.count for unit, ticks in result.launches[0].busy_ticks.items()
             if unit is not Unit.COPY}
    assert share[Unit.ISSUE] > 0.3
    assert all(0 <= s <= 1 for s in share.values())
    launch = program.launches[0]
    issued = sum(op.instructions * times * ctas for one, ctas in class_counts(launch) for role in launch.roles
                 for op, times in trip_counts(role.body, dict(one.params)) if isinstance(op, Compute))
    # A multiply, an addition and half a load and a store of each of the 2048 elements of a CTA, at least.
    assert issued >= launch.ctas * 2048 / 32 * 8 * 2
