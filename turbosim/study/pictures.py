"""Pictures that a study file asks for; ``turbosim sweep`` draws them when the points are done."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    "roofline": "all points under the roofs of their GPU",
    "heatmap": "a value over two axes",
    "lines": "a value over one axis, a line for each choice on the others",
    "pareto": "two objectives, and the points that none beats in both",
    "utilisation": "busy share of every unit, per point or group",
    "stalls": "where warp-group time goes, per point or group",
}


@dataclass(frozen=True)
class Picture:
    """What to draw; empty columns are chosen by the kind."""

    kind: str
    x: str = ""
    y: str = ""
    value: str = ""
    by: str = ""
    """Column whose values are told apart by colour, or that are one bar each."""
    where: str = ""
    """SQL condition on the points."""
    maximize: tuple[str, ...] = ()
    """Objectives of ``pareto`` that are better when higher."""
    name: str = ""
    """Of the file, without suffix; the kind if empty."""

    @property
    def file(self) -> str:
        """Name of the file, without suffix."""
        return self.name or self.kind
