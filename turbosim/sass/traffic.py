"""What memory instructions move, by the addresses of their lanes: sectors of global memory, turns of shared memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from turbosim.sass.access import Access

SECTOR = 32
"""Bytes of global memory that move together."""
BANKS = 32
"""Of shared memory, of four bytes each."""
ROW = 4 * BANKS
"""Bytes that shared memory moves in one cycle."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Per execution of one instruction by one warp, on average."""

    sectors: float
    """Distinct sectors of global memory."""
    turns: float
    """Cycles of shared memory: 1 for every row of banks, more with bank conflicts."""


def sectors(access: Access) -> int:
    """Return the distinct sectors that an access to global memory touches; as many as it can where that is unknown."""
    if access.active is not None and not access.active.any():
        return 0
    if access.addresses is None:
        return 32 * max(1, access.nbytes // SECTOR)
    lanes = (access.addresses if access.active is None else access.addresses[access.active]).tolist()
    touched = {lane // SECTOR for lane in lanes} | {(lane + access.nbytes - 1) // SECTOR for lane in lanes}
    return len(touched) if access.nbytes <= SECTOR else 32


def turns(access: Access) -> int:
    """Return the cycles that an access takes of shared memory.

    Lanes are served in groups whose data fill a row: 32 of 4 bytes, 16 of 8, 8 of 16; lanes of a group that want
    different words of one bank take turns. LDSM reads matrices by rows of 16 bytes, as eight lanes of 16 bytes would.
    """
    if access.active is not None and not access.active.any():
        return 0
    group = max(1, min(32, ROW // max(4, access.nbytes)))
    if access.addresses is None:
        return 32 // group
    # Turns of a loop repeat the pattern some rows on, with the same banks.
    begin = int(access.addresses.min()) // ROW * ROW
    words = (access.addresses - np.uint64(begin)) // np.uint64(4)
    return _turns_of(words.tobytes(), None if access.active is None else access.active.tobytes(), group,
                     max(1, access.nbytes // 4))


@lru_cache(maxsize=1 << 12)
def _turns_of(words: bytes, active: bytes | None, group: int, each: int) -> int:
    """Return the turns of lanes that want *each* words from *words* (uint64) on, where *active* (bool), by groups."""
    starts = np.frombuffer(words, np.uint64).tolist()
    acting = [True] * 32 if active is None else np.frombuffer(active, np.bool_).tolist()
    total = 0
    for begin in range(0, 32, group):
        wanted = {starts[lane] + n for lane in range(begin, begin + group) if acting[lane] for n in range(each)}
        total += max(Counter(word % BANKS for word in wanted).values(), default=0)
    return total


def traffic_of(accesses: Iterable[Access]) -> dict[int, Traffic]:
    """Return the average traffic of every instruction of which *accesses* have executions, bulk copies left out."""
    moved: dict[int, list[int]] = defaultdict(list)
    taken: dict[int, list[int]] = defaultdict(list)
    for access in accesses:
        if access.box is not None:
            continue
        if access.space == "shared":
            taken[access.index].append(turns(access))
        else:
            moved[access.index].append(sectors(access))
    return {index: Traffic(float(np.mean(moved[index])) if index in moved else 0.0,
                           float(np.mean(taken[index])) if index in taken else 0.0)
            for index in moved.keys() | taken.keys()}
