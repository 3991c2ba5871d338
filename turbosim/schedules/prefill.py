"""The loop that all fused prefill kernels share: one CTA per query tile, a pipeline of K and V tiles, warp groups.

A kernel supplies the work of one KV tile (:class:`TileWork`); this module adds copies, waits, barriers, the causal
trip counts and the grid. Warp group 0 issues the copies. K and V tiles are charged in full also at the end of a
sequence that does not divide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from turbosim.errors import UsageError, did_you_mean
from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Signal, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Role, Tensor
from turbosim.schedules.paged import PAGES, length_tensors, lengths, page_address
from turbosim.schedules.tiles import ceil_div, in_pieces
from turbosim.workload import Attention

SYNCS = ("barrier", "mbarrier")
"""A stage is refilled after a barrier of all warp groups, as in the machine code that Triton 3.9 writes for sm_90 (one
after Q K^T, several around the copies), or once every warp group has released it, as in kernels written for TMA."""
WAIT_Q, WAIT_K, WAIT_V = "wait Q", "wait K", "wait V"


@dataclass(frozen=True)
class TileWork:
    """The work of one warp group on one KV tile, in order."""

    scores: tuple[Compute, ...]
    """Needs K. Ends with the scores of the tile."""
    softmax: tuple[Compute | str, ...]
    """Needs no tile any more; the text ``barrier`` stands for a barrier of all warp groups."""
    output: tuple[Compute, ...]
    """Needs V."""


@dataclass(frozen=True)
class PrefillPlan:
    """Everything about a prefill kernel that its loop depends on."""

    kernel: str
    shape: Attention
    block_m: int
    block_n: int
    roles: int
    stages: int
    heavy_first: bool
    q_bytes: int
    """One query tile [B]."""
    kv_bytes: int
    """One K or V tile with its scales [B]."""
    out_bytes: int
    """One warp group's part of an output tile [B]."""
    dtype: str
    bulk: bool
    tile: Callable[[bool], TileWork]
    """Work of a KV tile; the argument says whether the tile crosses the causal diagonal."""
    start: tuple[Compute, ...]
    """After Q has arrived."""
    finish: tuple[Compute, ...]
    """After the last tile."""
    smem_bytes: int
    registers: int
    path: str
    """Instruction path of the products."""
    sync: str = "barrier"
    """What lets a stage be refilled, one of :data:`SYNCS`."""
    pieces: int = 1
    """Parts in which the blocks of a KV tile are served."""
    v_bytes: int | None = None
    """One V tile, FP16, where it differs from K's [B]."""
    paged: bool = False
    """Whether lengths and page tables are read first."""

    @property
    def query_tiles(self) -> int:
        """Query tiles per head."""
        return ceil_div(self.shape.seq_q, self.block_m)

    @property
    def key_tiles(self) -> int:
        """KV tiles per head."""
        return ceil_div(self.shape.seq_k, self.block_n)


def key_tiles_of(shape: Attention, block_m: int, block_n: int, tile: int, packed: int = 1) -> tuple[int, int]:
    """Return (KV tiles, those of them that cross the diagonal) for query tile *tile*.

    *packed* rows in a row belong to one token: the query heads of a KV head.
    """
    if not shape.causal:
        return ceil_div(shape.seq_k, block_n), 0
    offset = shape.seq_k - shape.seq_q
    first_row = tile * block_m // packed
    last_row = (min((tile + 1) * block_m, shape.seq_q * packed) - 1) // packed
    total = ceil_div(last_row + offset + 1, block_n)
    unmasked = (first_row + offset + 1) // block_n
    return total, total - unmasked


