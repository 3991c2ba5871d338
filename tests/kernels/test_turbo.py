"""TurboAttention in Triton against the reference numerics, in the interpreter."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from kernels.ops.kivi import kivi_cache, kivi_decode
from kernels.ops.turbo import P_SCALES, Q_SCALES, SAS, append, quantise, turbo_decode, turbo_prefill
from kernels.turbo import lowered
from tests.kernels.test_flash import normal, poisoned, qkv
from turbosim.errors import UsageError
from turbosim.numerics import attention as reference
from turbosim.numerics.attention import TurboConfig, attention
from turbosim.numerics.cache import QuantizedKVCache
from turbosim.numerics.errors import deviation
from turbosim.numerics.kivi import kivi_cache as kivi_values

FORMS = {"exp2": "exact", "naive": "table", "table": "table", "exponent": "exponent"}
TOLERANCE = 6e-3
"""Relative L2 from the reference: ties, and multiply-adds that round once more in the interpreter."""


def config(sas, **changes):
    return TurboConfig(sas=FORMS[sas], dtype=torch.float32 if sas == "exp2" else torch.float16, **changes)


@pytest.mark.parametrize("sas", SAS)
@pytest.mark.parametrize("convert", ["magic", "cast"])
@pytest.mark.parametrize("p_scale", P_SCALES)
@pytest.mark.parametrize(("shape", "causal", "block_m"), [
    ((1, 2, 1, 100, 100, 64), True, 64), ((2, 4, 2, 64, 130, 32), False, 32)])
def test_prefill(shape, causal, block_m, sas, convert, p_scale):
    q, k, v = qkv(*shape)
    kv, _ = quantise(k, v)
    lse = torch.full(q.shape[:3], float("nan"))
    out, _, _ = turbo_prefill(q, kv, causal, {"sas": sas, "convert": convert, "p_scale": p_scale, "block_m": block_m},
                              poisoned(q), lse)
    want = reference.turbo_prefill(q, k, v, causal, config(sas, p_scale=p_scale, block_m=block_m))
    assert deviation(out, want).relative_l2 < TOLERANCE
    assert not lse.isnan().any()


@pytest.mark.parametrize(("shape", "causal"), [
    ((1, 1, 1, 1, 1, 64), True), ((1, 2, 2, 1, 200, 128), True), ((1, 2, 1, 33, 300, 64), True),
    ((1, 2, 1, 128, 128, 128), False)])
@pytest.mark.parametrize("block", [64, 128])
def test_prefill_shapes(shape, causal, block):
    q, k, v = qkv(*shape)
    kv, _ = quantise(k, v, block=block)
    out, _, _ = turbo_prefill(q, kv, causal, {"block_m": 64}, poisoned(q))
    want = reference.turbo_prefill(q, k, v, causal, config("exponent", block_n=block))
    assert deviation(out, want).relative_l2 < TOLERANCE


@pytest.mark.parametrize(("shape", "causal", "block_m"), [
    ((1, 1, 1, 1, 1, 64), True, 64), ((1, 6, 2, 33, 300, 64), True, 64), ((1, 2, 1, 130, 130, 128), True, 128),
    ((1, 2, 1, 65, 129, 64), False, 32)])
@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize("q_scale", Q_SCALES)
def test_prefill_relative_to_the_maximum_of_the_tile(shape, causal, block_m, block, q_scale):
    """Tiles that shapes do not divide; rows that see nothing of a tile; groups."""
    q, k, v = qkv(*shape)
    kv, _ = quantise(k, v, block=block)
    lse = torch.full(q.shape[:3], float("nan"))
    out, _, _ = turbo_prefill(q, kv, causal, {"block_m": block_m, "p_scale": "row", "q_scale": q_scale}, poisoned(q), lse)
    of = config("exponent", p_scale="row", q_scale=q_scale, block_m=block_m, block_n=block)
    want = reference.turbo_prefill(q, k, v, causal, of)
    assert deviation(out, want).relative_l2 < TOLERANCE
    scores = q.float() @ k.float().repeat_interleave(shape[1] // shape[2], 1).transpose(-1, -2) / shape[5]**0.5
    if causal:
        scores = scores.masked_fill(~reference.visible(shape[3], shape[4]), -torch.inf)
    assert torch.allclose(lse, scores.logsumexp(-1), atol=0.05)


@triton.jit
def lower(x, out, count: tl.constexpr):
    at = tl.arange(0, count)
    tl.store(out + at, lowered(tl.load(x + at)))


@pytest.mark.parametrize("constant", [12582912, 0])
@pytest.mark.parametrize("fused", [True, False])
def test_no_score_is_above_0_with_fused_multiply_adds(constant, fused):
    """The scaling of the largest score, with one rounding where the GPU has one; the interpreter has two.

    Prefill without conversions adds the constant, prefill with them and decode do not.
    """
    rng = np.random.default_rng(0)
    scale = np.exp2(rng.uniform(-20, 5, 2**17)).astype(np.float32)
    largest = (constant + rng.integers(-(2**21), 2**21, scale.size)).astype(np.float32)
    offset = -np.float32(constant) * scale
    # Products of two float32 numbers are exact in float64, and so are these sums of them with a third.
    exact = largest.astype(np.float64) * scale
    tile_top = ((exact if fused else exact.astype(np.float32)) + offset).astype(np.float32)
    shift = offset - tile_top
    assert (exact + shift).max() > 1
    below = torch.empty(shift.size)
    lower[1,](torch.from_numpy(shift), below, shift.size)
    assert (exact + below.numpy()).max() <= 0
    assert (np.abs(below.numpy() / shift.astype(np.float64) - 1) <= 2.0**-22).all()


@pytest.mark.parametrize("sas", SAS)
@pytest.mark.parametrize("convert", ["magic", "cast"])
@pytest.mark.parametrize("p_scale", ["fixed", "row"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_codes_of_p_do_not_wrap_at_scores_far_from_0(sas, convert, p_scale, sign):
    """A unit in the last place of these scores is 2^-8 to 2^-6, which e^x of a positive one would show."""
    for size in (60.0, 90.0):
        q, k = torch.full((1, 1, 16, 128), size).half(), torch.full((1, 1, 64, 128), sign * size).half()
        v = normal(1, 1, 64, 128)
        kv, _ = quantise(k, v)
        options = {"sas": sas, "convert": convert, "p_scale": p_scale, "block_m": 16}
        out, _, _ = turbo_prefill(q, kv, False, options, poisoned(q))
        assert deviation(out, attention(q, k, v)).relative_l2 < 0.05


@pytest.mark.parametrize("p_scale", P_SCALES)
def test_blocks_of_zeros_and_masked_tiles_stay_finite(p_scale):
    q, k, v = qkv(1, 1, 1, 128, 128, 64)
    k[:, :, :64] = 0
    v[:, :, 64:] = 0
    kv, _ = quantise(k, v)
    out, _, _ = turbo_prefill(q, kv, True, {"block_m": 128, "p_scale": p_scale}, poisoned(q))
    assert deviation(out, attention(q, k, v, True)).relative_l2 < 0.05


CACHE_TENSORS = ("k_codes", "v_codes", "k_step", "v_step", "k_zero", "v_zero", "k_scale", "v_scale", "k_universal",
                 "v_universal")


def same(a, b):
    assert (a.blocks, a.held) == (b.blocks, b.held)
    for name in CACHE_TENSORS:
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert torch.equal(a.k_buffer[:, :, :a.held], b.k_buffer[:, :, :b.held])
    assert torch.equal(a.v_buffer[..., :a.held], b.v_buffer[..., :b.held])


@pytest.mark.parametrize(("batch", "bits", "tokens", "d"), [
    (1, (4, 2), 300, 128), (2, (4,), 64, 64), (1, (2, 4, 2), 129, 64), (1, (2,), 1, 128)])
def test_the_cache_is_the_references_bit_for_bit(batch, bits, tokens, d):
    k, v = normal(batch, len(bits), tokens, d), normal(batch, len(bits), tokens, d, seed=1)
    want, got = (QuantizedKVCache(batch, bits, d, tokens + 200) for _ in range(2))
    want.prefill(k, v)
    for name in CACHE_TENSORS[:6]:
        getattr(got, name)[:] = getattr(want, name)
        getattr(got, name)[:, :want.blocks] = 77 if name.endswith("codes") else getattr(want, name)[:, :want.blocks]
    quantise(k, v, got)
    same(want, got)
    for t in range(70):
        k1, v1 = normal(batch, len(bits), 1, d, seed=t), 2 * normal(batch, len(bits), 1, d, seed=t + 100)
        want.append(k1[:, :, 0], v1[:, :, 0])
        append(got, k1, v1)
    same(want, got)


@pytest.mark.parametrize("sas", SAS)
@pytest.mark.parametrize("convert", ["magic", "cast"])
@pytest.mark.parametrize("dequant", ["fold", "element"])
@pytest.mark.parametrize("p_scale", P_SCALES)
@pytest.mark.parametrize(("batch", "heads", "bits", "tokens", "d"), [
    (1, 4, (4, 2), 300, 128), (2, 6, (4,), 64, 64), (1, 8, (2, 4), 200, 64)])
def test_decode(batch, heads, bits, tokens, d, sas, convert, dequant, p_scale):
    q, k, v = qkv(batch, heads, len(bits), 1, tokens, d)
    cache = QuantizedKVCache(batch, bits, d, tokens)
    cache.prefill(k, v)
    options = {"sas": sas, "convert": convert, "dequant": dequant, "p_scale": p_scale, "splits": 2}
    out, _ = turbo_decode(q, cache, options, poisoned(q))
    want = reference.turbo_decode(q[:, :, 0], cache, config(sas, p_scale=p_scale), splits=2)
    assert deviation(out[:, :, 0], want).relative_l2 < TOLERANCE


@pytest.mark.parametrize("splits", [0, 1, 7, 40])
@pytest.mark.parametrize(("heads", "tokens"), [(1, 1), (17, 65), (4, 2000)])
@pytest.mark.parametrize("p_scale", ["tile", "row"])
def test_decode_splits_and_groups(heads, tokens, splits, p_scale):
    q, k, v = qkv(1, heads, 1, 1, tokens, 64)
    cache = QuantizedKVCache(1, (4,), 64, tokens)
    cache.prefill(k, v)
    out, _ = turbo_decode(q, cache, {"splits": splits, "p_scale": p_scale}, poisoned(q))
    assert deviation(out, attention(q, *cache.dequantised())).relative_l2 < 0.03


def test_decode_of_a_query_whose_sequences_are_not_outermost():
    q, k, v = qkv(3, 4, 2, 1, 70, 64)
    turned = q.transpose(0, 1).contiguous().transpose(0, 1)
    cache = QuantizedKVCache(3, (4, 2), 64, 70)
    cache.prefill(k, v)
    out, _ = turbo_decode(turned, cache)
    assert deviation(out, turbo_decode(q, cache)[0]).relative_l2 == 0
    with pytest.raises(UsageError, match="kernel 'turbo': out must be contiguous"):
        turbo_decode(turned, cache, None, torch.empty_like(turned))


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize(("batch", "heads", "kv_heads", "tokens", "d"), [
    (1, 2, 2, 1, 64), (2, 6, 2, 65, 64), (1, 8, 2, 300, 128)])
def test_kivi_decode(batch, heads, kv_heads, tokens, d, bits):
    q, k, v = qkv(batch, heads, kv_heads, 1, tokens, d)
    out, _ = kivi_decode(q, kivi_cache(k, v, bits), {"splits": 3}, poisoned(q))
    want = attention(q, *kivi_values(k, v, bits, whole_windows=True))
    assert deviation(out, want).relative_l2 < 4e-3


@pytest.mark.parametrize(("act", "message"), [
    (lambda q, k, v, c: turbo_prefill(q, quantise(k, v)[0], True, {"sas": "exp"}),
     "kernel 'turbo': sas is one of exponent, table, naive, exp2, got 'exp' (did you mean 'exp2'?)"),
    (lambda q, k, v, c: turbo_prefill(q, quantise(k, v)[0], True, {"convert": "i2f"}),
     "kernel 'turbo': convert is one of magic, cast, got 'i2f'"),
    (lambda q, k, v, c: turbo_prefill(q, quantise(k, v)[0], True, {"p_scale": "rows"}),
     "kernel 'turbo': p_scale is one of tile, fixed, row, got 'rows' (did you mean 'row'?)"),
    (lambda q, k, v, c: turbo_prefill(q, quantise(k, v)[0], True, {"q_scale": "fixed"}),
     "kernel 'turbo': q_scale is one of tile, row, got 'fixed'"),
    (lambda q, k, v, c: turbo_prefill(q, quantise(normal(1, 1, 8, 64), normal(1, 1, 8, 64))[0]),
     "kernel 'turbo': causal attention of 16 queries needs as many keys, got 8"),
    (lambda q, k, v, c: quantise(k, v, QuantizedKVCache(1, (4, 4), 64, 16)),
     "kernel 'quantise': the cache must be empty, with 1 heads, blocks of 64 and room for 16 tokens, got 0 tokens, 2 "
     "heads, blocks of 64 and room for 64"),
    (lambda q, k, v, c: append(c, k[:, :, :1], v[:, :, :1]),
     "append needs a cache with a prompt, whose scales the buffer takes over"),
    (lambda q, k, v, c: turbo_decode(q[:, :, :1], c),
     "kernel 'turbo': decode takes one query per sequence over a filled cache of its heads, got q (1, 2, 1, 64) and 0 "
     "tokens in 1 heads of 64 channels"),
    (lambda q, k, v, c: kivi_cache(k, v, 3), "kernel 'kivi': bits is one of 4, 2, got 3"),
    (lambda q, k, v, c: kivi_cache(normal(1, 1, 8, 32), normal(1, 1, 8, 32)),
     "kernel 'kivi': head_dim must be a multiple of 64, got 32"),
])
def test_refusals(act, message):
    q, k, v = qkv(1, 2, 1, 16, 16, 64)
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        act(q, k, v, QuantizedKVCache(1, (4,), 64, 64))
