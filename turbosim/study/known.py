"""The names that expressions of a study may read."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator

from turbosim.errors import did_you_mean
from turbosim.hw.fields import ROOT, Node
from turbosim.power import COMPONENTS
from turbosim.result import UNITS, Reason
from turbosim.schedules.registry import get_schedule
from turbosim.study import shapes
from turbosim.study.axis import Axis
from turbosim.study.evaluate import OUTCOMES

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


def point_names(axes: Iterable[Axis], kernels: Iterable[str]) -> dict[str, None]:
    """Return what a constraint may read."""
    options = {f"set.{f.name}" for name in kernels for f in dataclasses.fields(get_schedule(name).options)}
    return dict.fromkeys((*(a.name for a in axes), "hw", "kernel", *RUN, *shapes.ALL, "nbytes", *SILICON,
                          *sorted(options), *hardware_names()))


def column_names(axes: Iterable[Axis], kernels: Iterable[str]) -> dict[str, None]:
    """Return what a metric may read, without those defined before it."""
    own = [*OUTCOMES, *(f"util.{u.value}" for u in UNITS), "util.l2", "util.hbm",
           *(f"stall.{r.name.lower()}" for r in Reason), "stall.kernel_launch", *(f"energy.{c}" for c in COMPONENTS)]
    names = {**dict.fromkeys(own), **point_names(axes, kernels)}
    return names | dict.fromkeys(f"baseline.{name}" for name in names)
