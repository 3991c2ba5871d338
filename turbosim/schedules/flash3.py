"""``flash3``: FlashAttention-3, warp-specialised attention for Hopper, prefill.

A producer warp group fetches Q, K and V by TMA into rings of stages; one to three consumer warp groups of 64 rows
multiply with ``wgmma``, which is asynchronous. *overlap* issues Q K^T of the next tile before the softmax of the
present one and P V after it; *pingpong* lets one warp group issue products at a time, in turns, so that the others'
softmax falls under them. CTAs are persistent: the producer runs ahead into the next tile of work. Causal tiles of work
are taken longest first, in sections of heads whose K and V fit into 32 MB of L2.
Source: J. Shah et al., "FlashAttention-3", arXiv:2407.08608; tiles, order of operations, registers and scheduling from
Dao-AILab/flash-attention at commits 07602ad and 5e0a82d, ``hopper/``: ``tile_size.h``,
``mainloop_fwd_sm90_tma_gmma_ws.hpp``, ``flash_fwd_kernel_sm90.h`` and ``tile_scheduler.hpp``.

Not modelled: clusters that share the copies of K and V (full attention, head dimensions from 128), and FP8's
transposition of V, whose tokens are assumed to lie together. Packed query heads (*pack_gqa*) are copied like others,
by TMA, where the kernel gathers their rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Dtype, Gpu, MmaPath
from turbosim.program.ops import Affine, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Scheduler, Tensor
from turbosim.schedules.base import Schedule
from turbosim.schedules.flash3_plan import ROWS, Flash3Plan, Tiling, default_tiling
from turbosim.schedules.flash3_roles import Consumer, Producer
from turbosim.schedules.paged import with_cache_write
from turbosim.schedules.tiles import THREADS, ceil_div, check_multiple, check_positive
from turbosim.workload import Attention, Phase

CONSUMER_REGISTERS = {1: 255, 2: 240, 3: 160}
"""Registers a consumer thread has after ``setmaxnreg``, by consumer warp groups; the producer keeps 56, 24 or 32."""
OTHER_REGISTERS = 28
"""Of those, for addresses, row statistics and loop state. An estimate."""
DTYPES = {"fp16": Dtype.FP16, "bf16": Dtype.BF16, "fp8": Dtype.FP8}
ORDERS = ("forward", "heavy_first")


@dataclass(frozen=True)
class Flash3Options:
    """Options of ``flash3``; None takes what the published kernel has for the type, head dimension and mask."""

    dtype: str = "fp16"
    """``fp16``, ``bf16`` or ``fp8``; the output has 16 bits."""
    block_m: int | None = None
    block_n: int | None = None
    stages: int = 2
    overlap: bool = True
    """Whether the products of a warp group run under its own softmax."""
    pingpong: bool | None = None
    """Whether warp groups issue their products in turns."""
    p_smem: bool | None = None
    """Whether P reaches the second product through shared memory instead of registers."""
    scheduler: str | None = None
    """Persistent CTAs that take tiles of work in turn (``dynamic``) or with a stride (``static``), or a CTA for each
    (``single``)."""
    order: str | None = None
    """Query tiles of a head ``forward`` or ``heavy_first``, the latter in sections of heads."""
    paged: bool = False
    """K and V in pages smaller than a tile, which the producer's four warps copy row by row, without TMA."""
    cache_write: bool = False
    """Write K and V of the new tokens to the cache first, as a serving engine does."""
    pack_gqa: bool | None = None
    """Whether the query heads of a KV head share query tiles, token by token. Default: as published for sequences of
    one length, where tiles are better filled by more than a ninth."""
    pieces: int = 4
    """Parts in which the blocks of softmax are served. Fewer than elsewhere, as turns keep the warp groups' apart: four
    times as many change times by 2 %."""


