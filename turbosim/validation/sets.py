"""Data sets: the committed ones, and files given by the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.document import shown
from turbosim.validation.cells import read_lines
from turbosim.validation.layouts import layout_of
from turbosim.validation.meta import Meta, read_meta
from turbosim.validation.row import Row


@dataclass(frozen=True)
class DataSet:
    """Rows with what holds for all of them."""

    name: str
    meta: Meta
    rows: tuple[Row, ...]
    skipped: int = 0
    """Lines without a time of a known kind of work."""


def directory() -> Path:
    """Return the folder of the data sets and thresholds: in an installed package, or ``analysis/`` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_validation"
    return installed if installed.is_dir() else package.parent / "analysis"


def list_sets() -> list[str]:
    """Return the names of the committed data sets."""
    return sorted(p.parent.name for p in (directory() / "measurements" / "published").glob("*/meta.yaml"))


def load_set(name: str) -> DataSet:
    """Return the committed data set *name*. Raises UsageError for an unknown one, ConfigError as :func:`read_set`."""
    known = list_sets()
    if name not in known:
        raise UsageError(f"unknown data set {name!r}: not among {', '.join(known)}{did_you_mean(name, known)}")
    folder = directory() / "measurements" / "published" / name
    return read_set(folder / "rows.csv", folder / "meta.yaml", name)


def load_file(path: Path) -> DataSet:
    """Return the rows of any CSV file in a known layout.

    What holds for all rows is in ``NAME.meta.yaml`` beside it, else in ``meta.yaml`` beside a ``rows.csv``, else it is
    what files of its layout have in common (``measurements/layouts/``). Raises ConfigError as :func:`read_set`.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; --data takes a CSV file")
    beside = [path.with_suffix(".meta.yaml")]
    if path.name == "rows.csv":
        beside.append(path.with_name("meta.yaml"))
    name = path.parent.name if path.name == "rows.csv" and path.parent.name else path.stem
    return read_set(path, next((p for p in beside if p.is_file()), None), name)


def read_set(path: Path, meta_file: Path | None, name: str) -> DataSet:
    """Return the data set in *path*. Raises ConfigError, with file and line, for whatever is not acceptable."""
    columns, lines = read_lines(path)
    layout = layout_of(columns, f"{shown(path)}:1")
    meta = read_meta(meta_file or directory() / "measurements" / "layouts" / f"{layout.name}.yaml")
    rows = []
    for line in lines:
        row = layout.row(line, name, meta)
        if row is not None:
            if row.kernel not in meta.kernels:
                known = ", ".join(meta.kernels)
                place = shown(meta_file) if meta_file else f"{path.with_suffix('.meta.yaml').name} beside the file"
                raise line.error(f"unknown kernel {row.kernel!r}: not among {known}"
                                 f"{did_you_mean(row.kernel, meta.kernels)}; say in {place} how it is predicted")
            rows.append(row)
    if not rows:
        raise ConfigError(f"{shown(path)}: has no row that can be compared: {len(lines)} lines without a time of "
                          f"attention, a matrix product or an elementwise kernel")
    return DataSet(name, meta, tuple(rows), len(lines) - len(rows))
