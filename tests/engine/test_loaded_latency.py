"""Reads from channels that are loaded take longer, without their bus being busy any longer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turbosim.calibration.programs import stream
from turbosim.engine.api import run
from turbosim.engine.lowered import WRITE_LOAD, loaded_ticks
from turbosim.hw import load_gpu, with_overrides

# Of several channels some have more load than others, and their squares a larger mean.
GPU = with_overrides(load_gpu("a100_sxm_80gb"), {"hbm.turnaround": 0, "hbm.channels": 1})
LOADED = 4e-7


def replay(threads, reads, writes, steps, loaded, engine="numba", **changes):
    gpu = with_overrides(GPU, {"hbm.loaded_latency": loaded, **changes})
    return run(gpu, stream(gpu, threads, reads, writes, steps), clock=1.4e9, engine=engine)


def step_seconds(threads, loaded, reads=1, writes=0):
    """Return the time that a warp takes for one step, with others in the same step or another."""
    short, long = (replay(threads, reads, writes, steps, loaded).time_s for steps in (60, 180))
    return (long - short) / 120


def load(threads, seconds, reads=1, writes=0):
    nbytes = GPU.sm.count * threads * 8 * (reads + WRITE_LOAD * writes)
    return min(1, nbytes / seconds / (GPU.hbm.bandwidth * GPU.hbm.efficiency))


@pytest.mark.parametrize(("threads", "reads", "writes"), [(128, 1, 0), (256, 1, 0), (512, 1, 0), (128, 1, 1), (192, 2, 1)])
def test_a_step_takes_longer_by_the_square_of_the_load(threads, reads, writes):
    before, after = (step_seconds(threads, loaded, reads, writes) for loaded in (0, LOADED))
    share = load(threads, after, reads, writes)
    assert 0.1 < share < 0.95
    assert after - before == pytest.approx(LOADED * share**2, rel=0.25, abs=4e-9)


def test_a_warp_alone_reads_as_fast():
    assert step_seconds(32, LOADED) == pytest.approx(step_seconds(32, 0), rel=0.02)


def test_writes_alone_take_as_long():
    one, other = (replay(256, 0, 1, 40, loaded) for loaded in (0, LOADED))
    assert one.ticks == other.ticks


def test_bytes_and_the_channels_work_stay():
    one, other = (replay(512, 2, 1, 40, loaded) for loaded in (0, LOADED))
    assert other.ticks > one.ticks
    assert (one.dram_read_bytes, one.dram_write_bytes) == (other.dram_read_bytes, other.dram_write_bytes)
    assert one.launches[0].hbm_busy_ticks == other.launches[0].hbm_busy_ticks


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([32, 64, 96, 256]), st.integers(1, 2), st.integers(0, 1), st.integers(1, 12),
       st.floats(1e-8, 2e-6), st.integers(1, 7))
def test_engines_agree_tick_for_tick(threads, reads, writes, steps, loaded, channels):
    changes = {"sm.count": 3, "hbm.channels": channels, "hbm.bandwidth": 4e10, "hbm.interleave": 512, "hbm.turnaround": 0.3}
    one, other = (replay(threads, reads, writes, steps, loaded, engine, **changes) for engine in ("numba", "simpy"))
    assert one.ticks == other.ticks
    assert one.launches == other.launches


@given(st.integers(0, 10**6), st.integers(0, 10**7), st.integers(1, 10**6))
def test_the_latency_is_at_most_that_of_a_full_channel(most, busy, window):
    found = loaded_ticks(most, busy, window)
    assert 0 <= found <= most
    assert found == most or busy < window
    assert loaded_ticks(most, busy + 1, window) >= found
