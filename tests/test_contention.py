"""Units are separate servers: each kernel slows with the unit it needs, and not with another's."""

from __future__ import annotations

import re

import pytest

from turbosim import simulate
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import Dtype, MmaPath, Unit
from turbosim.result import UNITS, Reason
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
    # Register writes delay the products of path=auto, so that less of the time is the tensor cores' own.
    assert slowdown(with_overrides(H200, {"tensor.wgmma.write_conflict": 0}), half, "turbo") > 1.05
    assert slowdown(H200, half, "turbo", sync="mbarrier") > 1.05
    assert slowdown(H200, half, "turbo", path="mma.sync") > 1.05
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
    ("sas", H200_SAS, "pipes.sas.rate", 32, "turbo", PREFILL, {"sas_variant": "unit"}),
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
    # Everything fits into L2, so a first run reads keys, values and queries once, and a second nothing.
    assert cold.dram_read_bytes == small.kv_bytes_fp16 + 2 * small.q_heads * small.head_dim
    assert warm.dram_read_bytes == 0
    assert warm.dram_write_bytes == cold.dram_write_bytes
    assert warm.time_s < cold.time_s
    assert warm.time_s >= warm.bound_s


@pytest.mark.parametrize(("kernel", "softmax", "unit", "least"), [("flash", "exp", Unit.SFU, 0.5),
                                                                   ("turbo", "SAS", Unit.ISSUE, 0.15)])
def test_softmax_of_one_warp_group_runs_under_the_mma_of_another(kernel, softmax, unit, least):
    """Of the time a unit serves the softmax of one CTA, the share in which the tensor cores serve the other."""
    recording = simulate(A100, PREFILL, kernel, record=(0,)).recording
    labels = recording.op_labels[0]
    served = [u for u in recording.units if u.launch == 0]
    mma = [u for u in served if u.unit == UNITS.index(Unit.TENSOR)]
    work = [u for u in served if u.unit == UNITS.index(unit) and labels[u.op] == softmax]
    under = sum(max(0, min(u.end, m.end) - max(u.start, m.start)) for u in work for m in mma if m.slot != u.slot)
    assert under > least * sum(u.end - u.start for u in work)


def test_copies_fly_ahead_of_their_use():
    result = simulate(H200, PREFILL, "flash", record=(0,))
    waiting = sum(row[Reason.DATA_L2] + row[Reason.DATA_DRAM] for row in result.launches[0].reason_ticks)
    assert waiting < 0.1 * sum(map(sum, result.launches[0].reason_ticks))
