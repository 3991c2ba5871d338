"""The state of one resident warp in :mod:`turbosim.sass.oracle`."""

from __future__ import annotations

from dataclasses import dataclass, field

from turbosim.sass.machine import BARRIERS, SCOREBOARDS


@dataclass
class Warp:
    """One resident warp."""

    number: int
    slot: int
    walk: list[int]
    at: int = 0
    """Position in the walk."""
    pc: int = 0
    issued: int = 0
    """First cycle after the last issue."""
    ready: int = 0
    """When the stall count has passed."""
    barred: bool = False
    released: int = 0
    """When the last barrier let it go."""
    boards: list[int] = field(default_factory=lambda: [0] * SCOREBOARDS)
    open_copies: int = 0
    """When the copies of the open group have all arrived."""
    copies: list[int] = field(default_factory=list)
    """Ends of the closed groups of copies."""
    open_mma: int = 0
    mma: list[int] = field(default_factory=list)
    waited: list[int] = field(default_factory=lambda: [0] * BARRIERS)
    """Phases of each mbarrier that the warp has waited for."""
    pending: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Mbarrier and phase that hold a scoreboard, where the phase has not been committed."""
    stored: int = 0
    """When the writes to tensor memory are done."""
