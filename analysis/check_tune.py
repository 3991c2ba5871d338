"""What ``turbosim tune`` chooses on an A100: ``python -m analysis.check_tune [CASE ...] [--write]``.

Two questions. *tune* gives every configuration the time of the whole model, so that it loses nothing by its own
measure; that measure prices blocks of code once, in the steady state of one SM. The first question is what this costs:
the chosen tiling against the best by the replay of all that one SM executes, instruction by instruction
(:func:`replayed`). The second is whether public autotuners keep the choice (public_tilings.yaml).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from turbosim.engine.api import run
from turbosim.errors import TurbosimError, did_you_mean
from turbosim.hw import Gpu, load_gpu
from turbosim.processes import cores, in_processes
from turbosim.result import Recording
from turbosim.sass.build import code_of, cta_class, sm_model
from turbosim.sass.lift import resident
from turbosim.sass.prepare import Prepared, find_description, prepare, program_of
from turbosim.sass.replay import replay
from turbosim.sass.rules import Rules
from turbosim.tuning import tune

HERE = Path(__file__).parent
PROSE = HERE / "tune.md"
GPU = "a100_sxm_80gb"
Settings = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A kernel, a shape, and the tilings to choose from."""

    name: str
    kernel: str
    """A key of the public tilings."""
    shape: Settings
    sweep: Mapping[str, Sequence[int]]


_FLASH = {"BLOCK_M": (64, 128), "BLOCK_N": (32, 64, 128), "num_stages": (2, 3), "num_warps": (4, 8)}
_MATMUL = {"BLOCK_M": (64, 128), "BLOCK_N": (64, 128, 256), "BLOCK_K": (32, 64), "num_stages": (3, 4),
           "num_warps": (4, 8)}


