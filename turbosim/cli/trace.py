"""``turbosim trace``: saved programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common

EXAMPLE = common.examples(
    "turbosim simulate --hw l4 --model llama3-8b --seq 1k --save-trace flash.gz", "turbosim trace show flash.gz",
    "turbosim trace check flash.gz", "turbosim simulate --hw l40s --trace flash.gz")

app = typer.Typer(no_args_is_help=True, help="Look at saved programs (tile-level traces).",
                  context_settings={"help_option_names": ["-h", "--help"]})

File = Annotated[Path, typer.Argument(help="A program saved by `turbosim simulate --save-trace`.")]


@app.command(epilog=common.examples("turbosim trace show flash.gz"))
def show(file: File) -> None:
    """Print a program as text."""
    from turbosim.program.store import load
    from turbosim.program.text import dump

    typer.echo(dump(load(file)), nl=False)


@app.command(epilog=common.examples("turbosim trace check flash.gz"))
def check(file: File) -> None:
    """Check that a file is complete and its program well formed."""
    from turbosim.program.store import load
    from turbosim.program.validate import validate

    validate(load(file))
    typer.echo(f"{file}: ok")
