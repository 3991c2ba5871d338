"""A launch with all its values: what :mod:`turbosim.sass.description` comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from turbosim.sass.expressions import Value

BYTES = {"fp64": 8, "i64": 8, "u64": 8, "fp32": 4, "i32": 4, "u32": 4, "fp16": 2, "bf16": 2, "i16": 2, "u16": 2,
         "i8": 1, "u8": 1, "i1": 1, "fp8e4nv": 1, "fp8e5": 1, "fp8e4b15": 1}
"""Bytes of an element, by Triton's name of its type."""
_TORCH = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
          "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "i1", "float8_e4m3fn": "fp8e4nv",
          "float8_e5m2": "fp8e5"}
DTYPES = {**{name: name for name in BYTES}, **_TORCH}
"""Triton's name of a type, by that and by torch's."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor argument: Triton's name of its type, its shape, and for a tensor descriptor the shape of its blocks."""

    dtype: str
    shape: tuple[int, ...]
    block: tuple[int, ...] | None = None

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size [B]."""
        return self.elements * BYTES[self.dtype]


@dataclass(frozen=True)
class Bound:
    """A launch of a kernel, every value known."""

    kernel: str
    """FILE.py:FUNCTION, or FILE.cubin."""
    grid: tuple[int, int, int]
    arguments: Mapping[str, Buffer | Value]
    constants: Mapping[str, Value]
    options: Mapping[str, int]
    """Compiler options: *num_warps*, and others that are set."""
    flops: int
    """Useful ones; 0 if not known."""
    values: Mapping[str, Value]
    """Sizes, constants and compiler options: what settings may replace."""
    smem_bytes: int = 0
    """Dynamic shared memory of a kernel of a cubin [B per CTA]."""
