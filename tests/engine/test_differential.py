"""The two engines agree on every operation's start and end, every unit's service, and every stall."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from tests.shapes import CASES, PREFILL, case_id, cases_of
from tests.strategies import gpus, programs
from turbosim.engine.lower import lower
from turbosim.engine.numba_engine import NumbaEngine
from turbosim.engine.simpy_engine import SimpyEngine
from turbosim.hw import load_gpu, with_overrides
from turbosim.program.validate import validate
from turbosim.program.work import launch_work
from turbosim.schedules.registry import get_schedule

SMALL = {"sm.count": 3, "l2.capacity": "300 kB"}


def agree(gpu, program, *, dirty=False):
    """Run both engines with everything recorded and compare; return the SimPy totals."""
    validate(program)
    lowered = lower(gpu, program)
    everywhere = frozenset(range(gpu.sm.count))
    slow, fast = SimpyEngine(lowered, everywhere, dirty=dirty), NumbaEngine(lowered, everywhere, dirty=dirty)
    totals = []
    for index, launch in enumerate(lowered.launches):
        a, records_a = slow.run_launch(index)
        b, records_b = fast.run_launch(index)
        assert a == b
        records_a, records_b = records_a.ordered(), records_b.ordered()
        assert records_a.ops == records_b.ops
        assert records_a.units == records_b.units
        assert records_a.stalls == records_b.stalls
        # Every tick of every role has one reason, and every operation of the program was executed.
        for reasons in a.reasons:
            assert sum(reasons) == a.ticks * gpu.sm.count * launch.occupancy
        work = launch_work(program, program.launches[index])
        assert len(records_a.ops) == a.ops == work.ops
        assert (a.l2_read_bytes, a.l2_write_bytes) == (work.read_bytes, work.write_bytes)
        totals.append(a)
    return totals


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(gpu=gpus(), program=programs(), dirty=strategies.booleans())
def test_engines_agree_on_generated_programs(gpu, program, dirty):
    agree(gpu, program, dirty=dirty)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in ("a100_sxm_80gb", "h200_sxm")
                                            for case in cases_of(load_gpu(name))],
                         ids=lambda x: x if isinstance(x, str) else case_id(x))
def test_engines_agree_on_every_schedule(name, case):
    kernel, options, workload = case
    gpu = with_overrides(load_gpu(name), SMALL)
    agree(gpu, get_schedule(kernel).program(gpu, workload, options), dirty=name == "h200_sxm")


@pytest.mark.parametrize("kernel", ["flash", "turbo"])
def test_engines_agree_on_stages_released_by_mbarrier(kernel):
    gpu = with_overrides(load_gpu("h200_sxm"), SMALL)
    options = {"path": "auto", "sync": "mbarrier", "block_m": 128}
    agree(gpu, get_schedule(kernel).program(gpu, PREFILL, options))


def test_the_fast_engine_without_records_gives_the_same_totals():
    gpu = with_overrides(load_gpu("h200_sxm"), SMALL)
    for kernel, options, workload in CASES[::4]:
        lowered = lower(gpu, get_schedule(kernel).program(gpu, workload, options))
        plain, recorded = NumbaEngine(lowered), NumbaEngine(lowered, frozenset({0}))
        for index in range(len(lowered.launches)):
            assert plain.run_launch(index)[0] == recorded.run_launch(index)[0]
