"""Rows of a study as flat records, as a pandas DataFrame, as parquet, and under SQL."""

from __future__ import annotations

import importlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbosim.errors import UsageError
from turbosim.files import write_whole
from turbosim.study.axis import Kind, Value
from turbosim.study.evaluate import OUTCOMES
from turbosim.study.journal import NAME, Row, lines
from turbosim.study.saved import STUDY, open_study
from turbosim.study.study import Names, Study

if TYPE_CHECKING:
    import pandas as pd

PARQUET = "points.parquet"
_FIRST = ("point", "key", "status", "reason", "hw", "kernel")


def needed(name: str, what: str, extra: str = "studies") -> Any:
    """Return the module *name*. Raises UsageError with the way to install it, for *what*."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(f"{what} needs {name}: pip install 'turbosim[{extra}]'") from None


def flatten(row: Row) -> dict[str, Any]:
    """Return a row of the journal as one record, without derived metrics."""
    record: dict[str, Any] = {"point": row["point"], "key": row["key"], "status": row["outcome"]["status"],
                              "reason": row["outcome"].get("reason", ""), "hw": row["hw"], "kernel": row["kernel"]}
    record |= row["axes"]
    workload = {name: value for name, value in row["workload"].items() if name != "kind"}
    record |= {name: value for name, value in workload.items() if name not in record}
    record |= {name: value for name, value in row["outcome"].items() if name not in record}
    return record | {"wall_s": row["wall_s"], "version": row["version"]}


@dataclass
class Rows:
    """The rows of one study in a journal, read when they are asked for."""

    study: Study
    path: Path

    def __post_init__(self) -> None:
        self._offsets: dict[str, int] = {}
        self.times: dict[str, float] = {}
        """Seconds by point, of those that did not fail."""
        for offset, row in lines(self.path):
            if row["study"] == self.study.digest:
                # The last one of a point is the one that holds.
                self._offsets.pop(row["point"], None)
                self._offsets[row["point"]] = offset
                self.times.pop(row["point"], None)
                if row["outcome"]["status"] == "ok":
                    self.times[row["point"]] = row["outcome"]["time_s"]

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in the order in which they were written."""
        with self.path.open("rb") as file:
            for offset in self._offsets.values():
                file.seek(offset)
                yield json.loads(file.readline())

    def at(self, point: str) -> Row:
        """Return the row of *point*. Raises KeyError."""
        with self.path.open("rb") as file:
            file.seek(self._offsets[point])
            row: Row = json.loads(file.readline())
            return row

    def record(self, row: Row) -> dict[str, Any]:
        """Return *row* as one record, with the derived metrics of the study."""
        return flatten(row) | self.study.silicon(row["axes"]) | derived(self.study, row, self.baseline(row))

    def baseline(self, row: Row) -> Row | None:
        """Return the row that *row* is compared with; None where there is none yet."""
        if not self.study.baseline:
            return None
        point = self.study.point_of({**row["axes"], **self.study.baseline})
        return self.at(point) if point in self._offsets else None


def without_value(rows: Rows) -> dict[str, int]:
    """Return, by derived metric, how many points that did not fail have no value of it; metrics with all are left out.

    A value is missing where a name has none, a calculation none (``x / 0``), or the baseline is not among *rows*.
    """
    found: Counter[str] = Counter()
    for row in rows if rows.study.metrics else ():
        if row["outcome"]["status"] == "ok":
            values = derived(rows.study, row, rows.baseline(row))
            found.update(name for name, value in values.items() if value is None)
    return {name: found[name] for name in rows.study.metrics if found[name]}


class _Columns(Mapping[str, Any]):
    """What a metric may read: the columns of a row, what a constraint may, and the same of its baseline."""

    def __init__(self, study: Study, row: Row | None, baseline: _Columns | None) -> None:
        self.record = {} if row is None else flatten(row)
        self.baseline = baseline
        self.names = None if row is None else Names(study, row["axes"])

    def __getitem__(self, name: str) -> Any:
        if name.startswith("baseline."):
            return None if self.baseline is None else self.baseline[name.removeprefix("baseline.")]
        if name in self.record:
            return self.record[name]
        if name.startswith(("stall.", "energy.")) and self.record.get("status") == "ok":
            # Reasons and parts that took nothing are not written down.
            return 0.0
        if name in OUTCOMES or self.names is None:
            return None
        return self.names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.record)

    def __len__(self) -> int:
        return len(self.record)


