"""``kivi`` and ``gear``: bytes, products and data flow against closed forms written from the shapes alone."""

from __future__ import annotations

import re
from math import ceil

import pytest

from tests.schedules.walk import even_splits
from turbosim.errors import UsageError
from turbosim.hw import load_gpu
from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.program.ops import Load, Loop, Store
from turbosim.program.validate import validate
from turbosim.program.work import launch_work, program_work
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Attention, Phase, attention_of, get_model
from turbosim.workload.kvcache import FORMATS

A100 = load_gpu("a100_sxm_80gb")
FLASH = get_schedule("flash")
KERNELS = ("kivi", "gear")
PREFILLS = [
    Attention(1, 4, 2, 200, 300, 64, causal=True, phase=Phase.PREFILL),
    Attention(2, 2, 1, 96, 130, 128, causal=False, phase=Phase.PREFILL),
    attention_of(get_model("phi3-medium"), Phase.PREFILL, 4, 8192),
]
SHORT = Attention(1, 4, 4, 1, 50, 64, causal=False, phase=Phase.DECODE)
DECODES = [
    Attention(2, 8, 2, 1, 700, 128, causal=False, phase=Phase.DECODE),
    Attention(3, 20, 1, 1, 640, 96, causal=False, phase=Phase.DECODE),
    Attention(1, 2, 2, 1, 65, 256, causal=False, phase=Phase.DECODE),
    attention_of(get_model("phi3-medium"), Phase.DECODE, 4, 32768),
]


def build(kernel, shape, **options):
    program = get_schedule(kernel).program(A100, shape, options)
    validate(program)
    return program


def sector(nbytes):
    return ceil(nbytes / 32) * 32


def by_launch(program):
    return {launch.name: launch_work(program, launch) for launch in program.launches}


def ops(launch):
    def walk(body):
        for item in body:
            if isinstance(item, Loop):
                yield from walk(item.body)
            else:
                yield item

    for role in launch.roles:
        yield from walk(role.body)


def window(tokens):
    """(64-token blocks, recent tokens)."""
    recent = tokens % 64 or min(64, tokens)
    return (tokens - recent) // 64, recent


