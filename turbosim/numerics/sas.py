"""SAS: the exponential of non-positive numbers as a table times a cubic, zero below a threshold.

``table`` is the paper's form: e^x = T[floor(-x)] * POLY(-x - floor(-x)), with T[i] = e^-i and the printed cubic.
``exponent`` is the same idea in base two: 2^z = 2^round(z) * cubic(z - round(z)), z = x log2(e), where the table is a
power of two and costs an integer subtraction. Its cubic is 1 at 0, so that the largest score of a row keeps weight 1.

In float16 every operation rounds, as packed half instructions do.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Form = Literal["exact", "table", "exponent"]
THRESHOLD = -6.0
"""n_r of the paper's experiments."""
TABLE = (-0.1025, 0.4626, -0.9922, 0.9996)
"""POLY of the paper, highest power first: e^-t on [0, 1)."""
EXPONENT = (0.055009, 0.242211, 0.693283, 1.0)
"""2^f on [-1/2, 1/2], highest power first: least largest relative error (1.0e-4) with the constant held at 1."""


def exponential(x: Tensor, form: Form = "table", threshold: float = THRESHOLD,
                dtype: torch.dtype = torch.float32) -> Tensor:
    """Return e^x for x <= 0 in *dtype*; 0 below *threshold* unless *form* is ``exact``."""
    if form == "exact":
        return torch.exp(x.float()).to(dtype)
    kept = x.float() >= threshold
    # Beyond the threshold anything finite will do.
    clipped = torch.where(kept, x.float(), torch.full_like(x, threshold, dtype=torch.float32))
    value = _table(clipped, dtype) if form == "table" else _exponent(clipped, dtype)
    return torch.where(kept, value, torch.zeros_like(value))


def _horner(coefficients: tuple[float, ...], t: Tensor) -> Tensor:
    value = torch.full_like(t, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * t + coefficient
    return value


def _table(x: Tensor, dtype: torch.dtype) -> Tensor:
    y = (-x).to(dtype)
    whole = torch.floor(y)
    return torch.exp(-whole.float()).to(dtype) * _horner(TABLE, y - whole)


def _exponent(x: Tensor, dtype: torch.dtype) -> Tensor:
    z = (x * math.log2(math.e)).to(dtype)
    whole = torch.round(z)
    return torch.ldexp(_horner(EXPONENT, z - whole).float(), whole.int()).to(dtype)


def rescale_factor(old: Tensor, new: Tensor, form: Form = "exact") -> Tensor:
    """Return the factor e^(old - new) of a running maximum that grew from *old* to *new*, in float32.

    Where the maximum did not change it is exactly 1: POLY(0) = 0.9996 would otherwise weigh a tile down once for every
    tile after it, by 18 % over 32k keys. An *old* of minus infinity gives 0.
    """
    factor = exponential(torch.where(torch.isneginf(old), torch.full_like(old, -math.inf), old - new), form)
    return torch.where(old == new, torch.where(torch.isneginf(old), 0.0, 1.0), factor)
