"""``gemm``: a tiled matrix product C = A x B with a multi-stage copy pipeline and a grouped tile order."""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Dtype, Gpu, MmaPath, OpClass
from turbosim.program.ops import Affine, Compute, Load, Loop, Mma, Op, Signal, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Tensor
from turbosim.schedules.base import Schedule
from turbosim.schedules.split_k import chunks_of, partial_tensor, reduce_launch, splits_of, store_partial
from turbosim.schedules.tiles import (
    WARP_GROUP,
    accumulator_registers,
    best_path,
    ceil_div,
    check_multiple,
    check_positive,
    groups_of,
)
from turbosim.workload import Gemm

_BITS = {Dtype.INT4: 4, Dtype.INT8: 8, Dtype.FP8: 8}


@dataclass(frozen=True)
class GemmOptions:
    """Options of ``gemm``; None takes a usual tiling for the GPU."""

    dtype: str = "fp16"
    path: str = "auto"
    """Instruction path; ``auto`` is the newest."""
    block_m: int = 128
    """Rows of an output tile: 16, 32, 48, or a multiple of 64. Fewer than 64 are multiplied by ``mma.sync``."""
    block_n: int | None = None
    block_k: int | None = None
    warps: int = 8
    """In groups of four, which share the rows while each has a multiple of 64, then the columns."""
    stages: int | None = None
    group_m: int = 8
    """Tile rows that are swept together, for L2 reuse."""
    pieces: int = 1
    cluster: int | None = None
    """CTAs of neighbouring tile rows that share the copies of B: each asks L2 for a part of its columns, which TMA
    multicasts to all. None is 2 where the path is asynchronous, 2 divides the tile rows, group_m is no less and there
    is a CTA for every SM: with fewer, L2 is not busy and bulk copies arrive later than others. Else it is 1.

    Source of the 2: NVIDIA, CUTLASS Profiler documentation, "threadblock cluster size (typically 2x1x1)". What cuBLAS
    chooses is not documented."""
    b_order: str = "k"
    """Dimension along which neighbours of B are neighbours in memory: ``k``, as of a layer's weights, or ``n``."""
    splits: int | None = 1
    """CTAs that share the inner dimension of an output tile (split-K), whose sums a second kernel adds; ``auto`` takes
    several where tiles are fewer than SMs."""


