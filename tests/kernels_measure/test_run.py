"""Whole calls on the fake device: rows, failures, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernels.measure import counters, fake
from kernels.measure.cli import main
from kernels.measure.measuring import missing
from kernels.measure.runner import Plan, Progress, Run
from kernels.measure.schema import NAMES
from kernels.measure.store import ROOT, done_of, have_of, read_rows
from kernels.measure.suites import get_suite

STUBS = "tests.kernels_measure.stubs"
CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from kernels.measure import counters, fake
from kernels.measure.cli import main
fake.NAMES.update(dict.fromkeys(fake.NAMES, "tests.kernels_measure.stubs:SLOW"))
sys.exit(main())
"""


@pytest.fixture
def measure(tmp_path, monkeypatch):
    def call(*arguments, out="out", **stubs):
        for kernel, name in stubs.items():
            monkeypatch.setitem(fake.NAMES, kernel, f"{STUBS}:{name}")
        return main([*arguments, "--device", "fake", "--out", str(tmp_path / out)])

    return call


def rows_of(tmp_path, out="out"):
    return read_rows(tmp_path / out / "rows.csv")


@pytest.mark.parametrize("suite", ["quick", "full", "micro"])
def test_every_case_of_a_suite_has_a_cold_and_a_warm_row(measure, tmp_path, suite):
    assert measure("--suite", suite) == 0
    rows = rows_of(tmp_path)
    for method, l2 in (("events", "cold"), ("events", "warm")):
        keys = [row["key"] for row in rows if (row["method"], row["l2"]) == (method, l2)]
        assert len(keys) == len(set(keys))
        assert set(keys) == {case.key for case in get_suite(suite).cases}
    assert {(row["source"], row["gpu"], row["status"]) for row in rows} == {("fake", "fake", "ok")}
    warm = {row["key"]: row["time_s"] for row in rows if (row["method"], row["l2"]) == ("events", "warm")}
    assert {row["key"] for row in rows if row["method"] == "graph"} == {k for k, t in warm.items() if t < 20e-6}


def test_a_row_says_what_was_measured(measure, tmp_path, capsys):
    assert measure("--suite", "quick", "--only", "kivi", kivi="RIGHT") == 0
    assert capsys.readouterr().out == f"rows added to {tmp_path / 'out' / 'rows.csv'}: 18 ok, 0 wrong, 0 failed\n"
    row = next(r for r in rows_of(tmp_path) if r["method"] == "events" and r["l2"] == "cold" and r["seq_k"] == 2048)
    key = row.pop("key")
    assert key in {case.key for case in get_suite("quick").cases}
    # 1e9 operations at 2e14 a second and 2 us; 200 samples spread evenly over a tenth of it.
    time_s = 7e-6
    assert row == {
        **dict.fromkeys(NAMES[:-1]), "source": "fake", "gpu": "fake", "kernel": "kivi",
        "options": "bits=4:block_m=64:block_n=64:convert=magic:dequant=fold:p_scale=tile:q_scale=tile:"
                   "quantise=false:sas=exponent:splits=8:stages=2:warps=4", "phase": "decode", "batch": 4, "q_heads": 32, "kv_heads": 8,
        "seq_q": 1, "seq_k": 2048, "head_dim": 128, "causal": False, "l2": "cold", "method": "events",
        "time_s": pytest.approx(time_s * (1 + 0.1 * 99.5 / 200)), "time_p10_s": pytest.approx(time_s * (1 + 0.1 * 19.9 / 200)),
        "time_p90_s": pytest.approx(time_s * (1 + 0.1 * 179.1 / 200)), "repeats": 200, "flops": 10**9, "nbytes": 10**6,
        "tflops": pytest.approx(1e-3 / (time_s * (1 + 0.1 * 99.5 / 200))),
        "bandwidth_Bps": pytest.approx(1e6 / (time_s * (1 + 0.1 * 99.5 / 200))), "registers": "40+96", "spills": "0+0",
        "smem_bytes": "40960+98304", "error": 0.0, "tolerance": 0.25, "status": "ok", "run": 0}


def test_meta_tells_how_and_with_what(measure, tmp_path):
    assert measure("--suite", "quick", "--only", "kivi", "--part", "1/2") == 0
    assert measure("--suite", "quick", "--only", "kivi") == 0
    runs = json.loads((tmp_path / "out" / "meta.json").read_text())["runs"]
    assert [(run["gpu"], run["suite"], run["part"], run["only"]) for run in runs] == [
        ("fake", "quick", "1/2", "kivi"), ("fake", "quick", "1/1", "kivi")]
    assert runs[0]["protocol"] == "Fake device: nothing was measured; times follow from operations and bytes alone."
    assert set(runs[0]["kernel_sources"]) >= {"kernels/case.py", "kernels/registry.py"}
    assert {row["run"] for row in rows_of(tmp_path)} == {0, 1}


