"""Pictures that a study file asks for; ``turbosim sweep`` draws them when the points are done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field

from turbosim.errors import did_you_mean
from turbosim.study.places import Loc, Places, Strict

KINDS = {
    "roofline": "all points under the roofs of their GPU",
    "heatmap": "a value over two axes",
    "lines": "a value over one axis, a line for each choice on the others",
    "pareto": "two objectives, and the points that none beats in both",
    "utilisation": "busy share of every unit, per point or group",
    "stalls": "where warp-group time goes, per point or group",
}


class Picture(Strict):
    """What to draw, an entry of ``pictures``; empty columns are chosen by the kind."""

    model_config = ConfigDict(frozen=True)

    kind: str
    x: str = ""
    y: str = ""
    value: str = ""
    by: str = ""
    """Column whose values are told apart by colour, or that are one bar each."""
    where: str = ""
    """SQL condition on the points."""
    maximize: list[str] = Field([])
    """Objectives of ``pareto`` that are better when higher."""
    name: str = ""
    """Of the file, without suffix; the kind if empty."""

    @property
    def file(self) -> str:
        """Name of the file, without suffix."""
        return self.name or self.kind


def read_pictures(places: Places, entries: Sequence[Any], columns: Sequence[str]) -> tuple[Picture, ...]:
    """Return the pictures of a study file, whose results have *columns*; what is wrong is added to *places*.

    What ``where`` selects is known when there are results.
    """
    found: list[Picture] = []
    for i, entry in enumerate(entries):
        loc: Loc = ("pictures", i)
        if not isinstance(entry, dict):
            places.defect(loc, f"must be a table such as {{kind: lines, value: time_s}}, got {entry!r}")
            continue
        picture = places.valid(Picture, entry, loc)
        if picture is None:
            continue
        if picture.kind not in KINDS:
            places.defect((*loc, "kind"), f"must be one of {', '.join(KINDS)}, got {picture.kind!r}"
                                          f"{did_you_mean(picture.kind, KINDS)}")
        listed = [((key,), name) for key in ("x", "y", "value", "by")
                  for name in filter(None, getattr(picture, key).split(","))]
        for at, name in (*listed, *((("maximize", n), name) for n, name in enumerate(picture.maximize))):
            if name not in columns:
                hint = did_you_mean(name, columns) or "; axes, metrics and outcomes are, for example time_s"
                places.defect((*loc, *at), f"{name!r} is no column{hint}")
        if re.fullmatch(r"[\w-]+", picture.file) is None:
            places.defect((*loc, "name"), f"is a file name of letters, digits, - and _, got {picture.name!r}")
        elif picture.file in [p.file for p in found]:
            places.defect(loc, f"a picture is called {picture.file!r} already; give this one a name")
        found.append(picture)
    return tuple(found)
