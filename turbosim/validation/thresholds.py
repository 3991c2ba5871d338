"""Limits of the errors: ``analysis/thresholds.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from turbosim.errors import ConfigError, TurbosimError, UsageError, did_you_mean
from turbosim.hw.document import key_place, read_document, shown
from turbosim.units import parse
from turbosim.validation.counter_score import counter_score
from turbosim.validation.counters import COUNTERS
from turbosim.validation.predict import RUNGS, Outcome, Rung
from turbosim.validation.score import score
from turbosim.validation.tilings import tiling_score
from turbosim.workload import Attention, Phase

Quantity = Literal["mean", "p90", "tau"]
QUANTITIES: tuple[Quantity, ...] = ("mean", "p90", "tau")
"""Errors, which have a largest value; Kendall's tau over tilings, which has a least one."""
_NAMES = ("set", "gpu", "kernel", "model", "counter", "decode_above", *QUANTITIES, "aim")


class ThresholdError(TurbosimError):
    """An error is above its limit, or what should have been compared was not (exit code 4)."""

    exit_code = 4


@dataclass(frozen=True)
class Threshold:
    """Limits of one group, or of all groups of a set that *gpu* and *kernel*, unless empty, leave."""

    where: str
    """``file:line``."""
    dataset: str
    model: Rung
    limits: Mapping[Quantity, float]
    aims: Mapping[Quantity, float]
    gpu: str = ""
    kernel: str = ""
    decode_above: float | None = None
    """Only decode rows with more bytes of KV cache."""
    counter: str = ""
    """Limited are the errors of this counter instead of those of the time."""

    @property
    def scope(self) -> str:
        """What is limited, in words."""
        large = f"decode above {self.decode_above / 1e6:.0f} MB of KV" if self.decode_above is not None else ""
        return " ".join(filter(None, (self.dataset, self.gpu, self.kernel, large, self.counter)))

    def covers(self, outcome: Outcome) -> bool:
        """Return whether the limits are about this row."""
        row = outcome.row
        if row.dataset != self.dataset or self.gpu not in ("", row.gpu) or self.kernel not in ("", row.kernel):
            return False
        return self.decode_above is None or (isinstance(row.workload, Attention) and row.workload.phase is Phase.DECODE
                                             and row.workload.kv_bytes_fp16 > self.decode_above)


@dataclass(frozen=True)
class Verdict:
    """What became of a threshold."""

    threshold: Threshold
    reached: Mapping[Quantity, float]
    """Of the rows that it covers."""

    @property
    def missed(self) -> list[Quantity]:
        """The quantities that are not within their limit."""
        return [q for q, limit in self.threshold.limits.items() if not _within(q, self.reached[q], limit)]

    def aim_met(self, quantity: Quantity) -> bool | None:
        """Return whether the aim is met; None without one."""
        aim = self.threshold.aims.get(quantity)
        return None if aim is None else _within(quantity, self.reached[quantity], aim)


def _within(quantity: Quantity, reached: float, limit: float) -> bool:
    return reached >= limit if quantity == "tau" else reached <= limit


def judge(thresholds: Sequence[Threshold], outcomes: Sequence[Outcome], rungs: Sequence[Rung], partial: bool = False
          ) -> list[Verdict]:
    """Return the verdict of each threshold whose set and model were run.

    With *partial*, rows of a set may have been left out on request. Raises ThresholdError where a threshold has no row
    to judge otherwise: a gate that compares nothing would always be open.
    """
    verdicts = []
    run = {o.row.dataset for o in outcomes}
    for threshold in thresholds:
        if threshold.dataset not in run or threshold.model not in rungs:
            continue
        reached = _reached(threshold, [o for o in outcomes if threshold.covers(o)])
        if reached is not None:
            verdicts.append(Verdict(threshold, reached))
        elif not partial:
            what = " and at least three tilings of a shape" if "tau" in threshold.limits else ""
            raise ThresholdError(f"{threshold.where}: no row of {threshold.scope} has a prediction of model "
                                 f"{threshold.model}{what}; correct the names, or remove the threshold")
    return verdicts


