"""The names that expressions of a study may read."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator

from turbosim.errors import did_you_mean
from turbosim.hw.fields import ROOT, Node
from turbosim.hw.override import find_field
from turbosim.power import COMPONENTS
from turbosim.result import UNITS as USED
from turbosim.result import Reason
from turbosim.schedules.registry import get_schedule
from turbosim.study import shapes
from turbosim.study.axis import Axis
from turbosim.study.evaluate import OUTCOMES
from turbosim.units import UNITS

RUN = ("clock", "launch", "l2", "engine")
SILICON = {"area_mm2": "mm2", "cost_usd": "USD"}
"""What a GPU takes to make, and units; known before a simulation."""
_WORDS = {"bw": "bandwidth", "mem": "hbm", "memory": "hbm", "dram": "hbm", "gddr": "hbm", "sms": "sm", "freq": "clock",
          "frequency": "clock", "size": "capacity", "throughput": "rate", "mufu": "sfu"}


def hardware_names() -> tuple[str, ...]:
    """Return the dotted names of all numbers and choices of a hardware file."""
    return tuple(_leaves(ROOT, ""))


def _leaves(node: Node, path: str) -> Iterator[str]:
    for name, child in node.children:
        here = f"{path}.{name}" if path else name
        if child.is_table:
            yield from _leaves(child, here)
        elif child.kind == "quantity" or path:
            yield here


def likely_field(name: str) -> str:
    """Return ``" (did you mean 'x'?)"`` for the hardware field that is spelt like *name*, or shares most words."""
    if difflib.get_close_matches(name, hardware_names(), n=1, cutoff=0.85):
        return did_you_mean(name, hardware_names())
    words = _words(name)
    scores = {field: len(words & _words(field)) - len(_words(field) - words) / 100 for field in hardware_names()}
    best = max(scores, key=lambda field: scores[field])
    return f" (did you mean {best!r}?)" if scores[best] >= 0.9 else ""


def _words(name: str) -> set[str]:
    parts = re.split(r"[._\s]+", name.lower().replace("per_clk", "rate").replace("per_clock", "rate"))
    return {_WORDS.get(part, part) for part in parts}


def point_names(axes: Iterable[Axis], kernels: Iterable[str]) -> dict[str, str]:
    """Return what a constraint may read, with the dimension of each, empty where it has none."""
    axes = list(axes)
    options = {f"set.{f.name}" for name in kernels for f in dataclasses.fields(get_schedule(name).options)}
    found = dict.fromkeys((*(a.name for a in axes), "hw", "kernel", *RUN, *shapes.ALL, "nbytes", *SILICON,
                           *sorted(options)), "")
    found |= {name: find_field(name, "")[1].dimension for name in hardware_names()}
    return found | SILICON | {"bytes": "B", "nbytes": "B"} | {a.name: a.dimension for a in axes}


def outcome_names() -> dict[str, str]:
    """Return the columns of a simulated point, with the dimension of each."""
    shares = [*(f"util.{u.value}" for u in USED), "util.l2", "util.hbm",
              *(f"stall.{r.name.lower()}" for r in Reason), "stall.kernel_launch"]
    return OUTCOMES | dict.fromkeys(shares, "") | dict.fromkeys((f"energy.{c}" for c in COMPONENTS), "J")


def column_names(axes: Iterable[Axis], kernels: Iterable[str]) -> dict[str, str]:
    """Return what a metric may read, without those defined before it, as :func:`point_names`."""
    axes = list(axes)
    names = point_names(axes, kernels) | outcome_names() | {a.name: a.dimension for a in axes}
    return names | {f"baseline.{name}": dimension for name, dimension in names.items()}


def quantity_names(axes: Iterable[Axis]) -> set[str]:
    """Return the names whose numbers need a unit, as on an axis: fields that have several, and a clock that varies.

    Columns of outcomes have theirs in their names.
    """
    found = {name: find_field(name, "")[1].dimension for name in hardware_names()}
    found |= {a.name: a.dimension for a in axes if a.name == "clock"}
    return {name for name, dimension in found.items() if dimension and len(UNITS[dimension]) > 1}
