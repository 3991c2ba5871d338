"""Split-K: several CTAs share the inner dimension of an output tile, and a second kernel adds what they found.

The partial sums are FP32 in a workspace in device memory, as with cuBLAS (``splitKreduce_kernel`` in its traces).
"""

from __future__ import annotations

from turbosim.errors import UsageError
from turbosim.hw.spec import Gpu, OpClass
from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, Dim, Launch, Role, Tensor
from turbosim.schedules.tiles import ceil_div, split_count

CHUNK = 1024
"""Outputs that a CTA of the second kernel adds: eight for each of its threads."""
LEAST_STEPS = 4
"""Of a split that the kernel chooses itself: fewer would not fill the copy pipeline."""
AHEAD = 8
"""Splits whose partial sums are in flight together."""


def splits_of(gpu: Gpu, wanted: int | None, tiles: int, steps: int) -> int:
    """Return the number of splits for *tiles* output tiles of *steps* steps each, no split being without a step.

    None takes FlashAttention-2's rule for few CTAs on many SMs; what cuBLAS does is not documented. Raises UsageError
    for a number that leaves a split without a step.
    """
    if wanted is None:
        wanted = split_count(tiles, gpu.sm.count, max(1, steps // LEAST_STEPS))
        return ceil_div(steps, ceil_div(steps, wanted))
    if wanted < 1:
        raise UsageError(f"kernel 'gemm': option splits must be at least 1, got {wanted}")
    splits = ceil_div(steps, ceil_div(steps, min(wanted, steps)))
    if splits != wanted:
        raise UsageError(f"kernel 'gemm': option splits must leave no split without a step, got {wanted} for {steps} "
                         f"steps of block_k; use splits={splits}")
    return splits


def chunks_of(outputs: int) -> int:
    """Return how many parts *outputs* of a role are written in, for as many CTAs of the second kernel."""
    return next(n for n in range(max(1, outputs // CHUNK), 0, -1) if outputs % n == 0)


def partial_tensor(tiles: int, splits: int, outputs: int) -> Tensor:
    """Return the workspace: *tiles* tiles of *outputs* FP32 numbers, *splits* times."""
    chunks = chunks_of(outputs)
    return Tensor("C partial", tiles * splits * chunks, 4 * outputs // chunks, "fp32")


def store_partial(tile: Affine, splits: int, outputs: int) -> Loop:
    """Return how warps write their *outputs* of *tile* and split ``s``."""
    chunks = chunks_of(outputs)
    return Loop("w", Affine(chunks), (
        Store("store partial", "C partial", tile * (chunks * splits) + var("w") * splits + var("s")),))


def reduce_launch(tiles: int, splits: int, outputs: int) -> Launch:
    """Return the second kernel: an FADD for every output and split, the sums packed to 16 bits."""
    chunks = chunks_of(outputs)
    ahead = min(AHEAD, splits)
    each = outputs // chunks
    chunk = var("c")

    def load(split: Affine) -> Op:
        return Load("load partial", "C partial", chunk * splits + split, "partial", smem=False)

    def add(split: Affine) -> tuple[Op, ...]:
        return Wait("wait partial", "partial", split + 1), Compute("add", lanes=((OpClass.FP32, each),))

    body: tuple[Op | Loop, ...] = (
        Loop("p", Affine(ahead), (load(var("p")),)),
        Loop("i", Affine(splits - ahead), (*add(var("i")), load(var("i") + ahead))),
        Loop("j", Affine(ahead), add(var("j") + (splits - ahead))),
        Compute("convert", lanes=((OpClass.PACK, ceil_div(each, 2)),)),
        Store("store C", "C", chunk))
    return Launch("reduce", (Dim("c", tiles * chunks),), (Role("all", 4, body),),
                  (Counter("partial", CounterKind.DATA),), registers_per_thread=40)
