"""What ``flash3`` does in its loop: tile sizes, bytes, and the blocks of products and softmax of a warp group."""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.hw.spec import Dtype, MmaPath
from turbosim.program.ops import Compute
from turbosim.program.program import Scheduler
from turbosim.schedules import softmax
from turbosim.schedules.prefill import key_tiles_of
from turbosim.schedules.tiles import ceil_div, in_pieces, product
from turbosim.workload import Attention

ROWS = 64
"""Query rows of a consumer warp group: the M of ``wgmma``."""
SECTION = 32 * 1024 * 1024
"""Bytes of K and V of the heads whose causal tiles of work are dealt out together."""


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
    paged: bool = False
    """Whether K and V come from pages smaller than a tile."""
    packed: int = 1
    """Query heads of a KV head that share a query tile."""

    @property
    def width(self) -> int:
        """Bytes of an operand's element."""
        return 1 if self.dtype is Dtype.FP8 else 2

    @property
    def query_tiles(self) -> int:
        """Query tiles per head, or per group of heads that share them."""
        return ceil_div(self.shape.seq_q * self.packed, self.tiling.block_m)

    @property
    def groups_of_heads(self) -> int:
        """Groups of query heads of a KV head that have query tiles of their own."""
        return self.shape.group // self.packed

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

    def trips(self, tile: int) -> tuple[int, int]:
        """Return (KV tiles, those of them that are masked) of query tile *tile*.

        The last KV tile, with which the kernel begins, is always masked, for keys beyond the sequence.
        """
        total, masked = key_tiles_of(self.shape, self.tiling.block_m, self.tiling.block_n, tile, self.packed)
        return total, max(1, masked)

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
        (block,) = product(label, ROWS, n, k, self.dtype, MmaPath.WGMMA, a_in_smem=a_in_smem)
        return Compute(block.label, mma=block.mma, smem_bytes=block.smem_bytes, signal=signal)

    def softmax(self, masked: bool) -> tuple[Compute, ...]:
        """Return mask, row maximum and exponentials of a warp group and tile."""
        n = self.tiling.block_n
        steps = (softmax.row_max(ROWS, n), softmax.exponentials(ROWS, n, packed=False))
        served = in_pieces(steps, self.pieces)
        return (softmax.mask(ROWS, n), *served) if masked else served

    def pack(self) -> Compute:
        """Return the packing of P."""
        n = self.tiling.block_n
        return softmax.pack(ROWS, n, ROWS * n * self.width if self.tiling.p_smem else 0)
