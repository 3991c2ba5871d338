"""Blocks whose duration a finer model has found: they take it, count their pipes as busy, and never queue."""

from __future__ import annotations

import dataclasses
import re

import pytest

from turbosim.engine.api import ENGINES, run
from turbosim.errors import ProgramError
from turbosim.hw import load_gpu
from turbosim.hw.spec import Dtype, MmaPath, OpClass, Unit
from turbosim.program.ops import Compute, Loop, Mma, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role
from turbosim.program.store import load, save
from turbosim.result import TICKS_PER_CYCLE

GPU = load_gpu("a100_sxm_80gb")
BLOCK = Compute("iteration", lanes=((OpClass.FP32, 6400),), cycles=250.5,
                mma=Mma(64, 64, 64, Dtype.FP16, MmaPath.MMA_SYNC))


def program(block: Compute = BLOCK, ctas: int = 216) -> Program:
    """Return *ctas* CTAs of two classes, of 3 and of 5 blocks, two at a time on an SM."""
    body = (Loop("n", var("trips"), (block,)),)
    launch = Launch("fixed", (Dim("x", ctas),), (Role("warps", 4, body),), classes=(
        CtaClass("short", (("trips", 3),)), CtaClass("long", (("trips", 5),))),
        class_of=(("x", tuple(i % 2 for i in range(ctas))),), counters=(Counter("done", CounterKind.MMA),))
    return Program("fixed", (), (launch,))


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_take_their_time_and_do_not_queue(engine):
    launch = run(GPU, program(), engine=engine).launches[0]
    # All are resident at once: the longest is the launch.
    assert launch.ticks == (GPU.launch.cta + 5 * 250.5) * TICKS_PER_CYCLE


@pytest.mark.parametrize("engine", ENGINES)
def test_their_pipes_count_as_busy(engine):
    launch = run(GPU, program(), engine=engine).launches[0]
    blocks = 108 * 3 + 108 * 5
    assert launch.busy_ticks[Unit.FMA] == blocks * 100 * TICKS_PER_CYCLE
    assert launch.busy_ticks[Unit.TENSOR] == blocks * 256 * TICKS_PER_CYCLE


@pytest.mark.parametrize("engine", ENGINES)
def test_every_cycle_has_a_reason_and_it_is_the_busiest_pipe(engine):
    launch = run(GPU, program(), engine=engine).launches[0]
    assert sum(sum(r) for r in launch.reason_ticks) == sum(launch.reason_ticks[0])
    tensor = [u.value for u in Unit].index("tensor")
    assert launch.reason_ticks[0][tensor] == (108 * 3 + 108 * 5) * 250.5 * TICKS_PER_CYCLE


def test_they_survive_a_file(tmp_path):
    path = tmp_path / "fixed.trace"
    save(program(), path)
    assert load(path) == program()


@pytest.mark.parametrize(("change", "message"), [
    ({"cycles": -1.0}, "a block's cycles are a number from 0 on, got -1.0"),
    ({"cycles": float("inf")}, "a block's cycles are a number from 0 on, got inf"),
    ({"pieces": 2}, "a block of given cycles has no signal, pieces or chain: they are in its cycles"),
    ({"signal": "done"}, "a block of given cycles has no signal, pieces or chain: they are in its cycles"),
])
def test_what_they_cannot_be(change, message):
    with pytest.raises(ProgramError, match=re.escape(message)):
        run(GPU, program(dataclasses.replace(BLOCK, **change)))
