"""Attention shapes of published models.

Head counts and head dimensions are those of each model's public ``config.json``.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.errors import UsageError, did_you_mean
from turbosim.workload.shape import Attention, Phase


@dataclass(frozen=True, slots=True)
class Model:
    """The part of a decoder's configuration that attention and its cache depend on."""

    name: str
    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int
    hidden: int


MODELS: dict[str, Model] = {
    m.name: m
    for m in (
        Model("phi3-medium", 40, 40, 10, 128, 5120),
        Model("phi3-mini", 32, 32, 32, 96, 3072),
        Model("llama3-8b", 32, 32, 8, 128, 4096),
        Model("llama2-7b", 32, 32, 32, 128, 4096),
        Model("llama2-70b", 80, 64, 8, 128, 8192),
        Model("qwen2-7b", 28, 28, 4, 128, 3584),
    )
}


def get_model(name: str) -> Model:
    """Return the preset called *name*. Raises UsageError for an unknown one."""
    try:
        return MODELS[name]
    except KeyError:
        known = ", ".join(MODELS)
        raise UsageError(f"unknown model {name!r}: not among {known}{did_you_mean(name, MODELS)}") from None


def attention_of(model: Model, phase: Phase, batch: int, seq: int) -> Attention:
    """Return one layer's attention: causal prefill of *seq* tokens, or one decode step over *seq* cached tokens."""
    prefill = phase is Phase.PREFILL
    return Attention(batch=batch, q_heads=model.q_heads, kv_heads=model.kv_heads, seq_q=seq if prefill else 1,
                     seq_k=seq, head_dim=model.head_dim, causal=prefill, phase=phase, label=model.name)