def prefill_tensors(plan: PrefillPlan) -> tuple[Tensor, ...]:
    """Return Q, K, V, O and the row statistics."""
    shape = plan.shape
    heads = shape.batch * shape.q_heads
    kv_tiles = shape.batch * shape.kv_heads * plan.key_tiles
    rows = plan.block_m // plan.roles

    def keys(name: str, tile_bytes: int, dtype: str) -> Tensor:
        # The roofline counts the tokens there are, not those the last tile is padded to.
        size = shape.batch * shape.kv_heads * ceil_div(tile_bytes * shape.seq_k, plan.block_n)
        return Tensor(name, kv_tiles, tile_bytes, dtype, size)

    return (
        Tensor("Q", heads * plan.query_tiles, plan.q_bytes, plan.dtype),
        keys("K", plan.kv_bytes, plan.dtype),
        keys("V", plan.kv_bytes, plan.dtype) if plan.v_bytes is None else keys("V", plan.v_bytes, "fp16"),
        Tensor("O", heads * plan.query_tiles * plan.roles, plan.out_bytes, "fp16"),
        Tensor("LSE", heads * plan.query_tiles * plan.roles, rows * 4, "fp32"),
        *(length_tensors(shape) if plan.paged else ()),
    )


def prefill_launch(plan: PrefillPlan, extra_roles: tuple[Role, ...] = ()) -> Launch:
    """Return the launch: grid (query tile, query head in group, KV head, batch).

    Raises UsageError for a *sync* that the plan's copies do not allow.
    """
    _check_sync(plan)
    tiles = plan.query_tiles
    order = range(tiles - 1, -1, -1) if plan.heavy_first else range(tiles)
    kinds: dict[tuple[tuple[str, int], ...], int] = {}
    index = [kinds.setdefault(_params(plan, tile), len(kinds)) for tile in order]
    return Launch(
        name=plan.kernel,
        grid=(Dim("m", tiles), Dim("g", plan.shape.group), Dim("h", plan.shape.kv_heads), Dim("b", plan.shape.batch)),
        roles=(*(Role(f"wg{i}", 4, _stream(plan, i)) for i in range(plan.roles)), *extra_roles),
        counters=(Counter("Q", CounterKind.DATA), Counter("K", CounterKind.DATA), Counter("V", CounterKind.DATA),
                  Counter("sync", CounterKind.BARRIER),
                  *(Counter(_free(i), CounterKind.MBARRIER) for i in range(plan.roles) if plan.sync == "mbarrier"),
                  *((PAGES,) if plan.paged else ())),
        classes=tuple(CtaClass(f"n{dict(params)['n']}", params) for params in kinds),
        class_of=(("m", tuple(index)),),
        smem_bytes=plan.smem_bytes,
        registers_per_thread=plan.registers,
    )


def _check_sync(plan: PrefillPlan) -> None:
    if plan.sync not in SYNCS:
        raise UsageError(f"kernel {plan.kernel!r}: option sync must be one of {', '.join(SYNCS)}, got {plan.sync!r}"
                         f"{did_you_mean(plan.sync, SYNCS)}")
    if plan.sync == "mbarrier" and not (plan.bulk and plan.stages > 1):
        raise UsageError(f"kernel {plan.kernel!r}: option sync=mbarrier needs copies by TMA, which come with path "
                         f"wgmma or tcgen05, and at least 2 stages, got path {plan.path} and stages {plan.stages}")


def sync_note(plan: PrefillPlan) -> dict[str, str]:
    """Return what a program's description says of the copies: nothing of the usual barrier."""
    return {} if plan.sync == "barrier" else {"sync": plan.sync}


def _free(role: int) -> str:
    """Return the counter of the tiles that a warp group has released."""
    return f"free {role}"


def _params(plan: PrefillPlan, tile: int) -> tuple[tuple[str, int], ...]:
    """Trip counts: n tiles; a unmasked with prefetch, then c masked with or d unmasked without prefetch, then e."""
    total, masked = key_tiles_of(plan.shape, plan.block_m, plan.block_n, tile)
    ahead = min(_ahead(plan), total)
    split = total - max(masked, ahead)
    return (("n", total), ("ahead", ahead), ("a", split), ("c", max(0, masked - ahead)),
            ("d", max(0, ahead - masked)), ("e", min(masked, ahead)))


