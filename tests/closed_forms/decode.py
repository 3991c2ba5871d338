"""Closed forms of decode."""

from __future__ import annotations

from tests.closed_forms.totals import (
    NARROW,
    QUAD,
    Options,
    Totals,
    heads_of_bits,
    kivi_items,
    turbo_block,
    turbo_softmax,
    up,
)
from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.workload import Attention


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


def flash_decode(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    tiles, scores = _split_kv(t, shape, meta, Dtype.FP16, [(shape.kv_heads, 2 * meta["block_n"] * shape.head_dim)])
    t.lanes[OpClass.SFU] += scores + tiles * QUAD * meta["block_m"]


def turbo_decode(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    d, held = shape.head_dim, _window(shape)
    formats = [(heads, turbo_block(bits, d) * meta["block_n"] // 64)
               for bits, heads in heads_of_bits(shape, options).items()]
    tiles, scores = _split_kv(t, shape, meta, Dtype.INT8, formats, held, held * d + 2, 64)
    turbo_softmax(t, options, scores + tiles * NARROW, tiles * meta["block_m"] * d)
    if options.get("product") == "int4":
        packed = 2 * d * (scores - shape.batch * shape.kv_heads * meta["block_m"] * 64)
        t.macs[MmaPath.MMA_SYNC, Dtype.INT8] -= packed
        t.macs[MmaPath.MMA_SYNC, Dtype.INT4] += 2 * packed


def fused_decode(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    d, held, bits = shape.head_dim, _window(shape), int(options.get("bits", "4"))
    nbytes = sum(kivi_items(bits, d).values()) * meta["block_n"] // 64
    tiles, scores = _split_kv(t, shape, meta, Dtype.FP16, [(shape.kv_heads, nbytes)], held, 2 * held * d,
                              16 * up(held, 16))
    t.lanes[OpClass.SFU] += scores + tiles * NARROW


def published_decode(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
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
    for item, nbytes in kivi_items(int(options.get("bits", "4")), d).items():
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
