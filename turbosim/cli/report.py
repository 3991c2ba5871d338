"""``turbosim report``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common
from turbosim.errors import UsageError, did_you_mean

EXAMPLE = common.examples(
    "turbosim report sfu.results -o sfu.html",
    "turbosim report sfu.results -o sfu.html --timelines 3",
    after="The page needs no network and no other file, timelines excepted, which lie in a folder beside it.")


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a sweep.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("report.html"),
    timelines: Annotated[int, typer.Option(help="Write the timelines of so many fastest points too.")] = 0,
    timeline: Annotated[list[str] | None, typer.Option(
        metavar="<point>", help="Write the timeline of this point too; may be repeated.")] = None,
) -> None:
    """Write the results of a sweep as one HTML page: table, roofline, heat map, and every point with its stalls."""
    from turbosim.study.evaluate import Evaluator
    from turbosim.study.journal import NAME
    from turbosim.study.results import Rows, load_results, needed
    from turbosim.study.saved import open_study
    from turbosim.views.study_report import page
    from turbosim.views.timeline import chrome_trace_bytes

    common.check_output("--output", output, ".html")
    if timelines < 0:
        raise UsageError(f"--timelines: must be 0 or more, got {timelines}")
    needed("plotly", "turbosim report")
    study = open_study(folder)
    frame = load_results(folder)
    done = frame[frame["status"] == "ok"]
    chosen = [_known(name, list(done["point"])) for name in timeline or []]
    if timelines:
        chosen += done.nsmallest(timelines, "time_s")["point"].tolist()
    beside = output.with_name(f"{output.stem}_timelines")
    if chosen:
        beside.mkdir(exist_ok=True)
        common.announce_compilation("numba")
        evaluate = Evaluator({name: r.gpu for name, r in study.hardware.items()})
        for row in Rows(study, folder / NAME):
            if row["point"] in chosen:
                data = chrome_trace_bytes(evaluate.simulate(study.task(row["axes"]), (0,)), compress=True)
                common.write_file(beside / f"{row['point']}.json.gz", data)
    # Those of earlier pages are linked too.
    links = {point: f"{beside.name}/{point}.json.gz" for point in done["point"]
             if (beside / f"{point}.json.gz").is_file()} if beside.is_dir() else {}
    command = f"turbosim report {shlex.quote(str(folder))} -o {shlex.quote(str(output))} --timeline POINT"
    common.write_file(output, page(folder, links, command).encode())


def _known(name: str, points: list[str]) -> str:
    if name not in points:
        raise UsageError(f"--timeline: no simulated point is called {name!r}{did_you_mean(name, points)}")
    return name
