"""The kernels as the measuring harness sees them."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import InterpretedFunction

from kernels.measure.cases import Case
from kernels.measure.fake import FakeDevice
from kernels.measure.measuring import measure
from kernels.ops import checks, flash, turbo
from kernels.registry import NAMES, get
from turbosim.errors import UsageError
from turbosim.numerics.cache import QuantizedKVCache
from turbosim.workload import Attention, Phase

PREFILL = Attention(1, 4, 2, 200, 200, 64, True, Phase.PREFILL)
NOT_CAUSAL = Attention(2, 4, 2, 70, 130, 32, False, Phase.PREFILL)
DECODE = Attention(2, 4, 2, 1, 300, 128, False, Phase.DECODE)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_kernel(name):
    assert get(name).name == name


@pytest.mark.parametrize(("name", "shape", "options"), [
    ("flash", PREFILL, {"block_m": 64}), ("flash", DECODE, {}), ("turbo", PREFILL, {}),
    ("turbo", PREFILL, {"block_m": 32}), ("turbo", PREFILL, {"block_m": 32, "block_n": 128}),
    ("turbo", PREFILL, {"sas": "naive", "convert": "cast"}), ("turbo", PREFILL, {"sas": "table"}),
    ("turbo", PREFILL, {"sas": "exp2"}), ("turbo", NOT_CAUSAL, {}), ("flash", NOT_CAUSAL, {"block_m": 32}),
    ("turbo", PREFILL, {"quantise": True, "block_m": 128}), ("turbo", DECODE, {}), ("turbo", DECODE, {"bits": "2"}),
    ("turbo", PREFILL, {"p_scale": "row"}), ("turbo", PREFILL, {"p_scale": "row", "q_scale": "row"}),
    ("turbo", DECODE, {"p_scale": "row", "splits": 3}),
    ("kivi", DECODE, {"bits": "2"}), ("quantise", PREFILL, {}),
])
def test_checks_pass(name, shape, options):
    prepared = get(name).prepare(shape, options, "cpu", 0)
    check = prepared.check()
    assert check.ok, check
    assert prepared.flops == (0 if name == "quantise" else shape.flops)
    assert prepared.nbytes > 0


@pytest.mark.parametrize("seed", [3, 6])
def test_the_lse_of_rows_with_scales_of_their_own_is_that_of_their_scores(seed):
    """Rows that see one key differ from scores with a scale for the tile by up to half a step of Q and K each."""
    shape = Attention(2, 4, 4, 64, 64, 128, True, Phase.PREFILL)
    check = get("turbo").prepare(shape, {"p_scale": "row", "q_scale": "row"}, "cpu", seed).check()
    assert check.ok, check


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


def changing(which, factor):
    """Return flash or turbo prefill whose O (-2) or LSE (-1) is multiplied by *factor*."""
    def wrap(real):
        def run(*arguments):
            result = real(*arguments)
            arguments[which].mul_(factor)
            return result
        return run
    return wrap


@pytest.mark.parametrize(("name", "module"), [("flash", flash), ("turbo", turbo)])
@pytest.mark.parametrize(("which", "factor", "measure_of"), [
    (-2, 1.05, "relative L2 of O from "), (-1, 0.95, "largest deviation of LSE from "),
    (-1, math.nan, "largest deviation of LSE from ")])
def test_a_kernel_that_is_slightly_off_is_wrong(monkeypatch, name, module, which, factor, measure_of):
    prepared = get(name).prepare(PREFILL, {}, "cpu", 0)
    interface = f"{name}_prefill"
    monkeypatch.setattr(module, interface, changing(which, factor)(getattr(module, interface)))
    check = prepared.check()
    assert not check.ok
    assert check.measure.startswith(measure_of)


@pytest.mark.parametrize(("name", "tolerance", "reference"), [
    ("flash", checks.FP16_LSE_TOLERANCE, "exact attention"),
    ("turbo", checks.TURBO_LSE_TOLERANCE, "that of the INT8 scores")])
def test_a_wrong_lse_is_reported_and_not_timed(monkeypatch, name, tolerance, reference):
    module, interface = {"flash": flash, "turbo": turbo}[name], f"{name}_prefill"
    # Base two instead of natural.
    monkeypatch.setattr(module, interface, changing(-1, math.log2(math.e))(getattr(module, interface)))
    monkeypatch.setattr(FakeDevice, "target", "cpu")
    monkeypatch.setattr(FakeDevice, "time_events", lambda *_: pytest.fail("timed"))
    [row] = measure(FakeDevice(), get(name), Case(name, PREFILL), {})
    assert row.interval is None
    values = row.values
    assert (values["status"], values["tolerance"]) == ("wrong", tolerance)
    assert values["error"] > 1
    assert values["reason"] == (f"largest deviation of LSE from {reference} is {values['error']:.3g}, more than "
                                f"{tolerance:g}")


def test_lse_of_three_scores_by_hand():
    """Scores 0, log 2 and log 3 of one query, and one more key that the first query does not see."""
    shape = Attention(1, 1, 1, 2, 4, 16, True, Phase.PREFILL)
    q, k = torch.zeros(1, 1, 2, 16).half(), torch.zeros(1, 1, 4, 16).half()
    q[..., 0] = 4.0
    k[0, 0, :, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0]).log().half()
    _, lse = checks.exact(shape, q, k, k, 0, slice(0, 2))
    assert lse.flatten().tolist() == pytest.approx([math.log(6), math.log(10)], abs=1e-3)


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


class Enqueued(TorchDispatchMode):
    """Notes the operations that would enqueue work on a GPU."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and not func.name().startswith("aten::empty"):
            self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "shape", "options"), [
    ("flash", PREFILL, {}), ("flash", DECODE, {}), ("turbo", PREFILL, {}), ("turbo", PREFILL, {"quantise": True}),
    ("turbo", DECODE, {}), ("kivi", DECODE, {}), ("quantise", PREFILL, {}), *(
        (name, sizes, {}) for name, sizes in (
            ("copy", {"nbytes": 4096}), ("l2_read", {"nbytes": 16384, "passes": 1, "ctas": 1}),
            ("exp2", {"ctas": 1, "iterations": 4, "elements": 8}), ("smem", {"ctas": 1, "iterations": 1}),
            ("mma_int8", {"ctas": 1, "iterations": 4, "m": 16, "n": 16, "k": 32}), ("empty", {"ctas": 1})))])
def test_a_launch_enqueues_its_kernels_alone(monkeypatch, name, shape, options):
    """Memory comes from torch's allocator, which enqueues nothing: no copy and no fill lies between the events."""
    prepared = get(name).prepare(shape, options, "cpu", 0)
    launched = []
    monkeypatch.setattr(InterpretedFunction, "run", lambda self, *_, **__: launched.append(self.fn.__name__))
    with Enqueued() as enqueued:
        prepared.launch()
    assert launched
    assert enqueued.names == set()


def test_sequences_of_a_cache_are_those_of_the_whole():
    cache = QuantizedKVCache(3, (4, 2), 32, 200)
    k, v = torch.randn(2, 3, 2, 200, 32, generator=torch.Generator().manual_seed(0)).half()
    cache.prefill(k, v)
    some, whole = checks.sequences(cache, [0, 2]).dequantised(), cache.dequantised()
    assert all(torch.equal(a, b[[0, 2]]) for a, b in zip(some, whole, strict=True))
