"""The loop that all fused decode kernels share: split-KV (Flash-Decoding) and the kernel that combines the splits.

One CTA per (KV split, KV head, sequence); the query heads of the group are rows of its tile. KV tiles may have several
formats, by KV head, and a last tile of its own format for a buffer of recent tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from turbosim.errors import UsageError
from turbosim.hw.spec import Gpu, OpClass
from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Signal, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Tensor
from turbosim.schedules.paged import PAGES, length_tensors, lengths, page_address
from turbosim.schedules.tiles import ceil_div, in_pieces, split_count
from turbosim.workload import Attention

COMBINE_AHEAD = 8
"""Partial results in flight in the combine kernel."""


@dataclass(frozen=True)
class DecodeTile:
    """The work of a CTA on one KV tile, for all of its warps, in order."""

    scores: tuple[Compute, ...]
    """Needs K."""
    softmax: tuple[Compute | str, ...]
    """Needs no tile; the text ``barrier`` stands for a CTA barrier."""
    output: tuple[Compute, ...]
    """Needs V."""


@dataclass(frozen=True)
class DecodePlan:
    """Everything about a decode kernel that its loop depends on."""

    kernel: str
    shape: Attention
    block_m: int
    block_n: int
    warps: int
    stages: int
    splits: int | None
    kv_tile_bytes: tuple[int, ...]
    """One K or V tile of each format [B]."""
    tile: tuple[DecodeTile, ...]
    """Work per format."""
    heads_of_format: tuple[int, ...]
    """KV heads of each format; they add up to the shape's."""
    dtype: str
    smem_bytes: int
    registers: int
    pieces: int
    """Parts in which the blocks of a KV tile are served."""
    buffer_tokens: int = 0
    """Tokens of the buffer tile, not in the cache tiles."""
    buffer_bytes: int = 0
    buffer_tile: DecodeTile | None = None
    start: tuple[Compute, ...] = ()
    paged: bool = False
    """Whether lengths and page tables are read first."""

    @property
    def key_tiles(self) -> int:
        """Cache tiles per KV head."""
        return ceil_div(self.shape.seq_k - self.buffer_tokens, self.block_n)


def decode_program(gpu: Gpu, plan: DecodePlan, meta: Mapping[str, str | int | float | bool]) -> Program:
    """Return the split kernel and, with more than one split, the combine kernel.

    Raises UsageError for more splits than there are equal shares of the KV tiles.
    """
    shape = plan.shape
    splits = _splits(gpu, plan)
    heads = shape.batch * shape.kv_heads
    tensors = [Tensor("Q", heads, 2 * shape.group * shape.head_dim, "fp16")]
    for number, (nbytes, count) in enumerate(zip(plan.kv_tile_bytes, plan.heads_of_format, strict=True)):
        tokens = shape.seq_k - plan.buffer_tokens
        size = shape.batch * count * ceil_div(nbytes * tokens, plan.block_n)
        tensors += [Tensor(f"{name}{number}", max(1, heads * plan.key_tiles), nbytes, plan.dtype, size)
                    for name in ("K", "V")]
    if plan.buffer_tile is not None:
        tensors += [Tensor(f"{name} buffer", heads, plan.buffer_bytes, "int8") for name in ("K", "V")]
    tensors += length_tensors(shape) if plan.paged else ()
    outputs = shape.group * shape.head_dim
    tensors.append(Tensor("O", heads, 2 * outputs, "fp16"))
    launches = [_split_launch(plan, splits)]
    if splits > 1:
        tensors += [Tensor("O partial", heads * splits, 4 * outputs, "fp32"),
                    Tensor("LSE partial", heads * splits, 4 * shape.group, "fp32")]
        launches.append(combine_launch(shape, splits))
    return Program(f"{plan.kernel} decode", tuple(tensors), tuple(launches), shape.flops,
                   {**meta, "block_m": plan.block_m, "block_n": plan.block_n, "warps": plan.warps,
                    "stages": plan.stages, "splits": splits})


