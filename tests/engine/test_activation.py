"""Runs of bytes that lie apart take device memory as long as a row takes to open."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import dram_rows
from turbosim.calibration import programs
from turbosim.engine.api import run
from turbosim.engine.lower import apart, lower
from turbosim.errors import ProgramError
from turbosim.hw import load_gpu, with_overrides
from turbosim.program.program import Program
from turbosim.program.store import load, save
from turbosim.program.text import dump
from turbosim.program.validate import validate
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Gemm

GPU = with_overrides(load_gpu("a100_sxm_80gb"), {"hbm.turnaround": 0})
BANDWIDTH = GPU.hbm.bandwidth * GPU.hbm.efficiency
OPENED = GPU.hbm.activation / (GPU.hbm.channels * GPU.hbm.pseudo_channels)


def in_runs(program: Program, run_bytes: int | None) -> Program:
    """Return *program* with tiles in runs of *run_bytes*."""
    return replace(program, tensors=tuple(replace(t, run_bytes=run_bytes) for t in program.tensors))


@given(st.integers(1, 4096))
def test_a_run_takes_its_bytes_or_an_opening_whichever_is_longer(run_bytes):
    seconds = max(run_bytes / BANDWIDTH, OPENED)
    assert apart(GPU, run_bytes) == pytest.approx(seconds * BANDWIDTH / run_bytes, rel=1e-12)
    assert apart(GPU, None) == 1.0
    assert apart(with_overrides(GPU, {"hbm.activation": 0.0}), run_bytes) == 1.0


@pytest.mark.parametrize("run_bytes", [16, 32, 64, 96])
def test_a_long_stream_of_short_runs_is_bound_by_openings(run_bytes):
    whole = programs.copy(1 << 28, 16384, 4)
    found = run(GPU, in_runs(whole, run_bytes), clock="boost")
    moved = found.dram_read_bytes + found.dram_write_bytes
    assert found.launches[0].ticks / (64 * found.clock_hz) == pytest.approx(moved / run_bytes * OPENED, rel=0.05)
    assert found.dram_bytes == run(GPU, whole, clock="boost").dram_bytes
    assert found.bound == "hbm"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(2, 8), st.integers(1, 5), st.sampled_from([16, 32, 64, 128]),
       st.sampled_from([0.0, 4e-9, 3e-8]))
def test_engines_agree_tick_for_tick(ctas, turns, stages, piece, opening):
    gpu = with_overrides(GPU, {"sm.count": 3, "hbm.channels": 2, "hbm.bandwidth": 4e10, "hbm.activation": opening})
    program = programs.tile_read(ctas, 4096, piece, turns, stages, 4)
    fast, slow = (run(gpu, program, clock="boost", engine=engine, l2="dirty") for engine in ("numba", "simpy"))
    assert fast.launches == slow.launches


@pytest.mark.parametrize(("dtype", "block_k", "b_order", "runs"), [
    ("fp16", 32, "k", {"A": 64, "B": 64, "C": 128}), ("fp16", 64, "n", {"A": 128, "B": 128, "C": 128}),
    ("int8", 64, "k", {"A": 64, "B": 64, "C": 128}), ("fp16", 256, "k", {"A": None, "B": None, "C": 128})])
def test_tiles_of_a_product_are_parts_of_rows(dtype, block_k, b_order, runs):
    shape = Gemm(256, 128, 256)
    options = {"dtype": dtype, "block_m": 64, "block_n": 64, "block_k": block_k, "warps": 4, "b_order": b_order,
               "stages": 2}
    program = get_schedule("gemm").program(GPU, shape, options)
    assert {t.name: t.run_bytes for t in program.tensors} == runs


def test_tiles_that_have_whole_rows_are_whole():
    program = get_schedule("gemm").program(GPU, Gemm(256, 64, 256), {
        "block_m": 64, "block_n": 64, "block_k": 64, "warps": 4, "b_order": "n"})
    assert [t.run_bytes for t in program.tensors] == [128, None, None]


def test_runs_are_checked_shown_and_stored(tmp_path):
    program = programs.tile_read(2, 4096, 64, 2, 3, 4)
    assert "B, in runs of 64 B" in dump(program)
    assert "in runs" not in dump(in_runs(program, None))
    save(program, tmp_path / "trace.json")
    assert load(tmp_path / "trace.json") == program
    for wrong in (0, 4097):
        with pytest.raises(ProgramError, match=f"tensor 'buffer' has run_bytes {wrong}, must be 1 to the 4096 of a tile"):
            validate(in_runs(program, wrong))


def test_a_doubled_tensor_rate_is_what_lowering_gives():
    program = programs.tile_read(2, 4096, 32, 2, 3, 4)
    lowered = lower(GPU, program)
    assert lowered.tensors[0].rate / lowered.memory.hbm_rate == pytest.approx(OPENED * BANDWIDTH / 32, rel=1e-3)


def test_hardware_files_have_the_derived_time_between_openings():
    derived = dram_rows.activation()
    for name in dram_rows.GPUS:
        assert load_gpu(name).hbm.activation * 1e9 == pytest.approx(derived, abs=0.05)


@pytest.mark.parametrize("bus", [5.0, 20.9, 50.0])
def test_longer_runs_never_deliver_less_nor_more_than_the_bus(bus):
    delivered = [dram_rows.bandwidth(length, bus) for length in (32, 64, 128, 512)]
    assert all(a <= b * 1.001 for a, b in itertools.pairwise(delivered))
    assert delivered[-1] <= bus * (1 - dram_rows.Timings().refreshed) * 1.001
    # Never faster than rows may be opened.
    assert delivered[0] <= 32 / dram_rows.Timings().open_other
