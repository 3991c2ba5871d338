"""A kernel launch as the code sees it: arguments, constant bank, special registers."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from turbosim.errors import UsageError
from turbosim.sass.cubin import Kernel, Parameter
from turbosim.sass.semantics import LANES

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
class Launch:
    """A grid of CTAs, and what they are given.

    Raises UsageError for a grid or number of warps below 1, and for tensors of one name and different sizes.
    """

    grid: tuple[int, int, int]
    warps: int
    """Per CTA."""
    arguments: tuple[Tensor | int | float, ...]
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

    def contents(self) -> dict[int, bytes]:
        """Return what is known of memory, by the address divided by SPACING."""
        return {self.addresses[a.name] // SPACING: a.data for a in self.arguments
                if isinstance(a, Tensor) and a.data is not None}

    def constants(self, kernel: Kernel) -> dict[int, int]:
        """Return the known words of constant bank 0 by byte offset.

        Raises UsageError when the arguments or the warps are not those the kernel was compiled for.
        """
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
        words = {kernel.parameter_base + 4 * n: w for n, (w,) in enumerate(struct.iter_unpack("<I", area))}
        return words | self._system(kernel)

    def _packed(self, where: str, parameter: Parameter, argument: Tensor | float) -> bytes:
        size = parameter.size
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
        """Return what lies below the parameters, as the compiler reads it: dimensions, and the stack pointer.

        Found by compiling kernels that ask for them.
        """
        block = (LANES * self.warps, 1, 1)
        blocks, grids, stack = (0x0, 0xC, 0x28) if kernel.capability < 100 else (0x360, 0x370, 0x37C)
        words = {stack: 0}
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
