"""Tensor maps: the 128 bytes that say to the copy engine (TMA) which tensor it moves boxes of.

The layout was found by compiling ``tensormap.replace`` for every field, whose arguments the PTX ISA manual lists.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

NBYTES = 128
MOST_DIMENSIONS = 5
ELEMENT_BYTES = (1, 2, 4, 4, 8, 8, 2, 4, 4, 8, 2, 4, 4)
"""By number of the element type: u8, u16, u32, s32, u64, s64, f16, f32, f32.ftz, f64, bf16, tf32, tf32.ftz."""
STRIDE_UNIT = 16
"""Bytes that strides are counted in."""
PIECE = 32
"""Most bytes of a row that :meth:`TensorMap.pieces` keeps together: those of a sector."""


@dataclass(frozen=True)
class TensorMap:
    """A tensor in global memory and the box that one copy moves; dimensions from the innermost, which is dense."""

    address: int
    shape: tuple[int, ...]
    """Elements."""
    strides: tuple[int, ...]
    """Of every dimension but the innermost [byte], multiples of 16."""
    box: tuple[int, ...]
    """Elements."""
    element_bytes: int

    @property
    def box_bytes(self) -> int:
        """Bytes of a box."""
        return int(np.prod(self.box)) * self.element_bytes

    def encode(self) -> bytes:
        """Return the 128 bytes, without what says how a box lies in shared memory."""
        words = [0] * (NBYTES // 4)
        words[0:2] = self.address & 0xFFFFFFFF, self.address >> 32
        words[2] = len(self.shape) - 1 << 4 | ELEMENT_BYTES.index(self.element_bytes) << 7
        for n, stride in enumerate(self.strides):
            words[3 + n] = stride // STRIDE_UNIT & 0xFFFFFFFF
            words[7] |= (stride // STRIDE_UNIT >> 32) << 4 * n
        for n, (size, side) in enumerate(zip(self.shape, self.box, strict=True)):
            words[8 + n] = size - 1
            words[13 if n == 0 else 14] |= side - 1 << (24 if n == 0 else 8 * (n - 1))
        return struct.pack("<32I", *words)

    def pieces(self, at: tuple[int, ...]) -> tuple[npt.NDArray[np.uint64], int]:
        """Return the first bytes of the parts of the box at *at* that are inside the tensor, and bytes of each part.

        Coordinates are elements and may be negative. Parts are at most a sector long.
        """
        first, last = max(0, at[0]), min(self.shape[0], at[0] + self.box[0])
        nbytes = (last - first) * self.element_bytes
        if nbytes <= 0:
            return np.empty(0, np.uint64), 0
        each = int(np.gcd(nbytes, PIECE))
        places = self.address + first * self.element_bytes + np.arange(0, nbytes, each)
        for start, size, side, stride in zip(at[1:], self.shape[1:], self.box[1:], self.strides, strict=True):
            inside = np.arange(max(0, start), min(size, start + side))
            places = (inside[:, None] * stride + places[None, :]).ravel()
        return places.astype(np.uint64), each


@lru_cache(maxsize=1 << 10)
def decode(data: bytes) -> TensorMap | None:
    """Return the tensor map that *data* holds; None where it is of a form that is not known."""
    words = struct.unpack("<32I", data)
    rank, element, steps = (words[2] >> 4 & 7) + 1, words[2] >> 7 & 15, words[13] & 0x7FFF
    # Element strides above 1, and elements of less than a byte.
    if rank > MOST_DIMENSIONS or element >= len(ELEMENT_BYTES) or steps:
        return None
    box = (words[13] >> 24, *(words[14] >> 8 * n & 255 for n in range(rank - 1)))
    strides = tuple((words[3 + n] | (words[7] >> 4 * n & 15) << 32) * STRIDE_UNIT for n in range(rank - 1))
    return TensorMap(words[0] | words[1] << 32, tuple(words[8 + n] + 1 for n in range(rank)), strides,
                     tuple(side + 1 for side in box), ELEMENT_BYTES[element])
