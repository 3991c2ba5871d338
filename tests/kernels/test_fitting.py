"""Tensors that do not fit each other are refused: a kernel would read or write beyond them."""

from __future__ import annotations

import re

import pytest
import torch

from kernels.ops.flash import flash_decode, flash_prefill
from kernels.ops.kivi import kivi_cache, kivi_decode
from kernels.ops.turbo import append, quantise, turbo_decode, turbo_prefill
from tests.kernels.test_flash import normal
from turbosim.errors import UsageError
from turbosim.numerics.cache import QuantizedKVCache


def cache_of(tokens, d=64, block=64):
    cache = QuantizedKVCache(1, (4,), d, 128, block=block)
    if tokens:
        cache.prefill(normal(1, 1, tokens, d), normal(1, 1, tokens, d))
    return cache


def of_cache(kernel, name, shape, d=64):
    return (f"kernel {kernel!r}: the cache is of 1 sequences and 1 heads of {d} channels on cpu, got {name} {shape} on "
            "cpu")


def output(kernel, name, dtype, shape, got):
    return (f"kernel {kernel!r}: {name} must be torch.{dtype} of shape {shape} on cpu with unit stride along the last "
            f"dimension, got {got} on cpu")


Q, K = normal(1, 2, 70, 64), normal(1, 1, 70, 64)


def both(call, *shape):
    return call(normal(*shape), normal(*shape))


@pytest.mark.parametrize(("act", "message"), [
    (lambda: both(lambda k, v: quantise(k, v, cache_of(0)), 2, 1, 70, 64), of_cache("quantise", "k", (2, 1, 70, 64))),
    (lambda: both(lambda k, v: quantise(k, v, cache_of(0, 128)), 1, 1, 70, 64),
     of_cache("quantise", "k", (1, 1, 70, 64), 128)),
    (lambda: both(lambda k, v: append(cache_of(70), k, v), 1, 1, 1, 32), of_cache("append", "k", (1, 1, 1, 32))),
    (lambda: both(lambda k, v: append(cache_of(70), k, v), 2, 1, 1, 64), of_cache("append", "k", (2, 1, 1, 64))),
    (lambda: both(lambda k, v: append(cache_of(70), k, v), 1, 2, 1, 64), of_cache("append", "k", (1, 2, 1, 64))),
    (lambda: both(lambda k, v: append(cache_of(70), k, v), 1, 1, 3, 64), "append takes one token per sequence, got 3"),
    (lambda: append(cache_of(70), normal(1, 1, 1, 64).float(), normal(1, 1, 1, 64)),
     "kernel 'append': k must be float16, got torch.float32"),
    (lambda: turbo_decode(normal(2, 2, 1, 64), cache_of(70)), of_cache("turbo", "q", (2, 2, 1, 64))),
    (lambda: turbo_decode(normal(1, 2, 1, 64), cache_of(70, block=48)),
     "kernel 'turbo': block must be a power of two from 32 to 128, got 48"),
    (lambda: turbo_decode(normal(1, 2, 1, 64), cache_of(70, block=16)),
     "kernel 'turbo': block must be a power of two from 32 to 128, got 16"),
    (lambda: both(lambda k, v: append(cache_of(70, block=256), k, v), 1, 1, 1, 64),
     "kernel 'append': block must be a power of two from 32 to 128, got 256"),
    (lambda: flash_prefill(Q, K[:, :, :0], K[:, :, :0], False),
     "kernel 'flash': k of shape (1, 1, 0, 64) is empty; every dimension must be at least 1"),
    (lambda: flash_decode(Q[:, :, :1], K[:, :0], K[:, :0]),
     "kernel 'flash': k of shape (1, 0, 70, 64) is empty; every dimension must be at least 1"),
    (lambda: flash_decode(Q[:0, :, :1], K[:0], K[:0]),
     "kernel 'flash': q of shape (0, 2, 1, 64) is empty; every dimension must be at least 1"),
    (lambda: quantise(K[:, :, :0], K[:, :, :0]),
     "kernel 'quantise': k of shape (1, 1, 0, 64) is empty; every dimension must be at least 1"),
    (lambda: kivi_cache(K[:, :, :0], K[:, :, :0]),
     "kernel 'kivi': k of shape (1, 1, 0, 64) is empty; every dimension must be at least 1"),
    (lambda: kivi_decode(normal(2, 2, 1, 64), kivi_cache(K, K)),
     "kernel 'kivi': decode takes one query per sequence over a cache of its heads, got q (2, 2, 1, 64) and 1 sequences, "
     "1 heads of 64 channels"),
    (lambda: turbo_decode(normal(1, 2, 1, 32), cache_of(70, 32)),
     "kernel 'turbo': head_dim must be a power of two from 64 to 128, got 32"),
    (lambda: turbo_prefill(normal(1, 2, 70, 16), both(quantise, 1, 1, 70, 16)[0]),
     "kernel 'turbo': head_dim must be a power of two from 32 to 128, got 16"),
    (lambda: flash_prefill(Q, K, K, True, None, Q[:, :, :10]),
     output("flash", "out", "float16", (1, 2, 70, 64), "torch.float16 of shape (1, 2, 10, 64)")),
    (lambda: turbo_prefill(Q, quantise(K, K)[0], True, None, None, torch.empty(1, 2, 10)),
     output("turbo", "lse", "float32", (1, 2, 70), "torch.float32 of shape (1, 2, 10)")),
    (lambda: flash_prefill(Q, K, K, True, None, None, torch.empty(1, 70, 2).transpose(1, 2)[..., :70]),
     output("flash", "lse", "float32", (1, 2, 70), "torch.float32 of shape (1, 2, 70)")),
    (lambda: flash_prefill(Q, K, K, True, None, None, torch.empty(1, 2, 80)[..., :70]),
     "kernel 'flash': lse must be contiguous, got shape (1, 2, 70) and strides (160, 80, 1)"),
    (lambda: flash_decode(Q[:, :, :1], K, K, None, K[:, :, :1]),
     output("flash", "out", "float16", (1, 2, 1, 64), "torch.float16 of shape (1, 1, 1, 64)")),
])
def test_refusals(act, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        act()
