"""The compiled SM model against the plain one, on generated programs; and single rules on programs of a few lines."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turbosim.errors import SimulationError
from turbosim.sass import oracle, replay
from turbosim.sass.machine import Code, Column, CtaClass, Kind, Pipe, Replay, SmModel, Wait

MODEL = SmModel(schedulers=1, port_window=2, queue_depth=4, l2_rate=64 * 64, l2_latency=200, barrier_latency=20,
                cta_latency=0)
ENDS = Kind.EXIT, Kind.ARRIVE, Kind.COMMIT, Kind.WAIT_PHASE, Kind.EXPECT, Kind.BULK_LOAD
"""Kinds that generated programs draw only where they cannot leave a barrier waiting for ever."""
ASYNC = Kind.ASYNC_MMA, Kind.UNIT_MMA
BULK = Kind.BULK_LOAD, Kind.BULK_STORE
MBARRIERS = 2
"""Of generated programs, for products; bulk copies have one more."""


def line(**fields: int) -> list[int]:
    """Return a row of the table, of a plain instruction of interval 1 where nothing else is said."""
    row = dict.fromkeys((c.name for c in Column), 0) | {
        "PIPE": Pipe.ALU, "INTERVAL": 1, "STALL": 1, "WRITE_BARRIER": -1, "READ_BARRIER": -1}
    return [row[c.name] if c.name not in fields else int(fields[c.name]) for c in Column]


EXIT = line(PIPE=Pipe.CONTROL, KIND=Kind.EXIT)


def straight(*lines: list[int]) -> Code:
    """Return a program of one block that ends with EXIT."""
    return Code(np.array([*lines, EXIT], np.int64), np.array([0]), np.array([len(lines)]))


def warps(count: int) -> list[CtaClass]:
    """Return one class of CTAs whose *count* warps run block 0."""
    walk = np.array([0], np.int32)
    return [CtaClass((walk,) * count)]


@st.composite
def rows(draw: st.DrawFn, kinds: tuple[Kind, ...] = tuple(k for k in Kind if k not in ENDS)) -> list[int]:
    kind = draw(st.sampled_from(kinds))
    pipe = {Kind.LOAD: Pipe.MIO, Kind.COPY: Pipe.MIO, Kind.STORE: Pipe.MIO, Kind.ASYNC_MMA: Pipe.TENSOR,
            Kind.UNIT_MMA: Pipe.TENSOR, Kind.BULK_LOAD: Pipe.MIO, Kind.BULK_STORE: Pipe.MIO}.get(kind, draw(st.sampled_from(list(Pipe))))
    small = st.integers(0, 9)
    return line(
        PIPE=pipe, INTERVAL=draw(small), LATENCY=draw(st.integers(0, 40)), READ=draw(small), KIND=kind,
        SHARED=draw(small) if pipe == Pipe.MIO or kind in ASYNC else 0,
        GLOBAL=draw(st.sampled_from([0, 32, 100, 512])) if kind in (Kind.LOAD, Kind.COPY, Kind.STORE, *BULK) else 0,
        ARGUMENT=draw(st.integers(0, 1 if kind == Kind.ASYNC_MMA else MBARRIERS - 1 if kind in ENDS else 2)),
        STALL=draw(st.integers(0, 15)), WRITE_BARRIER=draw(st.integers(-1, 5)), READ_BARRIER=draw(st.integers(-1, 5)),
        WAIT=draw(st.integers(0, 63)), PORTS=draw(st.integers(0, 5)),
        WARPS=draw(st.integers(0, 63)) if kind in (*BULK, Kind.EXPECT) else 0,
        WRITES=0 if pipe == Pipe.TENSOR else draw(st.integers(0, 4)))


@st.composite
def products(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    """Return lines that commit tensor work to mbarriers, and lines that wait for no more phases than those commit."""
    free = (Kind.PLAIN, Kind.LOAD, Kind.STORE_TENSOR, Kind.UNIT_MMA)
    commits = draw(st.lists(rows((*free, Kind.COMMIT)), min_size=1, max_size=6))
    left = [sum(c[Column.KIND] == Kind.COMMIT and c[Column.ARGUMENT] == m for c in commits) for m in range(MBARRIERS)]
    waits = []
    for row in draw(st.lists(rows((Kind.PLAIN, Kind.FENCE_TENSOR, Kind.WAIT_PHASE)), max_size=6)):
        if row[Column.KIND] == Kind.WAIT_PHASE:
            left[row[Column.ARGUMENT]] -= 1
        if row[Column.KIND] != Kind.WAIT_PHASE or left[row[Column.ARGUMENT]] >= 0:
            waits.append(row)
    return commits, [*waits, line()]


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    """Return lines with which the first warp begins bulk copies, some of whose phases come in parts, and waits for these."""
    ahead, waits = [], []
    for _ in range(draw(st.integers(0, 3))):
        sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
        phase = [(Kind.EXPECT, sum(sizes)), *((Kind.BULK_LOAD, size) for size in sizes)]
        for kind, size in draw(st.permutations(phase)):
            row = draw(rows((kind,)))
            row[Column.ARGUMENT], row[Column.WARPS] = MBARRIERS | size << 8, 1
            ahead.append(row)
        wait = draw(rows((Kind.WAIT_PHASE,)))
        wait[Column.ARGUMENT] = MBARRIERS
        waits.append(wait)
    return ahead, waits


@st.composite
def cases(draw: st.DrawFn) -> tuple[Code, list[CtaClass], list[int], int, SmModel]:
    """Return programs of blocks that all warps run, and of products that the first warp commits and all wait for."""
    lines = draw(st.lists(rows(), min_size=1, max_size=30))
    cuts = sorted(draw(st.sets(st.integers(1, len(lines)), max_size=5)) | {len(lines)})
    commits, waits = draw(products())
    ahead, phases = draw(pipelines())
    commits, waits = [*ahead, *commits], [*phases, *waits]
    first = [0, *cuts, len(lines) + len(commits), len(lines) + len(commits) + len(waits)]
    code = Code(np.array([*lines, *commits, *waits, EXIT], np.int64), np.array(first),
                np.array([*(n - 1 for n in first[1:]), first[-1]]))
    commit, wait, end = len(cuts), len(cuts) + 1, len(cuts) + 2
    count = draw(st.integers(1, 6))
    classes = []
    for _ in range(draw(st.integers(1, 3))):
        body = draw(st.lists(st.integers(0, commit), max_size=6))
        leading = [b for block in body for b in ((commit, wait) if block == commit else (block,))]
        others = np.array([*(wait if block == commit else block for block in body), end], np.int32)
        classes.append(CtaClass((np.array([*leading, end], np.int32), *(others,) * (count - 1))))
    order = draw(st.lists(st.integers(0, len(classes) - 1), min_size=1, max_size=8))
    model = SmModel(draw(st.integers(1, 4)), draw(st.integers(0, 4)), draw(st.integers(1, 8)),
                    draw(st.integers(1024, 8192)), draw(st.integers(0, 300)), draw(st.integers(0, 30)),
                    draw(st.integers(0, 50)), draw(st.integers(0, 200)), draw(st.sampled_from([0, 502, 1024, 2500])))
    return code, classes, order, draw(st.integers(1, 4)), model


def assert_same(a: Replay, b: Replay) -> None:
    for name in ("cycles", "instructions", "data_path_busy", "l2_busy"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("issues", "waits", "first_issue", "pipe_busy", "cta_starts", "cta_ends"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_both_models_agree_cycle_for_cycle(case):
    assert_same(oracle.replay(*case), replay.replay(*case))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_every_cycle_of_every_warp_has_a_reason(case):
    """Issues and waits of all warps add up to the time that CTAs were resident, less idle ends of warps."""
    code, classes, order, _, _ = case
    found = oracle.replay(*case)
    per_cta = len(classes[0].walks)
    issued = sum(int(code.last[b] - code.first[b]) + 1 for cta in order for walk in classes[cta].walks for b in walk)
    assert found.instructions == issued == found.issues.sum()
    resident = int((found.cta_ends - found.cta_starts).sum()) * per_cta
    assert found.waits.sum() + found.instructions <= resident
    if per_cta == 1:
        assert found.waits.sum() + found.instructions == resident


@pytest.fixture(params=[oracle.replay, replay.replay], ids=["oracle", "compiled"])
def run(request):
    return request.param


def test_stall_counts_separate_instructions_of_one_warp(run):
    found = run(straight(line(STALL=6), line(STALL=4)), warps(1), [0], 1, MODEL)
    assert found.first_issue.tolist() == [0, 6, 10]
    assert found.waits[:, Wait.STALL].tolist() == [0, 5, 3]


def test_a_pipe_takes_an_instruction_every_interval_of_any_warp(run):
    found = run(straight(line(INTERVAL=8, PIPE=Pipe.XU)), warps(4), [0], 1, MODEL)
    assert found.cycles == 3 * 8 + 1 + 1
    assert found.pipe_busy[0, Pipe.XU] == 32


def test_a_scheduler_issues_one_instruction_a_cycle(run):
    found = run(straight(line(), line(PIPE=Pipe.FMA)), warps(4), [0], 1, MODEL)
    assert found.cycles == 4 * 3


def test_scoreboards_hold_back_what_waits_for_them(run):
    code = straight(line(PIPE=Pipe.MIO, LATENCY=23, SHARED=2, WRITE_BARRIER=3), line(), line(WAIT=1 << 3))
    found = run(code, warps(1), [0], 1, MODEL)
    assert found.first_issue.tolist() == [0, 1, 25, 26]
    assert found.waits[2, Wait.SCOREBOARD] == 23


def test_the_queue_holds_so_many_that_wait_for_the_data_path(run):
    code = straight(*[line(PIPE=Pipe.MIO, SHARED=10)] * 6)
    found = run(code, warps(1), [0], 1, MODEL)
    # The fifth finds four in the queue, of which the first is served at once.
    assert found.first_issue.tolist() == [0, 1, 2, 3, 4, 10, 11]
    assert found.waits[5, Wait.QUEUE] == 5


def test_groups_of_copies_end_in_order(run):
    copy = {"PIPE": Pipe.MIO, "KIND": Kind.COPY, "SHARED": 4}
    code = straight(line(**copy, GLOBAL=6400), line(KIND=Kind.GROUP), line(**copy, GLOBAL=64), line(KIND=Kind.GROUP),
                    line(KIND=Kind.WAIT_GROUP, ARGUMENT=1), line(KIND=Kind.WAIT_GROUP))
    found = run(code, warps(1), [0], 1, MODEL)
    assert found.first_issue[4] == 4 + 100 + 200
    assert found.first_issue[5] == 4 + 101 + 200
    assert found.waits[4, Wait.GROUP] == 304 - 4


def test_barriers_release_all_warps_together(run):
    code = Code(np.array([line(STALL=15), line(KIND=Kind.BARRIER), EXIT], np.int64), np.array([0, 1]), np.array([0, 2]))
    slow, fast = np.array([0, 0, 1], np.int32), np.array([1], np.int32)
    found = run(code, [CtaClass((slow, fast))], [0], 1, MODEL)
    assert found.cycles == 30 + 20 + 1 + 1
    assert found.waits[2, Wait.BARRIER] > 2 * 19


def test_tensor_work_of_warp_groups_does_not_hold_up_issue(run):
    mma = line(PIPE=Pipe.TENSOR, KIND=Kind.ASYNC_MMA, INTERVAL=64, LATENCY=10)
    last = line(PIPE=Pipe.TENSOR, KIND=Kind.ASYNC_MMA, INTERVAL=64, LATENCY=10, ARGUMENT=1)
    found = run(straight(mma, last, line(), line(KIND=Kind.WAIT_MMA)), warps(1), [0], 1, MODEL)
    assert found.first_issue.tolist() == [0, 1, 2, 138, 139]


def test_tensor_work_waits_for_operands_in_shared_memory(run):
    mma = {"PIPE": Pipe.TENSOR, "KIND": Kind.ASYNC_MMA, "INTERVAL": 16, "SHARED": 40}
    found = run(straight(line(**mma), line(**mma, ARGUMENT=1), line(PIPE=Pipe.MIO, SHARED=1, WRITE_BARRIER=0),
                         line(KIND=Kind.WAIT_MMA), line(WAIT=1)), warps(1), [0], 1, MODEL)
    assert found.first_issue.tolist() == [0, 1, 2, 80, 81, 82]
    assert found.data_path_busy == 81


def test_products_of_one_thread_take_the_unit_of_the_sm_in_turn(run):
    """Two warps on schedulers of their own: products of both pass one unit, and each waits for its CTA's phase."""
    mma = line(PIPE=Pipe.TENSOR, KIND=Kind.UNIT_MMA, INTERVAL=64, LATENCY=136)
    code = straight(mma, line(PIPE=Pipe.MIO, KIND=Kind.COMMIT, LATENCY=20),
                    line(PIPE=Pipe.MIO, KIND=Kind.WAIT_PHASE, LATENCY=30, WRITE_BARRIER=0), line(WAIT=1))
    found = run(code, warps(1), [0, 0], 2, replace(MODEL, schedulers=2))
    assert found.first_issue.tolist() == [0, 1, 2, 200, 201]
    assert sorted(found.cta_ends.tolist()) == [202, 266]
    assert found.waits[3, Wait.SCOREBOARD] == 200 - 3 + 264 - 3