def build_flash3(gpu: Gpu, shape: Attention, options: Flash3Options) -> Program:
    """Return the program. Raises UsageError for decode, a GPU without ``wgmma``, or an option out of range."""
    plan = flash3_plan(gpu, shape, options)
    tiling = plan.tiling
    program = Program(
        "flash3 prefill", _tensors(plan), (_launch(plan),), shape.flops,
        {"kernel": "flash3", "dtype": options.dtype, "path": MmaPath.WGMMA.value, "block_m": tiling.block_m,
         "block_n": tiling.block_n, "warps": 4 * (plan.groups + 1), "stages": plan.stages, "overlap": plan.overlap,
         "pingpong": plan.pingpong, "p_smem": tiling.p_smem, "scheduler": plan.scheduler.value,
         "order": ORDERS[plan.heavy_first], "pack_gqa": plan.packed > 1, "pieces": plan.pieces,
         **({"paged": True} if plan.paged else {})})
    return with_cache_write(program, shape) if options.cache_write else program


def flash3_plan(gpu: Gpu, shape: Attention, options: Flash3Options) -> Flash3Plan:
    """Return the plan. Raises UsageError as :func:`build_flash3`."""
    for name, value, known in (("dtype", options.dtype, list(DTYPES)), ("order", options.order, list(ORDERS)),
                               ("scheduler", options.scheduler, [s.value for s in Scheduler])):
        if value is not None and value not in known:
            raise UsageError(f"kernel 'flash3': option {name} must be one of {', '.join(known)}, got {value!r}"
                             f"{did_you_mean(value, known)}")
    dtype = DTYPES[options.dtype]
    if shape.phase is Phase.DECODE:
        raise UsageError("kernel 'flash3' has prefill only; use flash for decode")
    if MmaPath.WGMMA not in gpu.tensor or dtype not in gpu.tensor[MmaPath.WGMMA].rates:
        raise UsageError(f"kernel 'flash3' multiplies with wgmma {dtype.value}, which {gpu.name} does not have; "
                         "use flash")
    published = default_tiling(shape.head_dim, shape.causal, dtype)
    tiling = Tiling(
        published.block_m if options.block_m is None else options.block_m,
        published.block_n if options.block_n is None else options.block_n,
        published.p_smem if options.p_smem is None else options.p_smem)
    check_positive("flash3", stages=options.stages, pieces=options.pieces)
    check_multiple("flash3", 16, block_n=tiling.block_n)
    groups = tiling.block_m // ROWS
    if tiling.block_m % ROWS or groups not in CONSUMER_REGISTERS:
        raise UsageError(f"kernel 'flash3': option block_m must be 64, 128 or 192, 64 rows to a consumer warp group, "
                         f"got {tiling.block_m}")
    _check_registers(tiling, groups, shape.head_dim, dtype)
    in_turns = groups > 1 and (shape.head_dim >= 128 if dtype is Dtype.FP8 else shape.head_dim <= 128)
    pingpong = (in_turns if options.overlap else groups == 2) if options.pingpong is None else options.pingpong
    if pingpong and groups == 1:
        raise UsageError(f"kernel 'flash3': option pingpong needs two consumer warp groups or more, got block_m "
                         f"{tiling.block_m}; use block_m 128 or 192")
    heavy_first = shape.causal if options.order is None else options.order == "heavy_first"
    scheduler = Scheduler(options.scheduler or ("dynamic" if shape.causal else "static"))
    return Flash3Plan(shape, dtype, tiling, groups, options.stages, options.overlap, pingpong, scheduler, heavy_first,
                      options.pieces, gpu.tensor[MmaPath.WGMMA].queue,
                      options.paged, shape.group if _packs(shape, tiling.block_m, options.pack_gqa) else 1)


def _packs(shape: Attention, block_m: int, wanted: bool | None) -> bool:
    """Return whether query heads share tiles: by default as ``should_pack_gqa`` of ``hopper/heuristics.h`` has it."""
    if wanted is not None:
        return wanted
    rows = shape.seq_q * shape.group
    alone = shape.seq_q / (ceil_div(shape.seq_q, block_m) * block_m)
    return alone < 0.9 * rows / (ceil_div(rows, block_m) * block_m)