@pytest.mark.parametrize(("stub", "status", "reason"), [
    ("WRONG", "wrong", "relative L2 of O is 0.5, more than 0.25"),
    ("UNWRITTEN", "wrong", "relative L2 of O is NaN: an output was not written, or is not a number"),
    ("REFUSING", "failed", "not supported: kernel 'refusing': option warps is 3, must be a power of two"),
    ("TOO_LARGE", "failed", "out of resources: shared memory, Required: 300000, Hardware limit: 232448"),
    ("NO_MEMORY", "failed", "out of memory: CUDA out of memory. Tried to allocate 20 GiB"),
    ("BUGGY", "failed", "error: KeyError: 'x'"),
    ("STICKY", "failed", "CUDA error: an illegal memory access was encountered Compile with "
                         "TORCH_USE_CUDA_DSA"),
    ("CRASHING", "failed", "the worker process ended with signal 11"),
    ("MISSING", "failed", "error: AttributeError: module 'tests.kernels_measure.stubs' has no attribute 'MISSING'"),
])
def test_what_cannot_be_timed_is_a_row_and_spoils_no_other(measure, tmp_path, stub, status, reason):
    assert measure("--suite", "quick", "--only", "kivi,quantise", kivi=stub, quantise="RIGHT") == 0
    rows = rows_of(tmp_path)
    bad = [row for row in rows if row["kernel"] == "kivi"]
    assert len(bad) == 6
    assert {(row["status"], row["reason"], row["l2"], row["method"], row["time_s"]) for row in bad} == {
        (status, reason, None, None, None)}
    assert [row["status"] for row in rows if row["kernel"] == "quantise"] == ["ok"] * 9
    # Failures are results: they are not tried again.
    table = (tmp_path / "out" / "rows.csv").read_bytes()
    assert measure("--suite", "quick", "--only", "kivi,quantise") == 0
    assert (tmp_path / "out" / "rows.csv").read_bytes() == table


def test_a_hanging_case_is_given_up(measure, tmp_path):
    assert measure("--suite", "quick", "--only", "kivi", "--part", "1/6", "--case-timeout", "0.3", kivi="HANGING") == 0
    assert [(row["status"], row["reason"]) for row in rows_of(tmp_path)] == [
        ("failed", "timed out: no answer within 0.3 s")]


def test_the_time_limit_leaves_the_rest_for_the_next_call(measure, tmp_path, capsys):
    assert measure("--suite", "quick", "--limit-minutes", "0.06") == 0
    first = rows_of(tmp_path)
    out = capsys.readouterr().out
    assert "of 51 cases left for lack of time, the shortest takes about" in out
    assert 0 < len({row["key"] for row in first}) < 51
    assert measure("--suite", "quick") == 0
    assert rows_of(tmp_path)[:len(first)] == first
    assert len({row["key"] for row in rows_of(tmp_path)}) == 51


def test_a_case_that_outlasts_the_limit_is_left(measure, tmp_path):
    began = time.monotonic()
    assert measure("--suite", "quick", "--only", "kivi", "--limit-minutes", "0.08", kivi="HANGING") == 0
    assert time.monotonic() - began < 6
    assert rows_of(tmp_path) == []


def started(path: Path, rows: int) -> subprocess.Popen[str]:
    """Return a call on slow stubs that has just written *rows* rows."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, "--suite", "quick", "--device", "fake", "--out", str(path)],
                             cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (path / "rows.csv").exists() or (path / "rows.csv").read_text().count("\n") <= rows:
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    return child


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]


def test_kill_loses_and_repeats_nothing(measure, tmp_path):
    out = tmp_path / "out"
    child = started(out, 7)
    workers = workers_of(child.pid)
    child.kill()
    child.communicate()
    with (out / "rows.csv").open("a") as file:
        file.write("fake,fake,fla")  # what a kill within a write leaves
    before = rows_of(tmp_path)
    assert len(before) >= 7
    assert len(workers) == 1
    until = time.monotonic() + 10
    while Path(f"/proc/{workers[0]}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{workers[0]}").exists()
    names = dict.fromkeys(get_suite("quick").kernels, "RIGHT")
    assert measure("--suite", "quick", **names) == 0
    assert measure("--suite", "quick", out="whole", **names) == 0
    rows = rows_of(tmp_path)
    assert rows[:len(before)] == before
    identities = [(row["key"], row["l2"], row["method"]) for row in rows]
    assert len(identities) == len(set(identities))
    assert set(identities) == {(row["key"], row["l2"], row["method"]) for row in rows_of(tmp_path, "whole")}


def test_interrupt_keeps_the_finished_rows(tmp_path):
    child = started(tmp_path / "out", 5)
    os.kill(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=30)
    rows = rows_of(tmp_path)
    assert (child.returncode, out) == (130, "")
    complete = sum(not missing(have_of(done_of(rows), case.key)) for case in get_suite("quick").cases)
    last = err.splitlines()[-1]
    # The interrupt may come between the last row of a case and the note that the case is done.
    assert last in [f"interrupted: {len(rows)} rows added, {51 - n} of 51 cases left" for n in (complete, complete - 1)]
    assert len(rows) >= 5


def test_counters_are_a_row_of_every_case_that_was_timed(tmp_path, monkeypatch):
    batches = []

    def profile(cases, names, deadline):
        # The second case of a batch ends the process, so that the rest must be asked for again.
        batches.append(len(cases))
        rows = [{"status": "ok", "time_s": 1e-6, "cycles": 7.0}, {"status": "failed", "reason": "CUDA error: x"}]
        return {case.key: row for case, row in zip(cases, rows, strict=False)}

    monkeypatch.setattr(counters, "profile", profile)
    monkeypatch.setattr(counters, "find_ncu", lambda: "ncu")
    cases = tuple(case for case in get_suite("quick").cases if case.kernel in ("kivi", "quantise"))
    names = {"kivi": f"{STUBS}:RIGHT", "quantise": f"{STUBS}:WRONG"}
    plan = Plan(cases, names, "fake", tmp_path / "out", 60.0, 60.0, counters=True)
    Run(plan, Progress(), lambda text: None).execute()
    rows = [row for row in rows_of(tmp_path) if row["method"] == "ncu"]
    assert batches == [6, 4, 2]
    assert [(row["kernel"], row["l2"], row["status"], row["cycles"], row["registers"]) for row in rows] == [
        ("kivi", "cold", "ok", 7.0, "40+96"), ("kivi", "cold", "failed", None, "40+96")] * 3
    Run(plan, Progress(), lambda text: None).execute()
    assert batches == [6, 4, 2]
