"""What measured kernels are compared with before they are timed: which rows, which reference, how far it may be off."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from kernels.case import Check
from turbosim.workload import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from turbosim.numerics.cache import QuantizedKVCache

SAMPLE = 64
"""Query rows at the beginning, middle and end of a prefill that are compared with the reference, in the first and last
sequence; all rows must be written."""
FP16_TOLERANCE, TURBO_TOLERANCE = 2e-3, 2e-2
"""Largest relative L2 from exact attention in FP16, and from the reference numerics of TurboAttention: rounding ties
and the rounding of packed half instructions differ."""
FP16_LSE_TOLERANCE, TURBO_LSE_TOLERANCE = 1e-3, 2e-2
"""Largest deviation of any row's log-sum-exp. Scores of FP16 inputs are summed in FP32 and differ by the order only.
TurboAttention is compared with the exact log-sum-exp of its INT8 scores: SAS in FP16 is off by up to 4e-3 of a weight,
and drops those below e^-6 of the largest, 5e-3 of the sum for Gaussian scores of 128k keys."""
Pairs = list[tuple["Tensor", "Tensor"]]
"""What a kernel wrote, and the reference."""


def poisoned(like: Tensor) -> Tensor:
    """Return NaN in the shape of *like*."""
    import torch

    return torch.full_like(like, float("nan"))


def poisoned_lse(q: Tensor) -> Tensor:
    """Return NaN, float32, for the log-sum-exp of every row of *q* (B, H, M, d)."""
    import torch

    return torch.full(q.shape[:3], float("nan"), dtype=torch.float32, device=q.device)


def compared(out: Tensor, parts: Pairs, tolerance: float, what: str) -> Check:
    """Return the check of *parts* by relative L2, and of every element of *out* being written."""
    if bool(out.isnan().any()):
        return Check(math.nan, tolerance, what)
    got, want = _joined(parts)
    return Check(float((got - want).norm() / want.norm()), tolerance, what)


def compared_lse(lse: Tensor, parts: Pairs, tolerance: float, what: str) -> Check:
    """Return the check of *parts* by their largest deviation, and of every element of *lse* being written."""
    if bool(lse.isnan().any()):
        return Check(math.nan, tolerance, what)
    got, want = _joined(parts)
    return Check(float((got - want).abs().max()), tolerance, what)


def _joined(parts: Pairs) -> tuple[Tensor, Tensor]:
    import torch

    got, want = (torch.cat([pair[side].double().flatten().cpu() for pair in parts]) for side in (0, 1))
    return got, want


def sampled_rows(shape: Attention) -> list[slice]:
    """Return the query rows that are compared."""
    rows = shape.seq_q
    middle = rows // 2 // SAMPLE * SAMPLE
    return [slice(0, rows)] if rows <= 3 * SAMPLE else [slice(first, first + SAMPLE)
                                                       for first in (0, middle, rows - SAMPLE)]


def ends(count: int) -> list[int]:
    """Return the first and the last of *count*: where wrong offsets and groups show."""
    return sorted({0, count - 1})


def sequences(cache: QuantizedKVCache, which: list[int]) -> QuantizedKVCache:
    """Return a copy of the sequences *which* of *cache*, on the CPU."""
    other = copy.copy(cache)
    for name, value in vars(cache).items():
        if hasattr(value, "cpu"):
            # Tables have a value a head, the rest starts with the sequences.
            setattr(other, name, (value if name.endswith("_table") else value[which]).cpu())
    return other


def exact(shape: Attention, q: Tensor, k: Tensor, v: Tensor, batch: int, rows: slice) -> tuple[Tensor, Tensor]:
    """Return exact attention of one sequence's *rows*, all heads, and its log-sum-exp."""
    from turbosim.numerics.attention import attention

    one = slice(batch, batch + 1)
    seen = shape.seq_k - shape.seq_q + rows.stop if shape.causal else shape.seq_k
    q, k, v = q[one, :, rows], k[one, :, :seen], v[one, :, :seen]
    scores = q.float() @ k.float().repeat_interleave(shape.group, 1).transpose(-1, -2) / math.sqrt(shape.head_dim)
    return attention(q, k, v, causal=shape.causal), _log_sum_exp(scores, shape.causal)


def _log_sum_exp(scores: Tensor, causal: bool) -> Tensor:
    """Return the log-sum-exp of *scores* (..., rows, keys); causal masks align the last row with the last key."""
    import torch

    from turbosim.numerics.attention import visible

    if causal:
        scores = scores.masked_fill(~visible(*scores.shape[-2:], scores.device), -math.inf)
    return torch.logsumexp(scores, dim=-1)


def turbo_tiles(shape: Attention, config: Any, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
                ) -> tuple[Pairs, Pairs]:
    """Return pairs of O and of the log-sum-exp for the first and last query tile of the first and last heads.

    That of every sequence at the ends of the batch; the last tile sees every key. *config* is a
    :class:`turbosim.numerics.attention.TurboConfig`.
    """
    from turbosim.numerics.attention import turbo_prefill

    rows, block, shift = config.block_m, config.block_n, shape.seq_k - shape.seq_q
    tiles = sorted({0, (shape.seq_q - 1) // rows * rows})
    outputs: Pairs = []
    sums: Pairs = []
    for b in ends(shape.batch):
        for head in ends(shape.q_heads):
            kv_head = head // shape.group
            one_q, one_k, one_v = (x[b:b + 1, h:h + 1].cpu() for x, h in ((q, head), (k, kv_head), (v, kv_head)))
            for first in tiles:
                stop = min(first + rows, shape.seq_q)
                # Whole blocks of keys, whose scales are those of the kernel; the rows below the tile come with them.
                seen = min(-(-(shift + stop) // block) * block, shape.seq_k) if shape.causal else shape.seq_k
                below = seen - shift if shape.causal else stop
                some_q, some_k, some_v = one_q[:, :, first:below], one_k[:, :, :seen], one_v[:, :, :seen]
                here = slice(0, stop - first)
                place = (slice(b, b + 1), slice(head, head + 1), slice(first, stop))
                want = turbo_prefill(some_q, some_k, some_v, shape.causal, config)
                outputs.append((out[place], want[:, :, here]))
                scores = _int8_scores(some_q, some_k, 1 if config.q_scale == "row" else rows, block)
                sums.append((lse[place], _log_sum_exp(scores, shape.causal)[:, :, here]))
    return outputs, sums


def _int8_scores(q: Tensor, k: Tensor, rows: int, block: int) -> Tensor:
    """Return the scores of q (1, 1, M, d) and k (1, 1, N, d) after stage 1 of FlashQ, in float32.

    *rows* queries and *block* keys share a scale.
    """
    import torch

    from turbosim.numerics.flashq import dequantise_int8, quantise_int8

    def rounded(x: Tensor, size: int) -> Tensor:
        return torch.cat([dequantise_int8(quantise_int8(part)) for part in x.split(size, dim=2)], dim=2)

    return rounded(q, rows) @ rounded(k, block).transpose(-1, -2) / math.sqrt(q.shape[-1])
