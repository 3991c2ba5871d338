"""Searches: the front of a whole grid, the same points for the same seed, resuming, infeasible points, messages."""

from __future__ import annotations

import csv
import json
import re
import signal
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.study.studies import COPIES, rows_in, started, study_of, turbosim, wait_for
from tests.views.as_before import assert_as_before
from turbosim.errors import UsageError
from turbosim.study.objectives import NoFrontError, Objective, column, objectives
from turbosim.study.pareto import dominates, front, hypervolume
from turbosim.study.results import load_results
from turbosim.study.search import Search, Trial, history, run_search
from turbosim.study.sweep import run_study
from turbosim.views.pareto_figure import figure

GRID = COPIES + """\
  l2.bandwidth: [5, 10 TB/s]
  clock: [boost, sustained]
metrics: {per_area: hbm_gbps / area_mm2, gain: baseline.time_s / time_s}
baseline: {sm.count: 132}
"""
OPEN = """\
hw: h200_sxm
kernel: copy
workload: {bytes: 4 MiB}
axes:
  hbm.bandwidth: {from: 1 TB/s, to: 8 TB/s, scale: log}
  sm.count: {from: 20, to: 132}
sampling: {method: random, points: 10}
constraints: [area_mm2 < 800]
"""
points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), max_size=25)


@given(points)
def test_the_front_is_what_none_dominates(found):
    kept = front(found)
    assert sorted(kept) == [i for i, p in enumerate(found) if not any(dominates(q, p) for q in found)]


@given(points)
def test_hypervolume_counts_the_cells_that_are_dominated(found):
    cells = sum(any(all(x <= c for x, c in zip(p, cell, strict=True)) for p in found)
                for cell in ((x, y, z) for x in range(7) for y in range(7) for z in range(7)))
    assert hypervolume(found, (7, 7, 7)) == pytest.approx(cells)


@pytest.mark.parametrize("trials", [60, 72, 500])
def test_the_front_is_that_of_the_whole_grid(tmp_path, trials):
    study = study_of(tmp_path, GRID)
    wanted = objectives(study, "time,area_mm2", "")
    found = run_search(study, tmp_path / "search", wanted, trials=trials, jobs=1)
    run_study(study, tmp_path / "grid", jobs=1)
    frame = load_results(tmp_path / "grid")
    values = list(zip(frame["time_s"], frame["area_mm2"], strict=True))
    best = {values[i] for i in front(values)}
    assert len({t.values for t in found.front}) > 3
    if trials >= 72:
        assert found.exhausted
        assert len(found.trials) == 72
        assert {t.values for t in found.front} == best
    else:
        # Five sixths of all points have nearly all there is to gain.
        reference = max(frame["time_s"]), max(frame["area_mm2"])
        reached = hypervolume([t.values for t in found.front], reference)
        assert reached >= 0.99 * hypervolume(list(best), reference)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_the_same_seed_finds_the_same_points_and_simulates_none_again(tmp_path, sampler):
    study = study_of(tmp_path, OPEN)
    wanted = objectives(study, "time_s,area", "")

    def run(folder, seed, jobs=1):
        return run_search(study, tmp_path / folder, wanted, trials=32, seed=seed, sampler=sampler, jobs=jobs)

    first, again, other, shared = run("a", 3), run("a", 3), run("b", 4), run("c", 3, jobs=2)
    assert [t.axes for t in first.trials] == [t.axes for t in again.trials] == [t.axes for t in shared.trials]
    assert [t.values for t in first.trials] == [t.values for t in again.trials] == [t.values for t in shared.trials]
    assert [t.axes for t in first.trials] != [t.axes for t in other.trials]
    assert first.simulated == len(rows_in(tmp_path / "a")) == 32 - sum(first.infeasible.values())
    assert (again.simulated, again.before) == (0, first.simulated)
    assert len({tuple(t.axes.values()) for t in first.trials}) == 32
    assert set(first.infeasible) <= {"breaks a constraint"}
    assert all(t.record["area_mm2"] < 800 for t in first.trials if t.values)


def test_hypervolume_never_decreases(tmp_path):
    study = study_of(tmp_path, OPEN)
    found = run_search(study, tmp_path / "out", objectives(study, "time_s,area_mm2", ""), trials=40, jobs=1)
    volumes = [hypervolume(seen, (1e-4, 800.0)) for seen in history(found)]
    assert all(a <= b + 1e-15 for a, b in pairwise(volumes))
    assert 0 < volumes[0] < volumes[-1] or volumes[0] == 0 < volumes[-1]


def test_a_sweep_before_spares_the_search_its_simulations(tmp_path):
    study = study_of(tmp_path, GRID)
    run_study(study, tmp_path / "out", jobs=1)
    found = run_search(study, tmp_path / "out", objectives(study, "cost", "per_area"), trials=20, jobs=1)
    assert (found.simulated, found.before) == (0, 20)


