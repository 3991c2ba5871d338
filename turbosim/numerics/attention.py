"""Attention: exact, and TurboAttention's prefill (Algorithm 1) and decode (Algorithm 2).

Corrected where the printed algorithms are wrong: the running output is multiplied by e^(m_old - m_new), not by its
inverse; the scores carry 1 / sqrt(d); stage 1 of K and V is done once per block, not once per pair of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from turbosim.errors import UsageError
from turbosim.numerics.cache import QuantizedKVCache
from turbosim.numerics.flashq import INT8_RANGE, quantise_int8
from turbosim.numerics.sas import Form, exponential, rescale_factor


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v in float32: q (B, Hq, M, d), k and v (B, Hkv, N, d), Hq a multiple of Hkv.

    Causal masks align the last query with the last key.
    """
    group = grouped(q, k)
    scores = q.float() @ k.float().repeat_interleave(group, 1).transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(~visible(q.shape[-2], k.shape[-2], q.device), -math.inf)
    return torch.softmax(scores, dim=-1) @ v.float().repeat_interleave(group, 1)


def grouped(q: Tensor, k: Tensor) -> int:
    """Return the query heads per KV head. Raises UsageError when they do not divide."""
    if q.shape[1] % k.shape[1]:
        raise UsageError(f"query heads must be a multiple of KV heads, got {q.shape[1]} and {k.shape[1]}")
    return q.shape[1] // k.shape[1]


