"""Error of TurboAttention, KIVI and GEAR-L against exact attention: ``python -m analysis.numerics_error [--write]``.

Prints relative L2 norm of the difference, cosine and largest difference of the output, for bits, block sizes and forms
of SAS, on Gaussian inputs and on inputs with outlier channels; ``--write`` stores them in ``analysis/numerics.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch

from turbosim.numerics.attention import TurboConfig, attention, turbo_decode, turbo_prefill
from turbosim.numerics.cache import QuantizedKVCache
from turbosim.numerics.errors import Deviation, deviation
from turbosim.numerics.gear import gear_cache
from turbosim.numerics.heads import mixed_bits
from turbosim.numerics.kivi import kivi_cache
from turbosim.numerics.sas import Form

REPORT = Path(__file__).parent / "numerics.md"
HEADS, KV_HEADS, D = 8, 4, 128
LENGTHS = (1024, 4096, 32768)
SEEDS = 8
SAS: tuple[Form, ...] = ("exact", "table", "exponent")
P_SCALES: tuple[Literal["tile", "fixed", "row"], ...] = ("tile", "fixed", "row")
DECODE_BY_LENGTH = tuple(TurboConfig(p_scale=p, sas=sas) for p in P_SCALES for sas in SAS if sas != "table")
PREFILL_BY_LENGTH = (*DECODE_BY_LENGTH,
                     *(TurboConfig(p_scale="row", q_scale="row", sas=sas) for sas in SAS if sas != "table"))


def inputs(kind: str, queries: int, keys: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return q, k and v: Gaussian, or with four channels of K ten times as large in half of the heads, and one of V."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, h, n, D, generator=generator)
               for h, n in ((HEADS, queries), (KV_HEADS, keys), (KV_HEADS, keys)))
    if kind == "outliers":
        k[:, ::2, :, 5:9] *= 10
        v[:, ::2, :, 17] *= 10
    return q.half(), k.half(), v.half()


def row(*cells: object) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def numbers(found: Deviation) -> tuple[str, str, str]:
    """Return the three numbers as text."""
    return f"{100 * found.relative_l2:.2f} %", f"{found.cosine:.5f}", f"{found.largest:.4f}"


def prefill() -> Iterator[str]:
    """Yield the lines of the prefill table: causal, 512 tokens."""
    yield row("inputs", "products", "block", "SAS", "relative L2", "cosine", "largest")
    yield row(*["---"] * 7)
    for kind in ("Gaussian", "outliers"):
        q, k, v = inputs(kind, 512, 512)
        exact = attention(q, k, v, causal=True)
        for flashq in (True, False):
            for block in (32, 64, 128) if flashq else (64,):
                for sas in SAS:
                    if not flashq and sas == "exact":
                        continue
                    got = turbo_prefill(q, k, v, True, TurboConfig(block, block, sas, flashq=flashq))
                    yield row(kind, "INT8" if flashq else "FP32", block, sas, *numbers(deviation(got, exact)))


def decode(tokens: int) -> Iterator[str]:
    """Yield the lines of the decode table."""
    yield row("inputs", "cache", "block", "SAS", "relative L2", "cosine", "largest", "smaller than FP16")
    yield row(*["---"] * 8)
    for kind in ("Gaussian", "outliers"):
        q, k, v = inputs(kind, 1, tokens)
        exact = attention(q, k, v)[:, :, 0]
        for name, bits in (("4 bits", (4,) * KV_HEADS), ("mixed", mixed_bits(k, v)), ("2 bits", (2,) * KV_HEADS)):
            for block in (32, 64, 128):
                for sas in SAS if block == 64 else SAS[2:]:
                    cache = QuantizedKVCache(1, bits, D, tokens, block=block)
                    cache.prefill(k, v)
                    got = turbo_decode(q[:, :, 0], cache, TurboConfig(sas=sas))
                    yield row(kind, name, block, sas, *numbers(deviation(got, exact)),
                              f"{cache.fp16_bytes() / cache.nbytes():.2f}x")
        for name, store in (("KIVI", kivi_cache), ("GEAR-L", gear_cache)):
            for b in (4, 2):
                got = attention(q, *store(k, v, b))[:, :, 0]
                yield row(kind, f"{name}, {b} bits", 64, "-", *numbers(deviation(got, exact)), "-")


def by_length(configs: tuple[TurboConfig, ...], error: Callable[[int, int], dict[TurboConfig, float]]
              ) -> Iterator[str]:
    """Yield the lines of a table of *error* (tokens, seed), Gaussian, averaged over seeds."""
    yield row("tokens", *(f"{c.p_scale}, {c.sas}{', Q by row' if c.q_scale == 'row' else ''}" for c in configs))
    yield row(*["---"] * (1 + len(configs)))
    for tokens in LENGTHS:
        found = [error(tokens, seed) for seed in range(SEEDS)]
        yield row(tokens, *(f"{100 * sum(one[c] for one in found) / SEEDS:.2f} %" for c in configs))


def prefill_by_length(tokens: int, seed: int) -> dict[TurboConfig, float]:
    """Return the error of 64 queries that see all keys."""
    q, k, v = inputs("Gaussian", 64, tokens, seed)
    exact = attention(q, k, v)
    return {c: deviation(turbo_prefill(q, k, v, False, c), exact).relative_l2 for c in PREFILL_BY_LENGTH}


def decode_by_length(tokens: int, seed: int) -> dict[TurboConfig, float]:
    """Return the error in decode over 4-bit codes, against the cache's own values."""
    q, k, v = inputs("Gaussian", 1, tokens, seed)
    cache = QuantizedKVCache(1, (4,) * KV_HEADS, D, tokens)
    cache.prefill(k, v)
    exact = attention(q, *cache.dequantised())[:, :, 0]
    return {c: deviation(turbo_decode(q[:, :, 0], cache, c), exact).relative_l2 for c in DECODE_BY_LENGTH}


