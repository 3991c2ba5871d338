"""``turbosim sweep`` and ``turbosim results`` as processes, and what they leave."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.study.studies import SMALL, rows_in, study_of, summary_of, turbosim
from turbosim import attention_of, get_model, load_gpu, simulate, with_overrides
from turbosim.errors import ConfigError, UsageError
from turbosim.study import failures, possible, results
from turbosim.study.results import load_results, query
from turbosim.study.session import Session
from turbosim.study.sweep import NoPointError, plan, run_study
from turbosim.workload import Phase

STUDY = """\
title: bandwidth
hw: h200_sxm
kernel: [flash, turbo:bits=2]
workload: {model: llama3-8b, phase: decode, seq: [1k, 2k]}
axes:
  hbm.bandwidth: [2, 8 TB/s]
constraints: ["not (hbm.bandwidth > 7 TB/s and seq_k > 1k)"]
metrics:
  tokens_per_s: batch / time_s
  speedup: baseline.time_s / time_s
  faster: speedup > 1
  wait: stall.data_dram
baseline: {kernel: flash}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a finished sweep, and what the command printed."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "study.yaml").write_text(STUDY)
    return folder, turbosim("sweep", "study.yaml", "--jobs", "1", cwd=folder)


def test_a_sweep_prints_its_points(swept):
    folder, done = swept
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"6 points: 6 simulated, 2 dropped by constraints; [\d.]+ s", lines[0])
    assert lines[2].strip() == "points, the fastest first"
    assert lines[3].split() == ["kernel", "seq", "hbm.bandwidth", "time", "bound", "tokens_per_s", "speedup", "faster",
                                "wait"]
    assert len(lines) == 10
    assert sorted(p.name for p in (folder / "study.results").iterdir()) == [
        "hardware", "journal.jsonl", "points.parquet", "study.yaml"]


def test_rows_are_what_simulate_finds(swept):
    frame = load_results(swept[0] / "study.results")
    assert frame.attrs["study"] == "bandwidth"
    for row in frame.to_dict("records"):
        gpu = with_overrides(load_gpu("h200_sxm"), {"hbm.bandwidth": row["hbm.bandwidth"]})
        shape = attention_of(get_model("llama3-8b"), Phase.DECODE, 1, row["seq"])
        name, _, option = row["kernel"].partition(":")
        result = simulate(gpu, shape, name, options=dict([option.split("=")]) if option else None)
        assert row["time_s"] == result.time_s
        assert (row["bound"], row["tflops"], row["cycles"]) == (result.bound, result.tflops, result.cycles)
        assert {k.removeprefix("util."): v for k, v in row.items() if k.startswith("util.")} == pytest.approx(
            result.utilization, rel=1e-5)
        stalls = {k.removeprefix("stall."): v for k, v in row.items() if k.startswith("stall.") and v}
        assert stalls == pytest.approx(result.stalls, rel=1e-5)
        assert row["energy_j"] == result.total_energy_j
        assert (row["seq_k"], row["seq_q"], row["batch"], row["model"]) == (row["seq"], 1, 1, "llama3-8b")


def test_derived_metrics_compare_with_the_baseline(swept):
    frame = load_results(swept[0] / "study.results")
    for _, group in frame.groupby(["seq", "hbm.bandwidth"]):
        flash = group[group["kernel"] == "flash"].iloc[0]
        turbo = group[group["kernel"] == "turbo:bits=2"].iloc[0]
        assert flash["speedup"] == 1
        assert turbo["speedup"] == flash["time_s"] / turbo["time_s"]
        assert bool(turbo["faster"]) == (turbo["speedup"] > 1)
        assert turbo["wait"] == turbo["stall.data_dram"]


def test_metrics_without_a_value_are_counted(tmp_path):
    study_of(tmp_path, SMALL + "metrics:\n  never: log(-time_s)\n  some: 1 / floor(8 TB/s / hbm.bandwidth - 1)\n"
             "  always: time_s\n  other: some + 1\n")
    done = turbosim("sweep", "study.yaml", "-o", "out", "--jobs", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-3:] == [
        "never (study.yaml:9:10) has no value at 6 of 6 points", "some (study.yaml:10:9) has no value at 4 of 6 points",
        "other (study.yaml:12:10) has no value at 4 of 6 points"]
    again = summary_of(turbosim("sweep", "study.yaml", "-o", "out", "--json", cwd=tmp_path))
    assert again["without_value"] == {"never": 6, "some": 4, "other": 4}
    frame = load_results(tmp_path / "out")
    assert {name: int(frame[name].isna().sum()) for name in ("never", "some", "always", "other")} == {
        "never": 6, "some": 4, "always": 0, "other": 4}


