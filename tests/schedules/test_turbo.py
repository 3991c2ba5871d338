"""``turbo``: bytes, products and instruction counts against closed forms written from the shapes alone."""

from __future__ import annotations

import re
from itertools import product
from math import ceil

import pytest

from tests.schedules.walk import even_splits
from turbosim.errors import UsageError
from turbosim.hw import load_gpu
from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.program.ops import Compute, Loop
from turbosim.program.validate import validate
from turbosim.program.work import launch_work, program_work
from turbosim.schedules import sas
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Attention, Phase, attention_of, get_model
from turbosim.workload.kvcache import FORMATS

A100, H200, H200_SAS = load_gpu("a100_sxm_80gb"), load_gpu("h200_sxm"), load_gpu("h200_sas")
TURBO = get_schedule("turbo")
SMALL = Attention(1, 4, 2, 200, 300, 64, causal=True, phase=Phase.PREFILL)
SHAPES = [
    SMALL,
    Attention(2, 2, 1, 96, 130, 128, causal=False, phase=Phase.PREFILL),
    attention_of(get_model("phi3-medium"), Phase.PREFILL, 4, 8192),
    attention_of(get_model("phi3-mini"), Phase.PREFILL, 1, 1000),
]
DECODES = [
    Attention(1, 4, 4, 1, 1, 64, causal=False, phase=Phase.DECODE),
    Attention(2, 8, 2, 1, 700, 128, causal=False, phase=Phase.DECODE),
    Attention(3, 20, 1, 1, 640, 96, causal=False, phase=Phase.DECODE),
    attention_of(get_model("phi3-medium"), Phase.DECODE, 4, 32768),
]


def sector(nbytes):
    return ceil(nbytes / 32) * 32


def tiles_met(shape, block_m, block_n):
    """KV tiles over all query tiles of one head."""
    total = 0
    for first in range(0, shape.seq_q, block_m):
        last = min(first + block_m, shape.seq_q) - 1
        keys = last + shape.seq_k - shape.seq_q + 1 if shape.causal else shape.seq_k
        total += ceil(keys / block_n)
    return total


def build(gpu, shape, **options):
    program = TURBO.program(gpu, shape, options)
    validate(program)
    return program


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("tile", [(64, 64), (128, 64), (64, 128), (128, 128)])
@pytest.mark.parametrize("gpu", [A100, H200], ids=lambda g: g.name)
def test_prefill_closed_forms(gpu, shape, tile):
    m, n = tile
    met = shape.batch * shape.q_heads * tiles_met(shape, m, n)
    d, blocks = shape.head_dim, n // 64
    queries = shape.batch * shape.q_heads * ceil(shape.seq_q / m)
    keys = shape.batch * shape.kv_heads * ceil(shape.seq_k / n)
    for flashq, use_sas, from_fp16 in product((True, False), repeat=3):
        if from_fp16 and not flashq:
            continue
        program = build(gpu, shape, block_m=m, block_n=n, flashq=flashq, sas=use_sas, quantise_inputs=from_fp16)
        work = launch_work(program, program.launches[0])
        dtype = Dtype.INT8 if flashq else Dtype.FP16
        assert work.macs == {(gpu.mma_path(dtype), dtype): met * 2 * m * n * d}
        int8 = flashq and not from_fp16
        tile_bytes = n * d + 2 * blocks if int8 else 2 * n * d
        assert work.loaded == {"Q": queries * sector(m * d + 2 if int8 else 2 * m * d), "K": met * sector(tile_bytes),
                               "V": met * sector(tile_bytes)}
        assert work.stored == {"O": queries * 2 * m * d, "LSE": queries * 4 * m}
        assert program.useful_flops == shape.flops
        assert len(program.launches) == 1 + flashq
        if flashq:
            pack = launch_work(program, program.launches[1])
            assert pack.loaded == {"K": keys * sector(tile_bytes), "V": keys * sector(tile_bytes)}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("options", "two_bit"), [
    ({"bits": "4"}, lambda h: 0), ({"bits": "2"}, lambda h: h), ({}, lambda h: h // 2),
    ({"two_bit_heads": 0}, lambda h: 0), ({"two_bit_heads": 1}, lambda h: 1)])
