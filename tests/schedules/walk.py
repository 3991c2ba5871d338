"""Programs unrolled CTA by CTA, the slow way, to check what schedules say with loops and affine tile numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from turbosim.program.ops import Compute, Load, Loop, Op, Signal, Store
from turbosim.program.program import Launch, Role


def ctas(launch: Launch) -> Iterator[dict[str, int]]:
    """Yield the variables of every CTA, grid coordinates and class parameters, in the order of issue."""
    tables = dict(launch.class_of)
    names = [d.name for d in launch.grid]
    for reverse in itertools.product(*(range(d.size) for d in reversed(launch.grid))):
        place = dict(zip(names, reversed(reverse), strict=True))
        index = sum(tables[n][i] for n, i in place.items() if n in tables)
        yield {**place, **dict(launch.classes[index].params)}


def unroll(body: tuple[Op | Loop, ...], variables: dict[str, int]) -> Iterator[tuple[Op, dict[str, int]]]:
    """Yield every executed operation with its variables."""
    for item in body:
        if isinstance(item, Loop):
            for i in range(item.trips.value(variables)):
                yield from unroll(item.body, {**variables, item.variable: i})
        else:
            yield item, variables


def touched(launch: Launch, kind: type[Load | Store], tensor: str) -> list[int]:
    """Return the tile numbers of *tensor* that loads or stores name, in order."""
    return [op.tile.value(v) for cta in ctas(launch) for role in launch.roles for op, v in unroll(role.body, cta)
            if isinstance(op, kind) and op.tensor == tensor]


def count_ops(launch: Launch) -> int:
    """Return the operations and loops written down, not executed."""

    def count(body: tuple[Op | Loop, ...]) -> int:
        return sum(1 + (count(x.body) if isinstance(x, Loop) else 0) for x in body)

    return sum(count(role.body) for role in launch.roles)


def overwrites(role: Role, cta: dict[str, int], tensor: str, user: str, buffers: int) -> list[int]:
    """Return the loads of *tensor* (by number) whose buffer another warp group may still be reading.

    Load t reuses the buffer of tile t - *buffers*. All groups run the same blocks, so it is free once the block *user*
    of that tile came before the last barrier that the loading group passed.
    """
    used = free = loads = 0
    early = []
    for op, _ in unroll(role.body, cta):
        if isinstance(op, Compute) and op.label == user:
            used += 1
        elif isinstance(op, Signal):
            free = used
        elif isinstance(op, Load) and op.tensor == tensor:
            if loads >= free + buffers:
                early.append(loads)
            loads += 1
    return early


def even_splits(tiles: int, splits: int) -> int:
    """Return the most splits, *splits* at most, that leave none without a tile when all but the last have as many."""
    tiles = max(1, tiles)
    return next(n for n in range(min(splits, tiles), 0, -1) if -(-tiles // n) * (n - 1) < tiles)
