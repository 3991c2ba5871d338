"""How often a faster unit makes an SM slower, by the rule that picks the next request.

``python -m analysis.arbitration``. A small model beside the engines: one SM, some CTAs at a time, each looping over
QK^T, row maximum, exponentials, row sums and PV, whose demands on the pipes are drawn at random. It is run as drawn and
with an SFU twice as fast, under three rules that never leave a pipe idle while a request waits, and one, the fixed
order, that does. Under a fixed order every end is a maximum of sums of service times, so no end can come later when a
service gets shorter [Baccelli, Cohen, Olsder, Quadrat: Synchronization and Linearity, 1992]; under the others it can,
and does. Backs D1 of DEVIATIONS.md.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

SFU = 1
PIPES = 4
CASES = 40


class Rule(StrEnum):
    """Which waiting request a pipe takes next."""

    FIRST_COME = "first come first served"
    ROUND_ROBIN = "round robin of 16ths"
    OLDEST = "oldest CTA first"
    FIXED = "fixed cyclic order"


@dataclass(frozen=True)
class Case:
    """One SM's work: *steps* of a loop, each the time [cycles] that it needs of every pipe, and of how many pieces."""

    slots: int
    trips: int
    steps: tuple[tuple[float, ...], ...]
    pieces: tuple[int, ...] = (4, 2, 2, 1, 4)
    ctas_per_slot: int = 6

    def sequence(self, fine: bool = False) -> list[tuple[float, ...]]:
        """Return the demands of one trip, piece by piece."""
        return [tuple(t / n for t in step) for step, pieces in zip(self.steps, self.pieces, strict=True)
                for n in [16 if fine else pieces] for _ in range(n)]

    def faster(self, pipe: int) -> Case:
        """Return the same work with one pipe twice as fast."""
        steps = tuple(tuple(t / 2 if p == pipe else t for p, t in enumerate(step)) for step in self.steps)
        return Case(self.slots, self.trips, steps, self.pieces, self.ctas_per_slot)

    def bound(self) -> float:
        """Return the time of the pipe with the most work [cycles]."""
        return self.slots * self.ctas_per_slot * self.trips * max(sum(s[p] for s in self.steps) for p in range(PIPES))


def draw(rng: np.random.Generator) -> Case:
    """Return a case with demands in the ranges of attention: tensor, SFU, FP32 and issue."""
    mma = 100.0
    exp, fma, rows, issue = mma * rng.uniform((0.3, 0.2, 0.1, 0.05), (1.5, 0.8, 0.4, 0.3))
    product = (mma, 0.0, 0.0, issue)
    softmax = (0.0, 0.0, fma, fma / 2), (0.0, exp, fma, fma), (0.0, 0.0, rows, rows)
    return Case(int(rng.integers(2, 5)), int(rng.choice([4, 16])), (product, *softmax, product))


def competing(case: Case, rule: Rule) -> float:
    """Return the time [cycles] when every pipe takes a waiting request as soon as it is free."""
    sequence = case.sequence(fine=rule is Rule.ROUND_ROBIN)
    length = len(sequence) * case.trips
    waiting: list[list[tuple[float, int, int, float]]] = [[] for _ in range(PIPES)]
    free = [True] * PIPES
    events = [(0.0, slot, slot, -1) for slot in range(case.slots)]
    at, left, cta = [-1] * case.slots, [0] * case.slots, list(range(case.slots))
    started = number = case.slots
    ended, now = 0, 0.0
    while ended < case.slots * case.ctas_per_slot:
        now = events[0][0]
        touched = set()
        while events and events[0][0] == now:
            _, _, slot, pipe = heapq.heappop(events)
            if pipe >= 0:
                free[pipe] = True
                touched.add(pipe)
                left[slot] -= 1
            if left[slot]:
                continue
            at[slot] += 1
            if at[slot] == length:
                ended += 1
                at[slot], cta[slot], started = 0, started, started + 1
                if started > case.slots * case.ctas_per_slot:
                    continue
            for pipe, time in enumerate(sequence[at[slot] % len(sequence)]):
                if time:
                    left[slot] += 1
                    priority = 0.0 if rule is Rule.OLDEST else now
                    heapq.heappush(waiting[pipe], (priority, cta[slot], slot, time))
                    touched.add(pipe)
        for pipe in touched:
            if free[pipe] and waiting[pipe]:
                _, _, slot, time = heapq.heappop(waiting[pipe])
                free[pipe] = False
                number += 1
                heapq.heappush(events, (now + time, number, slot, pipe))
    return now


def in_turn(case: Case) -> float:
    """Return the time [cycles] when the slots take turns, each a fixed number of pieces behind the one before it."""
    sequence = case.sequence()
    length = len(sequence) * case.trips * case.ctas_per_slot
    behind = [slot * len(sequence) // case.slots for slot in range(case.slots)]
    free, ready = [0.0] * PIPES, [0.0] * case.slots
    for turn in range(length + behind[-1]):
        for slot, skew in enumerate(behind):
            if 0 <= turn - skew < length:
                end = ready[slot]
                for pipe, time in enumerate(sequence[(turn - skew) % len(sequence)]):
                    if time:
                        free[pipe] = max(free[pipe], ready[slot]) + time
                        end = max(end, free[pipe])
                ready[slot] = end
    return max(ready)


def time_of(rule: Rule) -> Callable[[Case], float]:
    """Return the model of a rule."""
    return in_turn if rule is Rule.FIXED else lambda case: competing(case, rule)


@dataclass(frozen=True)
class Finding:
    """Of one rule over all cases: times as drawn over the busiest pipe's, and slowdowns by the faster unit."""

    over_bound: float
    slower: int
    largest: float


def measure(rule: Rule, cases: int = CASES) -> Finding:
    """Run *cases* cases as drawn and with twice the SFU rate."""
    rng = np.random.default_rng(0)
    model = time_of(rule)
    drawn = [draw(rng) for _ in range(cases)]
    base = np.array([model(case) for case in drawn])
    change = np.array([model(case.faster(SFU)) for case in drawn]) / base - 1
    bounds = np.array([case.bound() for case in drawn])
    return Finding(float((base / bounds).mean()), int((change > 1e-9).sum()), float(change.max()))


def main() -> None:
    """Print one line for each rule."""
    print(f"{'rule':26s}{'time / busiest pipe':>20s}{'slower with 2x SFU':>20s}{'by at most':>12s}")
    for rule in Rule:
        found = measure(rule)
        print(f"{rule:26s}{found.over_bound:>20.3f}{f'{found.slower} of {CASES}':>20s}{max(found.largest, 0):>12.1%}")


if __name__ == "__main__":
    main()
