"""What the issue-level model of one SM runs: instructions with their costs, the walks of warps, and the SM itself.

Both implementations, :mod:`turbosim.sass.oracle` and :mod:`turbosim.sass.replay`, follow these rules.

- Warp *n* of the SM belongs to scheduler *n* mod the number of schedulers. A scheduler issues at most one instruction
  a cycle, of the first eligible warp after the one that it issued from last; schedulers act in order of their number.
- A warp is eligible when the stall count of its last instruction has passed, the scoreboards that its next one waits
  for are free, and the pipe of that one is free. The compiler has written dependences on fixed latencies into stall
  counts, those on variable latencies into scoreboards, so registers are not tracked.
- An instruction takes its pipe for its interval. Tensor work of warp groups is queued instead and never blocks issue;
  the operands that it reads from shared memory pass the data path meanwhile, and it ends with the later of the two.
- Accumulators of warp groups pass the write ports of the scheduler's register file, as other results do. Each register
  that another instruction writes, counted when it is issued, delays the tensor work of warp groups that the scheduler's
  tensor core has not finished by a part of a cycle; parts are summed up, and whole cycles move its end. What has left
  the tensor core is not delayed, nor are reads of shared memory or scoreboards. Schedulers are delayed one by one.
- Operands pass the read ports of the scheduler's register file, one register a cycle of each of its two banks. An
  instruction is not issued unless the ports are free within a few cycles.
- Products of one thread (tcgen05) are queued likewise, in the one tensor unit of the SM. A commit completes a phase of
  its mbarrier when all products of the CTA so far have ended. A wait for that phase does not block issue: its
  scoreboard is released when the phase is complete. Mbarriers that take turns count as one, whose *n*-th wait of a warp
  is for its *n*-th phase. A fence for tensor memory ends when the warp's stores to it have.
- A bulk copy passes the data path and the L2 server likewise, without blocking issue, and ends with the later of the
  two. Copies to shared memory are counted by an mbarrier: an arrival says how many bytes the next phase expects, and
  the phase is complete when these have arrived and those of the phases before. Copies from shared memory belong to the
  warp's open group, and end when shared memory has been read. Warps that do not act only
  issue them.
- Shared memory, shuffles and global accesses go through a queue of each scheduler, which holds so many and lets one go
  every interval, into one data path of the SM, first come first served in the order of issue. Global data then passes a
  second server, the SM's share of L2.
- Results are there a latency after the start of service. Scoreboards are released then.

Times are cycles of the SM clock; the L2 server counts in 1/64 cycles, delays by register writes in 1/1024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

TICKS = 64
CONFLICT_TICKS = 1024
"""Parts of a cycle in which delays of tensor work by register writes are counted."""
SCOREBOARDS = 6
GROUPS = 32
"""Asynchronous groups of a warp that can be outstanding."""
BARRIERS = 16
PHASES = 32
"""Completed phases of an mbarrier that are remembered; a phase further back has passed."""
NEVER = 1 << 60

Integers = NDArray[np.int64]


class Kind(IntEnum):
    """How an instruction acts on the machine beside taking time."""

    PLAIN = 0
    BARRIER = 1
    """Waits until all warps of the CTA, or *argument* >> 8 of them, have arrived at barrier *argument* & 255."""
    ARRIVE = 2
    """Arrives there without waiting."""
    LOAD = 3
    """Reads global memory into registers."""
    COPY = 4
    """Copies global to shared memory asynchronously, as part of the open group."""
    GROUP = 5
    """Closes the group of copies."""
    WAIT_GROUP = 6
    """Waits until at most *argument* groups are outstanding."""
    STORE = 7
    ASYNC_MMA = 8
    """Tensor work of a warp group; with *argument* 1 it closes the group."""
    WAIT_MMA = 9
    """Waits until at most *argument* groups of tensor work are outstanding."""
    EXIT = 10
    UNIT_MMA = 11
    """Tensor work of one thread, which the SM's unit does on operands in shared and tensor memory."""
    COMMIT = 12
    """Completes a phase of mbarrier *argument* when the CTA's tensor work so far has ended."""
    WAIT_PHASE = 13
    """Its result is there when the warp's next phase of mbarrier *argument* is complete."""
    STORE_TENSOR = 14
    """Writes tensor memory."""
    FENCE_TENSOR = 15
    """Its result is there when the warp's writes to tensor memory are."""
    EXPECT = 16
    """Lets the next phase of mbarrier *argument* & 255 expect *argument* >> 8 bytes of bulk copies."""
    BULK_LOAD = 17
    """Bulk copy to shared memory, of *argument* >> 8 bytes that mbarrier *argument* & 255 counts."""
    BULK_STORE = 18
    """Bulk copy from shared memory, as part of the open group of copies."""


