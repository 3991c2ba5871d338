"""The loop in which a kernel spends its time, instruction by instruction, and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from turbosim.bottleneck import bound_of
from turbosim.sass.flow import Block, Loop, blocks_of, loops_of
from turbosim.sass.instruction import Instruction
from turbosim.sass.machine import Column, Kind, Pipe, Wait
from turbosim.sass.price import Prices
from turbosim.sass.product import product_of


@dataclass(frozen=True)
class Line:
    """One instruction of the loop, on average over warps and turns."""

    instruction: Instruction
    cycle: float
    """When a warp issues it, counted from the begin of its turn."""
    waits: Mapping[Wait, float]
    """Cycles that a warp waits before issuing it, by reason, per turn."""
    pipe: Pipe
    interval: int
    """Cycles that it takes the pipe for."""
    issues: float
    """Per turn: 1, but for code that is branched over."""

    @property
    def wait(self) -> float:
        """Cycles of all reasons."""
        return sum(self.waits.values())


@dataclass(frozen=True)
class HotLoop:
    """A loop, or all of a kernel that has none, as the issue-level model has replayed it with all data at hand."""

    lines: tuple[Line, ...]
    is_loop: bool
    turns: int
    """Of all warps that were replayed."""
    cycles: float
    """Of one turn of a warp."""
    warps: int
    """On the SM."""
    instructions: float
    """Issued per turn and warp."""
    peak_cycles: float | None
    """Cycles that the matrix products of a turn of all warps of the SM would take at the peak, each at that of its own
    operands' type; None without products."""
    shares: Mapping[str, float]
    """Share of :attr:`together` that each resource is taken, the largest first."""
    waits: Mapping[Wait, float]
    """Cycles of a turn of a warp, by reason."""
    share_of_time: float
    """Of the kernel's warps that the loop takes."""
    together: float
    """Cycles of a turn if all warps of the SM are in the loop: some may be in other code, and leave this one more of
    every resource than it would have then."""

    @property
    def crowded(self) -> bool:
        """Whether a turn would take longer than it has, were all warps in the loop."""
        return self.together > self.cycles

    @property
    def critical(self) -> str:
        """What bounds the loop, as :func:`turbosim.bottleneck.bound_of`."""
        return bound_of(self.shares)


def hot_loop(prices: Prices, warps: int) -> HotLoop:
    """Return the innermost loop of the replayed kernel that its warps, *warps* a CTA, spend most time in."""
    kernel, replayed = prices.kernel, prices.replayed
    blocks = blocks_of(kernel.instructions)
    spent = replayed.waits.sum(axis=1) + replayed.issues
    loops = [x for x in _innermost(loops_of(kernel.instructions, blocks)) if replayed.issues[blocks[x.first].first] > 1]

    def total(loop: Loop) -> int:
        first, last = _span(loop, blocks)
        return int(spent[first:last + 1].sum())

    chosen = max(loops, key=total, default=None)
    if chosen is not None and total(chosen) == 0:
        chosen = None
    first, last = _span(chosen, blocks) if chosen else (0, int(np.flatnonzero(replayed.issues).max()))
    share = float(spent[first:last + 1].sum() / max(1, spent.sum()))
    return _summary(prices, warps, first, last, chosen is not None, share)


def _innermost(loops: tuple[Loop, ...]) -> list[Loop]:
    return [a for a in loops if not any(a != b and a.first <= b.first and b.last <= a.last for b in loops)]


def _span(loop: Loop, blocks: tuple[Block, ...]) -> tuple[int, int]:
    return blocks[loop.first].first, blocks[loop.last].last


def _summary(prices: Prices, warps: int, first: int, last: int, is_loop: bool, share_of_time: float) -> HotLoop:
    replayed, table = prices.replayed, prices.code.table
    turns = int(replayed.issues[first])
    lines, cycle = [], 0.0
    for index in range(first, last + 1):
        issues = int(replayed.issues[index])
        waits = {w: float(replayed.waits[index, w]) / turns for w in Wait if replayed.waits[index, w]}
        cycle += sum(waits.values())
        row = table[index]
        lines.append(Line(prices.kernel.instructions[index], cycle, waits, Pipe(int(row[Column.PIPE])),
                          int(row[Column.INTERVAL]), issues / turns))
        cycle += issues / turns
    gpu, sm_warps = prices.gpu, prices.resident * warps
    per_scheduler = sm_warps / gpu.sm.schedulers
    counts = replayed.issues[first:last + 1] / turns
    body = table[first:last + 1]
    acting = prices.code.acting(warps)[first:last + 1]

    def taken(column: Column) -> float:
        return float((body[:, column] * counts * acting).sum())

    needs = {"issue slots": float(counts.sum()) * per_scheduler, "register ports": taken(Column.PORTS) * per_scheduler,
             "L1/shared memory data path": taken(Column.SHARED) * sm_warps}
    for pipe in Pipe:
        # The unit of the SM is the tensor pipe of all schedulers.
        users = np.where(body[:, Column.KIND] == Kind.UNIT_MMA, sm_warps, per_scheduler)
        busy = float((body[:, Column.INTERVAL] * counts * acting * users)[body[:, Column.PIPE] == pipe].sum())
        if busy and pipe is not Pipe.CONTROL:
            needs[PIPE_WORDS[pipe]] = busy
    together = max(cycle, *needs.values())
    products = [(p, x.issues) for x in lines if (p := product_of(x.instruction.opcode, gpu))]
    peak = sum(p.peak_cycles * issues for p, issues in products) * sm_warps if products else None
    total = {w: sum(line.waits.get(w, 0.0) for line in lines) for w in Wait}
    return HotLoop(tuple(lines), is_loop, turns, cycle, sm_warps, float(counts.sum()), peak,
                   {n: need / together for n, need in sorted(needs.items(), key=lambda item: -item[1])}, total,
                   share_of_time, together)


PIPE_WORDS = {Pipe.FMA: "FMA pipe", Pipe.HEAVY: "FMA heavy pipe", Pipe.ALU: "ALU pipe",
              Pipe.LITE: "ALU lite pipe", Pipe.FP16: "FP16 pipe", Pipe.FP64: "FP64 pipe",
              Pipe.XU: "XU pipe (MUFU, conversions)", Pipe.TENSOR: "tensor pipe", Pipe.UNIFORM: "uniform pipe",
              Pipe.MIO: "MIO queue"}
"""Names of the pipes in tables."""
WAIT_WORDS = {Wait.STALL: "stall count (fixed latencies)", Wait.SCOREBOARD: "scoreboard (variable latencies)",
              Wait.GROUP: "asynchronous group", Wait.BARRIER: "barrier", Wait.PIPE: "pipe taken",
              Wait.QUEUE: "MIO queue full", Wait.PORTS: "register ports taken",
              Wait.NOT_SELECTED: "not selected (another warp issued)"}
"""Names of the reasons in tables."""


def tensor_share(loop: HotLoop) -> float | None:
    """Return the share of the tensor cores' peak that the loop reaches; None without matrix products."""
    return None if loop.peak_cycles is None else loop.peak_cycles / loop.together
