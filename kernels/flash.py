"""FlashAttention in FP16: prefill (causal or not) and split-KV decode, as Triton code.

The structure is FlashAttention-2's: one CTA per tile of query rows, online softmax over key tiles, rescaling of the
running output, base-two exponentials with the scale folded into one multiply-add. Tiles that cross the causal diagonal
have a loop of their own, so that the main loop carries no mask.
"""

import triton
import triton.language as tl


@triton.jit
def _attend(acc, total, top, q, k_tile, v_tile, start, stop, rows, row_shift, keys, stride_kn, stride_vn, scale,
            BLOCK_N: tl.constexpr, MASKED: tl.constexpr, CAUSAL: tl.constexpr, EVEN: tl.constexpr):
    """Add the key tiles from *start* to *stop* to the running output."""
    columns = tl.arange(0, BLOCK_N)
    for first in range(start, stop, BLOCK_N):
        first = tl.multiple_of(first, BLOCK_N)
        if EVEN:
            k = tl.load(k_tile + first * stride_kn)
        else:
            k = tl.load(k_tile + first * stride_kn, mask=(first + columns)[None, :] < keys, other=0.0)
        scores = tl.dot(q, k)
        if MASKED:
            seen = (first + columns)[None, :] < keys
            if CAUSAL:
                seen = seen & ((rows + row_shift)[:, None] >= (first + columns)[None, :])
            scores = tl.where(seen, scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1) * scale)
        p = tl.exp2(scores * scale - new_top[:, None])
        factor = tl.exp2(top - new_top)
        total = total * factor + tl.sum(p, 1)
        acc = acc * factor[:, None]
        if EVEN:
            v = tl.load(v_tile + first * stride_vn)
        else:
            v = tl.load(v_tile + first * stride_vn, mask=(first + columns)[:, None] < keys, other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc)
        top = new_top
    return acc, total, top


@triton.jit
def fwd(Q, K, V, O, LSE, scale,
        stride_qb, stride_qh, stride_qm, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn,
        stride_ob, stride_oh, stride_om, q_heads, group, queries, keys,
        HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr,
        EVEN: tl.constexpr):
    """Prefill. Grid (query tiles, q_heads, batch); *scale* is log2(e) / sqrt(d).

    Q, K, V and O are FP16 (batch, heads, tokens, HEAD_DIM) with unit channel stride, LSE is FP32 (batch, q_heads,
    queries), natural logarithm. EVEN promises that BLOCK_N divides *keys* and BLOCK_M divides *queries*.
    """
    tile, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if CAUSAL:
        # The longest rows first, so that none is left over at the end.
        tile = tl.num_programs(0) - 1 - tile
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    columns, channels = tl.arange(0, BLOCK_N), tl.arange(0, HEAD_DIM)
    q_at = Q + batch.to(tl.int64) * stride_qb + head.to(tl.int64) * stride_qh
    kv_head = head // group
    k_at = K + batch.to(tl.int64) * stride_kb + kv_head.to(tl.int64) * stride_kh
    v_at = V + batch.to(tl.int64) * stride_vb + kv_head.to(tl.int64) * stride_vh
    k_tile = k_at + columns[None, :] * stride_kn + channels[:, None]
    v_tile = v_at + columns[:, None] * stride_vn + channels[None, :]
    q = tl.load(q_at + rows[:, None] * stride_qm + channels[None, :], mask=rows[:, None] < queries, other=0.0)
    acc = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    shift = keys - queries
    if CAUSAL:
        stop = tl.minimum(keys, shift + (tile + 1) * BLOCK_M)
        whole = (shift + tile * BLOCK_M + 1) // BLOCK_N * BLOCK_N
    else:
        stop = keys
        whole = keys // BLOCK_N * BLOCK_N
    acc, total, top = _attend(acc, total, top, q, k_tile, v_tile, 0, whole, rows, shift, keys, stride_kn, stride_vn,
                              scale, BLOCK_N, False, CAUSAL, True)
    if CAUSAL or not EVEN:
        acc, total, top = _attend(acc, total, top, q, k_tile, v_tile, whole, stop, rows, shift, keys, stride_kn,
                                  stride_vn, scale, BLOCK_N, True, CAUSAL, EVEN)
    o_at = O + batch.to(tl.int64) * stride_ob + head.to(tl.int64) * stride_oh
    tl.store(o_at + rows[:, None] * stride_om + channels[None, :], (acc / total[:, None]).to(O.dtype.element_ty),
             mask=rows[:, None] < queries)
    lse = (top + tl.log2(total)) * 0.6931471805599453
    tl.store(LSE + (batch.to(tl.int64) * q_heads + head) * queries + rows, lse, mask=rows < queries)


