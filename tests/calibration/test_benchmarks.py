"""Simulated micro-benchmarks behave as the measured ones do, and shortcuts equal what they stand for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.calibration.conftest import small_gpu
from turbosim.calibration import programs
from turbosim.calibration.benchmarks import Chase, Copy, L2Read, SharedRead, Stream, TileRead
from turbosim.engine.api import run
from turbosim.program.validate import validate

CLOCK = 2e9


def test_a_chase_takes_the_latency_of_its_level():
    gpu = small_gpu()
    for level, latency in (("near", 1.4e-7), ("far", 2.4e-7), ("dram", 4e-7)):
        # A sector on the copy port and on a channel takes at most 4 ns more.
        assert latency <= Chase(level).seconds(gpu, CLOCK) <= latency + 4e-9


@pytest.mark.parametrize(("chunks", "bandwidth"), [(16, 1.2e12), (60, 1.5e11 * 0.92)])
def test_a_shared_buffer_is_read_at_the_bandwidth_of_its_level(chunks, bandwidth):
    gpu = small_gpu(**{"l2.shared_fraction": 0.75, "hbm.efficiency": 0.92})
    assert 1 / SharedRead(chunks).seconds(gpu, CLOCK) == pytest.approx(bandwidth, rel=0.03)


def test_a_longer_run_of_a_shared_buffer_finds_the_same(monkeypatch):
    gpu = small_gpu()
    short = SharedRead(16).seconds(gpu, CLOCK)
    monkeypatch.setattr("turbosim.calibration.benchmarks.TURNS", 6)
    assert SharedRead(16).seconds(gpu, CLOCK) == pytest.approx(short, rel=0.01)


def test_little_s_law_at_low_occupancy_and_peak_at_high():
    gpu = small_gpu(**{"hbm.efficiency": 0.9})
    # A warp has 256 B under way for the latency and the time of its access.
    assert 1 / Stream(1, 0, 32).seconds(gpu, CLOCK) == pytest.approx(12 * 256 / 4.2e-7, rel=0.1)
    assert 1 / Stream(1, 0, 768).seconds(gpu, CLOCK) == pytest.approx(1.35e11, rel=0.1)
    assert 1 / Stream(0, 1, 768).seconds(gpu, CLOCK) == pytest.approx(1.35e11, rel=0.05)


def test_more_warps_than_cta_slots_share_ctas():
    gpu = small_gpu(**{"sm.max_ctas": 6})
    few = Stream(1, 0, 512).seconds(gpu, CLOCK)
    assert len(programs.stream(gpu, 512, 1, 0, 4).launches[0].roles) == 4
    assert few == pytest.approx(Stream(1, 0, 512).seconds(small_gpu(), CLOCK), rel=0.05)


@pytest.mark.parametrize("l2", ["cold", "warm"])
def test_a_large_copy_is_extrapolated_to_what_it_takes_in_full(l2):
    gpu = small_gpu()
    nbytes = 512 * 2**20
    full = run(gpu, programs.copy(nbytes, 16384, 4), clock=CLOCK, l2=l2).time_s
    assert 2 * nbytes * Copy(nbytes, 16384, 4, l2, "graph").seconds(gpu, CLOCK) == pytest.approx(full, rel=0.01)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 6))
def test_tiles_are_read_once_and_engines_agree(ctas, turns, stages):
    gpu = small_gpu()
    program = programs.tile_read(ctas, 8192, 128, turns, stages, 4)
    validate(program)
    found = run(gpu, program, clock=CLOCK)
    assert found.launches[0].l2_read_bytes == found.launches[0].dram_read_bytes == ctas * turns * 8192
    assert found.ticks == run(gpu, program, clock=CLOCK, engine="simpy").ticks


def test_a_turn_is_how_long_a_load_takes_over_the_loads_in_flight():
    gpu = small_gpu()

    def turn(stages):
        short, long = (TileRead(1, 1024, 128, n, stages, 4, "cold", "graph").seconds(gpu, CLOCK) for n in (64, 128))
        return (long - short) / 64

    assert turn(2) > gpu.hbm.latency
    assert turn(3) == pytest.approx(turn(2) / 2, rel=0.1)
    assert turn(5) == pytest.approx(turn(2) / 4, rel=0.2)


def test_a_sweep_reads_what_was_measured():
    gpu = small_gpu()
    program = programs.sweep(24 * 2**20, 16384, 10, 1188, 4)
    read = run(gpu, program, clock=CLOCK).launches[0].l2_read_bytes
    assert read == pytest.approx(24 * 2**20 * 10, rel=0.01)
    warm = 1 / L2Read(8 * 2**20, 32, 512, 16384, 4, "warm", "ncu").seconds(gpu, CLOCK)
    assert warm == pytest.approx(1.2e12, rel=0.05)
