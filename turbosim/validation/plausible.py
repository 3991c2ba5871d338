"""Which measurements can be: not above the chip's peak, and not in another unit than their column's."""

from __future__ import annotations

import math

from turbosim.errors import ConfigError
from turbosim.hw.spec import Gpu
from turbosim.units import show
from turbosim.validation.roofline import least_seconds, roofline_seconds
from turbosim.validation.row import TIMES, UNITS, Row

TOO_SHORT = 1 / 30
"""Share of the least possible time below which a time is taken for one in another unit."""
TOO_LONG = 300.0
"""Multiple of the roofline, or of SHORTEST, above which a time is taken for one in another unit."""
SHORTEST = 5e-6
"""What a kernel takes however little it has to do [s]. TOO_LONG of it is 1.5 ms: kernels of 1.5 us and more, with their
milliseconds read as seconds, are above that."""
LEAST_KERNEL = 0.5e-6
"""No kernel ends sooner [s]."""
USUAL_LEAST = 2e-6
"""What short kernels take [s]."""


def implausible(gpu: Gpu, row: Row) -> str:
    """Return why *row* cannot have been measured on *gpu*; empty if it can.

    Raises ConfigError where a mix-up of units is likelier: then all rows of the file are in doubt.
    """
    least = least_seconds(gpu, row)
    usual = max(roofline_seconds(gpu, row), SHORTEST)
    if row.time_s < max(least * TOO_SHORT, LEAST_KERNEL):
        raise _mix_up(gpu, row, f"{max(least, LEAST_KERNEL) / row.time_s:,.0f} times less than")
    if row.time_s > TOO_LONG * usual:
        raise _mix_up(gpu, row, f"{row.time_s / usual:,.0f} times what")
    if row.time_s < least:
        return f"{show(row.time_s, 's', 3)} is {least / row.time_s:.2f} times as fast as the peak of {gpu.name} allows"
    return ""


def _mix_up(gpu: Gpu, row: Row, how_far: str) -> ConfigError:
    unit = likely_unit(gpu, row)
    doubt = (f"correct the value, in {row.unit}, or the shape" if unit is None else
             f"are the values in {unit}, not in {row.unit}? All rows of the file are then in doubt; convert them")
    return ConfigError(f"{row.where}: column {row.column}: {show(row.time_s, 's', 3)} is {how_far} {gpu.name} needs "
                       f"for {row.shape}; {doubt}")


def likely_unit(gpu: Gpu, row: Row) -> str | None:
    """Return the unit in which the value of *row* would be nearest to what *gpu* needs; None if none is near."""
    units = next(units for units in UNITS if row.unit in units)
    roofline = roofline_seconds(gpu, row)
    times = {}
    for unit, size in units.items():
        factor = size / units[row.unit]
        times[unit] = row.time_s * (factor if units is TIMES else 1 / factor)
    near = {unit: abs(math.log(time / max(roofline, USUAL_LEAST))) for unit, time in times.items() if unit != row.unit
            and max(least_seconds(gpu, row), LEAST_KERNEL) <= time <= TOO_LONG * max(roofline, SHORTEST)}
    return min(near, key=lambda unit: near[unit]) if near else None
