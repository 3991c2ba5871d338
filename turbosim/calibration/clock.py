"""The clock that the board holds at its power limit, from tensor-core loops whose power was measured."""

from __future__ import annotations

from collections.abc import Sequence

from turbosim.calibration.fit import CONFIDENCE, Fitted
from turbosim.calibration.parameters import SUSTAINED
from turbosim.calibration.rows import Sustained
from turbosim.hw.spec import Gpu

AT_LIMIT = 0.95
"""Share of the board's power limit from which on the limit sets the clock."""
FEWEST = 3


def sustained(rows: Sequence[Sustained], gpu: Gpu) -> Fitted:
    """Return the mean clock of the rows at the power limit, with the interval of a mean."""
    import numpy as np
    from scipy.stats import t

    before = gpu.clock.hertz("sustained")
    clocks = np.array([row.clock for row in rows if row.power >= AT_LIMIT * gpu.power.limit])
    if len(clocks) < FEWEST:
        why = (f"{len(clocks)} of {len(rows)} tensor-core loops within {1 - AT_LIMIT:.0%} of {gpu.power.limit:g} W"
               if rows else "no tensor-core loop with its power")
        return Fitted(SUSTAINED, before, before, reason=why)
    mean = float(clocks.mean())
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(clocks) - 1) * clocks.std(ddof=1) / np.sqrt(len(clocks)))
    return Fitted(SUSTAINED, before, mean, mean - half, mean + half, len(clocks), ("tensor-core loops at the limit",))