def visible(queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the causal mask (queries, keys): True where a query sees a key."""
    row = torch.arange(queries, device=device)[:, None] + keys - queries
    return row >= torch.arange(keys, device=device)


PScale = Literal["tile", "fixed", "row"]
P_ROW_RANGE = 127
"""Largest code of P relative to its row's maximum, which it cannot exceed. FlashQ's 119 leaves room for values that a
scale did not foresee, of which a buffer has some and P has none."""


@dataclass(frozen=True)
class TurboConfig:
    """What may be varied in TurboAttention."""

    block_m: int = 64
    """Query rows that share a scale."""
    block_n: int = 64
    """Keys that share a scale."""
    sas: Form = "table"
    """Exponential of the scores; ``exact`` is FlashQ without SAS."""
    rescale: Form = "exact"
    """Exponential of the rescale factor, one per row and tile; always 1 where the maximum did not change."""
    flashq: bool = True
    """INT8 products; false is SAS without FlashQ."""
    p_scale: PScale = "tile"
    """What the INT8 codes of P are relative to.

    ``tile``: the running maximum of the row, with the tile's largest weight / 119 as scale, as printed. ``fixed``: the
    same with scale 1 / 119, since P is at most 1. ``row``: the row's maximum within the tile, with scale 1 / 127.

    The running maximum grows with the number of keys, so that under ``tile`` and ``fixed`` typical weights get ever
    fewer of the 119 steps, and SAS sets ever more of them to 0. Under ``row`` the largest weight of every row and tile
    has code 127, and its weight against other tiles is a factor per row, which costs no steps.
    """
    q_scale: Literal["tile", "row"] = "tile"
    """Whether the rows of a query tile share a scale, as printed, or have one each, which nothing sums over."""
    dtype: torch.dtype = torch.float16
    """Type of the scores and of SAS."""


DEFAULT = TurboConfig()


@dataclass
class _Running:
    """Running maximum, sum and output of online softmax over tiles."""

    maximum: Tensor
    total: Tensor
    output: Tensor

    @classmethod
    def start(cls, like: Tensor) -> _Running:
        rows = like.shape[:-1]
        return cls(torch.full(rows, -math.inf), torch.zeros(rows), torch.zeros(like.shape))

    def tile(self, scores: Tensor, v: Tensor, v_scale: Tensor | None, config: TurboConfig) -> None:
        """Add a tile: scores (..., rows, keys) with -inf where masked, v (..., keys, d) as codes or values."""
        largest = scores.amax(dim=-1)
        maximum = torch.maximum(self.maximum, largest)
        base = largest if config.p_scale == "row" else maximum
        shifted = torch.where(torch.isneginf(scores), -math.inf, scores - base[..., None])
        p = exponential(shifted, config.sas, dtype=config.dtype)
        # The weight of what came before, and of this tile: where P is relative to the tile, one of the two is 1.
        before = rescale_factor(self.maximum, maximum, config.rescale)
        here = rescale_factor(base, maximum, config.rescale)
        self.total = self.total * before + p.float().sum(dim=-1) * here
        if v_scale is None:
            product = p.float() @ v.float()
        else:
            codes, scale = weights_to_int8(p.float(), config.p_scale)
            # Sums of INT8 products are below 2^24 and exact in float32.
            product = (codes @ v.float()) * (scale * v_scale.float()[..., None, None])
        self.output = self.output * before[..., None] + product * here[..., None]
        self.maximum = maximum

    def finish(self) -> Tensor:
        return self.output / self.total[..., None]


def weights_to_int8(p: Tensor, p_scale: PScale) -> tuple[Tensor, Tensor]:
    """Return weights (..., rows, keys) in [0, 1] as codes, in float32, and the scale of the tile.

    Codes are 0 to 119, with a scale of the tile's largest weight / 119 or of 1 / 119, or with ``row`` 0 to 127.
    """
    largest = p.amax(dim=(-2, -1), keepdim=True) if p_scale == "tile" else torch.ones(1)
    scale = largest / (P_ROW_RANGE if p_scale == "row" else INT8_RANGE)
    return torch.round(p * torch.where(scale > 0, 1 / scale, torch.zeros(1))), scale


def turbo_prefill(q: Tensor, k: Tensor, v: Tensor, causal: bool = True, config: TurboConfig = DEFAULT) -> Tensor:
    """Return TurboAttention of a prompt in float32: shapes as :func:`attention`, float16 inputs.

    The cache that goes with it is :meth:`QuantizedKVCache.prefill` of the same k and v.
    """
    group = grouped(q, k)
    queries, keys, d = q.shape[-2], k.shape[-2], q.shape[-1]
    mask = visible(queries, keys) if causal else torch.ones(queries, keys, dtype=torch.bool)
    out = torch.empty(q.shape, dtype=torch.float32)
    blocks = [slice(n, min(n + config.block_n, keys)) for n in range(0, keys, config.block_n)]
    quantised = [(quantise_int8(k[:, :, b]), quantise_int8(v[:, :, b])) for b in blocks] if config.flashq else []
    for first in range(0, queries, config.block_m):
        rows = slice(first, min(first + config.block_m, queries))
        running = _Running.start(q[:, :, rows])
        if config.q_scale == "row":
            of_rows = quantise_int8(q[:, :, rows, None])
            q_codes, q_scale = of_rows.codes[..., 0, :].float(), of_rows.scale.float()[..., None]
        else:
            of_tile = quantise_int8(q[:, :, rows])
            q_codes, q_scale = of_tile.codes.float(), of_tile.scale.float()[..., None, None]
        for number, block in enumerate(blocks):
            if not bool(mask[rows, block].any()):
                continue
            if config.flashq:
                k8, v8 = quantised[number]
                product = q_codes @ k8.codes.float().repeat_interleave(group, 1).transpose(-1, -2)
                scale = q_scale * k8.scale.float().repeat_interleave(group, 1)[..., None, None] / math.sqrt(d)
                scores = product * scale
                values, v_scale = v8.codes.repeat_interleave(group, 1), v8.scale.repeat_interleave(group, 1)
            else:
                scores = q[:, :, rows].float() @ k[:, :, block].float().repeat_interleave(group, 1).transpose(-1, -2)
                scores, v_scale = scores / math.sqrt(d), None
                values = v[:, :, block].repeat_interleave(group, 1)
            scores = scores.masked_fill(~mask[rows, block], -math.inf)
            running.tile(scores, values, v_scale, config)
        out[:, :, rows] = running.finish()
    return out


def turbo_decode(q: Tensor, cache: QuantizedKVCache, config: TurboConfig = DEFAULT, splits: int = 1,
                 heads: Sequence[int] | None = None) -> Tensor:
    """Return TurboAttention of one query per sequence over *cache*: q float16 (B, Hq, d), result float32.

    The blocks, and the buffer as the last one, are shared out over *splits* as evenly as whole blocks go, each with its
    own running maximum, and merged exactly. The query has one scale per head; P's tile is the group of a KV head. With
    *heads* only those KV heads are computed, and the other outputs are 0.
    """
    batch, q_heads, d = q.shape
    group = q_heads // len(cache.bits)
    out = torch.zeros(batch, q_heads, d)
    tiles = cache.blocks + (cache.held > 0)
    per_split = -(-tiles // splits)
    for head in range(len(cache.bits)) if heads is None else heads:
        rows = q[:, head * group:(head + 1) * group]
        q8 = quantise_int8(rows[:, :, None])
        parts = []
        for first in range(0, tiles, per_split):
            running = _Running.start(rows)
            for number in range(first, min(first + per_split, tiles)):
                k, k_scale, v, v_scale = cache.stage1(head, number)
                product = q8.codes[:, :, 0].float() @ k.float().transpose(-1, -2)
                scale = q8.scale.float() * k_scale.float()[:, None] / math.sqrt(d)
                running.tile(product * scale[..., None], v, v_scale, config)
            parts.append(running)
        top = torch.stack([p.maximum for p in parts]).amax(dim=0)
        weights = [torch.exp(p.maximum - top) for p in parts]
        total = sum(w * p.total for w, p in zip(weights, parts, strict=True))
        merged = sum(w[..., None] * p.output for w, p in zip(weights, parts, strict=True))
        out[:, head * group:(head + 1) * group] = merged / total[..., None]  # type: ignore[index]
    return out
