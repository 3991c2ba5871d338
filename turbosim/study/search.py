"""Looking for the best points of a study by Optuna, over the axes that a sweep would run through.

Points are proposed in generations, whose size does not depend on the number of processes, and outcomes are told in the
order of the proposals: the same seed finds the same points, and a search that is started again finds what it had in the
journal. Each trial is another point, and where there are no more points than trials, all are tried. Points that break a
constraint, fail, or lack an objective are told as infeasible.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from turbosim.errors import ConfigError, TurbosimError, UsageError
from turbosim.processes import cores
from turbosim.study.axis import Axis, Value
from turbosim.study.constraints import all_dropped, dropped_by
from turbosim.study.failures import failures_of, told
from turbosim.study.journal import Row
from turbosim.study.objectives import NoFrontError, Objective, number, reads_baseline, record_of
from turbosim.study.pareto import front
from turbosim.study.results import needed
from turbosim.study.session import Counts, Session, rows_of
from turbosim.study.study import Study, Task

Sampler = Literal["nsga2", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("nsga2", "tpe")
PATIENCE = 4
"""Proposals in a row of points that were tried before, after which one is drawn at random."""
BREAKS = "breaks a constraint"
"""Reason of trials that are not simulated."""
GENERATIONS: dict[Sampler, int] = {"tpe": 8, "nsga2": 24}
"""Points that are proposed at once, at most."""


@dataclass(frozen=True)
class Trial:
    """One point that was tried."""

    number: int
    axes: dict[str, Value]
    record: Mapping[str, object]
    """Columns; empty where a constraint is broken."""
    values: tuple[float, ...] | None
    """Objectives, as they are; None where the point is infeasible."""
    reason: str = ""


@dataclass
class Search(Counts):
    """What a search found. It is filled while the search runs."""

    objectives: tuple[Objective, ...] = ()
    trials: list[Trial] = field(default_factory=list)
    exhausted: bool = False
    """Whether all points there are were tried."""

    @property
    def infeasible(self) -> Counter[str]:
        """Infeasible trials by reason."""
        return Counter(t.reason for t in self.trials if t.values is None)

    @property
    def front(self) -> list[Trial]:
        """Trials that none beats in all objectives, by the first one."""
        good = [t for t in self.trials if t.values is not None]
        return [good[i] for i in front([minimised(t, self.objectives) for t in good])]


def minimised(trial: Trial, objectives: tuple[Objective, ...]) -> tuple[float, ...]:
    """Return the objectives of a feasible *trial*, such that less is better."""
    assert trial.values is not None
    return tuple(o.sign * v for o, v in zip(objectives, trial.values, strict=True))


def run_search(study: Study, folder: Path, objectives: tuple[Objective, ...], *, trials: int, seed: int = 0,
               sampler: Sampler = "nsga2", jobs: int | None = None, dask: str | None = None,
               progress: Callable[[int, int], None] | None = None, into: Search | None = None) -> Search:
    """Try *trials* points of *study*, fewer where there are no more, and return what was found.

    Rows go to the journal in *folder*. Ranges without steps are continuous. Raises UsageError where Optuna is missing
    or axes are tied to each other, ConfigError if constraints drop all points, NoFrontError if none is feasible for
    another reason, and as :class:`Session`.
    """
    optuna = needed("optuna", "a search", "search")
    if trials < 1:
        raise UsageError(f"trials: must be at least 1, got {trials}")
    if study.sampling.method == "zip":
        raise UsageError(f"{study.path}: a search varies every axis by itself, and sampling: zip ties them; drop it")
    if not study.axes:
        raise UsageError(f"{study.path}: has no axes to search over")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = Search(objectives=objectives) if into is None else into
    generation = max(4, min(GENERATIONS[sampler], trials // 8))
    proposals = _Proposals(optuna, study, objectives, sampler, seed, generation, trials)
    session: Session | None = None
    with ExitStack() as stack:
        while len(found.trials) < trials and not found.exhausted:
            asked = proposals.generation(min(generation, trials - len(found.trials)))
            found.exhausted = proposals.exhausted
            tasks = {place: study.task(axes) for place, (_, axes) in enumerate(asked) if study.allows(axes)}
            wanted = list(tasks.values())
            if reads_baseline(study, tuple(o.name for o in objectives)):
                wanted += [study.task({**task.axes, **study.baseline}) for task in tasks.values()]
            if wanted and session is None:
                # The folder is left as it is by a study whose constraints no point meets.
                session = stack.enter_context(Session(study, folder, jobs=jobs or cores(), dask=dask, counts=found))
            rows = {} if session is None else rows_of(session, wanted)
            for place, (trial, axes) in enumerate(asked):
                task = tasks.get(place)
                done = (Trial(len(found.trials), axes, {}, None, BREAKS) if task is None else
                        _judged(study, len(found.trials), task, rows, objectives))
                found.trials.append(done)
                proposals.tell(trial, done)
            if progress is not None:
                progress(len(found.trials), trials)
    if all(t.values is None for t in found.trials):
        raise _none(study, found)
    return found


def _none(study: Study, found: Search) -> TurbosimError:
    """Return why no trial is feasible."""
    dropped = [t.axes for t in found.trials if t.reason == BREAKS]
    if len(dropped) == len(found.trials):
        return ConfigError(all_dropped(study, dropped, tried=not found.exhausted))
    others = [t for t in found.trials if t.reason != BREAKS]
    reason, times = Counter(t.reason for t in others).most_common(1)[0]
    if failed := {study.point_of(t.axes): t.reason for t in others if t.reason == reason and not t.record}:
        reason = told(failures_of(study, [study.task(t.axes) for t in others], failed, 1)[0])
    constraints = f"; constraints drop {len(dropped):,}: {dropped_by(study, dropped)}" if dropped else ""
    return NoFrontError(f"none of {len(found.trials):,} points has all objectives: {reason} ({times:,} of them)"
                        f"{constraints}")


def _judged(study: Study, place: int, task: Task, rows: Mapping[str, Row], objectives: tuple[Objective, ...]) -> Trial:
    row = rows[task.point]
    if row["outcome"]["status"] != "ok":
        return Trial(place, task.axes, {}, None, row["outcome"]["reason"])
    baseline = rows.get(study.point_of({**task.axes, **study.baseline})) if study.baseline else None
    record = record_of(study, row, baseline)
    values = [number(record, study, row, o.name) for o in objectives]
    for objective, value in zip(objectives, values, strict=True):
        if value is None:
            return Trial(place, task.axes, record, None, f"{objective.name} has no value")
    return Trial(place, task.axes, record, tuple(v for v in values if v is not None))


class _Proposals:
    """Optuna's proposals, each point once."""

    def __init__(self, optuna: Any, study: Study, objectives: tuple[Objective, ...], sampler: Sampler, seed: int,
                 generation: int, trials: int) -> None:
        self.space = {axis.name: _Scale(axis, optuna.distributions, study.sampling.method == "grid")
                      for axis in study.axes}
        if sampler == "nsga2":
            chosen = optuna.samplers.NSGAIISampler(population_size=max(2, generation), seed=seed)
        else:
            chosen = optuna.samplers.TPESampler(seed=seed)
        self.study = study
        self.optuna = optuna.create_study(directions=["minimize"] * len(objectives), sampler=chosen)
        self.objectives = objectives
        self.rng = random.Random(seed)
        self.asked: set[str] = set()
        self.states = optuna.trial.TrialState
        sizes = [scale.size for scale in self.space.values()]
        self.all = None if None in sizes else _product(sizes)
        self.few = self.all is not None and self.all <= trials

    @property
    def exhausted(self) -> bool:
        """Whether every point has been proposed."""
        return self.all is not None and len(self.asked) >= self.all

    def generation(self, size: int) -> list[tuple[Any, dict[str, Value]]]:
        """Return the next points, at most *size*, with what they are called at Optuna."""
        found: list[tuple[Any, dict[str, Value]]] = []
        repeats = 0
        while len(found) < size and not self.exhausted:
            if self.few:
                self.optuna.enqueue_trial(self._next())
            trial = self.optuna.ask({name: scale.distribution for name, scale in self.space.items()})
            axes = {name: scale.value(trial.params[name]) for name, scale in self.space.items()}
            point = self.study.point_of(axes)
            if point not in self.asked:
                self.asked.add(point)
                found.append((trial, axes))
                repeats = 0
                continue
            repeats += 1
            self.optuna.tell(trial, state=self.states.FAIL)
            if repeats >= PATIENCE:
                self.optuna.enqueue_trial(self._unseen())
        return found

    def _next(self) -> dict[str, Any]:
        """Return parameters of the next point in order."""
        place, parameters = len(self.asked), {}
        for name, scale in self.space.items():
            place, at = divmod(place, scale.size or 1)
            parameters[name] = scale.at(at)
        return parameters

    def _unseen(self) -> dict[str, Any]:
        """Return parameters of a point that was not proposed yet, drawn evenly."""
        while True:
            drawn = {name: scale.drawn(self.rng) for name, scale in self.space.items()}
            axes = {name: scale.value(drawn[name]) for name, scale in self.space.items()}
            if self.study.point_of(axes) not in self.asked:
                return drawn

    def tell(self, trial: Any, done: Trial) -> None:
        """Tell the outcome of a proposal."""
        trial.set_constraint("feasible", float(done.values is None))
        if done.values is None:
            # Dominated by every feasible one, whatever the values.
            self.optuna.tell(trial, [0.0] * len(self.objectives))
        else:
            self.optuna.tell(trial, list(minimised(done, self.objectives)))


