"""Lowered launches as the arrays of the compiled engine."""

from __future__ import annotations

import numpy as np

from turbosim.engine import numba_layout as nl
from turbosim.engine.lowered import SPREADS, Instruction, Kind, LoweredLaunch, LoweredProgram, part_of

MAX_ACTORS = 16
"""Roles on an SM up to which fast-forwarding pays: more drift apart, and their snapshots are large."""


class Code:
    """The streams of a launch as tables."""

    def __init__(self, launch: LoweredLaunch, program: LoweredProgram) -> None:
        self.rows: list[list[int]] = []
        self.claim_rows: list[tuple[int, int]] = []
        self.term_rows: list[tuple[int, int]] = []
        self.duration_rows: list[int] = []
        self.program = program
        starts = []
        for stream in launch.streams:
            first = len(self.rows)
            starts.append(first)
            loops: list[int] = []
            for at, instruction in enumerate(stream, first):
                self._add(instruction, first, loops[-1] if loops else None)
                if instruction.kind is Kind.NEXT:
                    loops.pop()
                if instruction.kind is Kind.LOOP:
                    loops.append(at)
        self.table = np.array(self.rows, np.int64).ravel()
        self.claims = np.array(self.claim_rows or [(0, 0)], np.int64)
        self.terms = np.array(self.term_rows or [(0, 0)], np.int64)
        self.durations = np.array(self.duration_rows or [0], np.int64)
        self.stream_start = np.array(starts, np.int64)

    def _add(self, inst: Instruction, first: int, loop: int | None) -> None:
        memory = self.program.memory
        row = [0] * nl.COLUMNS
        row[nl.KIND] = int(inst.kind)
        row[nl.CLAIM], row[nl.CLAIMS] = len(self.claim_rows), len(inst.claims)
        row[nl.OWN], row[nl.LATENCY], row[nl.PIECES] = inst.own_ticks, inst.latency, inst.pieces
        if inst.by_residents:
            row[nl.OWN], row[nl.RESIDENT_TICKS] = len(self.duration_rows), len(inst.by_residents)
            self.duration_rows += inst.by_residents
        row[nl.COUNTER], row[nl.CODE], row[nl.SPREAD] = inst.counter, inst.code, inst.spread
        row[nl.CONFLICT] = inst.conflict
        row[nl.TENSOR], row[nl.NBYTES] = inst.tensor, inst.nbytes
        row[nl.EXTRA] = memory.bulk_latency if inst.bulk else 0
        row[nl.CONST] = inst.expr.const
        row[nl.TERM], row[nl.TERMS] = len(self.term_rows), len(inst.expr.terms)
        row[nl.SLOT], row[nl.JUMP] = inst.slot, first + inst.jump
        row[nl.LOOP_SLOT] = -1
        if loop is not None:
            head = self.rows[loop]
            row[nl.LOOP_SLOT], row[nl.LOOP_HEAD], row[nl.LOOP_NEXT] = head[nl.SLOT], loop, head[nl.JUMP] - 1
        self.rows.append(row)
        for piece in range(inst.pieces):
            self.claim_rows += [(unit, part_of(ticks, piece, inst.pieces)) for unit, ticks in inst.claims]
        self.term_rows += inst.expr.terms


def forward_state(machine: nl.Machine, launch: LoweredLaunch, sms: int, enabled: bool) -> nl.Forward:
    """Return the memory of fast-forwarding, or stand-ins of the same types where it is disabled."""
    occupancy, roles = launch.occupancy, len(launch.streams)
    actors = occupancy * roles
    enabled = enabled and actors <= MAX_ACTORS
    size = sms if enabled else 1
    counters = machine.signals.shape[1]
    data = np.zeros(counters, np.int64)
    for stream in launch.streams:
        for instruction in stream:
            if instruction.kind is Kind.LOAD:
                data[instruction.counter] = 1

    def zeros(count: int, *shape: int) -> nl.Array:
        return np.zeros((count if enabled else 1, *shape), np.int64)

    states = nl.MAX_STATES
    sums = roles * nl.REASONS + nl.UNITS + 1
    scalars = np.zeros((size, nl.FORWARD_SCALARS), np.int64)
    scalars[:, nl.STATE] = -1
    return nl.Forward(
        enabled=np.array([int(enabled)], np.int64),
        data_counter=data,
        scalars=scalars,
        counts=np.zeros(3, np.int64),
        buckets=np.full(4 * states if enabled else 1, -1, np.int64),
        states=zeros(states, nl.STATE_COLUMNS),
        roles=zeros(states, actors, 2),
        issued=zeros(states, occupancy, counters),
        sums=zeros(states, sums),
        waits=zeros(8 * states, 3),
        accesses=zeros(4 * states, 3),
        began_roles=zeros(sms, actors),
        began_issued=zeros(sms, occupancy, counters),
        began_sums=zeros(sms, sums),
        new_waits=zeros(sms, nl.MAX_WAITS, 3),
        new_accesses=zeros(sms, nl.MAX_ACCESSES, 3),
        snap_actor=zeros(states, actors, 9),
        snap_unit=zeros(states, nl.UNITS),
        snap_reads=zeros(states, SPREADS, 3),
        snap_signal=zeros(states, occupancy, counters, 2),
        snap_ring=zeros(states, occupancy, counters, nl.PENDING, 2))
