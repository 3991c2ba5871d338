"""Model presets and the shapes made from them."""

from __future__ import annotations

import re

import pytest

from turbosim.errors import UsageError
from turbosim.workload import Attention, CopyBytes, Gemm, Phase, attention_of, get_model
from turbosim.workload.presets import MODELS

# layers, query heads, KV heads, head dimension, hidden size: config.json of each model.
PUBLISHED = {
    "phi3-medium": (40, 40, 10, 128, 5120),
    "phi3-mini": (32, 32, 32, 96, 3072),
    "llama3-8b": (32, 32, 8, 128, 4096),
    "llama2-7b": (32, 32, 32, 128, 4096),
    "llama2-70b": (80, 64, 8, 128, 8192),
    "qwen2-7b": (28, 28, 4, 128, 3584),
}


def test_presets_are_the_published_ones():
    assert {n: (m.layers, m.q_heads, m.kv_heads, m.head_dim, m.hidden) for n, m in MODELS.items()} == PUBLISHED


@pytest.mark.parametrize("name", MODELS)
def test_heads_make_up_the_hidden_size(name):
    model = MODELS[name]
    assert model.q_heads * model.head_dim == model.hidden
    assert model.q_heads % model.kv_heads == 0


def test_shapes_of_a_preset():
    prefill = attention_of(get_model("llama3-8b"), Phase.PREFILL, 2, 1000)
    assert prefill == Attention(2, 32, 8, 1000, 1000, 128, True, Phase.PREFILL, "llama3-8b")
    decode = attention_of(get_model("llama3-8b"), Phase.DECODE, 2, 1000)
    assert decode == Attention(2, 32, 8, 1, 1000, 128, False, Phase.DECODE, "llama3-8b")
    assert (prefill.group, decode.group) == (4, 4)


@pytest.mark.parametrize(("seq_q", "seq_k"), [(1, 1), (5, 5), (3, 9), (64, 100)])
def test_flops_count_the_pairs_the_mask_lets_through(seq_q, seq_k):
    pairs = sum(1 for i in range(seq_q) for j in range(seq_k) if j <= i + seq_k - seq_q)
    shape = Attention(3, 4, 2, seq_q, seq_k, 32, True, Phase.PREFILL)
    assert shape.pairs == pairs
    assert shape.flops == 3 * 4 * pairs * 32 * 2 * 2
    assert Attention(3, 4, 2, seq_q, seq_k, 32, False, Phase.PREFILL).pairs == seq_q * seq_k


def test_other_workloads():
    assert Gemm(2, 3, 5).flops == 60
    assert CopyBytes(7).flops == 0
    assert attention_of(get_model("phi3-medium"), Phase.DECODE, 4, 1024).kv_bytes_fp16 == 4 * 10 * 1024 * 128 * 2 * 2


def shape(**changes):
    fields = {"batch": 1, "q_heads": 8, "kv_heads": 2, "seq_q": 16, "seq_k": 16, "head_dim": 64, "causal": True,
              "phase": Phase.PREFILL}
    return Attention(**{**fields, **changes})


@pytest.mark.parametrize(("make", "message"), [
    (lambda: shape(batch=0), "attention: batch must be at least 1, got 0"),
    (lambda: shape(seq_k=-5), "attention: seq_k must be at least 1, got -5"),
    (lambda: shape(kv_heads=3), "attention: q_heads must be a multiple of kv_heads, got 8 and 3"),
    (lambda: shape(head_dim=72), "attention: head_dim must be a multiple of 16 up to 256, got 72"),
    (lambda: shape(head_dim=272), "attention: head_dim must be a multiple of 16 up to 256, got 272"),
    (lambda: shape(seq_q=17), "attention: a causal call needs seq_q <= seq_k, got 17 and 16"),
    (lambda: shape(causal=False, phase=Phase.DECODE),
     "attention: decode has one query per sequence, got seq_q 16"),
    (lambda: Gemm(1, 0, 1), "gemm: n must be at least 1, got 0"),
    (lambda: CopyBytes(0), "copy: nbytes must be at least 1, got 0"),
    (lambda: get_model("phi3-medum"),
     f"unknown model 'phi3-medum': not among {', '.join(PUBLISHED)} (did you mean 'phi3-medium'?)"),
])
def test_bad_shapes(make, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make()
