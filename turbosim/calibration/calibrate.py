"""From files of micro-benchmarks to fitted parameters, and the errors of every curve before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turbosim.calibration.clock import sustained
from turbosim.calibration.fit import Fitted, Solution, fit
from turbosim.calibration.model import Model
from turbosim.calibration.rows import MicroFile, MicroRow, read_micro
from turbosim.errors import UsageError
from turbosim.hw.load import load_resolved
from turbosim.hw.spec import Gpu


@dataclass(frozen=True)
class Curve:
    """Errors of the predictions of one kind of micro-benchmark, as shares of the measured time."""

    name: str
    rows: tuple[MicroRow, ...]
    before: tuple[float, ...]
    """Predicted over measured time, less 1, with the hardware file as it was: negative is too fast."""
    after: tuple[float, ...]
    fitted: bool
    """Whether the fit used the rows."""


@dataclass(frozen=True)
class Calibration:
    """What came of a fit."""

    gpu: Gpu
    hardware: Path
    """The file that was fitted."""
    label: str
    """What the micro-benchmark files call the GPU."""
    files: tuple[MicroFile, ...]
    parameters: tuple[Fitted, ...]
    singular_values: tuple[float, ...]
    correlations: tuple[tuple[str, str, float], ...]
    curves: tuple[Curve, ...]

    @property
    def values(self) -> dict[str, float]:
        """New values by path, in SI units."""
        return {f.parameter.path: f.after for f in self.parameters if f.determined}

    def used(self) -> Mapping[Path, tuple[str, ...]]:
        """Return the digests of the rows that the fit used, by file."""
        return {file.path: tuple(dict.fromkeys((*(r.digest for r in file.rows if r.fitted),
                                                *(c.digest for c in file.clocks)))) for file in self.files}


def calibrate(hw: str | Path, files: Sequence[Path], label: str | None = None,
              progress: Callable[[int, int], None] | None = None) -> Calibration:
    """Fit memory and launch parameters of the GPU *hw* on the micro-benchmarks in *files*.

    *label* is what the files call the GPU, where that is not known. *progress* is called with (done, about how many).
    Raises UsageError and ConfigError as :func:`turbosim.calibration.rows.read_micro` and
    :func:`turbosim.hw.load.load_gpu`, and UsageError for files without a row that can be used.
    """
    resolved = load_resolved(hw)
    gpu = resolved.gpu
    read = tuple(read_micro(path, gpu, label) for path in files)
    rows = [row for file in read for row in file.rows]
    used = [row for row in rows if row.fitted]
    if not used:
        raise UsageError(f"--from: none of the rows of {label or gpu.name} tells of memory or launches")
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            # Descents take about this many simulations a row.
            progress(min(done, 40 * len(used)), 41 * len(used))

    solution = fit(gpu, used, tell)
    clock = sustained([c for file in read for c in file.clocks], gpu)
    names = ", ".join(dict.fromkeys(file.gpu for file in read))
    return Calibration(gpu, resolved.file, names, read, (*solution.parameters, clock),
                       solution.singular_values, solution.correlations, _curves(gpu, rows, solution))


def _curves(gpu: Gpu, rows: Sequence[MicroRow], solution: Solution) -> tuple[Curve, ...]:
    import numpy as np

    model = Model(gpu, rows)
    measured = model.measured()
    before, after = (np.expm1(model.seconds(values) - measured) for values in ({}, solution.values))
    numbers: dict[tuple[str, bool], list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault((row.curve, row.fitted), []).append(number)
    return tuple(Curve(name, tuple(rows[n] for n in ns), tuple(before[ns].tolist()), tuple(after[ns].tolist()), fitted)
                 for (name, fitted), ns in numbers.items())
