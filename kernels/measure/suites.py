"""Which cases a suite holds, in the order in which they run, and how a suite is split.

Attention: 32 query heads; 8 KV heads of 128 elements as in Llama-3-8B, 32 of 64 without grouping. The ``full`` suite
sweeps shapes with few tilings and tilings on few shapes, bad tilings included: their ranking is data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernels.measure.cases import Case, Option
from kernels.measure.tilings import (
    DECODE_FORMS,
    DECODE_TILINGS,
    DECODE_VARIANTS,
    PREFILL_FEW,
    PREFILL_TILINGS,
    PREFILL_VARIANTS,
)
from turbosim.errors import UsageError
from turbosim.workload import Attention, Phase

Q_HEADS = 32
KV_HEADS = {64: 32, 128: 8}
"""KV heads by head dimension."""
PREFILL_TOKENS = 32 * 1024
"""Most tokens of a batch in prefill."""
DECODE_TOKENS = 1024 * 1024
"""Most cached tokens of a batch in decode."""

K = 1024
MIB = 1024 * K
MICRO = ("copy", "l2_read", "tile_read", "mma_fp16", "mma_int8", "exp2", "fma_fp16", "i2f", "f2i", "f2h", "smem",
         "empty")
"""The micro-benchmarks."""
CHIP_CTAS = 1188
"""CTAs that fill a GPU in whole waves: a multiple of 108 and 132 SMs."""


def make(kernel: str, workload: Attention | Mapping[str, int], options: Mapping[str, Option] | None = None) -> Case:
    """Return a case with its options and sizes sorted."""
    sorted_options = tuple(sorted((options or {}).items()))
    if isinstance(workload, Attention):
        return Case(kernel, workload, (), sorted_options)
    return Case(kernel, None, tuple(sorted(workload.items())), sorted_options)


def prefill(d: int, causal: bool, seq: int, batch: int) -> Attention:
    """Return a prefill shape."""
    return Attention(batch, Q_HEADS, KV_HEADS[d], seq, seq, d, causal, Phase.PREFILL)


def decode(d: int, seq: int, batch: int) -> Attention:
    """Return a decode shape: one query per sequence over *seq* cached tokens."""
    return Attention(batch, Q_HEADS, KV_HEADS[d], 1, seq, d, False, Phase.DECODE)


def _quick() -> Iterator[Case]:
    for kernel in ("flash", "turbo"):
        for options in ({}, *PREFILL_TILINGS[kernel][:3]):
            yield make(kernel, prefill(128, True, 4 * K, 1), options)
        yield make(kernel, prefill(128, True, 1 * K, 4))
        yield make(kernel, prefill(64, False, 2 * K, 4))
    for kernel in ("flash", "turbo", "kivi"):
        for seq, batch in ((2 * K, 4), (8 * K, 16), (32 * K, 1)):
            yield make(kernel, decode(128, seq, batch))
        yield make(kernel, decode(64, 8 * K, 4))
        for options in DECODE_TILINGS[:2]:
            yield make(kernel, decode(128, 8 * K, 16), options)
    for options in PREFILL_VARIANTS:
        yield make("turbo", prefill(128, True, 4 * K, 1), options)
    for options in DECODE_FORMS:
        yield make("turbo", decode(128, 8 * K, 16), options)
    for d, seq, batch in ((128, 1 * K, 4), (128, 8 * K, 1), (64, 2 * K, 4)):
        yield make("quantise", prefill(d, True, seq, batch))


def _full() -> Iterator[Case]:
    shapes = [(seq, batch) for seq in (512 * 2**i for i in range(7)) for batch in (1, 4, 16, 64)
              if seq * batch <= PREFILL_TOKENS]
    for kernel in ("flash", "turbo"):
        for d in (64, 128):
            for causal in (True, False):
                for seq, batch in shapes:
                    for options in ({}, PREFILL_FEW):
                        yield make(kernel, prefill(d, causal, seq, batch), options)
        for d, causal, seq, batch in ((128, True, 4 * K, 4), (64, True, 4 * K, 4), (128, False, 2 * K, 4),
                                      (64, False, 16 * K, 1), (128, True, 1 * K, 1)):
            for tiling in PREFILL_TILINGS[kernel]:
                yield make(kernel, prefill(d, causal, seq, batch), tiling)
    shapes = [(seq, batch) for seq in (512, 2 * K, 8 * K, 32 * K, 128 * K) for batch in (1, 4, 16, 64)
              if seq * batch <= DECODE_TOKENS]
    for kernel in ("flash", "turbo", "kivi"):
        for d in (64, 128):
            for seq, batch in shapes:
                for options in ({}, *DECODE_VARIANTS[kernel]):
                    yield make(kernel, decode(d, seq, batch), options)
        for d, seq, batch in ((128, 8 * K, 16), (64, 8 * K, 4), (128, 32 * K, 1), (128, 2 * K, 64)):
            for tiling in DECODE_TILINGS:
                yield make(kernel, decode(d, seq, batch), tiling)
    for options in PREFILL_VARIANTS:
        for d, causal, seq, batch in ((128, True, 1 * K, 16), (128, True, 8 * K, 2), (64, False, 4 * K, 4)):
            yield make("turbo", prefill(d, causal, seq, batch), options)
    for options in DECODE_FORMS:
        for seq, batch in ((2 * K, 16), (32 * K, 4)):
            yield make("turbo", decode(128, seq, batch), options)
    for d in (64, 128):
        for seq in (512, 2 * K, 8 * K, 32 * K):
            for batch in (1, 4, 16, 64):
                if seq * batch <= PREFILL_TOKENS:
                    yield make("quantise", prefill(d, True, seq, batch))


def _micro() -> Iterator[Case]:
    for mib in (1, 4, 16, 64, 256, 1024, 4096):
        yield make("copy", {"nbytes": mib * MIB})
    for mib in (4, 8, 16, 24, 32, 40, 48, 56, 64, 96, 128, 256):
        # At most one CTA a 16 KiB block; 1 GiB is read in all.
        yield make("l2_read", {"nbytes": mib * MIB, "passes": K // mib, "ctas": min(CHIP_CTAS, 64 * mib)})
    for ctas in (32, 128, 512):
        for rows, piece in ((64, 64), (64, 128), (32, 512), (128, 128)):
            for stages in (2, 3, 5):
                # Two depths: the difference is free of the launch and the first tiles.
                for depth in (8 * K, 22 * K):
                    yield make("tile_read", {"ctas": ctas, "rows": rows, "piece": piece, "depth": depth},
                               {"stages": stages})
    for ctas in (1, CHIP_CTAS):
        # Two counts: the difference is free of what surrounds the loop.
        for iterations in (256, 1024):
            loop = {"ctas": ctas, "iterations": iterations}
            for kernel in ("mma_fp16", "mma_int8"):
                for m, n, warps in ((64, 64, 4), (128, 64, 4), (128, 128, 8), (16, 64, 1)):
                    yield make(kernel, {**loop, "m": m, "n": n, "k": 64}, {"warps": warps})
            for kernel in ("exp2", "fma_fp16", "i2f", "f2i", "f2h"):
                for warps in (1, 4, 16):
                    yield make(kernel, {**loop, "elements": 16}, {"warps": warps})
            for warps in (4, 8):
                yield make("smem", loop, {"warps": warps})
    for ctas in (1, CHIP_CTAS, 10 * CHIP_CTAS, 100 * CHIP_CTAS):
        yield make("empty", {"ctas": ctas})


@dataclass(frozen=True, slots=True)
class Suite:
    """A named set of cases."""

    name: str
    title: str
    limit_minutes: float
    """After this many minutes a call stops, unless ``--limit-minutes`` says otherwise."""
    kernels: tuple[str, ...]
    cases: tuple[Case, ...]


def _suite(name: str, title: str, limit_minutes: float, cases: Iterable[Case]) -> Suite:
    unique = tuple({case.key: case for case in cases}.values())
    return Suite(name, title, limit_minutes, tuple(dict.fromkeys(case.kernel for case in unique)), unique)


def get_suite(name: str) -> Suite:
    """Return the suite called *name*: ``quick``, ``full`` or ``micro``. Raises KeyError for another name."""
    titles = {"quick": ("few shapes and tilings of every attention kernel", 5.0, _quick),
              "full": ("attention over shapes, tilings, warps and stages", 9.0, _full),
              "micro": ("micro-benchmarks over sizes", 9.0, _micro)}
    title, limit, cases = titles[name]
    return _suite(name, title, limit, cases())


def interleave(cases: Sequence[Case]) -> list[Case]:
    """Return *cases* so that any stretch of them holds each kernel in proportion.

    Within a kernel they are ordered by key, which is as good as random: a call that stops early has seen every kind of
    shape and tiling.
    """
    by_kernel: dict[str, list[Case]] = {}
    for case in cases:
        by_kernel.setdefault(case.kernel, []).append(case)
    placed = []
    for kernel in sorted(by_kernel):
        group = sorted(by_kernel[kernel], key=lambda case: case.key)
        placed += [((position + 0.5) / len(group), kernel, case) for position, case in enumerate(group)]
    return [case for _, _, case in sorted(placed, key=lambda item: item[:2])]


def part_of(cases: Sequence[Case], index: int, count: int) -> list[Case]:
    """Return part *index* (from 1) of *count*: the parts are disjoint, together all cases, and each has every kernel
    that has at least *count* cases. Raises UsageError when there is no such part."""
    if count < 1:
        raise UsageError(f"--part {index}/{count}: N must be at least 1")
    if not 1 <= index <= count:
        raise UsageError(f"--part {index}/{count}: there are parts 1/{count} to {count}/{count}")
    seen: dict[str, int] = {}
    chosen = []
    for case in interleave(cases):
        # Kernels start at different parts, so that remainders do not all fall on the first ones.
        position = seen.setdefault(case.kernel, len(seen))
        seen[case.kernel] += 1
        if position % count == index - 1:
            chosen.append(case)
    return chosen
