"""The command line of the measuring harness."""

from __future__ import annotations

import argparse
import math
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
DESCRIPTION = """Measure the Triton kernels of this checkout on the NVIDIA GPU at hand, and write a row for each result.

Needs torch 2.11 and triton 3.6, or newer. A case is a kernel on one shape with one set of options. It is checked
against a reference, then timed with an empty L2 (cold) and a filled one (warm). No setting of the GPU is changed."""
EXAMPLES = """examples:
  python -m kernels.measure --suite quick --dry-run
  python -m kernels.measure --suite quick --out results/h200
  python -m kernels.measure --suite full --part 1/5 --out results/h200
  python -m kernels.measure --suite micro --only copy,l2_read --out results/h200

Repeat a call to go on: it adds the rows that --out lacks, and stops before its time limit. Rows that are wrong or
failed count as done; delete a line of rows.csv to measure it again. analysis/README.md describes the columns.
Exit codes: 0 ok, also when cases are left, wrong or failed; 1 failure, such as no GPU; 2 usage or a missing package;
3 bad file in --out; 130 interrupted."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise the error, in the words of the other ones, instead of printing the usage before it."""
        if choice := re.fullmatch(r"argument (--\w+): invalid choice: '(.*)' \(choose from (.*)\)", message):
            known = choice[3].replace("'", "").split(", ")
            message = f"{choice[1]} {choice[2]}: not among {', '.join(known)}{did_you_mean(choice[2], known)}"
        elif message.startswith("unrecognized arguments: "):
            word = message.split(": ", 1)[1].split()[0]
            guess = did_you_mean(word.split("=")[0], self._option_string_actions)
            message = (f"{word}: no such flag{guess}" if word.startswith("-") else
                       f"{word}: a word that belongs to no flag; quote values that contain spaces")
        elif value := re.fullmatch(r"argument (--[\w-]+): invalid float value: '(.*)'", message):
            message = f"{value[1]} {value[2]}: not a number"
        elif missing_value := re.fullmatch(r"argument (--[\w-]+): expected one argument", message):
            message = f"{missing_value[1]}: its value is missing"
        raise UsageError(f"{message}; see python -m kernels.measure --help")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = _Parser(prog="python -m kernels.measure", description=DESCRIPTION, epilog=EXAMPLES, allow_abbrev=False,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                usage="%(prog)s --suite quick|full|micro (--out DIR | --dry-run) [options]")
    p.add_argument("--suite", choices=SUITES, metavar="NAME",
                   help="quick: few shapes and tilings of every attention kernel, one call; full: many, several calls; "
                        "micro: micro-benchmarks of the GPU's units")
    p.add_argument("--out", type=_directory, metavar="DIR",
                   help="directory for rows.csv and meta.json, new or to continue")
    p.add_argument("--dry-run", action="store_true",
                   help="list what would run, or what --out lacks, and the predicted time; needs no GPU")
    p.add_argument("--only", metavar="KERNEL[,KERNEL]",
                   help="only these kernels, for example flash,turbo; a dry run names those of the suite")
    p.add_argument("--part", metavar="I/N", help="only part I of N, from 1/N to N/N; every part covers every kernel")
    p.add_argument("--limit-minutes", type=float, metavar="M",
                   help="stop before M minutes have passed (default: quick 5, others 9)")
    p.add_argument("--case-timeout", type=float, default=120.0, metavar="S",
                   help="give a case up when its next row takes longer than S seconds (default: 120)")
    p.add_argument("--counters", action="store_true",
                   help="add a row of hardware counters for each timed case; needs ncu of Nsight Compute")
    p.add_argument("--device", choices=("cuda", "fake"), default="cuda", metavar="NAME",
                   help="cuda, or fake: try the harness without a GPU, with made-up times (default: cuda)")
    return p


def _directory(text: str) -> Path:
    # Path("") is the current directory, where an unset shell variable must not put rows.
    if not text:
        raise UsageError("--out is empty: give --out DIR, a directory for the rows")
    return Path(text)


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise UsageError(f"--part {text}: must be I/N, two whole numbers, for example 1/4")
    return int(match[1]), int(match[2])


def _check_numbers(options: argparse.Namespace) -> None:
    for flag, value in (("--limit-minutes", options.limit_minutes), ("--case-timeout", options.case_timeout)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{flag} {value:g}: must be a positive number")


def select(suite: Suite, names: Mapping[str, str], only: str | None, part: str | None) -> tuple[list[Case], list[str]]:
    """Return the cases to run, in order, and the kernels of the suite that are not in *names*.

    Raises UsageError for an unknown kernel or part, or when nothing is left.
    """
    available = [kernel for kernel in suite.kernels if kernel in names]
    absent = [kernel for kernel in suite.kernels if kernel not in names]
    if only is not None:
        for kernel in only.split(","):
            if not kernel:
                raise UsageError(f"--only {only}: a kernel is empty; write KERNEL,KERNEL without spaces")
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
    total = len(cases)
    if rows is not None and rows.exists():
        done = done_of(read_rows(rows))
        cases = [case for case in cases if missing(have_of(done, case.key))]
    times = predict(cases, ncu)
    print("predicted  kernel, phase: shape: options other than defaults")
    for case, time_s in zip(cases, times, strict=True):
        print(f"{time_s:7.1f} s  {case.title()}")
    minutes = (sum(times) + START_S) / 60 if cases else 0.0
    calls = math.ceil(minutes / limit_minutes)
    plural = "" if len(cases) == 1 else "s"
    print(f"{len(cases)} case{plural}{f' of {total}, the others are done' if len(cases) < total else ''}: about "
          f"{minutes:.1f} minutes, {calls} call{'s' if calls != 1 else ''} of at most {limit_minutes:g} minutes")
    print(f"prediction: {MODEL}")


def _run(options: argparse.Namespace, progress: Progress) -> None:
    _check_numbers(options)
    if options.suite is None:
        raise UsageError(f"--suite is missing: give --suite {', '.join(SUITES[:-1])} or {SUITES[-1]}; see "
                         "python -m kernels.measure --help")
    if options.counters and options.device == "fake":
        raise UsageError("--counters: the fake device has none; leave out --counters or --device fake")
    if options.out is not None:
        check_out(options.out, write=not options.dry_run)
    elif not options.dry_run:
        raise UsageError("--out is missing: give --out DIR, a directory for the rows, or --dry-run")
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
