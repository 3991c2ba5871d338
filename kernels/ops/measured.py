"""The attention kernels as the measuring harness takes them: inputs, launches, checks, work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kernels.case import Check, Kernel, Prepared, first_wrong
from kernels.ops import flash, kivi, turbo
from kernels.ops.checks import (
    FP16_LSE_TOLERANCE,
    FP16_TOLERANCE,
    TURBO_LSE_TOLERANCE,
    TURBO_TOLERANCE,
    Pairs,
    compared,
    compared_lse,
    ends,
    exact,
    poisoned,
    poisoned_lse,
    sampled_rows,
    sequences,
    turbo_tiles,
)
from kernels.ops.common import Options, check_choice, merged
from turbosim.errors import UsageError
from turbosim.workload import Attention, Phase

if TYPE_CHECKING:
    from torch import Tensor

    from turbosim.numerics.cache import QuantizedKVCache

FLASH_DEFAULTS: Options = {"block_m": 128, "block_n": 64, "warps": 0, "stages": 0, "splits": 0}
"""0 leaves warps and stages to the default of the phase, and splits to the number of SMs."""
TURBO_DEFAULTS: Options = {"block_m": 64, "block_n": 64, "warps": 0, "stages": 0, "splits": 0, "bits": "mixed",
                           "sas": "exponent", "p_scale": "tile", "q_scale": "tile", "convert": "magic",
                           "dequant": "fold", "quantise": False}
KIVI_DEFAULTS: Options = {"warps": 4, "stages": 3, "splits": 0, "bits": "4"}
ONLY: Mapping[str, Phase] = {"block_m": Phase.PREFILL, "q_scale": Phase.PREFILL, "quantise": Phase.PREFILL,
                             "splits": Phase.DECODE, "dequant": Phase.DECODE}
"""Options of one phase."""


def _options(kernel: str, defaults: Options, given: Options, phase: Phase) -> dict[str, Any]:
    for name in given:
        if ONLY.get(name, phase) is not phase:
            raise UsageError(f"kernel {kernel!r}: option {name} is for {ONLY[name].value}, and this is {phase.value}")
    return merged(kernel, defaults, given)


def _of_phase(chosen: dict[str, Any], defaults: Options) -> dict[str, Any]:
    """Return what the interface function takes, with its defaults for 0 warps or stages."""
    return {n: (chosen[n] or defaults[n]) if n in ("warps", "stages") else chosen[n] for n in defaults}


def _inputs(shape: Attention, device: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return Gaussian q, k and v in FP16."""
    import torch

    generator = torch.Generator(device=device).manual_seed(seed)

    def normal(heads: int, tokens: int) -> Tensor:
        return torch.randn(shape.batch, heads, tokens, shape.head_dim, generator=generator, device=device,
                           dtype=torch.float16)

    return (normal(shape.q_heads, shape.seq_q), normal(shape.kv_heads, shape.seq_k),
            normal(shape.kv_heads, shape.seq_k))


def _io_bytes(shape: Attention) -> int:
    """Return the bytes of q and o in FP16."""
    return 4 * shape.batch * shape.q_heads * shape.seq_q * shape.head_dim


def _prepare_flash(shape: Attention, given: Options, device: str, seed: int) -> Prepared:
    chosen = _options("flash", FLASH_DEFAULTS, given, shape.phase)
    q, k, v = _inputs(shape, device, seed)
    out, lse = poisoned(q), poisoned_lse(q)
    prefill = shape.phase is Phase.PREFILL
    defaults = flash.PREFILL_DEFAULTS if prefill else flash.DECODE_DEFAULTS
    options = _of_phase(chosen, defaults)

    def launch() -> list[Any]:
        if prefill:
            return flash.flash_prefill(q, k, v, shape.causal, options, out, lse)[2]
        return flash.flash_decode(q, k, v, options, out)[1]

    def check() -> Check:
        out.fill_(math.nan)
        lse.fill_(math.nan)
        launch()
        outputs: Pairs = []
        sums: Pairs = []
        for b in ends(shape.batch):
            for rows in sampled_rows(shape):
                want, want_lse = exact(shape, q, k, v, b, rows)
                outputs.append((out[b:b + 1, :, rows], want))
                sums.append((lse[b:b + 1, :, rows], want_lse))
        right = compared(out, outputs, FP16_TOLERANCE, "relative L2 of O from exact attention")
        if not prefill:
            return right
        return first_wrong(right, compared_lse(lse, sums, FP16_LSE_TOLERANCE,
                                               "largest deviation of LSE from exact attention"))

    return Prepared(launch, check, shape.flops, _io_bytes(shape) + k.nbytes + v.nbytes)


