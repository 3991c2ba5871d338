"""Rows that a hardware file was fitted on are not predicted with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from turbosim.errors import ConfigError
from turbosim.hw.document import shown
from turbosim.hw.load import Resolved, load_resolved
from turbosim.hw.reader import Leaf
from turbosim.validation.identity import digests, readings
from turbosim.validation.row import Row
from turbosim.validation.sets import DataSet, list_sets, load_set

_FIX = "validate on other rows, or fit on other ones"


def check_unseen(sets: Sequence[DataSet], files: Mapping[str, str]) -> None:
    """Raise ConfigError if the hardware file of a row was fitted on it.

    *files* gives the hardware file of a GPU, if not the shipped one. Rows are told by what they say, whatever their
    file and kernel are called (:mod:`turbosim.validation.identity`): those of the record ``fitted`` of a calibration,
    and those of a committed set that a value's ``fitted_on`` names. A set of that name is refused as a whole.
    """
    committed = list_sets()
    resolved = {gpu: load_resolved(files.get(gpu, gpu)) for gpu in dict.fromkeys(r.gpu for d in sets for r in d.rows)}
    for gpu, found in resolved.items():
        named = _named(found, committed)
        for data in sets:
            if data.name in named:
                leaf = named[data.name]
                raise ConfigError(f"{leaf.where}: {'.'.join(leaf.path)} was fitted on {data.name}, whose rows it would "
                                  f"predict; {_FIX}")
        rows = [row for data in sets for row in data.rows if row.gpu == gpu]
        _check_sets(rows, {name: leaf for name, leaf in named.items() if name in committed})
        _check_records(rows, found)


def _named(found: Resolved, committed: Sequence[str]) -> dict[str, Leaf]:
    """Return the names in every ``fitted_on`` and the *committed* sets within them, with the field that has it.

    A name may be written as that of its file, with a path or without: ``fig.csv``, ``measured/fig.csv``,
    ``fig/rows.csv``.
    """
    named: dict[str, Leaf] = {}
    for leaf in found.leaves.values():
        text = leaf.fitted_on or ""
        parts = set(re.findall(r"\w+", text))
        names = (_set_name(word.strip("()'\"`:.")) for word in re.split(r"[\s,;]+", text))
        named |= dict.fromkeys([*names, *(name for name in committed if name in parts)], leaf)
    # Any file may be called rows.csv, and a text may speak of rows.
    named.pop("rows", None)
    return named


def _set_name(word: str) -> str:
    """Return what the set in a file called *word* is called; a *word* without .csv is a name already."""
    path = PurePath(word)
    if path.suffix.lower() != ".csv":
        return path.name
    return path.parent.name if path.name == "rows.csv" and path.parent.name else path.stem


def _check_sets(rows: Sequence[Row], named: Mapping[str, Leaf]) -> None:
    known = {digests(reading)[0]: (name, row)
             for name in named for data in [load_set(name)] for row in data.rows
             for reading in readings(row, data.meta.flops)}
    for row in rows if known else ():
        if match := next((known[d] for d in digests(row) if d in known), None):
            leaf = named[match[0]]
            raise ConfigError(f"{row.where}: {row.name}: says what {match[1].where} says, and {leaf.where}: "
                              f"{'.'.join(leaf.path)} was fitted on {match[0]} and would predict it; {_FIX}")


def _check_records(rows: Sequence[Row], found: Resolved) -> None:
    known = {digest: name for record in found.records for name, file in record.files.items() for digest in file.rows}
    for row in rows if known else ():
        if source := next((known[d] for d in digests(row) if d in known), None):
            raise ConfigError(f"{row.where}: {row.name}: {shown(found.file)} was fitted on this row, in {source}, and "
                              f"would predict it; {_FIX}")
