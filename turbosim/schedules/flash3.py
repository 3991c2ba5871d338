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
transposition of V, whose tokens are assumed to lie together.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Dtype, Gpu, MmaPath
from turbosim.program.ops import Affine, Compute, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Scheduler, Tensor
from turbosim.schedules import softmax
from turbosim.schedules.base import Schedule
from turbosim.schedules.flash3_roles import Consumer, Producer
from turbosim.schedules.prefill import key_tiles_of
from turbosim.schedules.tiles import THREADS, ceil_div, check_multiple, check_positive, mma_block
from turbosim.workload import Attention, Phase

ROWS = 64
"""Query rows of a consumer warp group: the M of ``wgmma``."""
CONSUMER_REGISTERS = {1: 255, 2: 240, 3: 160}
"""Registers a consumer thread has after ``setmaxnreg``, by consumer warp groups; the producer keeps 56, 24 or 32."""
OTHER_REGISTERS = 28
"""Of those, for addresses, row statistics and loop state. An estimate."""
SECTION = 32 * 1024 * 1024
"""Bytes of K and V of the heads whose causal tiles of work are dealt out together."""
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
    pieces: int = 4
    """Parts in which the blocks of softmax are served."""


@dataclass(frozen=True)
class Tiling:
    """Rows and keys of a tile, and whether P goes through shared memory."""

    block_m: int
    block_n: int
    p_smem: bool = False


def default_tiling(head_dim: int, causal: bool, dtype: Dtype) -> Tiling:
    """Return the published tiling (``tile_size_fwd_sm90``)."""
    for most, wide, narrow in ((64, Tiling(192, 128 if causal else 192, not causal), Tiling(192, 160)),
                               (96, Tiling(192, 144, True), Tiling(192, 128)),
                               (128, Tiling(128, 128 if causal else 176), Tiling(128, 192)),
                               (192, Tiling(128, 112), Tiling(128, 160))):
        if head_dim <= most:
            return narrow if dtype is Dtype.FP8 else wide
    return Tiling(128, 128 if dtype is Dtype.FP8 else 80)


