"""Work of a program in closed form: counted once, from the program, and used by engines, roofline and tests.

Loops are multiplied, never walked, so the cost does not depend on trip counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.program.ops import Compute, Load, Loop, Op, Store
from turbosim.program.program import CtaClass, Launch, Program

K = TypeVar("K")

SECTOR = 32
"""Bytes of one L2 sector; every access is rounded up to whole sectors."""


def sectors(nbytes: int) -> int:
    """Round *nbytes* up to whole 32-byte sectors."""
    return -(-nbytes // SECTOR) * SECTOR


@dataclass(slots=True)
class Work:
    """Totals of a launch or program."""

    ops: int = 0
    """Tile operations executed."""
    macs: dict[tuple[MmaPath, Dtype], int] = field(default_factory=dict)
    """Tensor-core MACs issued, padding included."""
    lanes: dict[OpClass, int] = field(default_factory=dict)
    """Thread-level instructions per class."""
    read_bytes: int = 0
    """Bytes asked of L2 by loads."""
    write_bytes: int = 0
    """Bytes written by stores, and so to device memory."""
    smem_bytes: int = 0
    """Bytes of shared memory read or written, with all that a cluster's CTAs receive of copies that they share."""
    loaded: dict[str, int] = field(default_factory=dict)
    """Bytes asked of L2 per tensor."""
    stored: dict[str, int] = field(default_factory=dict)
    """Bytes written per tensor."""

    def add(self, other: Work) -> None:
        """Add *other* into this."""
        self.ops += other.ops
        self.read_bytes += other.read_bytes
        self.write_bytes += other.write_bytes
        self.smem_bytes += other.smem_bytes
        _merge(self.macs, other.macs)
        _merge(self.lanes, other.lanes)
        _merge(self.loaded, other.loaded)
        _merge(self.stored, other.stored)

    @property
    def tensor_flops(self) -> int:
        """FLOPs the tensor cores do, padding and masked tiles included."""
        return 2 * sum(self.macs.values())


def _merge(into: dict[K, int], other: dict[K, int]) -> None:
    for key, value in other.items():
        into[key] = into.get(key, 0) + value


def trip_counts(body: Iterable[Op | Loop], params: dict[str, int], times: int = 1) -> Iterator[tuple[Op, int]]:
    """Yield every operation of *body* with the number of times a CTA with *params* executes it."""
    for item in body:
        if isinstance(item, Loop):
            yield from trip_counts(item.body, params, times * max(0, item.trips.value(params)))
        else:
            yield item, times


def class_counts(launch: Launch) -> Iterator[tuple[CtaClass, int]]:
    """Yield every CTA class with its number of CTAs."""
    counts = Counter({0: 1})
    tables = dict(launch.class_of)
    for dim in launch.grid:
        here = Counter(tables[dim.name]) if dim.name in tables else Counter({0: dim.size})
        step: Counter[int] = Counter()
        for first, times in counts.items():
            for second, more in here.items():
                step[first + second] += times * more
        counts = step
    for index, cta_class in enumerate(launch.classes):
        yield cta_class, counts[index]


def launch_work(program: Program, launch: Launch) -> Work:
    """Return the work of all CTAs of *launch*."""
    tile_bytes = {t.name: t.tile_bytes for t in program.tensors}
    total = Work()
    for cta_class, ctas in class_counts(launch):
        params = dict(cta_class.params)
        for role in launch.roles:
            for op, times in trip_counts(role.body, params):
                _count(total, op, times * ctas, tile_bytes)
    return total


def program_work(program: Program) -> Work:
    """Return the work of all launches of *program*."""
    total = Work()
    for launch in program.launches:
        total.add(launch_work(program, launch))
    return total


def _count(total: Work, op: Op, times: int, tile_bytes: dict[str, int]) -> None:
    total.ops += times
    if isinstance(op, Compute):
        total.smem_bytes += op.smem_bytes * times
        _merge(total.lanes, {c: n * times for c, n in op.lanes})
        if op.mma is not None:
            _merge(total.macs, {(op.mma.path, op.mma.dtype): op.mma.macs * times})
    elif isinstance(op, Load):
        nbytes = sectors(tile_bytes[op.tensor] if op.nbytes is None else op.nbytes) * times
        total.read_bytes += nbytes
        total.smem_bytes += nbytes * op.shared_by if op.smem else 0
        _merge(total.loaded, {op.tensor: nbytes})
    elif isinstance(op, Store):
        nbytes = sectors(tile_bytes[op.tensor] if op.nbytes is None else op.nbytes) * times
        total.write_bytes += nbytes
        _merge(total.stored, {op.tensor: nbytes})


def compulsory_read_bytes(program: Program, total: Work) -> int:
    """Bytes that must come from device memory at least once with an empty cache.

    Exact when every tile of a loaded tensor is read, which the schedules guarantee; a tensor written earlier in the
    program may still be in L2 and is not counted.
    """
    return sum(
        min(program.tensor(name).nbytes, nbytes)
        for name, nbytes in total.loaded.items()
        if name not in total.stored
    )
