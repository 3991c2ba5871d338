"""Studies for tests: cheap points, and what runs the command as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from turbosim.study.document import read_study
from turbosim.study.journal import NAME, lines

SMALL = """\
title: small
hw: h200_sxm
kernel: copy
workload: {bytes: 1 MiB}
axes:
  hbm.bandwidth: [2, 4.8, 8 TB/s]
  l2.bandwidth: [5, 10 TB/s]
"""
# Points that take milliseconds.
COPIES = """\
hw: h200_sxm
kernel: copy
workload: {bytes: 4 MiB}
axes:
  hbm.bandwidth: [1, 2, 3, 4.8, 6, 8 TB/s]
  sm.count: [40, 80, 132]
"""
# Points that take long enough to be killed at.
MANY = """\
title: many
hw: h200_sxm
kernel: flash
workload: {model: llama3-8b, phase: decode, batch: 1, seq: 1k}
axes:
  hbm.bandwidth: {from: 2 TB/s, to: 8 TB/s, steps: 60}
"""
# SIGINT may be ignored in what a shell has started in the background.
CHILD = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
         "from turbosim.cli.main import main; main()")


def study_of(folder, text=SMALL, name="study.yaml"):
    path = folder / name
    path.write_text(text)
    return read_study(path)


def command(*arguments):
    return [sys.executable, "-c", CHILD, *map(str, arguments)]


def turbosim(*arguments, cwd=None):
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, cwd=cwd,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "160"})


def started(*arguments):
    """Start the command in a process group of its own."""
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "160"})


def children(pid):
    """Return the ids of the processes that evaluate points for *pid*."""
    found = []
    for child in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((child / "stat").read_text().rpartition(")")[2].split()[1])
            words = (child / "cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == pid and "spawn_main" in words:
            found.append(int(child.name))
    return found


def state(pid):
    """Return the letter of what the process does, Z if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def alive(pid):
    """Whether there is such a process that has not ended."""
    return state(pid) != "Z"


def rows_in(folder):
    return [row for _, row in lines(folder / NAME)]


def count_of(folder):
    """Return the number of whole rows in *folder*, -1 while its journal has not begun."""
    path = folder / NAME
    return path.read_bytes().count(b"\n") - 1 if path.is_file() else -1


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_alive(pid):
    """Kill the process and return whether it was alive until then: it is stopped first, so that it cannot end by itself."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    was_alive = wait_for(lambda: state(pid) in "TZ" and state(pid)) == "T"
    kill(pid)
    return was_alive


def summary_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
