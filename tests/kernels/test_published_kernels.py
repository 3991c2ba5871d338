"""The kernels that stand beside published measurements compute what they should, in the interpreter."""

from __future__ import annotations

import pytest
import torch

from analysis.kernels.matmul import matmul
from analysis.kernels.rowwise import softmax, vector_add


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns", "inner"), [(96, 80, 64), (16, 128, 32), (130, 33, 32)])
@pytest.mark.parametrize("group", [1, 2, 8])
def test_matmul_in_any_order_of_tiles(rows, columns, inner, group):
    a, b = normal(rows, inner).half(), normal(inner, columns, seed=1).half()
    c = torch.full((rows, columns), float("nan"), dtype=torch.float16)
    matmul[-(-rows // 32) * -(-columns // 16),](a, b, c, rows, columns, inner, inner, columns, columns, BLOCK_M=32,
                                                BLOCK_N=16, BLOCK_K=16, GROUP=group)
    torch.testing.assert_close(c.float(), a.float() @ b.float(), atol=2e-2, rtol=2e-3)


@pytest.mark.parametrize("count", [1, 1000, 4096])
def test_vector_add(count):
    x, y = normal(count), normal(count, seed=1)
    out = torch.full((count,), float("nan"))
    vector_add[-(-count // 256),](x, y, out, count, BLOCK=256)
    assert torch.equal(out, x + y)


@pytest.mark.parametrize(("rows", "columns", "ctas"), [(7, 100, 3), (4, 128, 4), (5, 1, 2)])
def test_softmax_by_fewer_ctas_than_rows(rows, columns, ctas):
    x, out = normal(rows, columns), torch.full((rows, columns), float("nan"))
    softmax[ctas,](out, x, columns, rows, columns, BLOCK=128, STAGES=2)
    torch.testing.assert_close(out, torch.softmax(x, 1))
