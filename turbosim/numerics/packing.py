"""Codes of two or four bits in bytes.

A byte holds the codes of channels that lie d / n apart (n codes per byte), lowest channel in the lowest bits. So a
kernel that masks and shifts a whole tile of bytes gets whole slices of neighbouring channels, each a matrix operand as
it is, and no register has to be shuffled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from turbosim.errors import UsageError


def pack(codes: Tensor, bits: int, dim: int = -1) -> Tensor:
    """Pack uint8 codes along *dim*, which shrinks by 8 / bits. Raises UsageError when it does not divide."""
    per_byte = 8 // bits
    size = codes.shape[dim]
    if size % per_byte:
        raise UsageError(f"{size} channels cannot be packed {per_byte} to a byte; use a multiple of {per_byte}")
    parts = codes.chunk(per_byte, dim=dim)
    out = torch.zeros_like(parts[0])
    for number, part in enumerate(parts):
        out |= part << (bits * number)
    return out


def unpack(data: Tensor, bits: int, dim: int = -1) -> Tensor:
    """Return the uint8 codes in *data*, the inverse of :func:`pack`."""
    mask = 2**bits - 1
    return torch.cat([(data >> (bits * number)) & mask for number in range(8 // bits)], dim=dim)
