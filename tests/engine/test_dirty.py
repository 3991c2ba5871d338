"""An L2 full of lines that were overwritten before the program began."""

from __future__ import annotations

import pytest

from turbosim.engine.api import run
from turbosim.engine.lower import lower_memory
from turbosim.hw import load_gpu, with_overrides
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Attention, CopyBytes, Gemm, Phase

A100 = with_overrides(load_gpu("a100_sxm_80gb"), {"l2.dirty_share": 1})


def held(gpu):
    return lower_memory(gpu, 1e9).l2_held


def copied(nbytes, l2, gpu=A100, **options):
    return run(gpu, get_schedule("copy").program(gpu, CopyBytes(nbytes), options), l2=l2)


def test_of_several_partitions_each_keeps_copies():
    assert held(A100) == 40 * 2**20 * 2 // 3
    assert held(load_gpu("rtx_3090")) == 6_000_000
    assert held(with_overrides(A100, {"l2.partitions": 4})) == 40 * 2**20 * 4 // 7


def test_every_line_read_evicts_one():
    n = 4 * 2**20
    cold, dirty = (copied(n, l2) for l2 in ("cold", "dirty"))
    assert (cold.evicted_bytes, dirty.evicted_bytes) == (0, n)
    assert (dirty.dram_read_bytes, dirty.dram_write_bytes) == (cold.dram_read_bytes, cold.dram_write_bytes) == (n, n)
    assert dirty.dram_bytes == 3 * n
    assert dirty.time_s > cold.time_s


def test_only_a_share_of_them_is_dirty():
    n = 4 * 2**20
    some = with_overrides(A100, {"l2.dirty_share": 0.25})
    assert copied(n, "dirty", some).evicted_bytes == n // 4
    # The others make room, too.
    assert copied(2**28, "dirty", some, write=False).evicted_bytes == pytest.approx(held(A100) / 4, rel=0.001)
    assert copied(n, "cold").time_s < copied(n, "dirty", some).time_s < copied(n, "dirty").time_s


def test_lines_that_are_written_make_room_too():
    """Reads and writes in turn: of what was dirty, half makes room for writes, which then stay in its place."""
    dirty = copied(2**28, "dirty", stages=1, ctas_per_sm=1)
    assert dirty.evicted_bytes == pytest.approx(held(A100) / 2, rel=0.05)


def test_reads_alone_evict_all_of_it():
    dirty = copied(2**28, "dirty", write=False)
    assert dirty.evicted_bytes == held(A100)
    # Beside reads, a written byte takes 1.17 times as long.
    more = 1.17 * held(A100) / (A100.hbm.bandwidth * A100.hbm.efficiency)
    assert dirty.time_s == pytest.approx(copied(2**28, "cold", write=False).time_s + more, rel=0.02)


def test_it_lasts_over_all_launches_of_a_program():
    shape = Attention(1, 8, 8, 4096, 4096, 64, True, Phase.PREFILL)
    program = get_schedule("turbo").program(A100, shape, {"quantise_inputs": True})
    small, large = (run(with_overrides(A100, {"l2.capacity": capacity}), program, l2="dirty")
                    for capacity in ("6 MB", "600 MB"))
    assert len(program.launches) > 1
    assert [x.evicted_bytes for x in large.launches] == [x.dram_read_bytes for x in large.launches]
    assert 0 < small.evicted_bytes <= 4_000_000 < large.evicted_bytes


def test_a_kernel_bound_by_its_products_hardly_notices():
    program = get_schedule("gemm").program(A100, Gemm(4096, 4096, 4096))
    cold, dirty = (run(A100, program, l2=l2) for l2 in ("cold", "dirty"))
    assert dirty.evicted_bytes > 0
    assert cold.time_s < dirty.time_s < 1.02 * cold.time_s
