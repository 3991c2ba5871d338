"""Matrix products: their shape, and which rate of the GPU file their share of the peak is counted by."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from turbosim.errors import ConfigError
from turbosim.hw.names import Dtype, MmaPath
from turbosim.hw.spec import Gpu
from turbosim.sass.tables import merged, table_of
from turbosim.sass.tensor_memory import tile_of

SHAPES = {"16816": (16, 8, 16), "1688": (16, 8, 8), "1684": (16, 8, 4), "16832": (16, 8, 32), "16864": (16, 8, 64),
          "168128": (16, 8, 128), "8816": (8, 8, 16), "8832": (8, 8, 32)}
"""Of ``mma.sync``, by modifier."""
_GROUP = re.compile(r"(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True)
class Served:
    """How a GPU's tensor cores serve an instruction."""

    path: MmaPath
    dtype: Dtype
    """A type that the GPU file has a rate of: the operands', or the one whose rate is taken for it."""
    scale: float
    """Multiply-accumulates of *dtype* that one of the instruction's costs."""
    rate: float
    """Of *dtype*, all tensor cores of an SM [MAC/clk]."""
    assumed: str
    """What is taken for a rate that the GPU file does not have, in words, or empty."""


@dataclass(frozen=True)
class Product:
    """A matrix product (m, k) x (k, n), of a warp, of a warp group, or of an SM, by its path."""

    m: int
    n: int
    k: int
    served: Served

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one warp that issues it: a group's are of its four warps together."""
        return self.m * self.n * self.k // (4 if self.served.path is MmaPath.WGMMA else 1)

    @property
    def peak_cycles(self) -> float:
        """Cycles that all tensor cores of an SM would take for :attr:`macs` at the peak of their operands' type."""
        return self.macs * self.served.scale / self.served.rate


def served(opcode: str, fields: Mapping[str, Any], gpu: Gpu) -> Served:
    """Return how *gpu* serves *opcode*, whose table entries say *fields*. Raises ConfigError without its path."""
    path, dtype, scale = MmaPath(fields["mma"]), Dtype(fields["dtype"]), float(fields.get("scale", 1.0))
    unit = gpu.tensor.get(path)
    if unit is None:
        raise ConfigError(f"{gpu.name}: tensor.{path}: missing, but {opcode} needs its rates")
    if dtype in unit.rates:
        return Served(path, dtype, scale, unit.rates[dtype], "")
    # Every path has one type at least; the slowest has the rate that no other type falls below.
    stand_in = Dtype.FP16 if Dtype.FP16 in unit.rates else min(unit.rates, key=lambda d: unit.rates[d])
    half = dtype is Dtype.TF32 and stand_in is Dtype.FP16
    taken = f"{'half ' if half else ''}that of {stand_in} is taken"
    return Served(path, stand_in, 2 * scale if half else scale, unit.rates[stand_in],
                  f"{gpu.name} has no rate of {dtype} on {path}: {taken}")


def product_of(opcode: str, gpu: Gpu) -> Product | None:
    """Return the product that *opcode* is on *gpu*; None for other opcodes, and where the shape is not in it."""
    shape = shape_of(opcode)
    fields = _fields(opcode, gpu.arch) if shape else {}
    return Product(*shape, served(opcode, fields, gpu)) if shape and "mma" in fields else None


@lru_cache(maxsize=1 << 10)
def _fields(opcode: str, arch: str) -> dict[str, Any]:
    return merged(opcode, table_of(arch).entries)


@lru_cache(maxsize=1 << 12)
def shape_of(opcode: str) -> tuple[int, int, int] | None:
    """Return rows, columns and depth of a product by its opcode; None if the opcode does not have them."""
    name, *modifiers = opcode.split(".")
    if name.startswith("UTC"):
        return tile_of(opcode)
    if not re.fullmatch(r"[HIOQ]G?MMA", name):
        return None
    for modifier in modifiers:
        if modifier in SHAPES:
            return SHAPES[modifier]
        if group := _GROUP.fullmatch(modifier):
            return int(group[1]), int(group[2]), int(group[3])
    return None


def macs_of(opcode: str) -> int | None:
    """Return the multiply-accumulates whose time the tensor cores take; None if the opcode has no shape."""
    shape = shape_of(opcode)
    if shape is None:
        return None
    # Fewer than 128 rows leave a part of tensor memory's lanes idle: half the rate for 64 [hardware facts B].
    return math.prod((max(shape[0], 128), *shape[1:])) if opcode.startswith("UTC") else math.prod(shape)
