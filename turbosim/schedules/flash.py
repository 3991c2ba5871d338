"""``flash``: FlashAttention-2 style FP16 attention, prefill and split-KV decode.

FlashAttention-2 multiplies with ``mma.sync`` on every GPU, so that is the default, with the tiles and warps of
Dao-AILab/flash-attention (``flash_fwd_launch_template.h``). ``path=auto`` takes the newest instructions of the GPU, as
kernels compiled by Triton do. Where those are ``wgmma`` or ``tcgen05``, two warp groups of 64 rows then share 128-key
tiles, the size of FlashAttention-3 without its producer warp and its overlap of softmax and product in one warp group:
products are waited for. Barriers keep both warp groups in step, as in Triton's machine code, unless ``sync=mbarrier``;
``flash3`` has FlashAttention-3 itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.errors import UsageError
from turbosim.hw.spec import Dtype, Gpu, MmaPath
from turbosim.program.program import Program
from turbosim.schedules import softmax
from turbosim.schedules.base import Schedule
from turbosim.schedules.decode import DecodePlan, DecodeTile, decode_program
from turbosim.schedules.paged import with_cache_write, with_regrouping
from turbosim.schedules.prefill import PrefillPlan, TileWork, prefill_launch, prefill_tensors, sync_note
from turbosim.schedules.tiles import (
    PIECES,
    accumulator_registers,
    best_path,
    check_multiple,
    check_positive,
    product,
    roles_of,
)
from turbosim.workload import Attention, Phase


@dataclass(frozen=True)
class FlashOptions:
    """Options of ``flash``; None takes the default for the path, GPU and head dimension."""

    path: str = "mma.sync"
    """Prefill: instruction path: ``mma.sync``, ``wgmma``, ``tcgen05``, or ``auto`` for the newest."""
    block_m: int | None = None
    block_n: int | None = None
    warps: int | None = None
    stages: int | None = None
    splits: int | None = None
    """Decode: KV splits; None applies FlashAttention-2's heuristic."""
    pieces: int = PIECES
    """Parts in which the blocks of a KV tile are served."""
    order: str = "forward"
    """Causal: query tiles ``forward`` or ``heavy_first``."""
    paged: bool = False
    """K and V in pages: FlashAttention-2's kernel and tiles for them, lengths and page tables to read, and in decode
    copies that bring the query heads of a KV head together."""
    cache_write: bool = False
    """Write K and V of the new tokens to the cache first, as a serving engine does."""
    sync: str = "barrier"
    """Prefill, what lets a stage be refilled: a ``barrier`` of all warp groups, or an ``mbarrier`` (TMA only)."""


@dataclass(frozen=True)
class Tiling:
    """Tile sizes, warps and stages."""

    block_m: int
    block_n: int
    warps: int
    stages: int


def default_tiling(gpu: Gpu, shape: Attention, path: str = "mma.sync") -> Tiling:
    """Return the tiling for a prefill: the published one for ``mma.sync``."""
    d = shape.head_dim
    newest = gpu.mma_path(Dtype.FP16)
    if newest is not None and newest.is_async and path != MmaPath.MMA_SYNC:
        return Tiling(128, 128 if d <= 128 else 64, 8, 2)
    if d <= 64:
        return Tiling(128, 128, 4, 1)
    if gpu.sm.smem_per_cta > 128 * 1024:
        if d > 192 and gpu.sm.smem_capacity >= 4 * d * (64 + 2 * 64):
            # Two CTAs fit on an SM with H100's shared memory.
            return Tiling(64, 64, 4, 1)
        return Tiling(128, 64, 4, 1) if d <= 128 else Tiling(128, 64, 8, 1)
    if d > 128:
        # Of 256 elements, 128 rows with K and V would need 128 KiB, more than one CTA has on sm_86 and sm_89.
        return Tiling(128, 64, 8, 1) if d <= 192 else Tiling(64, 64, 4, 1)
    if shape.causal:
        return Tiling(64, 64, 4, 1)
    return Tiling(128, 32 if d > 96 else 64, 4, 1)


def build_flash(gpu: Gpu, shape: Attention, options: FlashOptions) -> Program:
    """Return the program. Raises UsageError for an option out of range."""
    if options.order not in ("forward", "heavy_first"):
        raise UsageError(f"kernel 'flash': option order must be 'forward' or 'heavy_first', got {options.order!r}")
    check_positive("flash", pieces=options.pieces)
    if options.splits is not None:
        check_positive("flash", splits=options.splits)
    program = flash_decode(gpu, shape, options) if shape.phase is Phase.DECODE else flash_prefill(gpu, shape, options)
    return with_cache_write(program, shape) if options.cache_write else program


def flash_prefill(gpu: Gpu, shape: Attention, options: FlashOptions) -> Program:
    """Return the program of a prefill, without the cache's write."""
    plan = flash_plan(gpu, shape, options)
    return Program(
        "flash prefill", prefill_tensors(plan), (prefill_launch(plan),), shape.flops,
        {"kernel": "flash", "path": plan.path, "block_m": plan.block_m, "block_n": plan.block_n,
         "warps": 4 * plan.roles, "stages": plan.stages, "pieces": options.pieces, "order": options.order,
         **sync_note(plan), **({"paged": True} if options.paged else {})})


