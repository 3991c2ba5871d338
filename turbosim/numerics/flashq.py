"""FlashQ's blockwise progressive quantisation: FP16 to INT8 per block, INT8 to INT4 or INT2 per channel of a block.

Source: TurboAttention (MLSys 2025), section 3. Two choices the paper leaves open are made here. The zero point is the
channel's minimum, so that ``code * scale + zero`` decodes (the printed formulas mix two conventions, and the other one
overflows INT8 at two bits). The integer scale is rounded up, so that the largest value is never clipped.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from turbosim.errors import UsageError

INT8_RANGE = 119
"""Largest stage-1 code: leaves room for ``code * scale + zero`` to stay inside INT8 (QServe's protective range)."""
BITS = (2, 4)


class Int8Block(NamedTuple):
    """Stage 1: ``codes * scale``."""

    codes: Tensor
    """int8, shape of the input."""
    scale: Tensor
    """float16, one per block: shape of the input without its last two dimensions."""


class PackedChannels(NamedTuple):
    """Stage 2 of blocks of shape (..., tokens, channels): ``codes * scale + zero`` is the stage-1 code."""

    codes: Tensor
    """uint8 in [0, 2**bits), (..., tokens, channels)."""
    scale: Tensor
    """int8 > 0, (..., channels)."""
    zero: Tensor
    """int8, (..., channels)."""


def quantise_int8(x: Tensor, scale: Tensor | None = None) -> Int8Block:
    """Quantise blocks of shape (..., rows, channels) symmetrically with one scale each.

    *scale* (float16, shape (...)) replaces max|x| / 119, rounded to float16; values beyond 119 scales are then clamped,
    as in FlashQ's decode buffer. A block of zeros has scale 0 and codes 0.
    """
    if scale is None:
        scale = (x.float().abs().amax(dim=(-2, -1)) / INT8_RANGE).half()
    wide = scale.float()[..., None, None]
    inverse = torch.where(wide > 0, 1 / wide, torch.zeros_like(wide))
    codes = torch.clamp(torch.round(x.float() * inverse), -INT8_RANGE, INT8_RANGE)
    return Int8Block(codes.to(torch.int8), scale)


def dequantise_int8(block: Int8Block) -> Tensor:
    """Return float32 values."""
    return block.codes.float() * block.scale.float()[..., None, None]


def compress(codes: Tensor, bits: int) -> PackedChannels:
    """Quantise stage-1 codes (int8, (..., tokens, channels)) to *bits* per value, asymmetrically per channel.

    The error is at most scale / 2, with scale = ceil((max - min) / (2**bits - 1)); a constant channel is exact. Ties go
    to even codes: rounded up they would shift every channel of even scale by half a unit, an error that, unlike noise,
    attention over many tokens does not average out. Raises UsageError unless *bits* is 2 or 4.
    """
    if bits not in BITS:
        raise UsageError(f"FlashQ caches have 2 or 4 bits, got {bits}")
    wide = codes.to(torch.int32)
    low, high = wide.amin(dim=-2), wide.amax(dim=-2)
    top = 2**bits - 1
    scale = torch.clamp((high - low + top - 1) // top, min=1)
    packed = torch.clamp(torch.round((wide - low[..., None, :]) / scale[..., None, :]), 0, top)
    return PackedChannels(packed.to(torch.uint8), scale.to(torch.int8), low.to(torch.int8))


def decompress(packed: PackedChannels) -> Tensor:
    """Return stage-1 codes (int8, (..., tokens, channels))."""
    wide = packed.codes.to(torch.int32) * packed.scale.to(torch.int32)[..., None, :]
    return (wide + packed.zero.to(torch.int32)[..., None, :]).to(torch.int8)
