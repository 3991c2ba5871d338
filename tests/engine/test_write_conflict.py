"""Register writes of other warps delay asynchronous products."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turbosim.engine.api import run
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import Dtype, MmaPath, OpClass, Unit
from turbosim.program.ops import Affine, Compute, Loop, Mma, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role
from turbosim.result import TICKS_PER_CYCLE, UNITS

CONFLICT = 0.5
H100 = with_overrides(load_gpu("h100_sxm"), {"sm.count": 1, "tensor.wgmma.write_conflict": CONFLICT})
ALONE = with_overrides(H100, {"tensor.wgmma.write_conflict": 0})
N = 256
PRODUCT = 64 * N * 16 // 2048
"""Cycles of a product of 64 x N x 16."""


def product(signal="mma", path=MmaPath.WGMMA, count=1):
    return Compute("product", mma=Mma(64, N, 16, Dtype.FP16, path, count), signal=signal)


def writer(instructions, pieces=1, op_class=OpClass.FP32):
    """A block of that many instructions a warp, one on each scheduler."""
    return Compute("writes", lanes=((op_class, 128 * instructions),), pieces=pieces)


def program(products, *others, warps=4):
    """Products in the first role, two under way at a time; every other role has its operations beside them."""
    body = (Loop("i", Affine(products), (product(), Wait("wait", "mma", var("i")))),) if products else ()
    roles = (Role("products", 4, body), *(Role(f"other {i}", warps, ops) for i, ops in enumerate(others)))
    launch = Launch("test", (Dim("x", 1),), roles, (Counter("mma", CounterKind.MMA),), (CtaClass("all", ()),),
                    (), 0, 128)
    return Program("test", (), (launch,), 0, {})


def cycles(gpu, *arguments, engine="numba", **options):
    return run(gpu, program(*arguments, **options), engine=engine).ticks / TICKS_PER_CYCLE


@pytest.mark.parametrize("engine", ["numba", "simpy"])
@pytest.mark.parametrize("pieces", [1, 4, 16])
def test_every_write_beside_products_delays_them(engine, pieces):
    """400 instructions beside 40 products delay them by 200 cycles, to the rounding of every part to ticks."""
    products, writes = 40, 400
    beside = (writer(writes, pieces),)
    delay = cycles(H100, products, beside, engine=engine) - cycles(ALONE, products, beside, engine=engine)
    assert delay == pytest.approx(CONFLICT * writes, rel=0.02)


def test_writes_that_outlast_the_products_delay_them_in_part():
    """With an instruction a cycle, of which each costs half a cycle, products take twice their time; the last are not
    delayed by what begins after them."""
    products, writes = 100, 40000
    made = program(products, (writer(writes, 1000),))
    units = run(H100, made, record=(0,)).recording.units
    served = [r for r in units if r.unit == UNITS.index(Unit.TENSOR)]
    took = (served[-1].end - served[0].start) / TICKS_PER_CYCLE
    assert took == pytest.approx(PRODUCT * products / (1 - CONFLICT), rel=0.03)


def test_writes_without_products_cost_nothing():
    assert cycles(H100, 0, (writer(400),)) == cycles(ALONE, 0, (writer(400),))


def test_synchronous_products_are_not_delayed():
    beside = (writer(400, 4),), (product(None, MmaPath.MMA_SYNC, 20),)
    assert cycles(H100, 0, *beside) == cycles(ALONE, 0, *beside)


def test_a_role_of_one_warp_delays_as_much_on_its_scheduler():
    """A product ends when its slowest quarter has."""
    one = Compute("writes", lanes=((OpClass.FP32, 32 * 400),), pieces=16)
    delay = cycles(H100, 20, (one,), warps=1) - cycles(ALONE, 20, (one,), warps=1)
    four = cycles(H100, 20, (writer(400, 16),)) - cycles(ALONE, 20, (writer(400, 16),))
    assert delay == pytest.approx(four, rel=0.1)


def test_work_is_the_same():
    one, other = (run(gpu, program(20, (writer(400, 4),))) for gpu in (H100, ALONE))
    assert one.launches[0].busy_ticks == other.launches[0].busy_ticks
    assert one.ticks > other.ticks


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.lists(st.lists(st.tuples(st.integers(1, 300), st.sampled_from([1, 3, 8]),
                                                      st.sampled_from([OpClass.FP32, OpClass.SFU, OpClass.INT])),
                                            min_size=1, max_size=4), min_size=1, max_size=3),
       st.sampled_from([0.0, 0.3, 0.49, 2.0]), st.integers(1, 5))
def test_both_engines_agree(products, others, conflict, trips):
    gpu = with_overrides(H100, {"tensor.wgmma.write_conflict": conflict})
    bodies = [(Loop("j", Affine(trips), tuple(writer(*ops) for ops in body)),) for body in others]
    made = program(products, *bodies)
    made = replace(made, launches=(replace(made.launches[0], grid=(Dim("x", 3),)),))
    fast, slow = (run(gpu, made, engine=engine) for engine in ("numba", "simpy"))
    assert fast.ticks == slow.ticks
    assert fast.launches[0].reason_ticks == slow.launches[0].reason_ticks
