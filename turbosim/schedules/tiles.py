"""What the schedules share: tile arithmetic, register estimates, and the cost of tensor-core operand traffic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Dtype, Gpu, MmaPath
from turbosim.program.ops import Compute, Mma

WARP_GROUP = 4
"""Warps of one role: one per scheduler."""
THREADS = 32 * WARP_GROUP
PIECES = 16
"""Parts in which the blocks of a tile are served by default. Hardware alternates between warps at every instruction, of
which a product has some hundred for each warp. More parts than this change times by less than 7 % and simulate slower
(``pytest -k test_pieces_settle``)."""
BASE_REGISTERS = 48
"""Registers for addresses, row statistics, operand fragments and loop state, beside the accumulators. An estimate."""


def ceil_div(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return -(-a // b)


def groups_of(kernel: str, warps: int) -> int:
    """Return the number of warp groups. Raises UsageError when warps do not divide."""
    if warps % WARP_GROUP or warps < WARP_GROUP:
        raise UsageError(f"kernel {kernel!r}: warps must be a positive multiple of {WARP_GROUP}, got {warps}")
    return warps // WARP_GROUP


def roles_of(kernel: str, warps: int, block_m: int) -> int:
    """Return the number of warp groups, which share the rows. Raises UsageError when warps or rows do not divide."""
    roles = groups_of(kernel, warps)
    if block_m % (roles * 16 * WARP_GROUP):
        raise UsageError(
            f"kernel {kernel!r}: block_m must be a multiple of 64 rows per warp group, got {block_m} for {roles}")
    return roles


def check_positive(kernel: str, **options: int) -> None:
    """Raise UsageError for an option below 1."""
    for name, value in options.items():
        if value < 1:
            raise UsageError(f"kernel {kernel!r}: option {name} must be at least 1, got {value}")


def check_multiple(kernel: str, multiple: int, **options: int) -> None:
    """Raise UsageError for an option that is no positive multiple."""
    for name, value in options.items():
        if value < 1 or value % multiple:
            raise UsageError(f"kernel {kernel!r}: option {name} must be a positive multiple of {multiple}, got {value}")


def best_path(gpu: Gpu, dtype: Dtype, rows: int, kernel: str = "", wanted: str = "auto") -> MmaPath:
    """Return the instruction path *wanted* for a tile of *rows* per warp group; ``auto`` is the newest that can.

    Asynchronous paths need 64 rows per warp group. Raises UsageError when the tensor cores lack *dtype*, or the path
    wanted does.
    """
    newest = gpu.mma_path(dtype)
    if newest is None:
        raise UsageError(f"{gpu.name} has no {dtype.value} tensor cores")
    if wanted == "auto":
        return newest if rows >= 64 or not newest.is_async else MmaPath.MMA_SYNC
    paths = [p.value for p in MmaPath if p in gpu.tensor and dtype in gpu.tensor[p].rates]
    if wanted not in paths:
        raise UsageError(f"kernel {kernel!r}: option path on {gpu.name} in {dtype.value} must be one of "
                         f"{', '.join(['auto', *paths])}, got {wanted!r}{did_you_mean(wanted, paths)}")
    path = MmaPath(wanted)
    if path.is_async and rows < 64:
        raise UsageError(f"kernel {kernel!r}: path {wanted} needs 64 rows per warp group, got {rows}; "
                         "use fewer warps or a larger block_m")
    return path


def accumulator_registers(*tiles: tuple[int, int]) -> int:
    """Registers per thread of a role for 32-bit accumulator tiles (rows, columns) and everything else."""
    return sum(ceil_div(rows * columns, THREADS) for rows, columns in tiles) + BASE_REGISTERS


def product(label: str, rows: int, n: int, k: int, dtype: Dtype, path: MmaPath, *,
            a_in_smem: bool) -> tuple[Compute, ...]:
    """Return the tile product of one warp group, with its shared-memory operand reads.

    ``mma.sync``: each of the four warps owns rows/4 rows and reads the whole B tile through LDSM. The operands of one
    step of k are fetched during the products of the one before, so that those of the first are waited for. ``wgmma``
    and ``tcgen05`` read B once per warp group, themselves. A comes from registers unless *a_in_smem*.
    """
    width = _width(dtype)
    b_reads = 1 if path.is_async else WARP_GROUP
    smem = b_reads * n * k * width + (rows * k * width if a_in_smem else 0)
    mma = Mma(rows, n, k, dtype, path)
    if path.is_async:
        return (Compute(label, mma=mma, smem_bytes=smem),)
    first = smem // steps_of(mma)
    return Compute(f"{label} operands", smem_bytes=first), Compute(label, mma=mma, smem_bytes=smem - first)


def _width(dtype: Dtype) -> int:
    """Return the bytes of an operand."""
    return {Dtype.INT8: 1, Dtype.FP8: 1}.get(dtype, 2)


def steps_of(mma: Mma) -> int:
    """Return the steps of k, of 32 bytes each, as HMMA.16816, IMMA.16832 and wgmma take."""
    return max(1, mma.k * _width(mma.dtype) // 32)


def in_pieces(blocks: Iterable[Compute], pieces: int) -> tuple[Compute, ...]:
    """Return blocks that are served in *pieces* parts, so that the warps of other warp groups come in between.

    An asynchronous instruction is never divided: it does a whole step of k.
    """
    return tuple(replace(b, pieces=min(pieces, steps_of(b.mma)) if b.mma and b.mma.path.is_async else pieces)
                 for b in blocks)


def rows_per_thread(rows: int) -> int:
    """Rows of a score tile a thread holds in the m16n8 accumulator layout: two per 16 rows of its warp.

    The warps of a group share the rows; where there are fewer than 16 for each, they share the columns.
    """
    return max(2, ceil_div(rows, 8 * WARP_GROUP))


def split_count(tiles: int, slots: int, blocks: int, most: int = 128) -> int:
    """Return FlashAttention-2's number of KV splits.

    One if *tiles* CTAs fill 80 % of the *slots*; else the smallest number within 85 % of the best wave efficiency,
    over at most *blocks* splits. Source: Dao-AILab/flash-attention, ``num_splits_heuristic``.
    """
    if tiles >= 0.8 * slots:
        return 1
    best = 0.0
    efficiency = {}
    for splits in range(1, min(most, slots, blocks) + 1):
        if splits > 1 and ceil_div(blocks, splits) == ceil_div(blocks, splits - 1):
            continue
        waves = tiles * splits / slots
        efficiency[splits] = waves / ceil_div(tiles * splits, slots)
        best = max(best, efficiency[splits])
    return next(s for s, e in efficiency.items() if e >= 0.85 * best)
