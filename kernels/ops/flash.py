"""FlashAttention in FP16: prefill and split-KV decode."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kernels.ops.common import (
    Options,
    check_attention,
    check_grid,
    check_power_of_two,
    decode_output,
    merged,
    need_triton,
    prefill_outputs,
    split_count,
)
from turbosim.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

PREFILL_DEFAULTS: Options = {"block_m": 128, "block_n": 64, "warps": 8, "stages": 3}
DECODE_DEFAULTS: Options = {"block_n": 64, "warps": 4, "stages": 2, "splits": 0}
"""``splits`` 0 fills the GPU once."""
LOG2_E = 1.4426950408889634
MOST_SPLITS = 128
"""The kernel that merges splits holds all of them in registers."""


def flash_prefill(q: Tensor, k: Tensor, v: Tensor, causal: bool = True, options: Options | None = None,
                  out: Tensor | None = None, lse: Tensor | None = None) -> tuple[Tensor, Tensor, list[Any]]:
    """Return (O float16 like q, LSE float32 (B, Hq, M), compiled kernels).

    q (B, Hq, M, d), k and v (B, Hkv, N, d) float16; causal masks align the last query with the last key. Raises
    UsageError for arguments that do not fit.
    """
    need_triton()
    import triton

    from kernels.flash import fwd

    check_attention("flash", q, k, v)
    chosen = merged("flash", PREFILL_DEFAULTS, options or {})
    check_power_of_two("flash", 16, 256, block_m=chosen["block_m"], block_n=chosen["block_n"])
    check_power_of_two("flash", 1, 16, warps=chosen["warps"])
    batch, heads, queries, d = q.shape
    keys = k.shape[2]
    if causal and queries > keys:
        raise UsageError(f"kernel 'flash': causal attention of {queries} queries needs as many keys, got {keys}")
    out, lse = prefill_outputs("flash", q, out, lse)
    even = keys % chosen["block_n"] == 0 and queries % chosen["block_m"] == 0
    handle = fwd[(triton.cdiv(queries, chosen["block_m"]), heads, batch)](
        q, k, v, out, lse, LOG2_E / math.sqrt(d), *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *out.stride()[:3],
        heads, heads // k.shape[1], queries, keys, HEAD_DIM=d, BLOCK_M=chosen["block_m"], BLOCK_N=chosen["block_n"],
        CAUSAL=causal, EVEN=even, num_warps=chosen["warps"], num_stages=chosen["stages"])
    return out, lse, [handle]


def flash_decode(q: Tensor, k: Tensor, v: Tensor, options: Options | None = None, out: Tensor | None = None
                 ) -> tuple[Tensor, list[Any]]:
    """Return (O float16 (B, Hq, 1, d), compiled kernels) for one query per sequence.

    Shapes as :func:`flash_prefill`. Raises UsageError for arguments that do not fit.
    """
    need_triton()
    import triton

    from kernels.flash import combine, decode

    check_attention("flash", q, k, v)
    chosen = merged("flash", DECODE_DEFAULTS, options or {})
    check_power_of_two("flash", 16, 256, block_n=chosen["block_n"])
    check_power_of_two("flash", 1, 16, warps=chosen["warps"])
    if q.shape[2] != 1:
        raise UsageError(f"kernel 'flash': decode takes one query per sequence, got {q.shape[2]}")
    batch, heads, _, d = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    group = heads // kv_heads
    tiles = triton.cdiv(keys, chosen["block_n"])
    splits, per_split = spread(chosen["splits"], tiles, batch * kv_heads, q.device)
    part, stat = scratch(batch * kv_heads, splits, group, d, q.device)
    out = decode_output("flash", q, out)
    handles = [decode[(splits, kv_heads, batch)](
        q, k, v, part, stat, LOG2_E / math.sqrt(d), q.stride(0), q.stride(1), *k.stride()[:3], *v.stride()[:3],
        kv_heads, group, keys, per_split * chosen["block_n"], HEAD_DIM=d,
        BLOCK_G=max(16, triton.next_power_of_2(group)), BLOCK_N=chosen["block_n"], num_warps=chosen["warps"],
        num_stages=chosen["stages"])]
    handles.append(combine[(group, batch * kv_heads)](
        part, stat, out, group, splits, HEAD_DIM=d, BLOCK_S=triton.next_power_of_2(splits), num_warps=4))
    return out, handles


def spread(wanted: int, tiles: int, rows: int, device: Any) -> tuple[int, int]:
    """Return (splits, tiles per split), no split empty. Raises UsageError for a negative number of splits."""
    if wanted < 0:
        raise UsageError(f"splits must be 0 (fill the GPU) or more, got {wanted}")
    splits = min(wanted or split_count(device, rows, tiles), tiles, MOST_SPLITS)
    per_split = -(-tiles // splits)
    return -(-tiles // per_split), per_split


def scratch(rows: int, splits: int, group: int, d: int, device: Any) -> tuple[Tensor, Tensor]:
    """Return the partial outputs (rows, splits, group, d) and statistics (rows, splits, 2, group) of a split decode.

    Raises UsageError for more rows than a grid can have.
    """
    import torch

    check_grid("combine", **{"batch times KV heads": rows})
    return (torch.empty(rows, splits, group, d, dtype=torch.float32, device=device),
            torch.empty(rows, splits, 2, group, dtype=torch.float32, device=device))
