"""Kernels that move blocks by tensor descriptors, which copy engines (TMA) read [sm_90 and later]."""

import triton
import triton.language as tl


@triton.jit
def add(a, B, m, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Write a + 1 to B, both (m, n). The host makes descriptor *a*, the kernel that of B. Grid (cdiv of m, of n)."""
    b = tl.make_tensor_descriptor(B, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
    at = [tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N]
    b.store(at, a.load(at) + 1)


@triton.jit
def matmul(a, b, c, k, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """Write a (m, k) @ b (k, n) to c (m, n), a tile of c per CTA. Grid (cdiv(m, BLOCK_M), cdiv(n, BLOCK_N))."""
    row, column = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for depth in range(0, k, BLOCK_K):
        total = tl.dot(a.load([row, depth]), b.load([depth, column]), total)
    c.store([row, column], total.to(c.dtype))


@triton.jit
def matmul_device(A, B, C, m, n, k, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """The same with descriptors that every CTA makes."""
    a = tl.make_tensor_descriptor(A, [m, k], [k, 1], [BLOCK_M, BLOCK_K])
    b = tl.make_tensor_descriptor(B, [k, n], [n, 1], [BLOCK_K, BLOCK_N])
    c = tl.make_tensor_descriptor(C, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
    row, column = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for depth in range(0, k, BLOCK_K):
        total = tl.dot(a.load([row, depth]), b.load([depth, column]), total)
    c.store([row, column], total.to(tl.float16))


@triton.jit
def flash(q, k, v, o, tokens, scale, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
          CAUSAL: tl.constexpr):
    """Write attention of q, k, v to o, all (heads * tokens, HEAD_DIM). Grid (cdiv(tokens, BLOCK_M), heads).

    *scale* is that of the scores, with log2(e) in it. *tokens* must be a multiple of both blocks.
    """
    first = tl.program_id(0) * BLOCK_M
    head = tl.program_id(1) * tokens
    queries = q.load([head + first, 0])
    total = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)
    highest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    weight = tl.zeros([BLOCK_M], tl.float32)
    end = first + BLOCK_M if CAUSAL else tokens
    for at in range(0, end, BLOCK_N):
        scores = tl.dot(queries, k.load([head + at, 0]).T) * scale
        if CAUSAL:
            seen = (first + tl.arange(0, BLOCK_M))[:, None] >= (at + tl.arange(0, BLOCK_N))[None, :]
            scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        share = tl.exp2(scores - higher[:, None])
        kept = tl.exp2(highest - higher)
        weight = weight * kept + tl.sum(share, 1)
        total = tl.dot(share.to(tl.float16), v.load([head + at, 0]), total * kept[:, None])
        highest = higher
    o.store([head + first, 0], (total / weight[:, None]).to(tl.float16))
