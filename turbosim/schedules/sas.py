"""Instruction counts of SAS, FlashQ and their variants, per score or output element.

SAS (TurboAttention, MLSys 2025, section 4) computes e^-y as T[floor(y)] * cubic(y - floor(y)), zero beyond a threshold.
Packed FP16 instructions handle two elements, so they count one half per element. The variants differ in how floor and
T are done:

``exponent``  y is pre-multiplied by log2(e) in the scaling FFMA; adding and subtracting a magic constant splits it
              (3 packed), clamp and compare (2), cubic (3); T is a power of two, put in by shifting the integer part to
              the exponent and subtracting (2 integer per pair), the threshold mask by one AND.
``table``     the same split, clamp and compare (6 packed, as rounding down takes one more), cubic (3), product with T
              (1); T's eight FP16 entries live in four registers and are picked by byte permutes (7 integer per pair:
              three to make the selector, three permutes, the threshold mask).
``naive``     as written in tensor code: floor by F2I and back by I2F, T by a chain of seven selects and a compare.
``unit``      a hardware unit does one exponential per lane.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.hw.spec import OpClass

VARIANTS = ("exponent", "table", "naive", "unit")
CONVERSIONS = ("magic", "i2f")

Lanes = tuple[tuple[OpClass, int], ...]


@dataclass(frozen=True, slots=True)
class PerElement:
    """Thread-level instructions per element."""

    fp32: float = 0.0
    fp16x2: float = 0.0
    integer: float = 0.0
    imad: float = 0.0
    sfu: float = 0.0
    cvt: float = 0.0
    pack: float = 0.0
    sas: float = 0.0

    def __add__(self, other: PerElement) -> PerElement:
        return PerElement(self.fp32 + other.fp32, self.fp16x2 + other.fp16x2, self.integer + other.integer,
                          self.imad + other.imad, self.sfu + other.sfu, self.cvt + other.cvt, self.pack + other.pack,
                          self.sas + other.sas)

    def lanes(self, elements: int) -> Lanes:
        """Return whole instruction counts for *elements*."""
        counts = ((OpClass.FP32, self.fp32), (OpClass.FP16X2, self.fp16x2), (OpClass.INT, self.integer),
                  (OpClass.IMAD, self.imad), (OpClass.SFU, self.sfu), (OpClass.CVT, self.cvt),
                  (OpClass.PACK, self.pack), (OpClass.SAS, self.sas))
        return tuple((c, -int(-n * elements // 1)) for c, n in counts if n)


def joined(*parts: Lanes) -> Lanes:
    """Return the sum of instruction counts, each class once."""
    counts: dict[OpClass, int] = {}
    for op_class, n in (pair for part in parts for pair in part):
        counts[op_class] = counts.get(op_class, 0) + n
    return tuple(counts.items())


EXPONENTIAL: dict[str, PerElement] = {
    "exponent": PerElement(fp16x2=8 / 2, integer=3 / 2),
    "table": PerElement(fp16x2=10 / 2, integer=7 / 2),
    "naive": PerElement(fp16x2=5 / 2, integer=8, cvt=2),
    "unit": PerElement(sas=1),
}
"""e^-y of packed FP16 input."""

MAGIC_DEPTH = 256
"""Largest depth of an INT8 product whose sum stays below 2**22: 127 * 119 * 256 = 3.87e6."""

SCALE_SCORES: dict[str, PerElement] = {
    # The accumulator starts at the bits of 1.5 * 2**23, so that its bits read as FP32 are value + constant, exact
    # below 2**22 (|QK^T| <= 119 * 119 * 128); one FFMA scales and removes both the constant and the row maximum.
    "magic": PerElement(fp32=1),
    "i2f": PerElement(fp32=1, cvt=1),
}
"""INT32 score to FP32, scaled, minus the row maximum."""

ACCUMULATE: dict[str, PerElement] = {
    "magic": PerElement(fp32=2),
    "i2f": PerElement(fp32=2, cvt=1),
}
"""O = alpha * O + scale * INT32 product, in FP32, for every output element and tile."""

PACK_SCORES = PerElement(pack=1 / 2)
"""Two FP32 scores to one packed pair."""

ROW_SUM_FP16 = PerElement(fp16x2=1 / 2)

TILE_MAX_FP16 = PerElement(fp16x2=1 / 2)
"""Maximum of P over the tile, within a thread."""

TILE_MAX_FP32 = PerElement(integer=1)
"""The same on FP32 values (FMNMX)."""

WEIGH_ROWS: dict[str, PerElement] = {
    # The last multiplication is the magic constant times the output's scale, which differs by row.
    "magic": PerElement(fp32=4, integer=3),
    "i2f": PerElement(fp32=3, integer=3),
}
"""Per row and thread, where P is relative to the row's maximum within the tile: the row sum and the output's scale
times the tile's weight, and a product that keeps rounding from leaving a score above 0. Tile and what came before share
the one exponential that every variant takes, since the larger of their weights is 1: a compare and two selects."""

MAGIC_AFTER = PerElement(imad=1)
"""Per accumulator of an asynchronous product: ``wgmma`` and ``tcgen05`` start from zero and accumulate in place, where
``mma.sync`` takes its start from any registers, so the constant is added afterwards (IMAD.IADD)."""

QUANTISE_P_FP16 = PerElement(fp16x2=1 / 2, integer=3 / 4)
"""One HFMA2 scales two and rounds by a magic constant, then four bytes are gathered by two permutes and a merge."""

QUANTISE_P_FP32 = PerElement(fp32=1, integer=3 / 4)
"""The same with an FFMA each."""

EXP_FP32 = PerElement(fp32=1, sfu=1)
"""MUFU.EX2 and the row sum; the scaling FFMA is counted with the scores."""

UNPACK: dict[int, PerElement] = {
    # Mask and shift work on whole words: eight (sixteen) codes to bytes in three (seven) instructions.
    4: PerElement(integer=3 / 8),
    2: PerElement(integer=7 / 16),
}
"""Packed codes to bytes."""

DEQUANT_K = PerElement(imad=1, integer=3 / 4)
"""q * s + z per element, since the bytes of a register are four channels, then gathering four bytes again."""

DEQUANT_V: dict[str, PerElement] = {
    "element": DEQUANT_K,
    # The bytes of a register are four tokens of one channel. 0 <= q * s + (z + 128) <= 255 by the protective range, so
    # no byte carries into the next: one IMAD does four, and one LOP3 turns the offset back into a sign.
    "packed": PerElement(imad=1 / 4, integer=1 / 4),
}

WIDEN_TO_4 = PerElement(integer=3 / 16)
"""2-bit codes to INT4: a shift and two masks make two registers of eight codes from one of sixteen."""

FOLD_INTO_QUERY = PerElement(imad=2, integer=1 + 3 / 4)
"""q * s rounded to eight bits by a second IMAD, split into nibbles and packed; q * z is summed by the first."""

SPLIT_NIBBLES = PerElement(integer=1 / 2)
"""Eight INT8 values to two registers of nibbles: a mask, a shift and a merge for each."""

QUANTISE_STAGE2 = PerElement(integer=2 + 1 / 2, imad=2)
"""Minimum and maximum over tokens, subtract and multiply with rounding, pack."""

QUANTISE_STAGE1 = PerElement(fp16x2=1 / 2 + 1 / 2, integer=3 / 4)
"""Maximum, scale, round, pack to INT8."""
