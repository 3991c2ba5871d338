"""``tune`` in several processes: the rows of one process, whatever becomes of the others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from turbosim.errors import UsageError
from turbosim.hw import load_gpu
from turbosim.processes import in_processes
from turbosim.sass.description import Description
from turbosim.tuning import tune

OWN = '''\
import os
import time
from pathlib import Path

import triton
import triton.language as tl


class Act:
    """Triton compiles what is a function, and calls what is a class."""

    def __init__(self, n):
        if n == 64:
            time.sleep(1)
            Path("worker.part").write_text(str(os.getpid()))
            Path("worker.part").rename("worker")
            time.sleep(600)
        if n == 128:
            os._exit(9)


@triton.constexpr_function
def checked(n):
    Act(n)
    return n


@triton.jit
def scale(X, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, checked(BLOCK))
    tl.store(X + at, tl.load(X + at, mask=at < n) * 2, mask=at < n)
'''
DESCRIPTION = """\
kernel: own.py:scale
sizes: {n: 1000000}
constants: {BLOCK: 1024}
arguments:
  X: {dtype: fp32, shape: [n]}
  n: n
grid: ["cdiv(n, BLOCK)"]
"""
# SIGINT may be ignored in what a shell has started in the background.
CHILD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from turbosim.cli.main import main; main()"
TUNE = [sys.executable, "-c", CHILD, "tune", "own.py:scale", "--hw", "a100_sxm_80gb", "--json"]


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.scale.yaml").write_text(DESCRIPTION)
    return tmp_path


def environment(own):
    return {**{k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}, "TURBOSIM_CACHE_DIR": str(own / "kept"),
            "TRITON_CACHE_DIR": str(own / "triton"), "PYTHONPATH": os.pathsep.join(sys.path)}


def tuned(own, *arguments):
    done = subprocess.run([*TUNE, *arguments], cwd=own, env=environment(own), capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_several_processes_give_the_rows_of_one(own):
    # 999 does not compile; 256 and 512 both move the same bytes.
    sweep = ("--sweep", "BLOCK=2048,999,512,256,1024", "num_warps=4,8")
    alone = tuned(own, *sweep, "--jobs", "1")
    assert alone[0] == 0, alone[2]
    assert tuned(own, *sweep, "--jobs", "3")[:2] == alone[:2]
    assert len(alone[1]) == 10
    assert [row["reason"] for row in alone[1] if row["time_s"] is None] == [
        "own.py:30:37: does not compile: arange's range must be a power of 2"] * 2


def test_a_configuration_that_takes_its_process_along_is_a_row(own):
    code, rows, err = tuned(own, "--sweep", "BLOCK=256,128,512,1024", "--jobs", "2")
    assert code == 0, err
    assert {row["settings"]["BLOCK"] for row in rows if row["time_s"]} == {256, 512, 1024}
    assert [(row["settings"]["BLOCK"], row["reason"]) for row in rows if not row["time_s"]] == [
        (128, "its process ended without an answer; there may be too little memory for so many jobs")]
    code, rows, err = tuned(own, "--sweep", "BLOCK=128", "num_warps=4,8", "--jobs", "2")
    assert (code, len(rows)) == (1, 2)
    assert err.splitlines()[-1].startswith("error: none of the 2 configurations has a time; the first: its process ended")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_ends_the_workers_and_keeps_the_rows(own, whole_group):
    """A terminal sends SIGINT to the workers too; ``kill`` to the command alone."""
    with subprocess.Popen([*TUNE, "--sweep", "BLOCK=512,1024,64,256", "--jobs", "2"], cwd=own, env=environment(own),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        until = time.monotonic() + 200
        while not (own / "worker").exists() and child.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert (own / "worker").exists(), child.communicate()
        if whole_group:
            os.killpg(child.pid, signal.SIGINT)
        else:
            child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert gone(int((own / "worker").read_text()))
    assert "Traceback" not in err
    finished = re.fullmatch(r"interrupted: (\d) of 4 configurations", err.splitlines()[-1])
    assert finished, err
    rows = json.loads(out)
    assert 1 <= len(rows) == int(finished[1]) < 4
    assert {row["settings"]["BLOCK"] for row in rows} <= {512, 1024, 256}
    assert all(row["time_s"] for row in rows)


def test_workers_end_with_their_parent(own):
    with subprocess.Popen([*TUNE, "--sweep", "BLOCK=512,64", "--jobs", "2"], cwd=own, env=environment(own),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until = time.monotonic() + 200
        while not (own / "worker").exists() and child.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        child.kill()
    worker = int((own / "worker").read_text())
    until = time.monotonic() + 20
    while not gone(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert gone(worker)


def test_what_a_function_raises_comes_through():
    with pytest.raises(ValueError, match=re.escape("invalid literal for int() with base 10: 'x'")):
        list(in_processes(int, ["1", "x", "3"], 2))
    assert sorted(in_processes(int, ["1", "2", "3"], 2)) == [(0, 1), (1, 2), (2, 3)]


def test_no_jobs(own):
    message = "jobs: must be at least 1, got 0"
    code, _, err = tuned(own, "--sweep", "BLOCK=256", "--jobs", "0")
    assert (code, err) == (2, f"error: --{message}\n")
    described = Description(kernel="own.py:scale", arguments={"n": 1}, grid=["n"])
    with pytest.raises(UsageError, match=re.escape(message)):
        tune(described, load_gpu("a100_sxm_80gb"), {"n": [1]}, jobs=0)
