"""How the models rank measured tilings: ``python -m analysis.check_tilings [SET ...] [--write]``.

A group are the rows of a data set that differ in nothing but the tiling they state. Its tau is Kendall's tau-b between
measured and predicted times. The *tile* model is the schedule of the set with the row's options; *sass* is the machine
code of a Triton kernel of the same structure, compiled with the row's tiling and lifted. Nothing is fitted on the rows.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from scipy.stats import kendalltau

from analysis.tiling_claims import checked_claims, claim_table
from turbosim.errors import did_you_mean
from turbosim.processes import cores
from turbosim.validation.jobs import Job, run_all, triton_file
from turbosim.validation.meta import Model
from turbosim.validation.predict import jobs_of
from turbosim.validation.row import Row
from turbosim.validation.sets import list_sets, load_set
from turbosim.workload import Gemm

PROSE = Path(__file__).parent / "tilings.md"
LEAST = 3
"""Tilings that make a group."""
DIFFERENT = 0.02
"""Two times differ when their ratio is further from 1 than this: the largest difference of most tilings that were
measured twice (table *Measured twice*), and twice the printed step of the shortest rows."""
Name = Literal["tile", "sass"]
NAMES: tuple[Name, ...] = ("tile", "sass")
_SETTINGS = {"warps": "num_warps", "stages": "num_stages"}


@dataclass(frozen=True)
class Group:
    """Rows that differ in their tilings alone, with what each model predicts [s]."""

    rows: tuple[Row, ...]
    predicted: Mapping[Name, Mapping[Row, float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Set, version and shape."""
        first = self.rows[0]
        return f"{first.dataset} | {first.version} | {first.dtype} | {first.shape}"

    def pairs(self, name: Name) -> list[tuple[float, float]]:
        """Return (measured, predicted) time of the rows that model *name* predicts [s]."""
        return [(row.time_s, found) for row in self.rows if (found := self.predicted[name].get(row)) is not None]


def tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Kendall's tau-b; None of fewer than three pairs, or where all of a side are equal."""
    # Predictions that are equal may differ in their last digits.
    sides = [m for m, _ in pairs], [float(f"{p:.6g}") for _, p in pairs]
    if len(pairs) < LEAST or min(len(set(side)) for side in sides) < 2:
        return None
    return float(kendalltau(*sides).statistic)


def clear_tau(pairs: Sequence[tuple[float, float]], different: float = DIFFERENT) -> float | None:
    """Return (right - wrong) / all, over the pairs of rows whose measured times differ by more than *different*.

    A pair with one prediction for both is neither right nor wrong. None where no measured times differ.
    """
    clear = [(a, b) for a, b in combinations(pairs, 2) if abs(math.log(a[0] / b[0])) > math.log1p(different)]
    if not clear:
        return None
    signs = [math.copysign(1, (a[0] - b[0]) * (a[1] - b[1])) if f"{a[1]:.6g}" != f"{b[1]:.6g}" else 0 for a, b in clear]
    return sum(signs) / len(clear)


