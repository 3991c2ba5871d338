"""Blocks whose duration a finer model has found: they take it, count their pipes as busy, and never queue."""

from __future__ import annotations

import dataclasses
import re

import pytest

from turbosim.engine.api import ENGINES, run
from turbosim.errors import ProgramError
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import Dtype, MmaPath, OpClass, Unit
from turbosim.program.ops import Compute, Loop, Mma, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role
from turbosim.program.store import load, save
from turbosim.program.text import dump
from turbosim.result import TICKS_PER_CYCLE

GPU = load_gpu("a100_sxm_80gb")
BLOCK = Compute("iteration", lanes=((OpClass.FP32, 6400),), cycles=(250.5,),
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("ctas", "cycles"), [
    # Alone: three blocks.
    (1, 300),
    # Together until the first ends after 750; it still counts for the fourth block of the other, begun at that tick.
    (2, 4 * 250 + 100),
    # The third begins at 950; it has one block beside the second, one that outlasts the second, and one alone.
    (3, 950 + 2 * 250 + 100),
])
def test_durations_follow_the_ctas_on_the_sm(engine, ctas, cycles):
    gpu = with_overrides(GPU, {"sm.count": 1, "sm.max_ctas": 2})
    block = dataclasses.replace(BLOCK, cycles=(100.0, 250.0))
    launch = run(gpu, program(block, ctas), engine=engine).launches[0]
    assert gpu.launch.cta == 200
    assert launch.ticks == (gpu.launch.cta + cycles) * TICKS_PER_CYCLE


@pytest.mark.parametrize("engine", ENGINES)
def test_slots_freed_together_go_to_the_sm_with_the_fewest_ctas(engine):
    gpu = with_overrides(GPU, {"sm.count": 2, "sm.max_ctas": 2})
    whole = program(dataclasses.replace(BLOCK, cycles=(100.0, 250.0)), 6)
    alike = dataclasses.replace(whole, launches=(dataclasses.replace(whole.launches[0], class_of=()),))
    launch = run(gpu, alike, engine=engine, record=(0, 1)).launches[0]
    # Four CTAs of three blocks end together, and the other two get an SM each.
    assert launch.ticks == (2 * gpu.launch.cta + 3 * 250 + 3 * 100) * TICKS_PER_CYCLE
    assert launch.sm_last_end == (launch.ticks, launch.ticks)


@pytest.mark.parametrize("record", [(), (0,), range(108)])
def test_thousands_of_ctas_may_end_together(record):
    many = program(ctas=2 * 108 * 32).launches[0]
    thin = dataclasses.replace(many, roles=(dataclasses.replace(many.roles[0], warps=1),), registers_per_thread=32,
                               class_of=())
    launch = run(GPU, Program("thin", (), (thin,)), record=record).launches[0]
    assert launch.ctas_per_sm == 32
    assert launch.ticks == 2 * (GPU.launch.cta + 3 * 250.5) * TICKS_PER_CYCLE


@pytest.mark.parametrize("cycles", [(250.5,), (0.1, 250.5, 1e9)])
def test_they_survive_a_file(tmp_path, cycles):
    path = tmp_path / "fixed.trace"
    saved = program(dataclasses.replace(BLOCK, cycles=cycles))
    save(saved, path)
    assert load(path) == saved


@pytest.mark.parametrize(("cycles", "shown"), [
    ((250.5,), "takes 250.5 cycles"), ((7.25, 7.25), "takes 7.2 cycles"),
    ((100.0, 1250.5), "takes 100.0 to 1,250.5 cycles with 1 to 2 CTAs on the SM"),
])
def test_their_durations_as_text(cycles, shown):
    text = dump(program(dataclasses.replace(BLOCK, cycles=cycles)))
    assert f"      compute iteration: mma.sync fp16 64x64x64; fp32 6,400; {shown}\n" in text


@pytest.mark.parametrize(("change", "message"), [
    ({"cycles": (-1.0,)}, "a block's cycles are finite and above 0, got -1.0 with 1 CTA on the SM"),
    ({"cycles": (9.0, 0.0, -1.0)}, "a block's cycles are finite and above 0, got 0.0 with 2 CTAs on the SM"),
    ({"cycles": (9.0, float("inf"))}, "a block's cycles are finite and above 0, got inf with 2 CTAs on the SM"),
    ({"cycles": (float("nan"),)}, "a block's cycles are finite and above 0, got nan with 1 CTA on the SM"),
    ({"pieces": 2}, "a block of given cycles has no signal, pieces or chain: they are in its cycles"),
    ({"signal": "done"}, "a block of given cycles has no signal, pieces or chain: they are in its cycles"),
])
def test_what_they_cannot_be(change, message):
    where = "launch 'fixed' / role 'warps' / loop n / iteration: "
    with pytest.raises(ProgramError, match=f"^{re.escape(where + message)}$"):
        run(GPU, program(dataclasses.replace(BLOCK, **change)))
