"""KIVI's cache and a fused decode kernel over it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernels.ops.common import (
    Options,
    check_attention,
    check_choice,
    check_power_of_two,
    decode_output,
    merged,
    need_triton,
)
from kernels.ops.flash import LOG2_E, scratch, spread
from turbosim.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

DECODE_DEFAULTS: Options = {"warps": 4, "stages": 3, "splits": 0}
BLOCK = 64
"""Tokens that are packed at a time, and the most that stay in FP16."""


@dataclass(frozen=True)
class KiviCache:
    """Codes with scale and minimum per group of 64: K along tokens, V along channels.

    The newest 1 to 64 tokens are FP16.
    """

    bits: int
    tokens: int
    k_codes: Tensor
    """uint8 (B, H, blocks, 64, d * bits / 8), like ``v_codes``"""
    v_codes: Tensor
    k_scale: Tensor
    """float16 (B, H, blocks, d), like ``k_low``"""
    k_low: Tensor
    v_scale: Tensor
    """float16 (B, H, blocks, 64, d / 64), like ``v_low``"""
    v_low: Tensor
    k_recent: Tensor
    """float16 (B, H, 64, d), like ``v_recent``"""
    v_recent: Tensor

    def nbytes(self) -> int:
        """Return the bytes of the stored tokens."""
        batch, heads = self.k_recent.shape[:2]
        packed = (self.k_codes, self.v_codes, self.k_scale, self.k_low, self.v_scale, self.v_low)
        recent = self.tokens - self.k_codes.shape[2] * BLOCK
        return sum(x.nbytes for x in packed) + 4 * batch * heads * recent * self.k_recent.shape[3]


def kivi_cache(k: Tensor, v: Tensor, bits: int = 4) -> KiviCache:
    """Quantise k and v (B, H, N, d) float16 with torch. Raises UsageError for arguments that do not fit."""
    import torch

    from turbosim.numerics.packing import pack

    check_attention("kivi", k, k, v)
    check_choice("kivi", "bits", bits, (4, 2))
    batch, heads, tokens, d = k.shape
    if d % BLOCK:
        raise UsageError(f"kernel 'kivi': head_dim must be a multiple of {BLOCK}, got {d}")
    blocks = (tokens - 1) // BLOCK

    def grouped(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
        low = x.amin(dim=dim, keepdim=True)
        scale = ((x.amax(dim=dim, keepdim=True).float() - low.float()) / (2**bits - 1)).half()
        inverse = torch.where(scale > 0, 1 / scale.float(), torch.zeros_like(scale, dtype=torch.float32))
        codes = torch.clamp(torch.round((x.float() - low.float()) * inverse), 0, 2**bits - 1)
        return codes.to(torch.uint8), scale.squeeze(dim).contiguous(), low.squeeze(dim).contiguous()

    shape = (batch, heads, blocks, BLOCK, d)
    k_codes, k_scale, k_low = grouped(k[:, :, :blocks * BLOCK].reshape(shape), 3)
    v_codes, v_scale, v_low = grouped(v[:, :, :blocks * BLOCK].reshape(*shape[:4], d // BLOCK, BLOCK), 5)
    recent = [torch.zeros(batch, heads, BLOCK, d, dtype=torch.float16, device=k.device) for _ in "kv"]
    for target, x in zip(recent, (k, v), strict=True):
        target[:, :, :tokens - blocks * BLOCK] = x[:, :, blocks * BLOCK:]
    return KiviCache(bits, tokens, pack(k_codes, bits).contiguous(), pack(v_codes.reshape(shape), bits).contiguous(),
                     k_scale, k_low, v_scale, v_low, *recent)


def kivi_decode(q: Tensor, cache: KiviCache, options: Options | None = None, out: Tensor | None = None
                ) -> tuple[Tensor, list[Any]]:
    """Return (O float16 (B, Hq, 1, d), compiled kernels) for one query per sequence, float16 (B, Hq, 1, d).

    Raises UsageError for arguments that do not fit.
    """
    need_triton()
    import triton

    from kernels.flash import combine
    from kernels.kivi_decode import decode

    check_attention("kivi", q, q, q)
    chosen = merged("kivi", DECODE_DEFAULTS, options or {})
    check_power_of_two("kivi", 1, 16, warps=chosen["warps"])
    batch, heads, queries, d = q.shape
    kv_heads, blocks = cache.k_codes.shape[1:3]
    if queries != 1 or heads % kv_heads or d != cache.k_recent.shape[3] or batch != cache.k_recent.shape[0]:
        raise UsageError(f"kernel 'kivi': decode takes one query per sequence over a cache of its heads, got q "
                         f"{tuple(q.shape)} and {cache.k_recent.shape[0]} sequences, {kv_heads} heads of "
                         f"{cache.k_recent.shape[3]} channels")
    group = heads // kv_heads
    splits, per_split = spread(chosen["splits"], blocks + 1, batch * kv_heads, q.device)
    part, stat = scratch(batch * kv_heads, splits, group, d, q.device)
    out = decode_output("kivi", q, out)
    handles = [decode[(splits, kv_heads, batch)](
        q, cache.k_codes, cache.v_codes, cache.k_scale, cache.k_low, cache.v_scale, cache.v_low, cache.k_recent,
        cache.v_recent, part, stat, LOG2_E / math.sqrt(d), q.stride(0), q.stride(1), kv_heads, group, blocks,
        cache.tokens - blocks * BLOCK, per_split, blocks, HEAD_DIM=d, BLOCK=BLOCK, GROUP_V=BLOCK,
        BLOCK_G=max(16, triton.next_power_of_2(group)), BITS=cache.bits, num_warps=chosen["warps"],
        num_stages=chosen["stages"])]
    handles.append(combine[(group, batch * kv_heads)](
        part, stat, out, group, splits, HEAD_DIM=d, BLOCK_S=triton.next_power_of_2(splits), num_warps=4))
    return out, handles
