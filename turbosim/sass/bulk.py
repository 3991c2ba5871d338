"""Bulk tensor copies (TMA): which box of which tensor an instruction moves, and which mbarrier hears of it.

A tensor map comes as an argument of the kernel, in the constant bank, or is made on the device: written to shared
memory word by word, and from there to global scratch memory by exchanges. Source of the order of operands: the machine
code of kernels whose operands are known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from turbosim.errors import ProgramError
from turbosim.sass.access import Access
from turbosim.sass.cubin import INSTRUCTION_BYTES, Kernel
from turbosim.sass.instruction import ZERO, Instruction, Kind
from turbosim.sass.launch import SPACING
from turbosim.sass.scratch import words_at
from turbosim.sass.steps import (
    MEMORY,
    RECORDS,
    SCRATCH,
    UNIFORMS,
    VISIT,
    Step,
    Unknown,
    Values,
    bits,
    first_lane,
    guard_bits,
    lanes_of,
)
from turbosim.sass.tensor_map import NBYTES, TensorMap, decode
from turbosim.sass.tensor_memory import is_bulk_load, is_expectation

if TYPE_CHECKING:
    from turbosim.sass.evaluate import Walk

COPIES = ("UTMALDG", "UTMASTG")
"""To shared memory, and from there."""
_TILED = re.compile(r"UTMA(?:LDG|STG)\.(?P<rank>[1-5])D$")
_VARIANTS = {"MULTICAST": "to several CTAs of a cluster", "2CTA": "of two CTAs of a cluster",
             "IM2COL": "in im2col mode", "IM2COL_W": "in im2col mode", "GATHER4": "of gathered rows",
             "TILE_GATHER4": "of gathered rows",
             "SCATTER4": "to scattered rows", "TILE_SCATTER4": "to scattered rows"}


def variant_of(inst: Instruction) -> str | None:
    """Return in words what a bulk copy is beyond one of a box of a tensor; None for nothing."""
    if _TILED.match(inst.opcode):
        return None
    return next((_VARIANTS[m] for m in inst.modifiers if m in _VARIANTS), "of a form that is not known")


@dataclass(frozen=True, slots=True)
class _Operands:
    """Uniform registers of a bulk copy."""

    shared: int
    """First of: place in shared memory, for loads the mbarrier, coordinates from the innermost dimension."""
    tensor_map: int
    """Pair that holds the address."""
    rank: int

    @classmethod
    def of(cls, inst: Instruction) -> _Operands | None:
        found, places = _TILED.match(inst.opcode), inst.operands[:2]
        if found is None or len(places) < 2 or any(o.kind is not Kind.ADDRESS or o.uniform == ZERO for o in places):
            return None
        return cls(UNIFORMS + places[0].uniform, UNIFORMS + places[1].uniform, int(found["rank"]))


def copies_of(inst: Instruction) -> list[Step]:
    """Return the step that records which box *inst* moves; none if it is no bulk copy of a known form."""
    operands = _Operands.of(inst) if inst.name in COPIES else None
    if operands is None:
        return []
    enabled, at = lanes_of(inst), operands.shared + (2 if is_bulk_load(inst) else 1)
    registers = [operands.tensor_map, operands.tensor_map + 1, *(at + n for n in range(operands.rank))]

    def run(values: Values) -> None:
        lanes = enabled(values)
        if lanes is False:
            nothing = np.empty(0, np.uint64), np.empty(0, np.bool_)
            values[RECORDS].append(Access(inst.index, values[VISIT], "global", 0, *nothing, 0))
            return
        words = [first_lane(values[r], True if isinstance(lanes, Unknown) else lanes) for r in registers]
        known = not isinstance(lanes, Unknown) and not any(isinstance(w, Unknown) for w in words)
        box = _tensor_map(values, words[0] | words[1] << 32) if known else None
        if box is None or len(box.shape) != operands.rank:
            values[RECORDS].append(Access(inst.index, values[VISIT], "global", 0, None, None, 0))
            return
        addresses, nbytes = box.pieces(tuple(w - (w >> 31 << 32) for w in words[2:]))
        values[RECORDS].append(Access(inst.index, values[VISIT], "global", nbytes, addresses,
                                      np.ones(len(addresses), np.bool_), box.box_bytes))

    return [Step(inst.index, run, bits(registers) | bits([SCRATCH]) | guard_bits(inst), 0, False, True)]


def _tensor_map(values: Values, address: int) -> TensorMap | None:
    """Return the tensor map at *address*; None where it is not known."""
    data: Any = values[MEMORY].get(address // SPACING)
    if data is not None:
        place = address % SPACING
        found = data[place:place + NBYTES]
        return decode(bytes(found)) if len(found) == NBYTES else None
    words = words_at(values[SCRATCH], address, NBYTES // 4)
    return None if words is None else decode(b"".join(w.to_bytes(4, "little") for w in words))


@dataclass(frozen=True, slots=True)
class Copy:
    """What an instruction moves each time that it acts."""

    box: int
    """Bytes of the box, also those outside of the tensor: what the mbarrier counts."""
    moved: float
    """Bytes of global memory, in whole sectors, on average."""
    warps: int
    """Bit mask of the warps that act."""


def copies(kernel: Kernel, walks: Sequence[Walk]) -> Mapping[int, Copy]:
    """Return what the bulk copies of *walks* move, and bytes that mbarriers are told to expect, by instruction.

    Raises ProgramError where that does not follow from the launch or changes between executions.
    """
    boxes: dict[int, set[int]] = {}
    moved: dict[int, list[int]] = {}
    warps: dict[int, int] = {}
    for walk in walks:
        for index, box, sectors in (*_boxes(kernel, walk), *_expected(kernel, walk)):
            boxes.setdefault(index, set()).add(box)
            moved.setdefault(index, []).append(sectors)
            warps[index] = warps.get(index, 0) | 1 << walk.warp
    for index, sizes in boxes.items():
        if len(sizes) > 1:
            raise refusal(kernel, index, f"moves boxes of different sizes, of {' and '.join(map(str, sorted(sizes)))} "
                          "bytes", "use one block shape for each copy")
    return {index: Copy(next(iter(sizes)), float(np.mean(moved[index])), warps[index])
            for index, sizes in boxes.items()}


def _boxes(kernel: Kernel, walk: Walk) -> Iterable[tuple[int, int, int]]:
    from turbosim.sass.traffic import SECTOR, sectors

    for access in walk.accesses:
        if access.box is None:
            continue
        if access.addresses is None:
            raise refusal(kernel, access.index, "its tensor map or coordinates do not follow from the launch",
                          "make the descriptor at the beginning of the kernel from arguments, or pass it")
        if access.box:
            yield access.index, access.box, SECTOR * sectors(access)


def _expected(kernel: Kernel, walk: Walk) -> Iterable[tuple[int, int, int]]:
    for event in walk.events:
        if is_expectation(kernel.instructions[event.index]):
            if event.values[1] is None:
                raise refusal(kernel, event.index, "the bytes that it expects do not follow from the launch",
                              "make the block shape constexpr")
            yield event.index, event.values[1], 0


def check_counts(kernel: Kernel, walks: Sequence[Walk]) -> None:
    """Raise ProgramError unless the mbarriers of a CTA, with warps *walks*, expect what copies bring them.

    The first warp must take part in every copy: it shows which tiles a CTA moves.
    """
    moved = copies(kernel, walks)
    for index, copy in moved.items():
        if not copy.warps & 1:
            raise refusal(kernel, index, "is left to other warps than the first, as by warp specialisation",
                          "compile the kernel without")
    expected: Counter[int | None] = Counter()
    brought: Counter[int | None] = Counter()
    where: dict[int | None, int] = {}
    for event in (e for walk in walks for e in walk.events):
        inst = kernel.instructions[event.index]
        if is_expectation(inst):
            expected[event.values[0]] += event.values[1] or 0
            where[event.values[0]] = event.index
        elif is_bulk_load(inst):
            brought[event.values[0]] += moved[event.index].box
            where.setdefault(event.values[0], event.index)
    for mbarrier, index in where.items():
        if expected[mbarrier] != brought[mbarrier]:
            raise refusal(kernel, index, f"its mbarrier expects {expected[mbarrier]} bytes in all and bulk copies "
                          f"bring {brought[mbarrier]}", "wait for copies of one kind with one mbarrier")


def refusal(kernel: Kernel, index: int, what: str, fix: str) -> ProgramError:
    """Return the error for a bulk copy that cannot be followed."""
    inst = kernel.instructions[index]
    return ProgramError(f"kernel {kernel.name!r}: {inst.opcode} at 0x{INSTRUCTION_BYTES * index:x}: {what}; {fix}")
