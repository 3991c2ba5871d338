"""What an interrupted or failing command leaves: the finished rows, a message, an exit code."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys

import pytest

from tests.cli.test_cli import turbosim

COMPARE = ["compare", "--hw", "a100_sxm_80gb", "--model", "phi3-medium", "--seq", "512,64k", "--kernels", "flash,turbo"]

# Says on stderr when simulation LAST begins. SIGINT may be ignored in what a shell has started in the background.
CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import turbosim.api
from turbosim.cli.main import main
simulate, begun = turbosim.api.simulate, []
def counted(*arguments, **options):
    begun.append(1)
    if len(begun) == LAST:
        print("begun", file=sys.stderr, flush=True)
    return simulate(*arguments, **options)
turbosim.api.simulate = counted
main()
"""


def interrupted(last, *arguments):
    """Return (exit code, stdout, stderr) of a process that gets SIGINT when its simulation *last* has begun."""
    with subprocess.Popen([sys.executable, "-c", CHILD.replace("LAST", str(last)), *map(str, arguments)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        for line in child.stderr:
            if line == "begun\n":
                break
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=120)
    return child.returncode, out, err


def test_compare_keeps_the_finished_rows_as_json_and_csv(tmp_path):
    path = tmp_path / "rows.csv"
    code, out, err = interrupted(3, *COMPARE, "--json", "--csv", path)
    assert (code, err) == (130, f"wrote {path}\ninterrupted: 2 of 4 simulations\n")
    rows = json.loads(out)
    assert [(r["seq"], r["kernel"]) for r in rows] == [(512, "flash"), (512, "turbo")]
    assert [float(r["time_s"]) for r in csv.DictReader(path.read_text().splitlines())] == [r["time_s"] for r in rows]


def test_compare_keeps_part_of_a_shape_in_the_table():
    code, out, err = interrupted(4, *COMPARE)
    assert (code, err) == (130, "interrupted: 3 of 4 simulations\n")
    assert [line.split()[0:3:2] for line in out.splitlines()[2:]] == [["1", "flash"], ["turbo", "us"], ["1", "flash"]]


def test_compare_without_a_finished_row_prints_none(tmp_path):
    path = tmp_path / "rows.csv"
    assert interrupted(1, *COMPARE[:5], "--seq", "128k", "--csv", path) == (130, "", "interrupted: 0 of 4 simulations\n")
    assert not path.exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["simulate", "--hw", "a100_sxm_80gb", "--model", "phi3-medium", "--seq", "128k"], "interrupted\n"),
    (["roofline", "--hw", "a100_sxm_80gb", "--model", "phi3-medium", "--seq", "128k"],
     "interrupted: 0 of 2 prefill points\n"),
])
def test_other_commands_say_that_they_were_interrupted(arguments, message):
    assert interrupted(1, *arguments) == (130, "", message)


def test_what_cannot_be_built_is_refused_before_anything_is_simulated(tmp_path):
    path = tmp_path / "rows.csv"
    done = turbosim(*COMPARE[:5], "--seq", "512,32M", "--kernels", "flash,turbo", "--json", "--csv", path)
    assert (done.returncode, done.stderr) == (
        2, "error: attention: sequences have at most 16,777,216 tokens, got 33,554,432\n")
    assert done.stdout == ""
    assert not path.exists()
