"""Sizes of KV caches in every format, with the accounting."""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.workload import Model
from turbosim.workload.kvcache import FORMATS


@dataclass(frozen=True, slots=True)
class KvRow:
    """One format's cache of one model."""

    format: str
    title: str
    bits_per_element: float
    bytes_per_token: float
    """All layers and KV heads, K and V, recent tokens aside."""
    ratio: float
    """FP16 size over this size, recent tokens aside."""
    cache_bytes: float
    """All layers, the given tokens and batch, recent tokens included."""
    cache_ratio: float
    """FP16 size over this size, recent tokens included."""
    items: dict[str, float]
    """Bytes per block of K or of V, of one KV head."""
    cache_items: dict[str, float]
    """:attr:`cache_bytes` by item."""


def kv_size_rows(model: Model, tokens: int, batch: int = 1) -> list[KvRow]:
    """Return a row per cache format for *batch* sequences of *tokens* tokens."""
    heads = model.layers * model.kv_heads
    fp16 = FORMATS["fp16"]
    rows = []
    for cache in FORMATS.values():
        per_token = cache.bytes_per_token(model.head_dim)
        parts = cache.cache_items(model.head_dim, tokens)
        total = sum(parts.values())
        items = cache.block_items(model.head_dim)
        if cache.mixed:
            items = {f"{share:.0%} of {name}": FORMATS[name].block_bytes(model.head_dim) * share
                     for name, share in cache.mixed}
        rows.append(KvRow(
            cache.name, cache.title, 8 * per_token / (2 * model.head_dim), heads * per_token,
            fp16.bytes_per_token(model.head_dim) / per_token, heads * total * batch,
            fp16.cache_bytes(model.head_dim, tokens) / total, items,
            {name: heads * batch * nbytes for name, nbytes in parts.items()}))
    return rows
