"""In which values two hardware files differ."""

from __future__ import annotations

from pathlib import Path

from turbosim.hw.load import load_resolved


def diff_gpus(first: str | Path, second: str | Path) -> dict[str, tuple[str | None, str | None]]:
    """Return, per dotted path whose value differs, the texts of *first* and *second* (None where one has no value).

    Values are compared in SI units, so ``1 TB/s`` equals ``1000 GB/s``; names and sources are not compared. Raises as
    :func:`turbosim.hw.load_gpu`.
    """
    a, b = load_resolved(first).leaves, load_resolved(second).leaves
    return {
        ".".join(path): (a[path].text if path in a else None, b[path].text if path in b else None)
        for path in dict.fromkeys([*a, *b])
        if path != ("name",) and (path not in a or path not in b or a[path].value != b[path].value)
    }
