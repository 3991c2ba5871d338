"""Instruction counts of the FP32 online softmax, per warp group and score tile.

Per score: one FMNMX for the row maximum, one FFMA that scales and subtracts it, one MUFU.EX2, one FADD for the row sum,
half an F2FP that packs P. Per row and thread: two shuffles across the quad that shares a row, one MUFU.EX2 for the
rescale factor. Per output element: one FMUL that rescales the running output. FlashAttention-2 sums rows across threads
only once, at the end. Loop control, addresses and barriers are put at 20 integer instructions a thread.
"""

from __future__ import annotations

from turbosim.hw.spec import OpClass
from turbosim.program.ops import Compute
from turbosim.schedules.tiles import THREADS, rows_per_thread

LOOP_OVERHEAD = 20 * THREADS


def mask(rows: int, columns: int) -> Compute:
    """Compare and select per score of a tile that crosses the diagonal."""
    return Compute("mask", lanes=((OpClass.INT, 2 * rows * columns),))


def row_max(rows: int, columns: int) -> Compute:
    """Row maximum within the thread, then across the quad."""
    shuffles = 2 * rows_per_thread(rows) * THREADS
    return Compute(
        "row max", lanes=((OpClass.INT, rows * columns + LOOP_OVERHEAD), (OpClass.SHUFFLE, shuffles)),
        chain=((OpClass.SHUFFLE, 2), (OpClass.INT, 2)))


def exponentials(rows: int, columns: int, packed: bool = True) -> Compute:
    """Scale, exponential, row sum, and unless P is *packed* later, packing to FP16."""
    scores = rows * columns
    packing = ((OpClass.PACK, scores // 2),) if packed else ()
    return Compute(
        "exp", lanes=((OpClass.FP32, 2 * scores), (OpClass.SFU, scores + rows_per_thread(rows) * THREADS), *packing))


def pack(rows: int, columns: int, smem_bytes: int = 0) -> Compute:
    """Packing of P, two scores an instruction, and where it goes through shared memory, its bytes written."""
    return Compute("pack P", lanes=((OpClass.PACK, rows * columns // 2),), smem_bytes=smem_bytes)


def rescale(rows: int, head_dim: int) -> Compute:
    """Multiply the running output by the change of the maximum."""
    return Compute("rescale O", lanes=((OpClass.FP32, rows * head_dim),))


def normalise(rows: int, head_dim: int) -> Compute:
    """Divide by the row sum, convert, and stage the tile through shared memory."""
    outputs = rows * head_dim
    return Compute(
        "normalise", lanes=((OpClass.FP32, outputs), (OpClass.SFU, rows_per_thread(rows) * THREADS),
                            (OpClass.PACK, outputs // 2), (OpClass.SHUFFLE, 2 * rows_per_thread(rows) * THREADS)),
        smem_bytes=2 * outputs * 2, chain=((OpClass.SHUFFLE, 2), (OpClass.SFU, 1)))
