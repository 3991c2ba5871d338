"""``turbosim validate``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from turbosim.cli import common
from turbosim.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from turbosim.validation.predict import Findings, Rung
    from turbosim.validation.sets import DataSet
    from turbosim.validation.thresholds import Verdict

EXAMPLE = common.examples(
    "turbosim validate",
    "turbosim validate --set triton_attention_a100 --model roofline,tile,sass",
    "turbosim validate --data measured/rows.csv --report validation",
    "turbosim validate --data figure.csv --hw a100_pcie_80gb",
    "turbosim validate --hw a100_pcie_80gb=calibrated.yaml --compare",
    "turbosim validate --set triton_matmul_a100 --clock power",
    after="A file for --data has a column each for gpu, kernel, batch, q_heads, kv_heads, seq_q, seq_k, head_dim, "
          "causal and time_s (or tflops), as kernels.measure writes them; of matrix products gpu, kernel (gemm), sizes "
          "(m=64:n=64:k=64) and time_s, of elementwise kernels the same with kernel copy and sizes rows=64:columns=64. "
          "Column options states options of the kernel (block_m=128:warps=8). Other layouts are in "
          "analysis/measurements/README.md, that of published figures with a unit in column metric among them. Rows of "
          "kernels that turbosim does not know are counted, not predicted, unless NAME.meta.yaml beside NAME.csv says "
          "how.\n\n"
          "A row is never predicted with a hardware file that was fitted on it. --clock is for rows whose clock is not "
          "known. Limits, in analysis/thresholds.yaml, are those of the shipped hardware files and --clock sustained."
          "\n\n"
          "Exit codes: 0 ok, 2 usage, 3 bad file, or no row could be predicted, 4 an error is above its limit.")


def _complete_sets(incomplete: str) -> list[str]:
    from turbosim.validation.sets import list_sets

    return [name for name in list_sets() if name.startswith(incomplete)]


def validate(
    sets: Annotated[list[str] | None, typer.Option(
        "--set", metavar="<name>", autocompletion=_complete_sets,
        help="Published data set that turbosim comes with; an unknown name lists them. Repeatable; without --set "
             "and --data: all.")] = None,
    data: Annotated[list[Path] | None, typer.Option(
        metavar="<file>", help="CSV file of other measurements, a row each; repeatable. Columns: see below.")] = None,
    hw: Annotated[list[str] | None, typer.Option(
        metavar="<gpu>[=<file>]",
        help="Only rows of this GPU, a name from `turbosim hw list`; with =FILE, predicted with that hardware file. "
             "Also says which card a name such as 'A100 80GB' is. Repeatable.")] = None,
    kernel: Annotated[list[str] | None, typer.Option(
        metavar="<name>", help="Only rows of this kernel, by its name in the rows (Triton); repeatable.")] = None,
    model: Annotated[str, typer.Option(
        metavar="<list>",
        help="Models that predict, separated by commas: roofline (peak or bandwidth), genz (needs "
             "'turbosim[baselines]'), tile (simulated schedule), sass (simulated machine code of Triton kernels).",
    )] = "roofline,tile",
    engine: common.Engine = "numba",
    clock: common.Clock = "sustained",
    report: Annotated[str | None, typer.Option(
        metavar="<folder>", help="Also write to this folder: scatter, error_by_shape, residuals and, where rows have "
                                "any, counters (PNG and SVG), rows.csv and table.md.")] = None,
    compare: Annotated[bool, typer.Option(
        "--compare", help="With --hw GPU=FILE: also predict with the shipped file, errors side by side.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the errors as a Markdown table.")] = False,
    as_json: common.Json = False,
) -> None:
    """Hold predictions against measured times.

    Every measured row is predicted under the protocol it was measured with (state of L2, method, clock). Printed are
    the errors of each data set, GPU and kernel relative to the measured time, the worst rows, what was left out and
    why, and whether errors are within their limits.
    """
    from turbosim.processes import cores
    from turbosim.validation.predict import check_compared, predict
    from turbosim.validation.sets import directory
    from turbosim.validation.thresholds import judge, read_thresholds

    if markdown and as_json:
        raise UsageError("--markdown and --json exclude each other; drop one of the two")
    rungs = rungs_of(model)
    files = _files_of(hw or [])
    if compare and (markdown or not any(files.values())):
        raise UsageError("--compare: goes without --markdown" if markdown else
                         "--compare: name the hardware file to compare, --hw GPU=FILE")
    chosen = _chosen(sets, data, list(files), kernel)
    limits = read_thresholds(directory() / "thresholds.yaml")
    folder = None if report is None else _folder(report)
    common.announce_compilation(engine)
    try:
        with common.progress("predicting") as show:
            findings = predict(chosen, rungs, engine=engine, clock=clock, workers=cores(),  # type: ignore[arg-type]
                               hardware={g: f for g, f in files.items() if f}, progress=show)
            shipped = predict(chosen, rungs, engine=engine, clock=clock, workers=cores(),  # type: ignore[arg-type]
                              progress=show) if compare else None
    except KeyboardInterrupt:
        raise common.InterruptError("no table is written before all rows are predicted") from None
    # The limits are those of the shipped hardware files and of their sustained clocks.
    judged = clock == "sustained" and not any(files.values())
    verdicts = judge(limits, findings.outcomes, rungs, partial=bool(hw or kernel)) if judged else []
    _print(findings, verdicts, rungs, as_json, markdown, shipped)
    check_compared(findings, rungs)
    if folder is not None:
        from turbosim.views.validation_report import write_report

        for path in write_report(folder, findings, rungs):
            common.say_written(path)
    _gate(verdicts)


def rungs_of(text: str) -> list[Rung]:
    """Return the models in *text*, from the simplest up. Raises UsageError."""
    from turbosim.validation.predict import RUNGS

    given = [common.one_of("--model", part.strip(), RUNGS) for part in text.split(",")]
    return [rung for rung in RUNGS if rung in given]


def _files_of(hw: list[str]) -> dict[str, str]:
    """Return GPU -> hardware file, empty for the shipped one, of *hw*. Raises UsageError."""
    from turbosim.hw import list_gpus

    files: dict[str, str] = {}
    for item in hw:
        gpu, sign, file = item.partition("=")
        if sign and not file:
            raise UsageError(f"--hw: {item!r} names no file; write {gpu}=FILE, or {gpu} alone for the shipped one")
        if file != gpu and file in list_gpus():
            raise UsageError(f"--hw: {item!r}: {file!r} is another GPU, which {gpu} was not measured on; give the path "
                             f"of a hardware file of {gpu}")
        if files.setdefault(gpu, file) != file:
            raise UsageError(f"--hw: {gpu} is given twice, as {files[gpu] or 'the shipped file'} and as "
                             f"{file or 'the shipped file'}; drop one")
    return files


def _folder(text: str) -> Path:
    """Return the folder of --report, in which a file could be written, before rows are simulated. Raises UsageError."""
    if not text.strip():
        raise UsageError("--report: is empty; name a folder")
    folder = Path(text)
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        # Where no report comes about, there is no folder of it either.
        for path in missing:
            path.rmdir()
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"--report: {text!r} is no folder, or below a file") from None
    except OSError as error:
        raise UsageError(f"--report: {text!r} cannot be written: {error.strerror}") from None
    return folder


def _chosen(sets: list[str] | None, data: list[Path] | None, gpus: list[str], kernels: list[str] | None
            ) -> list[DataSet]:
    from dataclasses import replace

    from turbosim.hw import list_gpus
    from turbosim.validation.gpus import cards_of
    from turbosim.validation.sets import list_sets, load_file, load_set

    names = sets or ([] if data else list_sets())
    loaded = [*(load_set(name) for name in dict.fromkeys(names)), *(load_file(path, gpus) for path in data or [])]
    may_be = {gpu for d in loaded for name in d.unwanted for gpu in cards_of(name)} & set(list_gpus())
    for option, wanted, known in (("--hw", gpus, {r.gpu for d in loaded for r in d.rows} | may_be),
                                  ("--kernel", kernels or [], {r.kernel for d in loaded for r in d.rows})):
        for name in wanted:
            if name not in known:
                raise UsageError(f"{option}: no row has {name!r}: there is {', '.join(sorted(known))}"
                                 f"{did_you_mean(name, known)}")
    kept = [replace(d, rows=tuple(r for r in d.rows if (not gpus or r.gpu in gpus)
                                  and (not kernels or r.kernel in kernels))) for d in loaded]
    if not any(d.rows for d in kept):
        raise UsageError("--hw, --kernel: no row has all that is asked for; drop one of the two")
    return [d for d in kept if d.rows]


def _print(findings: Findings, verdicts: list[Verdict], rungs: list[Rung], as_json: bool, markdown: bool,
           shipped: Findings | None) -> None:
    from turbosim.views import validation_compare
    from turbosim.views.validation import to_json, to_markdown, to_table

    if as_json:
        beside = {} if shipped is None else {"compared": validation_compare.to_json(shipped, findings, rungs)}
        common.emit_json(to_json(findings, verdicts, rungs) | beside)
    elif markdown:
        typer.echo(to_markdown(findings, rungs), nl=False)
    else:
        common.console().print(to_table(findings, verdicts, rungs))
        if shipped is not None:
            common.console().print("", validation_compare.to_table(shipped, findings, rungs), sep="\n")


def _gate(verdicts: list[Verdict]) -> None:
    from turbosim.validation.thresholds import ThresholdError
    from turbosim.views.validation import limit_text

    missed = []
    for v in verdicts:
        for q in v.missed:
            reached, limit = limit_text(q, v.reached[q]), limit_text(q, v.threshold.limits[q])
            what, side = ("tau over tilings", "below") if q == "tau" else (f"{q} error", "above")
            missed.append(f"{v.threshold.where}: {v.threshold.scope}: {what} of {v.threshold.model} is {reached}, "
                          f"{side} its limit of {limit}")
    if missed:
        raise ThresholdError("\n".join(missed))
