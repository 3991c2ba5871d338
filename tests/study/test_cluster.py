"""Sweeps on a dask cluster of real worker processes."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.study.studies import (
    COPIES,
    MANY,
    count_of,
    kill_alive,
    rows_in,
    started,
    study_of,
    summary_of,
    turbosim,
    wait_for,
)
from turbosim.errors import UsageError
from turbosim.study import cluster
from turbosim.study.cluster import Cluster, ClusterError
from turbosim.study.evaluate import Done
from turbosim.study.journal import NAME
from turbosim.study.session import KILLED, Session
from turbosim.study.sweep import run_study

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def local():
    """A scheduler with two worker processes of one thread."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
                                  host="127.0.0.1", silence_logs=50) as found:
        yield found


def outcomes(folder):
    return {r["point"]: r["outcome"] for r in rows_in(folder)}


@pytest.mark.slow
def test_a_cluster_gives_the_rows_of_one_process(tmp_path, local):
    study = study_of(tmp_path, MANY)
    run_study(study, tmp_path / "alone", jobs=1)
    done = summary_of(turbosim("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--json", "--dask",
                               local.scheduler_address))
    assert (done["points"], done["simulated"]) == (60, 60)
    assert len(rows_in(tmp_path / "out")) == 60
    assert outcomes(tmp_path / "out") == outcomes(tmp_path / "alone")
    again = summary_of(turbosim("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--json", "--dask",
                                local.scheduler_address))
    assert (again["done_before"], again["simulated"]) == (60, 0)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [
    ("search", "--minimize", "time,area_mm2", "--trials", "12"), ("sensitivity", "--fields", "hbm"),
    ("sensitivity", "--method", "sobol", "--samples", "4")], ids=lambda x: " ".join(x[:3]))
def test_a_cluster_finds_what_one_process_finds(tmp_path, local, arguments):
    study_of(tmp_path, COPIES)
    name, *more = arguments
    shared = turbosim(name, "study.yaml", *more, "-o", "shared", "--json", "--dask", local.scheduler_address, cwd=tmp_path)
    alone = turbosim(name, "study.yaml", *more, "-o", "alone", "--json", "--jobs", "1", cwd=tmp_path)
    found, expected = summary_of(shared), summary_of(alone)
    assert found == expected
    assert outcomes(tmp_path / "shared") == outcomes(tmp_path / "alone")
    assert len(outcomes(tmp_path / "shared")) > 3