def _splits(gpu: Gpu, plan: DecodePlan) -> int:
    """Return the number of KV splits, none of which is without a tile."""
    tiles, wanted = max(1, plan.key_tiles), plan.splits
    if wanted is None:
        # Two CTAs of four warps share an SM, as in FlashAttention-2's call of its heuristic.
        wanted = split_count(plan.shape.batch * plan.shape.kv_heads, 2 * gpu.sm.count, tiles)
    splits = ceil_div(tiles, ceil_div(tiles, min(wanted, tiles)))
    if plan.splits is not None and plan.splits != splits:
        raise UsageError(f"kernel {plan.kernel!r}: option splits must leave no split without KV tiles, got "
                         f"{plan.splits} for {plan.key_tiles} tiles of {plan.block_n} tokens; use splits={splits}")
    return splits


def _split_launch(plan: DecodePlan, splits: int) -> Launch:
    shape = plan.shape
    per_split = ceil_div(plan.key_tiles, splits) if plan.key_tiles else 0
    formats = len(plan.kv_tile_bytes)
    classes = []
    for number in range(formats):
        for last in (False, True):
            tiles = plan.key_tiles - per_split * (splits - 1) if last else per_split
            params: list[tuple[str, int]] = []
            for other in range(formats):
                count = tiles if other == number else 0
                params += [(f"n{other}", count), (f"ahead{other}", min(_ahead(plan), count))]
            params.append(("buffer", int(last and plan.buffer_tile is not None)))
            classes.append(CtaClass(f"format {number}{', last split' if last else ''}", tuple(params)))
    by_head = [2 * n for n, count in enumerate(plan.heads_of_format) for _ in range(count)]
    roles = plan.warps // 4
    return Launch(
        name=f"{plan.kernel} split",
        grid=(Dim("s", splits), Dim("h", shape.kv_heads), Dim("b", shape.batch)),
        roles=tuple(Role(f"wg{i}", 4, _stream(plan, splits, per_split, i, roles)) for i in range(roles)),
        counters=(Counter("Q", CounterKind.DATA), Counter("K", CounterKind.DATA), Counter("V", CounterKind.DATA),
                  Counter("sync", CounterKind.BARRIER), *((PAGES,) if plan.paged else ())),
        classes=tuple(classes),
        class_of=(("s", tuple([0] * (splits - 1) + [1])), ("h", tuple(by_head))),
        smem_bytes=plan.smem_bytes,
        registers_per_thread=plan.registers,
    )


def _ahead(plan: DecodePlan) -> int:
    return max(1, plan.stages - 1)


def _share(op: Compute, roles: int) -> Compute:
    """Return one warp group's part of a CTA's block: an equal share of rows or columns."""
    if roles == 1:
        return op
    mma = None if op.mma is None else replace(op.mma, n=ceil_div(op.mma.n, roles))
    return replace(op, lanes=tuple((c, ceil_div(n, roles)) for c, n in op.lanes), mma=mma,
                   smem_bytes=ceil_div(op.smem_bytes, roles))


def _stream(plan: DecodePlan, splits: int, per_split: int, role: int, roles: int) -> tuple[Op | Loop, ...]:
    shape = plan.shape
    head = var("h") + var("b") * shape.kv_heads
    first = head * plan.key_tiles + var("s") * per_split
    ops: list[Op | Loop] = []
    if role == 0:
        ops += lengths(var("b")) if plan.paged else ()
        ops.append(Load("load Q", "Q", head, "Q"))
    ops += [Wait("wait Q", "Q", Affine(1)), *(_share(x, roles) for x in plan.start)]
    find = (page_address(),) if plan.paged else ()
    offset = Affine()
    for number, work in enumerate(plan.tile):
        k, v = f"K{number}", f"V{number}"
        count, ahead = var(f"n{number}"), var(f"ahead{number}")
        if role == 0:
            prologue: tuple[Op, ...] = (Load("load K", k, first + var("p"), "K"),)
            if plan.stages > 1:
                prologue += (Load("load V", v, first + var("p"), "V"),)
            ops.append(Loop("p", ahead, prologue))
        for variable, trips, start, prefetch in (("i", count - ahead, Affine(), True),
                                                 ("j", ahead, count - ahead, False)):
            j = var(variable) + start
            now: tuple[Op, ...] = ()
            later: tuple[Op, ...] = ()
            if role == 0 and plan.stages == 1:
                now = (*find, Load("load V", v, first + j, "V"))
                later = (*find, Load("load K", k, first + j + 1, "K")) if prefetch else ()
            elif role == 0 and prefetch:
                ahead_by = plan.stages - 1
                now = (*find, Load("load K", k, first + j + ahead_by, "K"),
                       *find, Load("load V", v, first + j + ahead_by, "V"))
            ops.append(Loop(variable, trips, _tile(plan, work, j + offset, roles, now, later)))
        offset = offset + count
    if plan.buffer_tile is not None:
        now = () if role else (Load("load K buffer", "K buffer", head, "K"),
                               Load("load V buffer", "V buffer", head, "V"))
        ops.append(Loop("t", var("buffer"), (*now, *_tile(plan, plan.buffer_tile, offset + var("t"), roles, (), ()))))
    return (*ops, *_finish(shape, splits, head, role))


