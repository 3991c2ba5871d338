"""TurboAttention's decode, as Triton code: split-KV over packed INT4 and INT2 blocks and the INT8 buffer.

The query heads of a KV head are the rows of one tile. A byte holds codes of channels d / n apart, so masking a tile of
bytes gives n operands of d / n neighbouring channels each: K contributes n products along them, V gives n slices of the
output. INT8 MMA is 32 deep: where slices of K are 16 channels, operands hold two of them, the bytes read twice. Codes
become INT8 as in :mod:`kernels.codes`; with FOLD, V's steps and zero points act on the output instead, where they are
per column: sum_t p_t (c_t s + z) = s sum_t p_t c_t + z sum_t p_t, the same integers at less work.
"""

import triton
import triton.language as tl

from kernels.codes import codes_of, dequantised, small_to_float
from kernels.exponential import exponential
from kernels.turbo import ROW, TILE, lowered, merge_factors, product, weights_to_int8

_CONSTANT = tl.constexpr(12582912.0)


@triton.jit
def _key_codes(data, part: tl.constexpr, BITS: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
               PACKED: tl.constexpr):
    """Codes of the channels of operand *part* from bytes (DEPTH, tokens) that repeat after WIDTH rows."""
    if DEPTH == WIDTH:
        return codes_of(data, part, BITS, PACKED)
    else:
        shift = BITS * (part * (DEPTH // WIDTH) + tl.arange(0, DEPTH) // WIDTH)
        return (data >> shift.to(tl.uint8)[:, None]) & ((1 << BITS) - 1)


@triton.jit
def _scores(q, k, part: tl.constexpr, step_at, zero_at, BITS: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
            PACKED: tl.constexpr):
    """INT32 product of one operand of Q with that of K, whose bytes *k* hold several."""
    step, zero = tl.load(step_at + part * DEPTH)[:, None], tl.load(zero_at + part * DEPTH)[:, None]
    codes = _key_codes(k, part, BITS, WIDTH, DEPTH, PACKED)
    return tl.dot(q, dequantised(codes, step, zero, PACKED), out_dtype=tl.int32)


@triton.jit
def _weights(scores, top, total, VARIANT: tl.constexpr, UNIT: tl.constexpr, P_SCALE: tl.constexpr,
             CONVERT: tl.constexpr, PACKED: tl.constexpr):
    """Return (codes of P, their scale, which is a column with ROW, rescale factor, new maximum, new sum)."""
    tile_top = tl.max(scores, 1)
    new_top = tl.maximum(top, tile_top)
    if P_SCALE == ROW:
        factor, weight = merge_factors(top, tile_top, UNIT)
        p = exponential(scores + lowered(-tile_top)[:, None], VARIANT, PACKED)
        row_sum = tl.sum(p.to(tl.float32), 1) * weight
    else:
        factor = tl.exp2((top - new_top) * UNIT)
        shift = -new_top if P_SCALE == TILE else lowered(-new_top)
        p = exponential(scores + shift[:, None], VARIANT, PACKED)
        row_sum = tl.sum(p.to(tl.float32), 1)
    codes, p_scale = weights_to_int8(p, P_SCALE, PACKED, CONVERT)
    if P_SCALE == ROW:
        p_scale = p_scale * weight[:, None]
    return codes, p_scale, factor, new_top, total * factor + row_sum


@triton.jit
def _output(acc, codes, weight, p_scale, factor, v_scale, data, step, zero, part: tl.constexpr, BITS: tl.constexpr,
            BLOCK_G: tl.constexpr, WIDTH: tl.constexpr, FOLD: tl.constexpr, CONVERT: tl.constexpr,
            PACKED: tl.constexpr):
    """Add P times one slice of V, whose bytes *data* are (channels, tokens)."""
    code = codes_of(data, part, BITS, PACKED)
    if FOLD:
        value = product(codes, tl.trans(code.to(tl.int8)), BLOCK_G, WIDTH, CONVERT)
        if not CONVERT:
            value = value - _CONSTANT
        step, zero = small_to_float(step, CONVERT), small_to_float(zero, CONVERT)
        value = value * step[None, :] + weight[:, None] * zero[None, :]
    else:
        v = dequantised(code, step[:, None], zero[:, None], PACKED)
        value = product(codes, tl.trans(v), BLOCK_G, WIDTH, CONVERT)
        if not CONVERT:
            value = value - _CONSTANT
    return acc * factor[:, None] + value * (p_scale * v_scale)


@triton.jit
def _quantised(q, inverse):
    wide = (q.to(tl.float32) * inverse[:, None] + _CONSTANT) - _CONSTANT
    return tl.minimum(tl.maximum(wide, -119.0), 119.0).to(tl.int32).to(tl.int8)


@triton.jit
def _split(q_at, stride_qh, group, k_codes, v_codes, k_step, v_step, k_zero, v_zero, k_scale, v_scale, k_buffer,
           v_buffer, k_universal, v_universal, part_at, stat_at, scale, first, last, blocks, held,
           BITS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, BLOCK_G: tl.constexpr,
           VARIANT: tl.constexpr, UNIT: tl.constexpr, P_SCALE: tl.constexpr, FOLD: tl.constexpr,
           CONVERT: tl.constexpr, PACKED: tl.constexpr):
    """Blocks *first* to *last* of one head; block number *blocks* is the buffer."""
    PARTS: tl.constexpr = 8 // BITS
    WIDTH: tl.constexpr = HEAD_DIM // PARTS
    DEPTH: tl.constexpr = WIDTH if WIDTH > 32 else 32  # noqa: FURB136 - Triton makes a tensor of max
    OPERANDS: tl.constexpr = HEAD_DIM // DEPTH
    rows, slice_, tokens = tl.arange(0, BLOCK_G), tl.arange(0, WIDTH), tl.arange(0, BLOCK)
    deep = tl.arange(0, DEPTH)
    q_tile = q_at + rows[:, None] * stride_qh + deep[None, :]
    here = rows[:, None] < group
    q0 = tl.load(q_tile, mask=here, other=0.0)
    q1 = tl.load(q_tile + DEPTH, mask=here, other=0.0)
    largest = tl.maximum(tl.max(tl.abs(q0), 1), tl.max(tl.abs(q1), 1))
    if OPERANDS == 4:
        q2 = tl.load(q_tile + 2 * DEPTH, mask=here, other=0.0)
        q3 = tl.load(q_tile + 3 * DEPTH, mask=here, other=0.0)
        largest = tl.maximum(largest, tl.maximum(tl.max(tl.abs(q2), 1), tl.max(tl.abs(q3), 1)))
    q_step = (largest.to(tl.float32) / 119.0).to(tl.float16).to(tl.float32)
    inverse = tl.where(q_step > 0.0, 1.0 / tl.maximum(q_step, 1e-7), 0.0)
    q0, q1 = _quantised(q0, inverse), _quantised(q1, inverse)
    o0 = tl.zeros([BLOCK_G, WIDTH], tl.float32)
    o1 = tl.zeros([BLOCK_G, WIDTH], tl.float32)
    if OPERANDS == 4:
        q2, q3 = _quantised(q2, inverse), _quantised(q3, inverse)
    if PARTS == 4:
        o2 = tl.zeros([BLOCK_G, WIDTH], tl.float32)
        o3 = tl.zeros([BLOCK_G, WIDTH], tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    # Rows beyond the group get weights of 0, so that they do not count in the tile's maximum.
    top = tl.where(rows < group, float("-inf"), 3e4)
    for block in range(first, tl.minimum(last, blocks)):
        k = tl.load(k_codes + block * (BLOCK * WIDTH) + tokens[None, :] * WIDTH + (deep % WIDTH)[:, None])
        step_at, zero_at = k_step + block * HEAD_DIM + deep, k_zero + block * HEAD_DIM + deep
        s = _scores(q0, k, 0, step_at, zero_at, BITS, WIDTH, DEPTH, PACKED)
        s += _scores(q1, k, 1, step_at, zero_at, BITS, WIDTH, DEPTH, PACKED)
        if OPERANDS == 4:
            s += _scores(q2, k, 2, step_at, zero_at, BITS, WIDTH, DEPTH, PACKED)
            s += _scores(q3, k, 3, step_at, zero_at, BITS, WIDTH, DEPTH, PACKED)
        if CONVERT:
            value = s.to(tl.float32)
        else:
            value = (s + 0x4B400000).to(tl.float32, bitcast=True) - _CONSTANT
        scores = value * (q_step * scale * tl.load(k_scale + block).to(tl.float32))[:, None]
        codes, p_scale, factor, top, total = _weights(scores, top, total, VARIANT, UNIT, P_SCALE, CONVERT, PACKED)
        weight = tl.sum(codes.to(tl.int32), 1)
        weight = weight.to(tl.float32) if CONVERT else (weight | 0x4B000000).to(tl.float32, bitcast=True) - 8388608.0
        v = tl.load(v_codes + block * (BLOCK * WIDTH) + slice_[:, None] * BLOCK + tokens[None, :])
        step_at, zero_at = v_step + block * HEAD_DIM + slice_, v_zero + block * HEAD_DIM + slice_
        v_here = tl.load(v_scale + block).to(tl.float32)
        o0 = _output(o0, codes, weight, p_scale, factor, v_here, v, tl.load(step_at), tl.load(zero_at), 0, BITS,
                     BLOCK_G, WIDTH, FOLD, CONVERT, PACKED)
        o1 = _output(o1, codes, weight, p_scale, factor, v_here, v, tl.load(step_at + WIDTH),
                     tl.load(zero_at + WIDTH), 1, BITS, BLOCK_G, WIDTH, FOLD, CONVERT, PACKED)
        if PARTS == 4:
            o2 = _output(o2, codes, weight, p_scale, factor, v_here, v, tl.load(step_at + 2 * WIDTH),
                         tl.load(zero_at + 2 * WIDTH), 2, BITS, BLOCK_G, WIDTH, FOLD, CONVERT, PACKED)
            o3 = _output(o3, codes, weight, p_scale, factor, v_here, v, tl.load(step_at + 3 * WIDTH),
                         tl.load(zero_at + 3 * WIDTH), 3, BITS, BLOCK_G, WIDTH, FOLD, CONVERT, PACKED)
    if last > blocks:
        k_at = k_buffer + tokens[None, :] * HEAD_DIM + deep[:, None]
        s = tl.dot(q0, tl.load(k_at), out_dtype=tl.int32) + tl.dot(q1, tl.load(k_at + DEPTH), out_dtype=tl.int32)
        if OPERANDS == 4:
            s += tl.dot(q2, tl.load(k_at + 2 * DEPTH), out_dtype=tl.int32)
            s += tl.dot(q3, tl.load(k_at + 3 * DEPTH), out_dtype=tl.int32)
        scores = s.to(tl.float32) * (q_step * scale * tl.load(k_universal).to(tl.float32))[:, None]
        scores = tl.where(tokens[None, :] < held, scores, float("-inf"))
        codes, p_scale, factor, top, total = _weights(scores, top, total, VARIANT, UNIT, P_SCALE, CONVERT, PACKED)
        weight = p_scale * tl.load(v_universal).to(tl.float32)
        v_at = v_buffer + slice_[None, :] * BLOCK + tokens[:, None]
        o0 = o0 * factor[:, None] + product(codes, tl.load(v_at), BLOCK_G, WIDTH, True) * weight
        o1 = o1 * factor[:, None] + product(codes, tl.load(v_at + WIDTH * BLOCK), BLOCK_G, WIDTH, True) * weight
        if PARTS == 4:
            o2 = o2 * factor[:, None] + product(codes, tl.load(v_at + 2 * WIDTH * BLOCK), BLOCK_G, WIDTH, True) * weight
            o3 = o3 * factor[:, None] + product(codes, tl.load(v_at + 3 * WIDTH * BLOCK), BLOCK_G, WIDTH, True) * weight
    out = part_at + rows[:, None] * HEAD_DIM + slice_[None, :]
    tl.store(out, o0, mask=here)
    tl.store(out + WIDTH, o1, mask=here)
    if PARTS == 4:
        tl.store(out + 2 * WIDTH, o2, mask=here)
        tl.store(out + 3 * WIDTH, o3, mask=here)
    tl.store(stat_at + rows, top * UNIT, mask=rows < group)
    tl.store(stat_at + group + rows, total, mask=rows < group)


@triton.jit
def decode(Q, K_CODES, V_CODES, K_STEP, V_STEP, K_ZERO, V_ZERO, K_SCALE, V_SCALE, K_BUFFER, V_BUFFER, K_UNIVERSAL,
           V_UNIVERSAL, BITS, OFFSETS, PART, STAT, scale, stride_qb, stride_qh, kv_heads, group, blocks, held,
           per_split, max_blocks, code_bytes,
           HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, BLOCK_G: tl.constexpr, VARIANT: tl.constexpr,
           UNIT: tl.constexpr, P_SCALE: tl.constexpr, FOLD: tl.constexpr, CONVERT: tl.constexpr,
           PACKED: tl.constexpr):
    """One split of one KV head. Grid (splits, kv_heads, batch).

    The cache is laid out as in ``turbosim.numerics.cache``.
    A split covers *per_split* blocks, of which the buffer is the last. *scale* is 1 / sqrt(d) in the unit of VARIANT.
    PART and STAT as in :func:`kernels.flash.decode`; :func:`kernels.flash.combine` merges them.
    """
    split, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    place = batch * kv_heads + head
    bits = tl.load(BITS + head)
    # A loaded offset does not show that blocks of codes are multiples of 512 bytes: 32 tokens, 64 channels, 2 bits.
    start = tl.multiple_of(batch * code_bytes + tl.load(OFFSETS + head), 128)
    meta, scales = place * max_blocks * HEAD_DIM, place * max_blocks
    first = split * per_split
    last = tl.minimum(first + per_split, blocks + (held > 0).to(tl.int32))
    out = place * tl.num_programs(0) + split
    q_at = Q + batch * stride_qb + head * group * stride_qh
    k_buffer, v_buffer = K_BUFFER + place * BLOCK * HEAD_DIM, V_BUFFER + place * BLOCK * HEAD_DIM
    part_at, stat_at = PART + out * group * HEAD_DIM, STAT + 2 * out * group
    if bits == 4:
        _split(q_at, stride_qh, group, K_CODES + start, V_CODES + start, K_STEP + meta, V_STEP + meta, K_ZERO + meta,
               V_ZERO + meta, K_SCALE + scales, V_SCALE + scales, k_buffer, v_buffer, K_UNIVERSAL + place,
               V_UNIVERSAL + place, part_at, stat_at, scale, first, last, blocks, held, 4, HEAD_DIM, BLOCK, BLOCK_G,
               VARIANT, UNIT, P_SCALE, FOLD, CONVERT, PACKED)
    else:
        _split(q_at, stride_qh, group, K_CODES + start, V_CODES + start, K_STEP + meta, V_STEP + meta, K_ZERO + meta,
               V_ZERO + meta, K_SCALE + scales, V_SCALE + scales, k_buffer, v_buffer, K_UNIVERSAL + place,
               V_UNIVERSAL + place, part_at, stat_at, scale, first, last, blocks, held, 2, HEAD_DIM, BLOCK, BLOCK_G,
               VARIANT, UNIT, P_SCALE, FOLD, CONVERT, PACKED)
