"""A picture of one recorded SM between two cycles: units, warp groups with their reasons, copies in flight.

Operations have full colours, loads and stores tints with a hatching each. Reasons have muted colours, one per unit,
solid while it serves the warp group and hatched while the group queues for it; what is no unit's is grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbosim.result import TICKS_PER_CYCLE, UNITS, Reason, Result
from turbosim.views.style import MEDIUM, OKABE_ITO, TINTS, WAITING
from turbosim.views.summary import reason_words
from turbosim.views.timeline import recording_of, tracks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Look:
    """How a kind of slice is filled."""

    colour: str
    hatch: str = ""


_FULL = (*OKABE_ITO, "#8C510A", "#7B3294", "#66A61E")
_UNIT_COLOURS = ("#4C5C78", "#A0714F", "#6F8050", "#7FA39B", "#8A7CA8", "#A5586A", "#5B93A8", "#C2A25C", "#3F6F5F",
                 "#9A8F80")
_OTHER_REASONS = {
    Reason.LATENCY: Look("#DDDDDD"), Reason.DATA_L2: Look("#F2F2F2", "...."),
    Reason.DATA_DRAM: Look("#C4C4C4", "xxxx"), Reason.MMA: Look("#F2F2F2", "oo"),
    Reason.BARRIER: Look("#F2F2F2", "||||"), Reason.CTA_LAUNCH: Look("#F2F2F2", "--"),
    Reason.DONE: Look("#FAFAFA", "\\\\"), Reason.NO_CTA: Look("#FAFAFA", "++"),
}


def operation_looks(labels: Iterable[str]) -> dict[str, Look]:
    """Return a look per operation from their labels in program order; those of waits are alike."""
    names = list(dict.fromkeys(labels))
    loads = [n for n in names if n.startswith("load")]
    stores = [n for n in names if n.startswith("store")]
    waits = [n for n in names if n.startswith(("wait", "arrive", "barrier"))]
    work = [n for n in names if n not in (*loads, *stores, *waits)]
    looks = {}
    for group, colours, hatches in ((work, _FULL, ("", "..", "oo")), (loads, TINTS, ("////", "////....")),
                                    (stores, TINTS, ("xxxx", "xxxx...."))):
        for number, name in enumerate(group):
            looks[name] = Look(colours[number % len(colours)], hatches[number // len(colours) % len(hatches)])
    return looks | dict.fromkeys(waits, Look(WAITING))


def reason_looks() -> dict[str, Look]:
    """Return a look per reason, by its words."""
    looks = dict(_OTHER_REASONS)
    for number, colour in enumerate(_UNIT_COLOURS[:len(UNITS)]):
        looks[Reason(number)] = Look(colour)
        looks[Reason(number + len(UNITS))] = Look(_paler(colour), "////")
    return {reason_words(reason.name.lower()): looks[reason] for reason in Reason}


def _paler(colour: str) -> str:
    return "#" + "".join(f"{(int(colour[i:i + 2], 16) + 2 * 255) // 3:02X}" for i in (1, 3, 5))


def figure(result: Result, begin: float, end: float, sm: int = 0, launch: int = 0) -> Figure:
    """Return the picture: a row per busy unit, role, role's reasons and copy track.

    Raises ValueError where the result was simulated without records.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    recording = recording_of(result)
    found = {k: [(s / TICKS_PER_CYCLE, e / TICKS_PER_CYCLE, name) for s, e, name, _ in v
                 if s / TICKS_PER_CYCLE < end and e / TICKS_PER_CYCLE > begin]
             for k, v in tracks(recording, launch).items() if k.startswith(f"SM{sm}/")}
    rows = [t for t in (f"SM{sm}/{u.value}" for u in UNITS) if t in found]
    rows += sorted(t for t in found if t.count("/") == 2 and "/copy " not in t)
    rows += sorted(t for t in found if "/copy " in t and found[t])
    ran = {op.op for op in recording.ops if op.launch == launch}
    operations = operation_looks(label for n, label in enumerate(recording.op_labels[launch]) if n in ran)
    reasons = reason_looks()
    fig = Figure(figsize=(13, 0.42 * len(rows) + 2.6), layout="constrained")
    axes = fig.add_subplot()
    drawn: dict[str, set[str]] = {"operations": set(), "reasons": set()}
    for y, track in enumerate(rows):
        kind, looks, height = (("reasons", reasons, 0.5) if track.endswith(" reason") else
                               ("operations", operations, 0.74))
        for name in dict.fromkeys(name for _, _, name in found[track]):
            drawn[kind].add(name)
            axes.broken_barh([(s, e - s) for s, e, other in found[track] if other == name], (y - height / 2, height),
                             facecolor=looks[name].colour, hatch=looks[name].hatch, linewidth=0.4,
                             edgecolor=MEDIUM if looks[name].hatch else "white")
    axes.set_yticks(range(len(rows)), [t.split("/", 1)[1] for t in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(begin, end)
    axes.set_xlabel("SM cycles since the launch")
    axes.set_title(f"{result.kernel} on {result.hw}, SM {sm}: units, warp groups with their reasons, copies in flight",
                   loc="left", fontsize=10)
    for kind, looks, columns in (("operations", operations, 4), ("reasons", reasons, 3)):
        handles = [Patch(facecolor=look.colour, hatch=look.hatch, edgecolor=MEDIUM if look.hatch else "white",
                         linewidth=0.4, label=name) for name, look in looks.items() if name in drawn[kind]]
        fig.legend(handles=handles, title=kind, ncols=columns, fontsize=8, title_fontsize=8, alignment="left",
                   frameon=False, handleheight=1.1,
                   loc="outside lower left" if kind == "operations" else "outside lower right")
    return fig
