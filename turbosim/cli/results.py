"""``turbosim results``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turbosim.cli import common
from turbosim.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = common.examples(
    "turbosim results sfu --csv sfu.csv",
    'turbosim results sfu "select kernel, min(time_s) from points group by all"',
    'turbosim results sfu "select reason, count(*) from failures group by all"',
    after='Columns with a dot need quotes in SQL: "hbm.bandwidth". Without a query, axes, metrics and outcome of all '
          "points are shown.")
SHOWN = ("time_s", "tflops", "hbm_gbps", "bound")


def results(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a sweep.", show_default=False)],
    query: Annotated[str | None, typer.Argument(
        metavar="[QUERY]", help="SQL over the tables points and failures, which DuckDB runs.", show_default=False)
                     ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the rows as CSV, all columns unless there is a query.")
                   ] = None,
    as_json: common.Json = False,
) -> None:
    """Print the results of a sweep, or what an SQL query selects from them; nothing is changed."""
    from turbosim.study.results import load_results
    from turbosim.study.results import query as select

    if csv is not None:
        common.check_output("--csv", csv)
    frame = load_results(folder) if query is None else select(folder, query)
    if csv is not None:
        common.write_file(csv, frame.to_csv(index=False).encode())
    if as_json:
        common.emit_json(_rows(frame))
        return
    if query is None:
        frame = _chosen(frame, folder)
    out = common.console()
    out.print(_table(frame))


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    from turbosim.study.results import plain

    return [{name: plain(value) for name, value in zip(frame.columns, row, strict=True)}
            for row in frame.itertuples(index=False, name=None)]


def _chosen(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return the columns that fit on a terminal: what varies, metrics, time and bound, reasons if there are any."""
    from turbosim.study.saved import open_study

    study = open_study(folder)
    wanted = [*study.axis_names, *SHOWN, *study.metrics, *(["reason"] if (frame["status"] != "ok").any() else [])]
    return frame[[name for name in wanted if name in frame.columns]]


def _table(frame: pd.DataFrame) -> Any:
    from rich.table import Table
    from rich.text import Text

    from turbosim.study.results import plain
    from turbosim.views.study import shown

    if not len(frame.columns):
        raise UsageError("query: selects no columns")
    table = Table(box=None, padding=(0, 2))
    for name in frame.columns:
        numeric = str(frame[name].dtype) not in ("object", "str", "string")
        table.add_column(Text(str(name)), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*(Text(shown(plain(value))) for value in row))
    return table