def test_metrics_over_a_baseline_are_objectives(tmp_path):
    study = study_of(tmp_path, GRID)
    found = run_search(study, tmp_path / "out", objectives(study, "area_mm2", "gain"), trials=72, jobs=1)
    own = [t for t in found.trials if t.axes["sm.count"] == 132]
    assert all(t.values[1] == 1 for t in own)
    assert any(t.values[1] < 1 for t in found.trials)


def test_points_that_fail_are_infeasible_and_none_but_these_is_an_error(tmp_path):
    # Each of these latencies is possible, but not 300 ns of device memory with 400 ns of L2.
    text = GRID.replace("sm.count: [40, 80, 132]", "hbm.latency: [300, 600 ns]").replace(
        "l2.bandwidth: [5, 10 TB/s]", "l2.latency_far: [271, 400 ns]").replace(
        "baseline: {sm.count: 132}", "baseline: {hbm.latency: 600 ns}")
    study = study_of(tmp_path, text)
    wanted = objectives(study, "time_s,cost_usd", "")
    found = run_search(study, tmp_path / "out", wanted, trials=48, jobs=1)
    assert sum(found.infeasible.values()) == 12
    assert all("a miss cannot be faster than a hit" in reason for reason in found.infeasible)
    assert all(t.axes["hbm.latency"] > 500e-9 or t.axes["l2.latency_far"] < 300e-9 for t in found.front)
    only = study_of(tmp_path, GRID.replace("kernel: copy", "kernel: flash:block_m=96").replace(
        "{bytes: 4 MiB}", "{model: llama3-8b, phase: prefill, batch: 1, seq: 1k}"), "only.yaml")
    told = r"^none of 10 points has all objectives: kernel \(.*only.yaml:2:9\): kernel 'flash': block_m must be .*\(10 of them\)$"
    with pytest.raises(NoFrontError, match=told):
        run_search(only, tmp_path / "only", wanted, trials=10, jobs=1)


NEVER = "area_mm2 < 100"
DROPPED = "all 40 points that were tried"


@pytest.mark.parametrize(("text", "constraints", "message"), [
    (OPEN.replace("[area_mm2 < 800]", f"[area_mm2 < 800, {NEVER}]"), "",
     f"8:31: constraints: '{NEVER}' drops {DROPPED}; loosen it, or try more points with --trials"),
    (OPEN.replace("[area_mm2 < 800]", "[sm.count > 140]"), "",
     f"8:15: constraints: 'sm.count > 140' drops {DROPPED}; loosen it, or widen sm.count, or try more points with --trials"),
    (COPIES, "constraints:\n  - sm.count < 20",
     "8:5: constraints: 'sm.count < 20' drops all 18 points; loosen it, or add values to sm.count"),
    (COPIES, "constraints:\n  - sm.count < 100\n  - sm.count > 100\n  - hbm.bandwidth < 9 TB/s",
     "7:1: constraints: together drop all 18 points, 'sm.count < 100' (study.yaml:8:5) 6, 'sm.count > 100' "
     "(study.yaml:9:5) 12; loosen one of them")])
def test_constraints_that_drop_all_trials(tmp_path, text, constraints, message):
    (tmp_path / "study.yaml").write_text(f"{text}{constraints}\n")
    done = turbosim("search", "study.yaml", "--minimize", "time,area", "--trials", 40, "-o", "out", cwd=tmp_path)
    told = done.stderr.removeprefix("compiling the engine, once for this installation ...\n")
    assert (done.returncode, done.stdout, told) == (3, "", f"error: study.yaml:{message}\n")
    assert not (tmp_path / "out").exists()


def test_points_that_fail_where_constraints_drop_the_others(tmp_path):
    text = COPIES.replace("kernel: copy", "kernel: flash\nset: {block_m: [96, 128]}").replace(
        "{bytes: 4 MiB}", "{model: llama3-8b, seq: 1k}") + "constraints: [set.block_m < 100]\n"
    with pytest.raises(NoFrontError, match=(
            r"^none of 36 points has all objectives: block_m \(.*study.yaml:3:7\): kernel 'flash': block_m .* got 96 .*\(18 of them\); "
            r"constraints drop 18: 'set.block_m < 100' \(.*study.yaml:8:15\) 18$")):
        run_search(study_of(tmp_path, text), tmp_path / "out", (Objective("time_s"),), trials=50, jobs=1)