class Column(IntEnum):
    """Columns of :attr:`Code.table`."""

    PIPE = 0
    INTERVAL = 1
    LATENCY = 2
    READ = 3
    SHARED = 4
    GLOBAL = 5
    """Bytes of global memory that a warp moves, in whole sectors."""
    KIND = 6
    ARGUMENT = 7
    STALL = 8
    WRITE_BARRIER = 9
    """-1 for none; so the next."""
    READ_BARRIER = 10
    WAIT = 11
    """Bit mask of scoreboards."""
    PORTS = 12
    """Cycles of the scheduler's register read ports."""
    WARPS = 13
    """Of bulk copies and what expects them: bit mask of the warps of a CTA that act."""
    WRITES = 14
    """General registers that it writes through the write ports of the scheduler's register file."""


class Pipe(IntEnum):
    """Pipes of a scheduler, as in :class:`turbosim.sass.tables.Pipe`; CONTROL is no pipe, and never busy."""

    FMA = 0
    HEAVY = 1
    ALU = 2
    LITE = 3
    FP16 = 4
    FP64 = 5
    XU = 6
    TENSOR = 7
    UNIFORM = 8
    MIO = 9
    """The queue to the data path of the SM; its interval separates departures, not issues."""
    CONTROL = 10


class Wait(IntEnum):
    """Why a warp did not issue, cycle by cycle."""

    STALL = 0
    """The compiler's stall count: fixed latencies."""
    SCOREBOARD = 1
    """A variable latency: memory, shuffles, MUFU."""
    GROUP = 2
    """Asynchronous copies or tensor work."""
    BARRIER = 3
    PIPE = 4
    """The pipe was taken by another instruction."""
    QUEUE = 5
    """The queue to shared memory was full."""
    PORTS = 6
    """The register read ports were taken by the operands of other instructions."""
    NOT_SELECTED = 7
    """The scheduler issued from another warp."""


@dataclass(frozen=True)
class Code:
    """Instructions and basic blocks of a kernel."""

    table: Integers
    """(instructions, len(Column))."""
    first: Integers
    """Index of the first instruction of each block."""
    last: Integers

    def acting(self, warps: int) -> NDArray[np.float64]:
        """Return the share of a CTA's *warps* that act when they issue each instruction: 1, but for bulk copies."""
        kinds, masks = self.table[:, Column.KIND], self.table[:, Column.WARPS].tolist()
        bulk = np.isin(kinds, (Kind.EXPECT, Kind.BULK_LOAD, Kind.BULK_STORE))
        return np.where(bulk, np.array([mask.bit_count() for mask in masks]) / warps, 1.0)


@dataclass(frozen=True)
class CtaClass:
    """CTAs that run alike: the blocks that each of their warps executes."""

    walks: tuple[NDArray[np.int32], ...]


@dataclass(frozen=True)
class SmModel:
    """The SM, as far as issue is concerned."""

    schedulers: int
    port_window: int
    """Cycles after issue within which an instruction must be able to begin to read its operands."""
    queue_depth: int
    """Instructions of one scheduler that may wait for the data path."""
    l2_rate: int
    """Bytes a cycle between this SM and L2, in 1/64 bytes."""
    l2_latency: int
    barrier_latency: int
    cta_latency: int
    bulk_latency: int = 0
    """Of a bulk copy to shared memory beyond that of a load."""
    write_conflict: int = 0
    """By which one register write delays the tensor work of warp groups on its scheduler, in 1/1024 cycles."""


@dataclass
class Replay:
    """What happened."""

    cycles: int
    """Until the last warp ended."""
    instructions: int
    """Warp instructions issued."""
    issues: Integers
    """Of every instruction: how often it was issued."""
    waits: Integers
    """(instructions, len(Wait)): cycles that warps waited before issuing it, by reason."""
    first_issue: Integers
    """Of every instruction: the cycle of its first issue, or -1."""
    pipe_busy: Integers
    """(schedulers, len(Pipe)): cycles taken."""
    data_path_busy: int
    l2_busy: int
    """In 1/64 cycles."""
    cta_ends: Integers
    cta_starts: Integers
    issue_log: list[tuple[int, int, int]] = field(default_factory=list)
    """Of the oracle only: cycle, warp and instruction of every issue."""

    @classmethod
    def empty(cls, instructions: int, schedulers: int, ctas: int) -> Replay:
        """Return the result before the first cycle."""
        return cls(0, 0, np.zeros(instructions, np.int64), np.zeros((instructions, len(Wait)), np.int64),
                   np.full(instructions, -1, np.int64), np.zeros((schedulers, len(Pipe)), np.int64), 0, 0,
                   np.zeros(ctas, np.int64), np.zeros(ctas, np.int64))


def deadlock(waiting: list[tuple[int, int]]) -> str:
    """Return the message for warps (number, next instruction) of which none can go on."""
    where = ", ".join(f"warp {warp} before instruction {pc}" for warp, pc in waiting[:4])
    return f"deadlock: every warp waits at a barrier that too few reach ({where}{', ...' if len(waiting) > 4 else ''})"
