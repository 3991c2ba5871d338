"""What the commands share: option types, parsing of sizes, progress and output."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turbosim.errors import TurbosimError, UsageError, did_you_mean
from turbosim.files import write_whole
from turbosim.units import count as count
from turbosim.units import parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from turbosim.hw.spec import Gpu
    from turbosim.result import Result
    from turbosim.workload import Phase, Workload


def one_of(flag: str, text: str, known: Sequence[str]) -> str:
    """Return *text* if it is among the *known* values of the option *flag*. Raises UsageError."""
    if text not in known:
        raise UsageError(f"{flag}: must be one of {', '.join(known)}, got {text!r}{did_you_mean(text, known)}")
    return text


def _choice(flag: str, *known: str, about: str) -> Any:
    """Return an option with few values; an unknown one is refused in the words of every other error."""

    def check(value: str) -> str:
        return one_of(flag, value, known)

    def complete(incomplete: str) -> list[str]:
        return [value for value in known if value.startswith(incomplete)]

    return typer.Option(flag, metavar=f"[{'|'.join(known)}]", help=about, callback=check, autocompletion=complete)


Hw = Annotated[str, typer.Option("--hw", help="GPU: a name from `turbosim hw list`, or a YAML file.")]
Engine = Annotated[str, _choice("--engine", "numba", "simpy",
                                about="numba is fast; simpy, the reference, finds the same.")]
Clock = Annotated[str, _choice("--clock", "sustained", "boost", "tensor_spec", "power",
                               about="SM clock: under sustained load, boost, of the vendor's tensor peak, or the "
                                     "highest within the board's power limit.")]
LaunchMode = Annotated[str, _choice("--launch", "graph", "stream", about="Launch overhead: CUDA graph or stream.")]
L2State = Annotated[str, _choice("--l2", "cold", "dirty", "warm", about=(
    "L2 at the start: empty, overwritten by something else, or as a first run leaves it."))]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Dask = Annotated[str | None, typer.Option("--dask", metavar="<address>",
                                          help="Share the points with a dask scheduler.")]
Model = Annotated[str, typer.Option(help="Model preset, see `turbosim list`.")]
PhaseName = Annotated[str, typer.Option("--phase", help="prefill or decode.")]


class InterruptError(TurbosimError):
    """Ctrl-C. The text, if any, says how far the command had come."""

    exit_code = 130


def check_sharing(jobs: int | None, dask: str | None) -> None:
    """Refuse what cannot share points: --jobs below one, --dask that is no address, both. Raises UsageError."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: must be at least 1, got {jobs}")
    if jobs is not None and dask is not None:
        raise UsageError("--jobs, --dask: the workers of the cluster share the points; drop one of the two")
    if dask is not None:
        from turbosim.study.cluster import check_address

        check_address(dask)


def examples(*lines: str, after: str = "") -> str:
    """Return commands as the end of a help page, a line each; long ones are continued before an option."""
    shown = []
    for line in lines:
        parts = [" "]
        for part in re.split(r" (?=-|&&)", line):
            if len(parts[-1]) + len(part) > 75:
                parts.append("     ")
            parts[-1] += f" {part}"
        shown.append(" \\\n".join(parts))
    # A paragraph that starts with \b keeps its lines.
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *shown]) + (f"\n\n{after}" if after else "")


