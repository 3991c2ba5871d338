"""FLOPs and bytes of programs against closed forms computed here from shapes alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedules.walk import even_splits
from turbosim.errors import UsageError
from turbosim.hw import load_gpu
from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.program.validate import validate
from turbosim.program.work import program_work
from turbosim.schedules.registry import SCHEDULES, get_schedule
from turbosim.schedules.tiles import split_count
from turbosim.workload import Attention, CopyBytes, Gemm, Phase, attention_of, get_model

A100, H200, SAS = load_gpu("a100_sxm_80gb"), load_gpu("h200_sxm"), load_gpu("h200_sas")


def up(a, b):
    return -(-a // b)


def tiles_of(shape, block_m, block_n):
    """Return (query tiles, KV tiles over all query tiles of one head), walking the rows."""
    offset = shape.seq_k - shape.seq_q
    total = 0
    for start in range(0, shape.seq_q, block_m):
        last = min(start + block_m, shape.seq_q) - 1
        seen = last + offset + 1 if shape.causal else shape.seq_k
        total += up(seen, block_n)
    return up(shape.seq_q, block_m), total


shapes = st.builds(
    lambda batch, kv, group, q, more, d, causal: Attention(batch, kv * group, kv, q, q + more, d, causal, Phase.PREFILL),
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 700), st.integers(0, 300),
    st.sampled_from([64, 96, 128]), st.booleans())


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from(["forward", "heavy_first"]), st.integers(1, 3))
def test_flash_prefill(shape, order, stages):
    program = get_schedule("flash").program(
        A100, shape, {"block_m": 64, "block_n": 64, "warps": 4, "order": order, "stages": stages})
    validate(program)
    heads, d = shape.batch * shape.q_heads, shape.head_dim
    query_tiles, kv_tiles = tiles_of(shape, 64, 64)
    work = program_work(program)
    assert work.macs == {(MmaPath.MMA_SYNC, Dtype.FP16): heads * kv_tiles * 2 * 64 * 64 * d}
    assert work.loaded == {"Q": heads * query_tiles * 64 * d * 2, "K": heads * kv_tiles * 64 * d * 2,
                           "V": heads * kv_tiles * 64 * d * 2}
    assert work.stored == {"O": heads * query_tiles * 64 * d * 2, "LSE": heads * query_tiles * 64 * 4}
    assert work.lanes[OpClass.SFU] >= heads * kv_tiles * 64 * 64
    assert program.useful_flops == shape.flops


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 4, 8]), st.integers(1, 5000), st.integers(1, 9))
def test_flash_decode(batch, kv_heads, group, seq, splits):
    shape = Attention(batch, kv_heads * group, kv_heads, 1, seq, 128, False, Phase.DECODE)
    program = get_schedule("flash").program(A100, shape, {"splits": even_splits(up(seq, 128), splits)})
    validate(program)
    work = program_work(program)
    tiles = batch * kv_heads * up(seq, 128)
    assert work.loaded["K0"] == work.loaded["V0"] == tiles * 128 * 128 * 2
    assert work.macs == {(MmaPath.MMA_SYNC, Dtype.FP16): tiles * 2 * 64 * 128 * 128}
    assert work.stored["O"] == batch * kv_heads * group * 128 * 2


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5000), st.sampled_from(["4", "2", "mixed"]))
def test_turbo_decode_reads_the_cache_it_stores(batch, kv_heads, seq, bits):
    shape = Attention(batch, kv_heads * 4, kv_heads, 1, seq, 128, False, Phase.DECODE)
    program = get_schedule("turbo").program(A100, shape, {"bits": bits})
    validate(program)
    work = program_work(program)
    buffer = min(seq, seq % 64 or 64)
    blocks = batch * (seq - buffer) // 64
    # Codes, INT8 scale and zero per channel, FP16 block scale; tiles are rounded to 32-byte sectors when moved.
    tile = {"4": up(64 * 128 // 2 + 256 + 2, 32) * 32, "2": up(64 * 128 // 4 + 256 + 2, 32) * 32}
    two = {"4": 0, "2": kv_heads, "mixed": kv_heads // 2}[bits]
    expected = blocks * ((kv_heads - two) * tile["4"] + two * tile["2"])
    loaded = {n: b for n, b in work.loaded.items() if n[0] == "K" and "buffer" not in n}
    assert sum(loaded.values()) == expected
    assert work.loaded["K buffer"] == batch * kv_heads * up(buffer * 128 + 2, 32) * 32
    assert work.macs[MmaPath.MMA_SYNC, Dtype.INT8] == batch * kv_heads * 2 * 16 * 128 * (
        64 * ((seq - buffer) // 64) + 64)


def test_turbo_prefill_counts_per_tile():
    """The 64 x 64 x 128 tile: 4096 scores, 8192 outputs; two products of 524288 MACs."""
    shape = Attention(1, 1, 1, 64, 64, 128, False, Phase.PREFILL)

    def lanes(**options):
        return program_work(get_schedule("turbo").program(SAS, shape, options)).lanes

    base = lanes()
    assert program_work(get_schedule("turbo").program(A100, shape)).macs == {
        (MmaPath.MMA_SYNC, Dtype.INT8): 2 * 64 * 64 * 128}
    assert lanes(convert="i2f")[OpClass.CVT] >= 4096 + 8192
    assert OpClass.CVT not in base
    assert lanes(sas_variant="naive")[OpClass.CVT] >= 2 * 4096
    assert lanes(sas_variant="unit")[OpClass.SAS] >= 4096
    assert lanes(sas=False)[OpClass.SFU] >= 4096 > base.get(OpClass.SFU, 0)
    assert program_work(get_schedule("turbo").program(A100, shape, {"flashq": False})).macs == {
        (MmaPath.MMA_SYNC, Dtype.FP16): 2 * 64 * 64 * 128}


def test_turbo_prefill_writes_the_quantised_cache_once():
    shape = attention_of(get_model("phi3-medium"), Phase.PREFILL, 2, 1024)
    work = program_work(get_schedule("turbo").program(A100, shape))
    blocks = 2 * 5 * 16
    assert work.stored["K cache 4-bit"] == blocks * up(4354, 32) * 32
    assert work.stored["V cache 2-bit"] == blocks * up(2306, 32) * 32


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 900), st.sampled_from(["fp16", "int8"]))
def test_gemm(m, n, k, dtype):
    program = get_schedule("gemm").program(A100, Gemm(m, n, k), {"dtype": dtype, "block_k": 32})
    validate(program)
    width = 2 if dtype == "fp16" else 1
    work = program_work(program)
    tiles = up(m, 128) * up(n, 128)
    assert work.macs == {(MmaPath.MMA_SYNC, Dtype(dtype)): tiles * up(k, 32) * 128 * 128 * 32}
    assert work.read_bytes == tiles * up(k, 32) * 2 * 128 * 32 * width
    assert work.write_bytes == tiles * 128 * 128 * 2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10**7))
def test_copy(nbytes):
    program = get_schedule("copy").program(A100, CopyBytes(nbytes))
    validate(program)
    work = program_work(program)
    assert work.read_bytes == work.write_bytes == up(nbytes, 4096) * 4096


@pytest.mark.parametrize(("tiles", "slots", "blocks", "splits"), [(1000, 216, 64, 1), (10, 216, 64, 64), (40, 216, 64, 5)])
def test_split_heuristic(tiles, slots, blocks, splits):
    assert split_count(tiles, slots, blocks) == splits


PREFILL = attention_of(get_model("llama3-8b"), Phase.PREFILL, 1, 512)


@pytest.mark.parametrize(("kernel", "options", "message"), [
    ("flash", {"block_m": 100}, "kernel 'flash': option block_m must be a positive multiple of 16, got 100"),
    ("flash", {"warps": 6}, "kernel 'flash': warps must be a positive multiple of 4, got 6"),
    ("flash", {"stages": 0}, "kernel 'flash': option stages must be at least 1, got 0"),
    ("flash", {"order": "random"}, "kernel 'flash': option order must be 'forward' or 'heavy_first', got 'random'"),
    ("flash", {"blockm": 64}, "kernel 'flash' has no option 'blockm': it has path, block_m, block_n, warps, stages, "
                              "splits, pieces, order, paged, cache_write, sync (did you mean 'block_m'?)"),
    ("flash", {"stages": "two"}, "kernel 'flash': option stages must be a whole number, got 'two'"),
    ("flash", {"stages": 1.5}, "kernel 'flash': option stages must be a whole number, got 1.5"),
    ("flash", {"stages": True}, "kernel 'flash': option stages must be a whole number, got True"),
    ("turbo", {"sas": 1}, "kernel 'turbo': option sas must be true or false, got 1"),
    ("turbo", {"bits": 2.0}, "kernel 'turbo': option bits must be text, got 2.0"),
    ("turbo", {"bits": "3"}, "kernel 'turbo': option bits must be one of 4, 2, mixed, got '3'"),
    ("turbo", {"sas": "maybe"}, "kernel 'turbo': option sas must be true or false, got 'maybe'"),
    ("turbo", {"two_bit_heads": 9}, "kernel 'turbo': two_bit_heads must be 0 to 8, got 9"),
    ("kivi", {"bits": "8"}, "kernel 'kivi': option bits must be 4 or 2, got '8'"),
    ("gear", {"rank": 0}, "kernel 'gear': option rank must be at least 1, got 0"),
    ("gemm", {}, "kernel 'gemm' runs gemm workloads, got attention"),
])
def test_bad_options(kernel, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        SCHEDULES[kernel].program(A100, PREFILL, options)


def test_options_from_python_and_from_text_are_the_same():
    parse = SCHEDULES["turbo"].parse_options
    typed = parse({"bits": 4, "sas": False, "splits": 3, "warps": None})
    assert typed == parse({"bits": "4", "sas": "no", "splits": "3", "warps": "auto"})
    assert (typed.bits, typed.sas, typed.splits, typed.warps) == ("4", False, 3, None)


def test_turbo_decode_needs_the_flashq_cache():
    shape = attention_of(get_model("llama3-8b"), Phase.DECODE, 1, 512)
    message = "kernel 'turbo': decode reads the FlashQ cache; flashq=false has prefill only"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        get_schedule("turbo").program(A100, shape, {"flashq": False})
