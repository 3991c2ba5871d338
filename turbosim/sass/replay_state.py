"""How the compiled loop of :mod:`turbosim.sass.replay` lays out its state: numbers of fields and of kinds."""

from __future__ import annotations

from turbosim.sass.machine import BARRIERS, PHASES, SCOREBOARDS, Column, Kind, Pipe, Wait

# Compiled code does not know enumerations: their values as plain numbers.
(PIPE, INTERVAL, LATENCY, READ, SHARED, GLOBAL, KIND, ARGUMENT, STALL, WRITE, READ_BOARD, WAIT,
 PORTS, WARPS, WRITES) = (int(c) for c in Column)
(PLAIN, BARRIER, ARRIVE, LOAD, COPY, GROUP, WAIT_GROUP, STORE, ASYNC, WAIT_MMA, EXIT, UNIT, COMMIT, WAIT_PHASE,
 STORE_TENSOR, FENCE_TENSOR, EXPECT, BULK_LOAD, BULK_STORE) = (int(k) for k in Kind)
(W_STALL, W_BOARD, W_GROUP, W_BARRIER, W_PIPE, W_QUEUE, W_PORTS, W_OTHER) = (int(w) for w in Wait)
TENSOR, MIO, CONTROL, PIPES = int(Pipe.TENSOR), int(Pipe.MIO), int(Pipe.CONTROL), len(Pipe)
RING = 64
"""Places of a scheduler's queue that are remembered: the largest depth."""

# Fields of a warp's row of state. What a scoreboard is held for is 0, or phase << 8 | mbarrier + 1.
(ALIVE, BARRED, PC, LAST, AT, END, ISSUED, READY, RELEASED, BOARDS_FREE, GROUPS_ENDED, EARLIEST, OPEN,
 CLOSED, STORED, OPEN_LEFT, BOARD) = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 18)
HELD = BOARD + SCOREBOARDS
WAITED = HELD + SCOREBOARDS
WARP_FIELDS = WAITED + BARRIERS
# Of the ends of a warp's groups: copies, tensor work, and when tensor work has left the tensor core.
COPIES, WORK, WORK_LEFT, ENDS = range(4)
# Fields of a scheduler's row of state.
(PICK, QUEUED, NEXT, PORTS_FREE, GROUPS_UNTIL, CONFLICTS, PIPE_FREE) = range(7)
SCHEDULER_FIELDS = PIPE_FREE + PIPES
# Fields of a slot's row of state: CTA, warps that run, end of its tensor work, arrivals at its barriers, phases of its
# mbarriers that have been committed, and when each of the last ones is complete; of bulk copies, phases of the
# mbarriers that have been announced, bytes up to the end of each of the last ones, bytes that are under way or there,
# and when all of these are there.
(CTA, RUNNING, PRODUCTS, ARRIVED) = range(4)
COMMITTED = ARRIVED + BARRIERS
COMPLETE = COMMITTED + BARRIERS
ANNOUNCED = COMPLETE + BARRIERS * PHASES
EXPECTED = ANNOUNCED + BARRIERS
DELIVERED = EXPECTED + BARRIERS * PHASES
LANDED = DELIVERED + BARRIERS
SLOT_FIELDS = LANDED + BARRIERS
# Fields of the SM's state.
(PATH_FREE, L2_FREE, NEXT_CTA, LIVING, CYCLES, INSTRUCTIONS, PATH_BUSY, L2_BUSY, TENSOR_FREE, SM_FIELDS) = range(10)
# Fields of the model.
(SCHEDULERS, WINDOW, DEPTH, L2_RATE, L2_LATENCY, BARRIER_LATENCY, CTA_LATENCY,
 BULK_LATENCY, WRITE_CONFLICT) = range(9)
DONE, TOO_LONG, DEADLOCK, OVERRUN = range(4)
