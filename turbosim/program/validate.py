"""Rules a program must keep, all checked before an engine sees it. Violations are reported together."""

from __future__ import annotations

import math
from collections import Counter as Count
from collections.abc import Iterator
from dataclasses import dataclass, field

from turbosim.errors import ProgramError, did_you_mean
from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Signal, Store, Wait
from turbosim.program.program import CounterKind, CtaClass, Launch, Program
from turbosim.program.work import class_counts, trip_counts

MAX_GRID_DIMS, MAX_LOOPS, MAX_PARAMS = 5, 3, 6
MAX_CLUSTER = 16
"""CTAs of a cluster: 8 are portable, 16 where a kernel asks for it. Source: NVIDIA, Warp API reference,
``get_cuda_max_cluster_dim``."""
MOST_CTAS = 50_000_000
"""CTAs of a launch: the engines keep a class number for every grid coordinate, in 16 bytes."""
_BARRIERS = (CounterKind.BARRIER, CounterKind.MBARRIER)


def validate(program: Program) -> None:
    """Raise ProgramError, one line per defect, unless *program* is well formed.

    Tile numbers are bounded exactly per CTA class from the extremes of their affine expressions, without walking
    loops. A wait must be covered by the signals of its CTA; whether the order of operations can deadlock is left to
    the engines, which report it.
    """
    checker = _Checker(program)
    checker.program_rules()
    for launch in program.launches:
        checker.launch_rules(launch)
    if checker.defects:
        raise ProgramError("\n".join(checker.defects))


