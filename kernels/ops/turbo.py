"""TurboAttention: quantisation and cache, prefill, decode."""

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
    interpreted,
    merged,
    need_triton,
    prefill_outputs,
)
from kernels.ops.flash import scratch, spread
from turbosim.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from turbosim.numerics.cache import QuantizedKVCache

PREFILL_DEFAULTS: Options = {"block_m": 64, "warps": 4, "stages": 2, "sas": "exponent", "p_scale": "tile",
                             "q_scale": "tile", "convert": "magic"}
DECODE_DEFAULTS: Options = {"warps": 4, "stages": 2, "splits": 0, "sas": "exponent", "p_scale": "tile",
                            "convert": "magic", "dequant": "fold"}
SAS = ("exponent", "table", "naive", "exp2")
P_SCALES = ("tile", "fixed", "row")
Q_SCALES = ("tile", "row")


@dataclass(frozen=True)
class Int8KV:
    """K and V after stage 1, as the prefill reads them."""

    keys: int
    """Tokens; the tensors are padded to whole blocks with zeros."""
    block: int
    k: Tensor
    """int8 (B, Hkv, padded, d)"""
    v: Tensor
    """int8 (B, Hkv, d, padded)"""
    k_scale: Tensor
    """float16 (B, Hkv, blocks)"""
    v_scale: Tensor


def quantise(k: Tensor, v: Tensor, cache: QuantizedKVCache | None = None, block: int = 64, warps: int = 4
             ) -> tuple[Int8KV, list[Any]]:
    """Quantise k and v (B, Hkv, N, d) float16; with *cache*, an empty one of the same block size, fill it as well.

    Returns (INT8 K and V, compiled kernels). Raises UsageError when the cache does not fit.
    """
    need_triton()
    import torch
    import triton

    from kernels.quantise import blocks as kernel

    check_attention("quantise", k, k, v)
    check_power_of_two("quantise", 32, 128, block=block)
    batch, heads, tokens, d = k.shape
    count = triton.cdiv(tokens, block)
    padded = count * block
    device = k.device
    if cache is not None:
        _check_cache("quantise", cache, k)
    k8 = torch.empty(batch, heads, padded, d, dtype=torch.int8, device=device)
    v8 = torch.empty(batch, heads, d, padded, dtype=torch.int8, device=device)
    k_scale, v_scale = (torch.empty(batch, heads, count, dtype=torch.float16, device=device) for _ in "kv")
    none = torch.empty(1, dtype=torch.int8, device=device)
    packed: tuple[Tensor, ...] = (none,) * 8
    bits = offsets = none
    whole = max_blocks = code_bytes = 0
    if cache is not None:
        if cache.tokens or len(cache.bits) != heads or cache.block != block or cache.max_tokens < tokens:
            raise UsageError(
                f"kernel 'quantise': the cache must be empty, with {heads} heads, blocks of {block} and room for "
                f"{tokens} tokens, got {cache.tokens} tokens, {len(cache.bits)} heads, blocks of {cache.block} and "
                f"room for {cache.max_tokens}")
        bits, offsets = cache.bits_table, cache.offsets_table
        packed = (cache.k_codes, cache.v_codes, cache.k_step, cache.v_step, cache.k_zero, cache.v_zero, cache.k_scale,
                  cache.v_scale)
        whole, max_blocks, code_bytes = (tokens - 1) // block, cache.max_blocks, cache.k_codes.shape[1]
    handles = [kernel[(count, heads, batch)](
        k, v, k8, v8, k_scale, v_scale, *packed, bits, offsets, *k.stride()[:3], *v.stride()[:3], heads, tokens, padded,
        whole, max_blocks, code_bytes, HEAD_DIM=d, BLOCK=block, PACK=cache is not None, num_warps=warps)]
    if cache is not None:
        cache.blocks = whole
        rest = slice(whole * block, tokens)
        handles += fill_buffer(cache, k[:, :, rest], v[:, :, rest], (k_scale, v_scale))
    return Int8KV(tokens, block, k8, v8, k_scale, v_scale), handles