TEXT = """# Error of the quantised methods

Reproduced by `python -m analysis.numerics_error --write`. Output against exact attention in float32; d = 128, 8 query
and 4 KV heads. Outliers: four channels of K and one of V ten times as large, in half of the heads.

## Prefill, causal, 512 tokens

K and V are INT8 (stage 1) in prefill, whatever the cache's bits: the error is that of INT8, about 2 % on Gaussian
inputs at this length, and SAS adds almost nothing to it.

{prefill}

## Decode over 2048 tokens

On independent Gaussian values a 4-bit code with a step of the channel's range over 15 is wrong by 9 % of the standard
deviation, in K and in V. The output is an average, but so is what it is compared with, so about 13 % is the floor for
any uniform 4-bit cache on such inputs, KIVI's included; real keys and values are far from independent. With outliers,
single keys decide a row, and the first stage's one scale per block costs most: its step is set by the outlier
channel. The numbers then depend on which keys win, and vary much from one input to the next.

{decode}

## By length

Gaussian inputs, mean of {seeds} seeds; P's scale, then the exponentials. Prefill: 64 queries that see all keys. Decode:
4 bits, against exact attention over the values that the cache holds, that is the error of the arithmetic alone, on a
small sample, as there is one query per head.

As published (`tile`), the error grows with the number of keys. The cause is P in INT8: its codes are relative to the
running maximum, which grows with the keys seen, and 119 steps below it leave a typical weight ever fewer of them. A
scale of 1/119 (`fixed`) grows faster, since it does not even follow the tile's largest weight. SAS adds to the growth
in decode, as its threshold of 6 below the running maximum cuts ever more of the total weight, and takes it from the row
sum.

With `row`, P is relative to the row's maximum within the tile, which does not depend on how many tiles there are; the
tile's weight against the others is an FP32 factor per row. The error then stays what it is for a short sequence, with
SAS as with exact exponentials, whose threshold is relative to the tile as well. What is left comes from one scale for
64 rows of Q, K or V, whose step follows their largest value; with a scale for every row of Q (`q_scale=row`), which no
sum runs over and which costs the kernel one of its 20 to 30 instructions per score, the error is below 2 % at every
length.

Prefill:

{prefill_by_length}

Decode:

{decode_by_length}
"""


def main() -> None:
    """Compute, print, and write if asked to."""
    parser = argparse.ArgumentParser(prog="python -m analysis.numerics_error", description="Error tables.")
    parser.add_argument("--write", action="store_true", help="store the tables in analysis/numerics.md")
    write = parser.parse_args().write
    text = TEXT.format(
        prefill="\n".join(prefill()), decode="\n".join(decode(2048)), seeds=SEEDS,
        prefill_by_length="\n".join(by_length(PREFILL_BY_LENGTH, prefill_by_length)),
        decode_by_length="\n".join(by_length(DECODE_BY_LENGTH, decode_by_length)))
    print(text)
    if write:
        REPORT.write_text(text)


if __name__ == "__main__":
    main()