def _reached(threshold: Threshold, outcomes: Sequence[Outcome]) -> dict[Quantity, float] | None:
    """Return what *outcomes* reach of every quantity that is limited; None where one cannot be told."""
    reached: dict[Quantity, float] = {}
    wanted = set(threshold.limits)
    if "tau" in wanted:
        tilings = tiling_score(outcomes, threshold.model)
        if tilings is None:
            return None
        reached["tau"] = tilings.mean
    if wanted - {"tau"}:
        found = counter_score(outcomes, threshold.model, threshold.counter) if threshold.counter else \
            score(outcomes, threshold.model)
        if found is None:
            return None
        reached |= {"mean": found.mean, "p90": found.p90}
    return {q: reached[q] for q in threshold.limits}


def read_thresholds(path: Path) -> list[Threshold]:
    """Return the thresholds in the YAML file *path*. Raises ConfigError with file:line:col for the first defect."""
    document = read_document(path, "threshold file")
    entries = document.get("thresholds")
    if list(document) != ["thresholds"] or not isinstance(entries, CommentedSeq):
        raise ConfigError(f"{shown(path)}:1:1: has one list, thresholds, got {', '.join(map(str, document)) or 'none'}")
    return [_threshold(path, entry, entries.lc.item(n)) for n, entry in enumerate(entries)]


def _threshold(path: Path, entry: object, place: tuple[int, int]) -> Threshold:
    where = f"{shown(path)}:{place[0] + 1}"
    if not isinstance(entry, CommentedMap):
        raise ConfigError(f"{where}:{place[1] + 1}: a threshold is a table, got {entry!r}")
    for name in entry:
        if name not in _NAMES:
            raise _at(path, entry, name, f"unknown key: not among {', '.join(_NAMES)}{did_you_mean(name, _NAMES)}")
    model = entry.get("model", "tile")
    if model not in RUNGS:
        raise _at(path, entry, "model", f"must be one of {', '.join(RUNGS)}, got {model!r}{did_you_mean(model, RUNGS)}")
    if not isinstance(entry.get("set"), str) or not any(q in entry for q in QUANTITIES):
        raise ConfigError(f"{where}:{place[1] + 1}: a threshold needs a set, and mean, p90 or tau")
    counter = entry.get("counter", "")
    if "counter" in entry and counter not in COUNTERS:
        raise _at(path, entry, "counter", f"must be one of {', '.join(COUNTERS)}, got {counter!r}"
                                          f"{did_you_mean(str(counter), COUNTERS)}")
    if counter and "tau" in entry:
        raise _at(path, entry, "tau", "is of times, not of a counter; write another threshold for it")
    aim = entry.get("aim", CommentedMap())
    if not isinstance(aim, CommentedMap):
        raise _at(path, entry, "aim", f"is a table of mean, p90 and tau, got {aim!r}")
    large = entry.get("decode_above")
    return Threshold(where, entry["set"], model, _shares(path, entry), _shares(path, aim), entry.get("gpu", ""),
                     entry.get("kernel", ""), None if large is None else _quantity(path, entry, "decode_above", "B"),
                     counter)


def _shares(path: Path, table: CommentedMap) -> dict[Quantity, float]:
    return {q: _quantity(path, table, q, "") for q in QUANTITIES if q in table}


def _quantity(path: Path, table: CommentedMap, name: str, dimension: str) -> float:
    try:
        value = parse(table[name], dimension)
    except UsageError as error:
        raise _at(path, table, name, str(error)) from None
    if value <= 0:
        raise _at(path, table, name, f"must be above 0, got {table[name]}")
    if name == "tau" and value > 1:
        raise _at(path, table, name, f"must be at most 1, got {table[name]}; it is the least rank correlation")
    return value


def _at(path: Path, table: CommentedMap, name: str, message: str) -> ConfigError:
    line, column = key_place(table, name)
    return ConfigError(f"{shown(path)}:{line}:{column}: {name}: {message}")


