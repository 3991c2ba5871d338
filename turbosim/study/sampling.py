"""Which points of the axes a study has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from turbosim.study.axis import Axis, Value

Method = Literal["grid", "zip", "random", "latin-hypercube"]
METHODS: tuple[Method, ...] = ("grid", "zip", "random", "latin-hypercube")


@dataclass(frozen=True)
class Sampling:
    """How points are taken."""

    method: Method = "grid"
    points: int = 0
    """Samples of ``random`` and ``latin-hypercube``."""
    seed: int = 0
    cross: tuple[str, ...] = ()
    """Axes of which every sample is taken at all values, so that what they stand for can be compared."""


def sample(axes: Sequence[Axis], sampling: Sampling) -> Iterator[dict[str, Value]]:
    """Yield the values of every point by axis, each point once, the same for the same seed.

    ``zip`` takes the first values of all axes together, then the second ones; axes have equally many. The samples of
    ``latin-hypercube`` lie one in each of as many equal parts of every axis as there are samples.
    """
    if sampling.method == "grid" or not {a.name for a in axes}.difference(sampling.cross):
        yield from _grid(axes)
    elif sampling.method == "zip":
        for values in zip(*(a.values for a in axes), strict=True):
            yield dict(zip((a.name for a in axes), values, strict=True))
    else:
        yield from _sampled(axes, sampling)


def _grid(axes: Sequence[Axis]) -> Iterator[dict[str, Value]]:
    for values in itertools.product(*(a.values for a in axes)):
        yield dict(zip((a.name for a in axes), values, strict=True))


def _sampled(axes: Sequence[Axis], sampling: Sampling) -> Iterator[dict[str, Value]]:
    import numpy as np
    from scipy.stats import qmc

    varied = [a for a in axes if a.name not in sampling.cross]
    crossed = [a for a in axes if a.name in sampling.cross]
    rng = np.random.default_rng(sampling.seed)
    if sampling.method == "random":
        shares = rng.random((sampling.points, len(varied)))
    else:
        shares = qmc.LatinHypercube(d=len(varied), rng=rng).random(sampling.points)
    seen = set()
    for row in shares.tolist():
        values = {a.name: a.at(share) for a, share in zip(varied, row, strict=True)}
        # Whole numbers and lists can come up twice.
        if (point := tuple(values.values())) not in seen:
            seen.add(point)
            for more in _grid(crossed):
                yield {a.name: (values | more)[a.name] for a in axes}