def fill_buffer(cache: QuantizedKVCache, k: Tensor, v: Tensor, scales: tuple[Tensor, Tensor] | None = None
                ) -> list[Any]:
    """Put tokens (B, Hkv, n, d) behind those in the INT8 buffer.

    After a prompt *scales* are those of its blocks (B, Hkv, blocks), of which the whole ones, or the only one, set the
    universal scale. Raises UsageError when the tokens do not fit.
    """
    from kernels.quantise import buffer

    batch, heads, tokens, d = k.shape
    if cache.held + tokens > cache.block:
        raise UsageError(f"the buffer holds {cache.held} of {cache.block} tokens and has no room for {tokens}")
    k_scale, v_scale = scales or (cache.k_scale, cache.v_scale)
    handle = buffer[(heads, batch)](k, v, cache.k_buffer, cache.v_buffer, cache.k_universal, cache.v_universal, k_scale,
                                    v_scale, *k.stride()[:3], *v.stride()[:3], heads, tokens, cache.held,
                                    k_scale.shape[2], max(1, cache.blocks), HEAD_DIM=d, BLOCK=cache.block,
                                    FIRST=scales is not None, num_warps=4)
    cache.held += tokens
    return [handle]


def _check_cache(kernel: str, cache: QuantizedKVCache, x: Tensor, name: str = "k") -> None:
    """Raise UsageError unless x (B, H, n, d) is of the sequences and channels that *cache* has room for.

    Kernels would write or read beyond its tensors.
    """
    batch, device = cache.k_scale.shape[0], cache.k_scale.device
    if (x.shape[0], x.shape[3], x.device) != (batch, cache.head_dim, device) or (
            kernel == "append" and x.shape[1] != len(cache.bits)):
        raise UsageError(f"kernel {kernel!r}: the cache is of {batch} sequences and {len(cache.bits)} heads of "
                         f"{cache.head_dim} channels on {device}, got {name} {tuple(x.shape)} on {x.device}")
    # Tiles of the kernels, and products that are 32 deep.
    check_power_of_two(kernel, 32, 128, block=cache.block)


def append(cache: QuantizedKVCache, k: Tensor, v: Tensor) -> list[Any]:
    """Store one token per sequence (B, Hkv, 1, d), packing a full buffer first; not into an empty cache.

    Raises UsageError when the cache is empty or full.
    """
    from kernels.quantise import flush

    if not cache.tokens:
        raise UsageError("append needs a cache with a prompt, whose scales the buffer takes over")
    check_attention("append", k, k, v)
    _check_cache("append", cache, k)
    if k.shape[2] != 1:
        raise UsageError(f"append takes one token per sequence, got {k.shape[2]}")
    handles: list[Any] = []
    if cache.held == cache.block:
        if cache.tokens == cache.max_tokens:
            raise UsageError(f"the cache is full: it has room for {cache.max_tokens} tokens")
        batch, heads = k.shape[:2]
        handles.append(flush[(heads, batch)](
            cache.k_buffer, cache.v_buffer, cache.k_codes, cache.v_codes, cache.k_step, cache.v_step, cache.k_zero,
            cache.v_zero, cache.k_scale, cache.v_scale, cache.k_universal, cache.v_universal, cache.bits_table,
            cache.offsets_table, heads, cache.blocks, cache.max_blocks, cache.k_codes.shape[1],
            HEAD_DIM=cache.head_dim, BLOCK=cache.block, num_warps=4))
        cache.blocks += 1
        cache.held = 0
    return handles + fill_buffer(cache, k, v)


def turbo_prefill(q: Tensor, kv: Int8KV, causal: bool = True, options: Options | None = None,
                  out: Tensor | None = None, lse: Tensor | None = None) -> tuple[Tensor, Tensor, list[Any]]:
    """Return (O float16 like q, LSE float32 (B, Hq, M), compiled kernels) for q float16 (B, Hq, M, d).

    Raises UsageError for arguments that do not fit.
    """
    need_triton()
    import triton

    from kernels.exponential import LOG2_E, VARIANTS, unit
    from kernels.turbo import P_SCALE, fwd

    chosen = merged("turbo", PREFILL_DEFAULTS, options or {})
    check_power_of_two("turbo", 16, 256, block_m=chosen["block_m"])
    check_power_of_two("turbo", 1, 16, warps=chosen["warps"])
    _check_variants(chosen)
    check_choice("turbo", "q_scale", chosen["q_scale"], Q_SCALES)
    check_attention("turbo", q, q, q)
    batch, heads, queries, d = q.shape
    kv_heads, padded = kv.k.shape[1], kv.k.shape[2]
    if kv.k.shape[0] != batch or kv.k.shape[3] != d or heads % kv_heads:
        raise UsageError(f"kernel 'turbo': shapes do not fit: q {tuple(q.shape)}, k {tuple(kv.k.shape)}")
    if causal and queries > kv.keys:
        raise UsageError(f"kernel 'turbo': causal attention of {queries} queries needs as many keys, got {kv.keys}")
    # Products of INT8 are at least 32 deep.
    check_power_of_two("turbo", 32, 128, head_dim=d)
    out, lse = prefill_outputs("turbo", q, out, lse)
    factor = unit(chosen["sas"])
    handle = fwd[(triton.cdiv(queries, chosen["block_m"]), heads, batch)](
        q, kv.k, kv.v, kv.k_scale, kv.v_scale, out, lse, factor / math.sqrt(d), *q.stride()[:3], *out.stride()[:3],
        heads, heads // kv_heads, queries, kv.keys, padded, padded // kv.block, HEAD_DIM=d, BLOCK_M=chosen["block_m"],
        BLOCK_N=kv.block, CAUSAL=causal, EVEN=kv.keys % kv.block == 0, VARIANT=VARIANTS[chosen["sas"]],
        UNIT=LOG2_E / factor, P_SCALE=P_SCALE[chosen["p_scale"]], Q_ROW=chosen["q_scale"] == "row",
        CONVERT=chosen["convert"] == "cast", PACKED=not interpreted(), num_warps=chosen["warps"],
        num_stages=chosen["stages"])
    return out, lse, [handle]