def test_a_wait_for_a_phase_does_not_hold_up_what_does_not_need_it(run):
    """The other warp waits before the phase is committed, and goes on until its scoreboard is asked for."""
    wait = line(PIPE=Pipe.MIO, KIND=Kind.WAIT_PHASE, LATENCY=30, WRITE_BARRIER=2)
    code = Code(np.array([line(STALL=15), line(PIPE=Pipe.TENSOR, KIND=Kind.UNIT_MMA, INTERVAL=16, LATENCY=100),
                          line(PIPE=Pipe.MIO, KIND=Kind.COMMIT, LATENCY=20), wait, line(), line(WAIT=4), EXIT], np.int64),
                np.array([0, 3]), np.array([2, 6]))
    leading, other = np.array([0, 1], np.int32), np.array([1], np.int32)
    found = run(code, [CtaClass((leading, other))], [0], 1, replace(MODEL, schedulers=2))
    assert found.first_issue.tolist() == [0, 15, 16, 0, 1, 131, 132]


def test_a_phase_that_is_complete_is_waited_for_no_longer_than_its_latency(run):
    code = straight(line(PIPE=Pipe.MIO, KIND=Kind.COMMIT, LATENCY=20, STALL=15), line(STALL=15),
                    line(PIPE=Pipe.MIO, KIND=Kind.WAIT_PHASE, LATENCY=30, WRITE_BARRIER=0), line(WAIT=1))
    assert run(code, warps(1), [0], 1, MODEL).first_issue[3] == 60


