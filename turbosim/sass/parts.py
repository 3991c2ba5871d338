"""Parts of a kernel's straight code, and the class parameters that say how often a CTA runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A block, or a loop, of the kernel's straight code."""

    name: str
    code: tuple[int, ...]
    """Instructions of one execution, or of a turn."""
    loop: bool
    trips: int | None = None
    """Turns of a loop where all CTAs have as many."""
    idle: int = 0
    """Last turns of a loop that move no data."""
    late: int = 0
    """Turns before those in which some of its streams move nothing any more."""
    always: bool = True
    """Whether every CTA executes the block."""
    final: tuple[int, ...] = ()
    """Instructions of the last turn of a loop with idle turns where they are others: it has nothing to begin ahead."""

    @property
    def count(self) -> str:
        """Name of the class parameter that says whether an optional block is executed."""
        return f"has_{self.name}"

    @property
    def finals(self) -> str:
        """Name of the class parameter that says how often the last turn is executed: 0 or 1."""
        return f"final_{self.name}"


def class_parameters(parts: Sequence[Part], counts: Sequence[Mapping[str, int]],
                     columns: Mapping[str, Sequence[int]]) -> tuple[tuple[Mapping[str, int], ...], Mapping[str, str]]:
    """Return the class parameters for each x, or one entry where all are alike, and which one stands for each.

    *counts* has the executions of every part for each x, or one entry; *columns* further parameters for each x. Of
    parameters that are the same everywhere, only the first is kept.
    """
    rows: list[dict[str, int]] = []
    for x in range(max(len(counts), *(len(c) for c in columns.values()), 1)):
        of = counts[x] if len(counts) > 1 else counts[0]
        row = {name: column[x] for name, column in columns.items()}
        for part in parts:
            if not part.loop and not part.always:
                row[part.count] = of[part.name]
            elif part.loop and part.trips is None:
                row |= turns_of(part, of[part.name])
        rows.append(row)
    first: dict[tuple[int, ...], str] = {}
    same = {name: first.setdefault(tuple(row[name] for row in rows), name) for name in rows[0]}
    return tuple({name: row[name] for name in first.values()} for row in rows), same


def turns_of(part: Part, trips: int) -> dict[str, int]:
    """Return how many of a loop's *trips* are turns in which all streams move, some, none, and the last one."""
    moving, some = max(0, trips - part.idle - part.late), max(0, trips - part.idle)
    found = {f"turns_{part.name}": moving}
    if part.late:
        found[f"late_{part.name}"] = some - moving
    if part.final:
        found[part.finals] = min(1, trips)
    if part.idle:
        found[f"last_{part.name}"] = min(part.idle, trips) - found.get(part.finals, 0)
    return found
