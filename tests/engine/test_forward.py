"""Fast-forwarding changes nothing: totals equal those of the full replay, tick for tick."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings

from tests.strategies import gpus, programs
from turbosim.engine.lower import lower
from turbosim.engine.numba_engine import NumbaEngine, _LaunchRun
from turbosim.hw import load_gpu, with_overrides
from turbosim.program.ops import Compute, Loop
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Gemm, Phase, attention_of, get_model

PREFILL = attention_of(get_model("llama3-8b"), Phase.PREFILL, 1, 4096)
DECODE = attention_of(get_model("llama3-8b"), Phase.DECODE, 4, 16384)


def assert_same(gpu, program):
    lowered = lower(gpu, program)
    full, fast = NumbaEngine(lowered, fast_forward=False), NumbaEngine(lowered)
    for index in range(len(lowered.launches)):
        assert full.run_launch(index) == fast.run_launch(index)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(gpu=gpus(), program=programs(trips=60))
def test_generated_programs(gpu, program):
    assert_same(gpu, program)


@pytest.mark.parametrize("sms", [1, 4, 16])
@pytest.mark.parametrize("name", ["a100_sxm_80gb", "h200_sxm"])
@pytest.mark.parametrize(("kernel", "options", "workload"), [
    ("flash", {}, PREFILL), ("turbo", {}, PREFILL), ("flash", {}, DECODE), ("turbo", {}, DECODE),
    ("kivi", {"fused": True}, DECODE), ("gemm", {}, Gemm(1024, 1024, 8192)), ("flash", {"path": "auto"}, PREFILL),
    ("sage", {}, PREFILL),
])
def test_kernels_of_real_size(name, sms, kernel, options, workload):
    gpu = load_gpu(name)
    # Bandwidths in proportion, so that memory is as scarce as on the whole chip.
    share = sms / gpu.sm.count
    gpu = with_overrides(gpu, {"sm.count": sms, "hbm.bandwidth": gpu.hbm.bandwidth * share,
                               "l2.bandwidth": gpu.l2.bandwidth * share})
    assert_same(gpu, get_schedule(kernel).program(gpu, workload, options))


@pytest.mark.parametrize(("kernel", "options"), [
    ("flash", {"path": "auto", "sync": "mbarrier"}), ("flash3", {}), ("flash3", {"pingpong": "false"})])
def test_warp_groups_that_wait_for_their_products(kernel, options):
    gpu = with_overrides(load_gpu("h200_sxm"), {"sm.count": 8, "hbm.bandwidth": 3e11, "l2.bandwidth": 6e11})
    assert_same(gpu, get_schedule(kernel).program(gpu, PREFILL, options))


def of_given_durations(body, cycles):
    """Return *body* with the durations *cycles* for all blocks."""
    return tuple(dataclasses.replace(x, body=of_given_durations(x.body, cycles)) if isinstance(x, Loop)
                 else Compute(x.label, cycles=cycles) if isinstance(x, Compute) else x for x in body)


def lifted_alike(gpu, cycles):
    """Return causal attention with blocks of the durations *cycles*, by the CTAs on the SM."""
    program = get_schedule("flash").program(gpu, PREFILL)
    launches = tuple(dataclasses.replace(x, roles=tuple(
        dataclasses.replace(r, body=of_given_durations(r.body, cycles)) for r in x.roles)) for x in program.launches)
    return dataclasses.replace(program, launches=launches)


@pytest.mark.parametrize("sms", [1, 4, 16])
@pytest.mark.parametrize("cycles", [(300.0,), (300.0, 500.0), (900.0, 500.0), (100.0, 100.5)])
def test_blocks_of_given_durations(sms, cycles):
    gpu = load_gpu("a100_sxm_80gb")
    share = sms / gpu.sm.count
    gpu = with_overrides(gpu, {"sm.count": sms, "hbm.bandwidth": gpu.hbm.bandwidth * share,
                               "l2.bandwidth": gpu.l2.bandwidth * share})
    assert_same(gpu, lifted_alike(gpu, cycles))


@pytest.mark.parametrize(("name", "make"), [
    ("h200_sxm", lambda gpu: get_schedule("flash").program(gpu, PREFILL)),
    ("a100_sxm_80gb", lambda gpu: lifted_alike(gpu, (300.0, 500.0))),
])
def test_it_does_fast_forward(name, make):
    gpu = with_overrides(load_gpu(name), {"sm.count": 2})
    lowered = lower(gpu, make(gpu))
    run = _LaunchRun(NumbaEngine(lowered), 0, 512)
    assert run.execute()
    # Most of the work of every SM is repeated: what is left in detail is less than half.
    total, detailed = run.totals().ops, run.machine.ops
    assert (detailed < total / 2 / len(detailed)).all()
