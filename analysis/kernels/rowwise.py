"""Memory-bound kernels: the sum of two vectors, and softmax over rows by a fixed number of CTAs, as Triton code."""

import triton
import triton.language as tl


@triton.jit
def vector_add(X, Y, OUT, count, BLOCK: tl.constexpr):
    """OUT = X + Y, *count* elements of FP32. Grid (count / BLOCK rounded up,)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    tl.store(OUT + at, tl.load(X + at, mask=inside) + tl.load(Y + at, mask=inside), mask=inside)


@triton.jit
def softmax(OUT, X, stride, rows, columns, BLOCK: tl.constexpr, STAGES: tl.constexpr):
    """OUT = softmax(X) along each of *rows* rows of FP32. Grid (CTAs,): each takes every so manieth row.

    BLOCK is a power of two of at least *columns*; *stride* is that of the rows of both.
    """
    columns_at = tl.arange(0, BLOCK)
    inside = columns_at < columns
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=STAGES):
        x = tl.load(X + row * stride + columns_at, mask=inside, other=float("-inf"))
        weights = tl.exp(x - tl.max(x, 0))
        tl.store(OUT + row * stride + columns_at, weights / tl.sum(weights, 0), mask=inside)