def test_a_metric_against_points_that_fail_has_no_value(tmp_path):
    study_of(tmp_path, "hw: h200_sxm\nkernel: [flash, 'flash:block_m=96']\nworkload: {model: llama3-8b, seq: 512}\n"
             "metrics: {speedup: baseline.time_s / time_s}\nbaseline: {kernel: 'flash:block_m=96'}\n")
    assert summary_of(turbosim("sweep", "study.yaml", "--json", "--jobs", "1", cwd=tmp_path))["without_value"] == {"speedup": 1}


def test_parquet_has_what_load_results_returns(swept):
    folder = swept[0] / "study.results"
    pandas.testing.assert_frame_equal(pandas.read_parquet(folder / "points.parquet"), load_results(folder),
                                      check_dtype=False)


def test_results_are_printed_as_a_table_json_and_csv(swept):
    folder, _ = swept
    frame = load_results(folder / "study.results")
    table = turbosim("results", folder / "study.results").stdout.splitlines()
    assert table[0].split() == ["kernel", "seq", "hbm.bandwidth", "time_s", "tflops", "hbm_gbps", "bound",
                                "tokens_per_s", "speedup", "faster", "wait"]
    assert len(table) == 1 + len(frame)
    done = turbosim("results", folder / "study.results", "--json", "--csv", folder / "all.csv")
    assert done.stderr == f"wrote {folder}/all.csv\n"
    rows = json.loads(done.stdout)
    assert [list(r) for r in rows] == [list(frame.columns)] * len(frame)
    assert [r["time_s"] for r in rows] == list(frame["time_s"])
    assert [float(r["time_s"]) for r in csv.DictReader(io.StringIO((folder / "all.csv").read_text()))] == list(
        frame["time_s"])


def test_queries(swept):
    folder = swept[0] / "study.results"
    sql = 'select kernel, count(*) as n, min("hbm.bandwidth") as low from points group by kernel order by kernel'
    assert json.loads(turbosim("results", folder, sql, "--json").stdout) == [
        {"kernel": "flash", "n": 3, "low": 2e12}, {"kernel": "turbo:bits=2", "n": 3, "low": 2e12}]
    assert len(query(folder, "select * from failures")) == 0


@pytest.mark.parametrize(("sql", "message"), [
    ("select kernl from points", 'Referenced column "kernl" not found'), ("select", "SELECT clause without"),
    ("select * from read_csv('/etc/passwd')", "disabled by configuration"),
    ("copy points to 'x.csv'", "disabled by configuration")])
