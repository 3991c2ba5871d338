"""The examples compute what they say."""

from __future__ import annotations

import pytest
import torch

from kernels.examples.matmul import matmul
from kernels.examples.softmax import softmax


@pytest.mark.parametrize("rows_per_cta", [1, 3])
def test_softmax(rows_per_cta):
    x = torch.randn(7, 100, generator=torch.Generator().manual_seed(0)).half()
    y = torch.empty_like(x)
    softmax[(-(-7 // rows_per_cta),)](x, y, 7, 100, x.stride(0), BLOCK=128, ROWS=rows_per_cta)
    torch.testing.assert_close(y.float(), torch.softmax(x.float(), 1), rtol=2e-3, atol=1e-4)


def test_matmul():
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(50, 70, generator=random).half(), torch.randn(70, 40, generator=random).half()
    c = torch.empty(50, 40, dtype=torch.float16)
    matmul[(2, 2)](a, b, c, 50, 40, 70, 70, 40, 40, BLOCK_M=32, BLOCK_N=32, BLOCK_K=32)
    torch.testing.assert_close(c.float(), a.float() @ b.float(), rtol=2e-3, atol=2e-2)
