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


class Model:
    """Predicted times of *rows* on *gpu*, as natural logarithms, so that errors and derivatives are relative."""

    def __init__(self, gpu: Gpu, rows: Sequence[MicroRow], tell: Callable[[], None] | None = None) -> None:
        self.gpu = gpu
        self.rows = tuple(rows)
        self.tell = tell
        self._known: dict[tuple[tuple[tuple[str, float], ...], Benchmark, float], float] = {}

    def seconds(self, values: Values, rows: Sequence[int] | None = None) -> Array:
        """Return the logarithm of the times with *values*, of the rows numbered *rows* (None: of all)."""
        import numpy as np

        which = range(len(self.rows)) if rows is None else rows
        values = ordered(values, self.gpu)
        key = tuple(sorted(values.items()))
        gpu: Gpu | None = None
        found = np.empty(len(which))
        for place, number in enumerate(which):
            row = self.rows[number]
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

    def jacobian(self, values: Values, names: Sequence[str], pattern: NDArray[np.bool_] | None = None) -> Array:
        """Return the relative change of every time over that of each of *names*; *pattern* says which are not zero."""
        import numpy as np

        base = self.seconds(values)
        found = np.zeros((len(self.rows), len(names)))
        for column, name in enumerate(names):
            rows = np.arange(len(self.rows)) if pattern is None else np.flatnonzero(pattern[:, column])
            # Downwards, since shares end at 1.
            changed = self.seconds({**values, name: values[name] / (1 + STEP)}, rows.tolist())
            found[rows, column] = (base[rows] - changed) / np.log1p(STEP)
        return found
