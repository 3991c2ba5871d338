"""The command line of the measuring harness."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from kernels import registry
from kernels.measure import fake
from kernels.measure.cases import Case
from kernels.measure.measuring import missing
from kernels.measure.predict import MODEL, START_S, predict
from kernels.measure.runner import Plan, Progress, Run
from kernels.measure.store import check_out, done_of, have_of, read_rows
from kernels.measure.suites import Suite, get_suite, part_of
from turbosim.errors import TurbosimError, UsageError, did_you_mean

SUITES = ("quick", "full", "micro")
EXAMPLES = """examples:
  python -m kernels.measure --suite quick --out results/h200
  python -m kernels.measure --suite full --part 1/4 --out results/h200
  python -m kernels.measure --suite micro --only copy,l2_read --dry-run

A call adds the rows that --out lacks, so it can be repeated until nothing is left. --device fake tries the harness
without a GPU; its rows are no measurements. Columns: analysis/README.md.
Exit codes: 0 ok, 1 failure, 2 usage, 3 bad file in --out, 130 interrupted."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise the error instead of printing the usage before it."""
        raise UsageError(f"{message}; see python -m kernels.measure --help")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = _Parser(prog="python -m kernels.measure", description="Measure kernels on an NVIDIA GPU.", epilog=EXAMPLES,
                formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--suite", required=True, choices=SUITES, help="quick (under 5 minutes), full, or micro")
    p.add_argument("--out", type=Path, metavar="DIR", help="directory for rows.csv and meta.json, new or to continue")
    p.add_argument("--only", metavar="KERNEL[,KERNEL]", help="only these kernels of the suite")
    p.add_argument("--part", metavar="I/N", help="only part I of N; every part covers every kernel")
    p.add_argument("--limit-minutes", type=float, metavar="M",
                   help="stop before M minutes have passed (default: quick 5, others 9)")
    p.add_argument("--case-timeout", type=float, default=120.0, metavar="S",
                   help="give a case up when a row takes longer than S seconds (default: 120)")
    p.add_argument("--counters", action="store_true", help="add rows with hardware counters (needs Nsight Compute)")
    p.add_argument("--dry-run", action="store_true", help="list what would run and the predicted time; needs no GPU")
    p.add_argument("--device", choices=("cuda", "fake"), default="cuda", help="fake: no GPU, made-up times")
    return p


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise UsageError(f"--part {text}: write I/N, for example 1/4")
    return int(match[1]), int(match[2])


def _check_numbers(options: argparse.Namespace) -> None:
    for flag, value in (("--limit-minutes", options.limit_minutes), ("--case-timeout", options.case_timeout)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{flag} must be a positive number, got {value:g}")


def select(suite: Suite, names: Mapping[str, str], only: str | None, part: str | None) -> tuple[list[Case], list[str]]:
    """Return the cases to run, in order, and the kernels of the suite that are not in *names*.

    Raises UsageError for an unknown kernel or part, or when nothing is left.
    """
    available = [kernel for kernel in suite.kernels if kernel in names]
    absent = [kernel for kernel in suite.kernels if kernel not in names]
    if only is not None:
        for kernel in only.split(","):
            if kernel not in suite.kernels:
                raise UsageError(f"--only: suite {suite.name!r} has no kernel {kernel!r}: not among "
                                 f"{', '.join(suite.kernels)}{did_you_mean(kernel, suite.kernels)}")
            if kernel in absent:
                raise UsageError(f"--only: kernel {kernel!r} is not in kernels/registry.py")
        available = only.split(",")
        absent = []
    if not available:
        raise UsageError(f"suite {suite.name!r}: none of its kernels is in kernels/registry.py: "
                         f"{', '.join(suite.kernels)}")
    index, count = _part(part) if part is not None else (1, 1)
    # Split before the choice of kernels, so that a part holds the same cases whatever --only says.
    cases = part_of([case for case in suite.cases if case.kernel in names], index, count)
    return [case for case in cases if case.kernel in available], absent


def _dry_run(cases: Sequence[Case], limit_minutes: float, out: Path | None, ncu: bool) -> None:
    rows = out / "rows.csv" if out is not None else None
    if rows is not None and rows.exists():
        done = done_of(read_rows(rows))
        cases = [case for case in cases if missing(have_of(done, case.key))]
    times = predict(cases, ncu)
    for case, time_s in zip(cases, times, strict=True):
        print(f"{time_s:6.1f} s  {case.title()}")
    total = (sum(times) + START_S) / 60
    print(f"{len(cases)} cases, {total:.1f} minutes predicted; a call stops after {limit_minutes:g} minutes")
    print(f"prediction: {MODEL}")


def _run(options: argparse.Namespace, progress: Progress) -> None:
    _check_numbers(options)
    if options.counters and options.device == "fake":
        raise UsageError("--counters: the fake device has none; leave out --counters or --device fake")
    if options.out is not None:
        check_out(options.out)
    elif not options.dry_run:
        raise UsageError("--out is missing: name a directory for the rows, or use --dry-run")
    suite = get_suite(options.suite)
    names = fake.NAMES if options.device == "fake" else registry.NAMES
    cases, absent = select(suite, names, options.only, options.part)
    if absent:
        _say(f"not in kernels/registry.py, left out: {', '.join(absent)}")
    limit = suite.limit_minutes if options.limit_minutes is None else options.limit_minutes
    if options.dry_run:
        _dry_run(cases, limit, options.out, options.counters)
        return
    about = {"suite": suite.name, "part": options.part or "1/1", "only": options.only}
    Run(Plan(tuple(cases), dict(names), options.device, options.out, 60 * limit, options.case_timeout, options.counters,
             about), progress, _say).execute()
    _summary(progress, options.out)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _summary(progress: Progress, out: Path) -> None:
    rows = ", ".join(f"{progress.rows[status]} {status}" for status in ("ok", "wrong", "failed"))
    print(f"rows added to {out / 'rows.csv'}: {rows}")
    if progress.left:
        print(f"{progress.left} of {progress.cases} cases left for lack of time, the shortest takes about "
              f"{progress.next_s:.0f} s; repeat the call to go on")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    progress = Progress()
    try:
        _run(parser().parse_args(arguments), progress)
    except TurbosimError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"interrupted: {progress.rows.total()} rows added, {progress.left} of {progress.cases} cases left",
              file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error.filename or 'file'}: {error.strerror}", file=sys.stderr)
        return 1
    return 0