@pytest.mark.parametrize(("minimize", "maximize", "message"), [
    ("tiem_s", "", r"--minimize: 'tiem_s' is no column of a row \(did you mean 'time_s'\?\); there are per_area, gain, time_s"),
    ("", "tflop", r"--maximize: 'tflop' is no column of a row \(did you mean 'tflops'\?\)"),
    ("bound", "", "--minimize: bound is not a number"),
    ("time", "time_s", "--maximize: time_s is given twice; drop one"),
    ("", "", "--minimize: name at least one objective, for example --minimize time_s,area_mm2"),
])
def test_objectives_that_are_none(tmp_path, minimize, maximize, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        objectives(study_of(tmp_path, GRID), minimize, maximize)


def test_points_that_do_different_work_are_not_compared(tmp_path):
    study = study_of(tmp_path, GRID.replace("workload: {bytes: 4 MiB}\n", "workload: {bytes: [4 MiB, 8 MiB]}\n"))
    with pytest.raises(UsageError, match=r"^time_s of points that differ in bytes cannot be compared: the least work"):
        objectives(study, "time,area", "")
    assert [o.name for o in objectives(study, "area", "hbm_gbps")] == ["area_mm2", "hbm_gbps"]


def test_what_an_objective_is(tmp_path):
    study = study_of(tmp_path, GRID)
    assert [o.unit for o in objectives(study, "time,energy,area", "util.hbm,per_area")] == ["s", "J", "mm2", "", ""]
    assert column(study, "--metric", "energy.hbm") == "energy.hbm"


def test_axes_that_are_tied_cannot_be_searched(tmp_path):
    text = GRID.replace("[1, 2, 3, 4.8, 6, 8 TB/s]", "[1, 2 TB/s]").replace("[40, 80, 132]", "[80, 132]")
    study = study_of(tmp_path, text[:text.index("metrics")] + "sampling: zip\n")
    with pytest.raises(UsageError, match="a search varies every axis by itself, and sampling: zip ties them"):
        run_search(study, tmp_path / "out", objectives(study, "time", ""), trials=3)


def test_optuna_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    study = study_of(tmp_path, GRID)
    with pytest.raises(UsageError, match=r"^a search needs optuna: pip install 'turbosim\[search\]'$"):
        run_search(study, tmp_path / "out", objectives(study, "time", ""), trials=3)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_command(tmp_path):
    study_of(tmp_path, GRID)
    done = turbosim("search", "study.yaml", "--minimize", "time,area", "--trials", 80, "--jobs", 1, "--csv", "f.csv",
                    cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"72 points, all there are: 7\d simulated", done.stdout)
    assert re.search(r"boost +[\d.]+ us +[\d.]+", done.stdout)
    again = turbosim("search", "study.yaml", "--minimize", "time,area", "--trials", 80, "--jobs", 1, "--json", cwd=tmp_path)
    found = json.loads(again.stdout)
    assert (found["simulated"], found["done_before"], found["exhausted"]) == (0, 72, True)
    rows = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    assert [float(r["area_mm2"]) for r in rows] == [r["area_mm2"] for r in found["front"]]
    assert (tmp_path / "study.results/pareto.png").stat().st_size > 10_000
    assert "die area [mm2], less is better" in (tmp_path / "study.results/pareto.svg").read_text()


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(tmp_path):
    text = OPEN.replace("kernel: copy", "kernel: flash").replace(
        "bytes: 4 MiB", "model: llama3-8b, phase: prefill, batch: 1, seq: 2k")
    study_of(tmp_path, text)
    out = tmp_path / "out"
    arguments = ("search", tmp_path / "study.yaml", "--minimize", "time,area", "--trials", 48, "-o", out, "--jobs", 1)
    process = started(*arguments)
    wait_for(lambda: (out / "journal.jsonl").exists() and len(rows_in(out)) >= 5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert re.search(r"interrupted: \d+ of 48 points are done; the same command goes on", err)
    kept = len(rows_in(out))
    done = turbosim(*arguments, "--json")
    found = json.loads(done.stdout)
    assert found["done_before"] >= kept
    points = [row["point"] for row in rows_in(out)]
    assert len(points) == len(set(points)) == found["simulated"] + found["done_before"]


def sample(objectives):
    search = Search(objectives=objectives)
    for n in range(60):
        x = (n * 37 % 60) / 60
        values = (40e-6 + 1e-4 * x, 850 - 300 * x + (n * 17 % 11) * 15.0, 20 * x)[:len(objectives)]
        search.trials.append(Trial(n, {"kernel": "flash" if n % 3 else "turbo"}, {}, values if n % 7 else None, "fails"))
    return search


@pytest.mark.parametrize(("name", "wanted"), [
    ("pareto_two", (Objective("time_s"), Objective("area_mm2"))),
    ("pareto_three", (Objective("time_s"), Objective("area_mm2"), Objective("tflops", maximize=True)))])
def test_pictures(tmp_path, name, wanted):
    assert_as_before(figure(sample(wanted), "A sample"), name, tmp_path)
