"""What a search or a sensitivity looks at: a numeric column or a derived metric, and its value at a point."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from turbosim.errors import TurbosimError, UsageError, did_you_mean
from turbosim.study.axis import Kind
from turbosim.study.evaluate import OUTCOMES
from turbosim.study.journal import Row
from turbosim.study.known import SILICON, column_names
from turbosim.study.results import derived, flatten
from turbosim.study.study import Study, split_kernel

ALIASES = {"time": "time_s", "area": "area_mm2", "cost": "cost_usd", "energy": "energy_j", "power": "power_w"}
_TEXTS = ("bound", "occupancy_limit", "hw", "kernel", "model", "phase", "causal", "clock", "launch", "l2", "engine")
_UNITS = OUTCOMES | SILICON
OF_THE_WORK = ("time_s", "cycles", "energy_j", "flops", "hbm_bytes", "l2_bytes", "compulsory_bytes", "roofline_s",
               "waves")
"""Columns that grow with the work."""


class NoFrontError(TurbosimError):
    """No trial has all objectives (exit code 1)."""


@dataclass(frozen=True)
class Objective:
    """A column that is to be small, or large."""

    name: str
    maximize: bool = False

    @property
    def sign(self) -> int:
        """What a value is multiplied by to be minimised."""
        return -1 if self.maximize else 1

    @property
    def unit(self) -> str:
        """Unit, empty where there is none or it is not known."""
        return _UNITS.get(self.name, "J" if self.name.startswith("energy.") else "")


def kernels_of(study: Study) -> set[str]:
    """Return the names of the kernels of *study*."""
    texts = [str(v) for a in study.axes if a.name == "kernel" for v in a.values] or [str(study.kernel)]
    return {split_kernel(text)[0] for text in texts}


def column(study: Study, option: str, text: str) -> str:
    """Return the column called *text*, or by one of :data:`ALIASES`, for the *option*.

    Raises UsageError if *study* has no such column or it holds no numbers.
    """
    known = {**{n: None for n in column_names(study.axes, kernels_of(study)) if not n.startswith("baseline.")},
             **dict.fromkeys(study.metrics)}
    name = text if text in study.metrics else ALIASES.get(text, text)
    if name not in known:
        raise UsageError(f"{option}: {text!r} is no column of a row{did_you_mean(text, (*ALIASES, *known))}; there are "
                         f"{', '.join((*study.metrics, *OUTCOMES, *SILICON))} and others")
    if name in _TEXTS or name.endswith(".unit") or name.startswith("die.p"):
        raise UsageError(f"{option}: {text} is not a number")
    return name


def objectives(study: Study, minimize: str, maximize: str) -> tuple[Objective, ...]:
    """Return the objectives that the texts list, separated by commas.

    Raises UsageError for an unknown one, one that is given twice, and for none at all.
    """
    found: dict[str, Objective] = {}
    for option, text in (("--minimize", minimize), ("--maximize", maximize)):
        for part in filter(None, (x.strip() for x in text.split(","))):
            name = column(study, option, part)
            if name in found:
                raise UsageError(f"{option}: {part} is given twice; drop one")
            found[name] = Objective(name, option == "--maximize")
    check_comparable(study, list(found))
    if not found:
        raise UsageError("--minimize: name at least one objective, for example --minimize time_s,area_mm2")
    return tuple(found.values())


def check_comparable(study: Study, names: Sequence[str], varying: Sequence[str] | None = None) -> None:
    """Raise UsageError if one of *names* grows with the work, and the points of *study* do different work.

    They differ on all axes unless *varying* names those on which they do.
    """
    works = [a.name for a in study.axes if a.kind is Kind.WORKLOAD and (a.range is not None or len(a.values) > 1)
             and (varying is None or a.name in varying)]
    for name in names:
        if works and (name in OF_THE_WORK or name.startswith("energy.")):
            raise UsageError(
                f"{name} of points that differ in {', '.join(works)} cannot be compared: the least work would win; fix "
                "these axes, or give a metric per unit of work, such as metrics: {ns_per_token: 1e9 * time_s / batch}")


def record_of(study: Study, row: Row, baseline: Row | None) -> dict[str, object]:
    """Return *row* as one record, area, cost and derived metrics included."""
    return flatten(row) | study.silicon(row["axes"]) | derived(study, row, baseline)


def number(record: dict[str, object], study: Study, row: Row, name: str) -> float | None:
    """Return the value of the column *name*; None where it has none."""
    value = record.get(name)
    if value is None and row["outcome"]["status"] == "ok":
        if name.startswith(("stall.", "energy.")):
            return 0.0
        value = study.hardware_value(row["axes"], name)
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


def reads_baseline(study: Study, names: tuple[str, ...]) -> bool:
    """Whether a column among *names* needs the baseline of its point."""
    wanted, seen = list(names), set()
    while wanted:
        name = wanted.pop()
        if name in study.metrics and name not in seen:
            seen.add(name)
            wanted += study.metrics[name].names
    return any(n.startswith("baseline.") for name in seen for n in study.metrics[name].names)


def value_of(study: Study, row: Row, metric: Objective) -> tuple[float | None, str]:
    """Return the positive value of *metric* in *row*, or None and why there is none."""
    if row["outcome"]["status"] != "ok":
        return None, str(row["outcome"]["reason"])
    known = dataclasses.replace(study, axes=tuple(a for a in study.axes if a.name in row["axes"]), baseline={})
    found = number(record_of(known, row, None), known, row, metric.name)
    return (found, "") if found is None or found > 0 else (None, f"{metric.name} is {found:g}")