@dataclass
class _Checker:
    program: Program
    defects: list[str] = field(default_factory=list)

    def _add(self, where: str, message: str) -> None:
        self.defects.append(f"{where}: {message}")

    def _unique(self, where: str, what: str, names: list[str]) -> None:
        for name, times in Count(names).items():
            if times > 1:
                self._add(where, f"{what} {name!r} is declared {times} times")

    def program_rules(self) -> None:
        program = self.program
        where = f"program {program.name!r}"
        self._unique(where, "tensor", [t.name for t in program.tensors])
        if not program.launches:
            self._add(where, "has no launches")
        for tensor in program.tensors:
            if tensor.run_bytes is not None and not 1 <= tensor.run_bytes <= tensor.tile_bytes:
                self._add(where, f"tensor {tensor.name!r} has run_bytes {tensor.run_bytes}, must be 1 to the "
                                 f"{tensor.tile_bytes} of a tile")
            for name in ("tiles", "tile_bytes"):
                if getattr(tensor, name) < 1:
                    self._add(f"tensor {tensor.name!r}", f"{name} must be at least 1, got {getattr(tensor, name)}")

    def launch_rules(self, launch: Launch) -> None:
        where = f"launch {launch.name!r}"
        self._unique(where, "grid dimension", [d.name for d in launch.grid])
        self._unique(where, "counter", [c.name for c in launch.counters])
        self._unique(where, "role", [r.name for r in launch.roles])
        if not 1 <= len(launch.grid) <= MAX_GRID_DIMS:
            self._add(where, f"has {len(launch.grid)} grid dimensions, the range is 1 to {MAX_GRID_DIMS}")
        for dim in launch.grid:
            if dim.size < 1:
                self._add(where, f"grid dimension {dim.name!r} must be at least 1, got {dim.size}")
        if not launch.roles:
            self._add(where, "has no roles")
        for role in launch.roles:
            if role.warps < 1:
                self._add(f"{where} / role {role.name!r}", f"warps must be at least 1, got {role.warps}")
        if min((d.size for d in launch.grid), default=1) >= 1 and launch.ctas > MOST_CTAS:
            self._add(where, f"has {launch.ctas:,} CTAs, the engines keep a class number per grid coordinate for at "
                             f"most {MOST_CTAS:,}; use larger tiles or a smaller problem")
            return
        if self._class_rules(launch, where) and all(dim.size >= 1 for dim in launch.grid):
            for index, (cta_class, count) in enumerate(class_counts(launch)):
                if count == 0:
                    continue
                sizes = _coordinates(launch, index)
                for role in launch.roles:
                    scope = _Scope(f"{where} / role {role.name!r}", launch, cta_class, dict(sizes))
                    self._body(scope, role.body, [])
                self._waits(launch, where, cta_class)
        self.defects = list(dict.fromkeys(self.defects))

    def _class_rules(self, launch: Launch, where: str) -> bool:
        before = len(self.defects)
        if not launch.classes:
            self._add(where, "has no CTA classes")
            return False
        names = [n for n, _ in launch.classes[0].params]
        if len(names) > MAX_PARAMS:
            self._add(where, f"CTA classes have {len(names)} parameters, the most is {MAX_PARAMS}")
        for cta_class in launch.classes[1:]:
            if [n for n, _ in cta_class.params] != names:
                self._add(where, f"CTA class {cta_class.name!r} has other parameters than {launch.classes[0].name!r}")
        sizes = {d.name: d.size for d in launch.grid}
        self._unique(where, "class table of", [n for n, _ in launch.class_of])
        for name, table in launch.class_of:
            if name not in sizes:
                self._add(where, f"class table names unknown grid dimension {name!r}{did_you_mean(name, sizes)}")
            elif len(table) != sizes[name]:
                self._add(where, f"class table of {name!r} has {len(table)} entries, the dimension has {sizes[name]}")
        if len(self.defects) == before:
            low = sum(min(t) for _, t in launch.class_of)
            high = sum(max(t) for _, t in launch.class_of)
            if low < 0 or high >= len(launch.classes):
                self._add(where, f"class tables reach {low} to {high}, classes are 0 to {len(launch.classes) - 1}")
        return len(self.defects) == before

    def _body(self, scope: _Scope, body: tuple[Op | Loop, ...], loops: list[str]) -> None:
        for item in body:
            if not isinstance(item, Loop):
                self._op(scope, item)
                continue
            inner = scope.within(f"loop {item.variable}")
            if len(loops) == MAX_LOOPS:
                self._add(inner.where, f"loops nest deeper than {MAX_LOOPS}")
                continue
            if item.variable in scope.ranges or item.variable in dict(scope.cta_class.params):
                self._add(inner.where,
                          f"loop variable {item.variable!r} is already a grid dimension, parameter or loop")
                continue
            trips = self._range(inner, item.trips)
            if trips is None:
                continue
            # A loop that never runs is lowered all the same, so its names must be known.
            inner.dead = scope.dead or trips[1] <= 0
            inner.ranges[item.variable] = (0, max(0, trips[1] - 1))
            self._body(inner, item.body, [*loops, item.variable])

    def _range(self, scope: _Scope, affine: Affine) -> tuple[int, int] | None:
        """Return the least and greatest value of an expression, or None with a defect noted."""
        low = high = affine.const
        params = dict(scope.cta_class.params)
        for name, coefficient in affine.terms:
            if name in params:
                ends = (params[name], params[name])
            elif name in scope.ranges:
                ends = scope.ranges[name]
            else:
                known = [*params, *scope.ranges]
                self._add(scope.where, f"unknown variable {name!r}{did_you_mean(name, known)}")
                return None
            values = (coefficient * ends[0], coefficient * ends[1])
            low, high = low + min(values), high + max(values)
        return low, high

    def _op(self, scope: _Scope, op: Op) -> None:
        scope = scope.within(op.label)
        if isinstance(op, Compute):
            self._compute(scope, op)
            return
        if isinstance(op, (Load, Store)):
            self._access(scope, op)
        if isinstance(op, Load):
            self._shared(scope, op)
        if not isinstance(op, Store):
            kinds = {c.name: c.kind for c in scope.launch.counters}
            if op.counter not in kinds:
                self._add(scope.where, f"unknown counter {op.counter!r}{did_you_mean(op.counter, kinds)}")
            elif isinstance(op, Load) and kinds[op.counter] is not CounterKind.DATA:
                self._add(scope.where, f"a load signals a data counter, {op.counter!r} is {kinds[op.counter].value}")
            elif isinstance(op, Signal) and kinds[op.counter] not in _BARRIERS:
                self._add(scope.where,
                          f"a signal arrives at a barrier or mbarrier, {op.counter!r} is {kinds[op.counter].value}")
        if isinstance(op, Wait):
            self._range(scope, op.until)

    def _compute(self, scope: _Scope, op: Compute) -> None:
        if op.pieces < 1:
            self._add(scope.where, f"pieces must be at least 1, got {op.pieces}")
        if op.cycles:
            self._fixed(scope, op)
        if op.smem_bytes < 0 or op.instructions < 0 or any(n < 0 for _, n in (*op.lanes, *op.chain)):
            self._add(scope.where, "counts must not be negative")
        if op.mma is not None and min(op.mma.m, op.mma.n, op.mma.k, op.mma.count) < 1:
            self._add(scope.where, f"MMA sizes must be at least 1, got {op.mma.m} x {op.mma.n} x {op.mma.k}")
        if op.signal is None:
            return
        kinds = {c.name: c.kind for c in scope.launch.counters}
        if op.signal not in kinds:
            self._add(scope.where, f"unknown counter {op.signal!r}{did_you_mean(op.signal, kinds)}")
        elif kinds[op.signal] is not CounterKind.MMA:
            self._add(scope.where, f"an asynchronous block signals an mma counter, {op.signal!r} is "
                                   f"{kinds[op.signal].value}")
        if op.pieces != 1:
            self._add(scope.where, f"an asynchronous block is served in one piece, got {op.pieces}")

    def _fixed(self, scope: _Scope, op: Compute) -> None:
        for residents, cycles in enumerate(op.cycles, 1):
            if not 0 < cycles < math.inf:
                self._add(scope.where, f"a block's cycles are finite and above 0, got {cycles} with {residents} "
                                       f"CTA{'s' if residents > 1 else ''} on the SM")
                break
        if op.signal is not None or op.pieces != 1 or op.chain:
            self._add(scope.where, "a block of given cycles has no signal, pieces or chain: they are in its cycles")

    def _access(self, scope: _Scope, op: Load | Store) -> None:
        tensors = {t.name: t for t in self.program.tensors}
        if op.tensor not in tensors:
            self._add(scope.where, f"unknown tensor {op.tensor!r}{did_you_mean(op.tensor, tensors)}")
            return
        tensor = tensors[op.tensor]
        if op.nbytes is not None and not 1 <= op.nbytes <= tensor.tile_bytes:
            self._add(scope.where, f"moves {op.nbytes} B, a tile of {tensor.name!r} has {tensor.tile_bytes} B")
        span = self._range(scope, op.tile)
        if span is not None and not scope.dead and (span[0] < 0 or span[1] >= tensor.tiles):
            self._add(scope.where, f"reaches tiles {span[0]} to {span[1]} of {tensor.name!r}, which has "
                                   f"{tensor.tiles} (CTA class {scope.cta_class.name!r})")

    def _shared(self, scope: _Scope, op: Load) -> None:
        """Check the copies that CTAs of a cluster share."""
        if not 1 <= op.shared_by <= MAX_CLUSTER:
            self._add(scope.where, f"shared_by must be 1 to {MAX_CLUSTER} CTAs, got {op.shared_by}")
        elif op.shared_by > 1 and not (op.bulk and op.smem):
            self._add(scope.where, f"shared_by is for bulk copies to shared memory, got {op.shared_by} with "
                                   f"bulk={op.bulk} and smem={op.smem}")
        elif scope.launch.ctas % op.shared_by:
            self._add(scope.where, f"shared_by must divide the {scope.launch.ctas:,} CTAs of the launch, got "
                                   f"{op.shared_by}")

    def _waits(self, launch: Launch, where: str, cta_class: CtaClass) -> None:
        """Check that a CTA's signals cover the largest count its roles wait for."""
        params = dict(cta_class.params)
        signals: Count[str] = Count()
        for role in launch.roles:
            try:
                for op, times in trip_counts(role.body, params):
                    if isinstance(op, (Load, Signal)):
                        signals[op.counter] += times
                    elif isinstance(op, Compute) and op.signal is not None:
                        signals[op.signal] += times
            except KeyError:
                return
        for role in launch.roles:
            for wait, most in _largest_waits(role.body, params, {}):
                if most > signals[wait.counter]:
                    self._add(f"{where} / role {role.name!r} / {wait.label}",
                              f"waits for {most} signals of {wait.counter!r}, CTA class {cta_class.name!r} issues "
                              f"{signals[wait.counter]}")


