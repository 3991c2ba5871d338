"""The ``turbosim`` command.

Exit codes: 0 ok, 1 failure, 2 usage, 3 bad configuration or file, 4 threshold missed, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from turbosim import __version__
from turbosim.cli import (
    calibrate,
    common,
    compare,
    hw,
    kvsize,
    lift,
    listing,
    plot,
    report,
    results,
    roofline,
    sass,
    search,
    sensitivity,
    simulate,
    sweep,
    timeline,
    trace,
    tune,
    validate,
)
from turbosim.errors import TurbosimError


class _Root(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C, which typer would turn into a silent exit, becomes an error like others."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise common.InterruptError from None


app = typer.Typer(
    cls=_Root, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Simulate attention kernels on GPUs, cycle by cycle: time, throughput, bandwidth, and the reasons.",
    epilog=common.examples(
        "turbosim list",
        "turbosim simulate --hw h200_sxm --kernel flash --model llama3-8b --seq 8k",
        "turbosim compare --hw l4 --model phi3-medium --phase decode --seq 8k",
        after="Exit codes: 0 ok, 1 failure, 2 usage, 3 bad file, 4 threshold missed, 130 interrupted."))


def _version(value: bool) -> None:
    if value:
        typer.echo(f"turbosim {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                help="Print the version.")] = False) -> None:
    """Root options."""
    del version


app.command("simulate", short_help="Simulate one kernel: time, utilisation, stall reasons.",
            epilog=simulate.EXAMPLE)(simulate.simulate)
app.command("compare", short_help="Compare kernels over batches and sequence lengths.",
            epilog=compare.EXAMPLE)(compare.compare)
app.command("roofline", short_help="Draw a GPU's roofline with simulated kernels.",
            epilog=roofline.EXAMPLE)(roofline.roofline)
app.command("timeline", short_help="Write what one SM does, cycle by cycle.",
            epilog=timeline.EXAMPLE)(timeline.timeline)
app.command("lift", short_help="Compile a Triton kernel and write it as a program.", epilog=lift.EXAMPLE)(lift.lift)
app.command("sass", short_help="Print the hot loop of a compiled kernel, with its stalls.",
            epilog=sass.EXAMPLE)(sass.sass)
app.command("tune", short_help="Rank configurations of a Triton kernel without running any.",
            epilog=tune.EXAMPLE)(tune.tune)
app.command("sweep", short_help="Simulate the design points of a study.", epilog=sweep.EXAMPLE)(sweep.sweep)
app.command("results", short_help="Print the results of a sweep, or query them.",
            epilog=results.EXAMPLE)(results.results)
app.command("plot", short_help="Draw the results of a sweep.", epilog=plot.EXAMPLE)(plot.plot)
app.command("report", short_help="Write the results of a sweep as one HTML page.",
            epilog=report.EXAMPLE)(report.report)
app.command("search", short_help="Search a study for the points that no other beats.",
            epilog=search.EXAMPLE)(search.search)
app.command("sensitivity", short_help="Show which hardware field moves a kernel most.",
            epilog=sensitivity.EXAMPLE)(sensitivity.sensitivity)
app.command("calibrate", short_help="Fit a GPU's memory and launches on micro-benchmarks.",
            epilog=calibrate.EXAMPLE)(calibrate.calibrate)
app.command("validate", short_help="Hold predictions against measured times.",
            epilog=validate.EXAMPLE)(validate.validate)
app.command("kv-size", short_help="Show the size of the KV cache in every format.",
            epilog=kvsize.EXAMPLE)(kvsize.kv_size)
app.command("list", epilog=listing.EXAMPLE)(listing.listing)
app.add_typer(hw.app, name="hw", epilog=common.examples(
    "turbosim hw list", "turbosim hw show h200_sxm --resolved", "turbosim hw diff h100_sxm h200_sxm"))
app.add_typer(trace.app, name="trace", epilog=trace.EXAMPLE)


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except common.InterruptError as error:
        print(": ".join(filter(None, ("interrupted", str(error)))), file=sys.stderr)
        sys.exit(error.exit_code)
    except TurbosimError as error:
        sys.stdout.flush()
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader has gone (`| head`): leave quietly, and keep the interpreter from flushing into the pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        print(f"error: {error.filename or 'file'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
