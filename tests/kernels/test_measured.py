"""The kernels as the measuring harness sees them."""

from __future__ import annotations

import math
import re

import pytest
import torch

from kernels.registry import NAMES, get
from turbosim.errors import UsageError
from turbosim.workload import Attention, Phase

PREFILL = Attention(1, 4, 2, 200, 200, 64, True, Phase.PREFILL)
DECODE = Attention(2, 4, 2, 1, 300, 128, False, Phase.DECODE)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_kernel(name):
    assert get(name).name == name


@pytest.mark.parametrize(("name", "shape", "options"), [
    ("flash", PREFILL, {"block_m": 64}), ("flash", DECODE, {}), ("turbo", PREFILL, {}),
    ("turbo", PREFILL, {"quantise": True, "block_m": 128}), ("turbo", DECODE, {}), ("turbo", DECODE, {"bits": "2"}),
    ("turbo", PREFILL, {"p_scale": "row"}), ("turbo", DECODE, {"p_scale": "row", "splits": 3}),
    ("kivi", DECODE, {"bits": "2"}), ("quantise", PREFILL, {}),
])
def test_checks_pass(name, shape, options):
    prepared = get(name).prepare(shape, options, "cpu", 0)
    check = prepared.check()
    assert check.ok, check
    assert prepared.flops == (0 if name == "quantise" else shape.flops)
    assert prepared.nbytes > 0


def test_useful_bytes_by_hand():
    """q and o in FP16, K and V once; the cache with its buffer."""
    assert get("flash").prepare(PREFILL, {}, "cpu", 0).nbytes == 2 * 64 * 200 * (4 + 2 + 2 + 4)
    # Per head, K and V: four packed blocks and the buffer.
    cache = 2 * 2 * (4 * (64 * 128 // 2 + 2 * 128 + 2) + 64 * 128 + 2)
    assert get("turbo").prepare(DECODE, {"bits": "4"}, "cpu", 0).nbytes == 2 * 4 * 128 * 4 + 2 * cache


@pytest.mark.parametrize(("name", "shape"), [("flash", PREFILL), ("turbo", PREFILL), ("turbo", DECODE),
                                            ("kivi", DECODE)])
def test_a_kernel_that_writes_nothing_is_wrong(name, shape, monkeypatch):
    module = {"flash": "flash", "turbo": "turbo", "kivi": "kivi"}[name]
    prepared = get(name).prepare(shape, {}, "cpu", 0)
    phase = shape.phase.value
    monkeypatch.setattr(f"kernels.ops.{module}.{name}_{phase}", lambda *a, **k: (None, None, []))
    check = prepared.check()
    assert math.isnan(check.error)
    assert not check.ok


def test_a_kernel_that_is_slightly_off_is_wrong(monkeypatch):
    from kernels.ops import flash

    real = flash.flash_prefill

    def off(*arguments):
        result = real(*arguments)
        arguments[-1].mul_(1.01)
        return result

    prepared = get("flash").prepare(PREFILL, {}, "cpu", 0)
    monkeypatch.setattr(flash, "flash_prefill", off)
    assert not prepared.check().ok


@pytest.mark.parametrize(("name", "shape", "options", "message"), [
    ("flash", PREFILL, {"splits": 2}, "kernel 'flash': option splits is for decode, and this is prefill"),
    ("turbo", DECODE, {"block_m": 64}, "kernel 'turbo': option block_m is for prefill, and this is decode"),
    ("turbo", DECODE, {"block_n": 128}, "kernel 'turbo': cache blocks have 64 tokens, got block_n 128"),
    ("turbo", PREFILL, {"quantise": True, "block_n": 128},
     "kernel 'turbo': quantise=true writes cache blocks of 64 tokens, got block_n 128"),
    ("turbo", DECODE, {"bits": "8"}, "kernel 'turbo': bits is one of mixed, 4, 2, got '8'"),
    ("kivi", PREFILL, {}, "kernel 'kivi' is a decode kernel: KIVI's prefill is FlashAttention"),
    ("kivi", DECODE, {"bits": "mixed"}, "kernel 'kivi': bits is one of 4, 2, got 'mixed'"),
])
def test_refusals(name, shape, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        get(name).prepare(shape, options, "cpu", 0)


def test_seeds_give_the_same_inputs():
    a, b = (get("flash").prepare(PREFILL, {}, "cpu", 7).check().error for _ in range(2))
    assert a == b
    assert torch.initial_seed() is not None
