"""Tile sizes, warps and stages to try. Some are poor on purpose, and some exceed what a GPU has: both are results."""

from __future__ import annotations

from kernels.measure.cases import Option

Tiling = dict[str, Option]


def _prefill(*rows: tuple[int, int, int, int]) -> list[Tiling]:
    return [{"block_m": m, "block_n": n, "warps": w, "stages": s} for m, n, w, s in rows]


PREFILL_FEW: Tiling = {"block_m": 64, "block_n": 64, "warps": 4, "stages": 2}
"""The tiling of the TurboAttention paper, measured on every prefill shape beside each kernel's default."""

PREFILL_TILINGS: dict[str, list[Tiling]] = {
    "flash": _prefill(
        (128, 64, 4, 2), (128, 64, 8, 3), (128, 128, 8, 2), (64, 64, 4, 2), (64, 64, 4, 3), (64, 32, 4, 4),
        (128, 32, 4, 3), (64, 128, 4, 2), (128, 64, 4, 1), (128, 128, 4, 2), (64, 64, 8, 2), (32, 64, 2, 3),
        (256, 64, 8, 2), (256, 128, 8, 4)),
    # Scales belong to 64 tokens, which fixes block_n.
    "turbo": _prefill(
        (128, 64, 4, 2), (128, 64, 8, 3), (64, 64, 4, 3), (64, 64, 4, 2), (64, 64, 4, 1), (64, 64, 8, 2),
        (128, 64, 4, 3), (128, 64, 8, 1), (128, 64, 8, 2), (32, 64, 2, 2), (32, 64, 4, 3), (256, 64, 8, 2)),
}

DECODE_TILINGS: list[Tiling] = [
    {"warps": w, "stages": s, "splits": k}
    for w, s, k in ((4, 2, 8), (4, 3, 16), (2, 3, 16), (8, 2, 16), (4, 1, 16), (1, 2, 32), (4, 4, 4), (4, 2, 1))]
"""Decode: warps, stages and KV splits; one split leaves most SMs idle at small batches."""

PREFILL_VARIANTS: list[Tiling] = [
    *({"sas": sas, "convert": convert} for convert in ("magic", "cast")
      for sas in ("exponent", "table", "naive", "exp2")),
    *({"p_scale": scale} | sas for scale in ("fixed", "row") for sas in ({}, {"sas": "exp2"})),
    {"p_scale": "row", "q_scale": "row"}, {"quantise": True}]
"""Prefill of ``turbo``: every form of SAS with and without conversions, scales of P and Q, and the whole pipeline."""

DECODE_FORMS: list[Tiling] = [
    {"dequant": "element"}, {"sas": "exp2"}, {"sas": "naive", "convert": "cast"}, {"p_scale": "row"}]
"""Decode of ``turbo``: dequantisation of V, SAS, and P's scale."""

DECODE_VARIANTS: dict[str, list[Tiling]] = {
    "flash": [], "turbo": [{"bits": "4"}, {"bits": "2"}], "kivi": [{"bits": "2"}]}
"""Cache codes beside each kernel's default, on every decode shape."""
