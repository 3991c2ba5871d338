"""Which bytes memory instructions touch, and which registers instructions without arithmetic meaning write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from turbosim.sass import semantics as s
from turbosim.sass.instruction import ZERO, Instruction, Kind, Operand
from turbosim.sass.launch import SPACING
from turbosim.sass.steps import (
    MEMORY,
    RECORDS,
    REGISTERS,
    UNIFORMS,
    VISIT,
    NotModelled,
    Slots,
    Source,
    Step,
    Unknown,
    Values,
    bits,
    flag,
    guard_bits,
    lanes_of,
    slot,
    store,
)

SPACES = {
    **dict.fromkeys(("LDG", "STG", "LDGSTS", "LD", "ST", "ATOMG", "ATOM", "REDG", "RED"), "global"),
    **dict.fromkeys(("LDS", "STS", "LDSM", "STSM", "ATOMS"), "shared"),
    **dict.fromkeys(("LDL", "STL"), "local"),
}
"""State space by opcode; LDGSTS also writes shared memory. Accesses by descriptor (TMA, tensor memory) are left out."""
_PLAIN = re.compile(r"\[(?:(?P<register>R(?:\d+|Z))(?P<kind>\.64|\.U32|\.X\d+)?)?\+?(?:(?P<uniform>UR(?:\d+|Z))"
                    r"(?P<pair>\.64)?)?\+?(?P<offset>-?0x[0-9a-f]+)?\]$")


@dataclass(frozen=True, eq=False)
class Access:
    """What one execution of a memory instruction touches."""

    index: int
    """Of the instruction."""
    visit: int
    """How often the warp had executed it before."""
    space: str
    """``global``, ``shared`` or ``local``; shared and local addresses are relative to the CTA's and thread's memory."""
    nbytes: int
    """Per lane."""
    addresses: npt.NDArray[np.uint64] | None
    """First byte by lane [32]; None where they depend on data."""
    active: npt.NDArray[np.bool_] | None
    """Lanes that take part [32]; None where this depends on data."""
    box: int | None = None
    """Of a bulk copy: bytes of its box, also those outside of the tensor, and 0 where it does not act or is not known;
    *addresses* are then those of the parts of rows, of *nbytes* each. None for other accesses."""


def accesses_of(inst: Instruction) -> list[Step]:
    """Return the steps that record the accesses of *inst*, last first; none if it has none or never acts."""
    if inst.name not in SPACES or (inst.guard and inst.guard.index == ZERO and inst.guard.inverted):
        return []
    places = [n for n, o in enumerate(inst.operands) if o.kind == Kind.ADDRESS]
    found = []
    for number, place in enumerate(places):
        space = "shared" if inst.name == "LDGSTS" and number == 0 else SPACES[inst.name]
        # A predicate after the address switches reading off; LDGSTS then fills with zeros.
        switches = [flag(o) for o in inst.operands[place + 1:] if o.kind == Kind.PREDICATE and space == "global"]
        found.append(_recorder(inst, inst.operands[place], space, switches))
    return found[::-1]


def _nbytes(inst: Instruction) -> tuple[int, int]:
    """Return bytes per lane, and how many lanes give addresses."""
    if inst.name in ("LDSM", "STSM"):
        return 16, 8 * int(inst.modifiers[-1]) if inst.modifiers[-1] in ("2", "4") else 8
    sizes = {"8": 1, "U8": 1, "S8": 1, "16": 2, "U16": 2, "S16": 2, "64": 8, "128": 16, "256": 32}
    return next((sizes[m] for m in reversed(inst.modifiers) if m in sizes), 4), s.LANES


class Address:
    """The sum of registers and offset in the brackets of an operand."""

    def __init__(self, address: Operand, space: str) -> None:
        self._limit = s.ALL if space == "global" else s.LOW
        self._words: list[tuple[int, int]] = []
        self._pairs: list[int] = []
        self.reads: tuple[int, ...] = ()
        """Slots of its registers."""
        found = _PLAIN.search(address.text)
        self._understood = found is not None
        if found is None:
            return
        kind = found["kind"] or ""
        self._offset = int(found["offset"], 16) if found["offset"] else 0
        if found["register"] and found["register"] != "RZ":
            number = REGISTERS + int(found["register"][1:])
            if kind == ".64":
                self._pairs.append(number)
            else:
                self._words.append((number, int(kind[2:]) if kind.startswith(".X") else 1))
        if found["uniform"] and found["uniform"] != "URZ":
            number = UNIFORMS + int(found["uniform"][2:])
            # A global address has 64 bits: if not from the register, then from the uniform one.
            if found["pair"] or (space == "global" and kind != ".64"):
                self._pairs.append(number)
            else:
                self._words.append((number, 1))

        self.reads = (*(number for number, _ in self._words), *(p + n for p in self._pairs for n in (0, 1)))

    def of(self, values: Values) -> npt.NDArray[np.uint64] | None:
        """Return the address by lane; None where it is not known."""
        if not self._understood:
            return None
        for number in self.reads:
            if isinstance(values[number], Unknown):
                return None
        total = self._offset & self._limit
        for number, scale in self._words:
            total = total + values[number] * scale & self._limit
        for number in self._pairs:
            total = total + s.join(values[number], values[number + 1]) & self._limit
        return s.spread(total).copy()


def _recorder(inst: Instruction, operand: Operand, space: str, switches: list[Source]) -> Step:
    address = Address(operand, space)
    enabled, (nbytes, givers) = lanes_of(inst), _nbytes(inst)
    index, givers_mask = inst.index, np.arange(s.LANES) < givers

    def who(values: Values) -> npt.NDArray[np.bool_] | None:
        lanes = enabled(values)
        for switch in switches:
            value = values[switch.slot]
            if isinstance(value, Unknown) or isinstance(lanes, Unknown):
                return None
            lanes = lanes & (value if switch.change is None else switch.change(value))
        return None if isinstance(lanes, Unknown) else s.spread_flag(lanes) & givers_mask

    def run(values: Values) -> None:
        values[RECORDS].append(Access(index, values[VISIT], space, nbytes, address.of(values), who(values)))

    return Step(index, run, bits([*address.reads, *(w.slot for w in switches)]) | guard_bits(inst), 0, False, True)


def load(_: Slots, inst: Instruction) -> Step:
    """LDG d, [at]: known where the launch gives the contents of memory."""
    first, operand, *others = inst.operands
    nbytes = _nbytes(inst)[0]
    if others or operand.kind != Kind.ADDRESS or nbytes > 16:
        raise NotModelled
    address, enabled, unknown = Address(operand, "global"), lanes_of(inst), Unknown(inst.index, "")
    targets = [slot(first, n) for n in range(max(nbytes // 4, 1))]
    signed = bool({"S8", "S16"} & set(inst.modifiers))

    def read(memory: dict[int, bytes], at: int) -> int | None:
        data, place = memory.get(at // SPACING), at % SPACING
        if data is None or place + nbytes > len(data):
            return None
        value = int.from_bytes(data[place:place + nbytes], "little", signed=signed)
        return value & s.LOW if nbytes < 4 else value

    def fetch(values: Values, lanes: Any) -> list[Any]:
        at = address.of(values) if values[MEMORY] and not isinstance(lanes, Unknown) else None
        if at is None:
            return [unknown] * len(targets)
        acting = s.spread_flag(lanes)
        found = [read(values[MEMORY], a) if acts else 0 for a, acts in zip(at.tolist(), acting, strict=True)]
        known = [value for value in found if value is not None]
        if len(known) < s.LANES:
            return [unknown] * len(targets)
        return [np.array([v >> 32 * n & s.LOW for v in known], np.uint64) for n in range(len(targets))]

    def run(values: Values) -> None:
        lanes = enabled(values)
        if lanes is False:
            return
        for target, value in zip(targets, fetch(values, lanes), strict=True):
            store(values, target, value, True if isinstance(lanes, Unknown) else lanes)

    return Step(inst.index, run, bits(address.reads) | guard_bits(inst), bits(targets), inst.guard is None, True)


_WITHOUT_RESULT = frozenset((
    "STG", "STS", "STL", "ST", "STSM", "STTM", "RED", "REDG", "BAR", "BRX", "BRXU", "BRA", "RET", "CALL", "EXIT", "NOP",
    "NANOSLEEP", "WARPSYNC", "BSYNC", "BSSY", "BREAK", "YIELD", "DEPBAR", "LDGDEPBAR", "MEMBAR", "FENCE", "ERRBAR",
    "CCTL", "CCTLL", "KILL", "LDGSTS", "UTCBAR", "UTCHMMA", "UTCIMMA", "UTCQMMA", "UTCOMMA", "UTCCP", "UTMALDG",
    "UTMASTG", "UTMACMDFLUSH", "UTMACCTL", "UTMAPF", "UBLKCP", "UBLKPF", "WARPGROUP", "BPT", "ARRIVES", "USETMAXREG",
    "UVIRTCOUNT", "ACQBULK", "PREEXIT", "WARPGROUPSET", "UTCATOMSWS"))
_COMPARISONS = frozenset(("FSETP", "HSETP2", "DSETP", "ISETP", "PSETP", "PLOP3", "FCHK", "UFSETP"))


def results_of(inst: Instruction) -> list[int]:
    """Return the slots an instruction writes whose meaning is not modelled, by the common form of operands."""
    if inst.name in _WITHOUT_RESULT or not inst.operands:
        return []
    predicates = (Kind.PREDICATE, Kind.UNIFORM_PREDICATE)
    operands = list(inst.operands)
    written: list[int] = []
    while operands and operands[0].kind in predicates and len(written) < 2:
        written.append(slot(operands.pop(0)))
    if inst.name in _COMPARISONS or not operands or operands[0].kind not in (Kind.REGISTER, Kind.UNIFORM):
        return written
    first = operands.pop(0)
    if first.index != ZERO:
        written += [slot(first, n) for n in range(_width(inst))]
    while operands and operands[0].kind in predicates:
        written.append(slot(operands.pop(0)))
    if "256" in inst.modifiers and operands and operands[0].kind == Kind.REGISTER:
        written += [slot(operands[0], n) for n in range(4)]
    return written


def _width(inst: Instruction) -> int:
    """Return how many registers a result takes."""
    name, marks = inst.name, inst.modifiers
    shape = next((m for m in marks if re.fullmatch(r"\d+x\d+x\d+|\d{3,5}|8x8x4", m)), "")
    if name in ("HGMMA", "IGMMA", "QGMMA", "BGMMA", "DGMMA"):
        return int(shape.split("x")[1]) // (4 if "F16" in marks else 2)
    if name in ("HMMA", "IMMA", "BMMA", "QMMA", "DMMA", "OMMA"):
        return 2 if "F16" in marks or shape.startswith("88") else 4
    if name in ("LDTM", "LDSM"):
        count = next((m for m in reversed(marks) if re.fullmatch(r"x?\d+", m)), "1")
        factor = 4 if "16dp256bit" in marks else 2 if "16dp128bit" in marks else 1
        return int(count.lstrip("x")) * factor if name == "LDTM" or count in ("2", "4") else 1
    if "256" in marks or "128" in marks:
        return 4
    pairs = ("64", "WIDE", "F64", "U64", "S64")
    doubles = ("DADD", "DMUL", "DFMA", "FADD2", "FMUL2", "FFMA2", "CS2R")
    return 2 if any(m in pairs for m in marks) or name in doubles else 1
