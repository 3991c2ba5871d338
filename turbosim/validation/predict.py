"""From rows to predictions: which simulations a row needs, and which of their times is its prediction.

Where an autotuner chose among tilings, all of them are simulated and the fastest predicted one counts: the choice is
the model's own. A row that states its tiling is predicted with that one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from turbosim.errors import ConfigError
from turbosim.schedules.registry import get_schedule
from turbosim.validation.counters import roofline_counters
from turbosim.validation.genz import NO_MODEL, check_installed, genz_seconds
from turbosim.validation.jobs import Answer, Counted, Job, Pairs, gpu_at, run_all, seconds_of, triton_file
from turbosim.validation.meta import Model, Value
from turbosim.validation.operands import HALF, operands_of
from turbosim.validation.own_options import UnmodelledError, schedule_options, triton_settings, with_own
from turbosim.validation.plausible import implausible
from turbosim.validation.roofline import read_write_bytes, roofline_seconds
from turbosim.validation.row import Row
from turbosim.validation.sets import DataSet
from turbosim.validation.unseen import check_unseen
from turbosim.workload import Attention, Gemm, Phase

if TYPE_CHECKING:
    from turbosim.engine.api import EngineName
    from turbosim.engine.lower import ClockName

Rung = Literal["roofline", "genz", "tile", "sass"]
RUNGS: tuple[Rung, ...] = ("roofline", "genz", "tile", "sass")
ANALYTICAL: tuple[Rung, ...] = ("roofline", "genz")
"""Rungs that simulate nothing."""
FEW = 3
"""Tilings that are tried on large rows, of those ranked on a smaller one."""
SMALL = 1.5e11
"""FLOPs up to which all tilings are tried."""


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
    counters: Mapping[Rung, Mapping[str, float]] = field(default_factory=dict)
    """Predicted counters, where the row has measured ones and the rung predicts some."""

    def error(self, rung: Rung) -> float:
        """Return predicted over measured time, less 1: negative is too fast."""
        return self.times[rung] / self.row.time_s - 1


@dataclass(frozen=True)
class Findings:
    """What became of all rows."""

    outcomes: tuple[Outcome, ...]
    impossible: tuple[tuple[Row, str], ...]
    """Rows that no GPU of the kind can have measured, and why; they are in no score."""
    left_out: tuple[str, ...] = ()
    """What else of the files is in no score, a sentence for each kind, with its number."""


def predict(sets: Sequence[DataSet], rungs: Sequence[Rung] = ("roofline", "tile"), *, engine: EngineName = "numba",
            clock: ClockName = "sustained", hardware: Mapping[str, str] | None = None, workers: int = 1,
            progress: Callable[[int, int], None] | None = None) -> Findings:
    """Predict every row of *sets* by each of *rungs*.

    *clock* is simulated where a row's is not known; *hardware* gives another hardware file for the rows of a GPU.
    Raises ConfigError for times that look like another unit's, and for a hardware file that was fitted on one of the
    rows, UsageError for GenZ where it is not installed.
    """
    if "genz" in rungs:
        check_installed()
    files = dict(hardware or {})
    check_unseen(sets, files)
    impossible, kept = [], []
    for data in sets:
        for row in data.rows:
            if why := implausible(gpu_at(files.get(row.gpu, row.gpu), None), row):
                impossible.append((row, why))
            else:
                kept.append((row, data.model_of(row)))
    wanted: Wanted = {(row, rung): jobs_of(row, model, rung, files.get(row.gpu, row.gpu), engine, clock)
                      for row, model in kept for rung in rungs if rung not in ANALYTICAL}
    answers = dict(run_all((job for jobs in wanted.values() for job in jobs if len(jobs) <= FEW or job.work <= SMALL),
                           workers, progress))
    wanted |= _shortened(wanted, answers)
    answers |= run_all({job for jobs in wanted.values() for job in jobs} - set(answers), workers, progress)
    return Findings(tuple(_outcome(row, model, rungs, wanted, answers, files) for row, model in kept),
                    tuple(impossible), tuple(text for data in sets for text in data.left_out()))


def check_compared(findings: Findings, rungs: Sequence[Rung]) -> None:
    """Raise ConfigError if no row was predicted: by a model that simulates, where *rungs* has one.

    Without one a table of errors would be empty, and no limit could be missed.
    """
    wanted = [rung for rung in rungs if rung not in ANALYTICAL] or rungs
    if any(rung in outcome.times for outcome in findings.outcomes for rung in wanted):
        return
    reasons = []
    if findings.impossible:
        row, why = findings.impossible[0]
        reasons.append(f"{len(findings.impossible)} of {len(findings.impossible) + len(findings.outcomes)} rows cannot "
                       f"have been measured, the first at {row.where}: {why}; check GPU, shapes and values")
    if findings.outcomes:
        first = findings.outcomes[0]
        reasons.append(f"{first.row.where}: {first.row.kernel}: {'; '.join(first.reasons[rung] for rung in wanted)}")
    raise ConfigError(f"{', '.join(wanted)}: no row could be predicted: {'; '.join(reasons)}")


Wanted = dict[tuple[Row, Rung], list[Job]]


def _shortened(wanted: Wanted, answers: Mapping[Job, Answer]) -> Wanted:
    """Return the simulations of the large rows with many tilings: the best few of the largest row that had them all."""
    ranking: dict[object, tuple[float, list[Pairs]]] = {}
    for (row, rung), jobs in wanted.items():
        timed = [(t, j) for j in jobs if (t := seconds_of(answers.get(j))) is not None]
        if len(jobs) > FEW and timed and jobs[0].work > ranking.get(_alike(row, rung), (0.0, []))[0]:
            best = sorted(timed, key=lambda item: item[0])[:FEW]
            ranking[_alike(row, rung)] = jobs[0].work, [j.options for _, j in best]
    return {key: [j for j in jobs if j.options in ranking[_alike(*key)][1]] or jobs for key, jobs in wanted.items()
            if len(jobs) > FEW and jobs[0].work > SMALL and _alike(*key) in ranking}


def _alike(row: Row, rung: Rung) -> object:
    """Return what rows that prefer the same tilings have in common."""
    work = row.workload
    kind = (work.phase, work.causal, work.head_dim) if isinstance(work, Attention) else None
    return rung, row.dataset, row.gpu, row.kernel, row.version, kind, row.dtype, row.options


def jobs_of(row: Row, model: Model, rung: Rung, hw: str, engine: EngineName = "numba",
            clock: ClockName = "sustained") -> list[Job]:
    """Return the simulations that *rung* needs for *row*; none where it has no model of the kernel."""
    protocol = row.protocol
    if protocol.l2 == "warm" and sum(read_write_bytes(row)) > 2 * gpu_at(hw, None).l2.capacity:
        # What one run leaves in the cache is gone before the next gets there.
        protocol = replace(protocol, l2="cold")
    work = float(row.workload.flops or sum(row.stream))
    if unmodelled(row, model, rung):
        return []
    lifted = rung == "sass"
    kernel = triton_file(model.triton.kernel) if lifted and model.triton else str(model.schedule)
    tilings = _launches(row, model) if lifted else _tilings(row, model)
    return [Job(hw, kernel, row.workload, tuple(options.items()), protocol, engine, clock, lifted, work,
                bool(row.counters)) for options in tilings]


def unmodelled(row: Row, model: Model, rung: Rung) -> str:
    """Return why *rung*, a simulating one, has no model of *row*; empty where it has one."""
    if model.schedule is None:
        return model.why
    try:
        operands = operands_of(row, model)
        if rung == "tile":
            schedule_options(row, model)
        elif model.triton is None or row.workload.flops == 0:
            return "no Triton kernel of this project"
        elif _is_decode(row):
            return "the Triton kernel of this project is for prefill"
        else:
            if operands not in ("", *HALF):
                return f"the Triton kernel multiplies FP16 or BF16, and the row has {row.dtype}"
            triton_settings(row, model)
    except UnmodelledError as error:
        return str(error)
    return ""


def _tilings(row: Row, model: Model) -> Sequence[dict[str, Value]]:
    assert model.schedule is not None
    base: dict[str, Value] = dict(model.options)
    if operands := operands_of(row, model):
        base["dtype"] = operands
    sweep = model.sweep
    for case in model.cases:
        if case.holds(row.workload, row.version):
            base |= case.options
            sweep = case.sweep or sweep
    if isinstance(row.workload, Attention):
        only = get_schedule(model.schedule).only
        base = {n: v for n, v in base.items() if only.get(n, row.workload.phase) is row.workload.phase}
    lists = [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
    if sweep == model.sweep and model.tilings:
        lists = model.tilings
    return with_own(({**base, **tiling} for tiling in lists), schedule_options(row, model))


def _launches(row: Row, model: Model) -> Sequence[dict[str, Value]]:
    assert model.triton is not None
    settings = _launch_settings(row)
    return with_own(({**settings, **tiling} for tiling in model.triton.tilings_of(row.workload, row.version)),
                    triton_settings(row, model))


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
    counters: dict[Rung, Mapping[str, float]] = {}
    for rung in rungs:
        if rung == "roofline":
            gpu = gpu_at(files.get(row.gpu, row.gpu), row.protocol.clock)
            times[rung] = roofline_seconds(gpu, row)
            if row.counters:
                counters[rung] = roofline_counters(gpu, row)
            continue
        if rung == "genz":
            seconds = genz_seconds(gpu_at(files.get(row.gpu, row.gpu), row.protocol.clock), row)
            if seconds is None:
                reasons[rung] = NO_MODEL
            else:
                times[rung] = seconds
            continue
        jobs = wanted[row, rung]
        numbers = [(t, j) for j in jobs if (t := seconds_of(answers[j])) is not None]
        if numbers:
            times[rung], best = min(numbers, key=lambda item: item[0])
            choices[rung] = ":".join(f"{n}={v}" for n, v in best.options) if len(jobs) > 1 else ""
            if isinstance(found := answers[best], Counted):
                counters[rung] = found.counters
        else:
            reasons[rung] = str(answers[jobs[0]]) if jobs else unmodelled(row, model, rung)
    return Outcome(row, times, choices, reasons, counters)
