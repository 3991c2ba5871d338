"""Files that are written together."""

from __future__ import annotations

import pytest

from turbosim.files import write_together


def test_all_or_none_are_written(tmp_path):
    kept = tmp_path / "table.md"
    kept.write_bytes(b"of before")
    with pytest.raises(FileNotFoundError):
        write_together({kept: b"new", tmp_path / "missing" / "rows.csv": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
    assert kept.read_bytes() == b"of before"
    (tmp_path / "missing").mkdir()
    write_together({kept: b"new", tmp_path / "missing" / "rows.csv": b"new"})
    assert kept.read_bytes() == (tmp_path / "missing" / "rows.csv").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2