@pytest.mark.parametrize("shape", DECODES, ids=str)
@pytest.mark.parametrize("bits", ["4", "2"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_published_decode_copies_the_cache_then_multiplies(kernel, bits, shape):
    program = build(kernel, shape, bits=bits)
    work = by_launch(program)
    d, heads, queries = shape.head_dim, shape.batch * shape.kv_heads, shape.batch * shape.q_heads
    blocks, recent = window(shape.seq_k)
    block = 64 * d * int(bits) // 8 + 4 * d
    for name in "KV":
        copies = [w for n, w in work.items() if n.startswith(f"transpose {name} ")]
        assert len(copies) == 3
        assert sum(w.read_bytes for w in copies) == sum(w.write_bytes for w in copies) == heads * blocks * block
        assert work[f"append {name} recent"].read_bytes == heads * 2 * recent * d
    # What is copied once is the cache, to the byte.
    copied = sum(w.read_bytes for n, w in work.items()
                 if n.startswith("transpose") or n in ("append K recent", "append V recent"))
    assert copied == heads * FORMATS[f"kivi-{bits}"].cache_bytes(d, shape.seq_k)
    # Every query head reads its KV head's cache again.
    for name, gemv in (("K", work["gemv QK^T"]), ("V", work["gemv PV"])):
        read = sum(n for t, n in gemv.loaded.items() if t.startswith(f"{name} "))
        assert read == queries * blocks * block
        elements = queries * blocks * 64 * d
        assert gemv.lanes == {OpClass.INT: 2 * elements, OpClass.CVT: elements, OpClass.FP32: 2 * elements}
    for name in ("recent QK^T", "recent PV"):
        assert work[name].lanes == {OpClass.FP32: queries * recent * d}
    assert work["softmax"].lanes[OpClass.SFU] == queries * shape.seq_k
    assert work["softmax"].loaded == {"scores": queries * sector(2 * shape.seq_k)}
    assert program_work(program).macs == {}
    assert program_work(program).stored["O"] == 2 * queries * d
    assert program.useful_flops == shape.flops


@pytest.mark.parametrize("shape", [*DECODES, SHORT], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_decode_reads_only_what_was_there_or_has_been_written(kernel, shape):
    program = build(kernel, shape)
    given = re.compile(r"q|[KV] (codes|scales|minima|recent|token|(channel|token) factor)")
    written = set()
    for launch in program.launches:
        for op in ops(launch):
            if isinstance(op, Load):
                assert given.fullmatch(op.tensor) or op.tensor in written, (launch.name, op.tensor)
        written |= {op.tensor for op in ops(launch) if isinstance(op, Store)}
    assert "O" in written
    used = {op.tensor for launch in program.launches for op in ops(launch) if isinstance(op, (Load, Store))}
    assert used == {tensor.name for tensor in program.tensors}
    # Every tensor that one launch writes and another reads is written whole.
    work = program_work(program)
    for name, nbytes in work.stored.items():
        tensor = program.tensor(name)
        assert nbytes % (tensor.tiles * sector(tensor.tile_bytes)) == 0, name


def test_kernels_of_one_published_step():
    kivi = [launch.name for launch in build("kivi", DECODES[0]).launches]
    assert kivi == [
        "transpose K codes", "transpose K scales", "transpose K minima", "gemv QK^T", "append K recent", "recent QK^T",
        "concatenate scores", "divide", "softmax", "convert P", "transpose V codes", "transpose V scales",
        "transpose V minima", "gemv PV", "append V recent", "recent PV", "add", "quantise V token: min max",
        "quantise V token: subtract", "quantise V token: divide", "quantise V token: clamp", "quantise V token: round",
        "quantise V token: pack", "append V codes", "append V scales", "append V minima"]
    gear = [launch.name for launch in build("gear", DECODES[0]).launches]
    low_rank = ["K low rank: q Q", "K low rank: P^T", "V low rank: p P", "V low rank: Q^T"]
    assert [n for n in gear if n in low_rank] == low_rank
    # GEAR packs V once in 64 tokens, KIVI one token a step.
    assert [n for n in gear if n not in low_rank] == kivi[:17]


def test_a_short_cache_is_all_recent():
    work = by_launch(build("kivi", SHORT))
    assert list(work) == ["append K recent", "recent QK^T", "concatenate scores", "divide", "softmax", "convert P",
                          "append V recent", "recent PV", "add"]
    assert work["recent QK^T"].loaded == {"q": 4 * 128, "K recent appended": 4 * 2 * 50 * 64}


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("shape", DECODES, ids=str)
def test_low_rank_products(shape, rank):
    work = by_launch(build("gear", shape, rank=rank))
    d, queries = shape.head_dim, shape.batch * shape.q_heads
    blocks, _ = window(shape.seq_k)
    assert work["K low rank: q Q"].lanes == {OpClass.FP32: queries * d * rank}
    assert work["K low rank: P^T"].lanes == {OpClass.FP32: queries * blocks * 64 * rank}
    assert work["V low rank: p P"].lanes == {OpClass.FP32: queries * blocks * 64 * rank}
    assert work["V low rank: Q^T"].lanes == {OpClass.FP32: queries * d * rank}
    assert work["K low rank: q Q"].loaded["K channel factor"] == queries * 2 * d * rank
    for name in ("K low rank: P^T", "V low rank: p P"):
        assert work[name].loaded[f"{name[0]} token factor"] == queries * blocks * 2 * 64 * rank


@pytest.mark.parametrize("shape", DECODES, ids=str)
def test_gear_adds_the_factors_that_the_format_counts(shape):
    program = build("gear", shape)
    factors = sum(program.tensor(f"{name} {side} factor").nbytes for name in "KV" for side in ("token", "channel"))
    items = FORMATS["gear-l-4"].cache_items(shape.head_dim, shape.seq_k)
    assert factors == shape.batch * shape.kv_heads * (items["token factors"] + items["channel factors"])


@pytest.mark.parametrize("shape", [*DECODES, SHORT], ids=str)
@pytest.mark.parametrize("options", [{"bits": "4"}, {"bits": "2"}, {"splits": 2, "stages": 1}], ids=str)
def test_fused_decode_reads_the_cache_once(shape, options):
    blocks, recent = window(shape.seq_k)
    if "splits" in options:
        options = {**options, "splits": even_splits(blocks, options["splits"])}
    program = build("kivi", shape, fused=True, **options)
    work = launch_work(program, program.launches[0])
    d, heads, bits = shape.head_dim, shape.batch * shape.kv_heads, options.get("bits", "4")
    read = sum(n for name, n in work.loaded.items() if name != "Q")
    assert read == heads * FORMATS[f"kivi-{bits}"].cache_bytes(d, shape.seq_k)
    rows = 16 * ceil(shape.group / 16)
    assert work.macs == {(MmaPath.MMA_SYNC, Dtype.FP16):
                         heads * 2 * rows * d * (64 * blocks + 16 * ceil(recent / 16))}
    # One LOP3 and one HFMA2 for two codes.
    assert work.lanes.get(OpClass.FP16X2, 0) == heads * blocks * 2 * 64 * d / 2
    assert program.useful_flops == shape.flops
    assert len(program.launches) == 1 + (program.meta["splits"] > 1)


@pytest.mark.parametrize("shape", PREFILLS, ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_prefill_is_flash_and_then_quantisation(kernel, shape):
    flash = FLASH.program(A100, shape, {})
    for bits in (4, 2):
        program = build(kernel, shape, bits=str(bits))
        work = by_launch(program)
        assert program.launches[0] == flash.launches[0]
        assert program_work(program).macs == program_work(flash).macs
        assert program.useful_flops == shape.flops
        # Whole tiles of the flash kernel.
        block_n, d = flash.meta["block_n"], shape.head_dim
        tiles = shape.batch * shape.kv_heads * ceil(shape.seq_k / block_n)
        elements = tiles * block_n * d
        for name in "KV":
            assert work[f"{name} min max"].loaded == {name: 2 * elements}
            assert work[f"{name} subtract"].write_bytes == 2 * elements
            assert work[f"{name} round"].write_bytes == 4 * elements
            assert work[f"{name} pack"].loaded == {f"{name} int32": 4 * elements}
            assert work[f"{name} pack"].write_bytes == elements * bits // 8
            assert work[f"{name} min max"].write_bytes == 4 * elements // 64
        assert len(program.launches) == (13 if kernel == "kivi" else 27)


@pytest.mark.parametrize("shape", PREFILLS, ids=str)
@pytest.mark.parametrize("rank", [2, 4])
def test_power_iterations_read_the_error_twice_each(shape, rank):
    program = build("gear", shape, rank=rank)
    work = by_launch(program)
    block_n, d = program.meta["block_n"], shape.head_dim
    tiles = shape.batch * shape.kv_heads * ceil(shape.seq_k / block_n)
    for name in "KV":
        total = sum(w.loaded.get(f"{name} error", 0) for w in work.values())
        assert total == 3 * 2 * tiles * 2 * block_n * d
        assert work[f"{name} power 0 E Q"].lanes == {OpClass.FP32: tiles * block_n * d * rank}
        assert work[f"{name} power 2 E Q"].stored == {f"{name} token factor": tiles * sector(2 * block_n * rank)}
        assert work[f"{name} power 2 E^T P"].stored == {f"{name} channel factor": tiles * sector(2 * d * rank)}


@pytest.mark.parametrize(("kernel", "phase", "options"), [
    ("kivi", Phase.PREFILL, {}), ("kivi", Phase.DECODE, {}), ("kivi", Phase.DECODE, {"fused": True}),
    ("gear", Phase.PREFILL, {}), ("gear", Phase.DECODE, {})])
def test_program_size_does_not_depend_on_the_sequence(kernel, phase, options):
    sizes = set()
    for tokens in (4096, 131072):
        program = build(kernel, attention_of(get_model("phi3-medium"), phase, 1, tokens), **options)
        sizes.add(tuple(len(list(ops(launch))) for launch in program.launches))
    assert len(sizes) == 1


@pytest.mark.parametrize(("kernel", "shape", "options", "message"), [
    ("kivi", SHORT, {"bits": "3"}, "kernel 'kivi': option bits must be 4 or 2, got '3'"),
    ("kivi", SHORT, {"block_n": 32}, "kernel 'kivi': option block_n must be a positive multiple of 64, got 32"),
    ("kivi", SHORT, {"stages": 0}, "kernel 'kivi': option stages must be at least 1, got 0"),
    ("kivi", SHORT, {"splits": 0}, "kernel 'kivi': option splits must be at least 1, got 0"),
    ("kivi", SHORT, {"pieces": 0}, "kernel 'kivi': option pieces must be at least 1, got 0"),
    ("kivi", SHORT, {"fuse": True},
     ("kernel 'kivi' has no option 'fuse': it has bits, path, fused, block_n, stages, splits, pieces (did you mean "
      "'fused'?)")),
    ("kivi", SHORT, {"splits": 3}, "kernel 'kivi': option splits needs fused=true"),
    ("kivi", PREFILLS[0], {"fused": True}, "kernel 'kivi': option fused is for decode, and this is prefill; leave it out"),
    ("gear", SHORT, {"bits": "mixed"}, "kernel 'gear': option bits must be 4 or 2, got 'mixed'"),
    ("gear", SHORT, {"rank": 0}, "kernel 'gear': option rank must be at least 1, got 0"),
    ("gear", PREFILLS[0], {"pieces": 0}, "kernel 'gear': option pieces must be at least 1, got 0"),
])
def test_invalid_options(kernel, shape, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        get_schedule(kernel).program(A100, shape, options)
