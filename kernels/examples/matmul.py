"""Matrix product with FP32 accumulation, a tile of C per CTA."""

import triton
import triton.language as tl


@triton.jit
def matmul(A, B, C, m, n, k, stride_a, stride_b, stride_c,
           BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """Write A (m, k) @ B (k, n) to C (m, n), with unit stride along rows. Grid (cdiv(m, BLOCK_M), cdiv(n, BLOCK_N)).

    CTAs that follow each other take tiles of one column of tiles, so that they share B in L2.
    """
    tile_m, tile_n = tl.program_id(0), tl.program_id(1)
    rows = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % m
    columns = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % n
    depth = tl.arange(0, BLOCK_K)
    a_at = A + rows[:, None] * stride_a + depth[None, :]
    b_at = B + depth[:, None] * stride_b + columns[None, :]
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for first_k in range(0, k, BLOCK_K):
        a = tl.load(a_at, mask=depth[None, :] < k - first_k, other=0.0)
        b = tl.load(b_at, mask=depth[:, None] < k - first_k, other=0.0)
        total = tl.dot(a, b, total)
        a_at += BLOCK_K
        b_at += BLOCK_K * stride_b
    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(C + rows[:, None] * stride_c + columns[None, :], total.to(C.dtype.element_ty),
             mask=(rows[:, None] < m) & (columns[None, :] < n))
