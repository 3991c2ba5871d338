"""TurboAttention's prefill, as Triton code: INT8 products, SAS, and P quantised to INT8.

INT32 products become FP32 without conversion instructions: the accumulator starts at the bits of 1.5 * 2^23, so that
its bits, read as FP32, are that number plus the sum, exact below 2^22 (119 * 119 * 128 = 1.8e6). The constant goes
away in the multiply-add that scales, whose rounding costs up to 0.75 integer steps of a score, far less than the
rounding of Q and K. CONVERT = True uses I2F instead.

P is relative to the running maximum, with a scale of the tile's largest weight (TILE) or of 1/119 (FIXED), or to the
row's maximum within the tile, with 1/127 (ROW; see ``p_scale`` in ``turbosim.numerics.attention``). With ROW one factor
per row weighs the tile and another what came before; the smaller is e^-|difference of the maxima|, the larger 1.
Q has one scale per tile, or per row with Q_ROW, which costs registers and up to one instruction per score.
"""

import triton
import triton.language as tl

from kernels.exponential import exponential, quantise_weights

_BITS = tl.constexpr(0x4B400000)
_CONSTANT = tl.constexpr(12582912.0)
TILE = tl.constexpr(0)
FIXED = tl.constexpr(1)
ROW = tl.constexpr(2)
P_SCALE = {"tile": 0, "fixed": 1, "row": 2}


