"""One SASS instruction: predicate, opcode, operands, and the scheduling the compiler wrote into it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any


class Kind(StrEnum):
    """What an operand is."""

    REGISTER = "R"
    UNIFORM = "UR"
    PREDICATE = "P"
    UNIFORM_PREDICATE = "UP"
    INTEGER = "integer"
    FLOAT = "float"
    CONSTANT = "constant"
    """A value of a constant bank: *index* is the bank, *offset* the byte."""
    ADDRESS = "address"
    """A memory address in brackets: *base*, *uniform* and *offset* are its terms."""
    SPECIAL = "special"
    LABEL = "label"
    OTHER = "other"


ZERO = 255
"""Index of RZ, URZ, PT and UPT: registers that read as 0, predicates that read as true."""


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand; fields that its kind does not use keep their defaults."""

    kind: Kind
    text: str
    index: int = ZERO
    """Number of the register, predicate or constant bank; the scoreboard of SB operands; ZERO for RZ, URZ, PT, UPT."""
    value: int | float = 0
    """Of INTEGER and FLOAT."""
    offset: int = 0
    """Of CONSTANT and ADDRESS [byte]."""
    base: int = ZERO
    """Of ADDRESS: the (first) register."""
    uniform: int = ZERO
    """Of ADDRESS: the (first) uniform register that is added."""
    wide: bool = False
    """Of ADDRESS: *base* is a pair of registers."""
    negative: bool = False
    """Arithmetic minus."""
    absolute: bool = False
    inverted: bool = False
    """Bitwise or logical not."""
    suffix: str = ""
    """What follows the register, as ``H0_H0``."""


@dataclass(frozen=True, slots=True)
class Control:
    """The scheduling field, bits 105 to 125 of an encoding [Volta and later]."""

    stall: int
    """Cycles before the warp may issue its next instruction."""
    yields: bool
    write_barrier: int | None
    """Scoreboard (0 to 5) that is released when the result has been written."""
    read_barrier: int | None
    """Scoreboard that is released when the operands have been read."""
    wait: tuple[int, ...]
    """Scoreboards that must be free before issue."""
    reuse: int
    """Bit per source operand: keep it in the operand cache."""

    @classmethod
    def decode(cls, encoding: int) -> Control:
        """Return the control field of a 128-bit *encoding*."""
        field = encoding >> 105
        write, read, mask = field >> 5 & 7, field >> 8 & 7, field >> 11 & 63
        return cls(stall=field & 15, yields=not field >> 4 & 1, write_barrier=None if write == 7 else write,
                   read_barrier=None if read == 7 else read, wait=tuple(b for b in range(6) if mask >> b & 1),
                   reuse=field >> 17 & 15)


@dataclass(frozen=True)
class Instruction:
    """One instruction of a kernel."""

    index: int
    """Position in the kernel, counted from 0; the address is 16 times it."""
    opcode: str
    """With modifiers, as ``HMMA.16816.F32``."""
    operands: tuple[Operand, ...]
    guard: Operand | None
    """Predicate under which it acts; None for always."""
    control: Control
    target: int | None = None
    """Index of the instruction that a branch goes to."""

    @cached_property
    def name(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @cached_property
    def modifiers(self) -> tuple[str, ...]:
        """What follows the name, in order."""
        return tuple(self.opcode.split(".")[1:])

    def __str__(self) -> str:
        guard = f"@{self.guard.text} " if self.guard else ""
        return f"{guard}{self.opcode} {', '.join(o.text for o in self.operands)}".rstrip()


_NUMBER = re.compile(r"[-+]?(0x[0-9a-f]+|\d+)$")
_FLOAT = re.compile(r"[-+]?(\d+(\.\d+)?([eE][-+]?\d+)?|INF|QNAN|SNAN)$")
_NAMED = re.compile(r"(?P<file>UR|UP|R|P|SB|gsb|B)(?P<number>\d+|Z|T)(?:\.(?P<suffix>[\w.]+))?$")
_CONSTANT = re.compile(r"c\[(?P<bank>0x[0-9a-f]+|UR\d+)\]\[(?P<at>[^\]]+)\]$")
_ADDRESS = re.compile(r"(?:(?:desc|gdesc|idesc|tmem)\[[^\]]*\])?\[(?P<at>[^\]]*)\]")
_FILES = {"R": Kind.REGISTER, "UR": Kind.UNIFORM, "P": Kind.PREDICATE, "UP": Kind.UNIFORM_PREDICATE}


@lru_cache(maxsize=1 << 14)
def parse_operand(text: str) -> Operand:
    """Return the operand written as *text*; what is not understood is of kind OTHER."""
    rest = text = text.strip()
    negative = absolute = inverted = False
    while rest[:1] in ("-", "~", "!", "|") and not _NUMBER.match(rest) and not _FLOAT.match(rest):
        negative |= rest[0] == "-"
        inverted |= rest[0] in "~!"
        if rest[0] == "|":
            absolute = True
            rest = rest[1:].replace("|", "", 1)
        else:
            rest = rest[1:]
    signs: dict[str, Any] = {"negative": negative, "absolute": absolute, "inverted": inverted}
    if found := _NAMED.match(rest):
        number = ZERO if found["number"] in "ZT" else int(found["number"])
        suffix = ".".join(s for s in (found["suffix"] or "").split(".") if s != "reuse")
        kind = _FILES.get(found["file"], Kind.OTHER)
        return replace(Operand(kind, text, number, suffix=suffix), **signs)
    if _NUMBER.match(rest):
        return replace(Operand(Kind.INTEGER, text, value=int(rest, 0)), **signs)
    if _FLOAT.match(rest):
        value = float(rest.replace("QNAN", "nan").replace("SNAN", "nan"))
        return replace(Operand(Kind.FLOAT, text, value=value), **signs)
    if found := _CONSTANT.match(rest):
        base, uniform, offset, _ = _terms(found["at"])
        bank = int(found["bank"], 16) if found["bank"].startswith("0x") else ZERO
        return replace(Operand(Kind.CONSTANT, text, bank, offset=offset, base=base, uniform=uniform), **signs)
    if rest.startswith(("`", "R`")):
        return Operand(Kind.LABEL, text)
    if rest.startswith("SR"):
        return Operand(Kind.SPECIAL, text)
    if rest.startswith("[") or (rest.startswith("desc[") and "][" in rest):
        found = _ADDRESS.match(rest)
        if found:
            base, uniform, offset, wide = _terms(found["at"])
            return Operand(Kind.ADDRESS, text, base=base, uniform=uniform, offset=offset, wide=wide)
    return replace(Operand(Kind.OTHER, text), **signs)


def _terms(text: str) -> tuple[int, int, int, bool]:
    """Return base register, uniform register, offset and whether the base is a pair, of the inside of brackets."""
    base, uniform, offset, wide = ZERO, ZERO, 0, False
    for term in re.findall(r"[-+]?[^-+]+", text):
        name, _, suffix = term.lstrip("+").partition(".")
        if name.startswith("UR"):
            uniform = ZERO if name == "URZ" else int(name[2:])
        elif name.startswith("R"):
            base = ZERO if name == "RZ" else int(name[1:])
            wide = suffix.startswith("64")
        else:
            offset += int(name, 16)
    return base, uniform, offset, wide


def split_operands(text: str) -> tuple[Operand, ...]:
    """Return the operands of the text after an opcode, which are divided by commas outside of brackets."""
    parts, depth, part = [], 0, ""
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth:
            parts.append(part)
            part = ""
        else:
            part += letter
    if part.strip():
        parts.append(part)
    return tuple(parse_operand(p) for p in parts)