@triton.jit
def decode(Q, K, V, PART, STAT, scale, stride_qb, stride_qh, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh,
           stride_vn, kv_heads, group, keys, per_split,
           HEAD_DIM: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_N: tl.constexpr):
    """Split-KV decode of one query per sequence. Grid (splits, kv_heads, batch).

    The *group* query heads of a KV head are the rows of one tile of BLOCK_G. A split covers *per_split* keys, a
    multiple of BLOCK_N. PART is FP32 (batch, kv_heads, splits, group, HEAD_DIM), STAT FP32 (batch, kv_heads, splits,
    2, group): unnormalised output, base-two maximum and sum.
    """
    split, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    splits = tl.num_programs(0)
    rows, columns, channels = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_N), tl.arange(0, HEAD_DIM)
    q_at = Q + batch.to(tl.int64) * stride_qb + head * group * stride_qh
    q = tl.load(q_at + rows[:, None] * stride_qh + channels[None, :], mask=rows[:, None] < group, other=0.0)
    k_tile = (K + batch.to(tl.int64) * stride_kb + head.to(tl.int64) * stride_kh + columns[None, :] * stride_kn
              + channels[:, None])
    v_tile = (V + batch.to(tl.int64) * stride_vb + head.to(tl.int64) * stride_vh + columns[:, None] * stride_vn
              + channels[None, :])
    start = split * per_split
    stop = tl.minimum(start + per_split, keys)
    whole = tl.maximum(start, stop // BLOCK_N * BLOCK_N)
    acc = tl.zeros([BLOCK_G, HEAD_DIM], tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    top = tl.full([BLOCK_G], float("-inf"), tl.float32)
    acc, total, top = _attend(acc, total, top, q, k_tile, v_tile, start, whole, rows, 0, keys, stride_kn, stride_vn,
                              scale, BLOCK_N, False, False, True)
    acc, total, top = _attend(acc, total, top, q, k_tile, v_tile, whole, stop, rows, 0, keys, stride_kn, stride_vn,
                              scale, BLOCK_N, True, False, False)
    place = (batch.to(tl.int64) * kv_heads + head) * splits + split
    tl.store(PART + (place * group + rows[:, None]) * HEAD_DIM + channels[None, :], acc, mask=rows[:, None] < group)
    tl.store(STAT + 2 * place * group + rows, top, mask=rows < group)
    tl.store(STAT + (2 * place + 1) * group + rows, total, mask=rows < group)


@triton.jit
def combine(PART, STAT, O, group, splits, HEAD_DIM: tl.constexpr, BLOCK_S: tl.constexpr):
    """Merge the splits of one query head. Grid (group, batch * kv_heads).

    O is FP16 (batch * kv_heads * group, HEAD_DIM). BLOCK_S is a power of two of at least *splits*.
    """
    row, place = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channels = tl.arange(0, HEAD_DIM)
    each = tl.arange(0, BLOCK_S)
    at = STAT + 2 * (place * splits + each) * group + row
    tops = tl.load(at, mask=each < splits, other=float("-inf"))
    totals = tl.load(at + group, mask=each < splits, other=0.0)
    weights = tl.exp2(tops - tl.max(tops, 0))
    part = tl.load(PART + ((place * splits + each[:, None]) * group + row) * HEAD_DIM + channels[None, :],
                   mask=each[:, None] < splits, other=0.0)
    out = tl.sum(part * weights[:, None], 0) / tl.sum(totals * weights, 0)
    tl.store(O + (place * group + row) * HEAD_DIM + channels, out.to(O.dtype.element_ty))
