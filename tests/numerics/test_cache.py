"""The quantised KV cache: equal to quantising from scratch, true bytes, refusals."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbosim.errors import UsageError
from turbosim.numerics.cache import BLOCK, QuantizedKVCache
from turbosim.numerics.flashq import compress, decompress, quantise_int8
from turbosim.workload.kvcache import FORMATS


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).half()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(0, 150), st.lists(st.sampled_from([2, 4]), min_size=1, max_size=3),
       st.sampled_from([4, 64]), st.integers(0, 2**31))
def test_the_cache_equals_quantising_from_scratch(prompt, generated, bits, d, seed):
    tokens = prompt + generated
    k, v = normal(2, len(bits), tokens, d, seed=seed), normal(2, len(bits), tokens, d, seed=seed + 1)
    cache = QuantizedKVCache(2, bits, d, tokens)
    cache.prefill(k[:, :, :prompt], v[:, :, :prompt])
    for t in range(prompt, tokens):
        cache.append(k[:, :, t], v[:, :, t])
    assert cache.tokens == tokens
    got = cache.dequantised()
    for x, stored in zip((k, v), got, strict=True):
        universal = None
        for number in range(-(-tokens // BLOCK)):
            part = x[:, :, number * BLOCK:(number + 1) * BLOCK]
            from_prompt = (number + 1) * BLOCK < prompt
            if from_prompt:
                own = quantise_int8(part)
            else:
                if universal is None:
                    # The largest scale before the buffer; of the prompt's rest where there is none.
                    before = [quantise_int8(x[:, :, n * BLOCK:(n + 1) * BLOCK]).scale for n in range(number)]
                    universal = (torch.stack(before).amax(dim=0) if before
                                 else quantise_int8(x[:, :, :prompt]).scale)
                own = quantise_int8(part, universal)
            codes = own.codes
            if number < cache.blocks:
                codes = torch.stack([decompress(compress(codes[:, h], b)) for h, b in enumerate(bits)], dim=1)
            want = codes.float() * own.scale.float()[..., None, None]
            assert torch.equal(stored[:, :, number * BLOCK:(number + 1) * BLOCK], want)


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 128, 129, 1024, 4096, 32768])
def test_bytes_are_those_of_the_simulated_formats(tokens):
    """The simulator's formats and real caches agree to the byte."""
    cache = QuantizedKVCache(1, (4, 2), 128, tokens)
    cache.prefill(normal(1, 2, tokens, 128), normal(1, 2, tokens, 128))
    packed, held = FORMATS["turbo-mixed"].split(tokens)
    assert (cache.blocks * BLOCK, cache.held) == (packed, held)
    per_token = FORMATS["turbo-mixed"].bytes_per_token(128)
    buffer = 2 * 2 * (BLOCK * 128 + 2)
    assert cache.nbytes() == packed * 2 * per_token + buffer
    assert cache.fp16_bytes() == tokens * 2 * 2 * 128 * 2


@pytest.mark.parametrize("tokens", [1024, 2048, 4096, 8192, 16384, 32768])
def test_mixed_heads_are_over_4_4_times_smaller(tokens):
    cache = QuantizedKVCache(1, (2, 4, 4, 2), 128, tokens)
    cache.prefill(normal(1, 4, tokens, 128), normal(1, 4, tokens, 128))
    assert cache.fp16_bytes() / cache.nbytes() > 4.4


def test_a_flush_keeps_the_buffer_codes():
    k = normal(1, 1, 200, 64)
    cache = QuantizedKVCache(1, (4,), 64, 200)
    cache.prefill(k[:, :, :128], k[:, :, :128])
    assert (cache.blocks, cache.held) == (1, 64)
    before = cache.k_buffer.clone()
    cache.append(k[:, :, 128], k[:, :, 128])
    assert (cache.blocks, cache.held) == (2, 1)
    assert torch.equal(cache.stage1(0, 1)[0], decompress(compress(before[:, 0], 4)))


def test_later_outliers_are_clamped_and_leave_the_buffer_alone():
    k = normal(1, 1, 70, 64)
    cache = QuantizedKVCache(1, (4,), 64, 128)
    cache.prefill(k, k)
    before, scale = cache.k_buffer[:, :, :6].clone(), cache.k_universal.clone()
    cache.append(100 * k[:, :, 0], k[:, :, 0])
    assert torch.equal(cache.k_buffer[:, :, :6], before)
    assert torch.equal(cache.k_universal, scale)
    assert int(cache.k_buffer[:, :, 6].abs().max()) == 119


@pytest.mark.parametrize(("act", "message"), [
    (lambda: QuantizedKVCache(1, (4, 3), 64, 64), "bits has 2 or 4 for every KV head, got [4, 3]"),
    (lambda: QuantizedKVCache(1, (), 64, 64), "bits has 2 or 4 for every KV head, got []"),
    (lambda: QuantizedKVCache(1, (4,), 66, 64), "head_dim must be a multiple of 4 to pack 2-bit codes, got 66"),
    (lambda: QuantizedKVCache(1, (4,), 64, 64).prefill(normal(1, 1, 65, 64), normal(1, 1, 65, 64)),
     "the cache has room for 64 tokens, got 65"),
    (lambda: QuantizedKVCache(0, (4,), 64, 64), "batch must be at least 1, got 0"),
    (lambda: QuantizedKVCache(1, (4,), 0, 64), "head_dim must be at least 1, got 0"),
    (lambda: QuantizedKVCache(1, (4,), 64, -5), "max_tokens must be at least 1, got -5"),
    (lambda: QuantizedKVCache(1, (4,), 64, 64, block=0), "block must be at least 1, got 0"),
    (lambda: QuantizedKVCache(1, (4,), 64, 64).prefill(normal(1, 1, 0, 64), normal(1, 1, 0, 64)),
     "prefill takes keys (batch, heads, tokens, channels) of at least one token, got (1, 1, 0, 64)"),
    (lambda: QuantizedKVCache(1, (4,), 64, 64).prefill(normal(1, 5, 64), normal(1, 5, 64)),
     "prefill takes keys (batch, heads, tokens, channels) of at least one token, got (1, 5, 64)"),
    (lambda: QuantizedKVCache(1, (4,), 64, 64).prefill(normal(1, 2, 5, 64), normal(1, 2, 5, 64)),
     "keys must be of shape (1, 1, 5, 64), got (1, 2, 5, 64)"),
    (lambda: QuantizedKVCache(1, (4,), 64, 64).prefill(normal(1, 1, 5, 64), normal(1, 1, 6, 64)),
     "values must be of shape (1, 1, 5, 64), got (1, 1, 6, 64)"),
    (lambda: QuantizedKVCache(2, (4,), 64, 64).append(normal(1, 1, 64), normal(1, 1, 64)),
     "keys must be of shape (2, 1, 64), got (1, 1, 64)"),
    (lambda: QuantizedKVCache(1, (4,), 64, 64).flush(), "only a full buffer is packed: it holds 0 of 64 tokens"),
])
def test_refusals(act, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        act()


def test_a_full_cache_and_a_second_prompt_are_refused():
    cache = QuantizedKVCache(1, (4,), 64, 64)
    k = normal(1, 1, 64, 64)
    cache.prefill(k, k)
    with pytest.raises(UsageError, match=r"^the cache is full: it has room for 64 tokens$"):
        cache.append(k[:, :, 0], k[:, :, 0])
    with pytest.raises(UsageError, match=r"^prefill needs an empty cache, this one holds 64 tokens$"):
        cache.prefill(k, k)