def test_prefill_writes_every_block_of_the_cache_once(shape, options, two_bit):
    program = build(A100, shape, **options)
    stored = launch_work(program, program.launches[1]).stored
    two = two_bit(shape.kv_heads)
    blocks = shape.batch * ceil(shape.seq_k / 64)
    d = shape.head_dim
    expected = {}
    for bits, heads in ((4, shape.kv_heads - two), (2, two)):
        if heads:
            expected |= {f"{name} cache {bits}-bit": blocks * heads * sector(64 * d * bits // 8 + 2 * d + 2)
                         for name in "KV"}
    assert stored == expected
    exact = blocks * sum(2 * h * FORMATS[f"turbo-{b}"].block_bytes(d) for b, h in ((4, shape.kv_heads - two), (2, two)))
    assert 0 <= sum(stored.values()) - exact < 32 * 2 * blocks * shape.kv_heads
    # The tensors' exact sizes are those of the cache.
    assert sum(program.tensor(name).nbytes for name in stored) == exact


@pytest.mark.parametrize("shape", DECODES, ids=str)
@pytest.mark.parametrize(("options", "two_bit"), [
    ({"bits": "4"}, lambda h: 0), ({"bits": "2"}, lambda h: h), ({}, lambda h: h // 2),
    ({"splits": 3, "stages": 2}, lambda h: h // 2), ({"two_bit_heads": 1, "sas": False}, lambda h: 1)])
def test_decode_reads_the_cache_once(shape, options, two_bit):
    two, d, tokens = two_bit(shape.kv_heads), shape.head_dim, shape.seq_k
    held = tokens % 64 or min(64, tokens)
    blocks = (tokens - held) // 64
    if "splits" in options:
        options = {**options, "splits": even_splits(blocks, options["splits"])}
    program = build(A100, shape, **options)
    work = launch_work(program, program.launches[0])
    read = sum(n for name, n in work.loaded.items() if name != "Q")
    splits = program.meta["splits"]
    expected = 0
    for bits, heads in ((4, shape.kv_heads - two), (2, two)):
        expected += 2 * shape.batch * heads * blocks * sector(64 * d * bits // 8 + 2 * d + 2)
    expected += 2 * shape.batch * shape.kv_heads * sector(held * d + 2)
    assert read == expected
    assert work.loaded["Q"] == shape.batch * shape.kv_heads * splits * 2 * shape.group * d
    # What kvcache.py says, up to one sector a tile.
    cache = shape.batch * ((shape.kv_heads - two) * FORMATS["turbo-4"].cache_bytes(d, tokens)
                           + two * FORMATS["turbo-2"].cache_bytes(d, tokens))
    assert 0 <= read - cache < 32 * 2 * shape.batch * shape.kv_heads * (blocks + 1)
    rows = 16 * ceil(shape.group / 16)
    assert work.macs == {(MmaPath.MMA_SYNC, Dtype.INT8):
                         shape.batch * shape.kv_heads * (blocks + 1) * 2 * rows * 64 * d}
    assert program.useful_flops == shape.flops
    assert len(program.launches) == 1 + (splits > 1)
    outputs = shape.batch * shape.q_heads * d
    if splits > 1:
        assert sum(work.stored.values()) >= 4 * outputs * splits
    else:
        assert work.stored == {"O": 2 * outputs}


def test_decode_with_larger_tiles_pads_the_last():
    shape = DECODES[1]
    program = build(A100, shape, bits="4", block_n=128)
    work = launch_work(program, program.launches[0])
    # 700 tokens: 60 in the buffer, 640 in five tiles of 128.
    assert work.loaded["K0"] == 2 * 2 * 5 * sector(2 * 4354)
    assert work.macs[MmaPath.MMA_SYNC, Dtype.INT8] == 2 * 2 * 2 * 16 * 128 * (5 * 128 + 64)


def per_tile(gpu=A100, **options):
    """Instructions of one 64 x 64 tile at head dimension 128, by label and class: two tiles less one tile."""
    counts = {}
    for keys in (64, 128):
        shape = Attention(1, 1, 1, 64, keys, 128, causal=False, phase=Phase.PREFILL)
        program = get_schedule(options.get("kernel", "turbo")).program(
            gpu, shape, {"block_m": 64, "block_n": 64} | {k: v for k, v in options.items() if k != "kernel"})
        counts[keys] = launch_work(program, program.launches[0]).lanes
    return {c: n - counts[64].get(c, 0) for c, n in counts[128].items() if n != counts[64].get(c, 0)}


SCORES, OUTPUTS, ROWS = 64 * 64, 64 * 128, 2 * 128
"""Scores, outputs, and rows times the threads that hold them, of one tile."""


def test_instructions_per_tile_of_flash():
    # One exponential a score and one a row; scale and sum, rescale; two scores a packing instruction.
    assert per_tile(kernel="flash") == {
        OpClass.FP32: 2 * SCORES + OUTPUTS, OpClass.SFU: SCORES + ROWS, OpClass.PACK: SCORES // 2,
        OpClass.INT: SCORES + 20 * 128, OpClass.SHUFFLE: 2 * ROWS}


def test_turbo_with_sas_has_no_sfu_work():
    got = per_tile()
    assert OpClass.SFU not in got
    assert OpClass.CVT not in got
    # Scaling one FFMA, accumulation two.
    assert got[OpClass.FP32] == SCORES + ROWS + 2 * OUTPUTS
    # SAS four and the row sum a half per score, the tile's maximum a half, quantisation a half.
    assert got[OpClass.FP16X2] == 4.5 * (SCORES + ROWS) + SCORES
    # Row maximum and loop; exponent insertion; gathering P's bytes.
    assert got[OpClass.INT] == SCORES + 20 * 128 + 1.5 * (SCORES + ROWS) + 0.75 * SCORES
    assert got[OpClass.PACK] == (SCORES + ROWS) / 2


@pytest.mark.parametrize(("variant", "fp16x2", "integer", "cvt"), [
    ("exponent", 4, 1.5, 0), ("table", 5, 3.5, 0), ("naive", 2.5, 8, 2)])
def test_instructions_per_exponential(variant, fp16x2, integer, cvt):
    got, base = per_tile(sas_variant=variant), per_tile()
    n = SCORES + ROWS
    assert got[OpClass.FP16X2] - base[OpClass.FP16X2] == (fp16x2 - 4) * n
    assert got[OpClass.INT] - base[OpClass.INT] == (integer - 1.5) * n
    assert got.get(OpClass.CVT, 0) == cvt * n


def test_a_sas_unit_replaces_the_polynomial():
    got = per_tile(H200_SAS, sas_variant="unit")
    assert got[OpClass.SAS] == SCORES + ROWS
    assert per_tile(H200_SAS) == got
    written = per_tile(H200_SAS, sas_variant="exponent")
    assert written[OpClass.FP16X2] - got[OpClass.FP16X2] == 4 * (SCORES + ROWS)


def test_i2f_converts_every_accumulator():
    assert per_tile(convert="i2f")[OpClass.CVT] == SCORES + ROWS + OUTPUTS
    assert per_tile(convert="i2f")[OpClass.FP32] == per_tile()[OpClass.FP32]


def test_asynchronous_products_get_the_magic_constant_afterwards():
    assert OpClass.IMAD not in per_tile(A100)
    assert per_tile(H200)[OpClass.IMAD] == SCORES + ROWS + OUTPUTS
    assert OpClass.IMAD not in per_tile(H200, convert="i2f")
    assert OpClass.IMAD not in per_tile(H200, flashq=False)


def test_flashq_without_sas_takes_exponentials_in_fp32():
    got = per_tile(sas=False)
    assert got[OpClass.SFU] == SCORES + ROWS
    assert OpClass.FP16X2 not in got
    # Scale, sum, quantisation of P, accumulation.
    assert got[OpClass.FP32] == 2 * (SCORES + ROWS) + SCORES + 2 * OUTPUTS
    # Row maximum and loop, the tile's maximum, P's bytes.
    assert got[OpClass.INT] == SCORES + 20 * 128 + SCORES + 0.75 * SCORES


def test_sas_without_flashq_keeps_fp16_products():
    got = per_tile(flashq=False)
    assert OpClass.SFU not in got
    assert got[OpClass.FP32] == SCORES + ROWS + OUTPUTS
    assert got[OpClass.FP16X2] == 4.5 * (SCORES + ROWS)


def test_a_fixed_scale_of_p_needs_no_maximum_of_the_tile():
    got, base = per_tile(p_scale="fixed"), per_tile()
    assert base[OpClass.FP16X2] - got[OpClass.FP16X2] == SCORES / 2
    assert base[OpClass.SHUFFLE] - got[OpClass.SHUFFLE] == 5 * 128

    def barriers(**options):
        return sum(1 for op in ops(build(A100, SMALL, **options).launches[0]) if op.label == "barrier")

    assert barriers() > barriers(p_scale="fixed") == barriers(p_scale="row")


@pytest.mark.parametrize(("convert", "products"), [("magic", 4), ("i2f", 3)])
def test_p_relative_to_the_tile_costs_instructions_per_row_only(convert, products):
    got, fixed = per_tile(p_scale="row", convert=convert), per_tile(p_scale="fixed", convert=convert)
    # Row sum, scale of the output, guard of the scores, magic constant; compare and two selects. No other exponential.
    assert {c: got[c] - fixed[c] for c in got if got[c] != fixed[c]} == {
        OpClass.FP32: products * ROWS, OpClass.INT: 3 * ROWS}


def test_p_relative_to_the_tile_spares_decode_the_maximum_of_the_tile():
    def counted(p_scale):
        program = build(A100, DECODES[1], p_scale=p_scale, bits="4")
        return launch_work(program, program.launches[0]).lanes

    row, fixed, tile = (counted(scale) for scale in ("row", "fixed", "tile"))
    tiles = 2 * 2 * 11
    # Two rows a thread, as in the tile of prefill.
    assert row[OpClass.FP32] - fixed[OpClass.FP32] == 4 * tiles * ROWS
    assert row[OpClass.FP16X2] == fixed[OpClass.FP16X2] < tile[OpClass.FP16X2]


def test_quantising_inputs_comes_before_the_products_and_before_packing():
    extra, base = per_tile(quantise_inputs=True), per_tile()
    elements = 2 * 64 * 128
    assert extra[OpClass.FP16X2] - base[OpClass.FP16X2] == elements
    assert extra[OpClass.INT] - base[OpClass.INT] == 0.75 * elements
    labels = [op.label for op in ops(build(A100, SMALL, quantise_inputs=True).launches[0])]
    assert labels.index("quantise K") < labels.index("QK^T") < labels.index("quantise V") < labels.index("PV")
    pack = [launch_work(p, p.launches[1]).lanes[OpClass.FP16X2] for p in (build(A100, SMALL, quantise_inputs=True),)]
    assert pack == [2 * 5 * 2 * 64 * 64]


def ops(launch):
    def walk(body):
        for item in body:
            if isinstance(item, Loop):
                yield from walk(item.body)
            else:
                yield item

    for role in launch.roles:
        yield from walk(role.body)


def dequantise(shape=DECODES[1], **options):
    found = [op for op in ops(build(A100, shape, **options).launches[0])
             if isinstance(op, Compute) and op.label.startswith("dequantise")]
    return {op.label: dict(op.lanes) for op in found}


@pytest.mark.parametrize(("bits", "unpack"), [("4", 3 / 8), ("2", 7 / 16)])
def test_dequantisation_is_integer_arithmetic(bits, unpack):
    n = 64 * 128
    element = {OpClass.INT: (unpack + 3 / 4) * n, OpClass.IMAD: n}
    assert dequantise(bits=bits) == {"dequantise K": element, "dequantise V": element}
    packed = dequantise(bits=bits, dequant="packed")
    assert packed["dequantise K"] == element
    assert packed["dequantise V"] == {OpClass.INT: (unpack + 1 / 4) * n, OpClass.IMAD: n / 4}


@pytest.mark.parametrize("bits", [4, 2])
def test_a_packed_word_never_carries_between_tokens(bits):
    top = 2**bits - 1
    # Every pair of extremes stage 2 can meet: INT8 values in -119 .. 119, zero at the minimum.
    for low in range(-119, 120):
        for high in range(low, 120):
            scale = max(1, round((high - low) / top))
            code = min(top, round((high - low) / scale))
            assert low + 128 >= 0
            assert code * scale + low + 128 <= 255


def test_the_magic_constant_covers_every_sum():
    assert 127 * 119 * sas.MAGIC_DEPTH < 2**22


@pytest.mark.parametrize(("phase", "options"), [
    (Phase.PREFILL, {}), (Phase.PREFILL, {"quantise_inputs": True, "stages": 3}), (Phase.DECODE, {}),
    (Phase.DECODE, {"bits": "2", "stages": 1})])
def test_program_size_does_not_depend_on_the_sequence(phase, options):
    sizes = set()
    for tokens in (4096, 131072):
        program = build(A100, attention_of(get_model("phi3-medium"), phase, 1, tokens), **options)
        sizes.add(tuple(len(list(ops(launch))) for launch in program.launches))
    assert len(sizes) == 1


@pytest.mark.parametrize("options", [
    dict(zip(("flashq", "sas", "sas_variant", "convert", "p_scale", "bits"), values, strict=True))
    for values in product((True, False), (True, False), ("exponent", "table", "naive", "unit"), ("magic", "i2f"),
                          ("tile", "fixed", "row"), ("mixed", "4", "2"))
    if (values[1] or values[2] == "naive") and (values[0] or values[3:] == ("magic", "tile", "mixed"))],
    ids=lambda o: "-".join(map(str, o.values())))
def test_every_combination_is_a_valid_program(options):
    # The products do not depend on how softmax is done.
    if not options["sas"]:
        options = {name: value for name, value in options.items() if name != "sas_variant"}
    program = build(H200_SAS, SMALL, **options)
    dtype = Dtype.INT8 if options["flashq"] else Dtype.FP16
    macs = 4 * tiles_met(SMALL, 64, 64) * 2 * 64 * 64 * 64
    assert program_work(program).macs == {(H200_SAS.mma_path(dtype), dtype): macs}
    if options["flashq"]:
        decode = program_work(build(H200_SAS, DECODES[1], **options))
        assert decode.macs == {(MmaPath.MMA_SYNC, Dtype.INT8): 4 * 11 * 2 * 16 * 64 * 128}


@pytest.mark.parametrize(("shape", "options", "message"), [
    (SMALL, {"bits": "3"}, "kernel 'turbo': option bits must be one of 4, 2, mixed, got '3'"),
    (SMALL, {"bits": "mixd"}, "kernel 'turbo': option bits must be one of 4, 2, mixed, got 'mixd' (did you mean 'mixed'?)"),
    (SMALL, {"two_bit_heads": 3}, "kernel 'turbo': two_bit_heads must be 0 to 2, got 3"),
    (SMALL, {"bits": "4", "two_bit_heads": 1},
     "kernel 'turbo': option two_bit_heads needs bits=mixed, got bits=4"),
    (SMALL, {"sas_variant": "tabel"}, ("kernel 'turbo': option sas_variant must be one of auto, exponent, table, naive, unit, got "
                                       "'tabel' (did you mean 'table'?)")),
    (SMALL, {"sas_variant": "unit"},
     "kernel 'turbo': sas_variant=unit needs a SAS unit, which a100_sxm_80gb does not have"),
    (SMALL, {"convert": "f2i"}, "kernel 'turbo': option convert must be one of magic, i2f, got 'f2i'"),
    (SMALL, {"p_scale": "rows"},
     "kernel 'turbo': option p_scale must be one of tile, fixed, row, got 'rows' (did you mean 'row'?)"),
    (DECODES[1], {"dequant": "word"}, "kernel 'turbo': option dequant must be one of element, packed, got 'word'"),
    (SMALL, {"order": "back"}, "kernel 'turbo': option order must be one of forward, heavy_first, got 'back'"),
    (SMALL, {"block_m": 40}, "kernel 'turbo': option block_m must be a positive multiple of 16, got 40"),
    (SMALL, {"block_m": 48},
     "kernel 'turbo': block_m must be a multiple of 64 rows per warp group, got 48 for 1"),
    (SMALL, {"block_n": 32}, "kernel 'turbo': option block_n must be a positive multiple of 64, got 32"),
    (SMALL, {"block_n": 320},
     "kernel 'turbo': convert=magic is exact for block_n up to 256, got 320; use convert=i2f"),
    (SMALL, {"warps": 6}, "kernel 'turbo': warps must be a positive multiple of 4, got 6"),
    (SMALL, {"stages": 0}, "kernel 'turbo': option stages must be at least 1, got 0"),
    (SMALL, {"pieces": 0}, "kernel 'turbo': option pieces must be at least 1, got 0"),
    (SMALL, {"flashq": False, "quantise_inputs": True},
     "kernel 'turbo': option quantise_inputs needs flashq=true, whose stage 1 it is"),
    (DECODES[1], {"flashq": False}, "kernel 'turbo': decode reads the FlashQ cache; flashq=false has prefill only"),
    (SMALL, {"splits": 2}, "kernel 'turbo': option splits is for decode, and this is prefill; leave it out"),
    (DECODES[1], {"path": "wgmma"}, "kernel 'turbo': option path is for prefill, and this is decode; leave it out"),
    (SMALL, {"sas": False, "sas_variant": "table"}, "kernel 'turbo': option sas_variant needs sas=true"),
    (SMALL, {"flashq": False, "bits": "2"}, "kernel 'turbo': option bits needs flashq=true"),
    (DECODES[1], {"product": "int4", "dequant": "packed"},
     "kernel 'turbo': option dequant needs product=int8, since INT4 takes codes as they are"),
    (DECODES[1], {"product": "int8x"}, "kernel 'turbo': option product must be one of int8, int4, got 'int8x' (did you mean "
                                       "'int8'?)"),
    (DECODES[1], {"splits": 0}, "kernel 'turbo': option splits must be at least 1, got 0"),
    (DECODES[1], {"stages": 0}, "kernel 'turbo': option stages must be at least 1, got 0"),
    (DECODES[1], {"warps": 2}, "kernel 'turbo': option warps must be a positive multiple of 4, got 2"),
    (DECODES[1], {"two_bit_heads": -1}, "kernel 'turbo': two_bit_heads must be 0 to 2, got -1"),
    (SMALL, {"bit": "4"}, ("kernel 'turbo' has no option 'bit': it has bits, two_bit_heads, flashq, sas, sas_variant, "
                           "convert, p_scale, quantise_inputs, dequant, product, path, block_m, block_n, warps, stages, "
                           "splits, pieces, order, sync (did you mean 'bits'?)")),
    (SMALL, {"sas": "maybe"}, "kernel 'turbo': option sas must be true or false, got 'maybe'"),
])
def test_invalid_options(shape, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        TURBO.program(A100, shape, options)
