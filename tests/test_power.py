"""Power: energies by hand, components that add up, the clock under a limit, and what is missing."""

from __future__ import annotations

import re

import pytest

from tests.shapes import CASES
from turbosim.engine.api import run
from turbosim.errors import UsageError
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.names import Dtype, MmaPath, OpClass
from turbosim.power import COMPONENTS, WITHIN, Between, energy_of, find_clock, voltage
from turbosim.program.ops import Affine, Compute, Loop, Mma
from turbosim.program.program import Dim, Launch, Program, Role
from turbosim.program.work import Work, program_work
from turbosim.schedules.registry import get_schedule
from turbosim.views.summary import to_json
from turbosim.workload import CopyBytes, Gemm

A100 = load_gpu("a100_sxm_80gb")


def of_gemm(gpu=A100, size=2048, dtype="fp16"):
    return get_schedule("gemm").program(gpu, Gemm(size, size, size), {"dtype": dtype})


def test_energies_of_a_known_program_by_hand():
    # 7 CTAs of 10 turns: 16 x 8 x 16 = 2048 MACs, 64 FMA, 4 EX2 and 256 bytes of shared memory each.
    block = Compute("block", lanes=((OpClass.FP32, 64), (OpClass.SFU, 4)),
                    mma=Mma(16, 8, 16, Dtype.FP16, MmaPath.MMA_SYNC), smem_bytes=256)
    program = Program("known", (), (Launch("known", (Dim("x", 7),), (Role("all", 4, (Loop("i", Affine(10), (block,)),)),)),))
    result = run(A100, program, clock="boost")
    expected = {"static": 66 * result.time_s, "tensor": 70 * 2048 * 2.3e-12, "instructions": 70 * 68 * 13.6e-12,
                "smem": 70 * 256 * 1.6e-12, "l2": 0.0, "hbm": 0.0}
    assert result.energy_j == pytest.approx(expected)
    # A clock of 1.1 GHz is 0.22 below; 0.9 of that is the voltage's fall.
    square = (1 - 0.9 * (1 - 1.1 / 1.41)) ** 2
    slow = run(A100, program, clock=1.1e9)
    assert slow.clock_hz == 1.1e9
    assert slow.energy_j == pytest.approx({n: (1 if n in ("static", "hbm") else square) * e for n, e in expected.items()}
                                          | {"static": 66 * slow.time_s})


def test_padding_costs_less():
    # Two of three products are useful; the third costs 0.3 of one.
    program = Program("padded", (), (Launch("padded", (Dim("x", 1),), (Role("all", 4, (
        Compute("block", mma=Mma(16, 8, 16, Dtype.FP16, MmaPath.MMA_SYNC, 3)),)),)),), useful_flops=2 * 2 * 2048)
    assert run(A100, program, clock="boost").energy_j["tensor"] == pytest.approx(2.3 * 2048 * 2.3e-12)


def test_bytes_by_hand():
    # 1 GB from memory crosses L2 too: (106 + 12) pJ/B.
    energies = energy_of(A100, Work(), 10**9, 10**9, 1e-3, 1.41e9)
    assert energies == pytest.approx({"static": 0.066, "tensor": 0, "instructions": 0, "smem": 0, "l2": 0.012, "hbm": 0.106})


def test_voltage_falls_to_its_floor():
    data = A100.energy
    assert voltage(data, 1.41e9) == 1
    assert voltage(data, 1.269e9) == pytest.approx(0.91)
    assert voltage(data, 0.5e9) == voltage(data, 0.21e9) == data.voltage_floor


@pytest.mark.parametrize(("kernel", "options", "workload"), CASES[:12])
def test_components_add_up_to_the_power(kernel, options, workload):
    program = get_schedule(kernel).program(A100, workload, options)
    result = run(A100, program)
    assert tuple(result.energy_j) == COMPONENTS
    assert min(result.energy_j.values()) >= 0
    assert result.power_w * result.time_s == pytest.approx(sum(result.energy_j.values()))
    power = to_json(result)["power"]
    assert sum(power["split"].values()) == pytest.approx(power["average_w"])
    assert power["energy_j"] == pytest.approx(power["average_w"] * result.time_s)


def test_power_rises_with_the_clock():
    program = of_gemm()
    found = [run(A100, program, clock=clock).power_w for clock in (0.3e9, 0.6e9, 0.9e9, 1.2e9, 1.41e9)]
    assert found == sorted(found)
    assert found[0] < 0.5 * found[-1]


@pytest.mark.parametrize("limit", [100, 150, 250, 300, 400, 500])
def test_the_limit_is_respected_and_used(limit):
    gpu = with_overrides(A100, {"power.limit": limit})
    result = run(gpu, of_gemm(), clock="power")
    assert result.power_limit_w == limit
    assert result.power_w <= limit
    assert result.power_w >= limit * (1 - WITHIN) or result.clock_hz == gpu.clock.boost
    # The same clock, asked for as a number, finds the same.
    assert run(gpu, of_gemm(), clock=result.clock_hz).ticks == result.ticks


