"""Programs in the engines' terms: integer ticks, unit indices, global tile numbers.

Both engines execute exactly this, so that they can only differ in how they order events. One stream is a flat list of
instructions; loops are kept as a head and a tail instruction. An *environment* is the vector of values that
expressions read: grid coordinates, loop variables, class parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from turbosim.program.program import Scheduler
from turbosim.result import UNITS

GRID_SLOTS = 5
LOOP_SLOTS = 3
PARAM_SLOTS = 6
ENV_SIZE = GRID_SLOTS + LOOP_SLOTS + PARAM_SLOTS
RATE_SHIFT = 20
"""Memory rates are whole numbers of 2**-20 ticks per byte."""
SHARE_SHIFT = 10
"""Shares are whole numbers of 2**-10."""


class Kind(IntEnum):
    """Instruction kinds of a lowered stream."""

    COMPUTE = 0
    ASYNC = 1
    LOAD = 2
    STORE = 3
    SIGNAL = 4
    WAIT = 5
    LOOP = 6
    NEXT = 7
    END = 8


@dataclass(frozen=True, slots=True)
class Expr:
    """``const + sum(coefficient * environment[slot])``."""

    const: int
    terms: tuple[tuple[int, int], ...] = ()
    """(slot, coefficient) pairs."""

    def value(self, environment: list[int]) -> int:
        """Evaluate."""
        return self.const + sum(c * environment[s] for s, c in self.terms)


ZERO = Expr(0)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. Fields that its kind does not use keep their defaults."""

    kind: Kind
    label: str = ""
    claims: tuple[tuple[int, int], ...] = ()
    """(unit index, ticks) in unit order, for COMPUTE, ASYNC, LOAD and STORE."""
    own_ticks: int = 0
    """COMPUTE: least duration, from the role's share of the sub-cores or as the program gives it."""
    spread: int = 0
    """ASYNC: ticks of shared memory that operands take, evenly over the time on the tensor cores and before what others
    ask of shared memory. The product takes this long at least."""
    latency: int = 0
    """COMPUTE, ASYNC, SIGNAL: ticks after the last unit has ended."""
    conflict: int = 0
    """COMPUTE: ticks by which its register writes delay the asynchronous products that run all the while."""
    pieces: int = 1
    counter: int = -1
    code: int = 0
    """SIGNAL and ASYNC: the reason a role gives while waiting for it. COMPUTE: the unit it names without claims."""
    tensor: int = -1
    nbytes: int = 0
    """LOAD, STORE: bytes, in whole sectors."""
    bulk: bool = False
    expr: Expr = ZERO
    """LOAD, STORE: tile index. WAIT: signals to wait for. LOOP: trip count."""
    slot: int = -1
    """LOOP, NEXT: environment slot of the loop variable."""
    jump: int = -1
    """LOOP: the instruction after its NEXT. NEXT: the first instruction of its body."""
    by_residents: tuple[int, ...] = ()
    """COMPUTE: least duration with 1, 2, ... CTAs on the SM, where it depends on them; one piece, without claims."""

    def least_ticks(self, residents: int) -> int:
        """Return the least duration of a COMPUTE that starts with *residents* CTAs on the SM."""
        return self.by_residents[min(residents, len(self.by_residents)) - 1] if self.by_residents else self.own_ticks


@dataclass(frozen=True, slots=True)
class LoweredTensor:
    """Where a tensor lies."""

    first_tile: int
    """Global number of its tile 0."""
    address: int
    """Byte address of its tile 0, a multiple of the channel interleave."""
    tile_bytes: int
    tiles: int
    rate: int
    """Service of a memory channel [2**-20 ticks/B]."""


REORDERED = 16
"""Granules of a channel that reads may be ahead of the writes they are matched with: a controller that could gather
writes for longer would turn its bus around less often."""


WRITE_LOAD = 2
"""Load of a byte that is written, in bytes that are read: a bank recovers from a write before its row can be closed."""


