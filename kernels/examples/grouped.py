"""Matrix product of which CTAs take tiles in groups of rows, as in torch.compile's template and Triton's tutorial."""

import triton
import triton.language as tl


@triton.jit
def matmul(A, B, C, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, B_COLUMNS: tl.constexpr,
           BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr):
    """Write A (M, K) @ B (K, N) to C (M, N); B is stored by rows, or by columns if *B_COLUMNS*. K divides by BLOCK_K.

    Sizes are constants, as where a compiler writes a kernel for one shape. Grid (cdiv(M, BLOCK_M) * cdiv(N, BLOCK_N)):
    GROUP_M tile rows are swept together, so that neighbours in time share rows of A and columns of B in L2.
    """
    cta = tl.program_id(0)
    tiles_m: tl.constexpr = (M + BLOCK_M - 1) // BLOCK_M
    tiles_n: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    group = cta // (GROUP_M * tiles_n)
    height = min(tiles_m - group * GROUP_M, GROUP_M)
    tile_m = group * GROUP_M + cta % height
    tile_n = cta % (GROUP_M * tiles_n) // height
    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    # A tile that is not cut off has rows that follow each other, which lets the compiler copy 16 bytes at once.
    a_rows = tl.max_contiguous(tl.multiple_of(rows % M, BLOCK_M), BLOCK_M) if M >= BLOCK_M else rows % M
    b_columns = tl.max_contiguous(tl.multiple_of(columns % N, BLOCK_N), BLOCK_N) if N >= BLOCK_N else columns % N
    depth = tl.arange(0, BLOCK_K)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for step in range(K // BLOCK_K):
        at = depth + step * BLOCK_K
        a = tl.load(A + a_rows[:, None] * K + at[None, :])
        if B_COLUMNS:
            b = tl.load(B + at[:, None] + b_columns[None, :] * K)
        else:
            b = tl.load(B + at[:, None] * N + b_columns[None, :])
        total += tl.dot(a, b)
    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(C + rows[:, None] * N + columns[None, :], total.to(C.dtype.element_ty),
             mask=(rows[:, None] < M) & (columns[None, :] < N))
