"""What results depend on beside their inputs: the sources of the simulator."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_PARTS = ("compiled.py", "engine", "hw", "power.py", "program", "result.py", "roofline.py", "schedules",
          "study/evaluate.py", "study/shapes.py", "units.py", "workload")


@cache
def engine_version() -> str:
    """Return a digest of all sources that determine the row of a point; rows of another one are made again."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for part in _PARTS:
        place = package / part
        for source in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(str(source.relative_to(package)).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:12]
