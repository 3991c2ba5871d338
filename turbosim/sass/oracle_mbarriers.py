"""The mbarriers of one resident CTA in :mod:`turbosim.sass.oracle`."""

from __future__ import annotations

from turbosim.sass.machine import BARRIERS, PHASES


class Mbarriers:
    """When the phases of each mbarrier are complete, and what those to come wait for."""

    def __init__(self) -> None:
        self.complete: list[list[int]] = [[] for _ in range(BARRIERS)]
        """Of each phase, as far as it is known."""
        self._expected: list[list[int]] = [[] for _ in range(BARRIERS)]
        """Bytes of bulk copies up to the end of each phase."""
        self._delivered = [0] * BARRIERS
        self._landed = [0] * BARRIERS
        """When all bytes that are under way have arrived."""

    def phase(self, mbarrier: int, phase: int) -> int | None:
        """Return when *phase* is complete, 0 where that is long past and None where it is not known yet."""
        known = self.complete[mbarrier]
        if phase >= len(known):
            return None
        return known[phase] if phase >= len(known) - PHASES else 0

    def commit(self, mbarrier: int, done: int) -> None:
        """Complete the next phase at *done*, and not before the phases before it."""
        known = self.complete[mbarrier]
        known.append(max(done, known[-1] if known else 0))

    def expect(self, mbarrier: int, nbytes: int, done: int) -> None:
        """Let the next phase wait for *nbytes*; the arrival takes effect at *done*."""
        expected = self._expected[mbarrier]
        expected.append((expected[-1] if expected else 0) + nbytes)
        self._settle(mbarrier, done)

    def deliver(self, mbarrier: int, nbytes: int, done: int) -> None:
        """Count *nbytes* that arrive at *done*."""
        self._delivered[mbarrier] += nbytes
        self._settle(mbarrier, done)

    def _settle(self, mbarrier: int, done: int) -> None:
        """Complete the phases that have got their bytes."""
        self._landed[mbarrier] = max(self._landed[mbarrier], done)
        known, expected = self.complete[mbarrier], self._expected[mbarrier]
        while len(known) < len(expected) and self._delivered[mbarrier] >= expected[len(known)]:
            self.commit(mbarrier, self._landed[mbarrier])
