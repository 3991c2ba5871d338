"""Columns of a study's results as pictures show them: names, units, values in words, and groups of points."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turbosim.errors import UsageError, did_you_mean
from turbosim.study.evaluate import OUTCOMES
from turbosim.study.results import plain
from turbosim.study.study import Study
from turbosim.units import show
from turbosim.views.summary import reason_words

if TYPE_CHECKING:
    import pandas as pd

_WORDS = {
    "time_s": "time", "clock_hz": "clock", "cycles": "SM cycles", "flops": "useful work", "tflops": "useful throughput",
    "hbm_bytes": "device memory traffic", "hbm_gbps": "device memory throughput", "l2_bytes": "L2 traffic",
    "l2_hit_rate": "L2 hit rate", "compulsory_bytes": "compulsory traffic", "roofline_s": "time by the roofline",
    "intensity": "arithmetic intensity", "waves": "waves of CTAs", "ctas_per_sm": "CTAs per SM", "energy_j": "energy",
    "power_w": "power", "bound": "what bounds the kernel", "pipes.sfu.rate": "SFU results per SM",
    "hbm.bandwidth": "bandwidth of device memory", "l2.bandwidth": "bandwidth of L2", "l2.capacity": "capacity of L2",
    "sm.count": "SMs", "hw": "GPU", "seq": "tokens per sequence", "seq_k": "tokens per sequence", "batch": "batch",
}
_PREFIXED = {"B/s": ("B/s", "kB/s", "MB/s", "GB/s", "TB/s"), "B": ("B", "kB", "MB", "GB", "TB"),
             "Hz": ("Hz", "kHz", "MHz", "GHz"), "s": ("ns", "us", "ms", "s"), "J": ("pJ", "nJ", "uJ", "mJ", "J"),
             "FLOP": ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"), "J/B": ("pJ/B",), "J/MAC": ("pJ/MAC",)}
_SHORT = {"pipes.sfu.rate": "SFU", "hbm.bandwidth": "HBM", "l2.bandwidth": "L2", "l2.capacity": "L2", "sm.count": "SMs",
          "tensor.mma.sync.rates.int4": "INT4"}
"""Names before values, where labels are many."""
_BARE = ("hw", "kernel", "phase", "model")
_HIGHER = ("tflops", "hbm_gbps", "l2_hit_rate", "util.")


@dataclass(frozen=True)
class Column:
    """One column, with the unit that its values read best in."""

    name: str
    label: str
    """With the unit in brackets."""
    factor: float
    """Values times this are in the unit of the label."""
    dimension: str
    numeric: bool

    def values(self, frame: pd.DataFrame) -> list[Any]:
        """Return the values of the points, numbers in the unit of the label."""
        if not self.numeric:
            return [str(v) for v in frame[self.name]]
        return [float(v) * self.factor for v in frame[self.name]]


class Columns:
    """The columns of *frame*, results of *study*."""

    def __init__(self, study: Study, frame: pd.DataFrame) -> None:
        self.study = study
        self.frame = frame

    def check(self, name: str, option: str) -> str:
        """Return *name* if there is such a column. Raises UsageError, naming the *option*."""
        if name not in self.frame.columns:
            likely = did_you_mean(name, list(self.frame.columns))
            raise UsageError(f"{option}: no column {name!r}{likely}; there are the axes "
                             f"({', '.join(self.study.axis_names)}), metrics and outcomes of `turbosim results`")
        return name

    def column(self, name: str, option: str = "column", numeric: bool = False) -> Column:
        """Return the column *name*. Raises UsageError if there is none, or none that is *numeric* where it must be."""
        values = self.frame[self.check(name, option)].dropna()
        is_number = len(values) > 0 and all(isinstance(v, (int, float)) and not isinstance(v, bool)
                                            for v in values.tolist())
        if numeric and not is_number:
            raise UsageError(f"{option}: {name} has no numbers; choose a column that has")
        dimension = self.dimension(name)
        factor, unit = _unit([abs(float(v)) for v in values], dimension) if is_number else (1.0, "")
        words = self.words(name)
        if is_number and name in self.study.metrics:
            text = self.study.metrics[name].text
            return Column(name, words if text == name else f"{words} = {text}", 1.0, "", True)
        if name.startswith(("util.", "stall.")):
            return Column(name, f"{words} [%]", 100.0, "", True)
        return Column(name, f"{words} [{unit}]" if unit else words, factor, dimension, is_number)

    def dimension(self, name: str) -> str:
        """Return the unit of a column, a key of :data:`turbosim.units.UNITS` or one of its own; empty without one."""
        if name in self.study.axis_names:
            return self.study.axis(name).dimension
        return "J" if name.startswith("energy.") else OUTCOMES.get(name, "")

    def words(self, name: str) -> str:
        """Return what a column is called in a picture."""
        if name.startswith("util."):
            return f"busy share of {name[5:]}"
        if name.startswith("stall."):
            return reason_words(name[6:])
        return _WORDS.get(name, name.removeprefix("set."))

    def varying(self, frame: pd.DataFrame | None = None) -> list[str]:
        """Return the axes on which the points differ, in the order of the study."""
        frame = self.frame if frame is None else frame
        return [name for name in self.study.axis_names if frame[name].nunique(dropna=False) > 1]

    def order(self, name: str, frame: pd.DataFrame | None = None) -> list[Any]:
        """Return the values of a column that occur: an axis of words in the order of the study, others sorted."""
        found = (self.frame if frame is None else frame)[name].dropna().unique().tolist()
        if name in self.study.axis_names:
            axis = self.study.axis(name)
            known = [str(v) for v in axis.values]
            if axis.range is None and any(isinstance(v, str) for v in axis.values):
                return sorted(found, key=lambda v: known.index(str(v)) if str(v) in known else len(known))
        return sorted(found)

    def text(self, name: str, value: Any, bare: bool = False) -> str:
        """Return one value in words: ``flash``, ``batch 4``, ``hbm.bandwidth 4.8 TB/s``; *bare* leaves the name out."""
        dimension = self.dimension(name)
        value = plain(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if name in ("seq", "seq_q", "seq_k"):
                shown = f"{value // 1024}k" if value % 1024 == 0 else str(value)
                return shown if bare else f"{shown} tokens"
            if dimension in _PREFIXED:
                shown = show(value, dimension, 3)
            else:
                # Rates: 16/clk, 512 B/clk.
                shown = f"{value:g}" + ("" if dimension in ("", "TFLOP/s") or bare else
                                        dimension if dimension.startswith("/") else f" {dimension}")
        else:
            shown = str(value)
        return shown if bare or name in _BARE else f"{_SHORT.get(name, name.removeprefix('set.'))} {shown}"

    def group(self, names: Sequence[str], row: Any) -> str:
        """Return the values of *names* at *row* (a mapping) in words."""
        return ", ".join(self.text(name, row[name]) for name in names)

    def fixed(self, frame: pd.DataFrame, left_out: Sequence[str] = ()) -> str:
        """Return what all points of *frame* have in common, as far as it is worth a line under the title."""
        names = [n for n in ("hw", "kernel", "model", "phase", "batch", "seq_k") if n in frame.columns]
        parts = [self.text("seq" if n == "seq_k" else n, frame[n].iloc[0]) for n in names
                 if frame[n].nunique(dropna=False) == 1 and n not in left_out and frame[n].notna().all()]
        return ", ".join(parts)

    def baseline(self, *names: str) -> str:
        """Return what the baseline is, if the metrics *names* read it."""
        if not self.relative().intersection(names):
            return ""
        return "baseline: " + self.group(list(self.study.baseline), self.study.baseline)

    def relative(self) -> set[str]:
        """Return the metrics that read the baseline, by themselves or through others."""
        found: set[str] = set()
        for name, metric in self.study.metrics.items():
            if any(x.startswith("baseline.") or x in found for x in metric.names):
                found.add(name)
        return found

    def default_value(self) -> str:
        """Return the column that is drawn unless told: the first metric over the baseline, else the time."""
        relative = self.relative()
        return next((name for name in self.study.metrics if name in relative), "time_s")

    def is_higher_better(self, name: str) -> bool:
        """Whether more of a column is better, as far as its name tells."""
        return name.startswith(_HIGHER) or re.search(r"speed_?up|throughput", name) is not None


def _unit(values: list[float], dimension: str) -> tuple[float, str]:
    """Return the factor to, and the name of, the unit in which most values are 1 or more."""
    if dimension in ("J/B", "J/MAC"):
        return 1e12, _PREFIXED[dimension][0]
    units = _PREFIXED.get(dimension)
    filled = sorted(v for v in values if v > 0)
    if not units or not filled:
        return 1.0, dimension
    typical = filled[len(filled) // 4]
    smallest = {"s": 1e-9, "J": 1e-12}.get(dimension, 1.0)
    place = 0
    while place + 1 < len(units) and typical >= smallest * 1000.0 ** (place + 1):
        place += 1
    return 1 / (smallest * 1000.0**place), units[place]


def log_ticks(axis: Any, values: Sequence[float]) -> None:
    """Write plain numbers on a logarithmic matplotlib *axis*, and more than its decades where they are few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    few = max(values) / min(values) < 300
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(lambda v, _: f"{v:g}")
    axis.set_minor_formatter(NullFormatter())


def is_geometric(values: Sequence[float]) -> bool:
    """Whether numbers span so much that a logarithmic scale reads better."""
    return len(values) > 1 and min(values) > 0 and max(values) / min(values) >= 8
