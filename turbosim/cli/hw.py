"""``turbosim hw``: hardware files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turbosim.cli import common
from turbosim.errors import ConfigError, TurbosimError

if TYPE_CHECKING:
    from turbosim.hw import Leaf, Resolved

app = typer.Typer(no_args_is_help=True, help="List, show, check and compare hardware files.",
                  context_settings={"help_option_names": ["-h", "--help"]},
                  epilog="Example: turbosim hw show h200_sxm --resolved")

Name = Annotated[str, typer.Argument(help="A GPU name or a YAML file.")]


@app.command("list", epilog="Example: turbosim hw list")
def list_(as_json: common.Json = False) -> None:
    """List the GPUs and design points."""
    from rich.table import Table

    from turbosim.hw import list_gpus, load_gpu

    gpus = [load_gpu(name) for name in list_gpus()]
    if as_json:
        common.emit_json([{"name": g.name, "title": g.title, "arch": g.arch, "hypothetical": g.hypothetical}
                          for g in gpus])
        return
    table = Table(box=None, padding=(0, 2))
    for column in ("name", "arch", "what"):
        table.add_column(column)
    for gpu in gpus:
        table.add_row(gpu.name, gpu.arch, gpu.title + (" (design point)" if gpu.hypothetical else ""))
    common.console().print(table)


@app.command(epilog="Example: turbosim hw show h200_sxm --resolved")
def show(
    name: Name,
    resolved: Annotated[bool, typer.Option("--resolved", help="Also what the file inherits.")] = False,
    as_json: common.Json = False,
) -> None:
    """Show the values of a hardware file with their sources."""
    from rich.markup import escape
    from rich.table import Table

    from turbosim.hw import load_resolved
    from turbosim.hw.fields import node_at

    item = load_resolved(name)
    leaves = _shown(item, resolved)
    recorded = {x.path for x in leaves if (node := node_at(x.path)) is not None and node.recorded}
    tags = [t for t in item.sources if any(t in leaf.sources for leaf in leaves)]
    if as_json:
        common.emit_json({
            "name": item.gpu.name,
            "values": {".".join(x.path): {"value": x.text, "si": x.value, "source": list(x.sources),
                                          **({"fitted_on": x.fitted_on} if x.fitted_on else {}),
                                          **({"simulated": False} if x.path in recorded else {}),
                                          "file": x.file.name} for x in leaves},
            "sources": {t: item.sources[t] for t in tags}})
        return
    table = Table(box=None, padding=(0, 2))
    for column in ("field", "value", "source", "set in"):
        table.add_column(column)
    for leaf in leaves:
        fitted = f" (fitted on {leaf.fitted_on})" if leaf.fitted_on else ""
        mark = "*" if leaf.path in recorded else ""
        table.add_row(".".join(leaf.path) + mark, escape(leaf.text), escape(", ".join(leaf.sources) + fitted),
                      escape(leaf.file.name))
    out = common.console()
    out.print(table)
    if recorded:
        out.print("\n* recorded, not simulated: no engine reads it", markup=False)
    out.print("\nsources")
    for tag in tags:
        out.print(f"  {tag}: {item.sources[tag]}", soft_wrap=True, markup=False)


def _shown(item: Resolved, resolved: bool) -> list[Leaf]:
    return [x for x in item.leaves.values() if resolved or x.file == item.file]


@app.command(epilog="Example: turbosim hw area h200_2x_sfu")
def area(name: Name, as_json: common.Json = False) -> None:
    """Show the area of a GPU's dies, unit by unit, and what it costs to make, with sources."""
    from turbosim.hw import load_gpu
    from turbosim.silicon import area_of_gpu, cost_of_gpu
    from turbosim.views.silicon import table, to_json

    gpu = load_gpu(name)
    found, cost = area_of_gpu(gpu), cost_of_gpu(gpu)
    if as_json:
        common.emit_json(to_json(gpu.name, found, cost))
    else:
        common.console().print(table(gpu.name, found, cost))


@app.command(epilog="Example: turbosim hw check my_gpu.yaml configs/*.yaml")
def check(files: Annotated[list[Path], typer.Argument(help="YAML files; bases (_*.yaml) may lack fields.")]) -> None:
    """Check hardware files and instruction tables; report every defect with its place."""
    from turbosim.hw import check_file
    from turbosim.sass.tables import check_table, is_table
    from turbosim.silicon.files import checker

    defects = []
    for file in files:
        try:
            (checker(file) or (check_table if is_table(file) else check_file))(file)
            typer.echo(f"{file}: ok")
        except TurbosimError as error:
            defects.append(str(error))
    if defects:
        raise ConfigError("\n".join(defects))


@app.command(epilog="Example: turbosim hw schema > schema.json")
def schema() -> None:
    """Print the JSON schema of hardware files, for editors."""
    from turbosim.hw.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command(epilog="Example: turbosim hw diff h100_sxm h200_sxm")
def diff(first: Name, second: Name, as_json: common.Json = False) -> None:
    """Show in which values two GPUs differ."""
    from rich.markup import escape
    from rich.table import Table

    from turbosim.hw import diff_gpus

    rows = [(path, x or "-", y or "-") for path, (x, y) in diff_gpus(first, second).items()]
    if as_json:
        common.emit_json({path: [x, y] for path, x, y in rows})
        return
    table = Table(box=None, padding=(0, 2))
    for column in ("field", Path(first).stem, Path(second).stem):
        table.add_column(escape(column))
    for path, x, y in rows:
        table.add_row(path, escape(x), escape(y))
    common.console().print(table)