def test_a_higher_limit_gives_a_higher_clock_up_to_boost():
    clocks = [run(with_overrides(A100, {"power.limit": w}), of_gemm(), clock="power").clock_hz for w in (150, 250, 300, 900)]
    assert clocks == sorted(clocks)
    assert clocks[-1] == A100.clock.boost > clocks[-2]


def test_below_what_the_lowest_clock_takes_that_clock_is_kept():
    gpu = with_overrides(A100, {"power.limit": 60})
    result = run(gpu, of_gemm(), clock="power")
    assert result.clock_hz == gpu.energy.lowest_clock
    assert result.power_w > 60


def test_a_memory_bound_kernel_hardly_slows_down():
    gpu = with_overrides(load_gpu("a100_pcie_80gb"), {"power.limit": 250})
    program = get_schedule("copy").program(gpu, CopyBytes(2**28), None)
    limited, free = (run(gpu, program, clock=clock) for clock in ("power", "boost"))
    assert free.power_w > 250 >= limited.power_w
    assert limited.clock_hz < 0.9 * free.clock_hz
    assert limited.time_s < 1.05 * free.time_s


def test_streams_keep_the_boost_clock():
    # They reach their bandwidth on the cards of lowest limit.
    for name in ("a100_pcie_80gb", "h100_pcie"):
        gpu = load_gpu(name)
        assert run(gpu, get_schedule("copy").program(gpu, CopyBytes(2**28), None), clock="power").clock_hz == gpu.clock.boost


def test_few_replays_are_enough():
    program, seen = of_gemm(), []

    def measure(hertz):
        result = run(A100, program, clock=hertz)
        seen.append(hertz)
        return result.time_s, result.energy_j

    find_clock(with_overrides(A100, {"power.limit": 250}), measure)
    assert 2 <= len(seen) <= 5


def test_what_runs_between_counts_for_the_limit():
    gpu = load_gpu("a100_pcie_80gb")
    alone = run(gpu, of_gemm(gpu), clock="power")
    rested = run(gpu, of_gemm(gpu), clock="power", between=Between(alone.time_s, 0))
    assert rested.clock_hz > alone.clock_hz
    # Half of the time at 66 W leaves twice what is above that to the other half.
    assert (rested.power_w * rested.time_s + 66 * alone.time_s) / (rested.time_s + alone.time_s) <= 300
    busy = run(gpu, of_gemm(gpu), clock="power", between=Between(alone.time_s, round(3e12 * alone.time_s)))
    assert busy.clock_hz < alone.clock_hz


def test_engines_find_the_same_clock():
    gpu = with_overrides(A100, {"power.limit": 100, "sm.count": 4})
    found = [run(gpu, of_gemm(gpu, 512), clock="power", engine=e) for e in ("numba", "simpy")]
    assert found[0].clock_hz == found[1].clock_hz
    assert found[0].energy_j == found[1].energy_j


def test_records_are_those_of_the_clock_found():
    gpu = with_overrides(A100, {"power.limit": 250})
    result = run(gpu, of_gemm(gpu, 1024), clock="power", record=(0,))
    assert result.recording.ops == run(gpu, of_gemm(gpu, 1024), clock=result.clock_hz, record=(0,)).recording.ops


@pytest.mark.parametrize(("gpu", "changes", "lacking"), [
    ("l4", {}, "energy"),
    ("h200_sxm", {"tensor.mma.sync.rates.int4": 5160}, "energy.tensor.int4"),
])
def test_without_data_there_is_one_error(gpu, changes, lacking):
    spec = with_overrides(load_gpu(gpu), changes)
    if spec.energy is not None:
        spec = spec.model_copy(update={"energy": spec.energy.model_copy(update={
            "tensor": {d: e for d, e in spec.energy.tensor.items() if d is not Dtype.INT4}})})
    program = of_gemm(spec, 512, "int4" if changes else "fp16")
    message = (f"clock power: the hardware file of {gpu} has no {lacking}, so the power is not known; add it, or take "
               "another clock: sustained, boost, tensor_spec")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        run(spec, program, clock="power")
    result = run(spec, program)
    assert (result.energy_j, result.power_w, to_json(result)["power"]) == ({}, None, None)


def test_int8_takes_less_energy_than_fp16():
    fp16, int8 = (run(A100, of_gemm(dtype=d), clock="power") for d in ("fp16", "int8"))
    assert program_work(of_gemm()).macs[MmaPath.MMA_SYNC, Dtype.FP16] == 2048**3
    assert int8.total_energy_j < 0.6 * fp16.total_energy_j


@pytest.mark.parametrize("clock", [0, -1.0, float("nan"), 1e12, True])
def test_a_clock_is_in_hertz(clock):
    message = f"clock: a number is in Hz, 1e6 to 1e11, got {clock!r}; write for example 1.41e9"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        run(A100, of_gemm(size=256), clock=clock)