def _check_registers(tiling: Tiling, groups: int, head_dim: int, dtype: Dtype) -> None:
    """Refuse tiles whose accumulators, with P packed beside the next scores, do not fit a consumer's registers."""
    p_bits = 0 if tiling.p_smem else 8 if dtype is Dtype.FP8 else 16
    accumulators = ceil_div(ROWS * (head_dim + tiling.block_n), THREADS)
    needed = accumulators + ceil_div(ROWS * tiling.block_n * p_bits, 32 * THREADS) + OTHER_REGISTERS
    if needed > CONSUMER_REGISTERS[groups]:
        raise UsageError(f"kernel 'flash3': a consumer thread needs {needed} registers and has "
                         f"{CONSUMER_REGISTERS[groups]} with {groups} consumer warp groups; use a smaller block_n or "
                         "p_smem=true")


def _tensors(plan: Flash3Plan) -> tuple[Tensor, ...]:
    shape = plan.shape
    kv_heads = shape.batch * shape.kv_heads
    heads = kv_heads * plan.groups_of_heads
    kv_size = kv_heads * shape.seq_k * shape.head_dim * plan.width
    outputs = heads * plan.query_tiles * plan.groups
    return (
        Tensor("Q", heads * plan.query_tiles, plan.q_bytes, plan.dtype.value),
        Tensor("K", kv_heads * plan.key_tiles, plan.kv_bytes, plan.dtype.value, kv_size),
        Tensor("V", kv_heads * plan.key_tiles, plan.kv_bytes, plan.dtype.value, kv_size),
        Tensor("O", outputs, 2 * ROWS * shape.head_dim, "fp16"),
        Tensor("LSE", outputs, 4 * ROWS, "fp32"),
    )


def _launch(plan: Flash3Plan) -> Launch:
    tiles = plan.query_tiles
    order = range(tiles - 1, -1, -1) if plan.heavy_first else range(tiles)
    kinds: dict[tuple[tuple[str, int], ...], int] = {}
    index = []
    for tile in order:
        total, masked = plan.trips(tile)
        params = (("n", total), ("more", total - 1), ("masked", masked - 1), ("rest", total - masked))
        index.append(kinds.setdefault(params, len(kinds)))
    group, kv_heads = Dim("g", plan.groups_of_heads), plan.shape.batch * plan.shape.kv_heads
    if plan.heavy_first:
        grid: tuple[Dim, ...] = (group, Dim("h", plan.section), Dim("m", tiles), Dim("s", kv_heads // plan.section))
        kv_head, m = var("h") + var("s") * plan.section, Affine(tiles - 1) - var("m")
    else:
        grid = (Dim("m", tiles), group, Dim("h", kv_heads))
        kv_head, m = var("h"), var("m")
    q_tile = m + (kv_head * plan.groups_of_heads + var("g")) * tiles
    first_kv = kv_head * plan.key_tiles
    roles = (Role("producer", 4, Producer(plan, q_tile, first_kv).stream()),
             *(Role(f"wg{i}", 4, Consumer(plan, i, q_tile).stream()) for i in range(plan.groups)))
    return Launch(
        "flash3", grid, roles, _counters(plan), tuple(CtaClass(f"n{dict(p)['n']}", p) for p in kinds),
        (("m", tuple(index)),), plan.smem_bytes, _launch_registers(len(roles)), scheduler=plan.scheduler)


def _launch_registers(roles: int) -> int:
    """Registers per thread at launch, out of which ``setmaxnreg`` moves some from the producer to the consumers.

    The most that 65,536 registers allow one CTA, in steps of 8, and at most 255.
    """
    return min(255, 65536 // (roles * THREADS) // 8 * 8)


def _counters(plan: Flash3Plan) -> tuple[Counter, ...]:
    data = tuple(Counter(name, CounterKind.DATA) for name in "QKV")
    return data + tuple(
        Counter(f"{name} {i}", kind) for i in range(plan.groups)
        for name, kind in (("mma", CounterKind.MMA), ("free Q", CounterKind.MBARRIER), ("free K", CounterKind.MBARRIER),
                           ("free V", CounterKind.MBARRIER), ("free O", CounterKind.MBARRIER),
                           ("turn", CounterKind.BARRIER)))


FLASH3: Schedule[Flash3Options] = Schedule(
    "flash3", "FlashAttention-3: warp-specialised FP16, BF16 or FP8 attention for Hopper", (Attention,), Flash3Options,
    build_flash3)
