"""``turbosim kv-size``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from turbosim.cli import common
from turbosim.errors import UsageError

EXAMPLE = common.examples("turbosim kv-size --model phi3-medium --seq 8k",
                          "turbosim kv-size --model llama3-8b --seq 128k --batch 16 --json")


def kv_size(
    model: common.Model = "phi3-medium",
    seq: Annotated[str, typer.Option(metavar="<size>", help="Cached tokens per sequence; 8k is 8192.")] = "8k",
    batch: Annotated[int, typer.Option(help="Sequences.")] = 1,
    as_json: common.Json = False,
) -> None:
    """Show the size of the KV cache in every format, with the accounting."""
    from rich.table import Table

    from turbosim.units import show
    from turbosim.views.kvsize import kv_size_rows
    from turbosim.workload import get_model

    if batch < 1:
        raise UsageError(f"--batch: must be at least 1, got {batch}")
    tokens = common.count(seq, "--seq")
    rows = kv_size_rows(get_model(model), tokens, batch)
    if as_json:
        common.emit_json([asdict(row) for row in rows])
        return
    table = Table(box=None, padding=(0, 2))
    table.add_column("format")
    for name in ("bits", "bytes/token", "ratio", f"cache of {tokens:,}", "ratio"):
        table.add_column(name, justify="right")
    table.add_column("bytes per 64-token block of K or V, one head (KIVI g32: 32)")
    for row in rows:
        items = " + ".join(f"{name} {n:,.0f}" for name, n in row.items.items())
        table.add_row(row.format, f"{row.bits_per_element:.2f}", f"{row.bytes_per_token:,.0f}", f"{row.ratio:.2f}x",
                      show(row.cache_bytes, "B"), f"{row.cache_ratio:.2f}x", items)
    common.console().print(table)
    common.console().print(
        f"{model}: all layers and KV heads. The second ratio includes the recent tokens each method keeps apart.")
