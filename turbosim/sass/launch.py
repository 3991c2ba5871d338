"""A kernel launch as the code sees it: arguments, constant bank, special registers."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from turbosim.errors import UsageError
from turbosim.sass.cubin import Kernel, Parameter
from turbosim.sass.semantics import LANES, LOW
from turbosim.sass.tensor_map import MOST_DIMENSIONS, NBYTES, STRIDE_UNIT, TensorMap

SPACING = 1 << 40
"""Distance between the addresses of tensors [byte]."""


@dataclass(frozen=True)
class Tensor:
    """A pointer argument to *nbytes* of global memory. Arguments of one name are one tensor."""

    name: str
    nbytes: int
    data: bytes | None = field(default=None, repr=False)
    """Contents, where trip counts or addresses depend on them."""


@dataclass(frozen=True)
class Tiles:
    """A tensor descriptor that the host makes of a tensor whose rows are dense and follow each other."""

    tensor: Tensor
    element_bytes: int
    shape: tuple[int, ...]
    """Elements, of the innermost dimension last."""
    box: tuple[int, ...]
    """What one copy moves [elements]."""

    def encode(self, address: int) -> bytes:
        """Return the tensor map of the tensor at *address*."""
        shape = self.shape[::-1]
        strides: list[int] = []
        for size in shape[:-1]:
            strides.append((strides[-1] if strides else self.element_bytes) * size)
        return TensorMap(address, shape, tuple(strides), self.box[::-1], self.element_bytes).encode()


@dataclass(frozen=True)
class Launch:
    """A grid of CTAs, and what they are given.

    Raises UsageError for a grid or number of warps below 1, for tensors of one name and different sizes, and for tensor
    descriptors that TMA does not have.
    """

    grid: tuple[int, int, int]
    warps: int
    """Per CTA."""
    arguments: tuple[Tensor | Tiles | int | float, ...]
    """In the order of the kernel's parameters; pointers at the end that the compiler added are 0 if left out."""
    smem_bytes: int = 0
    """Dynamic shared memory per CTA, in addition to the kernel's own."""
    addresses: dict[str, int] = field(init=False, compare=False)
    """First byte of each tensor, by name: multiples of 2**40."""

    def __post_init__(self) -> None:
        if len(self.grid) != 3 or min(self.grid) < 1:
            raise UsageError(f"launch: grid must be three numbers of at least 1, got {self.grid}")
        if not 1 <= self.warps <= 32:
            raise UsageError(f"launch: warps per CTA must be 1 to 32, got {self.warps}")
        tensors: dict[str, Tensor] = {}
        for argument in self.arguments:
            if isinstance(argument, Tiles):
                _check(argument)
                argument = argument.tensor
            if isinstance(argument, Tensor):
                if tensors.setdefault(argument.name, argument) != argument:
                    raise UsageError(f"launch: two tensors are called {argument.name!r}, of {argument.nbytes} and "
                                     f"{tensors[argument.name].nbytes} bytes, or of different data: give them "
                                     "different names")
                if argument.data is not None and len(argument.data) != argument.nbytes:
                    raise UsageError(f"launch: tensor {argument.name!r} has {argument.nbytes} bytes, its data "
                                     f"{len(argument.data)}")
                if not 0 < argument.nbytes <= SPACING:
                    raise UsageError(f"launch: tensor {argument.name!r} must have 1 to 2**40 bytes, got "
                                     f"{argument.nbytes}")
        object.__setattr__(self, "addresses", {name: (1 + n) * SPACING for n, name in enumerate(tensors)})

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Tensors among the arguments, once or more often."""
        return tuple(a.tensor if isinstance(a, Tiles) else a for a in self.arguments if isinstance(a, Tensor | Tiles))

    def contents(self, kernel: Kernel) -> dict[int, bytes]:
        """Return what is known of memory, by the address divided by SPACING: tensors, and tensor maps in parameters."""
        found = {self.addresses[a.name] // SPACING: a.data for a in self.tensors if a.data is not None}
        if any(isinstance(a, Tiles) for a in self.arguments):
            found[self._parameters // SPACING] = self._area(kernel)
        return found

    @property
    def _parameters(self) -> int:
        """Address of the parameters in memory, where the copy engine reads tensor maps."""
        return (1 + len(self.addresses)) * SPACING

    def constants(self, kernel: Kernel) -> dict[int, int]:
        """Return the known words of constant bank 0 by byte offset.

        Raises UsageError when the arguments or the warps are not those the kernel was compiled for.
        """
        area = self._area(kernel)
        words = {kernel.parameter_base + 4 * n: w for n, (w,) in enumerate(struct.iter_unpack("<I", area))}
        return words | self._system(kernel)

    def _area(self, kernel: Kernel) -> bytes:
        where = f"kernel {kernel.name!r}"
        if kernel.threads is not None and kernel.threads != LANES * self.warps:
            raise UsageError(f"{where}: was compiled for {kernel.threads // LANES} warps, the launch has {self.warps}")
        given, wanted = len(self.arguments), len(kernel.parameters)
        added = kernel.parameters[given:]
        if given > wanted or len(added) > 2 or any(p.size != 8 for p in added):
            raise UsageError(f"{where}: has {wanted} parameters, of which two pointers at the end may be left out; "
                             f"the launch has {given}")
        area = bytearray(max((p.offset + p.size for p in kernel.parameters), default=0) + 3 & ~3)
        for number, (parameter, argument) in enumerate(zip(kernel.parameters, self.arguments, strict=False)):
            area[parameter.offset:parameter.offset + parameter.size] = self._packed(
                f"{where}, parameter {number}", parameter, argument)
        return bytes(area)

    def _packed(self, where: str, parameter: Parameter, argument: Tensor | Tiles | float) -> bytes:
        size = parameter.size
        if (size == NBYTES) != isinstance(argument, Tiles):
            kinds = "tensor descriptor", f"parameter of {size} bytes"
            raise UsageError(f"{where}: is a {kinds[size != NBYTES]}, got {_seen(argument)}")
        if isinstance(argument, Tiles):
            return argument.encode(self.addresses[argument.tensor.name])
        if isinstance(argument, Tensor):
            if size != 8:
                raise UsageError(f"{where}: is a scalar of {size} bytes, got tensor {argument.name!r}")
            return struct.pack("<Q", self.addresses[argument.name])
        if isinstance(argument, int):
            if not -(1 << 8 * size - 1) <= argument < 1 << 8 * size:
                raise UsageError(f"{where}: has {size} bytes, which cannot hold {argument}")
            return (argument & (1 << 8 * size) - 1).to_bytes(size, "little")
        if size not in (4, 8):
            raise UsageError(f"{where}: is an integer of {size} bytes, got {argument}")
        return struct.pack("<f" if size == 4 else "<d", argument)

    def _system(self, kernel: Kernel) -> dict[int, int]:
        """Return what lies below the parameters, as the compiler reads it: dimensions, the stack pointer, and where in
        memory the parameters are.

        Found by compiling kernels that ask for them.
        """
        block = (LANES * self.warps, 1, 1)
        blocks, grids, stack = (0x0, 0xC, 0x28) if kernel.capability < 100 else (0x360, 0x370, 0x37C)
        words = {stack: 0}
        if kernel.capability >= 90:
            area = 0x198 if kernel.capability < 100 else 0x348
            words |= {area: self._parameters & LOW, area + 4: self._parameters >> 32}
        for axis in range(3):
            words[blocks + 4 * axis] = block[axis]
            words[grids + 4 * axis] = self.grid[axis]
        return words

    def specials(self, cta: tuple[int, int, int], warp: int) -> dict[str, Any]:
        """Return the special registers of a warp that do not depend on when and where it runs.

        Raises UsageError when the grid has no such *cta*, or a CTA no such *warp*.
        """
        if not all(0 <= c < g for c, g in zip(cta, self.grid, strict=True)):
            raise UsageError(f"launch: a grid of {self.grid} has no CTA {cta}")
        if not 0 <= warp < self.warps:
            raise UsageError(f"launch: a CTA of {self.warps} warps has no warp {warp}")
        lane = np.arange(LANES, dtype=np.uint64)
        bit, everything = np.uint64(1) << lane, np.uint64(0xFFFFFFFF)
        found: dict[str, Any] = {
            "SRZ": 0, "SR_TID.X": lane + np.uint64(LANES * warp), "SR_TID.Y": 0, "SR_TID.Z": 0, "SR_LANEID": lane,
            # Without clusters of several CTAs.
            "SR_CgaCtaId": 0,
            "SR_EQMASK": bit, "SR_LTMASK": bit - np.uint64(1), "SR_LEMASK": bit | bit - np.uint64(1),
            "SR_GTMASK": everything ^ (bit | bit - np.uint64(1)), "SR_GEMASK": everything ^ bit - np.uint64(1)}
        for axis, name in enumerate("XYZ"):
            found[f"SR_CTAID.{name}"] = cta[axis]
            found[f"SR_NCTAID.{name}"] = self.grid[axis]
        return found


def _seen(argument: Tensor | Tiles | float) -> str:
    if isinstance(argument, Tiles):
        return f"a tensor descriptor of {argument.tensor.name!r}"
    return f"tensor {argument.name!r}" if isinstance(argument, Tensor) else str(argument)


def _check(tiles: Tiles) -> None:
    """Raise UsageError for a descriptor that TMA does not have [CUDA driver API, cuTensorMapEncodeTiled]."""
    where, size = f"launch: the tensor descriptor of {tiles.tensor.name!r}", tiles.element_bytes
    if not 1 <= len(tiles.shape) == len(tiles.box) <= MOST_DIMENSIONS:
        raise UsageError(f"{where}: shape and block have the same 1 to {MOST_DIMENSIONS} dimensions, got "
                         f"{list(tiles.shape)} and {list(tiles.box)}")
    if not all(1 <= side <= 256 for side in tiles.box):
        raise UsageError(f"{where}: a box has 1 to 256 elements a side, got {list(tiles.box)}")
    if len(tiles.shape) > 1 and tiles.shape[-1] * size % STRIDE_UNIT:
        raise UsageError(f"{where}: rows are a multiple of {STRIDE_UNIT} bytes, got {tiles.shape[-1]} elements of "
                         f"{size} bytes; pad them")
    if tiles.tensor.nbytes != math.prod(tiles.shape) * size:
        raise UsageError(f"{where}: {list(tiles.shape)} elements of {size} bytes are not the "
                         f"{tiles.tensor.nbytes} bytes of the tensor")
