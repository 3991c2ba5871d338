"""Timelines of recorded SMs: Chrome/Perfetto JSON and a picture.

A track is one serial thing: a unit of an SM, a role of a CTA slot, or the copies of one CTA slot and counter. Slices of
a track never overlap. One SM cycle is shown as one nanosecond, since viewers have no cycles.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from turbosim.result import TICKS_PER_CYCLE, UNITS, Reason, Recording, Result
from turbosim.views.summary import reason_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#8C6BB1",
            "#66A61E", "#A6761D", "#1B9E77")
_WAITING = "#DDDDDD"


def tracks(recording: Recording, launch: int) -> dict[str, list[tuple[int, int, str, str]]]:
    """Return, per track, slices (start, end, name, detail) in ticks, in order and without overlap."""
    labels, roles = recording.op_labels[launch], recording.op_roles[launch]
    out: dict[str, list[tuple[int, int, str, str]]] = {}
    for unit in recording.units:
        if unit.launch == launch and unit.end > unit.start:
            track = f"SM{unit.sm}/{UNITS[unit.unit].value}"
            out.setdefault(track, []).append(
                (unit.start, unit.end, labels[unit.op], f"slot {unit.slot}, {roles[unit.role]}"))
    for op in recording.ops:
        if op.launch == launch and op.end > op.start and _blocks(labels[op.op]):
            track = f"SM{op.sm}/slot{op.slot}/{roles[op.role]}"
            out.setdefault(track, []).append((op.start, op.end, labels[op.op], f"CTA {op.cta}"))
    for stall in recording.stalls:
        if stall.launch == launch:
            track = f"SM{stall.sm}/slot{stall.slot}/{roles[stall.role]} reason"
            name = reason_words(Reason(stall.reason).name.lower())
            out.setdefault(track, []).append((stall.start, stall.end, name, ""))
    for slices in out.values():
        slices.sort()
    return out | _copies(recording, launch)


def _blocks(label: str) -> bool:
    return not label.startswith(("load ", "store ", "arrive"))


def _copies(recording: Recording, launch: int) -> dict[str, list[tuple[int, int, str, str]]]:
    """Return copies in flight; those that overlap go to tracks of their own."""
    labels = recording.op_labels[launch]
    lanes: dict[tuple[int, int], list[list[tuple[int, int, str, str]]]] = {}
    for op in sorted(recording.ops, key=lambda r: (r.start, r.end, r.op)):
        if op.launch != launch or not labels[op.op].startswith(("load ", "store ")):
            continue
        place = lanes.setdefault((op.sm, op.slot), [])
        free = next((lane for lane in place if lane[-1][1] <= op.start), None)
        if free is None:
            place.append(free := [])
        free.append((op.start, op.end, labels[op.op], f"CTA {op.cta}"))
    return {f"SM{sm}/slot{slot}/copy {number}": lane for (sm, slot), place in lanes.items()
            for number, lane in enumerate(place)}


def chrome_trace(result: Result) -> dict[str, Any]:
    """Return the trace of the recorded SMs for chrome://tracing or ui.perfetto.dev."""
    recording = _recording(result)
    events: list[dict[str, Any]] = []
    offset = 0
    for launch, item in enumerate(result.launches):
        offset += item.overhead_ticks
        processes: dict[str, int] = {}
        for number, (track, slices) in enumerate(sorted(tracks(recording, launch).items())):
            group = track.split("/")[0]
            pid = processes.setdefault(group, launch * 1000 + len(processes) + 1)
            events.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": number, "args": {"name": track}})
            for start, end, name, detail in slices:
                events.append({"ph": "X", "pid": pid, "tid": number, "name": name,
                               "ts": (offset + start) / TICKS_PER_CYCLE / 1e3,
                               "dur": (end - start) / TICKS_PER_CYCLE / 1e3,
                               "args": {"detail": detail, "cycles": (end - start) / TICKS_PER_CYCLE}})
        events += [{"ph": "M", "name": "process_name", "pid": pid, "args": {"name": f"{item.name}: {group}"}}
                   for group, pid in processes.items()]
        offset += item.ticks
    return {"traceEvents": events, "displayTimeUnit": "ns",
            "otherData": {"hw": result.hw, "kernel": result.kernel, "clock_hz": result.clock_hz,
                          "time_unit": "1 ns is 1 SM cycle"}}


def chrome_trace_bytes(result: Result, compress: bool) -> bytes:
    """Return the trace as JSON, gzip-compressed on request."""
    data = json.dumps(chrome_trace(result), separators=(",", ":")).encode()
    return gzip.compress(data, mtime=0) if compress else data


def figure(result: Result, begin: float, end: float, sm: int = 0, launch: int = 0) -> Figure:
    """Return a picture of one SM between two cycles: a row per busy unit, role and copy track."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = [u.value for u in UNITS]
    found = {k: v for k, v in tracks(_recording(result), launch).items() if k.startswith(f"SM{sm}/")}
    rows = [t for t in (f"SM{sm}/{n}" for n in names) if t in found]
    rows += sorted(t for t in found if t.count("/") == 2 and "copy" not in t)
    rows += sorted(t for t in found if "/copy " in t
                   and any(s / TICKS_PER_CYCLE < end and e / TICKS_PER_CYCLE > begin for s, e, _, _ in found[t]))
    colours: dict[str, str] = {}
    fig = Figure(figsize=(13, 0.42 * len(rows) + 1.9), layout="constrained")
    axes = fig.add_subplot()
    for y, track in enumerate(rows):
        for start, stop, name, _ in found[track]:
            low, high = start / TICKS_PER_CYCLE, stop / TICKS_PER_CYCLE
            if high < begin or low > end:
                continue
            idle = name.startswith(("wait", "queue", "barrier", "own", "no CTA", "ended", "CTA", "kernel"))
            if not idle and name not in colours and not name.startswith("running"):
                colours[name] = _PALETTE[len(colours) % len(_PALETTE)]
            colour = _WAITING if idle else colours.get(name, "#777777")
            axes.barh(y, high - low, left=low, height=0.72, color=colour, edgecolor="white", linewidth=0.4)
    axes.set_yticks(range(len(rows)), [t.split("/", 1)[1] for t in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(begin, end)
    axes.set_xlabel("SM cycles since the launch")
    axes.set_title(f"{result.kernel} on {result.hw}, SM {sm}: units, warp groups with their reasons, copies in flight",
                   loc="left", fontsize=10)
    handles = [Patch(color=c, label=n) for n, c in colours.items()]
    handles += [Patch(color="#777777", label="running (reason rows)"), Patch(color=_WAITING, label="waiting, latency")]
    fig.legend(handles=handles, loc="outside lower center", ncols=7, fontsize=8, frameon=False)
    return fig


def _recording(result: Result) -> Recording:
    if result.recording is None:
        raise ValueError("the result has no recording; simulate with record=(sm,)")
    return result.recording
