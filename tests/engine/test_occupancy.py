"""Occupancy against an allocator that puts CTAs on an SM one at a time until something runs out."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turbosim.engine.api import run
from turbosim.errors import ProgramError
from turbosim.hw import list_gpus, load_gpu
from turbosim.program.occupancy import occupancy
from turbosim.program.ops import Compute
from turbosim.program.program import Dim, Launch, Role
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Gemm

GPUS = {name: load_gpu(name) for name in list_gpus()}


def launch_of(warps, registers, smem, ctas):
    """One role per warp group, the last one with what is left."""
    roles = tuple(Role(f"wg{i}", min(4, warps - i), (Compute("work"),)) for i in range(0, warps, 4))
    return Launch("test", (Dim("x", ctas),), roles, smem_bytes=smem, registers_per_thread=registers)


def most_residents(gpu, launch):
    """Return the CTAs that SM 0 holds when they are dealt out in turn, and what the next one lacked.

    Each scheduler has its own part of the register file and gives a warp whole allocation units, 8 registers a thread
    at a time; a CTA's warps go to the schedulers in turn.
    """
    sm = gpu.sm
    free = Counter({"shared memory": int(sm.smem_capacity), "warps": sm.max_warps, "CTA slots": sm.max_ctas})
    files = [sm.registers // sm.schedulers] * sm.schedulers
    residents = 0
    for _ in range(0, launch.ctas, sm.count):
        lacking = {name for name, need in (("shared memory", launch.smem_bytes + int(sm.smem_reserved)),
                                           ("warps", launch.warps), ("CTA slots", 1)) if free[name] < need}
        for warp in range(launch.warps):
            place = warp % sm.schedulers
            unit = sm.register_allocation
            for _ in range(0, 32 * launch.registers_per_thread, unit):
                files[place] -= unit
        if min(files) < 0:
            lacking.add("registers")
        if lacking:
            return residents, lacking
        free.subtract({"shared memory": launch.smem_bytes + int(sm.smem_reserved), "warps": launch.warps,
                       "CTA slots": 1})
        residents += 1
    return residents, {"grid"}


launches = st.builds(
    launch_of, st.sampled_from([4, 8, 12, 16]), st.integers(16, 128),
    st.one_of(st.just(0), st.integers(0, 99 * 8)).map(lambda n: 128 * n), st.integers(1, 5000))
"""Whole warp groups, as every schedule has, and shared memory in allocation units of 128 bytes."""


@settings(max_examples=150, deadline=None)
@given(launches)
@pytest.mark.parametrize("name", sorted(GPUS))
def test_ctas_per_sm_are_those_that_an_allocator_places(name, launch):
    expected, lacking = most_residents(GPUS[name], launch)
    got, limit = occupancy(GPUS[name], launch)
    assert got == expected
    # Several resources can run out together; what is named must be one of them, or the grid exactly used up.
    assert limit in lacking or (limit != "grid" and "grid" in lacking and names_the_same(GPUS[name], launch, got, limit))


def names_the_same(gpu, launch, got, limit):
    """Whether a larger grid would also stop at *got* CTAs, for want of *limit*."""
    larger = launch_of(launch.warps, launch.registers_per_thread, launch.smem_bytes, 10**6)
    residents, lacking = most_residents(gpu, larger)
    return residents == got and limit in lacking


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([4, 8, 12, 16, 32]), st.integers(16, 300), st.integers(0, 240 * 8).map(lambda n: 128 * n))
@pytest.mark.parametrize("name", sorted(GPUS))
def test_a_cta_is_refused_exactly_when_it_does_not_fit(name, warps, registers, smem):
    gpu = GPUS[name]
    launch = launch_of(warps, registers, smem, 10**6)
    fits = (registers <= gpu.sm.max_registers_per_thread and smem <= gpu.sm.smem_per_cta
            and most_residents(gpu, launch)[0] > 0)
    if fits:
        assert occupancy(gpu, launch)[0] >= 1
    else:
        with pytest.raises(ProgramError, match=rf"^launch 'test' on {re.escape(name)}: a (CTA|thread) (needs|has) .*; use "):
            occupancy(gpu, launch)


@pytest.mark.parametrize("name", sorted(GPUS))
def test_the_engine_keeps_that_many_ctas_resident(name):
    """Of equal CTAs, as many start together on an SM as fit, each in a slot of its own."""
    gpu = GPUS[name]
    program = get_schedule("gemm").program(gpu, Gemm(4096, 4096, 64), {"block_n": 64})
    launch = program.launches[0]
    expected, _ = most_residents(gpu, launch)
    result = run(gpu, program, record=(0,))
    starts = {}
    for op in result.recording.ops:
        starts.setdefault(op.cta, op.start)
    first = min(starts.values())
    assert sum(start == first for start in starts.values()) == result.launches[0].ctas_per_sm == expected
    assert {op.slot for op in result.recording.ops} == set(range(expected))


def test_limits_by_hand():
    """A100: 65,536 registers, 164 KiB with 1 KiB taken per CTA, 64 warps, 32 CTAs."""
    a100, many = GPUS["a100_sxm_80gb"], 10**6
    assert occupancy(a100, launch_of(4, 128, 0, many)) == (4, "registers")
    assert occupancy(a100, launch_of(4, 129, 0, many)) == (3, "registers")
    assert occupancy(a100, launch_of(4, 32, 81 * 1024, many)) == (2, "shared memory")
    assert occupancy(a100, launch_of(4, 32, 82 * 1024, many)) == (1, "shared memory")
    assert occupancy(a100, launch_of(8, 16, 0, many)) == (8, "warps")
    assert occupancy(a100, launch_of(1, 16, 0, many)) == (32, "CTA slots")
    assert occupancy(a100, launch_of(4, 32, 0, 109)) == (2, "grid")
    assert occupancy(GPUS["l4"], launch_of(1, 16, 0, many)) == (24, "CTA slots")
