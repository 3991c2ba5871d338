"""Units are separate servers: each kernel slows with the unit it needs, and not with another's."""

from __future__ import annotations

import pytest

from turbosim import simulate
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import Dtype, MmaPath
from turbosim.result import Reason
from turbosim.workload import Phase, attention_of, get_model

H200, A100 = load_gpu("h200_sxm"), load_gpu("a100_sxm_80gb")
PREFILL = attention_of(get_model("phi3-medium"), Phase.PREFILL, 1, 2048)
DECODE = attention_of(get_model("phi3-medium"), Phase.DECODE, 4, 2048)


def slowdown(gpu, changes, kernel, workload=PREFILL, **options):
    slower = with_overrides(gpu, changes)
    return (simulate(slower, workload, kernel, options=options).time_s
            / simulate(gpu, workload, kernel, options=options).time_s)


def test_half_the_sfu_slows_flash_clearly_more_than_turbo():
    half = {"pipes.sfu.rate": H200.pipes["sfu"].rate / 2}
    flash, turbo = slowdown(H200, half, "flash", path="auto"), slowdown(H200, half, "turbo")
    assert flash > 1.1
    assert turbo < 1.01


def test_half_the_int8_tensor_rate_moves_turbo_and_not_flash():
    half = {f"tensor.{path.value}.rates.int8": H200.tensor[path].rates[Dtype.INT8] / 2
            for path in (MmaPath.MMA_SYNC, MmaPath.WGMMA)}
    assert slowdown(H200, half, "turbo") > 1.05
    assert slowdown(H200, half, "flash") == 1.0


@pytest.mark.parametrize(("field", "kernel", "workload"), [
    ("tensor.mma.sync.rates.fp16", "flash", PREFILL),
    ("pipes.fp32.rate", "turbo", PREFILL),
    ("pipes.int.rate", "turbo", PREFILL),
    ("pipes.pack.rate", "flash", PREFILL),
        ("sm.smem_bandwidth", "flash", PREFILL),
    ("copy_engine.bandwidth", "flash", DECODE),
    ("l2.bandwidth", "flash", PREFILL),
    ("hbm.bandwidth", "flash", DECODE),
])
def test_every_unit_can_be_the_bottleneck(field, kernel, workload):
    value = {"tensor.mma.sync.rates.fp16": 1024, "pipes.fp32.rate": 64, "pipes.int.rate": 64, "pipes.pack.rate": 16,
             "sm.smem_bandwidth": 128, "copy_engine.bandwidth": 64, "l2.bandwidth": 5.2e12,
             "hbm.bandwidth": 2.039e12}[field]
    assert slowdown(A100, {field: value / 16}, kernel, workload) > 1.3


def test_issue_slots_are_a_server():
    assert slowdown(A100, {"sm.schedulers": 1}, "turbo") > 1.3


def test_a_warm_cache_saves_the_bytes_that_fit():
    small = attention_of(get_model("phi3-medium"), Phase.DECODE, 1, 1024)
    cold, warm = simulate(A100, small, "flash"), simulate(A100, small, "flash", l2="warm")
    # Everything fits into L2, so a second run reads nothing and writes as much.
    assert cold.dram_read_bytes >= small.kv_bytes_fp16
    assert warm.dram_read_bytes == 0
    assert warm.dram_write_bytes == cold.dram_write_bytes
    assert warm.time_s < cold.time_s
    assert warm.time_s >= warm.bound_s


def test_softmax_of_one_warp_group_runs_under_the_mma_of_another():
    result = simulate(A100, PREFILL, "flash", record=(0,))
    labels = result.recording.op_labels[0]
    ops = [(r.slot, labels[r.op], r.start, r.end) for r in result.recording.ops]
    exp = [(s, a, b) for s, label, a, b in ops if label == "exp"]
    mma = [(s, a, b) for s, label, a, b in ops if label in ("QK^T", "PV")]
    under = [e for e in exp if any(s != e[0] and a < e[2] and e[1] < b for s, a, b in mma)]
    assert len(under) > 0.8 * len(exp)


def test_copies_fly_ahead_of_their_use():
    result = simulate(H200, PREFILL, "flash", record=(0,))
    waiting = sum(row[Reason.DATA_L2] + row[Reason.DATA_DRAM] for row in result.launches[0].reason_ticks)
    assert waiting < 0.1 * sum(map(sum, result.launches[0].reason_ticks))