def build_gemm(gpu: Gpu, shape: Gemm, options: GemmOptions) -> Program:
    """Return the program. Raises UsageError for an option out of range or a type the tensor cores lack."""
    names = [d.value for d in Dtype if d not in (Dtype.FP16_ACC16, Dtype.TF32)]
    if options.dtype not in names:
        raise UsageError(f"kernel 'gemm': option dtype must be one of {', '.join(names)}, got {options.dtype!r}"
                         f"{did_you_mean(options.dtype, names)}")
    dtype = Dtype(options.dtype)
    bits = _BITS.get(dtype, 16)
    newest = gpu.mma_path(dtype)
    modern = newest is not None and newest.is_async and options.path != MmaPath.MMA_SYNC
    block_n = (256 if modern else 128) if options.block_n is None else options.block_n
    block_k = (128 if modern else 64) * 8 // bits if options.block_k is None else options.block_k
    stages = 4 if options.stages is None else options.stages
    check_multiple("gemm", 16, block_m=options.block_m, block_n=block_n, block_k=block_k)
    check_positive("gemm", stages=stages, group_m=options.group_m, pieces=options.pieces)
    orders = ("k", "n")
    if options.b_order not in orders:
        raise UsageError(f"kernel 'gemm': option b_order must be k or n, got {options.b_order!r}"
                         f"{did_you_mean(options.b_order, orders)}")
    roles, rows, columns = _parts(options.warps, options.block_m, block_n)
    path = best_path(gpu, dtype, rows, "gemm", options.path)
    tiles_m, tiles_n, steps = (ceil_div(shape.m, options.block_m), ceil_div(shape.n, block_n),
                               ceil_div(shape.k, block_k))
    cluster, group = _cluster(gpu, options, path, block_n, tiles_m, tiles_n)
    # mma.sync warps of a group form a grid of 2 x 2, of fewer than 32 rows 1 x 4, and each reads what its outputs need;
    # wgmma reads each operand once.
    down = 1 if path.is_async or rows < 32 else 2
    across = 1 if path.is_async else WARP_GROUP // down
    block = Compute("MMA", mma=Mma(rows, columns, block_k, dtype, path), pieces=options.pieces,
                    smem_bytes=(across * rows + down * columns) * block_k * bits // 8)
    splits = splits_of(gpu, options.splits, tiles_m * tiles_n, steps)
    outputs = rows * columns
    launch = Launch(
        "gemm", (Dim("c", cluster), Dim("i", group // cluster), Dim("n", tiles_n), Dim("o", tiles_m // group),
                 *((Dim("s", splits),) if splits > 1 else ())),
        tuple(Role(f"wg{r}", 4, _stream(r, roles, cluster, group, tiles_n, steps, splits, stages, block, outputs))
              for r in range(roles)),
        (Counter("tiles", CounterKind.DATA), Counter("sync", CounterKind.BARRIER)),
        *_classes(steps, splits, stages), stages * (options.block_m + block_n) * block_k * bits // 8,
        accumulator_registers((rows, columns)))
    of_role = tiles_m * tiles_n * roles
    chunks = chunks_of(outputs) if splits > 1 else 1
    # A tile has a part of several rows, but for one that has the rows whole.
    run_a = None if steps == 1 else block_k * bits // 8
    run_b = run_a if options.b_order == "k" else None if tiles_n * cluster == 1 else block_n * bits // 8 // cluster
    tensors = (
        Tensor("A", tiles_m * steps, options.block_m * block_k * bits // 8, dtype.value, run_bytes=run_a),
        Tensor("B", tiles_n * steps * cluster, block_n * block_k * bits // 8 // cluster, dtype.value, run_bytes=run_b),
        Tensor("C", of_role * chunks, outputs // chunks * 2, "fp16", run_bytes=None if tiles_n == 1 else columns * 2),
        *((partial_tensor(of_role, splits, outputs),) if splits > 1 else ()),
    )
    launches = (launch, reduce_launch(of_role, splits, outputs)) if splits > 1 else (launch,)
    return Program("gemm", tensors, launches, shape.flops,
                   {"kernel": "gemm", "dtype": options.dtype, "path": path.value, "block_m": options.block_m,
                    "block_n": block_n, "block_k": block_k, "warps": options.warps, "stages": stages, "group_m": group,
                    "cluster": cluster, **({"splits": splits} if splits > 1 else {})})


def _parts(warps: int, block_m: int, block_n: int) -> tuple[int, int, int]:
    """Return the warp groups of a CTA, and the rows and columns of each. Raises UsageError where they do not divide.

    Warp groups share the rows as long as each has a multiple of 64, the rows of ``wgmma``; more of them share the
    columns, as Triton lays them out.
    """
    groups = groups_of("gemm", warps)
    if block_m >= 64:
        check_multiple("gemm", 64, block_m=block_m)
    down = next(g for g in range(groups, 0, -1) if groups % g == 0 and (g == 1 or block_m % (64 * g) == 0))
    if block_n % (16 * (groups // down)):
        raise UsageError(f"kernel 'gemm': option block_n must be a multiple of 16 columns for each of the "
                         f"{groups // down} warp groups that share them, got {block_n}")
    return groups, block_m // down, block_n * down // groups


def _cluster(gpu: Gpu, options: GemmOptions, path: MmaPath, block_n: int, tiles_m: int,
             tiles_n: int) -> tuple[int, int]:
    """Return the CTAs of a cluster and the tile rows that are swept together. Raises UsageError."""
    def group_of(cluster: int) -> int:
        most = min(options.group_m, tiles_m)
        return next((g for g in range(most, 0, -1) if tiles_m % g == 0 and g % cluster == 0), 0)

    if options.cluster is None:
        shares = path.is_async and gpu.copy_engine.tma and tiles_m * tiles_n >= gpu.sm.count
        cluster = 2 if shares and group_of(2) else 1
        return cluster, group_of(cluster)
    check_positive("gemm", cluster=options.cluster)
    if options.cluster > 1 and not gpu.copy_engine.tma:
        raise UsageError(f"kernel 'gemm': option cluster must be 1 on {gpu.name}, which has no bulk copies (TMA) to "
                         f"share, got {options.cluster}")
    if not group_of(options.cluster):
        raise UsageError(f"kernel 'gemm': option cluster must divide the {tiles_m} tile rows and be at most group_m "
                         f"({options.group_m}), got {options.cluster}")
    if block_n % (8 * options.cluster):
        raise UsageError(f"kernel 'gemm': option cluster must cut the {block_n} columns of block_n into parts of a "
                         f"multiple of 8, got {options.cluster}")
    return options.cluster, group_of(options.cluster)


def _classes(steps: int, splits: int,
             stages: int) -> tuple[tuple[CtaClass, ...], tuple[tuple[str, tuple[int, ...]], ...]]:
    """Return the classes of CTAs: with splits, all but the last, and the last, which may have fewer steps."""
    if splits == 1:
        return (CtaClass("all"),), ()
    per = ceil_div(steps, splits)
    counts = {"split": per, "last split": steps - per * (splits - 1)}
    return (tuple(CtaClass(name, (("steps", n), ("ahead", _ahead(n, stages)))) for name, n in counts.items()),
            (("s", tuple([0] * (splits - 1) + [1])),))


def _ahead(steps: int, stages: int) -> int:
    return min(stages - 1, steps) if stages > 1 else 0


def _stream(role: int, roles: int, cluster: int, group: int, tiles_n: int, all_steps: int, splits: int, stages: int,
            block: Compute, outputs: int) -> tuple[Op | Loop, ...]:
    row = var("c") + var("i") * cluster + var("o") * group
    shared = cluster > 1
    steps, ahead, first = Affine(all_steps), Affine(_ahead(all_steps, stages)), Affine()
    if splits > 1:
        steps, ahead, first = var("steps"), var("ahead"), var("s") * ceil_div(all_steps, splits)

    def loads(of_split: Affine) -> tuple[Op, ...]:
        if role:
            return ()
        step = of_split + first
        part = (var("n") * all_steps + step) * cluster + var("c")
        return (Load("load A", "A", row * all_steps + step, "tiles", bulk=shared),
                Load("load B", "B", part, "tiles", bulk=shared, shared_by=cluster))

    def barrier(count: Affine) -> tuple[Op, ...]:
        return Signal("arrive", "sync"), Wait("barrier", "sync", count * roles)

    def multiply(step: Affine, prefetch: bool) -> tuple[Op, ...]:
        wait: Op = Wait("wait tiles", "tiles", (step + 1) * 2)
        if stages == 1:
            # The one buffer is free when all have multiplied, and full when the copies of the first warps arrived.
            return (*barrier(step * 2 + 1), *loads(step), wait, *barrier(step * 2 + 2), block)
        return (wait, *barrier(step + 1), *(loads(step + ahead) if prefetch else ()), block)

    tile = (row * tiles_n + var("n")) * roles + role
    body = (
        Loop("p", ahead, loads(var("p"))),
        Loop("i0", steps - ahead, multiply(var("i0"), prefetch=True)),
        Loop("i1", ahead, multiply(var("i1") + (steps - ahead), prefetch=False)),
    )
    if splits > 1:
        return *body, store_partial(tile, splits, outputs)
    return (
        *body,
        Compute("convert", lanes=((OpClass.PACK, outputs // 2),), smem_bytes=4 * outputs),
        Store("store C", "C", tile),
    )


GEMM: Schedule[GemmOptions] = Schedule("gemm", "tiled matrix product", (Gemm,), GemmOptions, build_gemm)
