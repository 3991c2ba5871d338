"""What bounds a run: the one rule for whole simulations and for the hot loops of compiled kernels, and its words.

A unit that is busy most of the time leaves little to win but by giving it less to do. Where none is, time goes to
waiting for results, data and barriers, of which more warps or stages would hide some: that is latency, whichever unit
is the busiest.
"""

from __future__ import annotations

from collections.abc import Mapping

BUSY = 0.6
"""Share of the time from which on a unit is what bounds."""
LATENCY, LAUNCH = "latency", "launch"


def bound_of(shares: Mapping[str, float]) -> str:
    """Return the unit that is busy the largest share of the time, if that is at least :data:`BUSY`, else LATENCY."""
    unit, share = busiest_of(shares)
    return unit if share >= BUSY else LATENCY


def busiest_of(shares: Mapping[str, float]) -> tuple[str, float]:
    """Return the busiest unit and its share of the time."""
    return max(shares.items(), key=lambda item: item[1])


def bound_words(bound: str, shares: Mapping[str, float]) -> str:
    """Return *bound* and how busy the busiest unit is: ``tensor (81% busy)``, ``latency (busiest unit sfu, 34%)``."""
    unit, share = busiest_of(shares)
    return f"{unit} ({share:.0%} busy)" if bound == unit else f"{bound} (busiest unit {unit}, {share:.0%})"
