"""Simulations of every schedule on every GPU: work is conserved, reasons sum up, nothing beats the hardware."""

from __future__ import annotations

import pytest

from tests.closed_forms import closed_form
from tests.shapes import CASES, case_id, cases_of
from turbosim.engine.api import run
from turbosim.errors import UsageError
from turbosim.hw import list_gpus, load_gpu
from turbosim.hw.spec import OpClass, Unit
from turbosim.result import TICKS_PER_CYCLE
from turbosim.schedules.registry import get_schedule

GPUS = {name: load_gpu(name) for name in list_gpus()}


def unit_cycles(gpu, expected):
    """Cycles of the tensor cores and of the SFU, summed over SMs."""
    sfu = [c for c in (OpClass.SFU, OpClass.CVT) if gpu.pipes[c].unit is Unit.SFU]
    return {Unit.TENSOR: sum(n / gpu.tensor[path].rates[dtype] for (path, dtype), n in expected.macs.items()),
            Unit.SFU: sum(expected.lanes[c] / gpu.pipes[c].rate for c in sfu)}


def check_traffic(result, expected):
    loaded, stored = sum(expected.loaded.values()), sum(expected.stored.values())
    assert sum(x.l2_read_bytes for x in result.launches) == loaded
    assert sum(x.l2_write_bytes for x in result.launches) == result.dram_write_bytes == stored
    assert result.dram_read_bytes + sum(x.l2_hit_bytes for x in result.launches) == loaded
    assert expected.inputs + stored <= result.compulsory_bytes <= result.dram_read_bytes + stored


def check_service(gpu, result, expected):
    """Units serve the work of the closed form, each operation rounded up to a tick."""
    ops = sum(x.ops for x in result.launches)
    for unit, cycles in unit_cycles(gpu, expected).items():
        busy = sum(x.busy_ticks[unit] for x in result.launches)
        assert -1 < busy - TICKS_PER_CYCLE * cycles < ops, unit
    assert all(0 <= share <= 1 for share in result.utilization.values())


def check_roofline(gpu, result, expected):
    hertz = gpu.clock.hertz("sustained")
    loaded, stored = sum(expected.loaded.values()), sum(expected.stored.values())
    least = max(*(cycles / gpu.sm.count / hertz for cycles in unit_cycles(gpu, expected).values()),
                (loaded + stored) / gpu.l2.bandwidth, (expected.inputs + stored) / gpu.hbm.bandwidth)
    assert least <= result.bound_s * (1 + 1e-12)
    assert result.bound_s <= result.time_s


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in sorted(GPUS) for case in cases_of(GPUS[name])],
                         ids=lambda x: x if isinstance(x, str) else case_id(x))
def test_work_is_conserved_and_nothing_beats_the_roofline(name, case):
    kernel, options, workload = case
    gpu = GPUS[name]
    program = get_schedule(kernel).program(gpu, workload, options)
    expected = closed_form(kernel, gpu.arch, workload, options, program.meta)
    result = run(gpu, program)
    assert result.useful_flops == expected.flops
    check_traffic(result, expected)
    check_service(gpu, result, expected)
    check_roofline(gpu, result, expected)
    for launch in result.launches:
        slots = gpu.sm.count * launch.ctas_per_sm
        assert [sum(reasons) for reasons in launch.reason_ticks] == [launch.ticks * slots] * len(launch.reason_ticks)


def test_every_design_point_differs_from_its_base_as_its_name_says():
    assert GPUS["h200_2x_sfu"].pipes["sfu"].rate == 2 * GPUS["h200_sxm"].pipes["sfu"].rate
    assert GPUS["a100_2x_hbm"].hbm.bandwidth == 2 * GPUS["a100_sxm_80gb"].hbm.bandwidth
    assert "sas" in GPUS["h200_sas"].pipes
    with pytest.raises(UsageError, match=r"^kernel 'turbo': sas_variant=unit needs a SAS unit, which h200_sxm does not"):
        get_schedule("turbo").program(GPUS["h200_sxm"], CASES[0][2], {"sas_variant": "unit"})
