"""Errors of some published rows, as JSON: ``python -m tests.sass.published_rows``.

A process of its own, since compilation wants one without Triton's interpreter.
"""

from __future__ import annotations

import json

from analysis.check_lifted import answer
from analysis.lifted_cases import TABLES

ROWS = (
    ("attention", "full 4096", "128x64 w4 s3"), ("attention", "causal 4096", "128x64 w4 s2"),
    ("matmul", "1536", "64x128x32 s4 w4"), ("softmax", "4096", ""), ("vector_add", "4096", ""),
    ("vector_add", "8388608", ""), ("vector_add", "134217728", ""), ("h100", "full 4096", "64x64 w4 s2"),
)
"""Table, row, tiling."""


def main() -> None:
    """Print the mean error of every row on the runs of its table, and why tilings were refused."""
    found = {}
    for name, label, tiling in ROWS:
        table = TABLES[name]()
        row = next(r for r in table.rows if r.label == label)
        seen = answer(row, table.runs, [tiling])
        found[f"{name} {label}"] = {
            "errors": {run.name: sum(best.errors) / len(best.errors) for run, best in seen.best.items()},
            "refused": list(seen.refused.values())}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
