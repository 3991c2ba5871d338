"""From rows to predictions: which simulations a row needs, and which of their times is its prediction.

Where an autotuner chose among tilings, all of them are simulated and the fastest predicted one counts: the choice is
the model's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from turbosim.errors import ConfigError
from turbosim.hw.document import shown
from turbosim.hw.load import load_resolved
from turbosim.schedules.registry import get_schedule
from turbosim.validation.genz import NO_MODEL, check_installed, genz_seconds
from turbosim.validation.jobs import Answer, Job, Pairs, gpu_at, run_all, triton_file
from turbosim.validation.meta import Model, Value
from turbosim.validation.plausible import implausible
from turbosim.validation.roofline import read_write_bytes, roofline_seconds
from turbosim.validation.row import Row
from turbosim.validation.sets import DataSet
from turbosim.workload import Attention, Gemm, Phase

if TYPE_CHECKING:
    from turbosim.engine.api import EngineName
    from turbosim.engine.lower import ClockName

Rung = Literal["roofline", "genz", "tile", "sass"]
RUNGS: tuple[Rung, ...] = ("roofline", "genz", "tile", "sass")
ANALYTICAL: tuple[Rung, ...] = ("roofline", "genz")
"""Rungs that simulate nothing."""
FEW = 4
"""Tilings that are tried on large rows, of those ranked on a smaller one."""
SMALL = 1.5e11
"""FLOPs up to which all tilings are tried."""
_TRANSLATED = ("block_m", "block_n", "block_k", "group_m", "warps", "stages", "splits", "bits")
"""Options that a measured kernel of this project and its schedule share; 0 is the kernel's own choice."""


@dataclass(frozen=True)
class Outcome:
    """A row with its predictions."""

    row: Row
    times: Mapping[Rung, float]
    """Predicted [s]; a rung that does not predict the row is absent."""
    choices: Mapping[Rung, str] = field(default_factory=dict)
    """The tiling that was chosen."""
    reasons: Mapping[Rung, str] = field(default_factory=dict)
    """Why a rung does not predict the row."""

    def error(self, rung: Rung) -> float:
        """Return predicted over measured time, less 1: negative is too fast."""
        return self.times[rung] / self.row.time_s - 1


@dataclass(frozen=True)
class Findings:
    """What became of all rows."""

    outcomes: tuple[Outcome, ...]
    impossible: tuple[tuple[Row, str], ...]
    """Rows that no GPU of the kind can have measured, and why; they are in no score."""


def predict(sets: Sequence[DataSet], rungs: Sequence[Rung] = ("roofline", "tile"), *, engine: EngineName = "numba",
            clock: ClockName = "sustained", hardware: Mapping[str, str] | None = None, workers: int = 1,
            progress: Callable[[int, int], None] | None = None) -> Findings:
    """Predict every row of *sets* by each of *rungs*.

    *clock* is simulated where a row's is not known; *hardware* gives another hardware file for the rows of a GPU.
    Raises ConfigError for times that look like another unit's, and for a hardware file that was fitted on one of the
    sets, UsageError for GenZ where it is not installed.
    """
    if "genz" in rungs:
        check_installed()
    files = dict(hardware or {})
    _check_fitted(sets, files)
    impossible, kept = [], []
    for data in sets:
        for row in data.rows:
            if why := implausible(gpu_at(files.get(row.gpu, row.gpu), None), row):
                impossible.append((row, why))
            else:
                kept.append((row, data.meta.kernels[row.kernel]))
    wanted: Wanted = {(row, rung): jobs_of(row, model, rung, files.get(row.gpu, row.gpu), engine, clock)
                      for row, model in kept for rung in rungs if rung not in ANALYTICAL}
    answers = dict(run_all((job for jobs in wanted.values() for job in jobs if len(jobs) <= FEW or job.work <= SMALL),
                           workers, progress))
    wanted |= _shortened(wanted, answers)
    answers |= run_all({job for jobs in wanted.values() for job in jobs} - set(answers), workers, progress)
    return Findings(tuple(_outcome(row, model, rungs, wanted, answers, files) for row, model in kept),
                    tuple(impossible))


Wanted = dict[tuple[Row, Rung], list[Job]]


def _shortened(wanted: Wanted, answers: Mapping[Job, Answer]) -> Wanted:
    """Return the simulations of the large rows with many tilings: the best few of the largest row that had them all."""
    ranking: dict[object, tuple[float, list[Pairs]]] = {}
    for (row, rung), jobs in wanted.items():
        timed = [(t, j) for j in jobs if isinstance(t := answers.get(j), float)]
        if len(jobs) > FEW and timed and jobs[0].work > ranking.get(_alike(row, rung), (0.0, []))[0]:
            best = sorted(timed, key=lambda item: item[0])[:FEW]
            ranking[_alike(row, rung)] = jobs[0].work, [j.options for _, j in best]
    return {key: [j for j in jobs if j.options in ranking[_alike(*key)][1]] for key, jobs in wanted.items()
            if len(jobs) > FEW and jobs[0].work > SMALL and _alike(*key) in ranking}


