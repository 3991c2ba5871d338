"""What a launch does, seen in a few of its CTAs: parts of code, turns of loops, and where tiles begin.

CTAs are sampled along each axis of the grid, and counts and addresses taken for affine functions of the coordinates
where the samples agree with one; where they do not, every coordinate of that axis is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd

from turbosim.errors import ProgramError
from turbosim.sass.build import kind_of
from turbosim.sass.bulk import COPIES
from turbosim.sass.cubin import INSTRUCTION_BYTES, Kernel
from turbosim.sass.evaluate import walk
from turbosim.sass.launch import Launch
from turbosim.sass.machine import Kind
from turbosim.sass.parts import Part, class_parameters
from turbosim.sass.pieces import Runs, runs_of
from turbosim.sass.reuse import note_on
from turbosim.sass.sampling import AXES, Sample, Sampler, name_of, offsets, spread
from turbosim.sass.scattered import Assumptions, Spread, depends_on_data
from turbosim.sass.skeleton import Node, Run
from turbosim.sass.streams import STORES, Form, Stream, fit, instruction_tensors, region_of, scattered_bytes
from turbosim.sass.tensor_memory import is_bulk_load

MOST_SCANNED = 4096
"""Coordinates of an axis that are looked at one by one."""
FEWER_CTAS = (f"up to {MOST_SCANNED} are looked at one by one: change sizes with --set so that the grid has no more "
              "along x, or choose between values with tl.where")
"""The limit and what to do, for errors."""


@dataclass(frozen=True)
class Observation:
    """What :func:`observe` found."""

    parts: tuple[Part, ...]
    streams: tuple[Stream, ...]
    stream_of: Mapping[tuple[str, int], Stream]
    """By part and instruction."""
    forms: Mapping[Stream, Form]
    """First byte in the tensor, over dimensions of the grid, the loop's own name and class parameters."""
    nbytes: Mapping[Stream, int]
    """Per CTA and visit."""
    runs: Mapping[Stream, Runs]
    """Where the bytes of a region lie; left out where they are not in runs of one length, and for bulk copies."""
    extents: Mapping[str, int]
    """Number of values of each variable."""
    dims: tuple[tuple[str, int], ...]
    classes: tuple[Mapping[str, int], ...]
    """Parameters for each x; one entry where all are alike."""
    """Of parameters that are the same everywhere, only the first is here."""
    same: Mapping[str, str]
    """The parameter that stands for each."""
    assumed: tuple[str, ...]
    """What is assumed of accesses whose addresses depend on data and of what CTAs load again, in words."""
    early: frozenset[Stream]
    """Streams of loops that move nothing in the late turns."""
    sampler: Sampler = field(repr=False)
    """The CTAs that were looked at."""


def observe(kernel: Kernel, launch: Launch) -> Observation:
    """Return what *launch* of *kernel* does. Raises ProgramError where a program could not say it."""
    return _Observer(kernel, launch).result()