@pytest.mark.parametrize("name", ["sweep", "search", "sensitivity"])
def test_flags_of_sharing_that_are_refused(tmp_path, name):
    study_of(tmp_path, COPIES)
    for flags, message in (
            (("--jobs", "0"), "--jobs: must be at least 1, got 0"),
            (("--jobs", "2", "--dask", "tcp://127.0.0.1:1"), "--jobs, --dask: the workers of the cluster share the points; "
             "drop one of the two"),
            (("--dask", "tcp://"), "--dask: must be SCHEME://HOST:PORT, SCHEME tcp, tls, ws or wss and PORT 1 to 65535, "
             "got 'tcp://'; write for example tcp://127.0.0.1:8786")):
        done = turbosim(name, tmp_path / "study.yaml", *flags, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


@pytest.mark.slow
def test_the_work_of_a_killed_worker_is_done_by_another(tmp_path, local):
    study = study_of(tmp_path, MANY.replace("steps: 60", "steps: 200"))
    killed = []

    def kill_one(done, total):
        if done > 20 and not killed:
            killed.append(next(iter(local.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    report = run_study(study, tmp_path / "out", dask=local.scheduler_address, progress=kill_one)
    assert killed
    assert (report.simulated, report.failures) == (200, {})
    assert len(rows_in(tmp_path / "out")) == len(outcomes(tmp_path / "out")) == 200


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_the_client_is_killed(tmp_path, local, number):
    """At a random moment; the next one does what is left, on a cluster that may still be at work for the first."""
    study = study_of(tmp_path, MANY.replace("steps: 60", "steps: 300"))
    chance, out = random.Random(200 + number), tmp_path / "out"
    least = chance.randint(1, 150) if number else 0
    command = ("sweep", tmp_path / "study.yaml", "-o", out, "--json", "--dask", local.scheduler_address)
    with started(*command) as sweep:
        wait_for(lambda: count_of(out) >= least or sweep.poll() is not None)
        time.sleep(chance.uniform(0, 0.1))
        assert kill_alive(sweep.pid)
        sweep.communicate(timeout=60)
    before = rows_in(out)
    assert least <= len(before) < 300
    report = summary_of(turbosim(*command))
    assert (report["done_before"], report["simulated"], report["failed"]) == (len(before), 300 - len(before), {})
    rows = rows_in(out)
    assert rows[:len(before)] == before
    assert sorted(row["point"] for row in rows) == sorted(task.point for task in study.tasks())


@pytest.mark.slow
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["process", "group"])
def test_ctrl_c_keeps_what_is_done_on_a_cluster(tmp_path, local, send):
    study_of(tmp_path, MANY.replace("steps: 60", "steps: 1000"))
    out = tmp_path / "out"
    command = ("sweep", tmp_path / "study.yaml", "-o", out, "--dask", local.scheduler_address)
    with started(*command) as sweep:
        wait_for(lambda: ((out / NAME).is_file() and len(rows_in(out)) > 20) or sweep.poll() is not None)
        send(sweep.pid, signal.SIGINT)
        printed = sweep.communicate(timeout=60)
    done = len(rows_in(out))
    assert 20 < done < 1000
    assert (sweep.returncode, printed[0]) == (130, "")
    told = re.fullmatch(r"interrupted: (\d+) of 1,000 points are done; the same command goes on\n", printed[1])
    # Ctrl-C can come between a row and its being counted.
    assert int(told[1]) in (done, done - 1)
    # What was sent and is not finished does not keep the workers from others.
    wait_for(lambda: not local.scheduler.tasks)
    report = summary_of(turbosim(*command, "--json"))
    assert (report["done_before"], report["simulated"]) == (done, 1000 - done)
    assert len(rows_in(out)) == len(outcomes(out)) == 1000


def test_ctrl_c_while_no_scheduler_answers(tmp_path):
    study_of(tmp_path, MANY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (started("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--dask", address) as sweep,
              silent.accept()[0]):
            sweep.send_signal(signal.SIGINT)
            printed = sweep.communicate(timeout=60)
    assert (sweep.returncode, *printed) == (
        130, "", "interrupted: 0 of 60 points are done; the same command goes on\n")
    assert not (tmp_path / "out").exists()


class Deadly:
    """Ends its process at one point."""

    def __init__(self, point):
        self.point = point

    def __call__(self, task):
        if task.point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)
        return Done({"status": "ok"}, 0.01)


@pytest.mark.slow
def test_a_point_that_ends_every_worker_is_told_from_others(tmp_path, local):
    tasks = list(study_of(tmp_path, MANY.replace("steps: 60", "steps: 12")).tasks())
    connection = Cluster(local.scheduler_address)
    try:
        found = list(connection.streamed(Deadly(tasks[4].point), tasks))
    finally:
        connection.close()
    assert sorted(place for place, _ in found) == list(range(12))
    # Not those that the lost workers had been sent with it.
    assert [place for place, done in found if done is None] == [4]


class Blamed:
    """A batch at a scheduler that blames it, if it comes to that."""

    def __init__(self, batch):
        self.batch = batch
        self.killed = False

    def result(self):
        if self.killed:
            raise distributed.KilledWorker("batch", None, 3)
        return self.batch()

    def release(self):
        pass


class Blaming:
    """Stands in for dask, which blames what a lost worker had been sent: the deadly batch and any that are under way."""

    loop = None

    def __init__(self, threads, deadly, choices):
        self.threads, self.deadly, self.choices = threads, deadly, choices
        self.under_way, self.ended = [], []

    def submit(self, _, batch, pure):
        assert not pure
        return Blamed(batch)

    def add(self, future):
        self.under_way.append(future)

    def __next__(self):
        if not self.ended:
            killing = [f for f in self.under_way if any(task in self.deadly for _, task in f.batch.tasks)]
            if killing:
                others = [f for f in self.under_way if f is not killing[0]]
                self.ended = [killing[0], *self.choices.sample(others, self.choices.randint(0, len(others)))]
                self.choices.shuffle(self.ended)
                for future in self.ended:
                    future.killed = True
            else:
                self.ended = [self.choices.choice(self.under_way)]
            self.under_way = [f for f in self.under_way if f not in self.ended]
        return self.ended.pop()

    def nthreads(self):
        return {"worker": self.threads}

    def cancel(self, futures):
        assert futures == []


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=4), st.integers(1, 5), st.randoms())
@example(12, {4}, 2, random.Random(1))
def test_only_what_ends_a_worker_alone_is_blamed(count, deadly, threads, choices):
    scheduler = Blaming(threads, deadly, choices)
    connection = Cluster.__new__(Cluster)
    connection.address, connection.client = "tcp://here:8786", scheduler
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(distributed, "as_completed", lambda loop: scheduler)
        found = list(connection.streamed(lambda task: Done({"status": "ok", "task": task}, 0.01), list(range(count))))
    assert sorted(place for place, _ in found) == list(range(count))
    assert {place for place, done in found if done is None} == {n for n in deadly if n < count}
    assert all(done.outcome["task"] == place for place, done in found if done is not None)


def test_a_point_that_ends_every_worker_is_a_row(tmp_path):
    study = study_of(tmp_path)
    tasks = list(study.tasks())

    class Ending:
        def streamed(self, evaluator, some):
            yield from ((place, None if place == 1 else evaluator(task)) for place, task in enumerate(some))

        def close(self):
            pass

    with Session(study, tmp_path / "out") as session:
        session.cluster = Ending()
        rows = list(session.simulated(tasks))
    ended = [row["outcome"] for row in rows if row["outcome"]["status"] != "ok"]
    assert ended == [{"status": "failed", "reason": KILLED}]
    assert sorted(outcomes(tmp_path / "out")) == sorted(task.point for task in tasks)


@pytest.fixture
def something_else():
    """What listens and is no scheduler, by what stands in for its address: it says nothing, or speaks HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as silent, HTTPServer(
            ("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield {"SILENT": f"127.0.0.1:{silent.getsockname()[1]}", "HTTP": f"127.0.0.1:{server.server_port}"}
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("address", ["nonsense::addr", "tcp://", "tcp://host:notaport", "foo://x:1", "", "host",
                                     "tcp://:8786", "tcp://host:0", "tcp://host:65536", "inproc://x:1", "tcp://a b:1"])
def test_a_malformed_address_is_one_clear_error(tmp_path, address):
    study_of(tmp_path, MANY)
    done = turbosim("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--dask", address)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --dask: must be SCHEME://HOST:PORT, SCHEME tcp, tls, ws or wss and PORT 1 to 65535, got "
        f"{address!r}; write for example tcp://127.0.0.1:8786\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_encryption_without_certificates_is_told(scheme):
    with pytest.raises(UsageError, match=f"{scheme} needs certificates; name them in the configuration of dask"):
        Cluster(f"{scheme}://127.0.0.1:1")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1", "tcp://nowhere.invalid:8786", "tcp://a..b:1",
                                     "ws://127.0.0.1:1", "tcp://SILENT", "tcp://HTTP", "ws://SILENT", "ws://HTTP"])
def test_an_unreachable_scheduler_is_one_clear_error(tmp_path, address, something_else):
    study_of(tmp_path, MANY)
    for name, own in something_else.items():
        address = address.replace(name, own)
    done = turbosim("sweep", tmp_path / "study.yaml", "-o", tmp_path / "out", "--dask", address)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: --dask {address}: no scheduler answers within 5 s; start one with `dask scheduler`, and workers with "
        "`dask worker ADDRESS --nthreads 1 --nworkers N`\n")
    assert not (tmp_path / "out").exists()


def test_a_scheduler_without_workers_is_told(monkeypatch):
    monkeypatch.setattr(cluster, "TIMEOUT_S", 1.0)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1", silence_logs=50) as empty, \
            pytest.raises(ClusterError, match="the scheduler has no workers; start some with `dask worker tcp://"):
        Cluster(empty.scheduler_address)


def test_workers_with_another_turbosim_are_refused(local, monkeypatch):
    wait_for(lambda: local.scheduler.workers)
    monkeypatch.setattr(cluster, "engine_version", other_version)
    with pytest.raises(ClusterError, match=re.escape("has another turbosim (sources ")):
        Cluster(local.scheduler_address)


def other_version():
    """Say here what no worker says."""
    from turbosim.study.version import engine_version

    return f"{engine_version()}-{os.getpid()}"


def test_dask_that_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(Exception, match=re.escape("--dask needs distributed: pip install 'turbosim[cluster]'")):
        run_study(study_of(tmp_path), tmp_path / "out", dask="tcp://127.0.0.1:1")