def flash_plan(gpu: Gpu, shape: Attention, options: FlashOptions) -> PrefillPlan:
    """Return the plan of the prefill kernel."""
    default = default_tiling(gpu, shape, options.path)
    if options.paged:
        default = Tiling(DECODE_ROWS, _paged_keys(shape.head_dim), 4, 1)
    block_m = default.block_m if options.block_m is None else options.block_m
    block_n = default.block_n if options.block_n is None else options.block_n
    warps = default.warps if options.warps is None else options.warps
    stages = default.stages if options.stages is None else options.stages
    check_multiple("flash", 16, block_m=block_m, block_n=block_n)
    check_positive("flash", stages=stages)
    roles = roles_of("flash", warps, block_m)
    rows, d = block_m // roles, shape.head_dim
    path = best_path(gpu, Dtype.FP16, rows, "flash", options.path)

    def tile(masked: bool) -> TileWork:
        scores = product("QK^T", rows, block_n, d, Dtype.FP16, path, a_in_smem=True)
        steps = ((softmax.mask(rows, block_n),) if masked else ()) + (
            softmax.row_max(rows, block_n), softmax.exponentials(rows, block_n), softmax.rescale(rows, d))
        return TileWork(scores, steps, product("PV", rows, d, block_n, Dtype.FP16, path, a_in_smem=False))

    return PrefillPlan(
        kernel="flash", shape=shape, block_m=block_m, block_n=block_n, roles=roles, stages=stages,
        heavy_first=options.order == "heavy_first", q_bytes=2 * block_m * d, kv_bytes=2 * block_n * d,
        out_bytes=2 * rows * d, dtype="fp16", bulk=gpu.copy_engine.tma and path.is_async, tile=tile, start=(),
        finish=(softmax.normalise(rows, d),), smem_bytes=2 * d * (block_m + 2 * stages * block_n),
        registers=accumulator_registers((rows, d), (rows, block_n)), path=path.value, sync=options.sync,
        pieces=options.pieces, paged=options.paged)


DECODE_ROWS = 64
"""FlashAttention-2's split-KV kernel, also that of paged caches, computes 64 query rows, whatever the group has."""


def _paged_keys(head_dim: int) -> int:
    """Return the keys of a tile of FlashAttention-2's split-KV kernel."""
    return 256 if head_dim <= 64 else 128 if head_dim <= 128 else 64


def flash_decode(gpu: Gpu, shape: Attention, options: FlashOptions) -> Program:
    """Split-KV decode: the query heads of a KV head are rows of one tile; a second kernel combines the splits.

    Raises UsageError when a KV head has more query heads than the tile has rows.
    """
    d = shape.head_dim
    block_m = DECODE_ROWS if options.block_m is None else options.block_m
    block_n = _paged_keys(d) if options.block_n is None else options.block_n
    warps = 4 if options.warps is None else options.warps
    stages = 1 if options.stages is None else options.stages
    check_multiple("flash", 16, block_m=block_m, block_n=block_n)
    check_positive("flash", stages=stages)
    roles_of("flash", warps, block_m)
    if shape.group > block_m:
        raise UsageError(f"kernel 'flash': decode holds the query heads of a KV head in block_m rows, got block_m "
                         f"{block_m} for {shape.group} heads; use a larger block_m")
    path = best_path(gpu, Dtype.FP16, 16)
    tile = DecodeTile(
        scores=product("QK^T", block_m, block_n, d, Dtype.FP16, path, a_in_smem=True),
        softmax=(softmax.row_max(block_m, block_n), softmax.exponentials(block_m, block_n),
                 softmax.rescale(block_m, d)),
        output=product("PV", block_m, d, block_n, Dtype.FP16, path, a_in_smem=False))
    plan = DecodePlan(
        kernel="flash", shape=shape, block_m=block_m, block_n=block_n, warps=warps, stages=stages,
        splits=options.splits, kv_tile_bytes=(2 * block_n * d,), tile=(tile,), heads_of_format=(shape.kv_heads,),
        dtype="fp16", smem_bytes=2 * d * (block_m + 2 * stages * block_n),
        registers=accumulator_registers((block_m, d), (block_m, block_n)), pieces=options.pieces, paged=options.paged)
    program = decode_program(gpu, plan, {"kernel": "flash", "pieces": options.pieces,
                                         **({"paged": True} if options.paged else {})})
    return with_regrouping(program, shape) if options.paged else program


FLASH: Schedule[FlashOptions] = Schedule(
    "flash", "FlashAttention-2 style FP16 attention", (Attention,), FlashOptions, build_flash,
    {"path": Phase.PREFILL, "order": Phase.PREFILL, "sync": Phase.PREFILL, "splits": Phase.DECODE})
