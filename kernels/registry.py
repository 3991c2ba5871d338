"""The measurable kernels, by name."""

from __future__ import annotations

import importlib

from kernels.case import Kernel
from turbosim.errors import UsageError, did_you_mean

NAMES: dict[str, str] = {
    **{name: f"kernels.ops.measured:{name.upper()}" for name in ("flash", "turbo", "kivi", "quantise")},
    **{name: f"kernels.ops.micro:{name.upper()}" for name in (
        "copy", "l2_read", "tile_read", "mma_fp16", "mma_int8", "exp2", "fma_fp16", "i2f", "f2i", "f2h", "smem",
        "empty")},
}
"""Kernel name -> ``module:attribute`` of its :class:`~kernels.case.Kernel`, imported on first use."""


def get(name: str) -> Kernel:
    """Return the kernel called *name*, importing its module. Raises UsageError for an unknown one."""
    try:
        module, attribute = NAMES[name].split(":")
    except KeyError:
        known = ", ".join(NAMES)
        raise UsageError(f"unknown kernel {name!r}: not among {known}{did_you_mean(name, NAMES)}") from None
    kernel: Kernel = getattr(importlib.import_module(module), attribute)
    return kernel
