"""Several kernels over several shapes, side by side."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turbosim.result import Result
from turbosim.units import show
from turbosim.views.summary import busiest_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Comparison:
    """Results of one shape, by kernel label; the first is the reference of the ratios."""

    batch: int
    seq: int
    results: dict[str, Result]

    def speedup(self, label: str) -> float:
        """Return the reference's time over the kernel's."""
        reference = next(iter(self.results.values()))
        return reference.time_s / self.results[label].time_s


def where_time_goes(result: Result, count: int = 2) -> str:
    """Return the busiest units on one line, behind the bound where that is none of them."""
    top = sorted(result.utilization.items(), key=lambda item: -item[1])[:count]
    units = ", ".join(f"{unit} {share:.0%}" for unit, share in top)
    return units if result.bound == top[0][0] else f"{result.bound}: {units}"


def to_table(comparisons: list[Comparison], console: Console) -> Table:
    """Return a table with a row per shape and kernel, with as many columns as *console* is wide enough for."""
    unlimited = console.options.update(width=10_000)
    tables = (_table(comparisons, detail) for detail in (3, 2, 1, 0))
    for table in tables:
        if console.measure(table, options=unlimited).maximum <= console.width:
            break
    return table


def _table(comparisons: list[Comparison], detail: int) -> Table:
    """Return the table: 3 is all of it, 2 names one busy unit, 1 has no memory rate, 0 no TFLOP/s and no reference."""
    from rich.table import Table

    reference = next(iter(comparisons[0].results)) if comparisons else ""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("batch", "seq", "kernel", "time", f"speed-up\nover {reference}" if detail else "speed-up",
                 *("TFLOP/s", "DRAM")[:detail], "bound:\nbusiest unit" + "s" * (detail == 3)):
        left = name == "kernel" or name.startswith("bound")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "kernel", overflow="fold")
    for item in comparisons:
        for number, (label, result) in enumerate(item.results.items()):
            rates = (f"{result.tflops:.1f}", show(result.dram_bandwidth_Bps, "B/s"))[:detail]
            table.add_row("" if number else str(item.batch), "" if number else str(item.seq), label,
                          show(result.time_s, "s"), f"{item.speedup(label):.2f}x", *rates,
                          where_time_goes(result, 2 if detail == 3 else 1))
    return table


def to_rows(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """Return one flat row per shape and kernel."""
    return [
        {"hw": r.hw, "kernel": label, "batch": item.batch, "seq": item.seq, "time_s": r.time_s,
         "speedup": item.speedup(label), "tflops": r.tflops, "dram_bandwidth_Bps": r.dram_bandwidth_Bps,
         "clock_hz": r.clock_hz, "power_w": r.power_w, "energy_j": r.total_energy_j,
         "l2_hit_rate": r.l2_hit_rate, "bound": r.bound, "busiest": busiest_json(r),
         "utilization": r.utilization, "stalls": r.stalls}
        for item in comparisons for label, r in item.results.items()
    ]


def to_csv(comparisons: list[Comparison]) -> str:
    """Return the rows as CSV, with a column per unit."""
    rows = []
    for row in to_rows(comparisons):
        del row["stalls"], row["busiest"]
        busy = row.pop("utilization")
        rows.append(row | {f"busy_{unit}": share for unit, share in busy.items()})
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