def _alike(row: Row, rung: Rung) -> object:
    """Return what rows that prefer the same tilings have in common."""
    work = row.workload
    kind = (work.phase, work.causal, work.head_dim) if isinstance(work, Attention) else None
    return rung, row.dataset, row.gpu, row.kernel, kind


def _check_fitted(sets: Sequence[DataSet], files: Mapping[str, str]) -> None:
    """Raise ConfigError if a hardware file was fitted on a set, or on a row, that it would predict."""
    resolved = {gpu: load_resolved(files.get(gpu, gpu)) for gpu in dict.fromkeys(r.gpu for d in sets for r in d.rows)}
    for found in resolved.values():
        for leaf in found.leaves.values():
            for data in sets:
                if leaf.fitted_on and data.name in leaf.fitted_on.replace(",", " ").split():
                    raise ConfigError(f"{leaf.where}: {'.'.join(leaf.path)} was fitted on {data.name}, whose rows it "
                                      f"would predict; validate on other rows, or fit on other ones")
    for row in (r for d in sets for r in d.rows):
        hardware = resolved[row.gpu]
        for record in hardware.records:
            if (source := record.file_of(row.digest)) is not None:
                raise ConfigError(f"{row.where}: {row.name}: {shown(hardware.file)} was fitted on this row, in "
                                  f"{source}, and would predict it; validate on other rows, or fit on other ones")


def jobs_of(row: Row, model: Model, rung: Rung, hw: str, engine: EngineName = "numba",
            clock: ClockName = "sustained") -> list[Job]:
    """Return the simulations that *rung* needs for *row*; none where it has no model of the kernel."""
    protocol = row.protocol
    if protocol.l2 == "warm" and sum(read_write_bytes(row)) > 2 * gpu_at(hw, None).l2.capacity:
        # What one run leaves in the cache is gone before the next gets there.
        protocol = replace(protocol, l2="cold")
    work = float(row.workload.flops or sum(row.stream))
    if rung == "sass":
        if model.triton is None or row.workload.flops == 0 or _is_decode(row):
            return []
        settings = _launch_settings(row)
        return [Job(hw, triton_file(model.triton.kernel), row.workload, tuple({**settings, **tiling}.items()),
                    protocol, engine, clock, True, work) for tiling in model.triton.tilings]
    if model.schedule is None:
        return []
    return [Job(hw, model.schedule, row.workload, options, protocol, engine, clock, False, work)
            for options in _tilings(row, model)]


def _tilings(row: Row, model: Model) -> Iterable[Pairs]:
    assert model.schedule is not None
    base: dict[str, Value] = dict(model.options)
    for case in model.cases:
        if case.holds(row.workload):
            base |= case.options
    base |= {n: v for n, v in row.options if n in _TRANSLATED and v != "0"}
    if isinstance(row.workload, Attention):
        only = get_schedule(model.schedule).only
        base = {n: v for n, v in base.items() if only.get(n, row.workload.phase) is row.workload.phase}
    lists = model.tilings or [dict(zip(model.sweep, values, strict=True))
                              for values in itertools.product(*model.sweep.values())]
    return [tuple({**base, **tiling}.items()) for tiling in lists]


def _is_decode(row: Row) -> bool:
    return isinstance(row.workload, Attention) and row.workload.phase is Phase.DECODE


def _launch_settings(row: Row) -> dict[str, Value]:
    """Return the sizes of *row*, a prefill or a matrix product, as the launch descriptions of kernels call them."""
    work = row.workload
    if isinstance(work, Attention):
        return {"batch": work.batch, "heads": work.q_heads, "kv_heads": work.kv_heads, "queries": work.seq_q,
                "keys": work.seq_k, "HEAD_DIM": work.head_dim, "CAUSAL": work.causal}
    assert isinstance(work, Gemm)
    return {"m": work.m, "n": work.n, "k": work.k}


def _outcome(row: Row, model: Model, rungs: Sequence[Rung], wanted: Mapping[tuple[Row, Rung], list[Job]],
             answers: Mapping[Job, Answer], files: Mapping[str, str]) -> Outcome:
    times: dict[Rung, float] = {}
    choices: dict[Rung, str] = {}
    reasons: dict[Rung, str] = {}
    for rung in rungs:
        if rung == "roofline":
            times[rung] = roofline_seconds(gpu_at(files.get(row.gpu, row.gpu), row.protocol.clock), row)
            continue
        if rung == "genz":
            seconds = genz_seconds(gpu_at(files.get(row.gpu, row.gpu), row.protocol.clock), row)
            if seconds is None:
                reasons[rung] = NO_MODEL
            else:
                times[rung] = seconds
            continue
        jobs = wanted[row, rung]
        timed = [(answers[j], j) for j in jobs]
        numbers = [(t, j) for t, j in timed if isinstance(t, float)]
        if numbers:
            times[rung], best = min(numbers, key=lambda item: item[0])
            choices[rung] = ":".join(f"{n}={v}" for n, v in best.options) if len(jobs) > 1 else ""
        elif jobs:
            reasons[rung] = str(timed[0][0])
        else:
            reasons[rung] = model.why if model.schedule is None else "no Triton kernel of this project"
    return Outcome(row, times, choices, reasons)
