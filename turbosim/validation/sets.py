"""Data sets: the committed ones, and files given by the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.document import shown
from turbosim.validation.cells import read_lines
from turbosim.validation.counters import check_bytes
from turbosim.validation.gpus import cards_of, gpu_of
from turbosim.validation.layouts import COLUMNS, layout_of
from turbosim.validation.meta import Meta, Model, read_meta
from turbosim.validation.own_options import check_options
from turbosim.validation.row import Row

WORK = "attention, a matrix product or an elementwise kernel"


@dataclass(frozen=True)
class DataSet:
    """Rows with what holds for all of them."""

    name: str
    meta: Meta
    rows: tuple[Row, ...]
    skipped: int = 0
    """Lines without a time of a known kind of work."""
    absent: Mapping[str, int] = field(default_factory=dict)
    """Rows of GPUs without a hardware file, by what the file calls the GPU."""
    unwanted: Mapping[str, int] = field(default_factory=dict)
    """Rows of GPUs that may be several, none of which is wanted, by what the file calls the GPU."""
    place: str = "meta.yaml"
    """Where it is said how a kernel is predicted."""

    def model_of(self, row: Row) -> Model:
        """Return how *row* is predicted, which for a kernel that no meta file has is: not."""
        known = self.meta.kernels
        return known.get(row.kernel) or Model(why=_unknown(row.kernel, known, self.place))

    def left_out(self) -> list[str]:
        """Return a sentence for each kind of lines that are no rows, with their number."""
        lines = [f"{self.name}: {count} rows left out: there is no hardware file of {name!r}"
                 for name, count in self.absent.items()]
        if self.skipped:
            lines.append(f"{self.name}: {self.skipped} lines left out: no time of {WORK}")
        return lines


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
    data = read_set(folder / "rows.csv", folder / "meta.yaml", name)
    for row in data.rows:
        if row.kernel not in data.meta.kernels:
            raise ConfigError(f"{row.where}: {_unknown(row.kernel, data.meta.kernels, data.place)}")
    return data


def load_file(path: Path, gpus: Sequence[str] = ()) -> DataSet:
    """Return the rows of any CSV file in a known layout.

    *gpus* are hardware files of which rows are wanted: where a GPU's name leaves the card open, it is the one of them.

    What holds for all rows is in ``NAME.meta.yaml`` beside it, else in ``meta.yaml`` beside a ``rows.csv``, else it is
    what files of its layout have in common (``measurements/layouts/``). Raises ConfigError as :func:`read_set`.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; --data takes a CSV file")
    beside = [path.with_suffix(".meta.yaml")]
    if path.name == "rows.csv":
        beside.append(path.with_name("meta.yaml"))
    name = path.parent.name if path.name == "rows.csv" and path.parent.name else path.stem
    return read_set(path, next((p for p in beside if p.is_file()), None), name, gpus)


def read_set(path: Path, meta_file: Path | None, name: str, gpus: Sequence[str] = ()) -> DataSet:
    """Return the data set in *path*, with *gpus* as :func:`load_file`.

    Raises ConfigError, with file and line, for whatever is not acceptable.
    """
    columns, lines = read_lines(path, COLUMNS)
    layout = layout_of(columns, f"{shown(path)}:1")
    meta = read_meta(meta_file or directory() / "measurements" / "layouts" / f"{layout.name}.yaml")
    place = shown(meta_file) if meta_file else f"{path.with_suffix('.meta.yaml').name} beside the file"
    absent, unwanted = Counter[str](), Counter[str]()
    rows, skipped = [], 0
    for line in lines:
        row = layout.row(line, name, meta)
        if row is None:
            skipped += 1
            continue
        try:
            gpu = gpu_of(row.gpu, gpus)
        except UsageError as error:
            raise line.error(str(error)) from None
        if gpu is not None:
            row = replace(row, gpu=gpu)
            check_bytes(line, row)
            if row.kernel in meta.kernels:
                row = replace(row, options=check_options(line, row, meta.kernels[row.kernel]))
            rows.append(row)
        else:
            (absent if len(cards_of(row.gpu)) == 1 else unwanted)[row.gpu] += 1
    if not rows and not unwanted:
        reasons = [*(f"{count} rows of {gpu!r}, of which there is no hardware file" for gpu, count in absent.items()),
                   *([f"{skipped} lines without a time of {WORK}"] if skipped else [])]
        raise ConfigError(f"{shown(path)}: has no row that can be compared: {'; '.join(reasons)}")
    return DataSet(name, meta, tuple(rows), skipped, dict(absent), dict(unwanted), place)


def _unknown(kernel: str, known: Iterable[str], place: str) -> str:
    return (f"unknown kernel {kernel!r}{did_you_mean(kernel, list(known))}; say in {place} how it is predicted")
