"""Names for the columns and scalars of the compiled engine's arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from turbosim import result
from turbosim.hw.names import Unit

Array = npt.NDArray[np.int64]


# Columns of the instruction table.
(KIND, CLAIM, CLAIMS, OWN, LATENCY, PIECES, COUNTER, CODE, TENSOR, NBYTES, EXTRA, CONST, TERM, TERMS, SLOT, JUMP,
 RESIDENT_TICKS, LOOP_SLOT, LOOP_HEAD, LOOP_NEXT, SPREAD, CONFLICT) = range(22)
COLUMNS = 22
"""OWN of an instruction whose duration depends on the CTAs on the SM is where its RESIDENT_TICKS durations begin."""

# Instruction kinds, as in lowered.Kind.
COMPUTE, ASYNC, LOAD, STORE, SIGNAL, WAIT, LOOP, NEXT, END = range(9)

# Scalars of a launch.
(ROLES, COUNTERS, CTAS, CTA_LAUNCH, DIMS, L2_CAPACITY, L2_RATE, HBM_RATE, CHANNELS, INTERLEAVE, L2_LATENCY,
 DRAM_LATENCY, TURNAROUND, OCCUPANCY, STRIDE, DIRTY_SHARE, CONFLICTS, LOADED_LATENCY, LOAD_WINDOW) = range(19)
"""STRIDE: of persistent CTAs through the grid; -1 if they take its elements in turn, 0 if there are none. CONFLICTS:
whether any block delays products."""

# Scalars of the state; also carries sums.
(NEXT_CTA, L2_FREE, L2_USED, DRAINED, L2_BUSY, HBM_BUSY, READ, HIT, WRITE, DRAM_READ, DRAM_WRITE, STATUS, N_OPS,
 N_UNITS, N_STALLS, FINISHED, USES_BEGIN, USES_END, FREED, FREED_AT, FOREIGN, EVICTED) = range(22)
STATES = 22

# Status codes.
OK, COUNTER_WINDOW, RECORDS_FULL = range(3)

# Units and reasons, as in result.UNITS and result.Reason.
UNITS = 10
TENSOR_UNIT, SMEM_UNIT = result.UNITS.index(Unit.TENSOR), result.UNITS.index(Unit.SMEM)
LATENCY_REASON, DATA_L2, DATA_DRAM, MMA_REASON, BARRIER, LAUNCH_REASON, DONE, NO_CTA = range(20, 28)
REASONS = 28

WINDOW = 32
"""Signals of a counter whose completion is remembered; a power of two."""
ACTOR_BITS = 21
NEVER = np.iinfo(np.int64).max
GRID_SLOTS, LOOP_SLOTS, PARAM_SLOTS = 5, 3, 6

# Fast-forwarding: what an SM is doing.
IDLE, RECORDING, FORWARD = range(3)

# Fast-forwarding: scalars of an SM.
MODE, STATE, STATE_AT, CLEAN, WAITS, ACCESSES, MISSES, FAILURES, SKIP = range(9)
FORWARD_SCALARS = 9
"""STATE: the known state that the SM was in at tick STATE_AT, -1 if there is none; CLEAN: what has been recorded since
can be repeated; MISSES: known or new states in a row from which the SM did not go forward."""

# Fast-forwarding: a known state, and the segment from it to the next.
(DIGEST, SEGMENT, FOLLOWER, TICKS, TURN_ROLE, FIRST_WAIT, WAITS_HERE, FIRST_ACCESS, ACCESSES_HERE, TIMES,
 READS_KEPT, TRIES) = range(12)
STATE_COLUMNS = 12
"""TIMES: how often the segment has been repeated; TRIES: how often it was to be recorded."""

# Fast-forwarding: what there is of known states, waits and accesses.
KNOWN, KNOWN_WAITS, KNOWN_ACCESSES = range(3)

# Fields that are used together lie together: the replay is bound by cache misses.
RESIDENT, READY, LAST_USE = range(3)
"""Of a tile: bytes in L2 (0: none), tick at which it is there, and where in the log of uses its last one stands."""
FREE_AT, READ_BEFORE, LOADED_AT, LOADED = range(4)
CHANNEL_COLUMNS = 4
ISSUED, LAST_DONE, LAST_CODE = range(3)
RING_DONE, RING_CODE = range(2)
READ_START, READ_END, READ_TICKS = range(3)
WRITE_START, WRITE_END, WRITE_TICKS = range(3)
ACCESS_AT, ACCESS_AHEAD, ACCESS_OWN = range(3)
"""Of an access: instruction, tiles ahead of what its expression gives at the start of the segment, end of the SM's own
units after its issue."""
WAIT_TICKS, WAIT_COUNTER, WAIT_UNTIL = range(3)
"""Of a wait for data: ticks after the start of the segment, slot and counter, signal relative to those issued then."""
LOOP_OF, TURNS_OF = range(2)
"""Of a role in a segment: environment slot of its loop, -1 if it has ended; turns of the loop that it begins."""
SNAP_LAST, SNAP_CODE = range(2)

MAX_STATES = 1 << 12
"""Known states of a launch."""
MAX_ACCESSES = 24
"""Memory accesses of a turn."""
MAX_WAITS = 48
"""Waits for data of a segment."""
PENDING = 4
"""Signals per non-data counter that may be incomplete in a known state."""


class Machine(NamedTuple):
    """State of one launch."""

    config: Array
    state: Array
    table: Array
    claims: Array
    terms: Array
    durations: Array
    stream_start: Array
    grid: Array
    class_of: Array
    class_params: Array
    tensor_first: Array
    tensor_address: Array
    tensor_bytes: Array
    tensor_rate: Array
    tree: Array
    pc: Array
    piece: Array
    env: Array
    trips: Array
    op_start: Array
    blocked_on: Array
    blocked_until: Array
    blocked_since: Array
    signals: Array
    """Per slot and counter ISSUED, LAST_DONE, LAST_CODE."""
    rings: Array
    """Per slot and counter the last WINDOW signals: RING_DONE, RING_CODE."""
    slot_cta: Array
    role_cta: Array
    """Per actor the element of the grid that it is at."""
    following: Array
    """Dynamic: per element of the grid the one that its CTA takes next; 0 before it does, -1 if there is none."""
    earlier: Array
    """Per actor and counter the signals of the elements that it has ended in its CTA."""
    class_signals: Array
    """Per class and counter the signals of an element."""
    roles_left: Array
    role_end: Array
    slot_free: Array
    residents: Array
    """CTAs on each SM, from the tick in which they are given to it to the end of that in which they end."""
    freed: Array
    """The FREED slots whose CTAs have ended at tick FREED_AT, in the order of their numbers."""
    unit_free: Array
    reads: Array
    """Per SM the latest SPREADS products that read shared memory: READ_START, READ_END, READ_TICKS."""
    read_count: Array
    """Per SM the products that read shared memory."""
    writes: Array
    """Per actor the latest part of a block that delays products: WRITE_START, WRITE_END, WRITE_TICKS."""
    busy: Array
    """Per SM and unit."""
    ops: Array
    """Per SM."""
    reasons: Array
    """Per SM, role and reason."""
    channels: Array
    """Per channel FREE_AT; READ_BEFORE: bytes read that no write has been matched with; LOADED_AT and LOADED: its
    last access, and its load after that."""
    tiles: Array
    """Per tile RESIDENT, READY, LAST_USE."""
    uses: Array
    """Log of tiles used, oldest first, from USES_BEGIN to USES_END; only the last use of a tile counts."""
    sm_last_end: Array
    recorded: Array
    op_log: Array
    unit_log: Array
    stall_log: Array
    slot_of: Array
    sm_of: Array


class Forward(NamedTuple):
    """What fast-forwarding knows of a launch."""

    enabled: Array
    data_counter: Array
    """1 for counters that copies signal, per counter."""
    scalars: Array
    """Per SM."""
    counts: Array
    buckets: Array
    """A hash table of the known states by their digests, whose length is a power of two; -1 where there is none."""
    states: Array
    """Per known state DIGEST to TRIES."""
    roles: Array
    """Per known state and role on the SM LOOP_OF, TURNS_OF."""
    issued: Array
    """Per known state, slot and counter that no copy signals: signals of the segment."""
    sums: Array
    """Per known state what its segment adds to the SM's reasons, busy units and operations."""
    waits: Array
    accesses: Array
    began_roles: Array
    """Per SM: variables of the roles' loops when the present recording began, and in the same way what follows."""
    began_issued: Array
    began_sums: Array
    new_waits: Array
    """Per SM the waits of the present recording."""
    new_accesses: Array
    snap_actor: Array
    """Of known states, with times and counts relative to the state's."""
    snap_unit: Array
    snap_reads: Array
    snap_signal: Array
    """Per slot and counter SNAP_LAST, SNAP_CODE."""
    snap_ring: Array
    """Per slot and counter the last PENDING signals: RING_DONE, RING_CODE."""
