"""Which measurements can be: not above the chip's peak, and not in another unit than their column's."""

from __future__ import annotations

from turbosim.errors import ConfigError
from turbosim.hw.spec import Gpu
from turbosim.units import show
from turbosim.validation.roofline import least_seconds, roofline_seconds
from turbosim.validation.row import Row

TOO_SHORT = 1 / 30
"""Share of the least possible time below which a time is taken for one in a unit 1000 times as large."""
TOO_LONG = 300.0
"""Multiple of the roofline, or of SHORTEST, above which a time is taken for one in a unit 1000 times as small."""
SHORTEST = 20e-6
"""What a kernel may take however little it has to do [s]."""
LEAST_KERNEL = 0.5e-6
"""No kernel ends sooner [s]."""


def implausible(gpu: Gpu, row: Row) -> str:
    """Return why *row* cannot have been measured on *gpu*; empty if it can.

    Raises ConfigError where a mix-up of units is likelier: then all rows of the file are in doubt.
    """
    least = least_seconds(gpu, row)
    if row.time_s < max(least * TOO_SHORT, LEAST_KERNEL):
        raise ConfigError(f"{row.where}: {show(row.time_s, 's', 3)} is {max(least, LEAST_KERNEL) / row.time_s:,.0f} "
                          f"times less than {gpu.name} needs for {row.shape}; are the times of the file in a unit 1000 "
                          f"times as large as its column's, as ms where s or us is meant?")
    usual = max(roofline_seconds(gpu, row), SHORTEST)
    if row.time_s > TOO_LONG * usual:
        raise ConfigError(f"{row.where}: {show(row.time_s, 's', 3)} is {row.time_s / usual:,.0f} times what {gpu.name} "
                          f"needs for {row.shape}; are the times of the file in a unit 1000 times as small as its "
                          f"column's, as us where ms is meant?")
    if row.time_s < least:
        return f"{show(row.time_s, 's', 3)} is {least / row.time_s:.2f} times as fast as the peak of {gpu.name} allows"
    return ""
