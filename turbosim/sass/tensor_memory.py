"""What instructions of tensor memory and of mbarriers do that their text does not say: values of their registers.

The tile of a product (tcgen05) stands in its instruction descriptor, a word whose fields the PTX ISA manual lists; a
commit and a wait name their mbarrier by its address in shared memory; an allocation gives its size in registers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from turbosim.errors import ProgramError
from turbosim.sass.access import Address
from turbosim.sass.cubin import INSTRUCTION_BYTES, Kernel
from turbosim.sass.instruction import ZERO, Instruction, Kind
from turbosim.sass.steps import (
    RECORDS,
    UNIFORMS,
    Step,
    Unknown,
    Values,
    bits,
    first_lane,
    guard_bits,
    known_in,
    lanes_of,
    slot,
)

PRODUCTS = ("UTCHMMA", "UTCIMMA", "UTCQMMA")
_DEPTH = {"UTCHMMA": 16, "UTCIMMA": 32, "UTCQMMA": 32}
_TF32_DEPTH = 8
_DESCRIPTOR = re.compile(r"idesc\[UR(\d+)\]")
_TILED = re.compile(r"UTC[HIQ]MMA\.(?:\w+\.)*?(?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+)")
COLUMN_BYTES = 4 * 128
"""Of tensor memory: a word for each of 128 lanes."""
_ALLOCATION = 32
"""Columns in which tensor memory is allocated."""


@dataclass(frozen=True, slots=True)
class Event:
    """One execution of an instruction whose registers matter; None for values that are not known or differ by lane.

    *values* are: of a product the descriptor, of what concerns an mbarrier its address, with the parity word of a wait
    and the bytes that an arrival expects, of an allocation its size.
    """

    index: int
    values: tuple[int | None, ...]


def is_commit(inst: Instruction) -> bool:
    """Return whether *inst* arrives at an mbarrier when products have ended."""
    return inst.name == "UTCBAR"


def is_expectation(inst: Instruction) -> bool:
    """Return whether *inst* arrives at an mbarrier and tells it how many bytes of bulk copies to expect."""
    return inst.opcode == "SYNCS.ARRIVE.TRANS64" and len(inst.operands) == 3 and inst.operands[2].kind is Kind.REGISTER


def is_bulk_load(inst: Instruction) -> bool:
    """Return whether *inst* copies a box of a tensor to shared memory."""
    return inst.name == "UTMALDG"


def is_wait(inst: Instruction) -> bool:
    """Return whether *inst* waits for a phase of an mbarrier."""
    return inst.name == "SYNCS" and "TRYWAIT" in inst.modifiers


def is_setting(inst: Instruction) -> bool:
    """Return whether *inst* sets an mbarrier to its first phase."""
    return inst.name == "SYNCS" and "EXCH" in inst.modifiers


def is_allocation(inst: Instruction) -> bool:
    """Return whether *inst* allocates tensor memory."""
    return inst.name == "UTCATOMSWS" and "FIND_AND_SET" in inst.modifiers


def events_of(inst: Instruction) -> list[Step]:
    """Return the step that records the executions of *inst*; none if they do not matter."""
    registers: list[int] = []
    address = None
    if inst.name in PRODUCTS:
        found = next((m for o in inst.operands if (m := _DESCRIPTOR.match(o.text))), None)
        if found is None:
            return []
        registers = [UNIFORMS + int(found[1])]
    elif is_bulk_load(inst) and inst.operands[0].kind is Kind.ADDRESS and inst.operands[0].uniform != ZERO:
        registers = [UNIFORMS + inst.operands[0].uniform + 1]
    elif is_commit(inst) or is_wait(inst) or is_setting(inst) or is_expectation(inst):
        place = next(n for n, o in enumerate(inst.operands) if o.kind is Kind.ADDRESS)
        address = Address(inst.operands[place], "shared")
        if is_wait(inst) or is_expectation(inst):
            registers = [slot(inst.operands[place + 1])]
    elif is_allocation(inst) and inst.operands[-1].kind is Kind.UNIFORM:
        registers = [slot(inst.operands[-1])]
    else:
        return []
    # These are of the one thread that executes them.
    enabled, one = lanes_of(inst), is_expectation(inst) or is_bulk_load(inst)

    def run(values: Values) -> None:
        lanes = enabled(values)
        if lanes is False:
            return
        seen = [address.of(values)] if address is not None else []
        seen += [values[r] for r in registers]
        if one and not isinstance(lanes, Unknown):
            seen = [first_lane(known_in(v, lanes), lanes) for v in seen]
        values[RECORDS].append(Event(inst.index, tuple(_uniform(v) for v in seen)))

    read = [*registers, *(address.reads if address is not None else ())]
    return [Step(inst.index, run, bits(read) | guard_bits(inst), 0, False, True)]


def _uniform(value: object) -> int | None:
    """Return the value that all lanes have; None where there is none."""
    if isinstance(value, np.ndarray):
        return int(value[0]) if (value == value[0]).all() else None
    return None if value is None or isinstance(value, Unknown) else int(value)  # type: ignore[call-overload]


def specified(kernel: Kernel, events: Iterable[Event]) -> Kernel:
    """Return *kernel* with the tiles of its products in their opcodes, as ``UTCHMMA.128x64x16``.

    Products that *events* do not have stay as they are. Raises ProgramError for a tile that is not known or not always
    the same, and for a product of two SMs.
    """
    tiles: dict[int, str] = {}
    for event in events:
        inst = kernel.instructions[event.index]
        if inst.name not in PRODUCTS or _TILED.match(inst.opcode):
            continue
        opcode = _tiled(kernel, inst, event.values[0])
        if tiles.setdefault(event.index, opcode) != opcode:
            raise refusal(kernel, inst, f"its tile changes between {tiles[event.index]} and {opcode}")
    if not tiles:
        return kernel
    return replace(kernel, code=tuple(
        replace(i, opcode=tiles[i.index]) if i.index in tiles else i for i in kernel.instructions))


def _tiled(kernel: Kernel, inst: Instruction, descriptor: int | None) -> str:
    if "2CTA" in inst.modifiers:
        raise refusal(kernel, inst, "is done by two SMs together")
    if descriptor is None:
        raise refusal(kernel, inst, "its instruction descriptor, which has its tile, does not follow from the launch")
    # Bits 17 to 22 are columns / 8, bits 24 to 28 rows / 16; of kind f16, the type of A is in bits 7 to 9.
    m, n, k = (descriptor >> 24 & 31) * 16, (descriptor >> 17 & 63) * 8, _DEPTH[inst.name]
    marks = {1: ".BF16", 2: ".TF32"}.get(descriptor >> 7 & 7, "") if inst.name == "UTCHMMA" else ""
    return f"{inst.opcode}{marks}.{m}x{n}x{_TF32_DEPTH if marks == '.TF32' else k}"


def tile_of(opcode: str) -> tuple[int, int, int] | None:
    """Return rows, columns and depth of a product whose opcode has them; None for other opcodes."""
    found = _TILED.match(opcode)
    return (int(found["m"]), int(found["n"]), int(found["k"])) if found else None


def operand_bytes(inst: Instruction) -> float:
    """Return the bytes of shared memory that a product reads: B, and A unless it is in tensor memory."""
    tile = tile_of(inst.opcode)
    if tile is None:
        return 0.0
    m, n, k = tile
    size = 4 if "TF32" in inst.modifiers else 2 if inst.name == "UTCHMMA" else 1
    return (n + (m if inst.operands[0].text.startswith("gdesc") else 0)) * k * size


def allocated(kernel: Kernel, events: Iterable[Event]) -> int:
    """Return the tensor memory that a CTA of *kernel* takes [byte]. Raises ProgramError where it is not known."""
    sizes = {}
    for event in events:
        inst = kernel.instructions[event.index]
        if is_allocation(inst):
            if event.values[0] is None:
                raise refusal(kernel, inst, "how much tensor memory it allocates does not follow from the launch")
            sizes[event.index] = event.values[0] * _ALLOCATION * COLUMN_BYTES
    return sum(sizes.values())


def refusal(kernel: Kernel, inst: Instruction, what: str) -> ProgramError:
    """Return the error for a use of *inst* that the issue-level model does not have."""
    where = f"kernel {kernel.name!r}: {inst.opcode} at 0x{INSTRUCTION_BYTES * inst.index:x}"
    return ProgramError(f"{where}: {what}, which the issue-level model does not have; use a schedule (turbosim "
                        "simulate --kernel)")
