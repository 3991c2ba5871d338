"""Kendall's tau over tilings: what is a group, what a group's tau is, where it is shown, and its limit."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from scipy.stats import kendalltau

from turbosim.cli import validate as command
from turbosim.validation import sets
from turbosim.validation.predict import Findings, Outcome
from turbosim.validation.row import Protocol, Row
from turbosim.validation.thresholds import Threshold, ThresholdError, judge, read_thresholds
from turbosim.validation.tilings import tiling_score
from turbosim.views.validation import score_lines, to_json, to_markdown
from turbosim.workload import Gemm

ROW = Row("f:2", "data", "l4", "gemm", Gemm(512, 512, 512), 1e-4, Protocol())
TILES = [(("block_m", str(m)), ("block_n", str(n)), ("warps", str(w))) for m in (64, 128) for n in (32, 64, 128) for w in (4, 8)]


def group(times, **others):
    """Return outcomes of (measured, predicted) times, each of another tiling."""
    return [Outcome(replace(ROW, options=(*TILES[i], *others.get("options", ())), time_s=m,
                            **{k: v for k, v in others.items() if k != "options"}), {"tile": p})
            for i, (m, p) in enumerate(times)]


def random_times(dice, count):
    return [(dice.uniform(1, 2) * 1e-4, dice.uniform(1, 2) * 1e-4) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_each_shape_has_its_own_tau_and_the_mean_is_over_shapes(seed):
    dice = random.Random(seed)
    parts = [random_times(dice, dice.randrange(3, 13)) for _ in range(dice.randrange(1, 5))]
    outcomes = [o for n, times in enumerate(parts) for o in group(times, workload=Gemm(512, 512, 64 * (n + 1)))]
    dice.shuffle(outcomes)
    found = tiling_score(outcomes, "tile")
    taus = {64 * (n + 1): kendalltau(*zip(*times, strict=True)).statistic for n, times in enumerate(parts)}
    assert {r.first.workload.k: r.kendall for r in found.ranks} == pytest.approx(taus)
    assert sum(r.count for r in found.ranks) == len(outcomes)
    assert found.mean == pytest.approx(sum(taus.values()) / len(taus))


@pytest.mark.parametrize("other", [
    {"workload": Gemm(512, 512, 1024)}, {"kernel": "other"}, {"gpu": "a100_sxm_80gb"}, {"version": "2"}, {"dtype": "bf16"},
    {"protocol": Protocol("warm")}, {"protocol": Protocol("cold", "graph")}, {"dataset": "more"}, {"options": (("dtype", "int8"),)}])
def test_what_else_differs_makes_another_group(other):
    rising, falling = [(1, 1), (2, 2), (3, 3)], [(1, 3), (2, 2), (3, 1)]
    found = tiling_score([*group(rising), *group(falling, **other)], "tile")
    assert [r.kendall for r in found.ranks] == [1, -1]
    assert found.mean == 0


def test_times_and_clocks_make_no_other_group():
    outcomes = [replace(o, row=replace(o.row, where=f"f:{n}", protocol=Protocol(clock=1e9 + n), column=f"c{n}"))
                for n, o in enumerate(group([(1, 1), (2, 2), (3, 3)]))]
    (rank,) = tiling_score(outcomes, "tile").ranks
    assert (rank.count, rank.kendall) == (3, 1)


def test_no_group_without_three_tilings_that_are_predicted_and_differ():
    assert tiling_score(group([(1, 1), (2, 2)]), "tile") is None
    same = [replace(o, row=replace(o.row, options=TILES[0])) for o in group([(1, 1), (2, 2), (3, 3)])]
    assert tiling_score(same, "tile") is None
    unknown = [replace(o, row=replace(o.row, options=())) for o in group([(1, 1), (2, 2), (3, 3)])]
    assert tiling_score(unknown, "tile") is None
    some = group([(1, 1), (2, 2), (3, 3)])
    assert tiling_score([*some[:2], replace(some[2], times={"sass": 1.0})], "tile") is None
    assert tiling_score(group([(1, 1), (1, 2), (1, 3)]), "tile") is None


def test_a_model_that_tells_no_tilings_apart_ranks_none():
    equal = group([(1, 1), (2, 1 + 1e-9), (3, 1)])
    assert tiling_score(equal, "tile").mean == 0


def test_it_is_shown_beside_the_tau_over_shapes_where_there_is_one():
    outcomes = (*group([(1, 1), (2, 3), (3, 2)]), *group([(2, 2), (3, 3), (4, 4)], workload=Gemm(64, 64, 64)))
    with_tilings, without = Findings(outcomes, ()), Findings(outcomes[:2], ())
    assert score_lines(with_tilings, ["tile"])[0][-1] == "0.67 of 2"
    assert len(score_lines(without, ["tile"])[0]) == len(score_lines(with_tilings, ["tile"])[0]) - 1
    head, rule, line = to_markdown(with_tilings, ["tile"]).splitlines()
    assert head.endswith("| tau | tau over tilings |")
    assert line.endswith("| 0.67 of 2 |")
    assert head.count("|") == rule.count("|") == line.count("|")
    assert "tilings" not in to_markdown(without, ["tile"])
    (found,) = to_json(with_tilings, [], ["tile"])["groups"]
    assert found["tilings"]["tile"]["kendall"] == pytest.approx(2 / 3)
    assert [s["rows"] for s in found["tilings"]["tile"]["shapes"]] == [3, 3]
    assert to_json(without, [], ["tile"])["groups"][0]["tilings"] == {"tile": None}


@pytest.mark.parametrize(("least", "missed"), [(0.66, []), (0.67, ["tau"])])
def test_its_limit_is_a_least_value(tmp_path, least, missed):
    outcomes = [*group([(1, 1), (2, 3), (3, 2)]), *group([(2, 2), (3, 3), (4, 4)], workload=Gemm(64, 64, 64))]
    (tmp_path / "t.yaml").write_text(f"thresholds:\n  - {{set: data, tau: {least}, mean: 60 %, aim: {{tau: 0.9}}}}\n")
    (limit,) = read_thresholds(tmp_path / "t.yaml")
    (verdict,) = judge([limit], outcomes, ["tile"])
    assert verdict.missed == missed
    assert verdict.reached == {"mean": pytest.approx((0.5 + 1 / 3) / 6), "tau": pytest.approx(2 / 3)}
    assert verdict.aim_met("tau") is False


def test_a_limit_of_tilings_without_tilings_is_no_pass():
    limit = Threshold("t.yaml:2", "data", "tile", {"tau": 0.9}, {})
    with pytest.raises(ThresholdError, match=r"^t\.yaml:2: no row of data has a prediction of model tile and at least three tilings "
                                             r"of a shape; correct the names, or remove the threshold$"):
        judge([limit], group([(1, 1), (2, 2)]), ["tile"])


def test_the_command_prints_and_judges_it(table, tmp_path, monkeypatch, capsys):
    start = "l4,flash,prefill,1,4,4,512,512,64,true,"
    lines = [f"{start}{{}},block_m={m}:block_n=64:warps=4" for m in (64, 128)] + [f"{start}{{}},block_m=64:block_n=128:warps=4"]
    header = "gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s,options\n"
    (tmp_path / "thresholds.yaml").write_text("thresholds:\n  - {set: data, tau: 0.9}\n")
    monkeypatch.setattr(sets, "directory", lambda: tmp_path)
    taus = []
    for times in (("2e-5", "3e-5", "4e-5"), ("4e-5", "3e-5", "2e-5")):
        path = table(*(line.format(t) for line, t in zip(lines, times, strict=True)), header=header)
        said = ""
        try:
            command.validate(data=[path], engine="numba", as_json=True)
        except ThresholdError as error:
            said = str(error)
        tau = json.loads(capsys.readouterr().out)["groups"][0]["tilings"]["tile"]["kendall"]
        assert said == ("" if tau >= 0.9 else
                        f"thresholds.yaml:2: data: tau over tilings of tile is {tau:.2f}, below its limit of 0.90")
        taus.append(tau)
    assert taus[0] == pytest.approx(-taus[1])
    # One of the two orders is not the model's.
    assert min(taus) < 0.9
