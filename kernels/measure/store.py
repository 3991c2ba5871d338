"""The output directory: ``rows.csv``, each row on disk before the next is measured; ``meta.json``; a lock."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kernels.measure.schema import NAMES, Value, from_text, to_text
from turbosim.errors import ConfigError, TurbosimError, UsageError

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
HEADER = ",".join(NAMES) + "\n"
Done = dict[str, dict[tuple[str | None, str | None], dict[str, Value]]]
"""Rows by key, then by (l2, method)."""


def source_hashes() -> dict[str, str]:
    """Return the SHA-256 of every source that decides what runs and what is right, by path in the checkout.

    The harness and the report are not among them; the definitions of correct are.
    """
    kernels = ROOT / "kernels"
    files = [p for p in sorted(kernels.rglob("*.py")) if "measure" not in p.relative_to(kernels).parts
             and p.name not in ("report.py", "machine_code.py")]
    files += sorted((ROOT / "turbosim" / "numerics").rglob("*.py"))
    return {str(p.relative_to(ROOT)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def check_out(path: Path, write: bool = True) -> None:
    """Raise UsageError if *path* is a file or below one, or, where rows are to be written, may not be written to."""
    nearest = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not nearest.is_dir():
        what = "it" if nearest == path else str(nearest)
        raise UsageError(f"--out {path}: {what} is a file; give a directory, new or of an earlier call")
    if write and not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(path, f"no permission to write to {nearest}")


def _unwritable(path: Path, why: str) -> UsageError:
    return UsageError(f"--out {path}: cannot be written to: {why}; give a directory of your own")


def read_rows(path: Path) -> list[dict[str, Value]]:
    """Return the rows of the CSV file *path*, typed. A last line without its end, which a kill can leave, is not one.

    Raises ConfigError naming file and line when the columns are others or a value is not of its column's type.
    """
    text = path.read_bytes().decode(errors="replace")
    lines = text[:text.rfind("\n") + 1].splitlines()
    if not lines:
        return []
    if lines[0] + "\n" != HEADER:
        raise ConfigError(f"{path}:1: other columns than this version writes; use an empty --out directory")
    rows = []
    for number, cells in enumerate(csv.reader(lines[1:]), start=2):
        try:
            rows.append(from_text(dict(zip(NAMES, cells, strict=True))))
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: not a row of this table: {error}; delete the line") from None
    return rows


def done_of(rows: list[dict[str, Value]]) -> Done:
    """Return the rows by key and by (l2, method)."""
    done: Done = {}
    for row in rows:
        l2, method = (None if row[c] is None else str(row[c]) for c in ("l2", "method"))
        done.setdefault(str(row["key"]), {})[l2, method] = row
    return done


def have_of(done: Done, key: str) -> dict[tuple[str | None, str | None], float | None]:
    """Return the rows of case *key*: (l2, method) -> time [s], None where nothing was timed."""
    times = ((row, values.get("time_s")) for row, values in done.get(key, {}).items())
    return {row: time_s if isinstance(time_s, float) else None for row, time_s in times}


class Store:
    """An output directory that one call writes to. Use as a context manager: it holds the lock and the files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.csv = path / "rows.csv"
        self.done: Done = {}
        self.run = 0
        self._lock = -1
        self._rows = -1

    def __enter__(self) -> Self:
        """Make the directory and lock it.

        Raises UsageError when it cannot be written to, and TurbosimError when another process holds it.
        """
        check_out(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR)
        except OSError as error:
            raise _unwritable(self.path, str(error.strerror)) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise TurbosimError(f"--out {self.path}: another measurement is writing there; wait for it, or use another "
                                "directory") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Close the files and release the lock."""
        if self._rows >= 0:
            os.close(self._rows)
        os.close(self._lock)

    def open(self, meta: Mapping[str, Any]) -> None:
        """Read what earlier calls left, note this call in ``meta.json``, and open the table for appending.

        *meta* is this call's entry: ``gpu``, ``triton`` and ``kernel_sources``, which must be those of earlier calls,
        and more. Raises UsageError when they differ, ConfigError when a file cannot be read.
        """
        path = self.path / "meta.json"
        runs = _read_runs(path) if path.exists() else []
        rows = read_rows(self.csv) if self.csv.exists() else []
        if rows and not runs:
            raise ConfigError(f"{path}: missing, though rows.csv holds rows; use an empty --out directory")
        if runs and rows:
            self._check_same(runs[-1], meta)
        self.done = done_of(rows)
        # A run without rows leaves no trace: row numbers stay those of the entries.
        kept = runs[:1 + max((int(str(row["run"])) for row in rows), default=-1)]
        self.run = len(kept)
        _replace(path, json.dumps({"runs": [*kept, dict(meta)]}, indent=2) + "\n")
        self._rows = os.open(self.csv, os.O_CREAT | os.O_RDWR)
        size = os.fstat(self._rows).st_size
        whole = os.pread(self._rows, size, 0).rfind(b"\n") + 1
        if whole < size:
            os.ftruncate(self._rows, whole)
        os.lseek(self._rows, 0, os.SEEK_END)
        if whole == 0:
            self._write(HEADER)
        _sync_directory(self.path)

    def append(self, row: Mapping[str, Value]) -> None:
        """Write *row*; it is on disk when this returns."""
        full = {**row, "run": self.run}
        text = io.StringIO()
        csv.DictWriter(text, NAMES, lineterminator="\n").writerow(to_text(full))
        self._write(text.getvalue())
        self.done.setdefault(str(full["key"]), {})[_text(row.get("l2")), _text(row.get("method"))] = full

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._rows, data):]
        os.fsync(self._rows)

    def _check_same(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        where = f"--out {self.path}: holds rows"
        advice = "use an empty --out directory"
        for name, title in (("gpu", "of GPU"), ("triton", "measured with triton")):
            if old.get(name) != new.get(name):
                raise UsageError(f"{where} {title} {old.get(name)!r}, this is {new.get(name)!r}; {advice}")
        before, now = old.get("kernel_sources", {}), new.get("kernel_sources", {})
        changed = sorted(f for f in {*before, *now} if before.get(f) != now.get(f))
        if changed:
            raise UsageError(f"{where} of another version of the kernels' sources (changed: {', '.join(changed)}); "
                             f"{advice}")


def _text(value: Value) -> str | None:
    return None if value is None else str(value)


def _read_runs(path: Path) -> list[dict[str, Any]]:
    try:
        runs = json.loads(path.read_text())["runs"]
        if not all(isinstance(run, dict) for run in runs):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: not the meta.json of a measurement; use an empty --out directory") from None
    return list(runs)


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