class _Scale:
    """An axis as Optuna has it: a range, the places of values in order, or the places of values without one."""

    def __init__(self, axis: Axis, distributions: Any, gridded: bool) -> None:
        self.axis = axis
        self.size: int | None = None
        bounds = axis.range
        self.values: list[Value] = []
        if bounds is not None and not (gridded and axis.values):
            if bounds.whole:
                self.distribution = distributions.IntDistribution(int(bounds.low), int(bounds.high), log=bounds.log)
                self.size = int(bounds.high) - int(bounds.low) + 1
            else:
                self.distribution = distributions.FloatDistribution(bounds.low, bounds.high, log=bounds.log)
            return
        self.values = list(axis.values)
        self.size = len(self.values)
        if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in self.values):
            self.values.sort(key=float)
            self.distribution = distributions.IntDistribution(0, len(self.values) - 1)
        else:
            self.distribution = distributions.CategoricalDistribution(range(len(self.values)))

    def value(self, parameter: Any) -> Value:
        """Return the value on the axis."""
        if self.values:
            return self.values[int(parameter)]
        # As many digits as a sampled point has.
        return int(parameter) if isinstance(parameter, int) else float(f"{parameter:.12g}")

    def at(self, place: int) -> int:
        """Return the parameter of the value at *place*, where there are so many."""
        return place if self.values or self.axis.range is None else int(self.axis.range.low) + place

    def drawn(self, rng: random.Random) -> Any:
        """Return a parameter, drawn evenly."""
        if self.values:
            return rng.randrange(len(self.values))
        assert self.axis.range is not None
        return self.axis.range.at(rng.random())


def _product(sizes: list[int | None]) -> int:
    total = 1
    for size in sizes:
        total *= size or 1
    return total


def history(search: Search) -> Iterator[list[tuple[float, ...]]]:
    """Yield the objectives, minimised, of the feasible trials after each trial."""
    seen: list[tuple[float, ...]] = []
    for trial in search.trials:
        if trial.values is not None:
            seen.append(minimised(trial, search.objectives))
        yield list(seen)