def test_a_fence_waits_for_stores_to_tensor_memory(run):
    code = straight(line(PIPE=Pipe.MIO, KIND=Kind.STORE_TENSOR, LATENCY=64),
                    line(PIPE=Pipe.MIO, KIND=Kind.FENCE_TENSOR, LATENCY=24, WRITE_BARRIER=1), line(WAIT=2))
    assert run(code, warps(1), [0], 1, MODEL).first_issue.tolist() == [0, 1, 64, 65]


def test_a_phase_that_nobody_commits_is_a_deadlock(run):
    code = straight(line(PIPE=Pipe.MIO, KIND=Kind.WAIT_PHASE, WRITE_BARRIER=0), line(WAIT=1))
    with pytest.raises(SimulationError, match=re.escape("(warp 0 before instruction 1)")):
        run(code, warps(1), [0], 1, MODEL)


def test_wide_operands_take_the_read_ports(run):
    found = run(straight(line(PORTS=5), line(PORTS=5, PIPE=Pipe.FMA), line(PORTS=1)), warps(1), [0], 1, MODEL)
    assert found.first_issue.tolist() == [0, 3, 8, 9]
    assert found.waits[:, Wait.PORTS].tolist() == [0, 2, 4, 0]


def test_a_free_slot_takes_the_next_cta(run):
    code = straight(line(STALL=9))
    found = run(code, warps(1), [0, 0, 0], 2, MODEL)
    assert found.cta_starts.tolist() == [0, 0, 10]
    # At cycle 10 it is the turn of the other slot.
    assert found.cta_ends.tolist() == [10, 11, 21]


