"""What a CTA loads again: bytes that L1, which lifted programs do not have, may still hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from turbosim.sass.access import Access
from turbosim.sass.cubin import Kernel
from turbosim.sass.instruction import Instruction
from turbosim.sass.launch import Launch
from turbosim.sass.streams import Stream, region_of
from turbosim.sass.traffic import SECTOR

_PLAIN = frozenset(("E", "64", "128", "256", "U8", "S8", "U16", "S16", "CONSTANT", "LTC64B", "LTC128B", "LTC256B"))
"""Modifiers of loads that L1 keeps what they bring [PTX ISA, cache operators]: others ask for something else of it, as
STRONG and BYPASS, or for another order of eviction."""
MOST_TURNS = 64
"""Of a loop that are looked at one by one; of more turns those behind the second are taken to go on as it did."""
MOST_SECTORS = 1 << 20
"""Of a stream, all turns together: far more than an L1 holds, and no more are looked at."""
LEAST = 0.01
"""Share of the bytes below which nothing is said."""

ByWarp = Sequence[Mapping[tuple[int, int], Access]]
"""Accesses of every warp, by instruction and visit."""


def note_on(kernel: Kernel, launch: Launch, streams: Mapping[Stream, tuple[int, int]],
            seen: Callable[[int], ByWarp], whose: str) -> str | None:
    """Return in words which share of its bytes a CTA of *launch* loads again; None where it is not known to do so.

    *streams* have the bytes that they move at a visit, and how often they move in that CTA; *seen* gives the accesses
    of its warps in the first visits, of which it takes the number; *whose* names it. Of a tensor nothing is known that
    the kernel stores to or reads by other than plain loads, nor of a kernel that drops lines of L1.
    """
    if any(i.name.startswith("CCTL") for i in kernel.instructions):
        return None
    again = _again(kernel, launch, streams, seen(2), 2)
    turns = max((visits for _, visits in streams.values()), default=0)
    if again and 2 < turns <= MOST_TURNS:
        again = _again(kernel, launch, streams, seen(turns), turns)
    if not again:
        return None
    share, tensors = again
    names = " and ".join(map(repr, tensors))
    return (f"kernel {kernel.name!r}: about {share:.0%} of the bytes that {whose} loads it has loaded before, from "
            f"{names}: on hardware L1 serves those that it still holds, here L2 or memory all of them")


def _again(kernel: Kernel, launch: Launch, streams: Mapping[Stream, tuple[int, int]], by_warp: ByWarp, known: int
           ) -> tuple[float, list[str]] | None:
    """Return which share of the bytes is loaded again, and from which tensors, with *known* visits in *by_warp*."""
    stored = {s.tensor for s in streams if s.store}
    found: dict[str, list[np.ndarray]] = {}
    total = 0
    for stream, (nbytes, visits) in streams.items():
        if stream.store:
            continue
        plain = stream.tensor not in stored and all(_is_plain(kernel.instructions[i]) for i in stream.instructions)
        sectors = _sectors(stream, launch, by_warp, visits, known) if plain else None
        total += nbytes * visits if sectors is None else SECTOR * len(sectors)
        if sectors is not None:
            found.setdefault(stream.tensor, []).append(sectors)
    again = {}
    for tensor, parts in found.items():
        everything = np.concatenate(parts)
        if nbytes := SECTOR * (len(everything) - len(np.unique(everything))):
            again[tensor] = nbytes
    share = sum(again.values()) / max(1, total)
    return (share, list(again)) if share >= LEAST else None


def _is_plain(instruction: Instruction) -> bool:
    return instruction.name in ("LDG", "LDGSTS") and set(instruction.modifiers) <= _PLAIN


def _sectors(stream: Stream, launch: Launch, by_warp: ByWarp, visits: int, known: int) -> np.ndarray | None:
    """Return the sectors of all *visits* (int64[n]), as often as they move; None where they are not known."""
    looked_at = range(min(visits, known))
    accesses = (a.get((index, v)) for a in by_warp for index in stream.instructions for v in looked_at)
    if stream.scattered or any(a is not None and (a.active is None or a.addresses is None) for a in accesses):
        return None
    regions = [r.sectors for v in looked_at if (r := region_of(stream, launch, by_warp, v)) is not None]
    if visits <= known:
        return np.concatenate(regions) if regions else np.zeros(0, np.int64)
    if len(regions) < 2 or len(regions[0]) != len(regions[1]) or visits * len(regions[0]) > MOST_SECTORS:
        return None
    step = regions[1] - regions[0]
    if (step != step[0]).any():
        return None
    return np.concatenate([regions[0] + step[0] * visit for visit in range(visits)])
