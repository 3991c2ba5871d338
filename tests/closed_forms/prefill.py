"""Closed forms of prefill."""

from __future__ import annotations

from tests.closed_forms.totals import NEWEST, QUAD, Options, Totals, heads_of_bits, seen, turbo_block, turbo_softmax, up
from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.workload import Attention


def _attention(t: Totals, path: MmaPath, shape: Attention, meta: Options, dtype: Dtype, width: int,
               scale: int) -> tuple[int, int]:
    """Count a fused prefill without its exponentials; operands have *width* bytes and *scale* bytes per 64 tokens.

    Return (score tiles, exponentials with one change of the maximum per row and thread that holds it).
    """
    m, n, d, groups = meta["block_m"], meta["block_n"], shape.head_dim, meta["warps"] // 4
    # Query heads of a KV head that share tiles: row r is of token r // packed.
    packed = shape.q_heads // shape.kv_heads if meta.get("pack_gqa") else 1
    heads, rows = shape.batch * shape.q_heads // packed, shape.seq_q * packed
    trips = [up(max(seen(shape, row // packed) for row in range(first, min(first + m, rows))), n)
             for first in range(0, rows, m)]
    tiles, query_tiles = heads * sum(trips), heads * len(trips)
    t.inputs = width * d * shape.batch * (shape.q_heads * shape.seq_q + 2 * shape.kv_heads * shape.seq_k)
    t.macs[path, dtype] += tiles * 2 * m * n * d
    t.load("Q", query_tiles, m * d * width + scale)
    for name in "KV":
        t.load(name, tiles, n * d * width + scale * n // 64)
    t.store("O", query_tiles * groups, m // groups * d * 2)
    t.store("LSE", query_tiles * groups, m // groups * 4)
    t.lanes[OpClass.SFU] += query_tiles * QUAD * m
    return tiles, tiles * (m * n + QUAD * m)


def flash_prefill(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    path = MmaPath.MMA_SYNC if options.get("path", "mma.sync") == "mma.sync" else NEWEST[arch]
    _, exponentials = _attention(t, path, shape, meta, Dtype.FP16, 2, 0)
    t.lanes[OpClass.SFU] += exponentials


def flash3_prefill(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    """Tiles as in any fused prefill, in warp groups of 64 rows beside a producer; FP8 has half the bytes."""
    dtype = Dtype(meta["dtype"])
    rows = {**meta, "warps": 4 * (meta["block_m"] // 64)}
    assert meta["warps"] == rows["warps"] + 4
    _, exponentials = _attention(t, MmaPath.WGMMA, shape, rows, dtype, 1 if dtype is Dtype.FP8 else 2, 0)
    t.lanes[OpClass.SFU] += exponentials


def sage_prefill(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    """One product in INT8 with FP32 scales, one in FP16; every score is converted from INT32."""
    m, n, d, groups = meta["block_m"], meta["block_n"], shape.head_dim, meta["warps"] // 4
    tiles, exponentials = _attention(t, MmaPath.MMA_SYNC, shape, meta, Dtype.INT8, 1, 0)
    products = t.macs.pop((MmaPath.MMA_SYNC, Dtype.INT8)) // 2
    second = Dtype.FP16 if meta["accumulate"] == "fp32" else Dtype.FP16_ACC16
    t.macs |= {(MmaPath.MMA_SYNC, Dtype.INT8): products, (MmaPath.MMA_SYNC, second): products}
    t.inputs += d * shape.batch * shape.kv_heads * shape.seq_k
    query_tiles = t.stored["LSE"] // (4 * m)
    for name in "QKV":
        del t.loaded[name]
    t.load("Q", query_tiles, m * d + 16 * groups)
    t.load("K", tiles, n * d + 4)
    t.load("V", tiles, 2 * n * d)
    t.lanes[OpClass.SFU] += exponentials
    t.lanes[OpClass.CVT] += tiles * m * n


def turbo_prefill(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    flashq, n, d = options.get("flashq", True), meta["block_n"], shape.head_dim
    wide = options.get("quantise_inputs", False) or not flashq
    width, scale = (2, 0) if wide else (1, 2)
    tiles, exponentials = _attention(t, NEWEST[arch], shape, meta, Dtype.INT8 if flashq else Dtype.FP16, width, scale)
    turbo_softmax(t, options, exponentials, tiles * meta["block_m"] * d if flashq else 0, flashq)
    if not flashq:
        return
    blocks = shape.batch * up(shape.seq_k, n)
    for name in "KV":
        t.load(name, blocks * shape.kv_heads, n * d * width + scale * n // 64)
        for bits, heads in heads_of_bits(shape, options).items():
            t.store(f"{name} cache {bits}-bit", blocks * heads, turbo_block(bits, d) * n // 64)


def quantising_prefill(t: Totals, arch: str, shape: Attention, options: Options, meta: Options) -> None:
    """FlashAttention, six elementwise passes over K and V, and GEAR's three power iterations."""
    flash_prefill(t, arch, shape, options, meta)
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
