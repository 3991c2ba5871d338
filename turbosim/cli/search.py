"""``turbosim search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turbosim.cli import common
from turbosim.errors import UsageError

if TYPE_CHECKING:
    from turbosim.study.search import Search
    from turbosim.study.study import Study

EXAMPLE = common.examples(
    "turbosim search analysis/studies/silicon.yaml --minimize time,area_mm2 --trials 200 -o silicon",
    "turbosim search analysis/studies/silicon.yaml --minimize cost_usd --maximize tflops --json",
    after="Objectives are columns of a row (time, area, cost, energy and power are short for time_s, area_mm2, "
          "cost_usd, energy_j and power_w) and metrics of the study. The same command with the same seed finds the "
          "same points, and goes on where it was interrupted.")


def search(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY", help="Study file, see the README.",
                                               show_default=False)],
    minimize: Annotated[str, typer.Option(metavar="<name,name...>", help="What is to be small.")] = "",
    maximize: Annotated[str, typer.Option(metavar="<name,name...>", help="What is to be large.")] = "",
    trials: Annotated[int, typer.Option(help="Points to try; ranges without steps are continuous.")] = 200,
    seed: Annotated[int, typer.Option(help="Which points are tried follows from it.")] = 0,
    sampler: Annotated[str, typer.Option(metavar="[nsga2|tpe]", help="How points are proposed.")] = "nsga2",
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", help="Folder of the results; STUDY.results here unless given.", show_default=False)] = None,
    jobs: Annotated[int | None, typer.Option(
        help="Processes that share the points; one per core unless given.", show_default=False)] = None,
    dask: common.Dask = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the front as CSV.")] = None,
    as_json: common.Json = False,
) -> None:
    """Search a study for the points that no other beats; with two objectives or more, also draw them."""
    from turbosim.study.document import read_study
    from turbosim.study.objectives import objectives
    from turbosim.study.search import SAMPLERS, Search, run_search

    common.one_of("--sampler", sampler, SAMPLERS)
    common.check_sharing(jobs, dask)
    if trials < 1:
        raise UsageError(f"--trials: must be at least 1, got {trials}")
    if seed < 0:
        raise UsageError(f"--seed: must be at least 0, got {seed}")
    if csv is not None:
        common.check_output("--csv", csv)
    study = read_study(study_file)
    wanted = objectives(study, minimize, maximize)
    folder = Path(f"{study_file.stem}.results") if output is None else output
    if dask is None:
        common.announce_compilation("numba")
    found = Search(objectives=wanted)
    try:
        with common.progress(study.title) as progress:
            run_search(study, folder, wanted, trials=trials, seed=seed, sampler=sampler,  # type: ignore[arg-type]
                       jobs=jobs, dask=dask, progress=progress, into=found)
    except KeyboardInterrupt:
        raise common.InterruptError(f"{len(found.trials):,} of {trials:,} points are done; the same command goes on"
                                    ) from None
    _write(study, found, folder, csv, as_json)


def _write(study: Study, found: Search, folder: Path, csv: Path | None, as_json: bool) -> None:
    from turbosim.views.search import summary, to_csv, to_json

    if as_json:
        common.emit_json(to_json(study, found))
    else:
        common.console().print(summary(study, found))
    if csv is not None:
        common.write_file(csv, to_csv(found))
    if len(found.objectives) > 1:
        from turbosim.views.pareto_figure import figure

        picture = figure(found, study.title)
        for suffix in ("png", "svg"):
            common.write_figure(picture, folder / f"pareto.{suffix}")
