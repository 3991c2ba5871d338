"""That no rule which keeps pipes busy is free of slowdowns by faster units, which D1 of the deviations rests on."""

import pytest

from analysis.arbitration import Case, Rule, competing, in_turn, measure


@pytest.mark.parametrize("rule", [Rule.FIRST_COME, Rule.ROUND_ROBIN, Rule.OLDEST])
def test_every_rule_that_keeps_pipes_busy_can_lose(rule):
    found = measure(rule, cases=30)
    assert found.slower > 0
    assert found.largest > 0.01


def test_a_fixed_order_never_loses():
    found = measure(Rule.FIXED, cases=15)
    assert found.slower == 0
    assert found.over_bound >= 1


@pytest.mark.parametrize("rule", [Rule.FIRST_COME, Rule.ROUND_ROBIN, Rule.OLDEST])
def test_one_slot_takes_the_sum_of_its_steps(rule):
    case = Case(1, 3, ((10.0, 0.0, 4.0, 0.0), (0.0, 6.0, 8.0, 0.0)), (2, 1), ctas_per_slot=2)
    assert competing(case, rule) == pytest.approx(2 * 3 * 18)
    assert in_turn(case) == pytest.approx(2 * 3 * 18)
