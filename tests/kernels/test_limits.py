"""Shapes beyond 32-bit offsets and grids are refused before anything is allocated."""

from __future__ import annotations

import re

import pytest
import torch

from kernels.ops import flash, kivi, turbo
from kernels.ops.common import check_attention
from turbosim.errors import UsageError


def meta(batch, heads, tokens, d, strides=None):
    shape = (batch, heads, tokens, d)
    if strides is None:
        return torch.empty(shape, dtype=torch.float16, device="meta")
    return torch.empty_strided(shape, strides, dtype=torch.float16, device="meta")


@pytest.mark.parametrize("shape", [
    (64, 32, 32 * 1024, 128), (64, 8, 128 * 1024, 128), (1, 128, 1024 * 1024, 128), (1, 1, 2**24 - 1, 128),
    (65535, 1, 64, 16)])
def test_what_fits_passes(shape):
    x = meta(*shape)
    check_attention("flash", x, x, x)
    # (batch, tokens, heads, channels) storage.
    if shape[1] * shape[2] * shape[3] < 2**31:
        y = meta(shape[0], shape[2], shape[1], shape[3]).transpose(1, 2)
        check_attention("flash", y, y, y)


BIG = [
    (meta(1, 1, 2**24, 128), "of shape (1, 1, 16777216, 128) needs offsets of 2147483648 elements (16777216 tokens 128 "
                             "apart), and they are 32-bit, below 2147483648; use at most 16777215 tokens"),
    (meta(2, 512 * 1024, 32, 128).transpose(1, 2),
     "of shape (2, 32, 524288, 128) needs offsets of 2147483648 elements (524288 tokens 4096 apart), and they are "
     "32-bit, below 2147483648; use a contiguous tensor"),
    (meta(2, 2, 64, 64, (0, 0, 2**26, 1)),
     "of shape (2, 2, 64, 64) needs offsets of 4294967296 elements (64 tokens 67108864 apart), and they are 32-bit, "
     "below 2147483648; use a contiguous tensor"),
]


@pytest.mark.parametrize(("big", "message"), BIG)
def test_offsets_beyond_32_bits_are_refused(big, message):
    small = meta(big.shape[0], big.shape[1], 16, big.shape[3])
    same = meta(*big.shape)
    long = big.shape[2] >= 2**24
    for kernel, name, call in (
            ("flash", "q", lambda: flash.flash_prefill(big, small, small, False)),
            ("flash", "k", lambda: flash.flash_prefill(small, big, big)),
            ("flash", "k" if long else "v", lambda: flash.flash_decode(small[:, :, :1], same, big)),
            ("turbo", "q", lambda: turbo.turbo_prefill(big, None)),
            ("quantise", "k", lambda: turbo.quantise(big, same)),
            ("kivi", "k" if long else "v", lambda: kivi.kivi_cache(same, big))):
        with pytest.raises(UsageError, match="^" + re.escape(f"kernel '{kernel}': {name} {message}") + "$"):
            call()


def test_the_heads_of_one_query_are_rows_of_a_tile():
    """A query that is a slice of a long sequence keeps that sequence's strides."""
    q, k = meta(1, 128, 128 * 1024, 128)[:, :, -1:], meta(1, 8, 64, 128)
    message = ("kernel 'flash': q of shape (1, 128, 1, 128) needs offsets of 2147483648 elements (128 heads 16777216 "
               "apart), and they are 32-bit, below 2147483648; use a contiguous tensor")
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        flash.flash_decode(q, k, k)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: check_attention("flash", *[meta(65536, 1, 16, 16)] * 3),
     "kernel 'flash': batch of q is 65536, and a grid has at most 65535; split the batch"),
    (lambda: check_attention("kivi", *[meta(1, 65536, 16, 16)] * 2, meta(1, 65536, 16, 16)),
     "kernel 'kivi': heads of k is 65536, and a grid has at most 65535; split the batch"),
    (lambda: flash.flash_decode(*[meta(8192, 8, 1, 64)] * 3),
     "kernel 'combine': batch times KV heads is 65536, and a grid has at most 65535; split the batch")])
def test_grids_beyond_the_gpu_s_are_refused(call, message):
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        call()


def test_quantise_reaches_heads_beyond_32_bits():
    """Three heads 2^30 elements apart: the stride is 32-bit, the offset of the last head is not.

    The storage is virtual memory of which a few pages are written.
    """
    step = 2**30 + 64
    k = torch.empty(2 * step + 64 * 64, dtype=torch.float16).as_strided((1, 3, 64, 64), (0, step, 64, 1))
    k.copy_(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    far, _ = turbo.quantise(k, k.contiguous())
    near, _ = turbo.quantise(k.contiguous(), k.contiguous())
    assert torch.equal(far.k, near.k)
