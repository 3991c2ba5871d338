"""The forward model: rows of a GPU with other values, by simulation, each benchmark once per set of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from turbosim.calibration.benchmarks import Benchmark
from turbosim.calibration.parameters import Values, ordered
from turbosim.calibration.rows import MicroRow
from turbosim.hw.override import with_overrides
from turbosim.hw.spec import Gpu

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STEP = 0.02
"""Relative change of a parameter for its derivatives: well above the rounding of times to ticks."""


LEAST = 1e-3
"""Slope below which a parameter does not move a benchmark."""


class Model:
    """Predicted times of *rows* on *gpu*, as natural logarithms, so that errors and derivatives are relative."""

    def __init__(self, gpu: Gpu, rows: Sequence[MicroRow], tell: Callable[[], None] | None = None) -> None:
        self.gpu = gpu
        self.rows = tuple(rows)
        self.tell = tell
        self._known: dict[tuple[tuple[tuple[str, float], ...], Benchmark, float], float] = {}
        self._depends: dict[tuple[Benchmark, float], frozenset[str]] = {}
        """Parameters that move a benchmark, where that is known."""

    def seconds(self, values: Values, rows: Sequence[int] | None = None) -> Array:
        """Return the logarithm of the times with *values*, of the rows numbered *rows* (None: of all)."""
        import numpy as np

        which = range(len(self.rows)) if rows is None else rows
        values = ordered(values, self.gpu)
        every = tuple(sorted(values.items()))
        gpu: Gpu | None = None
        found = np.empty(len(which))
        for place, number in enumerate(which):
            row = self.rows[number]
            depends = self._depends.get((row.benchmark, row.clock))
            key = every if depends is None else tuple(item for item in every if item[0] in depends)
            at = (key, row.benchmark, row.clock)
            if at not in self._known:
                gpu = gpu or with_overrides(self.gpu, values)
                self._known[at] = float(np.log(row.benchmark.seconds(gpu, row.clock)))
                if self.tell is not None:
                    self.tell()
            found[place] = self._known[at]
        return found

    def measured(self) -> Array:
        """Return the logarithm of the measured times."""
        import numpy as np

        found: Array = np.log(np.array([row.measured for row in self.rows]))
        return found

    def jacobian(self, values: Values, names: Sequence[str]) -> Array:
        """Return the relative change of every time over that of each of *names*."""
        import numpy as np

        base = self.seconds(values)
        found = np.zeros((len(self.rows), len(names)))
        for column, name in enumerate(names):
            # Downwards, since shares end at 1.
            found[:, column] = base - self.seconds({**values, name: values[name] / (1 + STEP)})
        return found / float(np.log1p(STEP))

    def learn(self, values: Values, names: Sequence[str]) -> None:
        """Find out which of *names* move which benchmark at *values*; others then cost no simulation."""
        self._depends = {}
        jacobian = self.jacobian(values, names)
        base = tuple(sorted(ordered(values, self.gpu).items()))
        never = set(values) - set(names)
        for row, slopes in zip(self.rows, jacobian, strict=True):
            moving = {name for name, slope in zip(names, slopes, strict=True) if abs(slope) > LEAST}
            self._depends[row.benchmark, row.clock] = frozenset(moving | never)
        known = self._known
        self._known = {}
        for (key, benchmark, clock), time in known.items():
            if key == base:
                kept = tuple(item for item in key if item[0] in self._depends[benchmark, clock])
                self._known[kept, benchmark, clock] = time