def mean_error(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the mean absolute error of the predictions, relative to the measured times."""
    return fmean(abs(p / m - 1) for m, p in pairs)


def loss(pairs: Sequence[tuple[float, float]]) -> float:
    """Return by how much the tiling predicted to be the fastest was measured slower than the fastest."""
    return min(pairs, key=lambda pair: pair[1])[0] / min(m for m, _ in pairs) - 1


def groups_of(rows: Iterable[Row]) -> list[Group]:
    """Return the groups among *rows*, in their order."""
    found: dict[object, list[Row]] = {}
    for row in rows:
        if row.options:
            found.setdefault((row.dataset, row.gpu, row.kernel, row.version, row.dtype, row.workload), []).append(row)
    return [Group(tuple(group)) for group in found.values() if len({row.options for row in group}) >= LEAST]


def sass_job(row: Row, model: Model) -> Job | None:
    """Return the simulation of machine code that is compiled with the tiling of *row*; None without a Triton kernel."""
    if model.triton is None or not isinstance(row.workload, Gemm):
        return None
    own: dict[str, Any] = {_SETTINGS.get(name, name.upper()): int(value) for name, value in row.options}
    sizes = {"m": row.workload.m, "n": row.workload.n, "k": row.workload.k}
    return Job(row.gpu, triton_file(model.triton.kernel), row.workload,
               tuple({**sizes, **model.triton.tilings[0], **own}.items()), row.protocol, lifted=True,
               work=row.workload.flops)


def evaluate(names: Sequence[str], jobs: int) -> list[Group]:
    """Return the groups of the data sets *names* with the predictions of both models; *jobs* processes share them."""
    sets = [load_set(name) for name in names]
    models = {data.name: data.meta.kernels for data in sets}
    groups = groups_of(row for data in sets for row in data.rows)
    wanted: dict[tuple[Name, Row], Job] = {}
    for row in (row for group in groups for row in group.rows):
        model = models[row.dataset][row.kernel]
        for job in jobs_of(row, model, "tile", row.gpu):
            wanted["tile", row] = job
        if job_of_code := sass_job(row, model):
            wanted["sass", row] = job_of_code
    answers = run_all(wanted.values(), jobs)
    return [replace(group, predicted={name: {
        row: answer for row in group.rows
        if (name, row) in wanted and isinstance(answer := answers[wanted[name, row]], float)} for name in NAMES})
        for group in groups]


def rank_table(groups: Sequence[Group]) -> list[str]:
    """Return the table of the groups, as Markdown."""
    head = "| set | version | type | shape | tilings | slowest / fastest |"
    for name in NAMES:
        head += f" {name}: rows | tau | clear tau | error | loss |"
    lines = [head, "|---" * 4 + "|---:" * (2 + 5 * len(NAMES)) + "|"]
    for group in groups:
        times = [row.time_s for row in group.rows]
        line = f"| {group.label} | {len(times)} | {max(times) / min(times):.2f} |"
        for name in NAMES:
            pairs = group.pairs(name)
            if pairs:
                line += (f" {len(pairs)} | {_number(tau(pairs))} | {_number(clear_tau(pairs))} | "
                         f"{mean_error(pairs):.1%} | {loss(pairs):.1%} |")
            else:
                line += " 0 | | | | |"
        lines.append(line)
    return lines


def mean_table(groups: Sequence[Group]) -> list[str]:
    """Return the means over the groups of each set, as Markdown; of the rows that both models predict where both do."""
    lines = ["| set | groups | model | rows | mean tau | mean clear tau | mean error | mean loss |",
             "|---|---:|---|---:|---:|---:|---:|---:|"]
    for name_of_set in dict.fromkeys(group.rows[0].dataset for group in groups):
        mine = [g for g in groups if g.rows[0].dataset == name_of_set]
        for name in NAMES:
            every = [pairs for g in mine if len(pairs := g.pairs(name)) >= LEAST]
            if every:
                means = [_mean(t for p in every if (t := f(p)) is not None) for f in (tau, clear_tau)]
                lines.append(f"| {name_of_set} | {len(every)} | {name} | {sum(map(len, every))} | {means[0]} | "
                             f"{means[1]} | {fmean(map(mean_error, every)):.1%} | {fmean(map(loss, every)):.1%} |")
    return lines


def repeats(groups: Sequence[Group]) -> list[tuple[Group, Group, list[tuple[float, float]]]]:
    """Return pairs of groups that measured one shape of one type twice, with both times of their common tilings [s]."""
    found = []
    for a, b in combinations(groups, 2):
        first, second = a.rows[0], b.rows[0]
        if (first.dataset, first.dtype, first.workload) == (second.dataset, second.dtype, second.workload):
            again = {row.options: row.time_s for row in b.rows}
            found.append((a, b, [(row.time_s, again[row.options]) for row in a.rows if row.options in again]))
    return found


def repeat_table(groups: Sequence[Group]) -> list[str]:
    """Return how well one measurement predicts the other, as Markdown: what no model can exceed."""
    lines = ["| set | shape | versions | tilings in both | tau | clear tau | median difference | largest |",
             "|---|---|---|---:|---:|---:|---:|---:|"]
    for a, b, pairs in repeats(groups):
        differences = [abs(q / p - 1) for p, q in pairs]
        first = a.rows[0]
        lines.append(f"| {first.dataset} | {first.shape} | {first.version}, {b.rows[0].version} | {len(pairs)} | "
                     f"{_number(tau(pairs))} | {_number(clear_tau(pairs))} | {median(differences):.1%} | "
                     f"{max(differences):.1%} |")
    return lines


def tiling_table(groups: Sequence[Group]) -> list[str]:
    """Return the error of each tiling, the mean over shapes, as Markdown: negative where predictions are too fast."""
    found: dict[tuple[str, str], dict[Name, list[float]]] = {}
    for group in groups:
        for row in group.rows:
            key = row.dataset, _tiling(dict(row.options))
            for name in NAMES:
                if row in group.predicted[name]:
                    found.setdefault(key, {}).setdefault(name, []).append(group.predicted[name][row] / row.time_s - 1)
    lines = ["| set | tiling | rows | tile bias | sass bias |", "|---|---|---:|---:|---:|"]
    for (name_of_set, text), errors in sorted(found.items()):
        cells = [f"{fmean(errors[n]):+.1%}" if n in errors else "" for n in NAMES]
        lines.append(f"| {name_of_set} | {text} | {max(map(len, errors.values()))} | {cells[0]} | {cells[1]} |")
    return lines


def step_table(groups: Sequence[Group]) -> list[str]:
    """Return the time of one turn of the loop over the depth, as Markdown: from two depths of otherwise one shape.

    What a launch costs cancels. Where nothing is busy, a turn x loads in flight is how long a load takes.
    """
    found: dict[tuple[object, ...], dict[int, tuple[Row, Group]]] = {}
    for group in groups:
        for row in group.rows:
            work = row.workload
            if isinstance(work, Gemm):
                found.setdefault((row.dataset, row.version, work.m, work.n, row.options), {})[work.k] = row, group
    lines = ["| set | version | rows x columns | tiling | CTAs | measured turn | x loads in flight | tile | sass |",
             "|---|---|---|---|---:|---:|---:|---:|---:|"]
    for (name, version, m, n, pairs), depths in found.items():
        if len(depths) < 2:
            continue
        options = {k: int(v) for k, v in pairs}  # type: ignore[attr-defined]
        (row, group), (deeper, other) = depths[min(depths)], depths[max(depths)]
        turns = (max(depths) - min(depths)) / options["block_k"]
        measured = (deeper.time_s - row.time_s) / turns
        cells = []
        for model in NAMES:
            ends = other.predicted[model].get(deeper), group.predicted[model].get(row)
            cells.append(f"{(ends[0] - ends[1]) / turns * 1e9:.0f} ns" if ends[0] and ends[1] else "")
        ctas = -(-int(str(m)) // options["block_m"]) * -(-int(str(n)) // options["block_n"])
        lines.append(f"| {name} | {version} | {m}x{n} | {_tiling(options)} | {ctas} | {measured * 1e9:.0f} ns | "
                     f"{measured * (options['stages'] - 1) * 1e6:.2f} us | {cells[0]} | {cells[1]} |")
    return lines


def _tiling(options: Mapping[str, Any]) -> str:
    sizes = "x".join(str(options[n]) for n in ("block_m", "block_n", "block_k") if n in options)
    return f"{sizes} w{options['warps']} s{options['stages']}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _mean(values: Iterable[float]) -> str:
    known = list(values)
    return _number(fmean(known)) if known else ""


def sets_with_tilings() -> list[str]:
    """Return the names of the committed data sets that have a group."""
    return [name for name in list_sets() if groups_of(load_set(name).rows)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or put them into tilings.md."""
    known = sets_with_tilings()
    parser = argparse.ArgumentParser(prog="python -m analysis.check_tilings",
                                     description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes (default: one per core)")
    parser.add_argument("--write", action="store_true", help="put the tables of all sets into analysis/tilings.md")
    given = parser.parse_args(arguments)
    for name in given.sets:
        if name not in known:
            parser.error(f"unknown set {name!r}: not among {', '.join(known)}{did_you_mean(name, known)}")
    if given.write and given.sets:
        parser.error("--write: the file has all sets; name none")
    groups = evaluate(given.sets or known, given.jobs)
    tables = {"means": mean_table(groups), "groups": rank_table(groups), "twice": repeat_table(groups),
              "tilings": tiling_table(groups), "turns": step_table(groups)}
    if not given.sets:
        tables["claims"] = claim_table(checked_claims())
    if given.write:
        from analysis.check_lifted import put

        text = PROSE.read_text()
        for name, lines in tables.items():
            text = put(text, name, lines)
        PROSE.write_text(text)
    print("\n\n".join("\n".join(lines) for lines in tables.values()))


if __name__ == "__main__":
    main()