@dataclass
class _Scope:
    where: str
    launch: Launch
    cta_class: CtaClass
    ranges: dict[str, tuple[int, int]]
    dead: bool = False
    """Whether no CTA of the class comes here."""

    def within(self, name: str) -> _Scope:
        return _Scope(f"{self.where} / {name}", self.launch, self.cta_class, dict(self.ranges), self.dead)


def _coordinates(launch: Launch, index: int) -> dict[str, tuple[int, int]]:
    """Return the range of each grid coordinate over the CTAs of class *index*, of which there is one at least."""
    tables = dict(launch.class_of)
    ranges = {}
    for dim in launch.grid:
        others = {0}
        for name, table in tables.items():
            if name != dim.name:
                others = {a + b for a in others for b in set(table)}
        if dim.name not in tables:
            ranges[dim.name] = (0, dim.size - 1)
            continue
        table = tables[dim.name]
        feasible = {number for number in set(table) if index - number in others}
        ranges[dim.name] = (min(table.index(n) for n in feasible),
                            dim.size - 1 - min(table[::-1].index(n) for n in feasible))
    return ranges


def _largest_waits(body: tuple[Op | Loop, ...], params: dict[str, int],
                   ends: dict[str, int]) -> Iterator[tuple[Wait, int]]:
    """Yield every executed wait with the largest count it waits for."""
    for item in body:
        if isinstance(item, Wait):
            terms = item.until.terms
            yield item, item.until.const + sum(max(0, c * ends[n]) if n in ends else c * params.get(n, 0)
                                               for n, c in terms)
        elif isinstance(item, Loop):
            trips = item.trips.value({**params, **ends})
            if trips > 0:
                yield from _largest_waits(item.body, params, {**ends, item.variable: trips - 1})