class _Observer:
    def __init__(self, kernel: Kernel, launch: Launch) -> None:
        self.kernel, self.launch = kernel, launch
        self.sampler = Sampler(kernel, launch)
        self.where = f"kernel {kernel.name!r}"
        self.assumptions = Assumptions(kernel, launch)
        self.scanned = False
        """Whether loop counts follow no line in x, so that a few CTAs do not show where streams begin."""

    def result(self) -> Observation:
        grid = self.launch.grid
        corners = [self.sampler.sample((x, 0, 0)) for x in spread(grid[0])]
        self.order = self.sampler.order(corners)
        fullest = max(corners, key=lambda c: len(c.counts))
        for axis in (1, 2):
            for other in self.sampler.along(fullest, axis, spread(grid[axis])):
                if other.counts != fullest.counts:
                    raise ProgramError(f"{self.where}: how often CTA {other.cta} runs its loops is not what CTA "
                                       f"{fullest.cta} does, and only the first axis of the grid may change it")
        counts = self._counts(corners)
        # The CTA that shows a part: the one that does most among those that have it, of a loop two turns, for its step.
        seen = self.sampler.along(corners[0], 0, range(grid[0])) if self.scanned else corners
        self.base = {name: max((c for c in seen if name in c.counts),
                               key=lambda c, of=name: (min(2, c.counts[of]), len(c.walk.blocks)))  # type: ignore[misc]
                     for name in self.order}
        parts = tuple(self._part(name, counts) for name in self.order)
        stream_of = self._streams(parts)
        streams = tuple(dict.fromkeys(stream_of.values()))
        ends = {p.name: self._idle(p, stream_of) for p in parts if p.loop}
        idle = {name: min(turns.values(), default=0) for name, turns in ends.items()}
        late = {name: max(turns.values(), default=0) - idle[name] for name, turns in ends.items()}
        early = frozenset(s for name, turns in ends.items() for s, n in turns.items() if n > idle[name])
        # Turns that move data.
        self.sizes = dict(zip(AXES, grid, strict=True)) | {
            name: max(1, max(c[name] for c in counts) - turns) for name, turns in idle.items()}
        parts = tuple(replace(p, idle=idle.get(p.name, 0), late=late.get(p.name, 0),
                              final=p.final if idle.get(p.name) else ()) for p in parts)
        nbytes, forms, runs = {}, {}, {}
        self.columns: dict[str, list[int]] = {}
        self.groups: dict[str, int] = {}
        for stream in streams:
            if stream.scattered:
                continue
            by_warp = self.sampler.by_warp(self.base[stream.part])
            regions = [r for v in (1, 0) if (r := region_of(stream, self.launch, by_warp, v))]
            if not regions:
                continue
            bulk = self.kernel.instructions[stream.instructions[0]].name in COPIES
            turns = self.base[stream.part].counts[stream.part] - ends.get(stream.part, {}).get(stream, 0)
            # What of the last box, or the last turn, is outside of the tensor does not move; the tile is a whole one.
            tile = max(regions, key=lambda r: r.nbytes) if bulk or turns == 2 else regions[0]
            nbytes[stream] = tile.nbytes
            if not bulk and (found := runs_of(tile.sectors, tile.start)):
                runs[stream] = found
            forms[stream] = self._form(stream, self.base[stream.part])
        moved = {s: n for s in streams if s.scattered
                 and (n := scattered_bytes(s, self.sampler.by_warp(self.base[s.part])))}
        nbytes |= moved
        forms |= Spread(self.launch, self.groups, self.columns, len(counts) > 1).forms(moved, self.sizes)
        moving = {at: s for at, s in stream_of.items() if s in forms}
        assumed = [*self.assumptions.texts(), *self._loaded_again(nbytes, ends)]
        dims, rename = self._dims()
        classes, same = class_parameters(parts, counts, self.columns)
        extents = dict(dims) | {k: v for k, v in self.sizes.items() if k not in AXES}
        extents |= {name: max(values) + 1 for name, values in self.columns.items()}
        return Observation(parts, tuple(forms), moving,
                           {s: f if s.scattered else rename(f) for s, f in forms.items()}, nbytes, runs, extents, dims,
                           classes, same, tuple(assumed), early, self.sampler)

    def _counts(self, corners: Sequence[Sample]) -> list[dict[str, int]]:
        """Return the executions of every part for each x, or one entry where they do not depend on it."""
        size = self.launch.grid[0]
        if all(s.counts == corners[0].counts for s in corners):
            return [corners[0].counts]
        rows = [dict.fromkeys(self.order, 0) | s.counts for s in corners]
        lines: dict[str, Callable[[int], int]] = {}
        for name in self.order:
            values = {s.cta[0]: row[name] for s, row in zip(corners, rows, strict=True)}
            line = _line(values)
            if line is not None:
                lines[name] = line
        for name in self.order:
            tied = next((n for n in lines if n.startswith("loop")
                         and all((r[n] > 0) == (r[name] > 0) for r in rows)), None)
            if name not in lines and tied is not None and all(r[name] in (0, 1) for r in rows):
                lines[name] = lambda x, of=lines[tied]: int(of(x) > 0)  # type: ignore[misc]
        if len(lines) == len(self.order):
            return [{n: lines[n](x) for n in self.order} for x in range(size)]
        if size > MOST_SCANNED:
            name = next(n for n in self.order if n not in lines)
            first = self.sampler.blocks[int(name.removeprefix("loop").removeprefix("block"))].first
            what = "how many turns CTAs make of the loop" if name.startswith("loop") else "which CTAs run the code"
            raise ProgramError(f"{self.where}: {what} at {INSTRUCTION_BYTES * first:#06x} follows no line over the "
                               f"{size} CTAs along x; {FEWER_CTAS}")
        self.scanned = True
        found = self.sampler.along(corners[0], 0, range(size))
        self.order = self.sampler.order(found)
        return [dict.fromkeys(self.order, 0) | s.counts for s in found]

    def _part(self, name: str, counts: Sequence[Mapping[str, int]]) -> Part:
        node = self._node(name)
        values = {c[name] for c in counts}
        if isinstance(node, Run):
            code, final = self._turn(node, node.template), self._turn(node, node.turns[-1])
            return Part(name, code, loop=True, trips=values.pop() if len(values) == 1 else None,
                        final=final if final != code else ())
        block = self.sampler.blocks[node]
        return Part(name, tuple(range(block.first, block.last + 1)), loop=False, always=values == {1})

    def _turn(self, run: Run, nodes: Sequence[Node]) -> tuple[int, ...]:
        """Return the instructions of *nodes*, a turn of *run*."""
        code: list[int] = []
        for node in nodes:
            if isinstance(node, Run):
                raise ProgramError(
                    f"{self.where}: the loop at {self._at(node)} is inside the loop at {self._at(run)}, which cannot "
                    "be lifted; where the outer one goes over tiles, as in persistent kernels, give every tile a CTA "
                    "of its own")
            code += range(self.sampler.blocks[node].first, self.sampler.blocks[node].last + 1)
        return tuple(code)

    def _at(self, run: Run) -> str:
        return f"{INSTRUCTION_BYTES * self.sampler.blocks[run.loop.first].first:#06x}"

    def _node(self, name: str) -> Node:
        return next(n for n in self.base[name].nodes if name_of(n) == name)

    def _streams(self, parts: Sequence[Part]) -> dict[tuple[str, int], Stream]:
        """Return the stream of every memory instruction, by part."""
        found: dict[tuple[str, int], Stream] = {}
        # Tensor -> stores since the last loop: a CTA skips the last blocks of a tile that are masked altogether.
        tiles: dict[str, Stream] = {}
        for part in parts:
            if part.loop:
                tiles.clear()
            accesses = [a for w in self.sampler.walks(self.base[part.name]) for a in w.accesses]
            tensors = instruction_tensors(self.launch, self.base[part.name].walk.accesses)
            scattered = depends_on_data(accesses) & set(part.code)
            for index in scattered:
                tensor = self.assumptions.add(index)
                if tensor is None:
                    tensors.pop(index, None)
                else:
                    tensors[index] = tensor
            members: dict[tuple[int, int, str, bool, bool], list[int]] = {}
            # Bulk copies that complete one phase are a tile, as the copies between two waits are.
            phases = {e.index: e.values[0] for e in reversed(self.base[part.name].walk.events)
                      if is_bulk_load(self.kernel.instructions[e.index])}
            segment = 0
            for index in part.code:
                instruction = self.kernel.instructions[index]
                if kind_of(instruction)[0] in (Kind.GROUP, Kind.WAIT_GROUP):
                    segment += 1
                if index in tensors:
                    at = (phases[index] or 0) + 1 if index in phases else 0
                    key = (0 if at else segment), at, tensors[index], instruction.name in STORES, index in scattered
                    members.setdefault(key, []).append(index)
            for (_, _, tensor, store, spread_out), indices in members.items():
                stream = Stream(part.name, tuple(indices), tensor, store, spread_out)
                if store and not part.loop and not spread_out:
                    begun = tiles.get(tensor)
                    if begun is not None:
                        stream = replace(begun, instructions=begun.instructions + stream.instructions)
                        found = {at: stream if s == begun else s for at, s in found.items()}
                    if begun is not None or part.always:
                        tiles[tensor] = stream
                found |= {(part.name, i): stream for i in indices}
        return found

    def _idle(self, part: Part, stream_of: Mapping[tuple[str, int], Stream]) -> dict[Stream, int]:
        """Return in how many of its last turns each load of a loop moves nothing, since all has been fetched ahead."""
        streams = {s for (name, _), s in stream_of.items() if name == part.name and not s.store}
        if not streams:
            return {}
        fewest = min((s for s in self.sampler.known.values() if s.counts.get(part.name, 0) >= 8),
                     key=lambda s: s.counts[part.name], default=self.base[part.name])
        turns = fewest.counts[part.name]
        found = walk(self.kernel, self.launch, fewest.cta, 0, visits=turns)
        last = dict.fromkeys(streams, -1)
        for a in found.accesses:
            stream = stream_of.get((part.name, a.index))
            if stream in last and a.space == "global" and (a.active is None or a.active.any()):
                last[stream] = max(last[stream], a.visit)
        return {stream: turns - 1 - visit for stream, visit in last.items()}

    def _loaded_again(self, nbytes: Mapping[Stream, int], idle: Mapping[str, Mapping[Stream, int]]) -> list[str]:
        """Return what is said of bytes that the CTA with most to do loads several times; idle turns are by part."""
        busiest = max(self.base.values(), key=lambda c: len(c.walk.blocks))
        visits = {s: max(0, busiest.counts.get(s.part, 0) - idle.get(s.part, {}).get(s, 0)) for s in nbytes}
        alike = all(s.counts == busiest.counts for s in self.sampler.known.values())
        note = note_on(self.kernel, self.launch, {s: (n, visits[s]) for s, n in nbytes.items()},
                       lambda first: self.sampler.by_warp(busiest, first),
                       "a CTA" if alike else "the CTA with most to do")
        return [note] if note else []

    def _form(self, stream: Stream, base: Sample) -> Form:
        """Return the first byte of *stream*'s region."""
        what = f"{self.where}: where {'stores to' if stream.store else 'loads of'} {stream.tensor!r} begin"

        def line(axis: int) -> Form | None:
            size = self.launch.grid[axis]
            near = self.sampler.along(base, axis, range(size) if self.scanned and axis == 0 else spread(size))
            return fit(what, [(offsets(s, base), v) for s, v in self._starts(stream, near)], [AXES[axis]])

        form = line(0) or self._column(stream, base, what)
        terms = list(form.terms)
        for axis in (1, 2):
            along = line(axis)
            terms += along.terms if along is not None else [self._grouped(stream, base, axis, what)]
        if step := self._step(stream, base):
            terms.append((stream.part, step))
        at = dict(zip(AXES, base.cta, strict=True))
        return Form(form.const - sum(c * at.get(v, 0) for v, c in terms), tuple(terms))

    def _starts(self, stream: Stream, samples: Sequence[Sample]) -> list[tuple[Sample, int]]:
        found = []
        for sample in samples:
            region = region_of(stream, self.launch, [sample.accesses], 0)
            if region is not None:
                found.append((sample, region.start))
        return found

    def _step(self, stream: Stream, base: Sample) -> int:
        """Return by how much the region moves in each turn of the loop that it is in; 0 when it is in none."""
        if not stream.part.startswith("loop"):
            return 0
        first, second = (region_of(stream, self.launch, [base.accesses], v) for v in (0, 1))
        return second.start - first.start if first is not None and second is not None else 0

    def _column(self, stream: Stream, base: Sample, what: str) -> Form:
        """Return a form with a class parameter, for starts that follow no line in x."""
        size = self.launch.grid[0]
        if size > MOST_SCANNED:
            raise ProgramError(f"{what} follows no line over the {size} CTAs along x; {FEWER_CTAS}")
        starts = {sample.cta[0]: start
                  for sample, start in self._starts(stream, self.sampler.along(base, 0, range(size)))}
        # Counted in steps from the lowest, so that streams that move alike share a parameter.
        low = min(starts.values())
        step = gcd(*(start - low for start in starts.values())) or 1
        column = [(starts.get(x, low) - low) // step for x in range(size)]
        name = next((n for n, known in self.columns.items() if known == column), f"at{len(self.columns)}")
        self.columns[name] = column
        return Form(low, ((name, step),))

    def _grouped(self, stream: Stream, base: Sample, axis: int, what: str) -> tuple[str, int]:
        """Return a term over a coordinate divided by a number, as heads that share keys have it."""
        size = self.launch.grid[axis]
        starts = [v for _, v in self._starts(stream, self.sampler.along(base, axis, range(size)))]
        group = next((n for n in range(2, size + 1) if size % n == 0 and all(
            starts[i] == starts[0] + (starts[-1] - starts[0]) // max(1, size // n - 1) * (i // n)
            for i in range(size))), None)
        if group is None or self.groups.setdefault(AXES[axis], group) != group:
            raise ProgramError(f"{what} follows no line along {AXES[axis]}, nor one in steps")
        return f"{AXES[axis]}_group", (starts[-1] - starts[0]) // max(1, size // group - 1)

    def _dims(self) -> tuple[tuple[tuple[str, int], ...], Callable[[Form], Form]]:
        """Return the dimensions of the grid, an axis with groups as two, and what turns forms to them."""
        dims: list[tuple[str, int]] = []
        for axis, size in zip(AXES, self.launch.grid, strict=True):
            group = self.groups.get(axis)
            dims += [(axis, size)] if group is None else [(axis, group), (f"{axis}_group", size // group)]

        def rename(form: Form) -> Form:
            terms: dict[str, int] = {}
            for v, c in form.terms:
                terms[v] = terms.get(v, 0) + c
                if v in self.groups:
                    terms[f"{v}_group"] = terms.get(f"{v}_group", 0) + c * self.groups[v]
            return Form(form.const, tuple(terms.items()))

        return tuple(dims), rename


def _line(values: Mapping[int, int]) -> Callable[[int], int] | None:
    """Return the line through all *values*, or None."""
    (x0, v0), (x1, v1) = list(values.items())[:2]
    if (v1 - v0) % (x1 - x0):
        return None
    slope = (v1 - v0) // (x1 - x0)
    if any(v != v0 + slope * (x - x0) for x, v in values.items()):
        return None
    return lambda x: v0 + slope * (x - x0)
