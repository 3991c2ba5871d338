"""Configurations of a kernel, ranked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from turbosim.bottleneck import bound_words
from turbosim.result import Result
from turbosim.tuning import Trial
from turbosim.units import show
from turbosim.views.summary import busiest_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_EXPENDABLE = ("warps", "limited by", "of best", "shared\nmemory", "CTAs", "TFLOP/s")
"""Columns that narrow terminals do without, the first to go first."""


CLOCKS = {"sustained": "the GPU's under sustained load", "boost": "the GPU's boost clock",
          "tensor_spec": "of the vendor's tensor peak", "power": "the highest within the board's power limit, for each"}
"""Rules that choose a clock, in words."""


def heading(trials: Sequence[Trial], fixed: Mapping[str, object], clock: str) -> list[str]:
    """Return lines on what all *trials* share: the *fixed* values, and the clock with the rule it is chosen by.

    Where their work differs a line says so.
    """
    lines = [", ".join(f"{name}={value}" for name, value in fixed.items())] if fixed else []
    if clocks := sorted({t.result.clock_hz for t in trials if t.result}):
        hertz = " to ".join(dict.fromkeys((show(clocks[0], "Hz"), show(clocks[-1], "Hz"))))
        lines.append(f"clock {hertz}, {CLOCKS[clock]}")
    if len({t.result.useful_flops for t in trials if t.result}) > 1:
        lines.append("the configurations differ in their work: ranked by time all the same, TFLOP/s compares them")
    return lines


def time_unit(trials: Sequence[Trial]) -> tuple[str, float]:
    """Return the one unit of all times, so that their digits can be compared, and how many of it a second has."""
    best = min((t.result.time_s for t in trials if t.result), default=1.0)
    return next((u for u in (("s", 1.0), ("ms", 1e3)) if best * u[1] >= 1), ("us", 1e6))


def rate(result: Result) -> str:
    """Return TFLOP/s, or nothing where useful FLOPs are not known."""
    return f"{result.tflops:.1f}" if result.useful_flops else ""


def to_table(trials: Sequence[Trial], console: Console, about: Sequence[str] = ()) -> RenderableType:
    """Return a table of the trials with a time, as wide as *console* allows, and those without under each reason.

    Lines *about* them come before.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [*map(Text, about), *([""] if about else [])]
    if timed := [t for t in trials if t.result]:
        unlimited = console.options.update(width=10_000)
        for dropped in range(len(_EXPENDABLE) + 1):
            ranking = _ranking(timed, _EXPENDABLE[:dropped])
            if console.measure(ranking, options=unlimited).maximum <= console.width:
                break
        parts.append(ranking)
    if failed := [t for t in trials if not t.result]:
        parts += _failures(failed)[0 if timed else 1:]
    return Group(*parts)


def _table(rows: Sequence[dict[str, str]]) -> Table:
    """Return a table of *rows*, by column; columns that are empty everywhere are left out."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    for name in names:
        words = name in ("limited by", "bound")
        table.add_column(name, justify="left" if words else "right", no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in names))
    return table


def _ranking(trials: Sequence[Trial], without: Sequence[str]) -> Table:
    best = min(t.result.time_s for t in trials if t.result)
    unit, factor = time_unit(trials)
    rows = []
    for trial in trials:
        result = trial.result
        assert result is not None
        main = result.launches[0]
        used = _used(trial)
        columns = {
            "time": f"{result.time_s * factor:.2f} {unit}", "TFLOP/s": rate(result),
            "of best": f"{best / result.time_s:.0%}", **used, "CTAs": str(main.ctas_per_sm),
            "warps": str(main.ctas_per_sm * main.warps_per_cta), "limited by": main.occupancy_limit,
            "bound": bound_words(result.bound, result.utilization)}
        rows.append(_settings(trial) | {name: text for name, text in columns.items() if name not in without})
    return _table(rows)


_NUMBER = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:,\d{3})+|\d+)(?![\w.:])")
"""Whole numbers in reasons: none of places, addresses and registers."""


def _failures(trials: Sequence[Trial]) -> list[RenderableType]:
    """Return a blank line, a reason and a table of the trials that it is of, for each reason."""
    from rich.text import Text

    # Each configuration asks for its own number of bytes: for the same reason.
    alike: dict[str, list[Trial]] = {}
    for trial in trials:
        alike.setdefault(_NUMBER.sub("#", trial.reason), []).append(trial)
    parts: list[RenderableType] = []
    for group in alike.values():
        reason = _together([t.reason for t in group])
        parts += ["", Text(f"{len(group)} without a time: {reason}"), _table([_settings(t) | _used(t) for t in group])]
    return parts


def _together(reasons: Sequence[str]) -> str:
    """Return *reasons* that differ in their numbers as one, with a few values of each or their range."""
    columns = iter(zip(*(_NUMBER.findall(reason) for reason in reasons), strict=True))

    def values(_: re.Match[str]) -> str:
        several = sorted(set(next(columns)), key=lambda text: int(text.replace(",", "")))
        return f"{several[0]} to {several[-1]}" if len(several) > 2 else " or ".join(several)

    return _NUMBER.sub(values, reasons[0])


def _settings(trial: Trial) -> dict[str, str]:
    return {name: str(value) for name, value in trial.settings.items()}


def _used(trial: Trial) -> dict[str, str]:
    used = trial.resources
    spills = f"{used.spill_bytes} B" if used and used.spill_bytes else ""
    return {"registers": str(used.registers) if used else "", "spills": spills,
            "shared\nmemory": f"{used.smem_bytes / 1024:.1f} KiB" if used else ""}


def to_rows(trials: Sequence[Trial], fixed: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
    """Return a flat row per trial, its settings under ``settings``, what all share (*fixed*) under ``fixed``."""
    rows = []
    for trial in trials:
        used, result = trial.resources, trial.result
        row: dict[str, Any] = {"settings": dict(trial.settings), "fixed": dict(fixed or {}), "time_s": None,
                               "tflops": None, "bound": None,
                               "reason": trial.reason or None}
        for name in ("registers", "spill_bytes", "smem_bytes", "warps"):
            row[name] = getattr(used, name) if used else None
        if result is not None:
            main = result.launches[0]
            row |= {"time_s": result.time_s, "tflops": result.tflops if result.useful_flops else None,
                    "clock_hz": result.clock_hz, "power_w": result.power_w, "energy_j": result.total_energy_j,
                    "bound": result.bound, "busiest": busiest_json(result),
                    "ctas_per_sm": main.ctas_per_sm, "occupancy_limit": main.occupancy_limit,
                    "dram_bandwidth_Bps": result.dram_bandwidth_Bps, "l2_hit_rate": result.l2_hit_rate,
                    "utilization": result.utilization}
        rows.append(row)
    return rows
