"""``turbosim validate``."""

from __future__ import annotations

from pathlib import Path
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
    "turbosim validate --hw a100_pcie_80gb=calibrated.yaml --compare",
    "turbosim validate --set triton_matmul_a100 --clock power",
    after="Exit code 4: an error is above its limit in analysis/thresholds.yaml.")


def validate(
    sets: Annotated[list[str] | None, typer.Option(
        "--set", help="Committed data set; repeatable. Without --set and --data: all.")] = None,
    data: Annotated[list[Path] | None, typer.Option(
        metavar="<file>", help="CSV file of measurements in a known layout; repeatable.")] = None,
    hw: Annotated[list[str] | None, typer.Option(
        metavar="<gpu>[=<file>]", help="Only rows of this GPU, predicted with another hardware file.")] = None,
    kernel: Annotated[list[str] | None, typer.Option(help="Only rows of this kernel, as the sets call it.")] = None,
    model: Annotated[str, typer.Option(metavar="<roofline,genz,tile,sass>", help="Models, a list.")] = "roofline,tile",
    engine: common.Engine = "numba",
    clock: common.Clock = "sustained",
    report: Annotated[Path | None, typer.Option(
        metavar="<folder>", help="Also write pictures (PNG and SVG) and a CSV of all rows.")] = None,
    compare: Annotated[bool, typer.Option(
        "--compare", help="With --hw GPU=FILE: also predict with the shipped file, errors side by side.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of the README.")] = False,
    as_json: common.Json = False,
) -> None:
    """Hold predictions against measured times: errors per data set, GPU and kernel, worst rows, limits."""
    from turbosim.processes import cores
    from turbosim.validation.predict import check_compared, predict
    from turbosim.validation.sets import directory
    from turbosim.validation.thresholds import judge, read_thresholds

    if markdown and as_json:
        raise UsageError("--markdown and --json exclude each other; drop one of the two")
    rungs = rungs_of(model)
    if report is not None and report.exists() and not report.is_dir():
        raise UsageError(f"--report: {str(report)!r} is no folder")
    files = dict(item.partition("=")[::2] for item in hw or [])
    if compare and (markdown or not any(files.values())):
        raise UsageError("--compare: goes without --markdown" if markdown else
                         "--compare: name the hardware file to compare, --hw GPU=FILE")
    chosen = _chosen(sets, data, list(files), kernel)
    limits = read_thresholds(directory() / "thresholds.yaml")
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
    if report is not None:
        from turbosim.views.validation_report import write_report

        for path in write_report(report, findings, rungs):
            common.say_written(path)
    _gate(verdicts)


def rungs_of(text: str) -> list[Rung]:
    """Return the models in *text*, from the simplest up. Raises UsageError."""
    from turbosim.validation.predict import RUNGS

    given = [common.one_of("--model", part.strip(), RUNGS) for part in text.split(",")]
    return [rung for rung in RUNGS if rung in given]


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

    missed = [f"{v.threshold.where}: {v.threshold.scope}: {q} error of {v.threshold.model} is "
              f"{getattr(v.score, q):.1%}, above its limit of {v.threshold.limits[q]:.1%}"
              for v in verdicts for q in v.missed]
    if missed:
        raise ThresholdError("\n".join(missed))
