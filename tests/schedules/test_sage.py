"""``sage``: counts of one tile, accumulators, options."""

from __future__ import annotations

import re

import pytest

from turbosim.errors import UsageError
from turbosim.hw import load_gpu
from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.program.occupancy import occupancy
from turbosim.program.validate import validate
from turbosim.program.work import program_work
from turbosim.schedules.sage import SAGE
from turbosim.workload import Attention, Phase

A100, RTX, B200 = load_gpu("a100_sxm_80gb"), load_gpu("rtx_3090"), load_gpu("b200")
SHAPE = Attention(8, 32, 32, 1024, 1024, 128, causal=True, phase=Phase.PREFILL)


def work(keys, **options):
    program = SAGE.program(A100, Attention(1, 1, 1, 128, keys, 128, causal=False, phase=Phase.PREFILL), options)
    validate(program)
    return program_work(program)


def test_one_tile():
    """128 x 64 at d = 128: counts of one KV tile, from the shapes."""
    one, two = work(64), work(128)
    scores, outputs, row_threads = 128 * 64, 128 * 128, 128 * 4
    assert {c: two.lanes.get(c, 0) - one.lanes.get(c, 0) for c in two.lanes} == {
        OpClass.CVT: scores,  # INT32 to FP32
        OpClass.INT: scores + 20 * 128,  # maximum, loop overhead
        OpClass.SHUFFLE: 2 * row_threads,  # quad maximum
        OpClass.FP32: 2 * scores,  # scale, row sum
        OpClass.SFU: scores + row_threads,  # exponential, change of the maximum
        OpClass.PACK: scores // 2,
        OpClass.FP16X2: outputs // 2}  # rescale of O
    products = 128 * 64 * 128
    assert {k: two.macs[k] - one.macs[k] for k in two.macs} == {
        (MmaPath.MMA_SYNC, Dtype.INT8): products, (MmaPath.MMA_SYNC, Dtype.FP16_ACC16): products}
    # Four warps read K and V, the CTA its Q once, and the copies write both: K and Q have a byte an element, V two.
    assert two.smem_bytes - one.smem_bytes == 4 * 8192 + 4 * 16384 + 16384 + (8192 + 32) + 16384
    assert two.loaded["K"] - one.loaded["K"] == 8192 + 32  # with its scale, in whole sectors
    assert two.loaded["V"] - one.loaded["V"] == 16384


def test_sums_in_fp32_widen_every_output_of_a_tile():
    extra = {c: n - work(64).lanes.get(c, 0) for c, n in work(64, accumulate="fp16+fp32").lanes.items()}
    outputs = 128 * 128
    assert extra[OpClass.WIDEN] == outputs
    assert extra[OpClass.FP32] == 2 * outputs  # sum, rescale
    assert work(64, accumulate="fp32").macs == {
        (MmaPath.MMA_SYNC, Dtype.INT8): 128 * 64 * 128, (MmaPath.MMA_SYNC, Dtype.FP16): 128 * 64 * 128}


def test_two_ctas_fit_where_fp16_accumulators_leave_the_registers():
    launch = SAGE.program(RTX, SHAPE).launches[0]
    # 64 registers of scores, 64 of FP16 output, 48 of the rest; Q, K and V take 16, 8 and 16 KiB.
    assert (launch.registers_per_thread, launch.smem_bytes) == (176, 40 * 1024)
    assert occupancy(RTX, launch) == (2, "registers")


@pytest.mark.parametrize(("gpu", "shape", "options", "message"), [
    (A100, Attention(1, 1, 1, 1, 9, 64, causal=False, phase=Phase.DECODE), {},
     "kernel 'sage' has prefill only; use flash for decode"),
    (A100, SHAPE, {"accumulate": "fp16+fp23"}, "kernel 'sage': option accumulate must be one of fp16, fp16+fp32, fp32, got "
                                               "'fp16+fp23' (did you mean 'fp16+fp32'?)"),
    (A100, SHAPE, {"order": "back"}, "kernel 'sage': option order must be one of forward, heavy_first, got 'back'"),
    (A100, SHAPE, {"stages": 0}, "kernel 'sage': option stages must be at least 1, got 0"),
    (A100, SHAPE, {"block_n": 60}, "kernel 'sage': option block_n must be a positive multiple of 16, got 60"),
    (B200, SHAPE, {}, "b200 has no fp16_acc16 tensor cores"),
])
def test_what_it_cannot_do_is_refused(gpu, shape, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        SAGE.program(gpu, shape, options)
