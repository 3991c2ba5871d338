"""Deadlocks and impossible launches are one clear error."""

from __future__ import annotations

import re

import pytest

from turbosim.engine.api import run
from turbosim.errors import ProgramError, SimulationError, UsageError
from turbosim.hw import load_gpu
from turbosim.hw.spec import Dtype, MmaPath
from turbosim.program.ops import Affine, Compute, Mma, OpClass, Signal, Wait
from turbosim.program.program import Counter, CounterKind, Dim, Launch, Program, Role
from turbosim.schedules.registry import get_schedule
from turbosim.workload import CopyBytes, Phase, attention_of, get_model

A100 = load_gpu("a100_sxm_80gb")


@pytest.mark.parametrize("engine", ["numba", "simpy"])
def test_a_deadlock_names_the_roles_and_where_they_wait(engine):
    roles = (Role("a", 4, (Wait("wait for b", "x", Affine(1)), Signal("tell b", "y"))),
             Role("b", 4, (Wait("wait for a", "y", Affine(1)), Signal("tell a", "x"))))
    counters = (Counter("x", CounterKind.MBARRIER), Counter("y", CounterKind.MBARRIER))
    program = Program("p", (), (Launch("stuck", (Dim("i", 2),), roles, counters),))
    message = "launch 'stuck': deadlock in 2 CTAs; CTA 0: a at 'wait for b'; b at 'wait for a'"
    with pytest.raises(SimulationError, match=f"^{re.escape(message)}$"):
        run(A100, program, engine=engine)


def launch(**changes):
    return Program("p", (), (Launch("k", (Dim("i", 1),), (Role("a", 4, ()),), **changes),))


@pytest.mark.parametrize(("program", "message"), [
    (launch(smem_bytes=200_000),
     "launch 'k' on a100_sxm_80gb: a CTA needs 200,000 B of shared memory, 33,088 B more than the 166,912 B one CTA may "
     "have; use smaller tiles or fewer stages"),
    (launch(registers_per_thread=300),
     "launch 'k' on a100_sxm_80gb: a thread needs 300 registers, 45 more than the 255 it may have; use smaller tiles or "
     "more warps"),
    (Program("p", (), (Launch("k", (Dim("i", 1),), (Role("a", 32, ()),), registers_per_thread=128),)),
     "launch 'k' on a100_sxm_80gb: a CTA needs 131,072 registers, 65,536 more than the 65,536 of an SM; use smaller "
     "tiles or fewer warps"),
    (Program("p", (), (Launch("k", (Dim("i", 1),), (Role("a", 4, (Compute("t", ((OpClass.SAS, 1),)),)),)),)),
     "launch 'k' on a100_sxm_80gb: 't' needs the 'sas' instruction class, which this GPU does not have"),
    (Program("p", (), (Launch("k", (Dim("i", 1),), (Role("a", 4, (
        Compute("t", mma=Mma(64, 64, 64, Dtype.FP8, MmaPath.WGMMA)),)),)),)),
     "launch 'k' on a100_sxm_80gb: 't' needs wgmma fp8, which this GPU does not have; it has mma.sync fp16, mma.sync "
     "bf16, mma.sync fp16_acc16, mma.sync tf32, mma.sync int8, mma.sync int4"),
])
def test_what_does_not_fit_says_by_how_much(program, message):
    with pytest.raises(ProgramError, match=f"^{re.escape(message)}$"):
        run(A100, program)


def test_an_impossible_tiling_says_by_how_much():
    shape = attention_of(get_model("llama3-8b"), Phase.PREFILL, 1, 1024)
    program = get_schedule("flash").program(A100, shape, {"stages": 6})
    message = ("launch 'flash' on a100_sxm_80gb: a CTA needs 229,376 B of shared memory, 62,464 B more than the "
               "166,912 B one CTA may have; use smaller tiles or fewer stages")
    with pytest.raises(ProgramError, match=f"^{re.escape(message)}$"):
        run(A100, program)


@pytest.mark.parametrize(("shape", "tile", "message"), [
    (10**14, 4096, "program 'copy' on a100_sxm_80gb: its tensors take 200 TB, 199.9 TB more than the 80 GB of device "
                   "memory; use a smaller problem"),
    (39 * 10**9, 32, "program 'copy': its tensors have 2,437,500,000 tiles, the cache model keeps a state for at most "
                     "100,000,000; use larger tiles or a smaller problem"),
])
def test_what_memory_cannot_hold(shape, tile, message):
    program = get_schedule("copy").program(A100, CopyBytes(shape), {"tile_bytes": tile})
    with pytest.raises(ProgramError, match=f"^{re.escape(message)}$"):
        run(A100, program)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"engine": "nunba"}, "unknown engine 'nunba': not among numba, simpy (did you mean 'numba'?)"),
    ({"clock": "turbo"}, "unknown clock 'turbo': not among boost, tensor_spec, sustained, power"),
    ({"record": (108,)}, "record: SMs must be 0 to 107 on a100_sxm_80gb, got 108"),
])
def test_unknown_choices(arguments, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        run(A100, launch(), **arguments)