def derived(study: Study, row: Row, baseline: Row | None) -> dict[str, Any]:
    """Return the metrics of *study* for *row*; None where one has no value."""
    other = _Columns(study, baseline, None)
    columns = _Columns(study, row, other)
    values = {}
    for name, expression in study.metrics.items():
        if baseline is not None:
            other.record[name] = expression.value(other)
        values[name] = columns.record[name] = expression.value(columns)
    return values


def records(folder: Path, study: Study | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of the study in *folder*, derived metrics included. Raises UsageError, ConfigError."""
    rows = Rows(open_study(folder) if study is None else study, folder / NAME)
    for row in rows:
        yield rows.record(row)


def load_results(folder: str | Path) -> pd.DataFrame:
    """Return the results in *folder* as a DataFrame, a row per point; :mod:`turbosim.study` has the columns.

    Rows are in the order in which the study lists its values; ``attrs["study"]`` is its title. Can be called while a
    sweep is running. Raises UsageError where there are no results or pandas is missing, ConfigError for files that are
    not acceptable.
    """
    pandas = needed("pandas", "load_results")
    folder = Path(folder)
    study = open_study(folder)
    frame = pandas.DataFrame(sorted(records(folder, study), key=_order(study)))
    if frame.empty:
        frame = pandas.DataFrame(columns=[*_FIRST, *study.axis_names, *OUTCOMES])
    shares = [c for c in frame.columns if c.startswith(("stall.", "energy."))]
    done = frame["status"] == "ok"
    frame.loc[done, shares] = frame.loc[done, shares].fillna(0.0)
    for axis in study.axes:
        if axis.kind is not Kind.HARDWARE and any(isinstance(v, str) for v in axis.values):
            frame[axis.name] = frame[axis.name].astype(str)
    last = [c for c in ("program", "wall_s", "version") if c in frame.columns]
    order = [*_FIRST, *(n for n in study.axis_names if n not in _FIRST), *study.metrics,
             *(n for n in OUTCOMES if n in frame.columns)]
    order = [c for c in dict.fromkeys(order) if c in frame.columns]
    rest = [c for c in frame.columns if c not in order and c not in last]
    frame = frame[[*order, *rest, *last]]
    frame.attrs["study"] = study.title
    return frame


def _order(study: Study) -> Callable[[dict[str, Any]], tuple[float, ...]]:
    """Return what sorts records as the study lists the values of its axes, whichever process was first."""
    places = [(a.name, {value: place for place, value in enumerate(a.values)} if a.range is None else {})
              for a in study.axes]
    return lambda record: tuple(place.get(record[name], record[name]) for name, place in places)


def compact(folder: Path) -> Path:
    """Write the results in *folder* as parquet, unless they are, and return the file.

    Raises UsageError where pyarrow or pandas is missing.
    """
    needed("pyarrow", "parquet")
    path = folder / PARQUET
    if path.is_file() and all((folder / x).stat().st_mtime_ns < path.stat().st_mtime_ns for x in (NAME, STUDY)):
        return path
    buffer = io.BytesIO()
    load_results(folder).to_parquet(buffer, index=False)
    write_whole(path, buffer.getvalue())
    return path


def query(folder: Path, sql: str) -> pd.DataFrame:
    """Return what *sql* selects from ``points`` (all rows) and ``failures`` (point, reason and axes of failed ones).

    DuckDB runs it in memory without access to files, so that nothing can be changed. Raises UsageError for SQL that is
    not acceptable.
    """
    duckdb = needed("duckdb", "a query")
    frame = load_results(folder)
    study = open_study(folder)
    failures = frame.loc[frame["status"] != "ok", ["point", "reason", *study.axis_names]]
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        connection.register("points", frame)
        connection.register("failures", failures)
        try:
            return connection.execute(sql).df()
        except duckdb.Error as error:
            raise UsageError(f"query: {_told(str(error))}") from None


def _told(message: str) -> str:
    """Return the first line of DuckDB's message, with what it offers instead."""
    told = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(x for x in told if not x.startswith(("LINE", "^"))) or "not acceptable"


def plain(value: Any) -> Value | None:
    """Return one value of a DataFrame as JSON has it."""
    if hasattr(value, "item"):
        value = value.item()
    return None if value is None or value != value else value
