"""Several kernels over several shapes, side by side."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turbosim.result import Result
from turbosim.units import show

if TYPE_CHECKING:
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
    """Return the busiest units on one line."""
    top = sorted(result.utilization.items(), key=lambda item: -item[1])[:count]
    return f"{result.bound}: " + ", ".join(f"{unit} {share:.0%}" for unit, share in top)


def to_table(comparisons: list[Comparison]) -> Table:
    """Return a table with a row per shape and kernel."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2))
    reference = next(iter(comparisons[0].results)) if comparisons else ""
    for name in ("batch", "seq"):
        table.add_column(name, justify="right")
    table.add_column("kernel")
    for name in ("time", f"speed-up over {reference}", "TFLOP/s", "DRAM"):
        table.add_column(name, justify="right")
    table.add_column("bound by: busiest units")
    for item in comparisons:
        for number, (label, result) in enumerate(item.results.items()):
            table.add_row("" if number else str(item.batch), "" if number else str(item.seq), label,
                          show(result.time_s, "s"), f"{item.speedup(label):.2f}x", f"{result.tflops:.1f}",
                          show(result.dram_bandwidth_Bps, "B/s"), where_time_goes(result))
    return table


def to_rows(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """Return one flat row per shape and kernel."""
    return [
        {"hw": r.hw, "kernel": label, "batch": item.batch, "seq": item.seq, "time_s": r.time_s,
         "speedup": item.speedup(label), "tflops": r.tflops, "dram_bandwidth_Bps": r.dram_bandwidth_Bps,
         "l2_hit_rate": r.l2_hit_rate, "bound": r.bound, "utilization": r.utilization, "stalls": r.stalls}
        for item in comparisons for label, r in item.results.items()
    ]


def to_csv(comparisons: list[Comparison]) -> str:
    """Return the rows as CSV, with a column per unit."""
    rows = []
    for row in to_rows(comparisons):
        del row["stalls"]
        busy = row.pop("utilization")
        rows.append(row | {f"busy_{unit}": share for unit, share in busy.items()})
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
