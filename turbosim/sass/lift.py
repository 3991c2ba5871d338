"""From machine code to a program: what the GPU-level engine replays.

The loops of a kernel become loops, the code between two waits becomes a block, and its durations are what the
issue-level model finds with one CTA on the SM, two and so on, all data at hand. The engine adds memory, waves and
tails. Of the memory instructions of a block that move one tensor, all warps together move a tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from turbosim.errors import ProgramError
from turbosim.hw.spec import Gpu
from turbosim.program.occupancy import resident_ctas
from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Program, Role, Tensor
from turbosim.program.program import Launch as ProgramLaunch
from turbosim.sass.build import check_units
from turbosim.sass.cubin import Kernel
from turbosim.sass.evaluate import walk
from turbosim.sass.launch import Launch
from turbosim.sass.machine import Column, Kind
from turbosim.sass.observe import Observation, observe
from turbosim.sass.origin import ASSUMED
from turbosim.sass.parts import Part, turns_of
from turbosim.sass.pieces import Tiled, tiled
from turbosim.sass.price import Prices, prices_of
from turbosim.sass.rules import notes_on
from turbosim.sass.streams import Form, Stream, Tiling
from turbosim.sass.tensor_memory import allocated, is_allocation

ClockName = Literal["boost", "tensor_spec", "sustained", "power"]
MOST_OUTSTANDING = 32
"""Signals of a counter that a wait may leave open: as many as the fast engine remembers."""
COPIES, LOADS = "copies", "loads"
"""Counters: asynchronous copies to shared memory, and loads into registers; bulk copies have one for each mbarrier."""


def bulk_counter(mbarrier: int) -> str:
    """Return the counter of the bulk copies that the mbarrier of this number hears of."""
    return f"bulk {mbarrier}"


@dataclass(frozen=True)
class Lifted:
    """A kernel as a program, and how its blocks were priced."""

    program: Program
    prices: Prices


def lift(kernel: Kernel, launch: Launch, gpu: Gpu, clock: ClockName = "sustained") -> Lifted:
    """Return *kernel* of *launch* on *gpu* as a program.

    Data is at hand when blocks are priced, so that their cycles are the same at every clock. Raises ProgramError where
    control flow or addresses do not follow from the launch, or not in a form that programs
    have, and where one CTA does not fit the SM.
    """
    check_units(kernel)
    seen = observe(kernel, launch)
    hertz = gpu.clock.hertz("boost" if clock == "power" else clock)
    prices = prices_of(kernel, gpu, hertz, seen, resident(kernel, launch, gpu))
    lifting = _Lifting(kernel, launch, gpu, seen, prices)
    program = lifting.program()
    if lifting.reach >= MOST_OUTSTANDING:
        # Copies tile by tile are more than the fast engine remembers: regions are whole, and some bytes numbered twice.
        program = _Lifting(kernel, launch, gpu, seen, prices, whole=True).program()
    return Lifted(program, prices)


def resident(kernel: Kernel, launch: Launch, gpu: Gpu) -> int:
    """Return the CTAs of *launch* that are on an SM together. Raises ProgramError when none fits."""
    limits = resident_ctas(gpu.sm, launch.warps, kernel.registers, kernel.smem_bytes + launch.smem_bytes,
                           tensor_memory(kernel, launch))
    limit = min(limits, key=lambda name: limits[name])
    if limits[limit] < 1:
        raise ProgramError(f"kernel {kernel.name!r} on {gpu.name}: no CTA fits: {limit} allow {limits[limit]}; use "
                           "smaller tiles, fewer stages or fewer warps")
    ctas = launch.grid[0] * launch.grid[1] * launch.grid[2]
    return min(limits[limit], -(-ctas // gpu.sm.count))


def tensor_memory(kernel: Kernel, launch: Launch) -> int:
    """Return the tensor memory that a CTA of *launch* allocates [B]. Raises ProgramError where it is not known."""
    if not any(is_allocation(i) for i in kernel.instructions):
        return 0
    return allocated(kernel, walk(kernel, launch, (0, 0, 0), 0).events)


class _Lifting:
    def __init__(self, kernel: Kernel, launch: Launch, gpu: Gpu, seen: Observation, prices: Prices,
                 whole: bool = False) -> None:
        self.kernel, self.launch, self.gpu, self.seen, self.prices = kernel, launch, gpu, seen, prices
        table = prices.code.table
        bulk = table[table[:, Column.KIND] == Kind.BULK_LOAD]
        self.mbarriers = frozenset((bulk[:, Column.ARGUMENT] & 255).tolist())
        """Those of bulk copies."""
        self.counters = (COPIES, LOADS, *(bulk_counter(m) for m in sorted(self.mbarriers)))
        self.issued = dict.fromkeys(self.counters, Affine())
        self.used: set[str] = set()
        self.groups: list[Affine] = []
        """Copies of the last closed groups."""
        self.open = Affine()
        self.phases: dict[int, list[Affine]] = {m: [] for m in self.mbarriers}
        """Bulk copies of the phases of each mbarrier that have not been waited for."""
        self.still: frozenset[Stream] = frozenset()
        """Streams that move nothing for now."""
        self.reach = 0
        """The most signals that a wait leaves open."""
        self.tiled = {name: self._tiled(name, whole) for name in dict.fromkeys(s.tensor for s in seen.streams)}

    def _tiled(self, tensor: str, whole: bool) -> Tiled:
        seen = self.seen
        streams = [s for s in seen.streams if s.tensor == tensor]
        plain = {s: (seen.forms[s], self._extents(s)) for s in streams if not s.scattered}
        moved = {s: seen.nbytes[s] for s in streams}
        size = next(a.nbytes for a in self.launch.tensors if a.name == tensor)
        if len(plain) == len(streams):
            runs = {s: seen.runs[s] for s in streams if s in seen.runs}
            found = tiled(tensor, size, moved, runs, plain)
            if whole and found.pieces and not all(s.store for s in streams):
                return Tiled(Tiling(size, max(moved.values()), list(plain.values())), {}, apart=True)
            return found
        # The forms of scattered streams are numbers of tiles already.
        tiling = Tiling(size, max(moved.values()), list(plain.values()))
        for stream in streams:
            if stream.scattered:
                form, sizes = seen.forms[stream], self._extents(stream)
                tiling.tiles = max(tiling.tiles, form.value({v: sizes[v] - 1 for v, _ in form.terms}) + 1)
        return Tiled(tiling, {})

    def _run_bytes(self, tensor: str) -> int | None:
        """Return the shortest run of bytes in regions of *tensor* that streams move; None where regions are whole."""
        runs = [self.seen.runs[s] for s in self.seen.streams if s.tensor == tensor and s in self.seen.runs]
        return min((r.nbytes for r in runs if r.count > 1), default=None)

    def _extents(self, stream: Stream) -> Mapping[str, int]:
        """Return the number of values that each variable takes where *stream* moves."""
        late = next(p.late for p in self.seen.parts if p.name == stream.part)
        if stream not in self.seen.early:
            return self.seen.extents
        return {**self.seen.extents, stream.part: max(1, self.seen.extents[stream.part] - late)}

    def program(self) -> Program:
        body: list[Op | Loop] = []
        for part in self.seen.parts:
            body += self._part(part)
        tensors = tuple(Tensor(name, t.tiling.tiles, t.tiling.tile_bytes, "bytes", run_bytes=self._run_bytes(name))
                        for name, t in self.tiled.items())
        classes, class_of = self._classes()
        launch = ProgramLaunch(
            self.kernel.name, tuple(Dim(n, size) for n, size in self.seen.dims),
            (Role("warps", self.launch.warps, tuple(body)),),
            counters=tuple(Counter(n, CounterKind.DATA) for n in self.counters if n in self.used), classes=classes,
            class_of=(("x", class_of),) if len(classes) > 1 else (),
            smem_bytes=self.kernel.smem_bytes + self.launch.smem_bytes, registers_per_thread=self.kernel.registers,
            tensor_memory_bytes=tensor_memory(self.kernel, self.launch))
        meta: dict[str, str | int | float | bool] = {
            "kernel": self.kernel.name, "lifted": f"sm_{self.kernel.capability}"}
        if apart := [name for name, t in self.tiled.items() if t.apart]:
            meta["no_common_tile"] = " ".join(apart)
        if assumed := [*notes_on(self.kernel, self.gpu), *self.seen.assumed]:
            meta[ASSUMED] = "\n".join(assumed)
        return Program(self.kernel.name, tensors, (launch,), meta=meta)

    def _classes(self) -> tuple[tuple[CtaClass, ...], tuple[int, ...]]:
        """Return the classes of CTAs, and which one each x has."""
        rows = [tuple(sorted(params.items())) for params in self.seen.classes]
        if not any(s.scattered for s in self.seen.streams):
            return tuple(CtaClass(f"x{n}", row) for n, row in enumerate(rows)), tuple(range(len(rows)))
        # CTAs that begin at the same place of a tensor are alike, and there may be many of them.
        numbers = {row: n for n, row in enumerate(dict.fromkeys(rows))}
        return tuple(CtaClass(f"x{n}", row) for row, n in numbers.items()), tuple(numbers[row] for row in rows)

    def _part(self, part: Part) -> list[Op | Loop]:
        """Return the operations of a block or a loop."""
        if not part.loop:
            return self._code(part, None, moves=True) if part.always else [self._once(part)]
        before = dict(self.issued)
        main = self._count(part, "turns")
        ops: list[Op | Loop] = [self._turns(part, part.name, main, var(part.name))]
        if part.late:
            name = f"some_{part.name}"
            self.still = self.seen.early
            ops.append(self._turns(part, name, self._count(part, "late"), main + var(name)))
            self.still = frozenset()
        if part.idle:
            waits = [self._wait(n) for n in self.counters if n in self.used and self.issued[n] != before[n]]
            kept = dict(self.issued)
            ops += waits
            if part.idle > bool(part.final):
                tail = self._code(part, None, moves=False)
                ops.append(Loop(f"tail_{part.name}", self._count(part, "last"), tuple(tail)))
            if part.final:
                final = self._code(replace(part, code=part.final), None, moves=False)
                times = self._parameter(part.finals) if part.trips is None else Affine(1)
                ops.append(Loop(f"end_{part.name}", times, tuple(final)))
            self.issued = kept
        return ops

    def _once(self, part: Part) -> Loop:
        """Return a block that some CTAs do not execute: behind it, what it issues counts where it was executed."""
        before, closed, opened = dict(self.issued), len(self.groups), self.open
        begun = {m: len(phases) for m, phases in self.phases.items()}
        executed = self._parameter(part.count)
        body = self._code(part, None, moves=True)
        self.issued = {n: before[n] + executed * (self.issued[n] - before[n]).const for n in before}
        if len(self.groups) > closed:
            # The first of these groups holds what was open before, too: a CTA that closes none waits for that early.
            self.groups[closed] -= opened
            self.groups[closed:] = [executed * g.const for g in self.groups[closed:]]
            opened = Affine()
        self.open = opened + executed * (self.open - opened).const
        for mbarrier, phases in self.phases.items():
            phases[begun[mbarrier]:] = [executed * p.const for p in phases[begun[mbarrier]:]]
        return Loop(f"once_{part.name}", executed, tuple(body))

    def _turns(self, part: Part, name: str, count: Affine, turn: Affine) -> Loop:
        """Return *count* turns that move data, of which *turn* is the number."""
        before = dict(self.issued)
        # The first pass finds what a turn issues; the second begins where turns before it have left.
        self._code(part, None, moves=True)
        per_turn = {n: self.issued[n] - before[n] for n in before}
        self.issued = {n: before[n] + var(name) * per_turn[n].const for n in before}
        body = self._code(part, turn, moves=True)
        self.issued = {n: before[n] + count * per_turn[n].const for n in before}
        return Loop(name, count, tuple(body))

    def _parameter(self, name: str) -> Affine:
        return var(self.seen.same[name])

    def _count(self, part: Part, which: str) -> Affine:
        """Return the turns in which all streams move, some of them (late), or none (last)."""
        if part.trips is None:
            return self._parameter(f"{which}_{part.name}")
        return Affine(turns_of(part, part.trips)[f"{which}_{part.name}"])

    def _wait(self, counter: str, fewer: Affine | int = 0) -> Wait:
        open_ = fewer if isinstance(fewer, Affine) else Affine(fewer)
        self.reach = max(self.reach, open_.const + sum(abs(c) for _, c in open_.terms))
        return Wait(f"wait for {counter}", counter, self.issued[counter] - fewer)

    def _code(self, part: Part, turn: Affine | None, *, moves: bool) -> list[Op | Loop]:
        """Return the operations of one execution of *part*, in order, with or without its memory traffic."""
        ops: list[Op | Loop] = []
        pending: list[int] = []
        placed: set[Stream] = set()
        boards: set[int] = set()
        rows, wait, kind = self.prices.code.table.tolist(), int(Column.WAIT), int(Column.KIND)

        def flush() -> None:
            if pending:
                ops.append(self._block(part, len(ops), pending))
                pending.clear()

        for index in part.code:
            row = rows[index]
            if moves and any(row[wait] >> b & 1 for b in boards):
                flush()
                ops.append(self._wait(LOADS))
                boards.clear()
            if row[kind] == Kind.WAIT_GROUP and moves and COPIES in self.used:
                flush()
                allowed = row[Column.ARGUMENT]
                ops.append(self._wait(COPIES, sum(self.groups[len(self.groups) - allowed:], self.open)
                                      if allowed else self.open))
            if row[kind] == Kind.WAIT_PHASE and moves and row[Column.ARGUMENT] in self.mbarriers:
                flush()
                mbarrier = row[Column.ARGUMENT]
                self.phases[mbarrier] = self.phases[mbarrier][1:]
                ops.append(self._wait(bulk_counter(mbarrier), sum(self.phases[mbarrier], Affine())))
            if row[kind] == Kind.EXPECT:
                self.phases[row[Column.ARGUMENT] & 255].append(Affine())
            if row[kind] == Kind.GROUP:
                self.groups.append(self.open)
                self.open = Affine()
            pending.append(index)
            stream = self.seen.stream_of.get((part.name, index))
            if stream is None or stream.part != part.name or not moves or stream in placed or stream in self.still:
                continue
            placed.add(stream)
            ops += self._move(part, stream, turn, row)
            if not stream.store and row[kind] == Kind.LOAD and row[Column.WRITE_BARRIER] >= 0:
                boards.add(row[Column.WRITE_BARRIER])
        flush()
        return ops

    def _block(self, part: Part, number: int, indices: Sequence[int]) -> Compute:
        lanes, mma, smem, issued = self.prices.work(indices, self.launch.warps)
        return Compute(f"{part.name}.{number}", lanes=lanes, mma=mma, smem_bytes=smem,
                       cycles=self.prices.cycles(indices), instructions=issued)

    def _move(self, part: Part, stream: Stream, turn: Affine | None, row: Sequence[int]) -> list[Op | Loop]:
        """Return what moves the region of *stream*, tile by tile."""
        found = self.tiled[stream.tensor]
        form, name, pieces = self.seen.forms[stream], stream.tensor, found.pieces.get(stream)
        if not stream.scattered:
            form = found.tiling.number(pieces.form(form, name) if pieces else form)
        tile = self._affine(form, part, turn)
        nbytes = self.seen.nbytes[stream]
        label = f"{'store' if stream.store else 'load'} {name}"
        move: Load | Store
        if stream.store:
            move = Store(label, name, tile, nbytes)
            return pieces.ops(name, move) if pieces else [move]
        kind, mbarrier = row[Column.KIND], row[Column.ARGUMENT] & 255
        bulk = kind == Kind.BULK_LOAD
        counter = bulk_counter(mbarrier) if bulk else COPIES if kind == Kind.COPY else LOADS
        times = pieces.count if pieces else 1
        self.used.add(counter)
        self.issued[counter] = self.issued[counter] + times
        if counter == COPIES:
            self.open += times
        elif bulk:
            self.phases[mbarrier][-1] += times
        move = Load(label, name, tile, counter, nbytes, smem=counter != LOADS, bulk=bulk)
        return pieces.ops(name, move) if pieces else [move]

    def _affine(self, form: Form, part: Part, turn: Affine | None) -> Affine:
        """Return *form* over the program's variables; without *turn* it is that of the first turn."""
        found = Affine(form.const)
        for name, coefficient in form.terms:
            if name != part.name:
                found = found + var(name) * coefficient
            elif turn is not None:
                found = found + turn * coefficient
        return found


def with_useful_flops(program: Program, flops: int) -> Program:
    """Return *program* with the FLOPs of its mathematical definition."""
    return replace(program, useful_flops=flops)
