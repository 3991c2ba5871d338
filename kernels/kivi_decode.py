"""KIVI-style decode, as Triton code: codes dequantised to FP16 in registers, FP16 products, FP32 exponentials.

KIVI's own pipeline is a sequence of unfused kernels without tensor cores; this is the fused kernel its cache allows.
K is quantised per channel in groups of tokens, V per token in groups of channels, scale and minimum in FP16.
"""

import triton
import triton.language as tl


@triton.jit
def _half(data, shift, MASK: tl.constexpr):
    """Return codes as FP16 without a conversion: masked into the mantissa of 1024, whose last place is 1."""
    bits = ((data >> shift) & MASK).to(tl.int16) | 0x6400
    return bits.to(tl.float16, bitcast=True) - 1024.0


@triton.jit
def _update(scores, top, total):
    new_top = tl.maximum(top, tl.max(scores, 1))
    p = tl.exp2(scores - new_top[:, None])
    factor = tl.exp2(top - new_top)
    return p, factor, new_top, total * factor + tl.sum(p, 1)


@triton.jit
def decode(Q, K_CODES, V_CODES, K_SCALE, K_LOW, V_SCALE, V_LOW, K_RECENT, V_RECENT, PART, STAT, scale, stride_qb,
           stride_qh, kv_heads, group, blocks, held, per_split, max_blocks,
           HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, GROUP_V: tl.constexpr, BLOCK_G: tl.constexpr,
           BITS: tl.constexpr):
    """One split of one KV head. Grid (splits, kv_heads, batch).

    Per (batch, kv_head) and block of BLOCK tokens: K_CODES and V_CODES uint8 (BLOCK, HEAD_DIM * BITS / 8), channels d
    / n apart in a byte; K_SCALE, K_LOW FP16 (HEAD_DIM); V_SCALE, V_LOW FP16 (BLOCK, HEAD_DIM / GROUP_V). The newest
    *held* tokens are FP16 K_RECENT, V_RECENT (batch, kv_heads, BLOCK, HEAD_DIM), block number *blocks*.
    """
    PARTS: tl.constexpr = 8 // BITS
    WIDTH: tl.constexpr = HEAD_DIM // PARTS
    MASK: tl.constexpr = (1 << BITS) - 1
    split, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    place = batch * kv_heads + head
    rows, tokens, channels = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK), tl.arange(0, HEAD_DIM)
    here = rows[:, None] < group
    q_at = Q + batch * stride_qb + head * group * stride_qh
    q = tl.load(q_at + rows[:, None] * stride_qh + channels[None, :], mask=here, other=0.0)
    acc = tl.zeros([BLOCK_G, HEAD_DIM], tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    top = tl.full([BLOCK_G], float("-inf"), tl.float32)
    first = split * per_split
    last = tl.minimum(first + per_split, blocks + (held > 0).to(tl.int32))
    # A byte is loaded by all the channels that share it, which keeps a tile whole; the repeats are served by L1.
    byte, shift = channels % WIDTH, (channels // WIDTH) * BITS
    for block in range(first, tl.minimum(last, blocks)):
        number = place * max_blocks + block
        k = tl.load(K_CODES + number * (BLOCK * WIDTH) + tokens[None, :] * WIDTH + byte[:, None])
        low = tl.load(K_LOW + number * HEAD_DIM + channels)
        step = tl.load(K_SCALE + number * HEAD_DIM + channels)
        k = _half(k, shift[:, None].to(tl.uint8), MASK) * step[:, None] + low[:, None]
        p, factor, top, total = _update(tl.dot(q, k) * scale, top, total)
        v = tl.load(V_CODES + number * (BLOCK * WIDTH) + tokens[:, None] * WIDTH + byte[None, :])
        at = (number * BLOCK + tokens[:, None]) * (HEAD_DIM // GROUP_V) + channels[None, :] // GROUP_V
        v = _half(v, shift[None, :].to(tl.uint8), MASK) * tl.load(V_SCALE + at) + tl.load(V_LOW + at)
        acc = tl.dot(p.to(tl.float16), v, acc * factor[:, None])
    if last > blocks:
        recent = place * BLOCK * HEAD_DIM
        k = tl.load(K_RECENT + recent + tokens[None, :] * HEAD_DIM + channels[:, None])
        scores = tl.where(tokens[None, :] < held, tl.dot(q, k) * scale, float("-inf"))
        p, factor, top, total = _update(scores, top, total)
        v = tl.load(V_RECENT + recent + tokens[:, None] * HEAD_DIM + channels[None, :])
        acc = tl.dot(p.to(tl.float16), v, acc * factor[:, None])
    out = place * tl.num_programs(0) + split
    tl.store(PART + (out * group + rows[:, None]) * HEAD_DIM + channels[None, :], acc, mask=here)
    tl.store(STAT + 2 * out * group + rows, top, mask=rows < group)
    tl.store(STAT + (2 * out + 1) * group + rows, total, mask=rows < group)