@dataclass(frozen=True, slots=True)
class Memory:
    """L2 and device memory in ticks."""

    l2_capacity: int
    """Bytes that shared data can occupy [B]."""
    l2_held: int
    """Bytes that L2 has of data that one SM touches each: of lines that were overwritten, it holds no more [B]."""
    dirty: int
    """Share of overwritten lines that device memory does not have yet [2**-10]."""
    l2_rate: int
    """Service of L2 [2**-20 ticks/B]."""
    hbm_rate: int
    """Service of one channel [2**-20 ticks/B]."""
    channels: int
    interleave: int
    """Consecutive bytes of one channel [B]."""
    turnaround: int
    """Further service of bytes written beside as many read [2**-20 ticks/B]."""
    loaded_latency: int
    """Further latency of reads from a channel that is full [ticks]."""
    window: int
    """Time in which the load of a channel is forgotten [ticks]."""
    l2_latency: int
    dram_latency: int
    bulk_latency: int
    """Added to bulk copies."""

    def service(self, rate: int, nbytes: int) -> int:
        """Return the ticks *nbytes* take at *rate*, rounded up."""
        return (nbytes * rate + (1 << RATE_SHIFT) - 1) >> RATE_SHIFT


@dataclass(frozen=True, slots=True)
class LoweredLaunch:
    """One launch."""

    name: str
    grid: tuple[int, ...]
    """Sizes, fastest dimension first."""
    streams: tuple[tuple[Instruction, ...], ...]
    """One per role."""
    role_names: tuple[str, ...]
    warps: int
    counters: int
    class_of: tuple[tuple[int, ...], ...]
    """Per grid dimension and coordinate, a number; a CTA's class is the sum over its coordinates."""
    class_params: tuple[tuple[int, ...], ...]
    """PARAM_SLOTS values per class."""
    occupancy: int
    occupancy_limit: str
    cta_launch: int
    """Ticks from a free slot to the first instruction."""
    overhead: int
    """Ticks before the launch."""
    fixed_busy: tuple[int, ...] = (0,) * len(UNITS)
    """Per unit, ticks of all CTAs' blocks that do not queue."""
    scheduler: Scheduler = Scheduler.SINGLE
    class_signals: tuple[tuple[int, ...], ...] = ()
    """Of persistent CTAs: per class and counter, the signals of one element of the grid."""

    @property
    def ctas(self) -> int:
        """CTAs in the grid."""
        total = 1
        for size in self.grid:
            total *= size
        return total


@dataclass(frozen=True, slots=True)
class LoweredProgram:
    """A program for one GPU at one clock."""

    sms: int
    tensors: tuple[LoweredTensor, ...]
    tiles: int
    """Tiles of all tensors."""
    memory: Memory
    launches: tuple[LoweredLaunch, ...]


SPREADS = 16
"""Products of an SM whose reads of shared memory are remembered, the latest."""
DELAYS = 4
"""Times that a product's delay by register writes is found anew, with those that are written during it."""


def channel_of(granule: int, channels: int) -> int:
    """Return the memory channel of an interleave granule.

    Aligned runs of *channels* granules use every channel once; higher address digits rotate the start, as address
    hashing does on hardware, so that power-of-two strides do not fall on one channel.
    """
    row = granule // channels
    return (granule + 7 * row + 3 * (row // channels)) % channels


def decayed(load: int, elapsed: int, window: int) -> int:
    """Return what is left of a channel's *load* [ticks of work] after *elapsed*.

    In many short steps it decays exponentially, so that a channel that always works has a load of *window*.
    """
    return load - load * min(elapsed, window) // window


def loaded_ticks(most: int, load: int, window: int) -> int:
    """Return the further latency of a read from a channel with *load*: *most* where it always works."""
    load = min(load, window)
    return most * load // window * load // window


def part_of(total: int, piece: int, pieces: int) -> int:
    """Return the ticks of *piece* when *total* is cut into whole parts that add up."""
    return total * (piece + 1) // pieces - total * piece // pieces