def _tile(plan: DecodePlan, work: DecodeTile, j: Affine, roles: int, now: tuple[Op, ...],
          later: tuple[Op, ...]) -> tuple[Op, ...]:
    barriers = 2 + sum(1 for x in work.softmax if x == "barrier")
    ops: list[Op] = [Wait("wait K", "K", j + 1)]
    passed = 0

    def barrier() -> None:
        nonlocal passed
        passed += 1
        ops.append(Signal("arrive", "sync"))
        ops.append(Wait("barrier", "sync", (j * barriers + passed) * roles))

    def compute(blocks: Iterable[Compute]) -> None:
        ops.extend(in_pieces((_share(x, roles) for x in blocks), plan.pieces))

    barrier()
    ops += now
    compute(work.scores)
    barrier()
    ops += later
    for step in work.softmax:
        if isinstance(step, Compute):
            compute((step,))
        else:
            barrier()
    ops.append(Wait("wait V", "V", j + 1))
    compute(work.output)
    return tuple(ops)


def _finish(shape: Attention, splits: int, head: Affine, role: int) -> tuple[Op, ...]:
    """Normalise and store the group's rows; warp group 0 does it."""
    if role:
        return ()
    outputs = shape.group * shape.head_dim
    work = Compute("normalise", lanes=((OpClass.FP32, outputs), (OpClass.SFU, 4 * shape.group)),
                   chain=((OpClass.SHUFFLE, 2), (OpClass.SFU, 1)))
    if splits == 1:
        return (work, Store("store O", "O", head))
    place = head * splits + var("s")
    return (work, Store("store O", "O partial", place), Store("store LSE", "LSE partial", place))


def combine_launch(shape: Attention, splits: int) -> Launch:
    """Return the kernel that merges the splits: one CTA per KV head and sequence, partial results streamed through.

    Per output and split: one FMUL and one FADD; per row and split one MUFU.EX2.
    """
    head = var("h") + var("b") * shape.kv_heads
    ahead = min(COMBINE_AHEAD, splits)
    outputs = shape.group * shape.head_dim

    def loads(split: Affine) -> tuple[Op, ...]:
        return (Load("load LSE", "LSE partial", head * splits + split, "partial", smem=False),
                Load("load O", "O partial", head * splits + split, "partial", smem=False))

    def merge(split: Affine) -> tuple[Op, ...]:
        return (Wait("wait partial", "partial", (split + 1) * 2),
                Compute("merge", lanes=((OpClass.FP32, 2 * outputs), (OpClass.SFU, shape.group))))

    body: tuple[Op | Loop, ...] = (
        Loop("p", Affine(ahead), loads(var("p"))),
        Loop("i", Affine(splits - ahead), (*merge(var("i")), *loads(var("i") + ahead))),
        Loop("j", Affine(ahead), merge(var("j") + (splits - ahead))),
        Compute("convert", lanes=((OpClass.PACK, ceil_div(outputs, 2)),)),
        Store("store O", "O", head),
    )
    return Launch("combine", (Dim("h", shape.kv_heads), Dim("b", shape.batch)), (Role("all", 4, body),),
                  (Counter("partial", CounterKind.DATA),), smem_bytes=0, registers_per_thread=64)
