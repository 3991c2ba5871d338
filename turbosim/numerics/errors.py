"""How far an output is from the reference."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Deviation(NamedTuple):
    """Deviation of one tensor from another."""

    relative_l2: float
    """Norm of the difference over the norm of the reference."""
    cosine: float
    largest: float
    """Largest absolute difference."""


def deviation(got: Tensor, reference: Tensor) -> Deviation:
    """Compare *got* with *reference* in float64; NaN in *got* gives NaN."""
    a, b = got.double().flatten(), reference.double().flatten()
    return Deviation(float((a - b).norm() / b.norm()), float(a @ b / (a.norm() * b.norm())), float((a - b).abs().max()))
