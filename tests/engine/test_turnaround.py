"""What it costs to write beside reads."""

from __future__ import annotations

import pytest

from turbosim.engine.api import run
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import OpClass
from turbosim.program.program import Program, Tensor
from turbosim.schedules.stream import stream_launch

TILE = 16384


def stream(tiles, reads, writes):
    launch = stream_launch("stream", tiles, reads, writes, ((OpClass.FP32, 4096),))
    return Program("stream", tuple(Tensor(n, tiles, TILE, "byte") for n in reads + writes), (launch,), 0, {})


def busy(gpu, program, turnaround, engine="numba"):
    """Return the ticks for which channels were busy."""
    return run(with_overrides(gpu, {"hbm.turnaround": turnaround}), program, engine=engine).launches[0].hbm_busy_ticks


@pytest.mark.parametrize(("name", "reads", "measured"), [
    ("a100_sxm_80gb", 1, 1732), ("a100_sxm_80gb", 2, 1759), ("a100_sxm_40gb", 1, 1381), ("a100_sxm_40gb", 2, 1375),
    ("h100_pcie", 1, 1704), ("h100_pcie", 2, 1832), ("h200_sxm", 2, 3534), ("l40s", 1, 816), ("l40s", 2, 803),
])
def test_bandwidth_of_streams_as_measured(name, reads, measured):
    """gpu-benches' scale (one read, one write) and triad (two reads), of an L40 for the L40S.

    The files' values are derived from these rows: this shows that the engine makes of them what they stand for.
    """
    names = ("a", "b")[:reads]
    found = 60_000 * TILE * (reads + 1) / run(load_gpu(name), stream(60_000, names, ("out",))).time_s
    assert found == pytest.approx(measured * 1e9, rel=0.06)


SMALL = with_overrides(load_gpu("l4"), {"sm.count": 2, "sm.max_ctas": 1, "hbm.channels": 2})


@pytest.mark.parametrize("engine", ["numba", "simpy"])
@pytest.mark.parametrize(("reads", "share"), [(1, 0.25), (3, 0.125)])
def test_every_written_byte_costs_more_beside_reads(engine, reads, share):
    """Half as much more for writes that take a half or a quarter of the time."""
    program = stream(256, ("a", "b", "c")[:reads], ("out",))
    plain = busy(SMALL, program, 0, engine)
    assert busy(SMALL, program, 0.5, engine) == pytest.approx((1 + share) * plain, rel=1e-3)


@pytest.mark.parametrize("engine", ["numba", "simpy"])
def test_writes_without_enough_reads_beside_them_cost_less_of_it(engine):
    program = stream(256, ("a",), ("x", "y", "z"))
    assert busy(SMALL, program, 0.5, engine) == pytest.approx(1.125 * busy(SMALL, program, 0, engine), rel=1e-3)


@pytest.mark.parametrize("engine", ["numba", "simpy"])
@pytest.mark.parametrize(("reads", "writes"), [(("a", "b"), ()), ((), ("out",))])
def test_nothing_is_added_to_reads_alone_or_writes_alone(reads, writes, engine):
    program = stream(256, reads, writes)
    assert busy(SMALL, program, 2, engine) == busy(SMALL, program, 0, engine)


@pytest.mark.parametrize("engine", ["numba", "simpy"])
def test_reads_long_before_do_not_count(engine):
    """A CTA reads 32 granules, then writes 32, all of one channel: 16 are matched."""
    gpu = with_overrides(SMALL, {"hbm.channels": 1})
    program = stream(1, tuple(f"in {i}" for i in range(8)), tuple(f"out {i}" for i in range(8)))
    assert busy(gpu, program, 0.5, engine) == pytest.approx((64 + 0.5 * 16) / 64 * busy(gpu, program, 0, engine), rel=1e-3)
