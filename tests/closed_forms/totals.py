"""The sums of a closed form, and what prefill and decode share: masks, cache blocks, exponentials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.workload import Attention

Options = Mapping[str, Any]
COUNTED = (OpClass.SFU, OpClass.CVT, OpClass.SAS)
"""Instruction classes whose counts the closed forms give: exponentials, reciprocals and conversions."""
NEWEST = {"sm_80": MmaPath.MMA_SYNC, "sm_86": MmaPath.MMA_SYNC, "sm_89": MmaPath.MMA_SYNC, "sm_90": MmaPath.WGMMA,
          "sm_100": MmaPath.TCGEN05, "sm_120": MmaPath.MMA_SYNC}
QUAD = 4
"""Threads that hold one row of an accumulator of 64 rows and four warps, and each compute its row statistics."""
NARROW = 256
"""Row statistics of an accumulator of 16 rows, whose columns four warps share: one for each thread."""


def up(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return -(-a // b)


def sector(nbytes: int) -> int:
    """Round up to 32-byte sectors."""
    return 32 * up(nbytes, 32)


def seen(shape: Attention, row: int) -> int:
    """Return the keys that query *row* sees."""
    return row + 1 + shape.seq_k - shape.seq_q if shape.causal else shape.seq_k


@dataclass
class Totals:
    """Work of a program; bytes per tensor are in whole sectors."""

    flops: int = 0
    inputs: int = 0
    """Bytes of all operands, unpadded: what has to come from device memory when the cache is cold."""
    macs: Counter[tuple[MmaPath, Dtype]] = field(default_factory=Counter)
    lanes: Counter[OpClass] = field(default_factory=Counter)
    loaded: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)

    def load(self, tensor: str, tiles: int, nbytes: int) -> None:
        """Count *tiles* loads of *nbytes*."""
        self.loaded[tensor] += tiles * sector(nbytes)

    def store(self, tensor: str, tiles: int, nbytes: int) -> None:
        """Count *tiles* stores of *nbytes*."""
        self.stored[tensor] += tiles * sector(nbytes)


def turbo_softmax(t: Totals, options: Options, exponentials: int, outputs: int, flashq: bool = True) -> None:
    """Count exponentials; ``i2f`` converts every INT32 score and output."""
    if not options.get("sas", True):
        t.lanes[OpClass.SFU] += exponentials
    elif options.get("sas_variant", "exponent") == "naive":
        t.lanes[OpClass.CVT] += 2 * exponentials
    elif options.get("sas_variant") == "unit":
        t.lanes[OpClass.SAS] += exponentials
    if flashq and options.get("convert") == "i2f":
        t.lanes[OpClass.CVT] += exponentials + outputs


def heads_of_bits(shape: Attention, options: Options) -> dict[int, int]:
    """Return KV heads per code width, those in use."""
    two = {"4": 0, "2": shape.kv_heads}.get(options.get("bits", "mixed"), options.get("two_bit_heads"))
    two = shape.kv_heads // 2 if two is None else two
    return {bits: heads for bits, heads in ((4, shape.kv_heads - two), (2, two)) if heads}


def turbo_block(bits: int, d: int) -> int:
    """Codes of 64 tokens, an INT8 scale and an INT8 zero point per channel, an FP16 scale."""
    return 64 * d * bits // 8 + d + d + 2


def kivi_items(bits: int, d: int) -> dict[str, int]:
    """Codes of 64 tokens, an FP16 scale and an FP16 minimum per 64 of them."""
    return {"codes": 64 * d * bits // 8, "scales": 2 * d, "minima": 2 * d}