def test_queries_that_are_refused(swept, sql, message):
    done = turbosim("results", swept[0] / "study.results", sql, cwd=swept[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: query: ")
    assert message in done.stderr


def test_folders_without_results(tmp_path):
    done = turbosim("results", tmp_path)
    assert (done.returncode, done.stderr) == (
        2, f"error: {tmp_path}: is not the folder of a study: there is no study.yaml in it\n")
    study_of(tmp_path)
    done = turbosim("results", tmp_path)
    assert (done.returncode, done.stderr) == (
        2, f"error: {tmp_path}: has no results: there is no journal.jsonl in it\n")


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    study_of(tmp_path, STUDY)
    done = turbosim("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--dry-run", "--jobs", "2")
    first, second = done.stdout.splitlines()
    assert first == "6 points: 0 done, 0 reused, 6 new; 2 more are dropped by constraints"
    assert re.fullmatch(r"about [\d.e+-]+ m?s in 2 processes, from 4 timed points", second)
    assert not (tmp_path / "out").exists()
    summary_of(turbosim("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--json", "--jobs", "1"))
    counted = summary_of(turbosim("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--json", "--dry-run"))
    assert (counted["points"], counted["done"], counted["new"], counted["seconds"]) == (6, 6, 0, 0.0)


def test_points_of_other_studies_are_reused(tmp_path):
    first = run_study(study_of(tmp_path), tmp_path / "one", jobs=1)
    assert (first.points, first.simulated) == (6, 6)
    wider = SMALL.replace("[2, 4.8, 8 TB/s]", "[1, 2, 4.8, 8 TB/s]")
    same = run_study(study_of(tmp_path, wider), tmp_path / "one", jobs=1)
    assert (same.before, same.reused, same.simulated) == (0, 6, 2)
    other = study_of(tmp_path, wider.replace("kernel: copy", "kernel: [copy]"))
    report = run_study(other, tmp_path / "two", jobs=1, reuse=[tmp_path / "one"])
    assert (report.before, report.reused, report.simulated) == (0, 8, 0)
    columns = ["hbm.bandwidth", "l2.bandwidth", "time_s", "hbm_bytes", "util.hbm"]
    one, two = (load_results(tmp_path / name).sort_values(columns[:2]).reset_index(drop=True)[columns]
                for name in ("one", "two"))
    pandas.testing.assert_frame_equal(one, two)


def test_equal_points_are_simulated_once(tmp_path):
    report = run_study(study_of(tmp_path, SMALL + "  die.area: [800, 900 mm2]\n"), tmp_path / "out", jobs=1)
    assert (report.points, report.simulated, report.reused) == (12, 6, 6)
    assert len(load_results(tmp_path / "out")) == len({r["point"] for r in rows_in(tmp_path / "out")}) == 12


def test_another_engine_makes_rows_anew(tmp_path, monkeypatch):
    run_study(study_of(tmp_path), tmp_path / "out", jobs=1)
    monkeypatch.setattr("turbosim.study.study.engine_version", lambda: "other")
    report = run_study(study_of(tmp_path), tmp_path / "out", jobs=1)
    assert (report.before, report.simulated) == (0, 6)
    assert len(load_results(tmp_path / "out")) == 6


def test_impossible_points_are_rows_with_the_reason(tmp_path):
    study_of(tmp_path, "hw: h200_sxm\nkernel: [flash, flash3]\nworkload: {model: llama3-8b, phase: [prefill, decode], "
                       "seq: 512}\naxes:\n  sm.smem_per_cta: [227, 300 KiB]\n  sm.smem_capacity: [228, 300 KiB]\n")
    done = turbosim("sweep", "study.yaml", "-o", tmp_path / "out", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-2:] == [
        "note: 4 of 16 points failed: sm.smem_per_cta=300 KiB (study.yaml:5:26), sm.smem_capacity=228 KiB "
        "(study.yaml:6:22): hardware field sm.smem_per_cta: must be at most sm.smem_capacity (233472.0), got 307200.0",
        "note: 3 of 16 points failed: kernel=flash3 (study.yaml:2:17), phase=decode (study.yaml:3:47): kernel 'flash3' "
        "has prefill only; use flash for decode"]
    frame = load_results(tmp_path / "out")
    assert len(frame) == 16
    reasons = frame.loc[frame["status"] == "failed"].groupby("reason").size().to_dict()
    assert sorted(reasons.values()) == [3, 4]
    assert "kernel 'flash3' has prefill only; use flash for decode" in reasons
    for reason, times in reasons.items():
        assert re.search(rf"^ +{times} +{re.escape(reason)} *$", done.stdout, re.MULTILINE)
    assert frame.loc[frame["status"] == "failed", "time_s"].isna().all()


def test_a_study_none_of_whose_points_can_be_simulated(tmp_path):
    study = study_of(tmp_path, "hw: h200_sxm\nkernel: gemm\nworkload: {model: llama3-8b, seq: [512, 1k]}\n")
    message = "workload: kernel 'gemm' takes m, n and k, not model, seq"
    for more in ((), ("--dry-run",)):
        done = turbosim("sweep", "study.yaml", "-o", "out", *more, cwd=tmp_path)
        told = done.stderr.removeprefix("compiling the engine, once for this installation ...\n")
        assert (done.returncode, done.stdout, told) == (
            3, "", f"error: none of the 2 points can be simulated: workload (study.yaml:3:1): {message}\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


MULTIPLE = "kernel 'flash': block_m must be a multiple of 64 rows per warp group, got"


@pytest.mark.parametrize(("text", "told"), [
    ("kernel: ['flash:block_m=96', flash]\naxes:\n  hbm.bandwidth: [2, 4 TB/s]\n",
     [f"kernel=flash:block_m=96 (2:10): {MULTIPLE} 96 for 1"]),
    ("kernel: flash\nset: {block_m: [64, 80, 96, 112, 128]}\n",
     [f"set.block_m={value} (3:{column}): {MULTIPLE} {value} for 1"
      for value, column in ((80, 21), (96, 25), (112, 29))]),
    ("kernel: flash\naxes:\n  set.block_m: {from: 64, to: 128, steps: 3}\n",
     [f"set.block_m (4:3): {MULTIPLE} 96 for 1"]),
    ("kernel: [flash, flash3]\naxes:\n  phase: [decode, prefill]\n  batch: [1, 2, 4]\n",
     ["kernel=flash3 (2:17), phase=decode (4:11): kernel 'flash3' has prefill only; use flash for decode"]),
    ("kernel: flash\naxes:\n  set.block_n: [64, 2048]\n  batch: [1, 2]\n", ["set.block_n=2048 (4:21): launch 'flash"])])
def test_failures_name_the_values_that_they_owe_it_to(tmp_path, text, told):
    study = study_of(tmp_path, f"hw: h200_sxm\n{text}workload: {{model: llama3-8b, seq: 512}}\n")
    report = run_study(study, tmp_path / "out", jobs=1)
    found = [failures.told(f).replace(f"{tmp_path}/study.yaml:", "") for f in report.causes]
    assert len(found) == len(told)
    assert all(shown.startswith(start) for shown, start in zip(found, told, strict=True))
    assert sum(f.points for f in report.causes) == sum(report.failures.values())


TOO_LARGE = ("launch 'flash' on h200_sxm: a CTA needs 1,081,344 B of shared memory, 848,896 B more than the 232,448 B one "
             "CTA may have; use smaller tiles or fewer stages")


@pytest.mark.parametrize(("text", "message"), [
    ("kernel: flash\nset: {block_m: 96}\naxes:\n  hbm.bandwidth: [2, 4 TB/s]\n",
     f"none of the 2 points can be simulated: block_m (study.yaml:3:7): {MULTIPLE} 96 for 1"),
    ("kernel: flash\nset: {block_m: [96, 112]}\naxes:\n  hbm.bandwidth: [2, 4 TB/s]\n",
     "none of the 4 points can be simulated:\n"
     f"2 of them: set.block_m=96 (study.yaml:3:17): {MULTIPLE} 96 for 1\n"
     f"2 of them: set.block_m=112 (study.yaml:3:21): {MULTIPLE} 112 for 1"),
    ("kernel: flash3\naxes:\n  phase: [decode]\n  batch: [1, 2]\n", "none of the 2 points can be simulated: kernel "
     "(study.yaml:2:9): kernel 'flash3' has prefill only; use flash for decode"),
    ("kernel: flash\nset: {pieces: 8, block_n: 2048}\n", f"the only point cannot be simulated: block_n (study.yaml:3:18): "
     f"{TOO_LARGE}"),
    ("kernel: 'flash:block_n=2048'\n", f"the only point cannot be simulated: kernel (study.yaml:2:9): {TOO_LARGE}"),
    ("hw: [h200_sxm, h100_sxm]\nkernel: [flash, flash3]\nset: {block_n: 2048}\n", "none of the 4 points can be simulated: "
     f"block_n (study.yaml:3:7): {TOO_LARGE} (and 2 more reasons)"),
    ("kernel: flash\naxes:\n  batch: [64k]\n", "the only point cannot be simulated: workload (study.yaml:5:1): program "
     "'flash prefill' on h200_sxm: its tensors take 691.5 GB, 550.5 GB more than the 141 GB of device memory; use a smaller "
     "problem"),
    ("hw: b200\nkernel: flash\noptions: {clock: [power]}\n", "the only point cannot be simulated: clock (study.yaml:3:11): "
     "clock power: the hardware file of b200 has no energy, so the power is not known; add it, or take another clock: "
     "sustained, boost, tensor_spec")])
def test_studies_none_of_whose_points_can_be_simulated_are_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    hw = "" if text.startswith("hw") else "hw: h200_sxm\n"
    study = study_of(Path(), f"{hw}{text}workload: {{model: llama3-8b, seq: 512}}\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        run_study(study, "out", jobs=1)
    assert not Path("out").exists()
    # Where there are too many to look at all of them, the rows of the points say the same.
    monkeypatch.setattr(possible, "PATIENCE_S", 0)
    with pytest.raises(NoPointError, match=rf"^{re.escape(message.partition(':')[0])}:\s.*study.yaml:\d+:\d+\): "):
        run_study(study, "out", jobs=1)
    assert len(rows_in(Path("out"))) == len(list(study.tasks()))


@settings(max_examples=20)
@given(st.lists(st.sampled_from((48, 64, 80, 96, 112, 128)), min_size=1, unique=True))
def test_one_point_that_can_be_simulated_is_enough(tmp_path_factory, sizes):
    study = study_of(tmp_path_factory.mktemp("some"), f"hw: h200_sxm\nkernel: flash\nset: {{block_m: {sizes}}}\n"
                     "workload: {model: llama3-8b, seq: 512}\n")
    if any(size % 64 == 0 for size in sizes):
        assert len(plan(study)[0]) == len(sizes)
    else:
        with pytest.raises(ConfigError, match="cannot be simulated: " if len(sizes) == 1 else "can be simulated:\n"):
            plan(study)


@pytest.mark.parametrize(("constraints", "message"), [
    ("['l2.bandwidth > 0', hbm.bandwidth < 1 TB/s]",
     "8:35: constraints: 'hbm.bandwidth < 1 TB/s' drops all 6 points; loosen it, or add values to hbm.bandwidth"),
    ("\n  - 2 > 3", "9:5: constraints: '2 > 3' drops all 6 points; loosen it"),
    ("\n  - hbm.bandwidth < 3 TB/s\n  - hbm.bandwidth > 3 TB/s", "8:1: constraints: together drop all 6 points, "
     "'hbm.bandwidth < 3 TB/s' (study.yaml:9:5) 4, 'hbm.bandwidth > 3 TB/s' (study.yaml:10:5) 2; loosen one of them")])
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_constraints_that_drop_all_points(tmp_path, constraints, message, more):
    (tmp_path / "study.yaml").write_text(SMALL + f"constraints: {constraints}\n")
    done = turbosim("sweep", "study.yaml", "-o", "out", *more, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.removeprefix("compiling the engine, once for this installation ...\n") == (
        f"error: study.yaml:{message}\n")
    assert not (tmp_path / "out").exists()


def test_a_picture_that_cannot_be_drawn_is_told_with_its_line(tmp_path):
    study_of(tmp_path, SMALL + "pictures:\n  - {kind: lines}\n  - {kind: heatmap, x: hbm.bandwidth, y: hbm.bandwidth}\n")
    done = turbosim("sweep", "study.yaml", "-o", "out", "--jobs", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2, "error: study.yaml:10:5: pictures: heatmap: heatmap: x and y are both hbm.bandwidth; choose two columns; the results are kept")
    assert len(rows_in(tmp_path / "out")) == 6


def test_flags_that_are_refused(tmp_path):
    study_of(tmp_path)
    path = tmp_path / "study.yaml"
    assert turbosim("sweep", path, "--jobs", "0").stderr == "error: --jobs: must be at least 1, got 0\n"
    assert turbosim("sweep", path, "--jobs", "2", "--dask", "x").stderr == (
        "error: --jobs, --dask: the workers of the cluster share the points; drop one of the two\n")


def test_a_session_takes_points_as_they_are_chosen(tmp_path):
    study = study_of(tmp_path)
    with Session(study, tmp_path / "out") as session:
        first = list(session.rows([study.task({"hbm.bandwidth": 3e12, "l2.bandwidth": 6e12})]))
        again = list(session.rows([study.task({"hbm.bandwidth": 3_000_000_000_000, "l2.bandwidth": 6e12})]))
    assert first == again
    assert (session.counts.simulated, session.counts.before) == (1, 1)
    assert load_results(tmp_path / "out")["hbm.bandwidth"].tolist() == [3e12]


@pytest.mark.parametrize(("name", "call", "message"), [
    ("pandas", load_results, "load_results needs pandas: pip install 'turbosim[studies]'"),
    ("duckdb", lambda folder: query(folder, "select 1"), "a query needs duckdb: pip install 'turbosim[studies]'"),
    ("pyarrow", results.compact, "parquet needs pyarrow: pip install 'turbosim[studies]'")])
def test_what_is_not_installed_is_told(swept, monkeypatch, name, call, message):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=re.escape(message)):
        call(swept[0] / "study.results")


def test_a_sweep_needs_none_of_it(tmp_path):
    study_of(tmp_path)
    blocked = ("import sys\nfor name in ('pandas', 'duckdb', 'pyarrow', 'dask', 'distributed'):\n"
               "    sys.modules[name] = None\n")
    (tmp_path / "sitecustomize.py").write_text(blocked)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    import subprocess
    done = subprocess.run([sys.executable, "-m", "turbosim", "sweep", tmp_path / "study.yaml", "-o", tmp_path / "out"],
                          capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("6 points: 6 simulated; ")
    assert not (tmp_path / "out" / "points.parquet").exists()
