"""The journal: what it keeps when it is cut off, shared or out of room."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.study.studies import rows_in, study_of, turbosim
from turbosim.errors import ConfigError, UsageError
from turbosim.study.journal import NAME, Journal, JournalError, index_of
from turbosim.study.sweep import run_study


def row(number, **more):
    return {"point": f"p{number}", "key": f"k{number}", "study": "s", "axes": {}, "outcome": {"status": "ok"}, **more}


def written(folder, count):
    with Journal(folder) as journal:
        for number in range(count):
            journal.append(row(number))
    return folder / NAME


def test_rows_are_appended_and_found(tmp_path):
    path = written(tmp_path, 3)
    with Journal(tmp_path) as journal:
        assert (journal.torn, journal.index.rows) == (0, 3)
        journal.append(row(7, text="x" * 50_000))
        offset = journal.index.by_point["s", "p7"][1]
        assert journal.row(offset) == row(7, text="x" * 50_000)
        assert [journal.row(o)["point"] for _, o in journal.index.by_point.values()] == ["p0", "p1", "p2", "p7"]
    assert [r["point"] for r in rows_in(tmp_path)] == ["p0", "p1", "p2", "p7"]
    assert json.loads(path.read_text().splitlines()[0])["journal"] == 1


@given(cut=st.integers(1, 400))
def test_a_file_cut_anywhere_keeps_its_whole_rows(cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    path = written(folder, 3)
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    whole = max(0, data[:-cut].count(b"\n") - 1)
    with Journal(folder) as journal:
        assert journal.index.rows == whole
        assert bool(journal.torn) == (not data[:-cut].endswith(b"\n") and cut < len(data))
        journal.append(row(9))
    assert [r["point"] for r in rows_in(folder)] == [*(f"p{i}" for i in range(whole)), "p9"]


def test_a_torn_row_is_left_out_by_readers(tmp_path):
    path = written(tmp_path, 2)
    with path.open("ab") as file:
        file.write(b'{"point": "p2"')
    assert [r["point"] for r in rows_in(tmp_path)] == ["p0", "p1"]
    assert index_of(path).torn == 14


@pytest.mark.parametrize(("line", "text", "message"), [
    (0, "not json", "1:1: is not a journal of a study"), (0, '{"journal": 9}', "1:1: is not a journal of format 1, got 9"),
    (1, "[]", "2:1: is not a row of a study"), (1, '{"point": 1}', "2:1: is not a row of a study")])
def test_a_spoilt_line_is_told(tmp_path, line, text, message):
    path = written(tmp_path, 3)
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines) + "\n")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=re.escape(f"{NAME}:{message}")):
        Journal(tmp_path)
    assert path.read_bytes() == before


def test_a_second_writer_is_refused(tmp_path):
    study = tmp_path / "study.yaml"
    study_of(tmp_path)
    with Journal(tmp_path / "out") as journal:
        with pytest.raises(UsageError, match=re.escape("another command is writing to it")):
            Journal(tmp_path / "out")
        done = turbosim("sweep", study, "-o", tmp_path / "out")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (f"error: {tmp_path}/out/{NAME}: another command is writing to it; wait for it, or choose "
                               "another folder with -o\n")
        journal.append(row(1))
    with Journal(tmp_path / "out") as journal:
        assert journal.index.rows == 1


def limited(size):
    """Let files grow to *size* bytes: what a full disk does, where nothing can be mounted."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


@contextlib.contextmanager
def full_disk(folder, size):
    """Yield a folder that holds *size* bytes, and whether it is a disk of its own."""
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_the_rows_are_kept(tmp_path):
    study_of(tmp_path, "hw: h200_sxm\nkernel: copy\nworkload: {bytes: 1 MiB}\n"
                       "axes: {hbm.bandwidth: {from: 2 TB/s, to: 8 TB/s, steps: 100}}\n")
    disk = tmp_path / "disk"
    with full_disk(disk, 81_920) as mounted:
        command = [sys.executable, "-m", "turbosim", "sweep", tmp_path / "study.yaml", "-o", disk / "out", "--jobs", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
                              preexec_fn=None if mounted else limited(40_000))
        rows = rows_in(disk / "out")
        why = "No space left on device" if mounted else "File too large"
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            f"error: {disk}/out/{NAME}: {why}; its {len(rows)} rows are kept; make room and start the same command again")
        assert 5 < len(rows) < 100
        assert len({r["point"] for r in rows}) == len(rows)
        assert (disk / "out" / NAME).read_bytes().endswith(b"\n")
        kept = (disk / "out" / NAME).read_bytes()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / NAME).write_bytes(kept)
    report = run_study(study_of(tmp_path, (tmp_path / "study.yaml").read_text()), tmp_path / "more", jobs=1)
    assert (report.before, report.simulated, report.torn) == (len(rows), 100 - len(rows), False)


def test_a_failing_disk_leaves_a_journal_that_can_be_read(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    journal.append(row(1))
    write = os.write

    def half(handle, data):
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(handle, data[: len(data) - 10])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(JournalError, match=re.escape("No space left on device; its 1 rows are kept")), journal:
        journal.append(row(2))
    monkeypatch.undo()
    assert [r["point"] for r in rows_in(tmp_path)] == ["p1"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=re.escape("cannot be written: ")):
        Journal(tmp_path / "file" / "out")


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_an_outcome_that_is_no_number_is_not_written_as_if_there_were_none(tmp_path, value):
    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match=r"^time_s is (-?inf|nan), which is no outcome$"):
            journal.append({**row(1), "outcome": {"status": "ok", "time_s": value}})
        journal.append(row(2))
    assert [x["point"] for x in rows_in(tmp_path)] == ["p2"]
