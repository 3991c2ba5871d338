"""Conservation and bounds over every schedule and every GPU."""

from __future__ import annotations

import pytest

from tests.shapes import CASES, case_id
from turbosim.engine.api import run
from turbosim.errors import UsageError
from turbosim.hw import list_gpus, load_gpu, with_overrides
from turbosim.program.work import program_work
from turbosim.schedules.registry import get_schedule

GPUS = {name: load_gpu(name) for name in list_gpus()}
PAIRS = [(name, case) for name in GPUS for case in CASES]


def pair_id(pair):
    return f"{pair[0]}-{case_id(pair[1])}" if isinstance(pair, tuple) and isinstance(pair[1], tuple) else str(pair)


@pytest.mark.parametrize("pair", PAIRS, ids=pair_id)
def test_work_is_conserved_and_nothing_beats_the_roofline(pair):
    name, (kernel, options, workload) = pair
    gpu = GPUS[name]
    program = get_schedule(kernel).program(gpu, workload, options)
    work = program_work(program)
    result = run(gpu, program)
    assert program.useful_flops == workload.flops
    assert sum(x.ops for x in result.launches) == work.ops
    assert sum(x.l2_read_bytes for x in result.launches) == work.read_bytes
    assert sum(x.l2_write_bytes for x in result.launches) == work.write_bytes
    assert result.dram_write_bytes == work.write_bytes
    assert result.dram_read_bytes <= work.read_bytes
    assert result.dram_read_bytes + sum(x.l2_hit_bytes for x in result.launches) == work.read_bytes
    assert result.compulsory_bytes <= result.dram_read_bytes + result.dram_write_bytes
    assert result.time_s >= result.bound_s
    assert all(0 <= share <= 1 for share in result.utilization.values())
    assert sum(result.stalls.values()) == pytest.approx(1.0)
    for launch in result.launches:
        assert sum(map(sum, launch.reason_ticks)) == (
            launch.ticks * gpu.sm.count * launch.ctas_per_sm * len(launch.reason_ticks))


TWICE = {
    "hbm": lambda g: {"hbm.bandwidth": 2 * g.hbm.bandwidth},
    "sfu": lambda g: {"pipes.sfu.rate": 2 * g.pipes["sfu"].rate},
    "sm": lambda g: {"sm.count": 2 * g.sm.count},
}


@pytest.mark.parametrize("what", TWICE)
@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("name", list(GPUS))
def test_twice_the_hardware_is_never_slower(name, case, what):
    kernel, options, workload = case
    gpu = GPUS[name]
    # The same program on both, so that only the hardware differs.
    program = get_schedule(kernel).program(gpu, workload, options)
    more = with_overrides(gpu, TWICE[what](gpu))
    assert run(more, program).time_s <= run(gpu, program).time_s


def test_every_design_point_differs_from_its_base_as_its_name_says():
    assert GPUS["h200_2x_sfu"].pipes["sfu"].rate == 2 * GPUS["h200_sxm"].pipes["sfu"].rate
    assert GPUS["a100_2x_hbm"].hbm.bandwidth == 2 * GPUS["a100_sxm_80gb"].hbm.bandwidth
    assert "sas" in GPUS["h200_sas"].pipes
    with pytest.raises(UsageError, match=r"^kernel 'turbo': sas_variant=unit needs a SAS unit, which h200_sxm does not"):
        get_schedule("turbo").program(GPUS["h200_sxm"], CASES[0][2], {"sas_variant": "unit"})
