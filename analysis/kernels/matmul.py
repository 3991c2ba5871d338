"""FP16 matrix product with CTAs in groups of rows, so that neighbours in time share operands in L2, as Triton code."""

import triton
import triton.language as tl


@triton.jit
def matmul(A, B, C, rows, columns, inner, stride_a, stride_b, stride_c,
           BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr):
    """C = A B in row-major FP16 with FP32 sums. Grid (row tiles * column tiles,).

    A (rows, inner), B (inner, columns), C (rows, columns); BLOCK_K divides *inner*. CTAs go through GROUP row tiles
    before the next column tile. Rows and columns beyond the matrix wrap around and are not stored.
    """
    row_tiles, column_tiles = tl.cdiv(rows, BLOCK_M), tl.cdiv(columns, BLOCK_N)
    number = tl.program_id(0)
    first = number // (GROUP * column_tiles) * GROUP
    height = tl.minimum(row_tiles - first, GROUP)
    place = number % (GROUP * column_tiles)
    row_tile, column_tile = first + place % height, place // height
    m = (row_tile * BLOCK_M + tl.arange(0, BLOCK_M)) % rows
    n = (column_tile * BLOCK_N + tl.arange(0, BLOCK_N)) % columns
    k = tl.arange(0, BLOCK_K)
    a_at = A + m[:, None] * stride_a + k[None, :]
    b_at = B + k[:, None] * stride_b + n[None, :]
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for _ in range(0, inner, BLOCK_K):
        total = tl.dot(tl.load(a_at), tl.load(b_at), total)
        a_at += BLOCK_K
        b_at += BLOCK_K * stride_b
    m = row_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    n = column_tile * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(C + m[:, None] * stride_c + n[None, :], total.to(C.dtype.element_ty),
             mask=(m[:, None] < rows) & (n[None, :] < columns))
