"""Timelines of recorded SMs: tracks, and Chrome/Perfetto JSON of them.

A track is one serial thing: a unit of an SM, a role of a CTA slot, or the copies of one CTA slot and counter. Slices of
a track never overlap. One SM cycle is shown as one nanosecond, since viewers have no cycles.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

from turbosim.result import TICKS_PER_CYCLE, UNITS, Reason, Recording, Result
from turbosim.views.summary import reason_words


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
    recording = recording_of(result)
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


def recording_of(result: Result) -> Recording:
    """Return the records of *result*. Raises ValueError where it was simulated without any."""
    if result.recording is None:
        raise ValueError("the result has no recording; simulate with record=(sm,)")
    return result.recording
