"""FlashQ's quantisation of K and V, as Triton code: stage 1 to INT8, stage 2 to packed INT4 or INT2, and the buffer."""

import triton
import triton.language as tl

_ROUND = tl.constexpr(12582912.0)  # 1.5 * 2^23: added and subtracted, rounds to the nearest integer, ties to even


@triton.jit
def _rounded(x):
    return (x + _ROUND) - _ROUND


@triton.jit
def _stage1(x, inverse):
    return tl.minimum(tl.maximum(_rounded(x * inverse), -119.0), 119.0)


@triton.jit
def _scale_of(x):
    """Return max|x| / 119 as FP16, and its inverse (0 for 0) in FP32."""
    scale = (tl.max(tl.max(tl.abs(x), 1), 0) / 119.0).to(tl.float16)
    wide = scale.to(tl.float32)
    return scale, tl.where(wide > 0.0, tl.math.div_rn(1.0, tl.where(wide > 0.0, wide, 1.0)), 0.0)


@triton.jit
def _pack_block(source, rows, seen, stride, inverse, codes, code_row, code_column, step, zero, low_bits: tl.constexpr,
                HEAD_DIM: tl.constexpr):
    """Stage 2 of one block, *low_bits* per code: channels d / n apart share a byte (n codes per byte)."""
    PARTS: tl.constexpr = 8 // low_bits
    WIDTH: tl.constexpr = HEAD_DIM // PARTS
    TOP: tl.constexpr = (1 << low_bits) - 1
    slice_ = tl.arange(0, WIDTH)
    data = tl.zeros([rows.shape[0], WIDTH], tl.int32)
    for part in tl.static_range(PARTS):
        channels = part * WIDTH + slice_
        x = tl.load(source + rows[:, None] * stride + channels[None, :], mask=seen[:, None], other=0.0)
        value = _stage1(x.to(tl.float32), inverse)
        low, high = tl.min(value, 0), tl.max(value, 0)
        width = tl.maximum(tl.ceil((high - low) * (1.0 / TOP) - 1e-4), 1.0)
        code = _rounded(tl.math.div_rn(value - low[None, :], tl.broadcast_to(width[None, :], value.shape)))
        data = data | (tl.minimum(code, TOP).to(tl.int32) << (low_bits * part))
        tl.store(step + channels, width.to(tl.int32).to(tl.int8))
        tl.store(zero + channels, low.to(tl.int32).to(tl.int8))
    tl.store(codes + rows[:, None] * code_row + slice_[None, :] * code_column, data.to(tl.uint8))


