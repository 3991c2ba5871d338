"""Register writes that delay the tensor work of warp groups: whom, by how much, and which instructions write."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sass.test_replay import EXIT, MODEL, assert_same, line
from tests.sass.test_tensor_memory import kernel
from turbosim.hw import load_gpu
from turbosim.sass import oracle, replay
from turbosim.sass.build import code_of, sm_model, written_registers
from turbosim.sass.evaluate import walk
from turbosim.sass.launch import Launch
from turbosim.sass.machine import CONFLICT_TICKS, Code, Column, CtaClass, Kind, Pipe, Wait
from turbosim.sass.rules import Rules

H100 = load_gpu("h100_sxm")
TICKS = 502
"""0.49 cycles."""
CONFLICT = replace(MODEL, write_conflict=TICKS)
LATENCY = 10


def product(interval=64, closes=0):
    return line(PIPE=Pipe.TENSOR, KIND=Kind.ASYNC_MMA, INTERVAL=interval, LATENCY=LATENCY, ARGUMENT=closes)


def wait(groups=0):
    return line(KIND=Kind.WAIT_MMA, ARGUMENT=groups)


def roles(*blocks):
    """Return the code of *blocks*, and a CTA whose warps run one of them each."""
    ends = np.cumsum([len(b) + 1 for b in blocks])
    first = np.array([0, *ends[:-1]])
    code = Code(np.array([row for b in blocks for row in (*b, EXIT)], np.int64), first, ends - 1)
    return code, CtaClass(tuple(np.array([n], np.int32) for n in range(len(blocks))))


@pytest.fixture(params=[oracle.replay, replay.replay], ids=["oracle", "compiled"])
def run(request):
    return lambda made, model=CONFLICT: request.param(made[0], [made[1]], [0], 1, model)


@pytest.mark.parametrize("products", [1, 4])
@pytest.mark.parametrize("writes", [0, 1, 2, 3, 20, 40])
@pytest.mark.parametrize("registers", [0, 1, 4])
def test_products_end_later_by_what_the_writes_beside_them_add_up_to(run, products, writes, registers):
    """The first product begins at cycle 0, and all writes are issued while it runs."""
    mine = [product(), *[product()] * (products - 2), product(closes=1)][-products:]
    found = run(roles([*mine, wait()], [line(WRITES=registers)] * writes))
    assert found.first_issue[products + 2:].max() < 64
    delay = writes * registers * TICKS // CONFLICT_TICKS
    ends = 64 * products + LATENCY + delay
    assert found.first_issue[products] == ends
    assert found.waits[products, Wait.GROUP] == ends - found.first_issue[products - 1] - 1


@pytest.mark.parametrize(("schedulers", "warp", "delay"), [(1, 1, 19), (2, 1, 0), (2, 2, 19), (4, 3, 0), (4, 4, 19)])
def test_only_the_tensor_core_of_the_writing_scheduler_is_delayed(run, schedulers, warp, delay):
    blocks = [[product(closes=1), wait()], *[[line()]] * 4]
    blocks[warp] = [line(WRITES=1)] * 40
    assert run(roles(*blocks), replace(CONFLICT, schedulers=schedulers)).first_issue[1] == 64 + LATENCY + delay


def test_a_gpu_without_the_conflict_delays_nothing(run):
    made = roles([product(closes=1), wait()], [line(WRITES=4)] * 40)
    assert run(made, MODEL).first_issue[1] == 64 + LATENCY


def test_a_warp_delays_its_own_products(run):
    made = roles([product(closes=1), *[line(WRITES=2)] * 20, wait()])
    assert run(made).first_issue[21] == 64 + LATENCY + 40 * TICKS // CONFLICT_TICKS


def test_what_has_left_the_tensor_core_is_not_delayed(run):
    """The first group leaves at 20 and the second at 84; writes come from cycle 30 on."""
    first = line(PIPE=Pipe.TENSOR, KIND=Kind.ASYNC_MMA, INTERVAL=20, LATENCY=50, ARGUMENT=1)
    made = roles([first, product(closes=1), wait(1), wait()], [line(STALL=15)] * 2 + [line(WRITES=2)] * 10)
    found = run(made)
    assert found.first_issue[2] == 20 + 50
    assert found.first_issue[3] == 20 + 64 + LATENCY + 20 * TICKS // CONFLICT_TICKS


def test_writes_beside_no_product_cost_nothing(run):
    """The product begins after the writes, and what is left of a cycle from earlier ones was never counted."""
    made = roles([line(STALL=15)] * 4 + [product(closes=1), wait()], [line(WRITES=4)] * 20)
    found = run(made)
    assert found.first_issue[5] == found.first_issue[4] + 64 + LATENCY


def test_a_synchronous_product_waits_for_delayed_ones_and_is_not_delayed(run):
    """Writes do not delay it, but it waits for the pipe, which delayed asynchronous products leave later."""
    sync = line(PIPE=Pipe.TENSOR, INTERVAL=32)
    writes = [line(WRITES=2)] * 20
    delay = 40 * TICKS // CONFLICT_TICKS
    found = run(roles([product(), sync], writes))
    assert found.first_issue[1] == 64 + delay
    assert found.waits[1, Wait.PIPE] == 63 + delay
    assert run(roles([sync, sync], writes)).first_issue[1] == 32


def test_later_products_begin_later(run):
    late = roles([product(), *[line(STALL=10)] * 5, product(closes=1), wait()], [line(WRITES=2)] * 20)
    assert run(late).first_issue[7] == 2 * 64 + LATENCY + 40 * TICKS // CONFLICT_TICKS


@st.composite
def mixed(draw):
    """Return warps that issue products, wait for groups of them and write registers, in any order."""
    sizes, small = st.integers(0, 40), st.integers(0, 9)
    kinds = st.one_of(
        st.builds(lambda i, n, s, a: line(PIPE=Pipe.TENSOR, KIND=Kind.ASYNC_MMA, INTERVAL=i, LATENCY=n, SHARED=s,
                                          ARGUMENT=a), sizes, small, sizes, st.integers(0, 1)),
        st.builds(wait, st.integers(0, 2)),
        st.builds(lambda i, s: line(PIPE=Pipe.TENSOR, INTERVAL=i, STALL=s), small, small),
        st.builds(lambda w, s, m: line(WRITES=w, STALL=s, PIPE=Pipe.MIO if m else Pipe.ALU, SHARED=4 * m), small, small,
                  st.integers(0, 1)))
    several = st.lists(kinds, min_size=1, max_size=25)
    blocks = [draw(several) for _ in range(draw(st.integers(1, 6)))]
    if draw(st.booleans()):
        blocks = [[*b, line(KIND=Kind.BARRIER), *draw(several)] for b in blocks]
    code, cta = roles(*blocks)
    model = replace(MODEL, schedulers=draw(st.integers(1, 3)), write_conflict=draw(st.sampled_from([100, 502, 1024, 3000])))
    return code, [cta], [0] * draw(st.integers(1, 4)), draw(st.integers(1, 3)), model


@settings(max_examples=200, deadline=None)
@given(mixed())
def test_both_models_agree_where_products_and_writes_meet(case):
    assert_same(oracle.replay(*case), replay.replay(*case))


@settings(max_examples=60, deadline=None)
@given(mixed())
def test_every_cycle_has_a_reason_where_products_are_delayed(case):
    """The cycles of a CTA's only warp are issues and waits; the place next to it is taken by a CTA of the same kind."""
    code, (cta,), _, _, model = case
    found = oracle.replay(code, [CtaClass(cta.walks[:1])], [0, 0, 0], 2, model)
    assert found.waits.sum() + found.instructions == (found.cta_ends - found.cta_starts).sum()


