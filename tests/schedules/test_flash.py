"""``flash``: masks walked pair by pair, buffers never overwritten early, published tiles, impossible ones refused."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.schedules.walk import count_ops, ctas, even_splits, overwrites, touched, unroll
from turbosim import simulate
from turbosim.errors import ProgramError, UsageError
from turbosim.hw import list_gpus, load_gpu
from turbosim.hw.spec import Dtype, MmaPath, OpClass, Unit
from turbosim.program.occupancy import occupancy
from turbosim.program.ops import Compute, Load, Signal, Store, Wait
from turbosim.program.validate import validate
from turbosim.program.work import launch_work, program_work
from turbosim.schedules.flash import FLASH, Tiling, default_tiling
from turbosim.schedules.prefill import SYNCS
from turbosim.schedules.registry import get_schedule
from turbosim.schedules.tiles import PIECES, split_count
from turbosim.workload import Attention, Phase

A100, H200, L4 = load_gpu("a100_sxm_80gb"), load_gpu("h200_sxm"), load_gpu("l4")


def up(a, b):
    return -(-a // b)


def prefill(q, more=0, d=64, causal=True, batch=1, kv=1, group=1):
    return Attention(batch, kv * group, kv, q, q + more, d, causal, Phase.PREFILL)


def decode(seq, batch=1, kv=1, group=1, d=128):
    return Attention(batch, kv * group, kv, 1, seq, d, causal=False, phase=Phase.DECODE)


def visible(shape, row, key):
    return not shape.causal or key <= row + shape.seq_k - shape.seq_q


small = st.builds(prefill, st.integers(1, 200), st.integers(0, 150), st.just(16), st.booleans())


@settings(max_examples=40, deadline=None)
@given(small, st.sampled_from([16, 48, 64, 128]), st.integers(1, 4))
@example(prefill(64, 63, 16), 64, 1)  # the first row sees exactly one whole tile
@example(prefill(64, 64, 16), 64, 2)
@example(prefill(1, 0, 16), 64, 3)
def test_tiles_are_those_the_mask_lets_through(shape, block_n, stages):
    """Pair by pair: a tile is computed if a row sees one of its keys, and masked if its first row misses one."""
    launch = FLASH.program(A100, shape, {"block_m": 64, "block_n": block_n, "warps": 4, "stages": stages}).launches[0]
    for cta in ctas(launch):
        rows = range(cta["m"] * 64, min(cta["m"] * 64 + 64, shape.seq_q))
        tiles = [range(n, n + block_n) for n in range(0, shape.seq_k, block_n)]
        seen = [t for t in tiles if any(visible(shape, r, k) for r in rows for k in t if k < shape.seq_k)]
        masked = [t for t in seen if not all(visible(shape, rows[0], k) for k in t)]
        assert cta["n"] == len(seen) == cta["a"] + cta["c"] + cta["d"] + cta["e"]
        assert cta["c"] + cta["e"] == len(masked)
        ops = [op.label for op, _ in unroll(launch.roles[0].body, cta)]
        assert ops.count("QK^T") == ops.count("PV") == ops.count("exp") == len(seen)
        assert ops.count("mask") == len(masked)


@settings(max_examples=60, deadline=None)
@given(small)
def test_useful_flops_count_the_pairs_of_the_mask(shape):
    pairs = sum(visible(shape, r, k) for r in range(shape.seq_q) for k in range(shape.seq_k))
    program = FLASH.program(A100, shape)
    assert program.useful_flops == 4 * pairs * shape.head_dim
    assert program.useful_flops <= program_work(program).tensor_flops


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(0, 200), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3),
       st.booleans(), st.sampled_from(["forward", "heavy_first"]))
def test_every_tile_is_read_for_every_query_tile_that_sees_it(q, more, batch, kv, group, causal, order):
    shape = prefill(q, more, 16, causal, batch, kv, group)
    program = FLASH.program(H200, shape, {"order": order, "block_n": 64})
    launch = program.launches[0]
    assert sorted(touched(launch, Load, "Q")) == list(range(program.tensor("Q").tiles))
    for name in ("O", "LSE"):
        assert sorted(touched(launch, Store, name)) == list(range(program.tensor(name).tiles))
    key_tiles, per_head = up(shape.seq_k, 64), Counter()
    for m in range(up(q, 128)):
        last = min(m * 128 + 128, q) - 1 + more + 1 if causal else shape.seq_k
        per_head.update(range(up(last, 64)))
    expected = Counter({h * key_tiles + t: group * n for h in range(batch * kv) for t, n in per_head.items()})
    assert Counter(touched(launch, Load, "K")) == Counter(touched(launch, Load, "V")) == expected


@pytest.mark.parametrize("order", ["forward", "heavy_first"])
def test_order_of_query_tiles(order):
    launch = FLASH.program(A100, prefill(1000), {"order": order}).launches[0]
    trips = [cta["n"] for cta in ctas(launch)]
    assert trips == sorted(trips, reverse=order == "heavy_first")
    assert sum(trips) == sum(range(1, 9))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(0, 200), st.integers(1, 5), st.sampled_from([4, 8]), st.booleans())
def test_prefill_never_overwrites_a_tile_in_use(q, more, stages, warps, causal):
    shape = prefill(q, more, 16, causal)
    launch = FLASH.program(A100, shape, {"block_m": 128, "block_n": 32, "warps": warps, "stages": stages}).launches[0]
    for cta in ctas(launch):
        assert overwrites(launch.roles[0], cta, "K", "QK^T", stages) == []
        assert overwrites(launch.roles[0], cta, "V", "PV", stages) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 600), st.integers(0, 300), st.integers(2, 4), st.sampled_from([(64, 4), (128, 8), (192, 12)]),
       st.booleans(), st.sampled_from(["flash", "turbo"]))
def test_mbarriers_let_a_stage_be_refilled_when_every_warp_group_has_read_it(q, more, stages, rows_warps, causal, kernel):
    block_m, warps = rows_warps
    options = {"path": "auto", "sync": "mbarrier", "block_m": block_m, "block_n": 64, "warps": warps, "stages": stages}
    program = get_schedule(kernel).program(H200, prefill(q, more, 64, causal), options)
    validate(program)
    launch = program.launches[0]
    for cta in ctas(launch):
        released = {f"free {i}": 0 for i in range(warps // 4)}
        loads = Counter()
        for op, variables in unroll(launch.roles[0].body, cta):
            if isinstance(op, Wait) and op.counter in released:
                released[op.counter] = op.until.value(variables)
            elif isinstance(op, Load) and op.tensor in ("K", "V"):
                loads[op.tensor] += 1
                assert min(released.values()) >= loads[op.tensor] - stages
        for role, counter in zip(launch.roles, released, strict=True):
            products = signals = 0
            for op, _ in unroll(role.body, cta):
                products += isinstance(op, Compute) and op.label == "PV"
                if isinstance(op, Signal) and op.counter == counter:
                    signals += 1
                    assert products == signals
            assert signals == cta["n"]


def test_mbarriers_free_the_warp_groups_of_each_other():
    shape = Attention(1, 32, 8, 4096, 4096, 128, causal=True, phase=Phase.PREFILL)
    step, free = (simulate(H200, shape, "flash", options={"path": "auto", "sync": sync}) for sync in SYNCS)
    # The same work in less time, because the tensor cores work for one group during the softmax of the other.
    assert free.launches[0].busy_ticks[Unit.TENSOR] == step.launches[0].busy_ticks[Unit.TENSOR]
    assert free.time_s < 0.97 * step.time_s


@pytest.mark.parametrize(("gpu", "options", "message"), [
    (H200, {"sync": "mbarier"},
     "kernel 'flash': option sync must be one of barrier, mbarrier, got 'mbarier' (did you mean 'mbarrier'?)"),
    (H200, {"sync": "mbarrier"},
     "kernel 'flash': option sync=mbarrier needs copies by TMA, which come with path wgmma or tcgen05, and at least 2 "
     "stages, got path mma.sync and stages 1"),
    (H200, {"sync": "mbarrier", "path": "auto", "stages": 1},
     "kernel 'flash': option sync=mbarrier needs copies by TMA, which come with path wgmma or tcgen05, and at least 2 "
     "stages, got path wgmma and stages 1"),
])
def test_a_sync_the_copies_do_not_allow_is_refused(gpu, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        FLASH.program(gpu, prefill(512, d=128), options)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 4), st.sampled_from([(64, 4), (128, 8)]), st.integers(1, 9))
def test_decode_never_overwrites_a_tile_in_use(seq, stages, rows_warps, splits):
    block_m, warps = rows_warps
    splits = even_splits(up(seq, 64), splits)
    options = {"block_m": block_m, "warps": warps, "stages": stages, "splits": splits, "block_n": 64}
    launch = FLASH.program(A100, decode(seq), options).launches[0]
    for cta in ctas(launch):
        assert overwrites(launch.roles[0], cta, "K0", "QK^T", stages) == []
        assert overwrites(launch.roles[0], cta, "V0", "PV", stages) == []


@pytest.mark.parametrize(("gpu", "stages"), [(A100, 1), (H200, 2)])
def test_a_program_does_not_grow_with_the_sequence(gpu, stages):
    sizes = {count_ops(FLASH.program(gpu, prefill(q, d=128), {"path": "auto"}).launches[0]) for q in (256, 4096, 131072)}
    assert len(sizes) == 1
    sizes = {tuple(map(count_ops, FLASH.program(gpu, decode(q), {"splits": 2}).launches)) for q in (256, 4096, 131072)}
    assert len(sizes) == 1
    classes = FLASH.program(gpu, prefill(131072, d=128), {"path": "auto"}).launches[0].classes
    assert len(classes) == len({c.params for c in classes}) <= 1024
    assert FLASH.program(gpu, prefill(512), {"path": "auto"}).meta["stages"] == stages


def test_one_tile_on_a100():
    """128 x 64 tiles at d = 128: counts of one KV tile and of the finish, from the shapes."""
    def work(keys):
        return program_work(FLASH.program(A100, Attention(1, 1, 1, 128, keys, 128, causal=False, phase=Phase.PREFILL)))

    one, two = work(64), work(128)
    tile = {c: two.lanes.get(c, 0) - one.lanes.get(c, 0) for c in two.lanes}
    scores, outputs, row_threads = 128 * 64, 128 * 128, 128 * 4
    assert tile == {
        OpClass.INT: scores + 20 * 128,  # maximum, loop overhead
        OpClass.SHUFFLE: 2 * row_threads,  # quad maximum
        OpClass.FP32: 2 * scores + outputs,  # scale, row sum, rescale of O
        OpClass.SFU: scores + row_threads,  # exponential, change of the maximum
        OpClass.PACK: scores // 2}
    assert two.macs[MmaPath.MMA_SYNC, Dtype.FP16] - one.macs[MmaPath.MMA_SYNC, Dtype.FP16] == 2 * 128 * 64 * 128
    # Each of the four warps reads all of K and of V, the CTA its Q once, and the copies write K and V: 16 KiB each.
    assert two.smem_bytes - one.smem_bytes == (4 + 4 + 2 + 1 + 1) * 16384
    assert one.lanes[OpClass.FP32] - tile[OpClass.FP32] == outputs
    assert one.write_bytes == two.write_bytes == 128 * 128 * 2 + 128 * 4


def test_one_tile_on_hopper():
    """``wgmma``: two warp groups of 64 rows each read K and V once."""
    def work(keys):
        shape = Attention(1, 1, 1, 128, keys, 128, causal=False, phase=Phase.PREFILL)
        return program_work(FLASH.program(H200, shape, {"path": "auto"}))

    one, two = work(128), work(256)
    assert two.macs == {(MmaPath.WGMMA, Dtype.FP16): 2 * 2 * 128 * 128 * 128}
    assert two.smem_bytes - one.smem_bytes == (2 * (1 + 1) + 1 + 1 + 1) * 32768


PUBLISHED = [
    # head_dim, sm_80, sm_89 full, sm_89 causal
    (64, (128, 128, 4), (128, 128, 4), (128, 128, 4)),
    (96, (128, 64, 4), (128, 64, 4), (64, 64, 4)),
    (128, (128, 64, 4), (128, 32, 4), (64, 64, 4)),
    (192, (128, 64, 8), (128, 64, 8), (128, 64, 8)),
    (256, (128, 64, 8), (64, 64, 4), (64, 64, 4)),
]


@pytest.mark.parametrize(("d", "sm_80", "full", "causal"), PUBLISHED)
def test_published_tiles(d, sm_80, full, causal):
    assert default_tiling(A100, prefill(512, d=d)) == Tiling(*sm_80, 1)
    assert default_tiling(L4, prefill(512, d=d, causal=False)) == Tiling(*full, 1)
    assert default_tiling(L4, prefill(512, d=d)) == Tiling(*causal, 1)
    # Two CTAs of 64 rows and 256 columns fit on an SM of sm_90.
    assert default_tiling(H200, prefill(512, d=d)) == Tiling(*(sm_80 if d < 256 else (64, 64, 4)), 1)
    assert default_tiling(H200, prefill(512, d=d), "auto") == Tiling(128, 128 if d <= 128 else 64, 8, 2)


def test_flash_attention_2_multiplies_with_mma_sync_everywhere():
    shape = Attention(1, 1, 1, 128, 256, 128, causal=False, phase=Phase.PREFILL)
    for name in list_gpus():
        program = FLASH.program(load_gpu(name), shape)
        assert program.meta["path"] == "mma.sync"
        assert {path for path, _ in program_work(program).macs} == {MmaPath.MMA_SYNC}


@pytest.mark.parametrize(("options", "message"), [
    ({"path": "wgmma"}, "kernel 'flash': option path on a100_sxm_80gb in fp16 must be one of auto, mma.sync, got 'wgmma'"),
    ({"path": "mma"}, "kernel 'flash': option path on a100_sxm_80gb in fp16 must be one of auto, mma.sync, got 'mma'"),
])
def test_a_path_the_gpu_lacks_is_refused(options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        FLASH.program(A100, prefill(512), options)


@pytest.mark.parametrize("name", list_gpus())
def test_default_tiles_fit_every_gpu(name):
    gpu = load_gpu(name)
    for d in range(16, 257, 16):
        for shape in (prefill(512, d=d), prefill(512, d=d, causal=False), decode(512, d=d)):
            program = FLASH.program(gpu, shape)
            validate(program)
            for launch in program.launches:
                assert occupancy(gpu, launch)[0] >= 1


@pytest.mark.parametrize(("gpu", "smem", "registers"), [(A100, 65536, 240), (H200, 163840, 176)])
def test_resources_at_head_dimension_128(gpu, smem, registers):
    launch = FLASH.program(gpu, prefill(8192, d=128, kv=40), {"path": "auto"}).launches[0]
    assert (launch.smem_bytes, launch.registers_per_thread) == (smem, registers)
    assert occupancy(gpu, launch)[0] == (2 if gpu is A100 else 1)


# Decode.


def reference_splits(tiles, slots, blocks):
    """Smallest eligible number of splits within 85 % of the best wave efficiency, tried one by one."""
    if tiles >= 0.8 * slots:
        return 1
    candidates = [s for s in range(1, min(128, slots, blocks) + 1)
                  if s == 1 or up(blocks, s) != up(blocks, s - 1)]
    efficiency = {s: tiles * s / slots / up(tiles * s, slots) for s in candidates}
    return min(s for s, e in efficiency.items() if e >= 0.85 * max(efficiency.values()))


@given(st.integers(1, 400), st.integers(1, 300), st.integers(1, 2000))
def test_split_heuristic(tiles, slots, blocks):
    assert split_count(tiles, slots, blocks) == reference_splits(tiles, slots, blocks)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 4, 7]), st.integers(1, 4000),
       st.none() | st.integers(1, 40))
def test_splits_share_out_the_cache(batch, kv, group, seq, splits):
    shape = decode(seq, batch, kv, group)
    tiles, heads = up(seq, 128), batch * kv
    if splits and splits != even_splits(tiles, splits):
        message = (f"kernel 'flash': option splits must leave no split without KV tiles, got {splits} for {tiles} tiles of "
                   f"128 tokens; use splits={even_splits(tiles, splits)}")
        with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
            FLASH.program(A100, shape, {"splits": splits})
        splits = even_splits(tiles, splits)
    program = FLASH.program(A100, shape, {"splits": splits})
    got = program.meta["splits"]
    assert got == (splits or got) == even_splits(tiles, got)
    for name in ("K0", "V0"):
        assert sorted(touched(program.launches[0], Load, name)) == list(range(heads * tiles))
    per_cta = [cta["n0"] for cta in ctas(program.launches[0])]
    assert sum(per_cta) == heads * tiles
    assert set(per_cta) <= {up(tiles, got), tiles - up(tiles, got) * (got - 1)}
    assert min(per_cta) >= 1
    outputs = heads * group * 128
    split = launch_work(program, program.launches[0])
    if got == 1:
        assert len(program.launches) == 1
        assert split.stored == {"O": outputs * 2}
        return
    combine = launch_work(program, program.launches[1])
    sector = up(4 * group, 32) * 32
    assert split.stored == combine.loaded == {"O partial": got * outputs * 4, "LSE partial": got * heads * sector}
    assert combine.stored == {"O": outputs * 2}
    for name in ("O partial", "LSE partial"):
        assert sorted(touched(program.launches[0], Store, name)) == list(range(heads * got))
        assert sorted(touched(program.launches[1], Load, name)) == list(range(heads * got))


def test_decode_pads_the_group_to_64_rows_on_every_path():
    for gpu in (A100, H200):
        program = FLASH.program(gpu, decode(1024, group=8))
        assert program_work(program).macs == {(MmaPath.MMA_SYNC, Dtype.FP16): 2 * 64 * 1024 * 128}
        assert program.useful_flops == 4 * 8 * 1024 * 128


@pytest.mark.parametrize(("path", "pieces", "products"), [("mma.sync", 1, 1), ("mma.sync", 40, 40), ("wgmma", 4, 4),
                                                          ("wgmma", 40, 8)])
def test_pieces(path, pieces, products):
    launch = FLASH.program(H200, prefill(512, d=128), {"path": path, "pieces": pieces}).launches[0]
    found = {op.label: op.pieces for op, _ in unroll(launch.roles[0].body, next(ctas(launch)))
             if isinstance(op, Compute)}
    # An instruction of wgmma does 16 of the 128 elements of k, and is not divided.
    assert (found["QK^T"], found["PV"]) == (products, products)
    assert (found["row max"], found["exp"], found["rescale O"]) == (pieces, pieces, pieces)
    # Outside of the loop.
    assert found["normalise"] == 1


@pytest.mark.parametrize(("gpu", "d"), [(A100, 64), (A100, 128), (H200, 128), (L4, 64)], ids=lambda x: getattr(x, "name", x))
def test_pieces_settle(gpu, d):
    """Four times as many parts of a block change the time by less than 7 %."""
    shape = Attention(4, 16, 16, 2048, 2048, d, causal=False, phase=Phase.PREFILL)
    usual, finer = (simulate(gpu, shape, "flash", options={"pieces": n}).time_s for n in (PIECES, 4 * PIECES))
    assert finer == pytest.approx(usual, rel=0.07)


def test_the_first_operands_of_a_product_are_waited_for():
    """LDSM of the first of the eight steps of k, then the other operands beside the products."""
    launch = FLASH.program(A100, prefill(512, d=128)).launches[0]
    ops = [op for op, _ in unroll(launch.roles[0].body, next(ctas(launch))) if isinstance(op, Compute)]
    first, product = ops[0], ops[1]
    assert (first.label, product.label) == ("QK^T operands", "QK^T")
    # Four warps read a K tile of 64 tokens each, and the CTA's 128 queries once.
    assert first.smem_bytes + product.smem_bytes == 4 * 64 * 128 * 2 + 128 * 128 * 2
    assert first.smem_bytes == product.smem_bytes // 7
    assert (first.mma, product.mma.macs) == (None, 128 * 64 * 128)


# Refusals.


@pytest.mark.parametrize(("options", "message"), [
    ({"block_m": 0}, "kernel 'flash': option block_m must be a positive multiple of 16, got 0"),
    ({"block_n": 40}, "kernel 'flash': option block_n must be a positive multiple of 16, got 40"),
    ({"block_m": 32}, "kernel 'flash': block_m must be a multiple of 64 rows per warp group, got 32 for 1"),
    ({"block_m": 64, "warps": 8}, "kernel 'flash': block_m must be a multiple of 64 rows per warp group, got 64 for 2"),
    ({"warps": 0}, "kernel 'flash': warps must be a positive multiple of 4, got 0"),
    ({"stages": -1}, "kernel 'flash': option stages must be at least 1, got -1"),
    ({"pieces": 0}, "kernel 'flash': option pieces must be at least 1, got 0"),
])
@pytest.mark.parametrize("shape", [prefill(512, d=128), decode(512)], ids=["prefill", "decode"])
def test_options_out_of_range(shape, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        FLASH.program(A100, shape, options)


@pytest.mark.parametrize(("shape", "options", "message"), [
    (decode(512), {"splits": 0}, "kernel 'flash': option splits must be at least 1, got 0"),
    (prefill(512), {"splits": 4}, "kernel 'flash': option splits is for decode, and this is prefill; leave it out"),
    (decode(512), {"path": "banana"}, "kernel 'flash': option path is for prefill, and this is decode; leave it out"),
    (decode(512), {"order": "heavy_first"},
     "kernel 'flash': option order is for prefill, and this is decode; leave it out"),
])
def test_options_of_the_other_phase_are_refused(shape, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        FLASH.program(A100, shape, options)


def test_decode_refuses_more_heads_than_rows():
    message = ("kernel 'flash': decode holds the query heads of a KV head in block_m rows, got block_m 64 for 71 heads; "
               "use a larger block_m")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        FLASH.program(A100, decode(512, group=71))
    program = FLASH.program(A100, decode(512, group=71), {"block_m": 128, "block_n": 64})
    assert program.useful_flops <= program_work(program).tensor_flops
    assert occupancy(A100, program.launches[0])[0] >= 1


@pytest.mark.parametrize(("options", "message"), [
    ({"block_n": 128}, "launch 'flash' on a100_sxm_80gb: a thread needs 304 registers, 49 more than the 255 it may have; "
                       "use smaller tiles or more warps"),
    ({"block_m": 256, "block_n": 256, "warps": 16},
     "launch 'flash' on a100_sxm_80gb: a CTA needs 196,608 B of shared memory, 29,696 B more than the 166,912 B one CTA "
     "may have; use smaller tiles or fewer stages"),
    ({"block_m": 512, "block_n": 32, "warps": 16},
     "launch 'flash' on a100_sxm_80gb: a CTA needs 106,496 registers, 40,960 more than the 65,536 of an SM; use smaller "
     "tiles or fewer warps"),
])
def test_impossible_tilings_say_by_how_much(options, message):
    program = FLASH.program(A100, prefill(512, d=128), options)
    with pytest.raises(ProgramError, match=f"^{re.escape(message)}$"):
        occupancy(A100, program.launches[0])
