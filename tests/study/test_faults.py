"""Sweeps as processes that are killed, interrupted and resumed: nothing is lost, nothing is doubled."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

import pytest

from tests.study.studies import (
    MANY,
    alive,
    children,
    count_of,
    kill,
    kill_alive,
    rows_in,
    started,
    study_of,
    summary_of,
    turbosim,
    wait_for,
)
from turbosim.processes import streamed
from turbosim.study import evaluate
from turbosim.study.journal import NAME
from turbosim.study.session import KILLED
from turbosim.study.sweep import run_study

POINTS = 200
LONG = MANY.replace("steps: 60", f"steps: {POINTS}")
"""Takes long enough for a worker to be killed while there is something left, in every round."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Outcome by point, of one process that nothing happens to."""
    folder = tmp_path_factory.mktemp("alone")
    study = study_of(folder, LONG)
    report = run_study(study, folder / "out", jobs=1)
    assert (report.points, report.simulated) == (POINTS, POINTS)
    return {r["point"]: r["outcome"] for r in rows_in(folder / "out")}


def outcomes(folder):
    rows = rows_in(folder)
    assert max(Counter(r["point"] for r in rows).values()) == 1
    return {r["point"]: r["outcome"] for r in rows}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_a_worker_is_killed(tmp_path, expected, number):
    """At a random moment after the first row; its points are simulated by another one."""
    study_of(tmp_path, LONG)
    chance = random.Random(number)
    with started("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--jobs", "2", "--json") as sweep:
        wait_for(lambda: count_of(tmp_path / "out") > 0 or sweep.poll() is not None)
        killed, wanted = [], chance.randint(1, 2)
        while len(killed) < wanted and sweep.poll() is None and count_of(tmp_path / "out") < POINTS:
            time.sleep(chance.uniform(0, 0.1))
            if workers := children(sweep.pid):
                worker = chance.choice(workers)
                killed += [worker] * kill_alive(worker)
        out, err = sweep.communicate(timeout=120)
    assert killed
    assert (sweep.returncode, err) == (0, "")
    assert out
    assert outcomes(tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_the_sweep_is_killed(tmp_path, expected, number):
    """At a random moment; its workers end too, and the next sweep does what is left."""
    study_of(tmp_path, LONG)
    chance = random.Random(100 + number)
    most = chance.randint(0, POINTS - 50)
    command = ("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--jobs", "2", "--json")
    with started(*command) as sweep:
        wait_for(lambda: count_of(tmp_path / "out") >= 0)
        if number % 3:
            wait_for(lambda: count_of(tmp_path / "out") > most or sweep.poll() is not None)
        time.sleep(chance.uniform(0, 0.3))
        workers = children(sweep.pid)
        kill(sweep.pid)
        sweep.communicate(timeout=60)
    wait_for(lambda: not any(map(alive, workers)), 30)
    before = rows_in(tmp_path / "out") if count_of(tmp_path / "out") >= 0 else []
    report = summary_of(turbosim(*command))
    assert report["done_before"] == len(before)
    assert report["simulated"] == POINTS - len(before)
    assert outcomes(tmp_path / "out") == expected
    assert rows_in(tmp_path / "out")[:len(before)] == before


@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_keeps_what_is_done(tmp_path, expected, whole_group):
    study_of(tmp_path, LONG)
    command = ("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--jobs", "2")
    with started(*command) as sweep:
        wait_for(lambda: count_of(tmp_path / "out") > 2 or sweep.poll() is not None)
        workers = children(sweep.pid)
        if whole_group:
            os.killpg(sweep.pid, signal.SIGINT)
        else:
            sweep.send_signal(signal.SIGINT)
        out, err = sweep.communicate(timeout=60)
    done = len(rows_in(tmp_path / "out"))
    assert 2 < done < POINTS
    assert (sweep.returncode, out, err) == (
        130, "", f"interrupted: {done} of {POINTS} points are done; the same command goes on\n")
    assert not any(map(alive, workers))
    assert summary_of(turbosim(*command, "--json"))["done_before"] == done
    assert outcomes(tmp_path / "out") == expected


def test_a_torn_last_row_is_made_again(tmp_path, expected):
    study = study_of(tmp_path, LONG)
    run_study(study, tmp_path / "out", jobs=1)
    path = tmp_path / "out" / NAME
    path.write_bytes(path.read_bytes()[:-100])
    done = turbosim("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--json")
    report = summary_of(done)
    assert done.stderr == "note: the last row of an earlier sweep was cut off; its point is simulated again\n"
    assert (report["done_before"], report["simulated"]) == (POINTS - 1, 1)
    assert outcomes(tmp_path / "out") == expected


class Deadly:
    """Squares numbers; some end their process, always or the first time."""

    def __init__(self, folder, always=(), once=(), slow=0.0):
        self.folder, self.always, self.once, self.slow = folder, always, once, slow

    def __call__(self, number):
        time.sleep(self.slow)
        first = not (self.folder / str(number)).exists()
        (self.folder / str(number)).touch()
        if number in self.always or (number in self.once and first):
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize(("always", "once"), [((), ()), ((5,), ()), ((), (0, 7, 8, 19)), ((3, 4, 19), (5,))])
def test_an_item_that_ends_two_processes_has_no_outcome(tmp_path, jobs, always, once):
    found = list(streamed(Deadly(tmp_path, always, once), range(20), jobs))
    assert sorted(found) == [(i, None if i in always else i * i) for i in range(20)]


def test_a_point_that_ends_its_process_is_a_row(tmp_path, monkeypatch):
    study = study_of(tmp_path, LONG)

    def lost(function, items, jobs):
        yield from ((place, None if place == 3 else function(item)) for place, item in enumerate(items))

    monkeypatch.setattr("turbosim.study.session.streamed", lost)
    report = run_study(study, tmp_path / "out", jobs=2)
    assert report.failures == {KILLED: 1}
    assert report.simulated == POINTS
    again = run_study(study, tmp_path / "out", jobs=2)
    assert (again.before, again.simulated) == (POINTS, 0)
    monkeypatch.undo()
    retried = run_study(study, tmp_path / "out", jobs=1, retry=True)
    assert (retried.before, retried.simulated, retried.failures) == (POINTS - 1, 1, {})


def test_a_defect_in_one_point_is_told_with_it(tmp_path, monkeypatch):
    study = study_of(tmp_path)
    run = evaluate.run

    def broken(gpu, *arguments, **options):
        if gpu.hbm.bandwidth == 8e12:
            raise ZeroDivisionError("division by zero")
        return run(gpu, *arguments, **options)

    monkeypatch.setattr(evaluate, "run", broken)
    report = run_study(study, tmp_path / "out", jobs=1)
    assert report.failures == {"a defect of turbosim: ZeroDivisionError: division by zero": 2}
