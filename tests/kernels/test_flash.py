"""FlashAttention in Triton against exact attention, in the interpreter."""

from __future__ import annotations

import re

import pytest
import torch

from kernels.ops.flash import flash_decode, flash_prefill
from turbosim.errors import UsageError
from turbosim.numerics.attention import attention
from turbosim.numerics.errors import deviation


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).half()


def qkv(batch, heads, kv_heads, queries, keys, d):
    return (normal(batch, heads, queries, d), normal(batch, kv_heads, keys, d, seed=1),
            normal(batch, kv_heads, keys, d, seed=2))


def poisoned(x):
    return torch.full_like(x, float("nan"))


@pytest.mark.parametrize(("block_m", "block_n"), [(64, 32), (32, 64)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("batch", "heads", "kv_heads", "queries", "keys", "d"), [
    (1, 2, 2, 64, 64, 64), (2, 4, 2, 100, 100, 32), (1, 3, 1, 1, 130, 128), (1, 2, 1, 70, 200, 64),
    (1, 1, 1, 128, 128, 16)])
def test_prefill(batch, heads, kv_heads, queries, keys, d, causal, block_m, block_n):
    q, k, v = qkv(batch, heads, kv_heads, queries, keys, d)
    lse = torch.full((batch, heads, queries), float("nan"))
    out, _, _ = flash_prefill(q, k, v, causal, {"block_m": block_m, "block_n": block_n}, poisoned(q), lse)
    assert deviation(out, attention(q, k, v, causal)).relative_l2 < 1e-3
    scores = q.float() @ k.float().repeat_interleave(heads // kv_heads, 1).transpose(-1, -2) / d**0.5
    if causal:
        seen = torch.arange(queries)[:, None] + keys - queries >= torch.arange(keys)
        scores = scores.masked_fill(~seen, -torch.inf)
    assert torch.allclose(lse, torch.logsumexp(scores, -1), atol=2e-3)


def test_prefill_of_a_transposed_view():
    """Strides are honoured: (batch, tokens, heads, d) storage."""
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in qkv(1, 2, 2, 64, 64, 32))
    out, _, _ = flash_prefill(q, k, v, True, {"block_m": 32, "block_n": 32})
    assert deviation(out, attention(q, k, v, True)).relative_l2 < 1e-3


@pytest.mark.parametrize("splits", [0, 1, 3, 100])
@pytest.mark.parametrize(("batch", "heads", "kv_heads", "keys", "d"), [
    (1, 4, 4, 1, 64), (2, 6, 2, 100, 64), (1, 17, 1, 300, 32), (1, 8, 2, 128, 128)])
def test_decode(batch, heads, kv_heads, keys, d, splits):
    q, k, v = qkv(batch, heads, kv_heads, 1, keys, d)
    out, _ = flash_decode(q, k, v, {"splits": splits, "block_n": 32}, poisoned(q))
    assert deviation(out, attention(q, k, v)).relative_l2 < 1e-3


GOOD = qkv(1, 2, 1, 16, 16, 16)


@pytest.mark.parametrize(("change", "options", "message"), [
    ({"q": GOOD[0].float()}, {}, "kernel 'flash': q must be float16, got torch.float32"),
    ({"k": GOOD[1][0]}, {}, "kernel 'flash': k must be (batch, heads, tokens, channels) with neighbouring channels, got "
                            "shape (1, 16, 16) and strides (256, 16, 1)"),
    ({"v": GOOD[2][:, :, :8]}, {}, "kernel 'flash': shapes do not fit: q (1, 2, 16, 16), k (1, 1, 16, 16), v (1, 1, 8, 16)"),
    ({"q": normal(1, 3, 16, 16), "k": normal(1, 2, 16, 16), "v": normal(1, 2, 16, 16)}, {},
     "kernel 'flash': query heads must be a multiple of KV heads, got 3 and 2"),
    ({n: normal(1, 1, 16, 24) for n in "qkv"}, {},
     "kernel 'flash': head_dim must be a power of two from 16 to 128, got 24"),
    ({"q": normal(1, 2, 17, 16)}, {}, "kernel 'flash': causal attention of 17 queries needs as many keys, got 16"),
    ({}, {"block_m": 48}, "kernel 'flash': block_m must be a power of two from 16 to 256, got 48"),
    ({}, {"block_k": 16}, "kernel 'flash' has no option 'block_k': it has block_m, block_n, warps, stages (did you mean "
                          "'block_n'?)"),
    ({}, {"warps": 8.0}, "kernel 'flash': option warps is of type int, got 8.0"),
])
def test_refusals(change, options, message):
    arguments = dict(zip("qkv", GOOD, strict=True)) | change
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        flash_prefill(**arguments, options=options)


def test_decode_refusals():
    with pytest.raises(UsageError, match=r"^kernel 'flash': decode takes one query per sequence, got 16$"):
        flash_decode(*GOOD)
    with pytest.raises(UsageError, match=r"^splits must be 0 \(fill the GPU\) or more, got -1$"):
        flash_decode(GOOD[0][:, :, :1], *GOOD[1:], {"splits": -1})


def test_decode_of_a_query_whose_sequences_are_not_outermost():
    """The output's rows follow each other whatever the strides of the query are."""
    q, k, v = qkv(3, 4, 2, 1, 70, 32)
    turned = q.transpose(0, 1).contiguous().transpose(0, 1)
    out, _ = flash_decode(turned, k, v, {"block_n": 32})
    assert deviation(out, attention(q, k, v)).relative_l2 < 1e-3
    message = "kernel 'flash': out must be contiguous, got shape (3, 4, 1, 32) and strides (32, 96, 32, 1)"
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        flash_decode(turned, k, v, {"block_n": 32}, torch.empty_like(turned))
