"""The measurable kernels, by name."""

from __future__ import annotations

import importlib

from kernels.case import Kernel
from turbosim.errors import UsageError, did_you_mean

NAMES: dict[str, str] = {}
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
