"""The journal of a study: an append-only file with one row a point, safe against kills, full disks and second writers.

Its first line names the format, every other one is a row as JSON. A row is written at once, so that it outlives the
process, and reaches the disk within a second or so, at the end at the latest, so that it outlives the machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from turbosim import __version__
from turbosim.errors import ConfigError, TurbosimError, UsageError
from turbosim.hw.document import shown

NAME = "journal.jsonl"
FORMAT = 1
SYNC_S = 0.5
"""Rows are brought to the disk at most this often [s]."""
SYNC_SHARE = 0.005
"""Share of the time that bringing them to the disk may take: on a slow disk it is done less often."""

Row = dict[str, Any]
"""``point``, ``key``, ``study``, ``version``, ``hw``, ``kernel``, ``axes``, ``workload``, ``outcome``, ``wall_s``."""


def _check_finite(outcome: Mapping[str, Any]) -> None:
    """Raise ValueError for what is written as null without a word."""
    for name, value in outcome.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}, which is no outcome")


class JournalError(TurbosimError):
    """A journal cannot be written (exit code 1)."""


@dataclass
class Index:
    """Where the rows of a journal are: byte offsets."""

    by_point: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """(study, point) to (key, offset) of the last such row."""
    by_key: dict[str, int] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    """(study, point) to the reason, of those that failed."""
    rows: int = 0
    end: int = 0
    """Bytes of whole rows."""
    torn: int = 0
    """Bytes after them, of a row that was cut off."""

    def add(self, row: Row, offset: int) -> None:
        """Note that *row* is at *offset*."""
        point = row["study"], row["point"]
        self.by_point[point] = (row["key"], offset)
        if row["outcome"]["status"] == "ok":
            self.failed.pop(point, None)
        else:
            self.failed[point] = row["outcome"]["reason"]
        self.by_key[row["key"]] = offset
        self.rows += 1


def lines(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (offset, row) of the journal *path*; a last row that was cut off is left out.

    Raises ConfigError for what is no journal or not a row; UsageError if there is no such file.
    """
    for offset, row, _ in _scan(path):
        if row is not None:
            yield offset, row


def index_of(path: Path) -> Index:
    """Return where the rows of *path* are. Raises as :func:`lines`."""
    index = Index()
    for offset, row, end in _scan(path):
        if end is None:
            index.torn = path.stat().st_size - offset
            break
        index.end = end
        if row is not None:
            index.add(row, offset)
    return index


def _scan(path: Path) -> Iterator[tuple[int, Row | None, int | None]]:
    """Yield (offset, row, end) of every line; the row of the header is None, so are row and end of a torn last line."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UsageError(f"{shown(path.parent)}: has no results: there is no {NAME} in it") from None
    with file:
        offset = 0
        for number, line in enumerate(file, 1):
            end = offset + len(line)
            whole = line.endswith(b"\n")
            row = _decoded(line) if whole else None
            if row is None or (number > 1 and not {"point", "key", "study", "axes", "outcome"} <= row.keys()):
                if not whole or (number > 1 and not file.peek(1) and row is None):
                    yield offset, None, None
                    return
                what = "journal" if number == 1 else "row"
                raise ConfigError(f"{shown(path)}:{number}:1: is not a {what} of a study")
            if number == 1:
                if row.get("journal") != FORMAT:
                    raise ConfigError(f"{shown(path)}:1:1: is not a journal of format {FORMAT}, got "
                                      f"{row.get('journal')!r}")
                yield 0, None, end
            else:
                yield offset, row, end
            offset = end


def _decoded(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


class Journal:
    """The journal in a folder, open for writing by this process alone. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Open or begin the journal in *folder*; a last row that was cut off is removed, see :attr:`torn`.

        Raises UsageError if another process has it open, ConfigError if it is not a journal, JournalError if it cannot
        be written.
        """
        self.path = folder / NAME
        self.spent_s = 0.0
        """Time spent on writing."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise JournalError(f"{shown(folder)}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
            raise UsageError(f"{shown(self.path)}: another command is writing to it; wait for it, or choose another "
                             "folder with -o") from None
        try:
            self.index = index_of(self.path)
            self.torn = self.index.torn
            """Bytes of a row that was cut off."""
            self._end = self.index.end
            self._next_sync = time.monotonic() + SYNC_S
            if self.torn:
                os.ftruncate(self._handle, self._end)
            os.lseek(self._handle, self._end, os.SEEK_SET)
            if not self._end:
                self._write(json.dumps({"journal": FORMAT, "turbosim": __version__}).encode() + b"\n")
                self.sync()
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if os.fstat(self._handle).st_size > self._end:
                # What an interrupt has left of a row.
                os.ftruncate(self._handle, self._end)
            if kind is None or not issubclass(kind, JournalError):
                self.sync()
        finally:
            os.close(self._handle)

    def append(self, row: Row) -> None:
        """Add *row*. Raises JournalError if there is no room; the rows before are kept.

        Raises ValueError for an outcome that is infinite or no number.
        """
        start = time.perf_counter()
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        if b":null" in line:
            _check_finite(row["outcome"])
        offset = self._end
        self._write(line)
        self.index.add(row, offset)
        if time.monotonic() > self._next_sync:
            self.sync()
        self.spent_s += time.perf_counter() - start

    def row(self, offset: int) -> Row:
        """Return the row at *offset*."""
        data = b""
        while not data.endswith(b"\n"):
            head, newline, _ = os.pread(self._handle, 1 << 14, offset + len(data)).partition(b"\n")
            data += head + newline
        row: Row = json.loads(data)
        return row

    def sync(self) -> None:
        """Bring all rows to the disk. Raises JournalError."""
        start = time.monotonic()
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise self._failure(error) from None
        end = time.monotonic()
        self._next_sync = end + max(SYNC_S, (end - start) / SYNC_SHARE)

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._handle, data[written:])
        except OSError as error:
            os.ftruncate(self._handle, self._end)
            os.lseek(self._handle, self._end, os.SEEK_SET)
            raise self._failure(error) from None
        self._end += written

    def _failure(self, error: OSError) -> JournalError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        fix = "; make room and start the same command again" if full else ""
        return JournalError(f"{shown(self.path)}: {error.strerror}; its {self.index.rows:,} rows are kept{fix}")
