"""What every kernel must compute, load and store, from the workload, its options and its tile sizes alone.

Nothing here walks a program: these are the sums that programs and simulations have to arrive at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.workload import Attention, CopyBytes, Gemm, Phase, Workload

Options = Mapping[str, Any]
COUNTED = (OpClass.SFU, OpClass.CVT, OpClass.SAS)
"""Instruction classes whose counts the closed forms give: exponentials, reciprocals and conversions."""
NEWEST = {"sm_80": MmaPath.MMA_SYNC, "sm_86": MmaPath.MMA_SYNC, "sm_89": MmaPath.MMA_SYNC, "sm_90": MmaPath.WGMMA,
          "sm_100": MmaPath.TCGEN05}
QUAD = 4
"""Threads that hold one row of an accumulator of 64 rows and four warps, and each compute its row statistics."""
NARROW = 128
"""Row statistics of an accumulator of 16 rows, whose columns four warps share: one for each thread."""


def up(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return -(-a // b)


def sector(nbytes: int) -> int:
    """Round up to 32-byte sectors."""
    return 32 * up(nbytes, 32)


def seen(shape: Attention, row: int) -> int:
    """Return the keys that query *row* sees."""
    return row + 1 + shape.seq_k - shape.seq_q if shape.causal else shape.seq_k


@dataclass
class Totals:
    """Work of a program; bytes per tensor are in whole sectors."""

    flops: int = 0
    inputs: int = 0
    """Bytes of all operands, unpadded: what has to come from device memory when the cache is cold."""
    macs: Counter[tuple[MmaPath, Dtype]] = field(default_factory=Counter)
    lanes: Counter[OpClass] = field(default_factory=Counter)
    loaded: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)

    def load(self, tensor: str, tiles: int, nbytes: int) -> None:
        """Count *tiles* loads of *nbytes*."""
        self.loaded[tensor] += tiles * sector(nbytes)

    def store(self, tensor: str, tiles: int, nbytes: int) -> None:
        """Count *tiles* stores of *nbytes*."""
        self.stored[tensor] += tiles * sector(nbytes)


def closed_form(kernel: str, arch: str, work: Workload, options: Options, meta: Options) -> Totals:
    """Return the totals of *kernel* with *options*, whose program reports its tile sizes in *meta*."""
    t = Totals()
    if isinstance(work, CopyBytes):
        t.inputs = work.nbytes
        tiles = up(work.nbytes, meta["tile_bytes"])
        t.load("source", tiles, meta["tile_bytes"])
        if options.get("write", True):
            t.store("target", tiles, meta["tile_bytes"])
        return t
    if isinstance(work, Gemm):
        _gemm(t, arch, work, options, meta)
        return t
    t.flops = 4 * work.batch * work.q_heads * work.head_dim * sum(seen(work, row) for row in range(work.seq_q))
    {("flash", Phase.PREFILL): _flash_prefill, ("turbo", Phase.PREFILL): _turbo_prefill,
     ("kivi", Phase.PREFILL): _quantising_prefill, ("gear", Phase.PREFILL): _quantising_prefill,
     ("flash", Phase.DECODE): _flash_decode, ("turbo", Phase.DECODE): _turbo_decode,
     ("kivi", Phase.DECODE): _fused_decode if options.get("fused") else _published_decode,
     ("gear", Phase.DECODE): _published_decode}[kernel, work.phase](t, arch, work, {"kernel": kernel, **options}, meta)
    return t


def _gemm(t: Totals, arch: str, work: Gemm, options: Options, meta: Options) -> None:
    dtype = Dtype(options.get("dtype", "fp16"))
    width = 1 if dtype in (Dtype.INT8, Dtype.FP8) else 2
    m, n, k = meta["block_m"], meta["block_n"], meta["block_k"]
    tiles, groups = up(work.m, m) * up(work.n, n), meta["warps"] // 4
    t.flops, t.inputs = 2 * work.m * work.n * work.k, width * work.k * (work.m + work.n)
    t.macs[NEWEST[arch], dtype] = tiles * up(work.k, k) * m * n * k
    t.load("A", tiles * up(work.k, k), m * k * width)
    t.load("B", tiles * up(work.k, k), n * k * width)
    t.store("C", tiles * groups, m // groups * n * 2)


# Prefill.


def _attention(t: Totals, arch: str, shape: Attention, meta: Options, dtype: Dtype, width: int,
               scale: int) -> tuple[int, int]:
    """Count a fused prefill without its exponentials; operands have *width* bytes and *scale* bytes per 64 tokens.

    Return (score tiles, exponentials with one change of the maximum per row and thread that holds it).
    """
    m, n, d, groups = meta["block_m"], meta["block_n"], shape.head_dim, meta["warps"] // 4
    heads = shape.batch * shape.q_heads
    trips = [up(max(seen(shape, row) for row in range(first, min(first + m, shape.seq_q))), n)
             for first in range(0, shape.seq_q, m)]
    tiles, query_tiles = heads * sum(trips), heads * len(trips)
    t.inputs = width * d * shape.batch * (shape.q_heads * shape.seq_q + 2 * shape.kv_heads * shape.seq_k)
    t.macs[NEWEST[arch], dtype] += tiles * 2 * m * n * d
    t.load("Q", query_tiles, m * d * width + scale)
    for name in "KV":
        t.load(name, tiles, n * d * width + scale * n // 64)
    t.store("O", query_tiles * groups, m // groups * d * 2)
    t.store("LSE", query_tiles * groups, m // groups * 4)
    t.lanes[OpClass.SFU] += query_tiles * QUAD * m
    return tiles, tiles * (m * n + QUAD * m)


def _flash_prefill(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    _, exponentials = _attention(t, arch, shape, meta, Dtype.FP16, 2, 0)
    t.lanes[OpClass.SFU] += exponentials


def _turbo_prefill(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    flashq, n, d = options.get("flashq", True), meta["block_n"], shape.head_dim
    wide = options.get("quantise_inputs", False) or not flashq
    width, scale = (2, 0) if wide else (1, 2)
    tiles, exponentials = _attention(t, arch, shape, meta, Dtype.INT8 if flashq else Dtype.FP16, width, scale)
    _turbo_softmax(t, options, exponentials, tiles * meta["block_m"] * d if flashq else 0, flashq)
    if not flashq:
        return
    blocks = shape.batch * up(shape.seq_k, n)
    for name in "KV":
        t.load(name, blocks * shape.kv_heads, n * d * width + scale * n // 64)
        for bits, heads in _heads_of_bits(shape, options).items():
            t.store(f"{name} cache {bits}-bit", blocks * heads, _turbo_block(bits, d) * n // 64)


def _turbo_softmax(t: Totals, options: Options, exponentials: int, outputs: int, flashq: bool = True) -> None:
    """Count exponentials; ``i2f`` converts every INT32 score and output."""
    if not options.get("sas", True):
        t.lanes[OpClass.SFU] += exponentials
    elif options.get("sas_variant", "exponent") == "naive":
        t.lanes[OpClass.CVT] += 2 * exponentials
    elif options.get("sas_variant") == "unit":
        t.lanes[OpClass.SAS] += exponentials
    if flashq and options.get("convert") == "i2f":
        t.lanes[OpClass.CVT] += exponentials + outputs


def _heads_of_bits(shape: Attention, options: Options) -> dict[int, int]:
    """Return KV heads per code width, those in use."""
    two = {"4": 0, "2": shape.kv_heads}.get(options.get("bits", "mixed"), options.get("two_bit_heads"))
    two = shape.kv_heads // 2 if two is None else two
    return {bits: heads for bits, heads in ((4, shape.kv_heads - two), (2, two)) if heads}


def _turbo_block(bits: int, d: int) -> int:
    """Codes of 64 tokens, an INT8 scale and an INT8 zero point per channel, an FP16 scale."""
    return 64 * d * bits // 8 + d + d + 2


def _kivi_items(bits: int, d: int) -> dict[str, int]:
    """Codes of 64 tokens, an FP16 scale and an FP16 minimum per 64 of them."""
    return {"codes": 64 * d * bits // 8, "scales": 2 * d, "minima": 2 * d}


def _quantising_prefill(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    """FlashAttention, six elementwise passes over K and V, and GEAR's three power iterations."""
    _flash_prefill(t, arch, shape, options, meta)
    n, d, bits = meta["block_n"], shape.head_dim, int(options.get("bits", "4"))
    tiles, elements = shape.batch * shape.kv_heads * up(shape.seq_k, n), n * d
    for name in "KV":
        def passes(tensor: str, nbytes: int, loads: int, stores: int, name: str = name) -> None:
            if loads:
                t.load(f"{name}{tensor}", tiles * loads, nbytes)
            if stores:
                t.store(f"{name}{tensor}", tiles * stores, nbytes)

        gear = options["kernel"] == "gear"
        passes("", 2 * elements, 2 + gear, 0)
        passes(" min max", 4 * elements // 64, 2 + gear, 1)
        passes(" scratch", 2 * elements, 3, 3)
        passes(" int32", 4 * elements, 1, 1)
        passes(" codes", elements * bits // 8, int(gear), 1)
        t.lanes[OpClass.CVT] += tiles * elements * (1 + gear)
        if gear:
            rank = options.get("rank", 4)
            passes(" error", 2 * elements, 6, 1)
            passes(" token factor", 2 * rank * n, 3, 3)
            passes(" channel factor", 2 * rank * d, 3, 3)


# Decode.


def _split_kv(t: Totals, shape: Attention, meta: Options, dtype: Dtype, formats: list[tuple[int, int]],
              held: int = 0, held_bytes: int = 0, held_columns: int = 0) -> tuple[int, int]:
    """Count split-KV decode without its exponentials. *formats*: KV heads and bytes of a K or V tile of each.

    The newest *held* tokens are a tile of *held_columns*. Return (tiles, scores).
    """
    rows, n, d, splits = meta["block_m"], meta["block_n"], shape.head_dim, meta["splits"]
    heads, outputs = shape.batch * shape.kv_heads, shape.group * d
    trips = up(shape.seq_k - held, n)
    t.inputs += 2 * d * shape.batch * shape.q_heads + 2 * heads * held_bytes
    t.load("Q", heads * splits, 2 * outputs)
    for number, (count, nbytes) in enumerate(formats):
        for name in "KV":
            if trips:
                t.load(f"{name}{number}", shape.batch * count * trips, nbytes)
            t.inputs += shape.batch * count * (nbytes * (shape.seq_k - held) // n)
    for name in "KV" if held else "":
        t.load(f"{name} buffer", heads, held_bytes)
    t.store("O", heads, 2 * outputs)
    t.lanes[OpClass.SFU] += heads * splits * 4 * shape.group
    if splits > 1:
        for name, nbytes in (("O partial", 4 * outputs), ("LSE partial", 4 * shape.group)):
            t.store(name, heads * splits, nbytes)
            t.load(name, heads * splits, nbytes)
        t.lanes[OpClass.SFU] += heads * splits * shape.group
    scores = heads * rows * (trips * n + held_columns)
    t.macs[MmaPath.MMA_SYNC, dtype] += 2 * scores * d
    return heads * (trips + (held > 0)), scores


def _window(shape: Attention) -> int:
    """Return the recent tokens of a cache packed 64 tokens at a time, as soon as a 65th comes."""
    return (shape.seq_k - 1) % 64 + 1


def _flash_decode(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    tiles, scores = _split_kv(t, shape, meta, Dtype.FP16, [(shape.kv_heads, 2 * meta["block_n"] * shape.head_dim)])
    t.lanes[OpClass.SFU] += scores + tiles * QUAD * meta["block_m"]


def _turbo_decode(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    d, held = shape.head_dim, _window(shape)
    formats = [(heads, _turbo_block(bits, d) * meta["block_n"] // 64)
               for bits, heads in _heads_of_bits(shape, options).items()]
    tiles, scores = _split_kv(t, shape, meta, Dtype.INT8, formats, held, held * d + 2, 64)
    _turbo_softmax(t, options, scores + tiles * NARROW, tiles * meta["block_m"] * d)


def _fused_decode(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    d, held, bits = shape.head_dim, _window(shape), int(options.get("bits", "4"))
    nbytes = sum(_kivi_items(bits, d).values()) * meta["block_n"] // 64
    tiles, scores = _split_kv(t, shape, meta, Dtype.FP16, [(shape.kv_heads, nbytes)], held, 2 * held * d,
                              16 * up(held, 16))
    t.lanes[OpClass.SFU] += scores + tiles * NARROW


def _published_decode(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    """The pipeline of KIVI and GEAR: copies of the cache, one product per query head, softmax in memory."""
    heads, queries, d = shape.batch * shape.kv_heads, shape.batch * shape.q_heads, shape.head_dim
    recent = _window(shape)
    blocks = (shape.seq_k - recent) // 64
    cuts = d // 64 if d % 64 == 0 else 1
    t.lanes[OpClass.SFU] += queries * shape.seq_k
    t.inputs += 2 * d * queries + 2 * heads * 2 * recent * d
    for name in "KV":
        t.load(f"{name} recent", heads, 2 * recent * d)
        t.store(f"{name} recent appended", heads, 2 * recent * d)
        t.load(f"{name} recent appended", queries, 2 * recent * d)
    t.load("q", queries, 2 * d)
    for name in ("scores recent", "P recent"):
        t.store(name, queries, 2 * recent)
        t.load(name, queries, 2 * recent)
    # Concatenation writes the scores; division and softmax read them, and division writes them back.
    t.store("scores", 2 * queries, 2 * shape.seq_k)
    t.load("scores", 2 * queries, 2 * shape.seq_k)
    t.store("P fp32", queries, 4 * shape.seq_k)
    t.load("P fp32", queries, 4 * shape.seq_k)
    t.store("O recent", queries * cuts, 2 * d // cuts)
    t.load("O recent", queries * cuts, 2 * d // cuts)
    t.store("O", queries * cuts, 2 * d // cuts)
    if blocks:
        _published_blocks(t, shape, options, blocks, cuts)


def _published_blocks(t: Totals, shape: Attention, options: Options, blocks: int, cuts: int) -> None:
    """Count what the packed tokens add, 64 to a block; V and O come in *cuts* slices of channels."""
    heads, queries, d = shape.batch * shape.kv_heads, shape.batch * shape.q_heads, shape.head_dim
    kivi = options["kernel"] == "kivi"
    for item, nbytes in _kivi_items(int(options.get("bits", "4")), d).items():
        t.inputs += 2 * heads * blocks * nbytes
        for name, parts in (("K", 1), ("V", cuts)):
            copies = 1 + (kivi and name == "V")
            t.load(f"{name} {item}", copies * heads * blocks * parts, nbytes // parts)
            t.store(f"{name} {item} contiguous", heads * blocks * parts, nbytes // parts)
            t.load(f"{name} {item} contiguous", queries * blocks * parts, nbytes // parts)
            if copies > 1:
                t.store(f"{name} {item} appended", heads * blocks * parts, nbytes // parts)
    t.load("q", queries * blocks, 2 * d)
    t.store("scores packed", queries * blocks, 2 * 64)
    t.load("scores packed", queries * blocks, 2 * 64)
    t.store("P packed", queries * blocks, 2 * 64)
    t.load("P packed", queries * blocks * cuts, 2 * 64)
    t.store("O packed", queries * cuts, 2 * d // cuts)
    t.load("O packed", queries * cuts, 2 * d // cuts)
    t.lanes[OpClass.CVT] += 2 * queries * blocks * 64 * d
    if kivi:
        # The token that leaves the window is quantised in six passes in place, one of which rounds.
        t.load("V token", 6 * heads, 2 * d)
        t.store("V token", 6 * heads, 2 * d)
        t.lanes[OpClass.CVT] += heads * d
        return
    rank = options.get("rank", 4)
    for name in "KV":
        t.load(f"{name} channel factor", queries, 2 * d * rank)
        t.load(f"{name} token factor", queries * blocks, 2 * 64 * rank)
        t.inputs += heads * 2 * rank * (d + 64 * blocks)
    t.load("q", queries, 2 * d)
    t.store("q factor", queries, 2 * rank)
    t.load("q factor", queries * blocks, 2 * rank)
    t.load("scores packed", queries * blocks, 2 * 64)
    t.store("scores packed", queries * blocks, 2 * 64)
    t.load("P packed", queries * blocks, 2 * 64)
    t.store("P factor", queries, 2 * rank)
    t.load("P factor", queries, 2 * rank)
    t.store("O low rank", queries * cuts, 2 * d // cuts)
    t.load("O low rank", queries * cuts, 2 * d // cuts)
