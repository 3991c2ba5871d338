"""How measured tilings are grouped and ranked, and that the models rank those of attention."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.check_tilings import (
    DIFFERENT,
    LEAST,
    Group,
    clear_tau,
    evaluate,
    groups_of,
    loss,
    repeats,
    sass_job,
    sets_with_tilings,
    step_table,
    tau,
)
from analysis.tiling_claims import Claim, check, checked_claims, read_claims
from turbosim.errors import ProgramError
from turbosim.sass.prepare import find_description
from turbosim.validation.sets import load_set

times = st.lists(st.integers(1, 10**6), min_size=LEAST, max_size=12, unique=True)


@given(times, st.floats(1, 3))
def test_predictions_that_rise_with_the_times_rank_all_right(found, power):
    pairs = [(float(t), (place + 1)**power * 1e-9) for place, t in enumerate(sorted(found))]
    reverse = [(t, 1 / p) for t, p in pairs]
    assert tau(pairs) == pytest.approx(1)
    assert tau(reverse) == pytest.approx(-1)
    assert loss(pairs) == 0
    assert clear_tau(pairs, 0) == pytest.approx(1)
    assert clear_tau(reverse, 0) == pytest.approx(-1)


@given(times, st.randoms())
def test_clear_tau_of_all_pairs_is_kendalls_where_no_prediction_is_twice(found, order):
    other = [float(t) for t in found]
    order.shuffle(other)
    pairs = list(zip(map(float, found), other, strict=True))
    assert clear_tau(pairs, 0) == pytest.approx(tau(pairs))


@given(st.floats(1e-6, 1e-2), st.floats(1e-4, DIFFERENT * 0.9), st.floats(DIFFERENT * 1.1, 1))
def test_clear_tau_leaves_out_times_that_are_as_good_as_equal(time, near, far):
    pairs = [(time, 2.0), (time * (1 + near), 1.0), (time * (1 + near) * (1 + far), 3.0)]
    assert clear_tau(pairs) == 1
    assert clear_tau(pairs[:2]) is None


def test_what_ranks_nothing_has_no_tau():
    assert tau([(1.0, 1.0), (2.0, 2.0)]) is None
    assert tau([(1.0, 5.0), (2.0, 5.0), (3.0, 5.0)]) is None
    assert clear_tau([(1.0, 5.0), (2.0, 5.0)]) == 0


def test_groups_differ_in_nothing_but_tilings():
    names = sets_with_tilings()
    assert {"inductor_mm_h100", "tilelang_attention_h200"} <= set(names)
    for name in names:
        for group in groups_of(load_set(name).rows):
            assert len({(r.workload, r.version, r.dtype, r.kernel, r.gpu) for r in group.rows}) == 1
            assert len({r.options for r in group.rows}) == len(group.rows) >= LEAST


def test_machine_code_is_compiled_with_the_rows_tiling():
    data = load_set("inductor_mm_l40s")
    for row in (r for g in groups_of(data.rows) for r in g.rows):
        job = sass_job(row, data.meta.kernels[row.kernel])
        assert job is not None
        # A name that the description lacks would be refused.
        bound = find_description(job.kernel).bind(dict(job.options)).values
        options = dict(row.options)
        assert bound["BLOCK_K"] == int(options["block_k"])
        assert bound["num_warps"] == int(options["warps"])
        assert bound["K"] == row.workload.k
        assert not bound["B_COLUMNS"]


def test_rows_of_the_template_have_a_depth_that_divides():
    for name in sets_with_tilings():
        for row in (r for g in groups_of(load_set(name).rows) for r in g.rows if r.kernel == "triton_mm"):
            assert row.workload.k % int(dict(row.options)["block_k"]) == 0


def test_the_same_tilings_measured_twice_differ_little():
    groups = groups_of(r for name in sets_with_tilings() for r in load_set(name).rows)
    found = [pairs for _, _, pairs in repeats(groups)]
    assert found
    ratios = sorted(abs(math.log(b / a)) for pairs in found for a, b in pairs)
    assert ratios[len(ratios) * 9 // 10] < math.log1p(DIFFERENT)


def test_a_turn_is_the_difference_of_two_depths():
    rows = [r for r in load_set("inductor_mm_h100").rows if r.options and r.workload.n == 4096 and r.workload.m == 64]
    groups = [Group(g.rows, {n: {r: 2 * r.time_s for r in g.rows} for n in ("tile", "sass")}) for g in groups_of(rows)]
    lines = step_table(groups)[2:]
    assert lines
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")]
        measured, tile = (float(cells[n].removesuffix(" ns")) for n in (6, 8))
        assert tile == pytest.approx(2 * measured, abs=1.5)


def test_tilings_of_attention_are_ranked():
    found = [tau(group.pairs("tile")) for group in evaluate(["tilelang_attention_h200"], 1)]
    assert min(found) > 0.9


def test_orders_that_public_code_states_are_predicted():
    checked = checked_claims()
    assert len(checked) == len(read_claims()[1])
    assert sum(c.agrees for c in checked) >= 0.9 * len(checked)


def test_a_claim_the_other_way_round_is_refuted():
    claim = Claim("a100_sxm_80gb", 128, "128x64 w4", "128x128 w8")
    turned = Claim("a100_sxm_80gb", 128, "128x128 w8", "128x64 w4")
    assert check(claim, 512).agrees != check(turned, 512).agrees
    with pytest.raises(ProgramError, match="registers"):
        check(Claim("a100_sxm_80gb", 64, "256x64 w4", "128x128 w4"), 512)
