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
    open_left: int = 0
    """When the tensor work of the open group has all left the tensor core; its results are there a latency later."""
    mma: list[int] = field(default_factory=list)
    mma_left: list[int] = field(default_factory=list)
    """When the closed groups of tensor work have left the tensor core."""
    waited: list[int] = field(default_factory=lambda: [0] * BARRIERS)
    """Phases of each mbarrier that the warp has waited for."""
    pending: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Mbarrier and phase that hold a scoreboard, where the phase has not been committed."""
    stored: int = 0
    """When the writes to tensor memory are done."""

    def product(self, left: int, done: int, closes: bool) -> None:
        """Add tensor work that leaves the tensor core at *left* and ends at *done* to the open group, or close it."""
        self.open_left, self.open_mma = max(self.open_left, left), max(self.open_mma, done)
        if closes:
            self.mma_left.append(max(self.open_left, self.mma_left[-1] if self.mma_left else 0))
            self.mma.append(max(self.open_mma, self.mma[-1] if self.mma else 0))
            self.open_left = self.open_mma = 0

    def delay(self, now: int) -> None:
        """Let all tensor work that the tensor core has not finished at *now* end a cycle later."""
        if self.open_left > now:
            self.open_left, self.open_mma = self.open_left + 1, self.open_mma + 1
        for n, left in enumerate(self.mma_left):
            if left > now:
                self.mma_left[n], self.mma[n] = left + 1, self.mma[n] + 1