def compiled_rows(*texts):
    made = kernel(*texts, "EXIT")
    return code_of(made, Rules.of(H100), [walk(made, Launch((1, 1, 1), 1, ()), (0, 0, 0), 0)]).table[:-1]


@pytest.mark.parametrize(("text", "registers"), [
    ("FADD R4, R5, R6", 1), ("FADD RZ, R5, R6", 0), ("IMAD.WIDE R4, R5, R6, R8", 2), ("LDS.128 R4, [R2]", 4),
    ("LDSM.16.M88.4 R4, [R2]", 4), ("LDS.64 R4, [R2]", 2), ("STS.128 [R2], R4", 0), ("ISETP.GE.AND P0, PT, R4, R5, PT", 0),
    ("SHFL.BFLY PT, R4, R5, 0x1, 0x1f", 1), ("LOP3.LUT P0, RZ, R4, 0x1, RZ, 0xc0, !PT", 0), ("UIADD3 UR4, UR5, UR6, URZ", 0),
    ("R2UR UR4, R5", 0), ("BAR.SYNC 0x0", 0)])
def test_registers_that_an_instruction_writes(text, registers):
    instruction = kernel(text).instructions[0]
    assert written_registers(instruction) == registers


def test_products_themselves_are_not_charged():
    texts = ("HGMMA.64x64x16.F32 R24, gdesc[UR4], R24, gsb0", "HMMA.16816.F32 R4, R8, R12, R4", "FADD R4, R5, R6")
    assert compiled_rows(*texts)[:, Column.WRITES].tolist() == [0, 0, 1]


@pytest.mark.parametrize("gpu", ["a100_sxm_80gb", "rtx_4090", "h100_sxm", "h200_sxm", "b200", "rtx_5090"])
def test_only_gpus_whose_file_says_so_have_the_conflict(gpu):
    conflict = sm_model(load_gpu(gpu), 1.5e9).write_conflict
    assert conflict == (TICKS if gpu.startswith("h") else 0)
