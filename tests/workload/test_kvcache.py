"""Cache sizes against the published accounting, and against bytes counted by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from turbosim.errors import UsageError
from turbosim.views.kvsize import kv_size_rows
from turbosim.workload import get_model
from turbosim.workload.kvcache import FORMATS, get_format, mixed_format

D = 128
FP16_BLOCK = 64 * D * 2 * 2

# TurboAttention (MLSys 2025): 64-token blocks, INT8 scale and zero per channel, one FP16 scale per block. KIVI: FP16
# scale and minimum per group of 64. GEAR-L: rank 4. Bytes of K and V of 64 tokens of one head, bits per element, ratio.
PUBLISHED = {
    "fp16": (32768, 16, 1),
    "int8": (16388, 8.0, 2.0),
    "turbo-4": (8708, 4.25, 3.76),
    "turbo-2": (4612, 2.25, 7.10),
    "turbo-mixed": (6660, 3.25, 4.92),
    "turbo-mixed-fp16sz": (7172, 3.5, 4.57),
    "kivi-4": (9216, 4.5, 3.56),
    "kivi-2": (5120, 2.5, 6.4),
    "gear-l-4": (10240, 5.0, 3.2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_block(name):
    nbytes, bits, ratio = PUBLISHED[name]
    cache = FORMATS[name]
    assert 2 * cache.block_bytes(D) * 64 / cache.block_tokens == nbytes
    assert 8 * nbytes / (2 * 64 * D) == pytest.approx(bits, abs=0.005)
    assert round(FP16_BLOCK / nbytes, 2) == pytest.approx(ratio)


# Mixed, with a full buffer of 64 INT8 tokens, at 1k, 2k, 4k and 32k.
@pytest.mark.parametrize(("name", "ratios"), [
    ("turbo-mixed", (4.51, 4.71, 4.81, 4.91)), ("turbo-mixed-fp16sz", (4.23, 4.39, 4.48, 4.56))])
def test_mixed_with_its_buffer(name, ratios):
    for tokens, ratio in zip((1024, 2048, 4096, 32768), ratios, strict=True):
        assert round(512 * tokens / FORMATS[name].cache_bytes(D, tokens), 2) == ratio


def test_mixed_is_over_4_4_times_smaller():
    assert FP16_BLOCK / (2 * FORMATS["turbo-mixed"].block_bytes(D)) > 4.4
    assert FP16_BLOCK / (2 * FORMATS["turbo-mixed-fp16sz"].block_bytes(D)) > 4.4
    rows = {r.format: r for r in kv_size_rows(get_model("phi3-medium"), 1024)}
    assert rows["turbo-mixed"].cache_ratio > 4.4


def test_items_add_up_to_the_published_block():
    assert FORMATS["turbo-4"].block_items(D) == {
        "codes": 4096, "channel scales": 128, "channel zeros": 128, "block scale": 2}
    assert FORMATS["turbo-2"].block_items(D) == {
        "codes": 2048, "channel scales": 128, "channel zeros": 128, "block scale": 2}
    assert FORMATS["kivi-4"].block_items(D) == {"codes": 4096, "group scales": 256, "group minima": 256}
    # Group 32: one bit per element for scale and minimum.
    assert FORMATS["kivi-2-g32"].block_items(D) == {"codes": 1024, "group scales": 256, "group minima": 256}
    assert FORMATS["gear-l-4"].block_items(D)["token factors"] == 64 * 4 * 2


@pytest.mark.parametrize("head_dim", [64, 96, 128, 256])
def test_bytes_by_hand_for_other_head_dimensions(head_dim):
    for bits in (4, 2):
        assert FORMATS[f"turbo-{bits}"].block_bytes(head_dim) == 64 * head_dim * bits // 8 + 2 * head_dim + 2
        assert FORMATS[f"kivi-{bits}"].block_bytes(head_dim) == 64 * head_dim * bits // 8 + 4 * head_dim
    assert FORMATS["int8"].block_bytes(head_dim) == 64 * head_dim + 2


@pytest.mark.parametrize(("tokens", "packed", "recent"), [
    (1, 0, 1), (63, 0, 63), (64, 0, 64), (65, 64, 1), (128, 64, 64), (1000, 960, 40), (32768, 32704, 64)])
def test_the_window_fills_before_it_is_packed(tokens, packed, recent):
    for name in ("turbo-4", "turbo-2", "turbo-mixed", "kivi-4", "gear-l-4"):
        assert FORMATS[name].split(tokens) == (packed, recent)
    assert FORMATS["fp16"].split(tokens) == (tokens, 0)


def test_cache_by_item():
    turbo = FORMATS["turbo-4"].cache_items(D, 1000)
    assert turbo == {"codes": 2 * 15 * 4096, "channel scales": 2 * 15 * 128, "channel zeros": 2 * 15 * 128,
                     "block scale": 2 * 15 * 2, "recent tokens": 2 * 40 * 128, "recent scale": 4}
    gear = FORMATS["gear-l-4"].cache_items(D, 1024)
    assert gear["recent tokens"] == 2 * 64 * 128 * 2
    assert gear["token factors"] == 2 * 15 * 64 * 4 * 2
    assert gear["channel factors"] == 2 * 128 * 4 * 2
    assert FORMATS["kivi-2-g32"].cache_items(D, 1024)["recent tokens"] == 2 * 128 * 128 * 2
    for cache in FORMATS.values():
        assert cache.cache_bytes(D, 777) == sum(cache.cache_items(D, 777).values())


def test_short_caches_live_in_the_window():
    assert FORMATS["turbo-2"].cache_bytes(D, 5) == 2 * (5 * 128 + 2)
    assert FORMATS["gear-l-4"].cache_bytes(D, 5) == 2 * 5 * 128 * 2
    assert FORMATS["fp16"].cache_bytes(D, 5) == 5 * 512


@pytest.mark.parametrize(("share", "bits"), [(0, 4.25), (0.25, 3.75), (0.5, 3.25), (1, 2.25)])
def test_any_share_of_two_bit_heads(share, bits):
    assert 8 * mixed_format(share).block_bytes(D) / (64 * D) == pytest.approx(bits, abs=0.005)


def test_rows_of_a_model():
    model = get_model("phi3-medium")
    rows = {r.format: r for r in kv_size_rows(model, 8192, 4)}
    assert list(rows) == list(FORMATS)
    # 40 layers, 10 KV heads, K and V of 128 FP16 values.
    assert rows["fp16"].bytes_per_token == 40 * 10 * 2 * 128 * 2
    assert rows["fp16"].cache_bytes == 4 * 8192 * 204800
    assert rows["turbo-mixed"].cache_bytes == 4 * 400 * (127 * 6660 + 2 * (64 * 128 + 2))
    assert rows["turbo-mixed"].items == {"50% of turbo-4": 2177, "50% of turbo-2": 1153}
    for row in rows.values():
        assert sum(row.items.values()) == FORMATS[row.format].block_bytes(128)
        assert sum(row.cache_items.values()) == pytest.approx(row.cache_bytes)
        assert row.ratio == pytest.approx(16 / row.bits_per_element)


def test_batch_scales_sizes_and_not_ratios():
    model = get_model("llama3-8b")
    for one, eight in zip(kv_size_rows(model, 3000), kv_size_rows(model, 3000, 8), strict=True):
        assert eight.cache_bytes == pytest.approx(8 * one.cache_bytes)
        assert replace(eight, cache_bytes=0, cache_items={}) == replace(one, cache_bytes=0, cache_items={})


def test_unknown_format():
    message = (f"unknown cache format 'kivi4': not among {', '.join(FORMATS)} (did you mean 'kivi-4'?)")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        get_format("kivi4")


def test_impossible_share():
    with pytest.raises(UsageError, match=r"^cache format: two_bit_share must be 0 to 1, got 1\.5$"):
        mixed_format(1.5)