def _ahead(plan: PrefillPlan) -> int:
    """K tiles in flight ahead of use."""
    return max(1, plan.stages - 1)


def _stream(plan: PrefillPlan, role: int) -> tuple[Op | Loop, ...]:
    shape = plan.shape
    m = Affine(plan.query_tiles - 1) - var("m") if plan.heavy_first else var("m")
    q_head = var("g") + var("h") * shape.group + var("b") * shape.q_heads
    kv_head = var("h") + var("b") * shape.kv_heads
    q_tile = m + q_head * plan.query_tiles
    first_kv = kv_head * plan.key_tiles
    builder = _Body(plan, role, first_kv)
    body: list[Op | Loop] = []
    if role == 0:
        body += lengths(var("b")) if plan.paged else ()
        body.append(Load("load Q", "Q", q_tile, "Q", bulk=plan.bulk))
        body.append(Loop("p", var("ahead"), builder.prologue()))
    body += [Wait(WAIT_Q, "Q", Affine(1)), *plan.start]
    offset = Affine()
    for variable, masked, prefetch in (("a", False, True), ("c", True, True), ("d", False, False), ("e", True, False)):
        body.append(Loop(f"j{variable}", var(variable), builder.tile(var(f"j{variable}") + offset, masked, prefetch)))
        offset = offset + var(variable)
    out_tile = q_tile * plan.roles + role
    return (*body, *plan.finish, Store("store O", "O", out_tile), Store("store LSE", "LSE", out_tile))


@dataclass(frozen=True)
class _Body:
    plan: PrefillPlan
    role: int
    first_kv: Affine

    def prologue(self) -> tuple[Op, ...]:
        loads = self._load("K", var("p"))
        return loads if self.plan.stages == 1 else (*loads, *self._load("V", var("p")))

    def _load(self, tensor: str, tile: Affine) -> tuple[Op, ...]:
        find = (page_address(),) if self.plan.paged else ()
        return (*find, Load(f"load {tensor}", tensor, self.first_kv + tile, tensor, bulk=self.plan.bulk))

    def tile(self, j: Affine, masked: bool, prefetch: bool) -> tuple[Op, ...]:
        """Return the operations of KV tile *j*.

        One stage (FlashAttention-2): V is fetched during QK^T, the next K during softmax. More stages: both are
        fetched stages - 1 tiles ahead.
        """
        plan = self.plan
        work = plan.tile(masked)
        released = plan.sync == "mbarrier"
        barriers = (0 if released else 2) + sum(1 for x in work.softmax if x == "barrier")
        mine: list[Op] = []
        passed = 0

        def barrier() -> None:
            nonlocal passed
            passed += 1
            mine.append(Signal("arrive", "sync"))
            mine.append(Wait("barrier", "sync", (j * barriers + passed) * plan.roles))

        leader = self.role == 0
        mine.append(Wait(WAIT_K, "K", j + 1))
        if not released:
            barrier()
        if leader and plan.stages == 1:
            mine += self._load("V", j)
        if leader and plan.stages > 1 and prefetch:
            mine += [Wait("wait free", _free(i), j) for i in range(plan.roles) if released]
            mine += (*self._load("K", j + (plan.stages - 1)), *self._load("V", j + (plan.stages - 1)))
        mine += in_pieces(work.scores, plan.pieces)
        if plan.stages == 1:
            barrier()
            if leader and prefetch:
                mine += self._load("K", j + 1)
        for step in work.softmax:
            if isinstance(step, Compute):
                mine += in_pieces((step,), plan.pieces)
            else:
                barrier()
        mine.append(Wait(WAIT_V, "V", j + 1))
        if plan.stages > 1 and not released:
            barrier()
        mine += in_pieces(work.output, plan.pieces)
        if released:
            last = max(i for i, op in enumerate(mine) if isinstance(op, Compute) and op.mma is not None)
            mine.insert(last + 1, Signal("release", _free(self.role)))
        return tuple(mine)