def _bits(text: str, k: Tensor, v: Tensor) -> tuple[int, ...]:
    from turbosim.numerics.heads import mixed_bits

    check_choice("turbo", "bits", text, ("mixed", "4", "2"))
    return mixed_bits(k[:1], v[:1]) if text == "mixed" else (int(text),) * k.shape[1]


def _prepare_turbo(shape: Attention, given: Options, device: str, seed: int) -> Prepared:
    chosen = _options("turbo", TURBO_DEFAULTS, given, shape.phase)
    if chosen["block_n"] != 64 and shape.phase is Phase.DECODE:
        raise UsageError(f"kernel 'turbo': cache blocks have 64 tokens, got block_n {chosen['block_n']}")
    if chosen["block_n"] != 64 and chosen["quantise"]:
        raise UsageError(f"kernel 'turbo': quantise=true writes cache blocks of 64 tokens, got block_n "
                         f"{chosen['block_n']}")
    q, k, v = _inputs(shape, device, seed)
    out = poisoned(q)
    return (_turbo_prefill if shape.phase is Phase.PREFILL else _turbo_decode)(shape, chosen, q, k, v, out)


def _turbo_prefill(shape: Attention, chosen: dict[str, Any], q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Prepared:
    options = _of_phase(chosen, turbo.PREFILL_DEFAULTS)
    block = chosen["block_n"]
    cache = _empty_cache(shape, _bits(chosen["bits"], k, v), k) if chosen["quantise"] and block == 64 else None
    kv, _ = turbo.quantise(k, v, block=block)
    lse = poisoned_lse(q)

    def launch() -> list[Any]:
        if not chosen["quantise"]:
            return turbo.turbo_prefill(q, kv, shape.causal, options, out, lse)[2]
        if cache is not None:
            cache.blocks = cache.held = 0
        fresh, handles = turbo.quantise(k, v, cache, block)
        return [*handles, *turbo.turbo_prefill(q, fresh, shape.causal, options, out, lse)[2]]

    def check() -> Check:
        out.fill_(math.nan)
        lse.fill_(math.nan)
        launch()
        outputs, sums = turbo_tiles(shape, _config(chosen), q, k, v, out, lse)
        return first_wrong(
            compared(out, outputs, TURBO_TOLERANCE, "relative L2 of O from the reference"),
            compared_lse(lse, sums, TURBO_LSE_TOLERANCE, "largest deviation of LSE from that of the INT8 scores"))

    moved = kv.k.nbytes + kv.v.nbytes + kv.k_scale.nbytes + kv.v_scale.nbytes
    if chosen["quantise"]:
        moved = k.nbytes + v.nbytes + (cache.k_codes.nbytes + cache.v_codes.nbytes if cache is not None else 0)
    return Prepared(launch, check, shape.flops, _io_bytes(shape) + moved)


def _config(chosen: dict[str, Any]) -> Any:
    import torch

    from turbosim.numerics.attention import TurboConfig

    exact = chosen["sas"] == "exp2"
    form: Any = {"exp2": "exact", "exponent": "exponent"}.get(chosen["sas"], "table")
    return TurboConfig(block_m=chosen["block_m"], block_n=chosen["block_n"], sas=form, p_scale=chosen["p_scale"],
                       q_scale=chosen["q_scale"], dtype=torch.float32 if exact else torch.float16)


def _empty_cache(shape: Attention, bits: tuple[int, ...], like: Tensor) -> QuantizedKVCache:
    from turbosim.numerics.cache import QuantizedKVCache

    return QuantizedKVCache(shape.batch, bits, shape.head_dim, shape.seq_k, device=str(like.device))


def _turbo_decode(shape: Attention, chosen: dict[str, Any], q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Prepared:
    options = _of_phase(chosen, turbo.DECODE_DEFAULTS)
    cache = _empty_cache(shape, _bits(chosen["bits"], k, v), k)
    turbo.quantise(k, v, cache)

    def launch() -> list[Any]:
        return turbo.turbo_decode(q, cache, options, out)[1]

    def check() -> Check:
        from turbosim.numerics.attention import turbo_decode

        out.fill_(math.nan)
        launch()
        heads = sorted({*(cache.bits.index(b) for b in set(cache.bits)), *ends(shape.kv_heads)})
        tiles = cache.blocks + (cache.held > 0)
        splits, _ = flash.spread(chosen["splits"], tiles, shape.batch * shape.kv_heads, q.device)
        which = ends(shape.batch)
        want = turbo_decode(q[which, :, 0].cpu(), sequences(cache, which), _config(chosen), splits, heads)
        group = shape.group
        parts = [(out[which, h * group:(h + 1) * group, 0], want[:, h * group:(h + 1) * group]) for h in heads]
        return compared(out, parts, TURBO_TOLERANCE, "relative L2 of O from the reference")

    return Prepared(launch, check, shape.flops, _io_bytes(shape) + cache.nbytes())


def _prepare_kivi(shape: Attention, given: Options, device: str, seed: int) -> Prepared:
    if shape.phase is not Phase.DECODE:
        raise UsageError("kernel 'kivi' is a decode kernel: KIVI's prefill is FlashAttention")
    chosen = _options("kivi", KIVI_DEFAULTS, given, shape.phase)
    check_choice("kivi", "bits", chosen["bits"], ("4", "2"))
    q, k, v = _inputs(shape, device, seed)
    out = poisoned(q)
    cache = kivi.kivi_cache(k, v, int(chosen["bits"]))
    options = {n: chosen[n] for n in kivi.DECODE_DEFAULTS}

    def launch() -> list[Any]:
        return kivi.kivi_decode(q, cache, options, out)[1]

    def check() -> Check:
        from turbosim.numerics.attention import attention
        from turbosim.numerics.kivi import kivi_cache

        out.fill_(math.nan)
        launch()
        parts = []
        for b in ends(shape.batch):
            one = [x[b:b + 1] for x in (q, k, v)]
            stored = kivi_cache(*one[1:], int(chosen["bits"]), residual=kivi.BLOCK, whole_windows=True)
            parts.append((out[b:b + 1], attention(one[0], *stored)))
        return compared(out, parts, 1e-2, "relative L2 of O from attention over what the cache holds")

    return Prepared(launch, check, shape.flops, _io_bytes(shape) + cache.nbytes())


def _prepare_quantise(shape: Attention, given: Options, device: str, seed: int) -> Prepared:
    chosen = merged("quantise", {"bits": "mixed", "warps": 4}, given)
    _, k, v = _inputs(shape, device, seed)
    cache = _empty_cache(shape, _bits(chosen["bits"], k, v), k)
    kv, _ = turbo.quantise(k, v, cache, warps=chosen["warps"])

    def launch() -> list[Any]:
        cache.blocks = cache.held = 0
        return turbo.quantise(k, v, cache, warps=chosen["warps"])[1]

    def check() -> Check:
        from turbosim.numerics.cache import QuantizedKVCache

        for x in (cache.k_step, cache.v_step, cache.k_zero, cache.v_zero, cache.k_codes, cache.v_codes,
                  cache.k_buffer, cache.v_buffer, cache.k_universal, cache.v_universal):
            x.fill_(77)
        launch()
        wrong = total = 0
        for batch in ends(shape.batch):
            one = slice(batch, batch + 1)
            want = QuantizedKVCache(1, cache.bits, shape.head_dim, shape.seq_k)
            want.prefill(k[one].cpu(), v[one].cpu())
            held = want.held
            pairs = [(getattr(cache, n)[one, :, :want.blocks], getattr(want, n)[:, :, :want.blocks])
                     for n in ("k_step", "v_step", "k_zero", "v_zero", "k_scale", "v_scale")]
            pairs += [(cache.k_universal[one], want.k_universal), (cache.v_universal[one], want.v_universal),
                      (cache.k_buffer[one, :, :held], want.k_buffer[:, :, :held]),
                      (cache.v_buffer[one, :, :, :held], want.v_buffer[..., :held])]
            for head, bits in enumerate(cache.bits):
                at = slice(cache.offsets[head], cache.offsets[head] + want.blocks * cache.block_bytes(bits))
                pairs += [(cache.k_codes[one, at], want.k_codes[:, at]), (cache.v_codes[one, at], want.v_codes[:, at])]
            for a, b in pairs:
                wrong += int((a.cpu() != b).sum())
                total += b.numel()
        return Check(wrong / max(1, total), 1e-3, "share of stored values that differ from the reference")

    return Prepared(launch, check, 0, k.nbytes + v.nbytes + kv.k.nbytes + kv.v.nbytes + cache.nbytes())


def _kernel(name: str, title: str, defaults: Options, prepare: Callable[..., Prepared]) -> Kernel:
    return Kernel(name, title, defaults, prepare)


FLASH = _kernel("flash", "FlashAttention in FP16: prefill, split-KV decode", FLASH_DEFAULTS, _prepare_flash)
TURBO = _kernel("turbo", "TurboAttention: INT8 prefill, decode over the 4/2-bit cache", TURBO_DEFAULTS, _prepare_turbo)
KIVI = _kernel("kivi", "fused decode over KIVI's cache", KIVI_DEFAULTS, _prepare_kivi)
QUANTISE = _kernel("quantise", "FlashQ's quantisation of K and V into the cache", {"bits": "mixed", "warps": 4},
                   _prepare_quantise)
