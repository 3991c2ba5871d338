"""``turbosim sensitivity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common
from turbosim.errors import UsageError

METHODS = ("elasticity", "sobol")
EXAMPLE = common.examples(
    "turbosim sensitivity analysis/studies/sfu.yaml -o sfu",
    "turbosim sensitivity analysis/studies/sfu.yaml --at kernel=flash3 --fields pipes,hbm --step 5%",
    "turbosim sensitivity analysis/studies/silicon.yaml --method sobol --samples 128 --json",
    after="Elasticities are taken at one point: hardware as the GPU has it, other axes at the baseline or their first "
          "value, unless --at says otherwise. Sobol indices run through the ranges of all axes.")


def sensitivity(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY", help="Study file, see the README.",
                                               show_default=False)],
    metric: Annotated[str, typer.Option(help="A column of a row, or a metric of the study.")] = "time_s",
    method: Annotated[str, typer.Option(metavar="[elasticity|sobol]", help="Around a point, or over all axes.")
                      ] = "elasticity",
    step: Annotated[str, typer.Option(help="How far a field is moved.")] = "10%",
    fields: Annotated[str | None, typer.Option(
        metavar="<field,field...>", help="Hardware fields or tables of them; all unless given.", show_default=False)
                      ] = None,
    at: Annotated[list[str] | None, typer.Option(metavar="<axis=value>", help="Where on an axis; may be repeated.")
                  ] = None,
    samples: Annotated[int, typer.Option(help="Of sobol, a power of two; times axes + 2 are the points.")] = 64,
    seed: Annotated[int, typer.Option(help="Of sobol.")] = 0,
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", help="Folder of the results; STUDY.results here unless given.", show_default=False)] = None,
    jobs: Annotated[int | None, typer.Option(
        help="Processes that share the points; one per core unless given.", show_default=False)] = None,
    dask: common.Dask = None,
    as_json: common.Json = False,
) -> None:
    """Show which hardware field moves a kernel most, as a table and as a tornado."""
    from turbosim.study.document import read_study
    from turbosim.study.objectives import Objective, column
    from turbosim.study.point import at_of, chosen_fields, point_of
    from turbosim.study.sensitivity import Local, elasticities
    from turbosim.study.sobol import Global, sobol
    from turbosim.units import parse
    from turbosim.views.sensitivity import place, summary, to_json
    from turbosim.views.tornado_figure import figure

    common.one_of("--method", method, METHODS)
    common.check_sharing(jobs, dask)
    try:
        share = parse(step, "")
    except UsageError as error:
        raise UsageError(f"--step: {error}") from None
    if not 0 < share <= 1:
        raise UsageError(f"--step: must be above 0 and at most 100%, got {step}")
    if method == "sobol" and (fields is not None or at):
        raise UsageError(f"--{'fields' if fields is not None else 'at'}: does not apply to sobol, which runs through "
                         "the axes of the study")
    study = read_study(study_file)
    wanted = Objective(column(study, "--metric", metric))
    folder = Path(f"{study_file.stem}.results") if output is None else output
    found: Local | Global
    point = {} if method == "sobol" else point_of(study, at_of(study, at or []))
    names = None if fields is None else chosen_fields(study, point, fields)
    if dask is None:
        common.announce_compilation("numba")
    done = [0, 0]

    try:
        with common.progress(study.title) as progress:
            def both(some: int, every: int) -> None:
                done[:] = some, every
                progress(some, every)

            if method == "sobol":
                found = sobol(study, folder, wanted, samples=samples, seed=seed, jobs=jobs, dask=dask,
                              progress=both)
            else:
                found = elasticities(study, folder, wanted, at=point, step=share, fields=names, jobs=jobs,
                                     dask=dask, progress=both)
    except KeyboardInterrupt:
        raise common.InterruptError(f"{done[0]:,} of {done[1]:,} points are done; the same command goes on") from None
    if as_json:
        common.emit_json(to_json(study, found))
    else:
        common.console().print(summary(study, found))
    title = f"{study.title}\n{place(study, found)}" if isinstance(found, Local) else study.title
    picture = figure(found, title)
    for suffix in ("png", "svg"):
        common.write_figure(picture, folder / f"{'sobol' if method == 'sobol' else 'tornado'}.{suffix}")
