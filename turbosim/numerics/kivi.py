"""KIVI's KV cache: keys quantised per channel, values per token, in groups, asymmetrically; the newest tokens in FP16.

Source: arXiv 2402.02750 and jy-yuan/KIVI: scale and minimum in FP16, codes rounded to nearest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from turbosim.errors import UsageError


def fake_quantise(x: Tensor, bits: int, group: int, dim: int) -> Tensor:
    """Quantise *x* in groups of *group* along *dim* and return what the codes decode to, float32.

    Raises UsageError when the group does not divide.
    """
    size = x.shape[dim]
    if size % group:
        raise UsageError(f"groups of {group} do not divide {size}")
    parts = x.float().movedim(dim, -1)
    shape = parts.shape
    parts = parts.reshape(*shape[:-1], size // group, group)
    low = parts.amin(dim=-1, keepdim=True).half().float()
    scale = ((parts.amax(dim=-1, keepdim=True) - low) / (2**bits - 1)).half().float()
    inverse = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
    codes = torch.clamp(torch.round((parts - low) * inverse), 0, 2**bits - 1)
    back: Tensor = (codes * scale + low).reshape(shape)
    return back.movedim(-1, dim)


def kivi_cache(keys: Tensor, values: Tensor, bits: int = 4, group: int = 64, residual: int = 64,
               whole_windows: bool = False) -> tuple[Tensor, Tensor]:
    """Return K and V (..., tokens, d) as the cache gives them back, float32.

    The newest *residual* tokens of V, and the last 1 to *residual* of K, which is packed *residual* tokens at a time,
    keep FP16; with *whole_windows* V is packed *residual* tokens at a time like K. Raises UsageError when *group* does
    not divide *residual*.
    """
    if residual % group:
        raise UsageError(f"groups of {group} tokens do not divide the residual window of {residual}")
    tokens = keys.shape[-2]
    k_packed = (tokens - 1) // residual * residual
    v_packed = k_packed if whole_windows else max(0, tokens - residual)
    k, v = keys.float().clone(), values.float().clone()
    if k_packed:
        k[..., :k_packed, :] = fake_quantise(keys[..., :k_packed, :], bits, group, -2)
    if v_packed:
        v[..., :v_packed, :] = fake_quantise(values[..., :v_packed, :], bits, min(group, values.shape[-1]), -1)
    return k, v