def test_a_barrier_that_too_few_reach_is_a_deadlock(run):
    code = straight(line(KIND=Kind.BARRIER, ARGUMENT=3 << 8))
    with pytest.raises(SimulationError, match=re.escape(
            "deadlock: every warp waits at a barrier that too few reach (warp 0 before instruction 1, "
            "warp 1 before instruction 1)")):
        run(code, warps(2), [0], 1, MODEL)


def test_a_walk_must_end_with_exit(run):
    code = Code(np.array([line()], np.int64), np.array([0]), np.array([0]))
    with pytest.raises(SimulationError, match="its walk does not end with EXIT"):
        run(code, warps(1), [0], 1, MODEL)


def bulk(kind: Kind, argument: int = 0, warps: int = 1, **fields: int) -> list[int]:
    """Return a line of bulk copies, of which the first warp acts."""
    return line(PIPE=Pipe.MIO, KIND=kind, ARGUMENT=argument, WARPS=warps, **fields)


WAIT_PHASE = line(PIPE=Pipe.MIO, KIND=Kind.WAIT_PHASE, WRITE_BARRIER=0)


def test_bulk_copies_complete_a_phase_when_their_bytes_are_there(run):
    """Bytes pass L2, then come the latencies; the phase waits for all bytes, and so do both warps."""
    load = bulk(Kind.BULK_LOAD, 64 << 8, GLOBAL=6400, SHARED=50)
    found = run(straight(bulk(Kind.EXPECT, 128 << 8), load, load, WAIT_PHASE, line(WAIT=1)), warps(2), [0], 1,
                replace(MODEL, bulk_latency=30))
    # The second copy starts when the data path has taken the first one's 50 cycles.
    begin = 2 + 2
    assert found.l2_busy == 2 * 100 * 64
    assert found.cycles == pytest.approx(begin + 200 + 200 + 30, abs=3)
    assert found.waits[4, Wait.SCOREBOARD] > 2 * 400
    assert found.data_path_busy == 100


