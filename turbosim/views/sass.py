"""The hot loop of a lifted kernel, as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbosim.bottleneck import bound_words
from turbosim.sass.cubin import INSTRUCTION_BYTES
from turbosim.sass.hotloop import WAIT_WORDS, HotLoop, Line
from turbosim.sass.machine import Pipe, Wait
from turbosim.views.summary import bar

if TYPE_CHECKING:
    from rich.console import RenderableType

_SHORT = {Wait.STALL: "stall", Wait.SCOREBOARD: "scoreboard", Wait.GROUP: "group", Wait.BARRIER: "barrier",
          Wait.PIPE: "pipe", Wait.QUEUE: "queue", Wait.PORTS: "ports", Wait.NOT_SELECTED: "not selected"}
AT_HAND = "with all data at hand: no waiting for L2 or device memory, which turbosim lift and simulate add"
"""What the cycles of a listing are."""
LEAST = 0.05
"""Cycles of waiting below which no reason is shown."""


def listing(loop: HotLoop) -> list[str]:
    """Return a line per instruction, under what the cycles are and a header."""
    header = ("address", "cycle", "wait", "pipe", "takes", "why it waits (cycles)", "instruction")
    rows: list[tuple[str, ...]] = [header, *map(_row, loop.lines)]
    widths = [max(len(row[n]) for row in rows) for n in range(6)]
    right = (True, True, True, False, True, False)
    lines = ["  ".join([cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=False)]
                       + [row[6]]) for row in rows]
    return [f"cycles of a full SM, {AT_HAND}", "", *lines]


def _row(line: Line) -> tuple[str, ...]:
    reasons = sorted(((c, w) for w, c in line.waits.items() if c >= LEAST), key=lambda item: -item[0])
    why = ", ".join(f"{_SHORT[w]} {c:.1f}" for c, w in reasons[:3])
    no_pipe = line.pipe is Pipe.CONTROL
    return (f"{INSTRUCTION_BYTES * line.instruction.index:#06x}", f"{line.cycle:.1f}",
            f"{line.wait:.1f}" if line.wait >= LEAST else "", "" if no_pipe else line.pipe.name.lower(),
            "" if no_pipe else str(line.interval), why, str(line.instruction))


def to_table(loop: HotLoop, facts: list[tuple[str, str]], tensor_share: float | None) -> RenderableType:
    """Return what bounds the loop, under *facts* about the launch; *tensor_share* is of the peak."""
    from rich.console import Group
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    for name, value in [*facts, *_facts(loop, tensor_share)]:
        grid.add_row(name, value)
    shares = _bars(f"share of the {loop.together:.1f} cycles that each resource is taken",
                   [(name, share) for name, share in loop.shares.items() if share >= 0.005])
    total = loop.cycles
    waits = sorted(((c / total, w) for w, c in loop.waits.items() if c / total >= 0.005), key=lambda item: -item[0])
    spent = [("issuing", loop.instructions / total), *((WAIT_WORDS[w], share) for share, w in waits)]
    return Group(grid, "", shares, "", _bars("where a warp's turn goes" if loop.is_loop else "where a warp's time goes",
                                             spent))


def _bars(title: str, rows: list[tuple[str, float]]) -> RenderableType:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2))
    for name, share in rows:
        table.add_row(name, bar(share), f"{share:6.1%}")
    return table


def _facts(loop: HotLoop, tensor_share: float | None) -> list[tuple[str, str]]:
    per = "turn" if loop.is_loop else "warp"
    facts = [("code", "the innermost loop that takes most time" if loop.is_loop else "all of it: there is no loop"),
             ("share of the warps' time", f"{loop.share_of_time:.1%}"),
             (f"cycles per {per}", f"{loop.cycles:.1f}, of {loop.instructions:.0f} instructions"),
             ("warps per SM", str(loop.warps))]
    if loop.crowded:
        facts[-1] = "warps per SM", f"{loop.warps}; not all of them run this code at the same time"
        # Only a resource that needs longer than the turn took makes it so, and it is the first.
        needed = f"the {next(iter(loop.shares))} is busy for so long with one {per} of {loop.warps} warps"
        crowd = f"{loop.together:.1f} cycles per {per} or more, since {needed}"
        facts.append(("if all of them did", f"{crowd}; the shares below are of these {loop.together:.1f} cycles"))
    facts.append(("critical", bound_words(loop.critical, loop.shares)))
    if tensor_share is not None:
        facts.append(("tensor utilisation", f"{tensor_share:.1%} of the peak of its instructions"))
    return facts


def to_json(loop: HotLoop, tensor_share: float | None) -> dict[str, Any]:
    """Return the loop for machines."""
    return {
        "is_loop": loop.is_loop, "cycles_per_turn": loop.cycles, "cycles_of_shares": loop.together,
        "instructions_per_turn": loop.instructions,
        "warps_per_sm": loop.warps, "share_of_time": loop.share_of_time, "critical": loop.critical,
        "prices": AT_HAND, "tensor_utilization": tensor_share, "busy": dict(loop.shares),
        "waits": {w.name.lower(): c for w, c in loop.waits.items()},
        "instructions": [
            {"address": INSTRUCTION_BYTES * x.instruction.index, "text": str(x.instruction), "cycle": x.cycle,
             "pipe": None if x.pipe is Pipe.CONTROL else x.pipe.name.lower(), "interval": x.interval,
             "issues_per_turn": x.issues, "waits": {w.name.lower(): c for w, c in x.waits.items()}}
            for x in loop.lines]}


