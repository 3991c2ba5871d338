"""Tables of ``turbosim validate``: what no model may hide, whichever comes last."""

import csv
import io
import itertools

import pytest
from rich.console import Console

from turbosim.validation.predict import ANALYTICAL, RUNGS, Findings, Outcome
from turbosim.validation.row import Protocol, Row
from turbosim.views import validation_compare
from turbosim.views.validation import to_csv, to_markdown, to_table
from turbosim.workload import Gemm

FACTORS = {"roofline": 0.51, "genz": 0.6, "tile": 1.1, "sass": 0.8}


def rows(kernel, counts, dataset="set"):
    """Return rows of *kernel*, of which each model in *counts* predicts the first so many."""
    found = []
    for n in range(max(counts.values())):
        row = Row(f"data.csv:{n + 2}", dataset, "l4", kernel, Gemm(64 * (n + 1), 64, 64), 1e-5 * (n + 1), Protocol())
        times = {r: row.time_s * FACTORS[r] * (1 + 0.01 * n) for r, count in counts.items() if n < count}
        found.append(Outcome(row, times, reasons={r: f"{r} has no model" for r in RUNGS if r not in times}))
    return found


def lines_of(markdown):
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    return {line[2]: dict(zip(head, line, strict=True)) for line in lines}


def text_of(table, width=160):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("rungs", [some for n in range(1, 5) for some in itertools.combinations(RUNGS, n)], ids="-".join)
def test_markdown_has_every_group_that_a_simulating_model_predicts(rungs):
    groups = {"-".join(some): dict.fromkeys(some, 4) for n in range(1, 5) for some in itertools.combinations(RUNGS, n)}
    findings = Findings(tuple(o for kernel, counts in groups.items() for o in rows(kernel, counts)), ())
    judged = [r for r in rungs if r not in ANALYTICAL] or rungs
    found = lines_of(to_markdown(findings, rungs))
    assert set(found) == {kernel for kernel, counts in groups.items() if set(judged) & set(counts)}
    for kernel, line in found.items():
        assert {r: line[f"{r} mean"] == "-" for r in rungs} == {r: r not in groups[kernel] for r in rungs}
        last = [r for r in judged if r in groups[kernel]][-1]
        # Factors grow by 0, 1, 2 and 3 %.
        assert line["bias"] == f"{FACTORS[last] * 1.015 - 1:+.1%}"


@pytest.mark.parametrize(("counts", "rungs", "expected"), [
    ({"roofline": 12, "tile": 12, "sass": 8}, ("roofline", "tile", "sass"), "12 (sass 8)"),
    ({"roofline": 12, "tile": 8, "sass": 12}, ("roofline", "tile", "sass"), "12 (tile 8)"),
    ({"roofline": 12, "tile": 12, "sass": 12}, ("roofline", "tile", "sass"), "12"),
    ({"roofline": 12, "tile": 8}, ("roofline", "tile"), "8"),
    ({"roofline": 12, "tile": 8}, ("roofline", "tile", "sass"), "8"),
    ({"roofline": 12, "genz": 8}, ("roofline", "genz"), "12 (genz 8)"),
])
def test_markdown_names_models_that_predict_fewer_rows(counts, rungs, expected):
    found = lines_of(to_markdown(Findings(tuple(rows("gemm", counts)), ()), rungs))
    assert found["gemm"]["rows"] == expected


def test_worst_rows_are_those_of_every_model_that_simulates():
    findings = Findings((*rows("gemm", {"roofline": 3, "tile": 3}), *rows("copy", {"roofline": 2, "tile": 2, "sass": 2})), ())
    titles = [line.strip() for line in text_of(to_table(findings, [], RUNGS)).splitlines() if line.startswith("Worst rows")]
    assert titles == ["Worst rows of tile", "Worst rows of sass"]


def test_rows_of_the_csv_say_why_a_model_does_not_predict_them():
    findings = Findings(tuple(rows("gemm", {"tile": 3, "sass": 1})), ())
    found = list(csv.DictReader(io.StringIO(to_csv(findings, ("tile", "sass")))))
    assert [(r["tile_reason"], r["sass_reason"], bool(r["sass_time_s"])) for r in found] == [
        ("", "", True), ("", "sass has no model", False), ("", "sass has no model", False)]


@pytest.mark.parametrize("width", [100, 120, 160, 200])
def test_no_table_cuts_the_name_of_a_set(width):
    names = [f"flashattention3_figure_of_another_paper_h100_sxm_{n}" for n in range(2)]
    findings = Findings(tuple(o for name in names for o in rows("FlashAttention-3 forward", {"tile": 3}, name)), ())
    for table in (to_table(findings, [], ["tile"]), validation_compare.to_table(findings, findings, ["tile"])):
        text = text_of(table, width)
        assert "…" not in text
        first = "".join(line.split(" ")[0] for line in text.splitlines())
        assert all(name in first for name in names)
