"""Ranked configurations: table and picture say what was launched, at which clock, and the same digits in one unit."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from turbosim import Description, simulate
from turbosim.cli.tune import _NoTimeError
from turbosim.tuning import Resources, Trial, fixed_values
from turbosim.views.tune import heading, to_rows, to_table
from turbosim.views.tune_figure import figure
from turbosim.workload import Attention, Phase

RESULT = simulate("a100_sxm_80gb", Attention(1, 8, 8, 1024, 1024, 64, causal=False, phase=Phase.PREFILL), "flash")


def trial(number, slower):
    result = replace(RESULT, clock_hz=RESULT.clock_hz / slower)
    return Trial({"BLOCK": number}, Resources(32, 0, 0, 4), result)


@pytest.mark.parametrize(("slower", "unit"), [(1, "us"), (0.9 / 1e-3 * RESULT.time_s, "us"), (1.1e-3 / RESULT.time_s, "ms"),
                                              (2 / RESULT.time_s, "s")])
def test_table_and_picture_have_the_same_numbers(slower, unit):
    trials = [trial(64, slower), trial(128, 300 * slower)]
    out = StringIO()
    console = Console(width=200, file=out)
    about = heading(trials, {"m": 4096, "ACT": "relu"}, "power")
    console.print(to_table(trials, console, ["title", *about]))
    lines = out.getvalue().splitlines()
    assert [line.strip() for line in lines[:2]] == ["title", "m=4096, ACT=relu"]
    assert re.fullmatch(r"clock \S+ \S+ to \S+ \S+, the highest within the board's power limit, for each", lines[2].strip())
    rows = [line.split() for line in lines if f" {unit} " in line]
    drawn = figure(trials, "title", about)
    axes = drawn.axes[0]
    other, = axes.child_axes
    numbers = [label.get_text().split() for label in other.get_yticklabels()]
    assert [n[:2] for n in numbers] == [[row[1], row[3]] for row in rows]
    assert len(rows) == 2
    assert axes.get_xlabel() == f"predicted time [{unit}]"
    assert any(f"time [{unit}]" in text.get_text() for text in axes.texts)
    assert drawn.get_suptitle() == "\n".join(["title", *about])
    assert axes.patches[0].get_width() == pytest.approx(float(numbers[0][0]), abs=0.01)


def test_different_work_is_said():
    more = Trial({"queries": 2048}, Resources(32, 0, 0, 4), replace(RESULT, useful_flops=4 * RESULT.useful_flops))
    said = "the configurations differ in their work: ranked by time all the same, TFLOP/s compares them"
    assert said in heading([trial(64, 1), more], {}, "sustained")
    assert said not in heading([trial(64, 1), trial(128, 2)], {}, "sustained")


def test_what_all_configurations_share():
    description = Description(kernel="a.py:b", sizes={"n": 4096, "rows": 8}, grid=["cdiv(n, BLOCK)"], arguments={},
                              constants={"BLOCK": 64, "HALF": "BLOCK // 2", "ACT": "'none'"})
    shared = fixed_values(description, {"BLOCK": [64, 128], "num_warps": [3, 4]}, {"n": 8192})
    assert shared == {"n": 8192, "rows": 8, "num_stages": 3, "ACT": "none"}
    assert to_rows([trial(64, 1)], shared)[0]["fixed"] == shared


@pytest.mark.parametrize(("codes", "code"), [([3, 3], 3), ([2, 2], 2), ([2, 3], 1), ([1], 1)])
def test_the_exit_code_where_none_has_a_time(codes, code):
    error = _NoTimeError([Trial({"BLOCK": n}, None, None, f"reason {n}", c) for n, c in enumerate(codes)])
    assert error.exit_code == code
    assert str(error) == f"none of the {len(codes)} configurations has a time; the first: reason 0"


def refused(reasons):
    """Lines of the table of configurations that were refused for *reasons*, one of 0, 1, 2, ... each."""
    out = StringIO()
    console = Console(width=400, file=out)
    console.print(to_table([Trial({"BLOCK": n}, None, None, reason) for n, reason in enumerate(reasons)], console))
    return [line.strip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(("needs", "told"), [
    ([4096], "4,096 B of 100 B"), ([4096, 4096], "4,096 B of 100 B"), ([8192, 512], "512 or 8,192 B of 100 B"),
    ([8192, 512, 8192], "512 or 8,192 B of 100 B"), ([900, 1 << 20, 8192], "900 to 1,048,576 B of 100 B")])
def test_a_reason_is_told_once_with_the_numbers_of_all(needs, told):
    reasons = [f"own.py:7:37: needs {n:,} B of 100 B at R{n} in 0x{n:x}a; use less" for n in needs]
    # What is no quantity is not mixed.
    same = [f"own.py:7:37: needs {n:,} B of 100 B; use less" for n in needs]
    assert refused(same) == [f"{len(needs)} without a time: own.py:7:37: needs {told}; use less", "BLOCK",
                             *map(str, range(len(needs)))]
    heads = [line for line in refused(reasons) if "without a time" in line]
    assert heads == [f"{needs.count(n)} without a time: own.py:7:37: needs {n:,} B of 100 B at R{n} in 0x{n:x}a; use less"
                     for n in dict.fromkeys(needs)]


def test_reasons_are_kept_apart_and_whole_in_rows():
    reasons = ["does not fit", "x.py:3:5: does not compile", "does not fit", "x.py:9:5: does not compile"]
    assert refused(reasons) == [
        "2 without a time: does not fit", "BLOCK", "0", "2", "", "1 without a time: x.py:3:5: does not compile", "BLOCK", "1",
        "", "1 without a time: x.py:9:5: does not compile", "BLOCK", "3"]
    rows = to_rows([Trial({"BLOCK": n}, None, None, reason) for n, reason in enumerate(reasons)])
    assert [(row["settings"]["BLOCK"], row["reason"]) for row in rows] == list(enumerate(reasons))
