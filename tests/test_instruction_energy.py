"""The energy of an instruction: the derivation by hand, what it gives again, and how constant the sweep is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.instruction_energy import (
    SWEEP_FMA,
    fma_energy,
    limited,
    peak,
    products,
    share,
    unchanged,
    watts_at_boost,
    with_sweep_fma,
)
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.names import OpClass

ROWS = products()
H100 = next(r for r in ROWS if r.source == "I")
A100 = next(r for r in ROWS if r.source == "Y")


def test_the_derivation_by_hand():
    # 615 W less 105 W at rest, 805 MB of device memory in 21.35 ms at 75 pJ/B, 1 B of shared memory, 1/16 B of L2 at 47 pJ/B.
    rate, seconds = 51.5e12 / 2, 2 * 8192**3 / 51.5e12
    by_hand = (615 - 105 - 3 * 4 * 8192**2 / seconds * 75e-12) / rate - 1.6e-12 - 47e-12 / 16
    assert fma_energy(H100.card(), H100, 615) == pytest.approx(by_hand)


@pytest.mark.parametrize("energy", [5e-12, 11.6e-12, 15.2e-12, 30e-12])
@pytest.mark.parametrize("row", [H100, A100], ids=lambda r: r.gpu)
def test_the_energy_of_a_known_power_is_found_again(row, energy):
    gpu = with_overrides(row.card(), {"energy.instruction.fp32": energy})
    assert fma_energy(row.card(), row, watts_at_boost(gpu, row)) == pytest.approx(energy)


def test_the_files_have_what_was_derived():
    h100, a100 = load_gpu("h100_sxm").energy.instruction, load_gpu("a100_sxm_80gb").energy.instruction
    middle = sum(H100.watts) / 2
    assert h100[OpClass.FP32] == pytest.approx(fma_energy(H100.card(), H100, middle), abs=0.05e-12)
    ratio = h100[OpClass.FP32] / SWEEP_FMA["sm_90"]
    assert a100[OpClass.FP32] == pytest.approx(SWEEP_FMA["sm_80"] * ratio, abs=0.05e-12)
    for energies in (h100, a100, load_gpu("h200_sas").energy.instruction):
        assert len(set(energies.values())) == 1


def test_the_a100_at_boost_is_below_its_limit():
    # It reached 97 % of the peak of the boost clock, so that the limit did not lower it.
    assert share(ROWS, "sm_80") == pytest.approx(18.88 / 19.49, abs=1e-3)
    assert watts_at_boost(A100.card(), A100) < A100.limit


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.gpu} {r.shape[0]}")
def test_a_lower_limit_gives_a_lower_clock(row):
    of_peak = share(ROWS, row.card().arch)
    clocks = [limited(replace(row, limit=watts).card(), row, of_peak) for watts in (150, 250, 350, 900)]
    assert clocks == sorted(clocks)
    assert clocks[0] < clocks[-1] == row.card().clock.boost
    assert limited(with_sweep_fma(row.card()), row, of_peak) >= limited(row.card(), row, of_peak)


def test_the_fp32_peak():
    assert peak(load_gpu("h100_sxm"), 1.98e9) == pytest.approx(66.9e12, rel=1e-3)


def test_the_sweep_soon_keeps_its_values():
    # v grows by a factor of a with each FMA until it overflows: for a number of 5e8, half the largest index, at the fifth.
    shares = [unchanged(steps, 132, 2000) for steps in (1, 3, 8, 100, 400)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    steps = next(n for n in range(1, 20) if 5e8**n > 3.4e38)
    assert shares[3] == pytest.approx(1 - steps / 100, abs=0.01)
