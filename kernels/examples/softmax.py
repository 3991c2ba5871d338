"""Softmax of the rows of a matrix, a row held in registers."""

import triton
import triton.language as tl


@triton.jit
def softmax(X, Y, rows, columns, stride, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """Write softmax(X) to Y, both (rows, columns) with *stride* elements from row to row. Grid (cdiv(rows, ROWS),).

    A CTA takes ROWS rows, one after the other; BLOCK is a power of two of at least *columns*.
    """
    first = tl.program_id(0) * ROWS
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x_at = X + first.to(tl.int64) * stride + at
    y_at = Y + first.to(tl.int64) * stride + at
    for _ in range(first, tl.minimum(first + ROWS, rows)):
        x = tl.load(x_at, mask=inside, other=float("-inf")).to(tl.float32)
        weight = tl.exp(x - tl.max(x, 0))
        y = weight / tl.sum(weight, 0)
        tl.store(y_at, y.to(Y.dtype.element_ty), mask=inside)
        x_at += stride
        y_at += stride