@triton.jit
def blocks(K, V, K8, V8, K_SCALE, V_SCALE, K_CODES, V_CODES, K_STEP, V_STEP, K_ZERO, V_ZERO, CACHE_K_SCALE,
           CACHE_V_SCALE, BITS, OFFSETS, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn, kv_heads,
           tokens, padded, whole_blocks, max_blocks, code_bytes,
           HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, PACK: tl.constexpr):
    """Quantise one block of one KV head. Grid (blocks, kv_heads, batch).

    K and V are FP16 (batch, kv_heads, tokens, HEAD_DIM). K8 INT8 (batch, kv_heads, padded, HEAD_DIM), V8 INT8
    transposed, (batch, kv_heads, HEAD_DIM, padded); scales FP16 (batch, kv_heads, blocks). With PACK the first
    *whole_blocks* blocks also go, packed, to the cache laid out as in ``turbosim.numerics.cache``.
    """
    block, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows, channels = tl.arange(0, BLOCK), tl.arange(0, HEAD_DIM)
    tokens_here = block * BLOCK + rows
    seen = tokens_here < tokens
    place = batch * kv_heads + head
    k_at, v_at = K + batch * stride_kb + head * stride_kh, V + batch * stride_vb + head * stride_vh
    k = tl.load(k_at + tokens_here[:, None] * stride_kn + channels[None, :], mask=seen[:, None], other=0.0)
    k_scale, k_inverse = _scale_of(k.to(tl.float32))
    k8 = _stage1(k.to(tl.float32), k_inverse).to(tl.int32).to(tl.int8)
    tl.store(K8 + (place * padded + tokens_here[:, None]) * HEAD_DIM + channels[None, :], k8)
    v = tl.load(v_at + tokens_here[:, None] * stride_vn + channels[None, :], mask=seen[:, None], other=0.0)
    v_scale, v_inverse = _scale_of(v.to(tl.float32))
    v8 = _stage1(v.to(tl.float32), v_inverse).to(tl.int32).to(tl.int8)
    tl.store(V8 + place * HEAD_DIM * padded + channels[None, :] * padded + tokens_here[:, None], v8)
    scale_at = place * tl.num_programs(0) + block
    tl.store(K_SCALE + scale_at, k_scale)
    tl.store(V_SCALE + scale_at, v_scale)
    if PACK:
        if block < whole_blocks:
            bits = tl.load(BITS + head)
            start = batch * code_bytes + tl.load(OFFSETS + head)
            meta = (place * max_blocks + block) * HEAD_DIM
            tl.store(CACHE_K_SCALE + place * max_blocks + block, k_scale)
            tl.store(CACHE_V_SCALE + place * max_blocks + block, v_scale)
            k_block, v_block = k_at + block * BLOCK * stride_kn, v_at + block * BLOCK * stride_vn
            if bits == 4:
                here = start + block * (BLOCK * HEAD_DIM // 2)
                _pack_block(k_block, rows, seen, stride_kn, k_inverse, K_CODES + here, HEAD_DIM // 2, 1,
                            K_STEP + meta, K_ZERO + meta, 4, HEAD_DIM)
                _pack_block(v_block, rows, seen, stride_vn, v_inverse, V_CODES + here, 1, BLOCK,
                            V_STEP + meta, V_ZERO + meta, 4, HEAD_DIM)
            else:
                here = start + block * (BLOCK * HEAD_DIM // 4)
                _pack_block(k_block, rows, seen, stride_kn, k_inverse, K_CODES + here, HEAD_DIM // 4, 1,
                            K_STEP + meta, K_ZERO + meta, 2, HEAD_DIM)
                _pack_block(v_block, rows, seen, stride_vn, v_inverse, V_CODES + here, 1, BLOCK,
                            V_STEP + meta, V_ZERO + meta, 2, HEAD_DIM)


@triton.jit
def _largest(scales, count):
    """Return the largest of *count* FP16 scales."""
    each = tl.arange(0, 128)
    largest = tl.zeros([128], tl.float32)
    for first in range(0, count, 128):
        largest = tl.maximum(largest, tl.load(scales + first + each, mask=first + each < count,
                                              other=0.0).to(tl.float32))
    return tl.max(largest, 0)


@triton.jit
def _universal(scales, whole, place, x, FIRST: tl.constexpr):
    """Return the universal scale; set it after a prompt, and by the tokens *x* where it is 0 as after zeros only."""
    if FIRST:
        scale = _largest(scales, whole)
    else:
        scale = tl.load(place).to(tl.float32)
    own, _ = _scale_of(x.to(tl.float32))
    scale = tl.where(scale > 0.0, scale, own.to(tl.float32))
    tl.store(place, scale.to(tl.float16))
    return scale


@triton.jit
def buffer(K, V, K_BUFFER, V_BUFFER, K_UNIVERSAL, V_UNIVERSAL, K_SCALE, V_SCALE, stride_kb, stride_kh, stride_kn,
           stride_vb, stride_vh, stride_vn, kv_heads, tokens, held, blocks, whole, HEAD_DIM: tl.constexpr,
           BLOCK: tl.constexpr, FIRST: tl.constexpr):
    """Put *tokens* FP16 tokens behind the *held* ones of the INT8 buffer, clamped. Grid (kv_heads, batch).

    With FIRST the universal scale is set, to the largest of the first *whole* of the *blocks* scales of a head.
    """
    head, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    rows, channels = tl.arange(0, BLOCK), tl.arange(0, HEAD_DIM)
    place = batch * kv_heads + head
    seen = rows[:, None] < tokens
    for which in tl.static_range(2):
        if which == 0:
            x = tl.load(K + batch * stride_kb + head * stride_kh + rows[:, None] * stride_kn + channels[None, :],
                        mask=seen, other=0.0)
            scale = _universal(K_SCALE + place * blocks, whole, K_UNIVERSAL + place, x, FIRST)
            target = K_BUFFER + (place * BLOCK + held + rows[:, None]) * HEAD_DIM + channels[None, :]
        else:
            x = tl.load(V + batch * stride_vb + head * stride_vh + rows[:, None] * stride_vn + channels[None, :],
                        mask=seen, other=0.0)
            scale = _universal(V_SCALE + place * blocks, whole, V_UNIVERSAL + place, x, FIRST)
            target = V_BUFFER + (place * HEAD_DIM + channels[None, :]) * BLOCK + held + rows[:, None]
        inverse = tl.where(scale > 0.0, tl.math.div_rn(1.0, tl.where(scale > 0.0, scale, 1.0)), 0.0)
        tl.store(target, _stage1(x.to(tl.float32), inverse).to(tl.int32).to(tl.int8), mask=seen)


@triton.jit
def _flush_half(BUFFER, STEP, ZERO, CODES, row, column, code_row, code_column, low_bits: tl.constexpr,
                HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr):
    PARTS: tl.constexpr = 8 // low_bits
    WIDTH: tl.constexpr = HEAD_DIM // PARTS
    TOP: tl.constexpr = (1 << low_bits) - 1
    rows, slice_ = tl.arange(0, BLOCK), tl.arange(0, WIDTH)
    data = tl.zeros([BLOCK, WIDTH], tl.int32)
    for part in tl.static_range(PARTS):
        channels = part * WIDTH + slice_
        value = tl.load(BUFFER + rows[:, None] * row + channels[None, :] * column).to(tl.float32)
        low, high = tl.min(value, 0), tl.max(value, 0)
        width = tl.maximum(tl.ceil((high - low) * (1.0 / TOP) - 1e-4), 1.0)
        code = _rounded(tl.math.div_rn(value - low[None, :], tl.broadcast_to(width[None, :], value.shape)))
        data = data | (tl.minimum(code, TOP).to(tl.int32) << (low_bits * part))
        tl.store(STEP + channels, width.to(tl.int32).to(tl.int8))
        tl.store(ZERO + channels, low.to(tl.int32).to(tl.int8))
    tl.store(CODES + rows[:, None] * code_row + slice_[None, :] * code_column, data.to(tl.uint8))


@triton.jit
def flush(K_BUFFER, V_BUFFER, K_CODES, V_CODES, K_STEP, V_STEP, K_ZERO, V_ZERO, K_SCALE, V_SCALE, K_UNIVERSAL,
          V_UNIVERSAL, BITS, OFFSETS, kv_heads, block, max_blocks, code_bytes, HEAD_DIM: tl.constexpr,
          BLOCK: tl.constexpr):
    """Pack the full INT8 buffer as block number *block*, under its universal scale. Grid (kv_heads, batch)."""
    head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    place = batch * kv_heads + head
    bits = tl.load(BITS + head)
    start = batch * code_bytes + tl.load(OFFSETS + head)
    meta = (place * max_blocks + block) * HEAD_DIM
    k, v = K_BUFFER + place * BLOCK * HEAD_DIM, V_BUFFER + place * BLOCK * HEAD_DIM
    tl.store(K_SCALE + place * max_blocks + block, tl.load(K_UNIVERSAL + place))
    tl.store(V_SCALE + place * max_blocks + block, tl.load(V_UNIVERSAL + place))
    if bits == 4:
        here = start + block * (BLOCK * HEAD_DIM // 2)
        _flush_half(k, K_STEP + meta, K_ZERO + meta, K_CODES + here, HEAD_DIM, 1, HEAD_DIM // 2, 1, 4, HEAD_DIM, BLOCK)
        _flush_half(v, V_STEP + meta, V_ZERO + meta, V_CODES + here, 1, BLOCK, 1, BLOCK, 4, HEAD_DIM, BLOCK)
    else:
        here = start + block * (BLOCK * HEAD_DIM // 4)
        _flush_half(k, K_STEP + meta, K_ZERO + meta, K_CODES + here, HEAD_DIM, 1, HEAD_DIM // 4, 1, 2, HEAD_DIM, BLOCK)
        _flush_half(v, V_STEP + meta, V_ZERO + meta, V_CODES + here, 1, BLOCK, 1, BLOCK, 2, HEAD_DIM, BLOCK)
