"""The two pages of figures about lifted A100 rows are of one model."""

from __future__ import annotations

import re

import pytest

from analysis.check_lifted import PROSE
from analysis.lifted_errors import KNOWN, tilings, with_instructions_of
from turbosim.hw import load_gpu

TEXT = PROSE.read_text()


def block(name):
    return TEXT.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0].splitlines()


def rows(name):
    """Return label -> error at the clock of the limit in a table of check_lifted."""
    found = (re.match(r"^(\S+(?: \d+)?) +[\d.-]+ +[\d.]+ +([+-][\d.]+%)", line) for line in block(name))
    return {m[1]: m[2] for m in found if m}


@pytest.mark.parametrize(("name", "count"), [("attention", 10), ("matmul", 16)])
def test_every_row_has_its_tiling(name, count):
    assert tilings(TEXT, name).keys() == rows(name).keys()
    assert len(rows(name)) == count


def test_errors_of_the_file_are_those_of_the_tables():
    expected = rows("attention") | {k: v for k, v in rows("matmul").items() if int(k) >= 1024}
    cells = [line.split("|") for line in block("errors")[2:]]
    assert {c[1].strip(): c[4].split(",")[0].strip() for c in cells} == expected


def test_the_ends_enclose_the_energy_of_the_file():
    gpu = load_gpu("a100_pcie_80gb")
    low, high = (with_instructions_of(gpu, e).energy.instruction for e in KNOWN)
    assert all(low[c] < e < high[c] for c, e in gpu.energy.instruction.items())
