"""The columns, their documentation, and cells as text."""

from __future__ import annotations

import pytest

from kernels.measure.schema import COLUMNS, NAMES, from_text, to_text
from kernels.measure.store import ROOT


def test_the_documented_columns_are_the_written_ones():
    text = (ROOT / "analysis" / "README.md").read_text().split("<!-- columns -->\n")[1]
    lines = text.split("\n\n")[0].strip().splitlines()
    assert lines[:2] == ["| column | type | meaning |", "|---|---|---|"]
    assert [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]] == [
        (f"`{c.name}`", c.kind, c.meaning) for c in COLUMNS]
    assert len(set(NAMES)) == len(NAMES)


def test_rows_survive_the_way_through_text():
    row = {"batch": 4, "causal": True, "time_s": 1.25e-6, "reason": "two\n lines, and \"quotes\"", "l2": None}
    assert from_text(to_text(row)) == {**dict.fromkeys(NAMES), **row, "reason": 'two lines, and "quotes"'}
    with pytest.raises(KeyError, match=r"^'tme_s'$"):
        to_text({"tme_s": 1.0})
