"""GEAR-L: KIVI's quantisation plus a low-rank matrix of its error.

Source: arXiv 2403.05527 and opengear-project/GEAR: rank 4, three power iterations with a QR at the end. GEAR-L drops
the sparse outliers of GEAR.
"""

from __future__ import annotations

import torch
from torch import Tensor

from turbosim.numerics.kivi import kivi_cache

ITERATIONS = 3


def low_rank(error: Tensor, rank: int = 4, seed: int = 0) -> Tensor:
    """Return the rank-*rank* approximation A B^T of *error* (..., tokens, d) by power iteration, factors in FP16."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.randn(*error.shape[:-2], error.shape[-1], rank, generator=generator)
    left = error @ right
    for _ in range(ITERATIONS):
        left, _ = torch.linalg.qr(error @ right)
        right = error.transpose(-1, -2) @ left
    return left.half().float() @ right.half().float().transpose(-1, -2)


def gear_cache(keys: Tensor, values: Tensor, bits: int = 4, group: int = 64, residual: int = 64, rank: int = 4
               ) -> tuple[Tensor, Tensor]:
    """Return K and V (..., tokens, d) as the cache gives them back, float32; arguments as :func:`kivi_cache`."""
    k, v = kivi_cache(keys, values, bits, group, residual)
    packed = (keys.shape[-2] - 1) // residual * residual
    if packed:
        for approximate, exact in ((k, keys.float()), (v, values.float())):
            error = (exact - approximate)[..., :packed, :]
            approximate[..., :packed, :] += low_rank(error, rank)
    return k, v