@dataclass(frozen=True)
class Flash3Plan:
    """Everything about the kernel that its streams depend on."""

    shape: Attention
    dtype: Dtype
    tiling: Tiling
    groups: int
    """Consumer warp groups."""
    stages: int
    overlap: bool
    pingpong: bool
    scheduler: Scheduler
    heavy_first: bool
    pieces: int
    queue: int | None
    """Instructions of products that are accepted ahead; None for any number."""

    @property
    def width(self) -> int:
        """Bytes of an operand's element."""
        return 1 if self.dtype is Dtype.FP8 else 2

    @property
    def query_tiles(self) -> int:
        """Query tiles per head."""
        return ceil_div(self.shape.seq_q, self.tiling.block_m)

    @property
    def key_tiles(self) -> int:
        """KV tiles per head."""
        return ceil_div(self.shape.seq_k, self.tiling.block_n)

    @property
    def kv_bytes(self) -> int:
        """Bytes of a K or V tile."""
        return self.tiling.block_n * self.shape.head_dim * self.width

    @property
    def q_bytes(self) -> int:
        """Bytes of a query tile."""
        return self.tiling.block_m * self.shape.head_dim * self.width

    @property
    def smem_bytes(self) -> int:
        """Shared memory: Q, the rings, and P where it goes there. O is staged in V's."""
        p_bytes = self.tiling.block_m * self.tiling.block_n * self.width if self.tiling.p_smem else 0
        return self.q_bytes + 2 * self.stages * self.kv_bytes + p_bytes

    @property
    def section(self) -> int:
        """KV heads of a section: a power of two whose K and V fit, rounded down to a divisor of all heads."""
        heads = self.shape.batch * self.shape.kv_heads
        fit = max(1, SECTION // (2 * self.shape.seq_k * self.shape.head_dim * self.width))
        size = 1 << (fit.bit_length() - 1)
        return next(s for s in range(min(size, heads), 0, -1) if heads % s == 0)

    def scores(self, signal: str) -> Compute:
        """Return Q K^T of a warp group and tile; it signals *signal*."""
        return self._product("QK^T", self.tiling.block_n, self.shape.head_dim, signal, a_in_smem=True)

    def output(self, signal: str) -> Compute:
        """Return P V, likewise."""
        return self._output(self.tiling.block_n, signal)

    def output_parts(self, signal: str) -> tuple[Compute, ...]:
        """Return P V in the part that holds up its warp group, if any, and the part that is accepted ahead."""
        last = self.tiling.block_n if self.queue is None else min(self.tiling.block_n, self.queue * 32 // self.width)
        first = self.tiling.block_n - last
        return (*((self._output(first, signal),) if first else ()), self._output(last, signal))

    def _output(self, keys: int, signal: str) -> Compute:
        return self._product("PV", self.shape.head_dim, keys, signal, a_in_smem=self.tiling.p_smem)

    def _product(self, label: str, n: int, k: int, signal: str, a_in_smem: bool) -> Compute:
        block = mma_block(label, ROWS, n, k, self.dtype, MmaPath.WGMMA, 1, a_in_smem=a_in_smem)
        return Compute(block.label, mma=block.mma, smem_bytes=block.smem_bytes, signal=signal)

    def softmax(self, masked: bool) -> tuple[Compute, ...]:
        """Return mask, row maximum and exponentials of a warp group and tile."""
        n = self.tiling.block_n
        steps = (softmax.row_max(ROWS, n, self.pieces), softmax.exponentials(ROWS, n, self.pieces, packed=False))
        return (softmax.mask(ROWS, n), *steps) if masked else steps

    def pack(self) -> Compute:
        """Return the packing of P."""
        n = self.tiling.block_n
        return softmax.pack(ROWS, n, ROWS * n * self.width if self.tiling.p_smem else 0)


def build_flash3(gpu: Gpu, shape: Attention, options: Flash3Options) -> Program:
    """Return the program. Raises UsageError for decode, a GPU without ``wgmma``, or an option out of range."""
    plan = flash3_plan(gpu, shape, options)
    tiling = plan.tiling
    return Program(
        "flash3 prefill", _tensors(plan), (_launch(plan),), shape.flops,
        {"kernel": "flash3", "dtype": options.dtype, "path": MmaPath.WGMMA.value, "block_m": tiling.block_m,
         "block_n": tiling.block_n, "warps": 4 * (plan.groups + 1), "stages": plan.stages, "overlap": plan.overlap,
         "pingpong": plan.pingpong, "p_smem": tiling.p_smem, "scheduler": plan.scheduler.value,
         "order": ORDERS[plan.heavy_first], "pieces": plan.pieces})


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
                      options.pieces, gpu.tensor[MmaPath.WGMMA].queue)


def _check_registers(tiling: Tiling, groups: int, head_dim: int, dtype: Dtype) -> None:
    """Refuse tiles whose accumulators, with P packed beside the next scores, do not fit a consumer's registers."""
    p_bits = 0 if tiling.p_smem else 8 if dtype is Dtype.FP8 else 16
    accumulators = ceil_div(ROWS * (head_dim + tiling.block_n), THREADS)
    needed = accumulators + ceil_div(ROWS * tiling.block_n * p_bits, 32 * THREADS) + OTHER_REGISTERS
    if needed > CONSUMER_REGISTERS[groups]:
        raise UsageError(f"kernel 'flash3': a consumer thread needs {needed} registers and has "
                         f"{CONSUMER_REGISTERS[groups]} with {groups} consumer warp groups; use a smaller block_n or "
                         "p_smem=true")


def query_tile_trips(plan: Flash3Plan, tile: int) -> tuple[int, int]:
    """Return (KV tiles, those of them that are masked) of query tile *tile*.

    The last KV tile, with which the kernel begins, is always masked, for keys beyond the sequence.
    """
    total, masked = key_tiles_of(plan.shape, plan.tiling.block_m, plan.tiling.block_n, tile)
    return total, max(1, masked)


def _tensors(plan: Flash3Plan) -> tuple[Tensor, ...]:
    shape = plan.shape
    heads, kv_heads = shape.batch * shape.q_heads, shape.batch * shape.kv_heads
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
        total, masked = query_tile_trips(plan, tile)
        params = (("n", total), ("more", total - 1), ("masked", masked - 1), ("rest", total - masked))
        index.append(kinds.setdefault(params, len(kinds)))
    group, kv_heads = Dim("g", plan.shape.group), plan.shape.batch * plan.shape.kv_heads
    if plan.heavy_first:
        grid = (group, Dim("h", plan.section), Dim("m", tiles), Dim("s", kv_heads // plan.section))
        kv_head, m = var("h") + var("s") * plan.section, Affine(tiles - 1) - var("m")
    else:
        grid = (Dim("m", tiles), group, Dim("h", kv_heads))
        kv_head, m = var("h"), var("m")
    q_tile = m + (kv_head * plan.shape.group + var("g")) * tiles
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
