"""Configurations of a kernel, ranked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turbosim.tuning import Trial

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def to_table(trials: Sequence[Trial]) -> RenderableType:
    """Return a table of the trials with a time, and one of those without, which says why."""
    from rich.console import Group

    parts: list[RenderableType] = []
    if timed := [t for t in trials if t.result]:
        parts.append(_ranking(timed))
    if failed := [t for t in trials if not t.result]:
        parts += [*([""] if timed else []), _failures(failed)]
    return Group(*parts)


def _table(trials: Sequence[Trial], names: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in (*trials[0].settings, *names):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _ranking(trials: Sequence[Trial]) -> Table:
    useful = any(t.result and t.result.useful_flops for t in trials)
    table = _table(trials, ["time", *(["TFLOP/s"] if useful else []), "of best", *_RESOURCES, "CTAs", "warps"])
    table.add_column("limited by", no_wrap=True)
    table.add_column("bound", no_wrap=True)
    best = min(t.result.time_s for t in trials if t.result)
    # One unit for the column, so that its digits can be compared.
    unit, factor = next((u for u in (("s", 1.0), ("ms", 1e3)) if best * u[1] >= 1), ("us", 1e6))
    for trial in trials:
        result = trial.result
        assert result is not None
        main = result.launches[0]
        table.add_row(*(str(v) for v in trial.settings.values()), f"{result.time_s * factor:.2f} {unit}",
                      *([f"{result.tflops:.1f}"] if useful else []), f"{best / result.time_s:.0%}", *_used(trial),
                      str(main.ctas_per_sm), str(main.ctas_per_sm * main.warps_per_cta), main.occupancy_limit,
                      result.bound)
    return table


def _failures(trials: Sequence[Trial]) -> Table:
    table = _table(trials, _RESOURCES)
    table.title, table.title_justify = f"{len(trials)} without a time", "left"
    table.add_column("why not", overflow="fold")
    for trial in trials:
        # Place and remedy are in the JSON; here they would be the same in every row.
        why = re.sub(r"^\S+\.py:\d+:\d+: ", "", trial.reason).partition(";")[0]
        table.add_row(*(str(v) for v in trial.settings.values()), *_used(trial), why)
    return table


_RESOURCES = ("registers", "spills", "shared\nmemory")


def _used(trial: Trial) -> list[str]:
    used = trial.resources
    if used is None:
        return ["", "", ""]
    spills = f"{used.spill_bytes} B" if used.spill_bytes else ""
    return [str(used.registers), spills, f"{used.smem_bytes / 1024:.1f} KiB"]


def to_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return a flat row per trial, the settings under ``settings``."""
    rows = []
    for trial in trials:
        used, result = trial.resources, trial.result
        row: dict[str, Any] = {"settings": dict(trial.settings), "time_s": None, "tflops": None, "bound": None,
                               "reason": trial.reason or None}
        for name in ("registers", "spill_bytes", "smem_bytes", "warps"):
            row[name] = getattr(used, name) if used else None
        if result is not None:
            main = result.launches[0]
            row |= {"time_s": result.time_s, "tflops": result.tflops if result.useful_flops else None,
                    "bound": result.bound, "ctas_per_sm": main.ctas_per_sm, "occupancy_limit": main.occupancy_limit,
                    "dram_bandwidth_Bps": result.dram_bandwidth_Bps, "l2_hit_rate": result.l2_hit_rate,
                    "utilization": result.utilization}
        rows.append(row)
    return rows