def _flash(d: int, causal: bool, batch: int = 4, tokens: int = 4096) -> Case:
    name = f"flash-d{d}-{'causal' if causal else 'full'}{'' if tokens == 4096 else f'-{tokens}'}"
    return Case(name, "flash", {"HEAD_DIM": d, "heads": 2048 // d, "CAUSAL": causal, "batch": batch, "queries": tokens},
                _FLASH)


CASES = {case.name: case for case in (
    _flash(64, causal=False), _flash(64, causal=True), _flash(64, causal=True, batch=2, tokens=2048),
    *(Case(f"matmul-{m}x{n}x{k}", "matmul", {"m": m, "n": n, "k": k}, _MATMUL)
      for m, n, k in ((4096, 4096, 1024), (8192, 1024, 1024), (1024, 1024, 1024))),
    _flash(128, causal=False), _flash(128, causal=True))}
_DESCRIPTIONS = {"flash": HERE.parent / "kernels" / "flash.fwd.yaml",
                 "matmul": HERE.parent / "kernels" / "examples" / "matmul.matmul.yaml"}


@dataclass(frozen=True)
class Source:
    """Tilings that public code keeps."""

    name: str
    tilings: tuple[Settings, ...]
    space: bool = False
    """Whether there are too many to simulate them."""

    def keeps(self, tiling: Settings) -> bool:
        """Whether *tiling* is one of them, as far as they say."""
        return any(all(tiling[name] == value for name, value in t.items()) for t in self.tilings)


@dataclass(frozen=True)
class Row:
    """A tiling and its times."""

    tiling: Settings
    tuned_s: float | None
    """As ``tune`` finds it; None where it cannot run."""
    replayed_s: float | None
    """As :func:`replayed` finds it."""

    @property
    def text(self) -> str:
        """Rows, columns (and depth) of the tile, warps, stages."""
        sizes = "x".join(str(self.tiling[n]) for n in ("BLOCK_M", "BLOCK_N", "BLOCK_K") if n in self.tiling)
        return f"{sizes} w{self.tiling['num_warps']} s{self.tiling['num_stages']}"


def public(case: Case) -> list[Source]:
    """Return the public tilings for *case*."""
    document = YAML(typ="safe").load((HERE / "public_tilings.yaml").read_text())
    return [Source(s["name"], tuple(t for entry in s["tilings"] for t in _spread(entry)),
                   s.get("space", False))
            for s in document[case.kernel] if s.get("only") in (None, case.shape.get("HEAD_DIM"))]


def _spread(entry: Mapping[str, Any]) -> Iterator[Settings]:
    lists = [v if isinstance(v, list) else [v] for v in entry.values()]
    return (dict(zip(entry, values, strict=True)) for values in itertools.product(*lists))


def tilings(case: Case) -> list[Settings]:
    """Return the tilings of the sweep and the complete public ones of tiles no smaller than 64 x 64."""
    found = [dict(zip(case.sweep, values, strict=True)) for values in itertools.product(*case.sweep.values())]
    for source in public(case):
        for tiling in () if source.space else source.tilings:
            if set(tiling) == set(case.sweep) and tiling not in found and tiling["BLOCK_M"] * tiling["BLOCK_N"] >= 4096:
                found.append(tiling)
    return found


def replayed(prepared: Prepared, gpu: Gpu) -> float:
    """Return the time of the SM that ends last, every instruction of every turn of its CTAs issued one by one [s].

    Which CTAs an SM gets is the whole model's answer. Global data come from L2, at its latency and at the bandwidth of
    one SM; device memory, other SMs and overheads of the launch are left out.
    """
    kernel, launch = prepared.kernel, prepared.launch
    program = program_of(prepared, gpu)
    ends = run(gpu, program).launches[0].sm_last_end
    recording = run(gpu, program, record=[ends.index(max(ends))]).recording
    assert recording is not None
    # What a CTA executes follows from x alone: lift() refuses kernels of which that is not so.
    chosen = [cta % launch.grid[0] for cta in in_order(recording)]
    places = {x: n for n, x in enumerate(dict.fromkeys(chosen))}
    classes, walks = [], []
    for x in places:
        # What the first warp of each CTA does, and all warps of one CTA, stand for how the others use memory.
        alike, found = cta_class(kernel, launch, (x, 0, 0))
        classes.append(alike)
        walks += found[:1] if walks else found
    hertz = gpu.clock.hertz("sustained")
    done = replay(code_of(kernel, Rules.of(gpu), walks), classes, [places[x] for x in chosen],
                  resident(kernel, launch, gpu), sm_model(gpu, hertz))
    return done.cycles / hertz


def in_order(recording: Recording) -> list[int]:
    """Return the CTAs of the SM that was recorded, in the order in which they began."""
    began: dict[int, int] = {}
    for op in recording.ops:
        began[op.cta] = min(op.start, began.get(op.cta, op.start))
    return sorted(began, key=lambda cta: (began[cta], cta))


def row_of(task: tuple[Case, Settings]) -> Row:
    """Return the times of a tiling."""
    case, tiling = task
    gpu, description = load_gpu(GPU), find_description(str(_DESCRIPTIONS[case.kernel]))
    try:
        found = tune(description, gpu, {name: [value] for name, value in tiling.items()}, case.shape)[0].result
        assert found is not None
        return Row(tiling, found.time_s, replayed(prepare(description, gpu, {**case.shape, **tiling}), gpu))
    except TurbosimError:
        return Row(tiling, None, None)


def rows_of(case: Case, every: Sequence[Settings], jobs: int) -> list[Row]:
    """Return the rows of the tilings that can run, the fastest by ``tune`` first."""
    rows = [row for _, row in in_processes(row_of, [(case, t) for t in every], jobs) if row is not None]
    return sorted((r for r in rows if r.tuned_s is not None), key=lambda r: (r.tuned_s, r.text))


@dataclass(frozen=True)
class Finding:
    """What was found for a case."""

    case: Case
    rows: tuple[Row, ...]

    @property
    def chosen(self) -> Row:
        """The choice of ``tune`` among the tilings of the sweep."""
        return next(r for r in self.rows if all(r.tiling[n] in values for n, values in self.case.sweep.items()))

    @property
    def best(self) -> Row:
        """The best of the sweep by the replay."""
        swept = [r for r in self.rows if all(r.tiling[n] in values for n, values in self.case.sweep.items())]
        return min(swept, key=lambda r: r.replayed_s or float("inf"))

    @property
    def loss(self) -> float:
        """By how much the choice is slower than the best, by the replay."""
        assert self.chosen.replayed_s
        assert self.best.replayed_s
        return self.chosen.replayed_s / self.best.replayed_s - 1

    def theirs(self, source: Source) -> Row | None:
        """Return the fastest tiling of *source* by ``tune``; None where none could run."""
        return next((r for r in self.rows if source.keeps(r.tiling)), None)


def check(case: Case, jobs: int) -> Finding:
    """Evaluate all tilings of *case*."""
    return Finding(case, tuple(rows_of(case, tilings(case), jobs)))


def lines_of(findings: Sequence[Finding]) -> list[str]:
    """Return both tables as Markdown."""
    lines = ["| case | tilings | chosen | time | by the replay | best by the replay | its time | loss |",
             "|---|---|---|---|---|---|---|---|"]
    for f in findings:
        chosen, best = f.chosen, f.best
        lines.append(f"| {f.case.name} | {len(f.rows)} | {chosen.text} | {_us(chosen.tuned_s)} | "
                     f"{_us(chosen.replayed_s)} | {best.text} | {_us(best.replayed_s)} | {f.loss:.1%} |")
    lines += ["", "| case | chosen | source | keeps it | its best | slower than the choice |",
              "|---|---|---|---|---|---|"]
    for f in findings:
        for source in public(f.case):
            theirs = None if source.space else f.theirs(source)
            none = f"one of {len(source.tilings):,}" if source.space else "does not run"
            assert f.chosen.tuned_s
            more = f"{theirs.tuned_s / f.chosen.tuned_s - 1:.1%}" if theirs and theirs.tuned_s else ""
            lines.append(f"| {f.case.name} | {f.chosen.text} | {source.name} | "
                         f"{'yes' if source.keeps(f.chosen.tiling) else 'no'} | "
                         f"{theirs.text if theirs else none} | {more} |")
    return lines


def _us(seconds: float | None) -> str:
    return f"{seconds * 1e6:,.0f} us" if seconds else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or put them into tune.md."""
    parser = argparse.ArgumentParser(prog="python -m analysis.check_tune", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes (default: one per core)")
    parser.add_argument("--write", action="store_true", help="put the tables of all cases into analysis/tune.md")
    given = parser.parse_args(arguments)
    for name in given.cases:
        if name not in CASES:
            parser.error(f"unknown case {name!r}: not among {', '.join(CASES)}{did_you_mean(name, CASES)}")
    if given.write and given.cases:
        parser.error("--write: the file has all cases; name none")
    began = time.perf_counter()
    findings = []
    for name in given.cases or CASES:
        findings.append(check(CASES[name], given.jobs))
        print("\n".join(lines_of(findings[-1:])), flush=True)
    lines = lines_of(findings)
    print(f"{time.perf_counter() - began:.0f} s")
    if given.write:
        from analysis.check_lifted import put

        PROSE.write_text(put(PROSE.read_text(), "tables", lines))


if __name__ == "__main__":
    main()