def turbo_decode(q: Tensor, cache: QuantizedKVCache, options: Options | None = None, out: Tensor | None = None
                 ) -> tuple[Tensor, list[Any]]:
    """Return (O float16 (B, Hq, 1, d), compiled kernels) for one query per sequence, float16 (B, Hq, 1, d).

    Raises UsageError for arguments that do not fit.
    """
    need_triton()
    import triton

    from kernels.exponential import LOG2_E, VARIANTS, unit
    from kernels.flash import combine
    from kernels.turbo import P_SCALE
    from kernels.turbo_decode import decode

    chosen = merged("turbo", DECODE_DEFAULTS, options or {})
    check_power_of_two("turbo", 1, 16, warps=chosen["warps"])
    _check_variants(chosen)
    check_choice("turbo", "dequant", chosen["dequant"], ("fold", "element"))
    check_attention("turbo", q, q, q)
    batch, heads, queries, d = q.shape
    kv_heads = len(cache.bits)
    # A byte holds channels d / 4 apart, and slices of d / 4 channels of the output are at least 16 wide.
    check_power_of_two("turbo", 64, 128, head_dim=d)
    _check_cache("turbo", cache, q, "q")
    if queries != 1 or heads % kv_heads or not cache.tokens:
        raise UsageError(f"kernel 'turbo': decode takes one query per sequence over a filled cache of its heads, got q "
                         f"{tuple(q.shape)} and {cache.tokens} tokens in {kv_heads} heads of {cache.head_dim} channels")
    group = heads // kv_heads
    tiles = cache.blocks + (cache.held > 0)
    splits, per_split = spread(chosen["splits"], tiles, batch * kv_heads, q.device)
    part, stat = scratch(batch * kv_heads, splits, group, d, q.device)
    out = decode_output("turbo", q, out)
    factor = unit(chosen["sas"])
    handles = [decode[(splits, kv_heads, batch)](
        q, cache.k_codes, cache.v_codes, cache.k_step, cache.v_step, cache.k_zero, cache.v_zero, cache.k_scale,
        cache.v_scale, cache.k_buffer, cache.v_buffer, cache.k_universal, cache.v_universal, cache.bits_table,
        cache.offsets_table, part, stat,
        factor / math.sqrt(d), q.stride(0), q.stride(1), kv_heads, group, cache.blocks, cache.held, per_split,
        cache.max_blocks, cache.k_codes.shape[1], HEAD_DIM=d, BLOCK=cache.block,
        BLOCK_G=max(16, triton.next_power_of_2(group)), VARIANT=VARIANTS[chosen["sas"]], UNIT=LOG2_E / factor,
        P_SCALE=P_SCALE[chosen["p_scale"]], FOLD=chosen["dequant"] == "fold",
        CONVERT=chosen["convert"] == "cast", PACKED=not interpreted(), num_warps=chosen["warps"],
        num_stages=chosen["stages"])]
    handles.append(combine[(group, batch * kv_heads)](
        part, stat, out, group, splits, HEAD_DIM=d, BLOCK_S=triton.next_power_of_2(splits), num_warps=4))
    return out, handles


def _check_variants(chosen: dict[str, Any]) -> None:
    check_choice("turbo", "sas", chosen["sas"], SAS)
    check_choice("turbo", "p_scale", chosen["p_scale"], P_SCALES)
    check_choice("turbo", "convert", chosen["convert"], ("magic", "cast"))
