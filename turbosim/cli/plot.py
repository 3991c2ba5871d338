"""``turbosim plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common

EXAMPLE = common.examples(
    "turbosim plot sfu.results --kind lines --x pipes.sfu.rate --value time_s -o sfu.png",
    "turbosim plot sfu.results --kind stalls --where \"kernel = 'flash3'\" -o flash3.png",
    "turbosim plot sfu.results --kind pareto --x time_s --y power_w --by kernel",
    after="Columns are as in `turbosim results`; with a dot they need quotes in --where: '\"hbm.bandwidth\" > 2e12'.")


def plot(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a sweep.", show_default=False)],
    kind: Annotated[str, typer.Option(help="roofline, heatmap, lines, pareto, utilisation or stalls.")] = "roofline",
    x: Annotated[str, typer.Option(metavar="<column>", help="Across; an objective of pareto.")] = "",
    y: Annotated[str, typer.Option(metavar="<column>", help="Up, of heatmap and pareto.")] = "",
    value: Annotated[str, typer.Option(metavar="<column>", help="What lines and heatmap show; the first metric over a "
                                                                "baseline, else the time, unless given.")] = "",
    by: Annotated[str, typer.Option(metavar="<column>", help="What is told apart by colour, or grouped in one bar; of "
                                                             "bars, several with commas.")] = "",
    where: Annotated[str, typer.Option(metavar="<condition>", help="Which points, in SQL.")] = "",
    maximize: Annotated[list[str] | None, typer.Option(
        metavar="<column>", help="Objective of pareto that is better when higher; may be repeated.")] = None,
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", help="Picture; PNG and SVG are both written. KIND.png unless given.", show_default=False)
        ] = None,
) -> None:
    """Draw the results of a sweep, as PNG and SVG."""
    from turbosim.study.pictures import Picture
    from turbosim.study.results import needed
    from turbosim.views.study_picture import draw

    path = Path(f"{kind}.png") if output is None else output
    common.check_output("--output", path, ".png", ".svg")
    needed("pandas", "a picture of results")
    picture = Picture(kind=kind, x=x, y=y, value=value, by=by, where=where, maximize=maximize or [])
    common.write_figures(draw(folder, picture), path)