def test_bulk_copies_of_two_warps_complete_one_phase(run):
    load = bulk(Kind.BULK_LOAD, 64 << 8, warps=3, GLOBAL=640)
    found = run(straight(bulk(Kind.EXPECT, 128 << 8), load, WAIT_PHASE, line(WAIT=1)), warps(2), [0], 1, MODEL)
    assert found.l2_busy == 2 * 10 * 64
    with pytest.raises(SimulationError, match=re.escape("deadlock: every warp waits at a barrier that too few reach")):
        run(straight(bulk(Kind.EXPECT, 128 << 8), bulk(Kind.BULK_LOAD, 64 << 8), WAIT_PHASE, line(WAIT=1)), warps(2), [0], 1,
            MODEL)


def test_phases_of_bulk_copies_come_in_order(run):
    """A stage that was asked for first is complete first, and a wait for it does not wait for the next."""
    expect, load = bulk(Kind.EXPECT, 64 << 8), bulk(Kind.BULK_LOAD, 64 << 8, GLOBAL=6400)
    code = straight(expect, load, expect, load, WAIT_PHASE, line(WAIT=1), WAIT_PHASE, line(WAIT=1))
    found = run(code, warps(1), [0], 1, MODEL)
    assert found.first_issue[5] == 1 + 100 + 200
    assert found.first_issue[7] == 1 + 200 + 200


def test_bulk_copies_from_shared_memory_end_when_it_has_been_read(run):
    store = bulk(Kind.BULK_STORE, GLOBAL=6400, SHARED=40)
    found = run(straight(store, line(KIND=Kind.GROUP), line(KIND=Kind.WAIT_GROUP)), warps(1), [0], 1, MODEL)
    assert found.first_issue[2] == 40
    assert found.l2_busy == 100 * 64
