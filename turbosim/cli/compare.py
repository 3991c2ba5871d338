"""``turbosim compare``, and the runs it shares with ``turbosim roofline``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turbosim.cli import common
from turbosim.errors import UsageError

if TYPE_CHECKING:
    from turbosim.hw.spec import Gpu
    from turbosim.result import Result
    from turbosim.views.compare import Comparison

EXAMPLE = common.examples(
    "turbosim compare --hw a100_sxm_80gb --model phi3-medium --batch 4 --seq 4k,8k --kernels flash,kivi,turbo",
    "turbosim compare --hw h200_sxm --model llama3-8b --phase decode --seq 32k "
    "--kernels flash,turbo,turbo:bits=2:sas=false --csv h200.csv",
    after="Ctrl-C keeps the rows that are finished.")

Kernels = Annotated[str, typer.Option(
    metavar="<kernel,...>", help="Kernels, options after a colon: flash,turbo:bits=2:sas=false.")]
Batches = Annotated[str, typer.Option("--batch", metavar="<int,...>", help="Sequences, a list.")]
Seqs = Annotated[str, typer.Option("--seq", metavar="<size,...>", help="Tokens per sequence, a list; 8k is 8192.")]


def parse_kernels(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Return (kernel, options) by label. Raises UsageError for an empty or repeated entry, or an unknown kernel."""
    from turbosim.schedules.registry import get_schedule

    kernels = {}
    for entry in text.split(","):
        name, *pairs = entry.strip().split(":")
        if not name:
            raise UsageError(f"--kernels: {text!r} has an empty entry; write for example flash,turbo:bits=2")
        get_schedule(name).parse_options(dict(common.settings(pairs)))
        if entry.strip() in kernels:
            raise UsageError(f"--kernels: {entry.strip()!r} is listed twice; each is simulated once, so drop one")
        kernels[entry.strip()] = (name, common.settings(pairs))
    return kernels


def run_all(gpu: Gpu, model: str, phase: str, batch: str, seq: str, kernels: str, engine: str, clock: str, launch: str,
            l2: str, into: list[Comparison], what: str = "simulations") -> None:
    """Simulate every kernel on every shape and append what is finished to *into*, which an error or Ctrl-C leaves.

    Raises InterruptError on Ctrl-C, with the number of finished simulations, called *what*.
    """
    from turbosim.api import build_program, simulate
    from turbosim.views.compare import Comparison
    from turbosim.workload import attention_of, get_model

    preset, which = get_model(model), common.phase_of(phase)
    shapes = [(b, s) for b in common.counts(batch, "--batch") for s in common.counts(seq, "--seq")]
    chosen = parse_kernels(kernels)
    for b, s in shapes:
        for name, options in chosen.values():
            # What cannot be built is refused before anything is simulated.
            build_program(gpu, attention_of(preset, which, b, s), name, dict(options))
    common.announce_compilation(engine)
    done, total = 0, len(shapes) * len(chosen)
    try:
        with common.progress("comparing") as report:
            for b, s in shapes:
                results: dict[str, Result] = {}
                for label, (name, options) in chosen.items():
                    report(done, total)
                    results[label] = simulate(gpu, attention_of(preset, which, b, s), name, options=dict(options),
                                              engine=engine, clock=clock, launch=launch,  # type: ignore[arg-type]
                                              l2=l2)  # type: ignore[arg-type]
                    done += 1
                    if len(results) == 1:
                        into.append(Comparison(b, s, results))
    except KeyboardInterrupt:
        raise common.InterruptError(f"{done} of {total} {what}") from None


def compare(
    hw: common.Hw,
    model: common.Model,
    phase: common.PhaseName = "prefill",
    batch: Batches = "1",
    seq: Seqs = "4096",
    kernels: Kernels = "flash,kivi,gear,turbo",
    csv: Annotated[Path | None, typer.Option(help="Also write the rows as CSV.")] = None,
    engine: common.Engine = "numba",
    clock: common.Clock = "sustained",
    launch: common.LaunchMode = "graph",
    l2: common.L2State = "cold",
    as_json: common.Json = False,
) -> None:
    """Compare kernels over batches and sequence lengths: time, ratio to the first kernel, where the time goes."""
    from turbosim.hw import load_gpu

    if csv is not None:
        common.check_output("--csv", csv)
    comparisons: list[Comparison] = []
    try:
        run_all(load_gpu(hw), model, phase, batch, seq, kernels, engine, clock, launch, l2, comparisons)
    finally:
        if comparisons:
            _write(comparisons, csv, as_json)


def _write(comparisons: list[Comparison], csv: Path | None, as_json: bool) -> None:
    from turbosim.views.compare import to_csv, to_rows, to_table

    if csv is not None:
        common.write_file(csv, to_csv(comparisons).encode())
    if as_json:
        common.emit_json(to_rows(comparisons))
    else:
        out = common.console()
        out.print(to_table(comparisons, out))
        paths = {label: str(r.options["path"]) for label, r in comparisons[0].results.items() if "path" in r.options}
        if len(set(paths.values())) > 1:
            used = ", ".join(f"{label} {path}" for label, path in paths.items())
            common.console(stderr=True).print(f"note: instruction paths differ: {used}; the option path= sets them",
                                              soft_wrap=True)
