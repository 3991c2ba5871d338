"""``flash3``: published tiles, the order of operations, rings and turns over tiles of work, options."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedules.walk import ctas, touched, unroll
from turbosim import simulate
from turbosim.errors import UsageError
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import Dtype, Unit
from turbosim.program.occupancy import occupancy
from turbosim.program.ops import Compute, Load, Signal, Store, Wait
from turbosim.program.program import Scheduler
from turbosim.program.validate import validate
from turbosim.schedules.flash3 import FLASH3, build_flash3
from turbosim.schedules.flash3_plan import Tiling, default_tiling
from turbosim.workload import Attention, Phase

H100, A100 = load_gpu("h100_sxm"), load_gpu("a100_sxm_80gb")


def prefill(q, more=0, d=64, causal=True, batch=1, kv=1, group=1):
    return Attention(batch, kv * group, kv, q, q + more, d, causal, Phase.PREFILL)


def launch_of(shape, **options):
    program = FLASH3.program(H100, shape, options)
    validate(program)
    return program.launches[0]


@pytest.mark.parametrize(("d", "causal", "dtype", "tiling"), [
    (64, True, Dtype.FP16, Tiling(192, 128)), (64, False, Dtype.FP16, Tiling(192, 192, p_smem=True)),
    (96, True, Dtype.BF16, Tiling(192, 144, p_smem=True)), (128, True, Dtype.FP16, Tiling(128, 128)),
    (128, False, Dtype.FP16, Tiling(128, 176)), (192, True, Dtype.FP16, Tiling(128, 112)),
    (256, False, Dtype.FP16, Tiling(128, 80)), (64, True, Dtype.FP8, Tiling(192, 160)),
    (96, False, Dtype.FP8, Tiling(192, 128)), (128, False, Dtype.FP8, Tiling(128, 192)),
    (192, False, Dtype.FP8, Tiling(128, 160)), (256, True, Dtype.FP8, Tiling(128, 128)),
])
def test_published_tiles_fit_one_cta_with_its_register_split(d, causal, dtype, tiling):
    assert default_tiling(d, causal, dtype) == tiling
    launch = launch_of(prefill(4096, d=d, causal=causal, kv=40), dtype=dtype.value)
    assert occupancy(H100, launch)[0] == 1
    # Three warp groups, 168 registers at launch, 24 and 240 after setmaxnreg; four, 128, 32 and 160.
    assert (len(launch.roles), launch.registers_per_thread) == ((4, 128) if tiling.block_m == 192 else (3, 168))


def test_shared_memory_at_head_dimension_128():
    assert launch_of(prefill(512, d=128, causal=False)).smem_bytes == 2 * 128 * (128 + 2 * 2 * 176)
    assert launch_of(prefill(512, d=64, causal=False)).smem_bytes == 2 * 64 * (192 + 2 * 2 * 192) + 2 * 192 * 192


def labels(launch, role, cta):
    return [op.label for op, _ in unroll(launch.roles[role].body, cta)]


def test_overlap_issues_the_next_scores_before_the_output_of_the_present_tile():
    launch = launch_of(prefill(192, 192, causal=False), block_n=128, p_smem=False)
    cta = next(ctas(launch))
    assert cta["n"] == 3
    consumer = [x for x in labels(launch, 1, cta) if x in ("QK^T", "PV", "exp", "pass turn")]
    # P V of 128 keys are eight instructions, of which the queue takes the last five ahead.
    step = ["QK^T", "PV", "PV", "pass turn", "exp"]
    assert consumer == ["QK^T", "exp", *step, *step, "PV"]
    assert [x for x in labels(launch, 0, cta) if x.startswith("load")] == [
        "load K", "load Q", "load K", "load V", "load K", "load V", "load V"]


def test_without_overlap_a_product_is_done_before_the_next_operation():
    launch = launch_of(prefill(128, 256, d=128, causal=False), block_n=128, overlap=False)
    cta = next(ctas(launch))
    ops = [op for op, _ in unroll(launch.roles[1].body, cta)]
    for op, *following in zip(ops, ops[1:], ops[2:], strict=False):
        if isinstance(op, Compute) and op.signal:
            assert any(isinstance(x, Wait) and x.counter == op.signal for x in following)
    turns = [x for x in labels(launch, 1, cta) if x in ("wait turn", "QK^T", "pass turn", "exp", "PV")]
    tile = ["QK^T", "pass turn", "exp", "wait turn", "PV"]
    assert turns == ["wait turn", *tile, *tile, *tile, "pass turn"]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(0, 400), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.booleans(),
       st.booleans(), st.booleans())
def test_every_tile_is_read_for_every_query_tile_that_sees_it(q, more, batch, kv, group, causal, heavy, pack):
    shape = prefill(q, more, 64, causal, batch, kv, group)
    launch = launch_of(shape, block_m=128, block_n=64, p_smem=False, order="heavy_first" if heavy else "forward",
                       pack_gqa=pack)
    # Packed, row r of a KV head's tiles is token r // group; else every query head has tiles of its own.
    rows_of_a_token, tiled = (group, 1) if pack else (1, group)
    rows = q * rows_of_a_token
    key_tiles, query_tiles, heads = -(-(q + more) // 64), -(-rows // 128), batch * kv
    assert sorted(touched(launch, Load, "Q")) == list(range(heads * tiled * query_tiles))
    assert sorted(touched(launch, Store, "O")) == list(range(2 * heads * tiled * query_tiles))
    per_head = Counter()
    for m in range(query_tiles):
        last_token = (min(m * 128 + 128, rows) - 1) // rows_of_a_token
        last = last_token + 1 + more if causal else q + more
        per_head.update(range(-(-last // 64)))
    expected = Counter({h * key_tiles + t: tiled * n for h in range(heads) for t, n in per_head.items()})
    assert Counter(touched(launch, Load, "K")) == Counter(touched(launch, Load, "V")) == expected


def test_masked_tiles_come_first_and_the_last_one_is_always_masked():
    launch = launch_of(prefill(1000, d=128), block_n=64)
    for cta in ctas(launch):
        ops = [x for x in labels(launch, 1, cta) if x in ("mask", "exp")]
        masked = max(1, cta["masked"] + 1)
        assert ops == ["mask", "exp"] * masked + ["exp"] * (cta["n"] - masked)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 900), st.integers(1, 4), st.booleans(), st.booleans())
def test_a_stage_is_refilled_once_every_consumer_has_left_it(q, stages, overlap, causal):
    """Also across tiles of work, where waits count from the signals of the tiles before."""
    shape = prefill(q, 100, 64, causal, kv=2)
    launch = launch_of(shape, block_m=128, block_n=32, stages=stages, overlap=overlap, p_smem=False)
    groups = 2
    released, base, loaded = Counter(), Counter(), Counter()
    for cta in ctas(launch):
        for op, variables in unroll(launch.roles[0].body, cta):
            if isinstance(op, Wait):
                released[op.counter] = max(released[op.counter], op.until.value(variables) + base[op.counter])
            elif isinstance(op, Load):
                loaded[op.tensor] += 1
                buffers = 1 if op.tensor == "Q" else stages
                assert min(released[f"free {op.tensor} {i}"] for i in range(groups)) >= loaded[op.tensor] - buffers
                if op.tensor == "V":
                    tiles = base["free O 0"]
                    assert min(released[f"free O {i}"] for i in range(groups)) >= tiles
        for role in launch.roles[1:]:
            issued, done, left = Counter(), 0, Counter()
            last_product = {}
            for op, variables in unroll(role.body, cta):
                if isinstance(op, Compute) and op.signal:
                    issued[op.label] += 1
                    last_product[op.label, issued[op.label]] = issued.total()
                elif isinstance(op, Wait) and op.counter.startswith("mma"):
                    done = op.until.value(variables)
                elif isinstance(op, Signal):
                    base[op.counter] += 1
                    product = {"release K": "QK^T", "release V": "PV"}.get(op.label)
                    if product:
                        left[product] += 1
                        assert last_product[product, left[product]] <= done


def test_causal_work_is_taken_longest_first_in_sections_of_heads():
    launch = launch_of(prefill(4096, d=128, kv=64))
    # K and V of a head have 2 MiB, of which 16 fit into 32.
    trips = [cta["n"] for cta in ctas(launch)]
    heads = [cta["h"] + cta["s"] * 16 for cta in ctas(launch)]
    assert launch.scheduler is Scheduler.DYNAMIC
    for section in range(4):
        part = slice(section * 16 * 32, (section + 1) * 16 * 32)
        assert trips[part] == sorted(trips[part], reverse=True)
        assert set(heads[part]) == set(range(section * 16, section * 16 + 16))
    assert launch_of(prefill(4096, d=128, kv=64, causal=False)).scheduler is Scheduler.STATIC


LONG = prefill(4096, d=128, kv=16)


def test_pingpong_overlap_and_persistence_each_save_time():
    def slower(shape, **options):
        base, other = simulate(H100, shape, "flash3"), simulate(H100, shape, "flash3", options=options)
        assert other.launches[0].busy_ticks[Unit.TENSOR] == base.launches[0].busy_ticks[Unit.TENSOR]
        return other.time_s / base.time_s

    assert slower(LONG, overlap=False, pingpong=False) > slower(LONG, overlap=False) > 1
    # What a persistent CTA hides is the beginning and the end of a tile of work, hence short ones.
    for short in (prefill(512, causal=False, batch=16, kv=16), prefill(1024, batch=16, kv=16),
                  prefill(1024, d=128, causal=False, batch=16, kv=16)):
        assert slower(short, scheduler="single") > 1.01


def test_a_longer_queue_lets_the_softmax_begin_earlier():
    # Its register writes would delay the products that it then runs beside.
    alone = with_overrides(H100, {"tensor.wgmma.write_conflict": 0})
    more = with_overrides(alone, {"tensor.wgmma.queue": 100})
    assert simulate(more, LONG, "flash3").time_s < simulate(alone, LONG, "flash3").time_s


def test_it_is_faster_than_flash_on_the_same_instructions():
    assert simulate(H100, LONG, "flash3").time_s < 0.75 * simulate(H100, LONG, "flash", options={"path": "auto"}).time_s


@pytest.mark.parametrize(("gpu", "shape", "options", "message"), [
    (A100, LONG, {}, "kernel 'flash3' multiplies with wgmma fp16, which a100_sxm_80gb does not have; use flash"),
    (H100, Attention(1, 1, 1, 1, 9, 64, causal=False, phase=Phase.DECODE), {},
     "kernel 'flash3' has prefill only; use flash for decode"),
    (H100, LONG, {"dtype": "fp32"}, "kernel 'flash3': option dtype must be one of fp16, bf16, fp8, got 'fp32'"),
    (H100, LONG, {"order": "heavy"}, "kernel 'flash3': option order must be one of forward, heavy_first, got 'heavy' "
                                     "(did you mean 'heavy_first'?)"),
    (H100, LONG, {"scheduler": "lpt"},
     "kernel 'flash3': option scheduler must be one of single, static, dynamic, got 'lpt'"),
    (H100, LONG, {"block_m": 96}, "kernel 'flash3': option block_m must be 64, 128 or 192, 64 rows to a consumer warp "
                                  "group, got 96"),
    (H100, LONG, {"block_n": 100}, "kernel 'flash3': option block_n must be a positive multiple of 16, got 100"),
    (H100, LONG, {"stages": 0}, "kernel 'flash3': option stages must be at least 1, got 0"),
    (H100, LONG, {"block_m": 192}, "kernel 'flash3': a consumer thread needs 188 registers and has 160 with 3 consumer "
                                   "warp groups; use a smaller block_n or p_smem=true"),
    (H100, LONG, {"block_m": 64, "pingpong": True},
     "kernel 'flash3': option pingpong needs two consumer warp groups or more, got block_m 64; use block_m 128 or 192"),
])
def test_what_it_cannot_do_is_refused(gpu, shape, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        FLASH3.program(gpu, shape, options)


def test_the_builder_takes_parsed_options():
    program = build_flash3(H100, LONG, FLASH3.parse_options({"pingpong": "auto", "overlap": "no", "stages": "1"}))
    assert (program.meta["pingpong"], program.meta["overlap"], program.meta["stages"]) == (True, False, 1)


def test_packing_is_chosen_as_published():
    def packs(seq_q, q_heads=32):
        shape = Attention(1, q_heads, 8, seq_q, 4096, 128, True, Phase.PREFILL)
        return FLASH3.program(H100, shape).meta["pack_gqa"]

    # 16 of 128 rows against 64 of 128; 4096 rows are full tiles anyway; 960 rows of 1024 are 94 %, full with packing.
    assert packs(16)
    assert not packs(4096)
    assert not packs(960)
    # One head to each KV head leaves nothing to pack.
    assert not packs(16, q_heads=8)
