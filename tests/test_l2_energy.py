"""The energy of a byte of L2: the derivation by hand, what it gives again, and that the files have it."""

from __future__ import annotations

import pytest

from analysis.l2_energy import INSTRUCTIONS, WHOLE_PATH, WORD, Card, cards, per_clock
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.names import OpClass

WIDE, CARDS = cards()


def test_the_derivation_by_hand():
    # 37.5 B a cycle and SM on the H200; 6.9 TB/s on 114 SMs are that at 1.61 GHz, where the voltage is 0.83.
    clock = 6.9e12 / 114 / (9.8e12 / 132 / 1.98e9)
    voltage = 1 - 0.9 * (1 - clock / 1.98e9)
    by_hand = (350 - 105) / (voltage**2 * 6.9e12) - 2 * 15.2e-12 / 8
    assert CARDS[0].hertz == pytest.approx(clock)
    assert CARDS[0].energy(WIDE) == pytest.approx(by_hand)


@pytest.mark.parametrize("card", CARDS, ids=lambda c: f"{c.hertz / 1e9:.2f}")
@pytest.mark.parametrize("limit", [250.0, 350.0, 500.0])
def test_the_energy_of_a_limit_makes_the_card_take_it(card, limit):
    of = Card(with_overrides(card.gpu, {"power.limit": limit}), card.hertz)
    loads = INSTRUCTIONS * of.gpu.energy.instruction[OpClass.FP32] / WORD
    square = (1 - 0.9 * (1 - of.hertz / 1.98e9)) ** 2
    watts = 105 + square * of.bytes_per_s(WIDE) * (of.energy(WIDE) + loads)
    assert watts == pytest.approx(limit)


def test_the_files_have_what_was_derived():
    for name in ("h100_sxm", "h100_pcie", "h200_sxm"):
        energy = load_gpu(name).energy
        assert energy.l2 == pytest.approx(CARDS[0].energy(WIDE), abs=0.5e-12)
        assert energy.l2 + energy.hbm == pytest.approx(WHOLE_PATH, abs=0.5e-12)


def test_an_h200_at_boost_is_below_its_limit():
    # Its bandwidth is taken to be that of the boost clock.
    h200 = load_gpu("h200_sxm")
    assert per_clock(h200, h200.clock.boost) == WIDE
    loads = INSTRUCTIONS * h200.energy.instruction[OpClass.FP32] / WORD
    assert h200.energy.static + h200.l2.bandwidth * (h200.energy.l2 + loads) < h200.power.limit


def test_the_lowest_clock_means_the_most_energy():
    implied, lowest, boost = (card.energy(WIDE) for card in CARDS)
    assert boost < implied < lowest < WHOLE_PATH