def console(stderr: bool = False) -> Console:
    """Return a rich console that honours NO_COLOR and writes plain text to what is not a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 160
    return Console(stderr=stderr, highlight=False, width=width)


def emit_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def counts(text: str, what: str) -> list[int]:
    """Parse a list such as ``4096,8k``. Raises UsageError."""
    parts = text.split(",")
    if any(not p.strip() for p in parts):
        raise UsageError(f"{what}: {text!r} has an empty entry; write for example 4096,8192")
    return [count(p, what) for p in parts]


def settings(pairs: list[str] | None) -> dict[str, str]:
    """Parse ``key=value`` texts. Raises UsageError."""
    table = {}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key or not value:
            raise UsageError(f"--set: {pair!r} is not key=value")
        table[key.strip()] = value.strip()
    return table


def phase_of(text: str) -> Phase:
    """Return the phase called *text*. Raises UsageError."""
    from turbosim.workload import Phase

    return Phase(one_of("--phase", text, [p.value for p in Phase]))


def nbytes(text: str, what: str) -> int:
    """Parse a positive size in bytes with a unit. Raises UsageError."""
    try:
        value = int(parse(text, "B"))
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None
    if value < 1:
        raise UsageError(f"{what}: must be at least 1 B, got {text}")
    return value


def check_output(option: str, path: Path, *suffixes: str) -> None:
    """Refuse an output path before any work is done for it. Raises UsageError."""
    if suffixes and not path.name.endswith(suffixes):
        raise UsageError(f"{option}: must end in {' or '.join(suffixes)}, got {str(path)!r}")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{option}: no such folder {str(path.parent)!r}")
    if not os.access(folder, os.W_OK) or path.is_dir():
        raise UsageError(f"{option}: {str(path)!r} cannot be written")


def write_file(path: Path, data: bytes) -> None:
    """Write *data* to *path*, completely or not at all, and say so on stderr."""
    write_whole(path, data)
    say_written(path)


def say_written(path: Path) -> None:
    """Say on stderr that *path* was written."""
    console(stderr=True).print(f"wrote {path}", soft_wrap=True)


def tell_assumed(*metas: Mapping[str, object]) -> None:
    """Say on stderr what lifted programs assume of opcodes without a cost, of accesses at unknown addresses and of L1.

    Of several programs, what they share is told once, without the places in their code and the shares of each.
    """
    from turbosim.sass.origin import ASSUMED

    lines = [line for meta in metas for line in str(meta.get(ASSUMED, "")).splitlines()]
    if len(metas) > 1:
        lines = [re.sub(r" of \S+ at 0x.*? depend", " of some instructions depend", line) for line in lines]
        lines = [re.sub(r" about \d+% of the bytes that .*? loads ", " some of the bytes that a CTA loads ", line)
                 for line in lines]
    for line in dict.fromkeys(lines):
        console(stderr=True).print(f"note: {line}", soft_wrap=True, markup=False)


def write_figure(figure: Figure, path: Path) -> None:
    """Write a picture in the format of its suffix; SVG keeps its text as text, and the same picture the same bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "turbosim"}):
        figure.savefig(buffer, dpi=150, format=path.suffix[1:],
                       metadata={"Date": None} if path.suffix == ".svg" else None)
    write_file(path, buffer.getvalue())


def write_figures(figure: Figure, path: Path) -> None:
    """Write a picture as PNG and as SVG beside each other; *path* has one of the two suffixes."""
    for suffix in (".png", ".svg"):
        write_figure(figure, path.with_suffix(suffix))


def announce_compilation(engine: str) -> None:
    """Say on stderr that the first run compiles."""
    if engine == "numba":
        from turbosim.engine.numba_engine import is_compiled

        if not is_compiled():
            console(stderr=True).print("compiling the engine, once for this installation ...")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr if it is a terminal; yields the function to call with (done, all)."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    err = console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                  TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as display:
        task = display.add_task(what, total=1.0)
        yield lambda done, total: display.update(task, completed=done / total if total else 1.0)


def simulate(gpu: Gpu, workload: Workload, kernel: str, options: dict[str, str], engine: str, clock: str, launch: str,
             l2: str, record: tuple[int, ...] = ()) -> Result:
    """Run one simulation with a progress bar."""
    from turbosim.api import simulate as run

    announce_compilation(engine)
    with progress(f"{kernel} on {gpu.name}") as report:
        return run(gpu, workload, kernel, options=options, engine=engine, clock=clock,  # type: ignore[arg-type]
                   launch=launch, l2=l2, record=record, progress=report)  # type: ignore[arg-type]
