"""Errors of some published rows, as JSON: ``python -m tests.sass.published_rows``.

A process of its own, since compilation wants one without Triton's interpreter.
"""

from __future__ import annotations

import json
from typing import Any

from analysis.check_lifted import answer
from analysis.lifted_cases import PCIE, TABLES
from analysis.lifting import attention

ROWS = (
    ("attention", "full 4096", "128x64 w4 s3"), ("attention", "causal 4096", "128x64 w4 s2"),
    ("matmul", "1536", "64x128x32 s4 w4"), ("matmul", "512", "32x64x32 s5 w2"), ("softmax", "256", ""),
    ("softmax", "4096", ""), ("vector_add", "4096", ""), ("vector_add", "4194304", ""), ("vector_add", "524288", ""),
    ("vector_add", "8388608", ""), ("vector_add", "16777216", ""), ("vector_add", "134217728", ""),
    ("h100", "full 4096", "64x64 w4 s4"), ("h100", "causal 512", "64x32 w4 s3"),
)
"""Table, row, tiling."""
WAVES = {"one more": (896, (15, 30, 31)), "some more": (1024, (13, 27, 31))}
"""Tokens, and heads of seven and of eight CTAs each, two to an SM: one CTA on most SMs, a wave but for a few CTAs or whole,
and with more CTAs than a wave holds, one or 32."""


def main() -> None:
    """Print the mean error of every row on each run of its table, what was refused, and the cycles of the last wave."""
    found: dict[str, Any] = {}
    for name, label, tiling in ROWS:
        table = TABLES[name]()
        row = next(r for r in table.rows if r.label == label)
        seen = answer(row, table.runs, [tiling])
        found[f"{name} {label}"] = {
            "errors": {run.name: sum(best.errors) / len(best.errors) for run, best in seen.best.items()},
            "refused": list(seen.refused.values())}
    tiling = {"block_m": 128, "block_n": 64, "warps": 4, "stages": 3}
    found["ticks"] = {name: [attention(PCIE, (1, n, n, tokens, 64), False, tiling).on(PCIE).launches[0].ticks
                             for n in heads] for name, (tokens, heads) in WAVES.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
