"""Reading the cells of a CSV line, with the line and column in every error."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from turbosim.errors import ConfigError, did_you_mean
from turbosim.hw.document import shown

_CELL = re.compile(r'(?:^|,)("(?:[^"]|"")*"|[^,]*)')
_OPEN = re.compile(r'(?:^|,)(")(?:[^"]|"")*$')
_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}


@dataclass(frozen=True)
class Line:
    """One line of a CSV file, by column."""

    where: str
    """``file:line``."""
    cells: dict[str, str]
    places: dict[str, int] = field(default_factory=dict, compare=False)
    """Column, in characters from 1, at which each cell starts."""

    def error(self, message: str) -> ConfigError:
        """Return *message* as an error of this line."""
        return ConfigError(f"{self.where}: {message}")

    def error_in(self, column: str, message: str) -> ConfigError:
        """Return *message* as an error of the cell of *column*, with its place in the line."""
        place = f":{self.places[column]}" if column in self.places else ""
        return ConfigError(f"{self.where}{place}: column {column}: {message}")

    def number(self, column: str) -> float:
        """Return a finite number. Raises ConfigError."""
        text = self.text(column)
        value = _number(text)
        if value is None:
            raise self.error_in(column, f"must be a number without a unit, got {text!r}")
        return value

    def text(self, column: str, default: str | None = None) -> str:
        """Return a text. Raises ConfigError where it is empty and there is no *default*."""
        value = self.cells.get(column, "").strip()
        if value:
            return value
        if default is None:
            raise self.error(f"column {column} is empty; fill it in")
        return default

    def integer(self, column: str) -> int:
        """Return a positive whole number; 64.0 is one. Raises ConfigError."""
        text = self.text(column)
        value = _number(text)
        if value is None or value != int(value) or value < 1:
            raise self.error(f"column {column} must be a whole number of at least 1, got {text!r}")
        return int(value)

    def positive(self, column: str) -> float:
        """Return a positive, finite number. Raises ConfigError."""
        text = self.text(column)
        value = _number(text)
        if value is None or value <= 0:
            raise self.error(f"column {column} must be a positive number without a unit, got {text!r}")
        return value

    def boolean(self, column: str) -> bool:
        """Return a truth value. Raises ConfigError."""
        text = self.text(column).lower()
        if text not in ("true", "false", "1", "0"):
            raise self.error(f"column {column} must be true or false, got {text!r}")
        return text in ("true", "1")

    def choice(self, column: str, known: tuple[str, ...], default: str | None = None) -> str:
        """Return one of *known*. Raises ConfigError."""
        text = self.text(column, default)
        if text not in known:
            raise self.error(f"column {column} must be one of {', '.join(known)}, got {text!r}"
                             f"{did_you_mean(text, known)}")
        return text

    def pairs(self, column: str) -> dict[str, str]:
        """Return a list such as ``m=64:n=64`` as a table. Raises ConfigError, also for a name that is there twice."""
        table = {}
        for part in filter(None, self.cells.get(column, "").split(":")):
            name, sign, value = part.partition("=")
            if not sign or not name or not value:
                raise self.error(f"column {column} is a list like m=64:n=64, got {part!r}")
            if name in table:
                raise self.error_in(column, f"has {name} twice: {self.cells[column]}; drop one")
            table[name] = value
        return table

    def sizes(self, column: str) -> dict[str, int]:
        """Return :meth:`pairs` of positive whole numbers. Raises ConfigError."""
        table = {}
        for name, text in self.pairs(column).items():
            if not text.isdigit() or not int(text):
                raise self.error(f"column {column}: {name} must be a whole number of at least 1, got {text!r}")
            table[name] = int(text)
        return table


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_lines(path: Path, known: Collection[str] = ()) -> tuple[list[str], list[Line]]:
    """Return the columns and the lines of a CSV file; lines that start with # are comments.

    A byte order mark and the line ends of any system are read over. Raises ConfigError for a file that cannot be read,
    whose columns another character separates, that has no lines, whose lines differ in length or end within quotes, or
    with a column that is one of the *known* names but for capitals.
    """
    try:
        # Spreadsheets write a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{shown(path)}: not UTF-8 text; a CSV file is expected") from None
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1)
                if line.strip() and not line.startswith("#")]
    if not numbered:
        raise ConfigError(f"{shown(path)}: has no columns; a CSV file starts with their names")
    _check_separator(path, *numbered[0])
    texts = dict(numbered)
    fields = list(_parsed(path, numbered))
    columns = [name.strip() for name in fields[0][1]]
    if repeated := next((c for c in columns if columns.count(c) > 1), None):
        raise ConfigError(f"{shown(path)}:{fields[0][0]}: column {repeated!r} is there twice")
    _check_capitals(f"{shown(path)}:{fields[0][0]}", columns, _starts(numbered[0][1]), known)
    lines = []
    for number, cells in fields[1:]:
        if len(cells) != len(columns):
            raise ConfigError(f"{shown(path)}:{number}: has {len(cells)} cells, and there are {len(columns)} columns; "
                              f"texts with commas stand in double quotes")
        lines.append(Line(f"{shown(path)}:{number}", dict(zip(columns, cells, strict=True)),
                          dict(zip(columns, _starts(texts[number]), strict=True))))
    if not lines:
        raise ConfigError(f"{shown(path)}: has columns, but no rows")
    return columns, lines


def _check_separator(path: Path, number: int, header: str) -> None:
    bare = re.sub(r'"[^"]*"', "", header)
    other = next((text for sign, text in _SEPARATORS.items() if sign in bare), None)
    if other is not None and "," not in bare:
        raise ConfigError(f"{shown(path)}:{number}:1: columns are separated by {other}; use commas, with points in "
                          f"decimal numbers")


def _check_capitals(where: str, columns: list[str], places: list[int], known: Collection[str]) -> None:
    spelt = {name.lower(): name for name in known}
    for column, place in zip(columns, places, strict=True):
        right = spelt.get(column.lower(), column)
        # Beside the right one it is another column.
        if right != column and right not in columns:
            raise ConfigError(f"{where}:{place}: column {column!r} must be {right!r}")


def _parsed(path: Path, numbered: list[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for number, line in numbered:
        if opened := _OPEN.search(line):
            raise ConfigError(f"{shown(path)}:{number}:{1 + opened.start(1)}: not CSV: the double quote that starts "
                              f"here does not end in its line; close it, and write the text without a line break")
        try:
            yield number, next(csv.reader([line], strict=True))
        except csv.Error as error:
            raise ConfigError(f"{shown(path)}:{number}: not CSV: {error}") from None


def _starts(line: str) -> list[int]:
    """Return where each cell of *line*, which is CSV, starts, in characters from 1."""
    return [1 + cell.start(1) for cell in _CELL.finditer(line)]
