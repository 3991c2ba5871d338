"""``turbosim sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turbosim.cli import common
from turbosim.errors import UsageError

if TYPE_CHECKING:
    from turbosim.study.study import Study
    from turbosim.study.sweep import Report

EXAMPLE = common.examples(
    "turbosim sweep analysis/studies/sfu.yaml -o sfu",
    "turbosim sweep analysis/studies/sfu.yaml -o sfu --dry-run",
    "turbosim sweep analysis/studies/sfu.yaml -o sfu --dask tcp://127.0.0.1:8786",
    after="The same command goes on where an interrupted one ended. Ctrl-C keeps what is done.")

PICTURES = "pictures"
"""Folder of the pictures that a study asks for, in that of its results."""


def sweep(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY", help="Study file, see the README.",
                                               show_default=False)],
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", help="Folder of the results; STUDY.results here unless given.", show_default=False)] = None,
    jobs: Annotated[int | None, typer.Option(
        help="Processes that share the points; one per core unless given.", show_default=False)] = None,
    dask: common.Dask = None,
    reuse: Annotated[list[Path] | None, typer.Option(
        metavar="<folder>", help="Take over points that another study has simulated; may be repeated.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Simulate failed points again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the points, predict the time, write nothing.")
                       ] = False,
    as_json: common.Json = False,
) -> None:
    """Simulate the design points of a study; what is done already is not done again."""
    from turbosim.study.document import read_study
    from turbosim.study.sweep import Report, run_study

    common.check_sharing(jobs, dask)
    study = read_study(study_file)
    folder = Path(f"{study_file.stem}.results") if output is None else output
    if dry_run:
        _dry_run(study, folder, jobs, reuse or [], retry, as_json)
        return
    if dask is None:
        common.announce_compilation("numba")
    report = Report()
    try:
        with common.progress(study.title) as progress:
            run_study(study, folder, jobs=jobs, dask=dask, reuse=reuse or [], retry=retry, progress=progress,
                      into=report)
    except KeyboardInterrupt:
        raise common.InterruptError(f"{report.done:,} of {report.points:,} points are done; the same command goes on"
                                    ) from None
    finally:
        if report.torn:
            common.console(stderr=True).print("note: the last row of an earlier sweep was cut off; its point is "
                                              "simulated again", soft_wrap=True)
    _write(study, folder, report, as_json)


def _write(study: Study, folder: Path, report: Report, as_json: bool) -> None:
    from turbosim.study.failures import told
    from turbosim.views.study import summary, to_json

    if as_json:
        common.emit_json(to_json(study, folder, report))
    else:
        out = common.console()
        out.print(summary(study, folder, report))
    for failure in report.causes:
        common.console(stderr=True).print(f"note: {failure.points:,} of {report.points:,} points failed: "
                                          f"{told(failure)}", soft_wrap=True, markup=False)
    _compact(folder)
    _draw(study, folder)


def _compact(folder: Path) -> None:
    """Write parquet where that is installed; the journal has the same."""
    from turbosim.study.results import compact

    try:
        compact(folder)
    except UsageError:
        return


def _draw(study: Study, folder: Path) -> None:
    """Draw the pictures that the study asks for, into the folder. Raises UsageError for one that cannot be drawn."""
    if not study.pictures:
        return
    from turbosim.study.results import needed
    from turbosim.views.study_picture import draw

    try:
        needed("pandas", "a picture of results")
    except UsageError as error:
        common.console(stderr=True).print(f"note: {error}", soft_wrap=True, markup=False)
        return
    (folder / PICTURES).mkdir(exist_ok=True)
    for place, picture in enumerate(study.pictures):
        try:
            drawn = draw(folder, picture)
        except UsageError as error:
            where = study.places.where(("pictures", place))
            raise UsageError(f"{where}: pictures: {picture.file}: {error}; the results are kept") from None
        common.write_figures(drawn, folder / PICTURES / f"{picture.file}.png")


def _dry_run(study: Study, folder: Path, jobs: int | None, reuse: list[Path], retry: bool, as_json: bool) -> None:
    from turbosim.study.forecast import forecast
    from turbosim.units import show

    common.announce_compilation("numba")
    found = forecast(study, folder, jobs=jobs, reuse=reuse, retry=retry)
    if as_json:
        document: dict[str, Any] = {"points": found.points, "dropped": found.dropped, "done": found.done,
                                    "reused": found.reused, "new": found.new, "timed": found.timed,
                                    "seconds": found.seconds, "jobs": found.jobs}
        common.emit_json(document)
        return
    out = common.console()
    out.print(f"{found.points:,} points: {found.done:,} done, {found.reused:,} reused, {found.new:,} new; "
              f"{found.dropped:,} more are dropped by constraints")
    if found.new:
        took = show(found.seconds, "s", 2) if found.seconds < 100 else f"{found.seconds / 60:,.0f} min"
        out.print(f"about {took} in {found.jobs} process{'es' * (found.jobs != 1)}, from "
                  f"{found.timed} timed point{'s' * (found.timed != 1)}")
