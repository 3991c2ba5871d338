from __future__ import annotations

import re

import pytest

from turbosim.errors import UsageError
from turbosim.views.kvsize import kv_size_rows
from turbosim.workload import Attention, CopyBytes, Gemm, Phase, attention_of, get_model
from turbosim.workload.kvcache import FORMATS

GOOD = {"batch": 1, "q_heads": 8, "kv_heads": 2, "seq_q": 4, "seq_k": 6, "head_dim": 64, "causal": True,
        "phase": Phase.PREFILL}


def test_causal_pairs_are_counted_one_by_one():
    shape = Attention(**GOOD)
    assert shape.pairs == sum(1 for i in range(4) for j in range(6) if j <= i + 2)
    assert shape.flops == 4 * 8 * shape.pairs * 64


@pytest.mark.parametrize(("changes", "message"), [
    ({"batch": 0}, "attention: batch must be at least 1, got 0"),
    ({"seq_k": -6}, "attention: seq_k must be at least 1, got -6"),
    ({"seq_k": 10**9}, "attention: sequences have at most 16,777,216 tokens, got 1,000,000,000"),
    ({"seq_k": int(1e300)}, "attention: sequences have at most 16,777,216 tokens, got about 10^300"),
    ({"batch": 10**9}, "attention: batch x q_heads x seq_k must be at most 3,200,000,000, got 48,000,000,000; use a "
                       "smaller batch"),
    ({"kv_heads": 3}, "attention: q_heads must be a multiple of kv_heads, got 8 and 3"),
    ({"head_dim": 65}, "attention: head_dim must be a multiple of 16 up to 256, got 65"),
    ({"seq_q": 7}, "attention: a causal call needs seq_q <= seq_k, got 7 and 6"),
    ({"phase": Phase.DECODE}, "attention: decode has one query per sequence, got seq_q 4"),
])
def test_impossible_shapes(changes, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        Attention(**(GOOD | changes))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Gemm(1, 0, 1), "gemm: n must be at least 1, got 0"),
    (lambda: CopyBytes(0), "copy: nbytes must be at least 1, got 0"),
    (lambda: get_model("phi3-larg"), "unknown model 'phi3-larg': not among phi3-medium, phi3-mini, llama3-8b, llama2-7b, "
                                     "llama2-70b, qwen2-7b (did you mean 'phi3-large'?)"),
])
def test_other_bad_workloads(make, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message.split(' (did')[0])}"):
        make()


def test_presets():
    shape = attention_of(get_model("phi3-medium"), Phase.DECODE, 4, 8192)
    assert (shape.q_heads, shape.kv_heads, shape.group, shape.seq_q, shape.causal) == (40, 10, 4, 1, False)


# Bytes of a 64-token block of one KV head at d = 128, by the formats' definitions in the papers.
@pytest.mark.parametrize(("name", "one", "ratio"), [
    ("fp16", 64 * 128 * 2, 1.0),
    ("int8", 64 * 128 + 2, 2.0),
    ("turbo-4", 4096 + 128 + 128 + 2, 3.76),
    ("turbo-2", 2048 + 128 + 128 + 2, 7.10),
    ("turbo-mixed", (4354 + 2306) / 2, 4.92),
    ("turbo-mixed-fp16sz", 3586, 4.57),
    ("kivi-4", 4096 + 512, 3.56),
    ("kivi-2", 2048 + 512, 6.4),
    ("gear-l-4", 4096 + 512 + 512, 3.2),
])
def test_block_sizes(name, one, ratio):
    cache = FORMATS[name]
    assert cache.block_bytes(128) == pytest.approx(one, abs=1)
    assert FORMATS["fp16"].bytes_per_token(128) / cache.bytes_per_token(128) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize(("tokens", "ratio"), [(1024, 4.51), (2048, 4.71), (4096, 4.81), (32768, 4.91)])
def test_mixed_cache_with_its_buffer_is_over_4_4_times_smaller(tokens, ratio):
    rows = {r.format: r for r in kv_size_rows(get_model("phi3-medium"), tokens)}
    assert rows["turbo-mixed"].cache_ratio == pytest.approx(ratio, abs=0.02)
    assert rows["turbo-mixed"].cache_ratio > 4.4


def test_a_token_of_phi3_medium_in_fp16_is_204800_bytes():
    assert kv_size_rows(get_model("phi3-medium"), 1024)[0].bytes_per_token == 40 * 2 * 10 * 128 * 2