@triton.jit
def product(a, b, rows: tl.constexpr, columns: tl.constexpr, CONVERT: tl.constexpr):
    """Return the INT8 product as FP32, plus 1.5 * 2^23 unless CONVERT."""
    if CONVERT:
        return tl.dot(a, b, out_dtype=tl.int32).to(tl.float32)
    else:
        return tl.dot(a, b, tl.full([rows, columns], _BITS, tl.int32), out_dtype=tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def weights_to_int8(p, P_SCALE: tl.constexpr, PACKED: tl.constexpr, CAST: tl.constexpr):
    """Return P as INT8 codes and the FP32 scale they decode with: of the tile's maximum, 1/119, or with ROW 1/127."""
    if P_SCALE == TILE:
        largest = tl.max(tl.max(p, 1), 0).to(tl.float32)
        inverse = tl.where(largest > 0.0, 119.0 / tl.maximum(largest, 1e-7), 0.0)
    else:
        inverse = tl.full([], 127.0 if P_SCALE == ROW else 119.0, tl.float32)
    # The type of P rounds the factor; the scale must be the inverse of what was applied.
    inverse = tl.minimum(inverse, 60000.0).to(p.dtype)
    codes = quantise_weights(p, inverse, PACKED, CAST)
    wide = inverse.to(tl.float32)
    return codes, tl.where(wide > 0.0, 1.0 / tl.maximum(wide, 1e-30), 0.0)


@triton.jit
def lowered(shift):
    """Return the *shift* of the scores by their maximum, one or two units in the last place down.

    A multiply-add rounds less than the maximum was rounded, which would leave the largest score above 0, by up to 0.75
    integer steps with the constant and by half a unit in the last place without. P would exceed 1, and codes above 127
    wrap to negative ones.
    """
    return shift - tl.abs(shift) * (2.0**-23)


@triton.jit
def merge_factors(top, tile_top, UNIT: tl.constexpr):
    """Return the factors of what came before and of a tile, per row, from their maxima; *tile_top* is finite."""
    factor = tl.exp2(-tl.abs(top - tile_top) * UNIT)
    return tl.where(top < tile_top, factor, 1.0), tl.where(top < tile_top, 1.0, factor)


@triton.jit
def _attend(acc, total, top, q, q_scale, k_tile, v_tile, k_scale, v_scale, start, stop, rows, row_shift, keys,
            BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, HEAD_DIM: tl.constexpr, MASKED: tl.constexpr,
            CAUSAL: tl.constexpr, VARIANT: tl.constexpr, UNIT: tl.constexpr, P_SCALE: tl.constexpr,
            Q_ROW: tl.constexpr, CONVERT: tl.constexpr, PACKED: tl.constexpr):
    columns = tl.arange(0, BLOCK_N)
    for first in range(start, stop, BLOCK_N):
        first = tl.multiple_of(first, BLOCK_N)
        # Not 0, even for blocks of zeros: masked scores are minus infinity times this.
        scale = tl.maximum(q_scale * tl.load(k_scale + first // BLOCK_N).to(tl.float32), 1e-30)
        value = product(q, tl.load(k_tile + first * HEAD_DIM), BLOCK_M, BLOCK_N, CONVERT)
        offset = 0.0 if CONVERT else -_CONSTANT * scale
        if MASKED:
            seen = (first + columns)[None, :] < keys
            if CAUSAL:
                seen = seen & ((rows + row_shift)[:, None] >= (first + columns)[None, :])
            value = tl.where(seen, value, float("-inf"))
        tile_top = tl.max(value, 1) * scale + offset
        if P_SCALE == ROW:
            if MASKED:
                # A row that sees nothing of the tile: -inf would be subtracted from -inf.
                tile_top = tl.maximum(tile_top, -1e30)
            new_top = tl.maximum(top, tile_top)
            shift = lowered(offset - tile_top)
            factor, weight = merge_factors(top, tile_top, UNIT)
        else:
            new_top = tl.maximum(top, tile_top)
            # The largest of a TILE has code 119 whatever it is.
            shift = offset - new_top if P_SCALE == TILE else lowered(offset - new_top)
            factor = tl.exp2((top - new_top) * UNIT)
        p = exponential(value * (scale[:, None] if Q_ROW else scale) + shift[:, None], VARIANT, PACKED)
        row_sum = tl.sum(p.to(tl.float32), 1)
        codes, p_scale = weights_to_int8(p, P_SCALE, PACKED, CONVERT)
        scale_out = p_scale * tl.load(v_scale + first // BLOCK_N).to(tl.float32)
        if P_SCALE == ROW:
            row_sum = row_sum * weight
            scale_out = scale_out * weight[:, None]
        total = total * factor + row_sum
        out = product(codes, tl.load(v_tile + first), BLOCK_M, HEAD_DIM, CONVERT)
        if CONVERT:
            acc = acc * factor[:, None] + out * scale_out
        else:
            acc = out * scale_out + (acc * factor[:, None] - _CONSTANT * scale_out)
        top = new_top
    return acc, total, top


@triton.jit
def fwd(Q, K8, V8, K_SCALE, V_SCALE, O, LSE, scale, stride_qb, stride_qh, stride_qm, stride_ob, stride_oh, stride_om,
        q_heads, group, queries, keys, padded, blocks,
        HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr,
        EVEN: tl.constexpr, VARIANT: tl.constexpr, UNIT: tl.constexpr, P_SCALE: tl.constexpr, Q_ROW: tl.constexpr,
        CONVERT: tl.constexpr, PACKED: tl.constexpr):
    """Prefill over K and V from :mod:`kernels.quantise`. Grid (query tiles, q_heads, batch).

    *scale* is 1 / sqrt(d) in the unit of VARIANT, UNIT turns that unit into base two. Q, O FP16 (batch, q_heads,
    queries, HEAD_DIM), LSE FP32 (batch, q_heads, queries). Queries are quantised here, a tile or a row with one scale.
    """
    tile, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if CAUSAL:
        tile = tl.num_programs(0) - 1 - tile
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    columns, channels = tl.arange(0, BLOCK_N), tl.arange(0, HEAD_DIM)
    q_at = Q + batch.to(tl.int64) * stride_qb + head.to(tl.int64) * stride_qh
    q = tl.load(q_at + rows[:, None] * stride_qm + channels[None, :], mask=rows[:, None] < queries,
                other=0.0).to(tl.float32)
    largest = tl.max(tl.abs(q), 1)
    if not Q_ROW:
        largest = tl.max(largest, 0)
    q_step = (largest / 119.0).to(tl.float16).to(tl.float32)
    inverse = tl.where(q_step > 0.0, 1.0 / tl.maximum(q_step, 1e-7), 0.0)
    if Q_ROW:
        inverse = inverse[:, None]
    q8 = tl.minimum(tl.maximum((q * inverse + _CONSTANT) - _CONSTANT, -119.0), 119.0).to(tl.int32).to(tl.int8)
    kv = batch.to(tl.int64) * (q_heads // group) + head // group
    k_tile = K8 + kv * padded * HEAD_DIM + columns[None, :] * HEAD_DIM + channels[:, None]
    v_tile = V8 + kv * padded * HEAD_DIM + channels[None, :] * padded + columns[:, None]
    k_scale, v_scale = K_SCALE + kv * blocks, V_SCALE + kv * blocks
    acc = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    # Rows beyond the queries get weights of 0, so that they do not count in the tile's maximum.
    top = tl.where(rows < queries, float("-inf"), 3e4)
    shift = keys - queries
    if CAUSAL:
        stop = tl.minimum(keys, shift + (tile + 1) * BLOCK_M)
        whole = (shift + tile * BLOCK_M + 1) // BLOCK_N * BLOCK_N
    else:
        stop = keys
        whole = keys // BLOCK_N * BLOCK_N
    acc, total, top = _attend(acc, total, top, q8, q_step * scale, k_tile, v_tile, k_scale, v_scale, 0, whole, rows,
                              shift, keys, BLOCK_M, BLOCK_N, HEAD_DIM, False, CAUSAL, VARIANT, UNIT, P_SCALE,
                              Q_ROW, CONVERT, PACKED)
    if CAUSAL or not EVEN:
        acc, total, top = _attend(acc, total, top, q8, q_step * scale, k_tile, v_tile, k_scale, v_scale, whole, stop,
                                  rows, shift, keys, BLOCK_M, BLOCK_N, HEAD_DIM, True, CAUSAL, VARIANT, UNIT,
                                  P_SCALE, Q_ROW, CONVERT, PACKED)
    total = tl.maximum(total, 1e-30)
    o_at = O + batch.to(tl.int64) * stride_ob + head.to(tl.int64) * stride_oh
    tl.store(o_at + rows[:, None] * stride_om + channels[None, :], (acc / total[:, None]).to(O.dtype.element_ty),
             mask=rows[:, None] < queries)
    lse = (top * UNIT + tl.log2(total)) * 0.6931471805599453
    tl.store(LSE + (batch.to(tl.int64) * q_heads + head) * queries + rows, lse, mask=rows < queries)
