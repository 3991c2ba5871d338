"""Lifted machine code beside published measurements: ``python -m analysis.check_lifted [TABLE ...]``.

Tables: attention, matmul, softmax, vector_add (A100), h100, int8; all without names. Kernels of the tutorials'
structure are compiled for the GPU's architecture, lifted and replayed, launched from a stream.
Nothing is fitted. Of the tilings the fastest predicted one counts, as the sources keep the fastest measured one. The
A100 pages do not name the card, so that both are shown, the PCIe card at its clocks under a long load and a short one.
Errors are those of the predicted time: negative is too fast.

Before each run Triton's do_bench overwrites a buffer larger than L2, whose dirty lines the kernel's own lines then
evict: L2 starts "dirty". Where columns say so, it starts without these lines.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.lifted_cases import FEW, TABLES, Row, Run, Table
from turbosim.errors import TurbosimError, UsageError, did_you_mean

PROSE = Path(__file__).parent / "lifted.md"


@dataclass(frozen=True)
class Finding:
    """The fastest tiling of a row on one GPU at one clock."""

    tiling: str
    value: float
    """In the table's unit."""
    errors: tuple[float, ...]
    """Of the predicted time, one for each measurement."""
    hertz: float


@dataclass(frozen=True)
class Answer:
    """What was found for a row."""

    row: Row
    best: dict[Run, Finding]
    """Empty where nothing could be lifted."""
    refused: dict[str, str]
    """Tilings that could not be lifted, and why."""
    seconds: float


def check(table: Table, labels: Sequence[str] | None = None) -> list[Answer]:
    """Return predictions for the rows of *table*, or for those called *labels*."""
    ranking: dict[str, list[str]] = {}
    for group, label in table.ranked_on.items():
        row = next(r for r in table.rows if r.label == label)
        if labels is None or any(r.group == group and r.label in labels for r in table.rows):
            values, _ = _values(row, list(row.tilings), table.runs[:1])
            found = values[table.runs[0]]
            ranking[group] = sorted(found, key=lambda t: -found[t][0])[:FEW]
    return [answer(row, table.runs, ranking.get(row.group, list(row.tilings))) for row in table.rows
            if labels is None or row.label in labels]


def answer(row: Row, runs: Sequence[Run], tilings: Sequence[str]) -> Answer:
    """Return the fastest of *tilings* on every one of *runs*."""
    began = time.perf_counter()
    values, refused = _values(row, tilings, runs)
    best = {}
    for which, found in values.items():
        if found:
            tiling = max(found, key=lambda t: found[t][0])
            value, hertz = found[tiling]
            best[which] = Finding(tiling, value, tuple(m / value - 1 for m in row.measured), hertz)
    return Answer(row, best, refused, time.perf_counter() - began)


def _values(row: Row, tilings: Sequence[str], runs: Sequence[Run]
            ) -> tuple[dict[Run, dict[str, tuple[float, float]]], dict[str, str]]:
    """Return (value, clock) by run and tiling, and why tilings were refused."""
    values: dict[Run, dict[str, tuple[float, float]]] = {r: {} for r in runs}
    refused = {}
    for tiling in tilings:
        try:
            kernel = row.tilings[tiling]()
            for run in runs:
                result = kernel.on(run.gpu, run.clock, run.l2, run.highest)
                values[run][tiling] = row.amount / (result.time_s + row.overhead), result.clock_hz
        except TurbosimError as error:
            refused[tiling] = str(error)
    return values, refused


def mean_absolute(answers: Sequence[Answer], which: Run) -> float | None:
    """Return the mean of the absolute errors; None without any."""
    errors = [abs(e) for a in answers if which in a.best for e in a.best[which].errors]
    return sum(errors) / len(errors) if errors else None


def lines_of(table: Table, answers: Sequence[Answer]) -> list[str]:
    """Return *answers* as text."""
    lines = [f"{table.title} [{table.unit}]"]
    names = [run.name for run in table.runs]
    clocks = table.runs[0].clock == "power"
    lines.append(f"{'':12}{'measured':>16}" + "".join(f"{n:>28}" for n in names) + f"{'tiling':>22}"
                 + f"{'clock':>10}" * clocks + f"{'time':>8}")
    for a in answers:
        low, high = min(a.row.measured), max(a.row.measured)
        cells = "".join(_cell(a, which) for which in table.runs)
        tiling = a.best[table.runs[0]].tiling if a.best else "not lifted"
        measured = f"{low:.1f}" if low == high else f"{low:.1f}-{high:.1f}"
        clock = f"{a.best[table.runs[0]].hertz / 1e9:>6.2f} GHz" if clocks and a.best else " " * 10 * clocks
        lines.append(f"{a.row.label:12}{measured:>16}{cells}{tiling:>22}{clock}{a.seconds:>6.1f} s")
    groups = list(dict.fromkeys(a.row.group for a in answers))
    for group in groups + ["all rows"] * (len(groups) > 1):
        of = [a for a in answers if group in (a.row.group, "all rows")]
        means = [mean_absolute(of, which) for which in table.runs]
        lines.append(f"mean absolute error, {group}: " + ", ".join(
            f"{name} {'none' if mean is None else f'{mean:.1%}'}" for name, mean in zip(names, means, strict=True)))
    reasons: dict[str, list[str]] = {}
    for a in answers:
        for tiling, reason in a.refused.items():
            reasons.setdefault(reason, []).append(f"{a.row.label} {tiling}".strip())
    lines += [f"refused: {', '.join(where)}: {reason}" for reason, where in reasons.items()]
    return lines


def _cell(a: Answer, which: Run) -> str:
    if which not in a.best:
        return f"{'-':>28}"
    found = a.best[which]
    return f"{found.value:>19.1f} {sum(found.errors) / len(found.errors):>+8.1%}"


def put(text: str, name: str, lines: Sequence[str]) -> str:
    """Return *text* with *lines* in place of what is between ``<!-- name -->`` and ``<!-- end -->``."""
    begin, end = f"<!-- {name} -->\n", "<!-- end -->"
    if begin not in text:
        raise UsageError(f"{PROSE.name}: has no place for table {name!r}; add {begin.strip()} and {end}")
    before, _, rest = text.partition(begin)
    return before + begin + "\n".join(lines) + "\n" + rest[rest.index(end):]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print tables, or put them into lifted.md."""
    known = (*TABLES, "int8")
    parser = argparse.ArgumentParser(prog="python -m analysis.check_lifted", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--write", action="store_true", help="put the tables into analysis/lifted.md")
    given = parser.parse_args(arguments)
    for name in given.tables:
        if name not in known:
            parser.error(f"unknown table {name!r}: not among {', '.join(known)}{did_you_mean(name, known)}")
    for name in given.tables or known:
        began = time.perf_counter()
        if name == "int8":
            from analysis.lifted_int8 import table as int8

            lines = int8()
        else:
            table = TABLES[name]()
            lines = ["```", *lines_of(table, check(table)), "```"]
        print("\n".join(lines))
        print(f"{time.perf_counter() - began:.0f} s\n", flush=True)
        if given.write:
            PROSE.write_text(put(PROSE.read_text(), name, lines))


if __name__ == "__main__":
    main()
