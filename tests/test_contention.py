"""Units are separate servers: each kernel slows with the unit it needs, and not with another's."""

from __future__ import annotations

import re

import pytest

from turbosim import simulate
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import Dtype, MmaPath, Unit
from turbosim.result import Reason
from turbosim.workload import Attention, Phase, attention_of, get_model

H200, H200_SAS, A100 = load_gpu("h200_sxm"), load_gpu("h200_sas"), load_gpu("a100_sxm_80gb")
PREFILL = attention_of(get_model("phi3-medium"), Phase.PREFILL, 1, 2048)
DECODE = attention_of(get_model("phi3-medium"), Phase.DECODE, 4, 2048)


def slowdown(gpu, changes, kernel, workload=PREFILL, **options):
    slower = with_overrides(gpu, changes)
    return (simulate(slower, workload, kernel, options=options).time_s
            / simulate(gpu, workload, kernel, options=options).time_s)


@pytest.mark.parametrize(("options", "least"), [({}, 1.05), ({"path": "auto"}, 1.1),
                                                ({"path": "auto", "sync": "mbarrier"}, 1.1)], ids=str)
def test_half_the_sfu_slows_flash(options, least):
    assert slowdown(H200, {"pipes.sfu.rate": H200.pipes["sfu"].rate / 2}, "flash", **options) > least


@pytest.mark.parametrize("options", [{}, {"path": "mma.sync"}, {"sync": "mbarrier"}], ids=str)
def test_half_the_sfu_does_not_slow_turbo(options):
    assert slowdown(H200, {"pipes.sfu.rate": H200.pipes["sfu"].rate / 2}, "turbo", **options) < 1.01


def test_half_the_int8_tensor_rate_moves_turbo_and_not_flash():
    half = {f"tensor.{path.value}.rates.int8": H200.tensor[path].rates[Dtype.INT8] / 2
            for path in (MmaPath.MMA_SYNC, MmaPath.WGMMA)}
    assert slowdown(H200, half, "turbo") > 1.05
    assert slowdown(H200, half, "flash") == 1.0


# A GPU, one rate of it, how many times lower, and a kernel that the unit then bounds but did not before.
BOTTLENECKS = [
    ("tensor", H200, "tensor.wgmma.rates.fp16", 16, "flash", PREFILL, {"path": "auto"}),
    ("tensor", A100, "tensor.mma.sync.rates.int8", 16, "turbo", PREFILL, {}),
    ("sfu", A100, "pipes.sfu.rate", 16, "flash", PREFILL, {}),
    ("fma", A100, "pipes.fp32.rate", 16, "turbo", PREFILL, {}),
    ("fp16", A100, "pipes.fp16x2.rate", 16, "turbo", PREFILL, {}),
    ("int", A100, "pipes.int.rate", 16, "turbo", PREFILL, {}),
    ("cvt", A100, "pipes.pack.rate", 16, "flash", PREFILL, {}),
    ("smem", A100, "sm.smem_bandwidth", 16, "flash", PREFILL, {}),
    ("issue", A100, "sm.schedulers", 4, "turbo", PREFILL, {}),
    ("copy", A100, "copy_engine.bandwidth", 16, "flash", PREFILL, {}),
    ("sas", H200_SAS, "pipes.sas.rate", 16, "turbo", PREFILL, {"sas_variant": "unit"}),
    ("l2", A100, "l2.bandwidth", 16, "flash", PREFILL, {}),
    ("hbm", A100, "hbm.bandwidth", 16, "turbo", DECODE, {}),
    ("launch", A100, "launch.graph", 1 / 16, "kivi", DECODE, {}),
]


def value_at(gpu, field):
    tree = gpu.model_dump()
    for key in re.findall(r"mma\.sync|[^.]+", field):
        tree = tree[key]
    return tree


@pytest.mark.parametrize(("unit", "gpu", "field", "factor", "kernel", "workload", "options"), BOTTLENECKS,
                         ids=[f"{b[0]}-{b[4]}" for b in BOTTLENECKS])
def test_every_unit_can_be_the_bottleneck(unit, gpu, field, factor, kernel, workload, options):
    before = simulate(gpu, workload, kernel, options=options)
    scarce = with_overrides(gpu, {field: value_at(gpu, field) / factor})
    after = simulate(scarce, workload, kernel, options=options)
    assert before.bound != unit
    assert after.bound == unit
    assert after.time_s > before.time_s
    # The other units serve as long as before.
    for one, other in zip(before.launches, after.launches, strict=True):
        for name in set(Unit) - {unit}:
            assert other.busy_ticks[name] == one.busy_ticks[name], name


def test_no_unit_is_left_out():
    result = simulate(A100, DECODE, "flash")
    assert {b[0] for b in BOTTLENECKS} == {*result.utilization, "launch"}


def test_a_lone_cta_is_bound_by_latency():
    shape = Attention(1, 1, 1, 64, 8192, 64, causal=False, phase=Phase.PREFILL)
    assert simulate(A100, shape, "flash").bound == "latency"


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
