"""``gemm`` and ``copy``: every tile touched as often as it must be, no buffer overwritten early, bad options refused."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedules.walk import count_ops, ctas, overwrites, touched, unroll
from turbosim.engine.api import run
from turbosim.errors import ProgramError, UsageError
from turbosim.hw import list_gpus, load_gpu, with_overrides
from turbosim.hw.spec import Dtype, MmaPath, OpClass, Unit
from turbosim.program.occupancy import occupancy
from turbosim.program.ops import Load, Store
from turbosim.program.validate import validate
from turbosim.program.work import program_work
from turbosim.schedules.copy import COPY
from turbosim.schedules.gemm import GEMM
from turbosim.workload import CopyBytes, Gemm

A100, H200 = load_gpu("a100_sxm_80gb"), load_gpu("h200_sxm")


def up(a, b):
    return -(-a // b)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 700), st.integers(1, 200), st.integers(1, 5), st.integers(1, 9),
       st.sampled_from([16, 32, 48, 64, 128, 192]), st.sampled_from([4, 8, 16]))
def test_gemm_touches_every_tile(m, n, k, stages, group_m, block_m, warps):
    options = {"block_m": block_m, "block_n": 64, "block_k": 32, "stages": stages, "group_m": group_m, "warps": warps}
    program = GEMM.program(A100, Gemm(m, n, k), options)
    validate(program)
    launch, rows, columns, steps = program.launches[0], up(m, block_m), up(n, 64), up(k, 32)
    assert Counter(touched(launch, Load, "A")) == dict.fromkeys(range(rows * steps), columns)
    assert Counter(touched(launch, Load, "B")) == dict.fromkeys(range(columns * steps), rows)
    assert sorted(touched(launch, Store, "C")) == list(range(rows * columns * warps // 4))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["fp16", "bf16", "int8", "fp8"]), st.integers(1, 600), st.integers(1, 600), st.integers(1, 600))
def test_gemm_on_hopper(dtype, m, n, k):
    program = GEMM.program(H200, Gemm(m, n, k), {"dtype": dtype})
    width = 2 if dtype in ("fp16", "bf16") else 1
    tiles, steps = up(m, 128) * up(n, 256), up(k, 128 // width)
    work = program_work(program)
    assert work.macs == {(MmaPath.WGMMA, Dtype(dtype)): tiles * steps * 128 * 256 * (128 // width)}
    assert work.loaded == {"A": tiles * steps * 128 * 128, "B": tiles * steps * 256 * 128}
    assert work.stored == {"C": tiles * 128 * 256 * 2}
    assert work.lanes == {OpClass.PACK: tiles * 128 * 256 // 2}
    assert program.useful_flops == 2 * m * n * k <= work.tensor_flops


@pytest.mark.parametrize(("block_m", "warps", "path", "rows", "columns", "reads"), [
    (128, 8, MmaPath.WGMMA, 64, 128, 64 + 128),   # two warp groups, one below the other
    (64, 8, MmaPath.WGMMA, 64, 64, 64 + 64),      # side by side
    (192, 8, MmaPath.WGMMA, 192, 64, 192 + 64),   # no halves of 64 rows: side by side
    (32, 4, MmaPath.MMA_SYNC, 32, 128, 2 * (32 + 128)),  # four warps, 2 x 2
    (16, 4, MmaPath.MMA_SYNC, 16, 128, 4 * 16 + 128),    # 1 x 4
])
def test_warp_groups_share_rows_before_columns(block_m, warps, path, rows, columns, reads):
    options = {"block_m": block_m, "block_n": 128, "block_k": 64, "warps": warps, "stages": 2}
    (launch,) = GEMM.program(H200, Gemm(512, 512, 512), options).launches
    for role in launch.roles:
        blocks = [op for op, _ in unroll(role.body, next(iter(ctas(launch)))) if getattr(op, "mma", None)]
        assert {(b.mma.path, b.mma.m, b.mma.n, b.smem_bytes) for b in blocks} == {(path, rows, columns, reads * 64 * 2)}
    assert len(launch.roles) == warps // 4


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 6), st.sampled_from([4, 8]))
def test_gemm_never_overwrites_a_tile_in_use(k, stages, warps):
    launch = GEMM.program(A100, Gemm(128, 128, k), {"stages": stages, "warps": warps, "block_k": 16}).launches[0]
    for cta in ctas(launch):
        for tensor in ("A", "B"):
            assert overwrites(launch.roles[0], cta, tensor, "MMA", stages) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 900), st.integers(1, 5), st.integers(2, 9),
       st.sampled_from([4, 8]))
def test_splits_touch_every_step_once_and_every_sum(m, n, k, stages, splits, warps):
    options = {"block_m": 128, "block_n": 64, "block_k": 32, "stages": stages, "warps": warps}
    steps, tiles = up(k, 32), up(m, 128) * up(n, 64)
    splits = up(steps, up(steps, min(splits, steps)))
    whole = GEMM.program(A100, Gemm(m, n, k), options)
    program = GEMM.program(A100, Gemm(m, n, k), {**options, "splits": splits})
    validate(program)
    if splits == 1:
        assert program == whole
        return
    first, second = program.launches
    for tensor in ("A", "B"):
        assert Counter(touched(first, Load, tensor)) == Counter(touched(whole.launches[0], Load, tensor))
        for cta in ctas(first):
            assert overwrites(first.roles[0], cta, tensor, "MMA", stages) == []
    partial = next(t for t in program.tensors if t.name == "C partial")
    assert partial.nbytes == tiles * 128 * 64 * 4 * splits
    assert sorted(touched(first, Store, "C partial")) == sorted(touched(second, Load, "C partial")) == [*range(partial.tiles)]
    work = program_work(program)
    assert work.macs == program_work(whole).macs
    assert work.stored["C"] == tiles * 128 * 64 * 2
    assert work.lanes == {OpClass.FP32: tiles * 128 * 64 * splits, OpClass.PACK: tiles * 128 * 64 // 2}
    assert run(A100, program).ticks == run(A100, program, engine="simpy").ticks


def test_splits_are_chosen_where_tiles_are_fewer_than_sms():
    few, many = Gemm(64, 128, 12288), Gemm(4096, 4096, 4096)
    assert GEMM.program(A100, many, {"splits": "auto"}) == GEMM.program(A100, many)
    chosen = GEMM.program(A100, few, {"splits": "auto"})
    assert chosen.meta["splits"] > 1
    assert run(A100, chosen).time_s < run(A100, GEMM.program(A100, few)).time_s / 3
    # Short products are left whole.
    assert "splits" not in GEMM.program(A100, Gemm(64, 128, 128), {"splits": "auto"}).meta


@pytest.mark.parametrize(("splits", "message"), [
    (0, "kernel 'gemm': option splits must be at least 1, got 0"),
    (5, "kernel 'gemm': option splits must leave no split without a step, got 5 for 8 steps of block_k; use splits=4")])
def test_splits_out_of_range(splits, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        GEMM.program(A100, Gemm(128, 128, 512), {"splits": splits, "block_k": 64})


def test_gemm_sweeps_groups_of_tile_rows():
    """16 tile rows in groups of 8: the first CTAs take all columns of rows 0 to 7."""
    launch = GEMM.program(A100, Gemm(2048, 512, 32)).launches[0]
    rows = [next(op.tile.value(v) for op, v in unroll(launch.roles[0].body, cta) if isinstance(op, Load))
            for cta in ctas(launch)]
    assert rows == [*range(8)] * 4 + [*range(8, 16)] * 4


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 600), st.integers(1, 200), st.sampled_from([1, 2, 3, 4]), st.integers(1, 3))
def test_a_cluster_shares_the_columns_and_no_rows(clusters, n, k, cluster, more):
    options = {"block_n": 96, "block_k": 32, "cluster": cluster, "group_m": cluster * more}
    launch = GEMM.program(H200, Gemm(128 * cluster * clusters, n, k), options).launches[0]
    rows, columns, steps = cluster * clusters, up(n, 96), up(k, 32)
    assert Counter(touched(launch, Load, "A")) == dict.fromkeys(range(rows * steps), columns)
    assert Counter(touched(launch, Load, "B")) == dict.fromkeys(range(columns * steps * cluster), clusters)
    of_cta = [[op.tile.value(v) for op, v in unroll(launch.roles[0].body, cta) if isinstance(op, Load) and op.tensor == "B"]
              for cta in ctas(launch)]
    # CTAs of consecutive numbers ask for the parts of one tile at every step.
    for first in range(0, len(of_cta), cluster):
        for parts in zip(*of_cta[first:first + cluster], strict=True):
            assert parts == tuple(range(parts[0], parts[0] + cluster))
            assert parts[0] % cluster == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2500), st.integers(1, 1000), st.integers(1, 9), st.sampled_from([None, "wgmma", "mma.sync"]),
       st.integers(1, 20))
def test_clusters_of_two_where_they_can_be(m, n, group_m, path, sms):
    options = {"group_m": group_m} | ({"path": path} if path else {})
    cluster = GEMM.program(with_overrides(H200, {"sm.count": sms}), Gemm(m, n, 256), options).meta["cluster"]
    block_n, rows = (128 if path == "mma.sync" else 256), up(m, 128)
    can = rows % 2 == 0 and group_m > 1 and path != "mma.sync" and rows * up(n, block_n) >= sms
    assert cluster == (2 if can else 1)
    assert GEMM.program(A100, Gemm(m, 4096, 256), {"group_m": group_m}).meta["cluster"] == 1


@pytest.mark.parametrize("cluster", [2, 4])
def test_a_cluster_asks_l2_once_and_fills_every_shared_memory(cluster):
    shape = Gemm(1024, 2048, 1024)
    alone, shared = (GEMM.program(H200, shape, {"cluster": c}) for c in (1, cluster))
    before, after = run(H200, alone), run(H200, shared)
    of_a, of_b = (program_work(alone).loaded[name] for name in ("A", "B"))
    assert before.launches[0].l2_read_bytes == of_a + of_b
    assert after.launches[0].l2_read_bytes == of_a + of_b // cluster
    assert after.dram_read_bytes == before.dram_read_bytes == 2 * 1024 * (1024 + 2048)
    assert program_work(alone).smem_bytes == program_work(shared).smem_bytes
    for unit in (Unit.SMEM, Unit.COPY, Unit.TENSOR):
        assert after.launches[0].busy_ticks[unit] == pytest.approx(before.launches[0].busy_ticks[unit], rel=1e-3)
    # The same board power pays for fewer bytes of L2.
    power_alone, power_shared = (run(H200, p, clock=1.5e9).energy_j for p in (alone, shared))
    assert power_shared["l2"] < power_alone["l2"]
    assert power_shared["l2"] / power_alone["l2"] == pytest.approx(after.l2_bytes / before.l2_bytes)
    assert power_shared["smem"] == power_alone["smem"]


@pytest.mark.parametrize("stages", [1, 4])
def test_gemm_does_not_grow_with_its_size(stages):
    launches = [GEMM.program(A100, Gemm(n, n, n), {"stages": stages}).launches[0] for n in (512, 4096, 65536)]
    assert len({count_ops(x) for x in launches}) == 1


def test_gemm_of_one_buffer_waits_for_its_copies():
    shape = Gemm(2048, 2048, 2048)
    one, four = (run(A100, GEMM.program(A100, shape, {"stages": s})).time_s for s in (1, 4))
    assert one > four


@pytest.mark.parametrize("name", list_gpus())
def test_gemm_defaults_fit(name):
    gpu = load_gpu(name)
    for dtype in (Dtype.FP16, Dtype.BF16, Dtype.INT8, Dtype.FP8):
        if gpu.mma_path(dtype) is not None:
            assert occupancy(gpu, GEMM.program(gpu, Gemm(512, 512, 512), {"dtype": dtype.value}).launches[0])[0] >= 1


@pytest.mark.parametrize(("options", "message"), [
    ({"dtype": "fp61"}, "kernel 'gemm': option dtype must be one of fp16, bf16, fp8, int8, int4, got 'fp61' (did you mean 'fp16'?)"),
    ({"dtype": "fp8"}, "a100_sxm_80gb has no fp8 tensor cores"),
    ({"block_m": 96}, "kernel 'gemm': option block_m must be a positive multiple of 64, got 96"),
    ({"block_m": 24}, "kernel 'gemm': option block_m must be a positive multiple of 16, got 24"),
    ({"block_m": 64, "block_n": 48}, "kernel 'gemm': option block_n must be a multiple of 16 columns for each of the 2 warp "
                                     "groups that share them, got 48"),
    ({"block_n": 100}, "kernel 'gemm': option block_n must be a positive multiple of 16, got 100"),
    ({"block_k": -16}, "kernel 'gemm': option block_k must be a positive multiple of 16, got -16"),
    ({"warps": 3}, "kernel 'gemm': warps must be a positive multiple of 4, got 3"),
    ({"stages": 0}, "kernel 'gemm': option stages must be at least 1, got 0"),
    ({"group_m": 0}, "kernel 'gemm': option group_m must be at least 1, got 0"),
    ({"pieces": 0}, "kernel 'gemm': option pieces must be at least 1, got 0"),
    ({"group": 8}, "kernel 'gemm' has no option 'group': it has dtype, path, block_m, block_n, block_k, warps, stages, group_m, "
                   "pieces, cluster, b_order, splits (did you mean 'group_m'?)"),
    ({"b_order": "m"}, "kernel 'gemm': option b_order must be k or n, got 'm'"),
    ({"cluster": 0}, "kernel 'gemm': option cluster must be at least 1, got 0"),
    ({"cluster": 2}, "kernel 'gemm': option cluster must be 1 on a100_sxm_80gb, which has no bulk copies (TMA) to share, got 2"),
])
def test_gemm_options_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        GEMM.program(A100, Gemm(512, 512, 512), options)


@pytest.mark.parametrize(("options", "message"), [
    ({"cluster": 3}, "kernel 'gemm': option cluster must divide the 4 tile rows and be at most group_m (8), got 3"),
    ({"cluster": 4, "group_m": 2}, "kernel 'gemm': option cluster must divide the 4 tile rows and be at most group_m (2), got 4"),
    ({"cluster": 4, "block_n": 48}, "kernel 'gemm': option cluster must cut the 48 columns of block_n into parts of a "
                                    "multiple of 8, got 4"),
])
def test_clusters_that_cannot_be(options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        GEMM.program(H200, Gemm(512, 512, 512), options)


def test_clusters_above_what_hardware_has():
    with pytest.raises(ProgramError, match=r"/ load B: shared_by must be 1 to 16 CTAs, got 32$"):
        validate(GEMM.program(H200, Gemm(4096, 512, 512), {"cluster": 32, "group_m": 32}))


@pytest.mark.parametrize(("options", "message"), [
    ({"stages": 12}, "launch 'gemm' on a100_sxm_80gb: a CTA needs 196,608 B of shared memory, 29,696 B more than the "
                     "166,912 B one CTA may have; use smaller tiles or fewer stages"),
    ({"block_n": 512}, "launch 'gemm' on a100_sxm_80gb: a thread needs 304 registers, 49 more than the 255 it may have; "
                       "use smaller tiles or more warps"),
])
def test_impossible_gemm_says_by_how_much(options, message):
    with pytest.raises(ProgramError, match=f"^{re.escape(message)}$"):
        occupancy(A100, GEMM.program(A100, Gemm(512, 512, 512), options).launches[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3_000_000), st.sampled_from([32, 4096, 16384]), st.integers(1, 9), st.integers(1, 9),
       st.booleans())
def test_copy_touches_every_tile_once(nbytes, tile, stages, per_sm, write):
    nbytes = min(nbytes, 20_000 * 32) if tile == 32 else nbytes
    program = COPY.program(A100, CopyBytes(nbytes), {
        "tile_bytes": tile, "stages": stages, "ctas_per_sm": per_sm, "write": write})
    validate(program)
    launch, tiles = program.launches[0], up(nbytes, tile)
    assert sorted(touched(launch, Load, "source")) == list(range(tiles))
    assert touched(launch, Store, "target") == (touched(launch, Load, "source") if write else [])
    work = program_work(program)
    assert (work.read_bytes, work.write_bytes) == (tiles * tile, tiles * tile if write else 0)
    assert launch.ctas == min(tiles, 108 * per_sm)
    assert work.smem_bytes == program.useful_flops == 0


def test_copy_keeps_so_many_tiles_in_flight():
    launch = COPY.program(A100, CopyBytes(4096 * 108 * 8 * 10), {"stages": 3}).launches[0]
    flying = most = 0
    for op, _ in unroll(launch.roles[0].body, next(ctas(launch))):
        flying += isinstance(op, Load)
        flying -= isinstance(op, Store)
        most = max(most, flying)
    assert most == 3


def test_copy_does_not_grow_with_its_size():
    assert len({count_ops(COPY.program(A100, CopyBytes(n)).launches[0]) for n in (4096, 10**6, 10**10)}) == 1


@pytest.mark.parametrize("write", [True, False])
def test_long_copies_come_close_to_the_memory_bandwidth(write):
    program = COPY.program(A100, CopyBytes(10**9), {"write": write})
    moved = program_work(program).read_bytes * (1 + write)
    share = moved / run(A100, program).time_s / (A100.hbm.bandwidth * A100.hbm.efficiency)
    assert 0.9 < share <= 1


@pytest.mark.parametrize(("options", "message"), [
    ({"tile_bytes": 100}, "kernel 'copy': option tile_bytes must be a positive multiple of 32, got 100"),
    ({"stages": 0}, "kernel 'copy': option stages must be at least 1, got 0"),
    ({"ctas_per_sm": 0}, "kernel 'copy': option ctas_per_sm must be at least 1, got 0"),
    ({"write": "maybe"}, "kernel 'copy': option write must be true or false, got 'maybe'"),
])
def test_copy_options_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        COPY.program(A100, CopyBytes(4096), options)
