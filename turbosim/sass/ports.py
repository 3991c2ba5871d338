"""Register reads of an instruction, and the cycles that they take of a scheduler's read ports.

Register files have two banks by the parity of the register's number, with one 32-bit port for every lane each, and a
small cache that keeps an operand for its place where the compiler says so [hardware facts K, on GA106; assumed to hold
for the other chips]. Other warps are taken not to push it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from turbosim.sass.instruction import ZERO, Instruction, Kind

BANKS = 2

_MATRIX_OPERANDS = {
    "HMMA.16816.F32": (4, 2, 4), "HMMA.16816.F16": (4, 2, 2), "HMMA.1688.F32": (2, 1, 4), "HMMA.1688.F16": (2, 1, 2),
    "IMMA.16832": (4, 2, 4), "IMMA.16816": (2, 1, 4), "IMMA.16864": (4, 2, 4), "IMMA.8816": (1, 1, 2),
    "QMMA.16832.F32": (4, 2, 4), "QMMA.16832.F16": (4, 2, 2), "DMMA.8x8x4": (2, 2, 4),
}
"""Registers of A, B and C per lane: rows x columns x bits / 1024."""
_DESTINATION_FIRST = ("STS", "STG", "STL", "ST", "RED", "BAR", "BRA", "EXIT", "LDGSTS", "SYNCS", "DEPBAR")
"""Opcodes whose first operand is read, or that have no destination."""


@lru_cache(maxsize=1 << 12)
def _widths(opcode: str) -> tuple[int, ...]:
    """Return the registers of each source operand where they are more than one."""
    for prefix, widths in _MATRIX_OPERANDS.items():
        if opcode.startswith(prefix):
            return widths
    name, *modifiers = opcode.split(".")
    if name in ("STS", "STG", "STL", "ST"):
        return 1, 4 if "128" in modifiers else 2 if "64" in modifiers else 1
    if name == "IMAD" and "WIDE" in modifiers:
        return 1, 1, 2
    if name in ("FADD2", "FMUL2", "FFMA2"):
        return 2, 2, 2
    return ()


def sources(instruction: Instruction) -> dict[int, tuple[int, ...]]:
    """Return the registers read at each place of an operand, counted from the first source."""
    # Predicates do not count as places, and come before, between and after registers.
    operands = [o for o in instruction.operands if o.kind not in (Kind.PREDICATE, Kind.UNIFORM_PREDICATE)]
    if instruction.name not in _DESTINATION_FIRST and not instruction.name.endswith("SETP"):
        operands = operands[1:]
    widths = _widths(instruction.opcode)
    found: dict[int, tuple[int, ...]] = {}
    for place, operand in enumerate(operands):
        if operand.kind is Kind.REGISTER and operand.index != ZERO:
            width = widths[place] if place < len(widths) else 1
            found[place] = tuple(range(operand.index, operand.index + width))
        elif operand.kind is Kind.ADDRESS and operand.base != ZERO:
            found[place] = (operand.base, operand.base + 1) if operand.wide else (operand.base,)
    return found


def port_cycles(instructions: Sequence[Instruction]) -> list[int]:
    """Return the cycles of the read ports that each of consecutive *instructions* of a basic block takes.

    An operand marked for reuse stays until another instruction reads an operand at its place. Memory instructions read
    through the same ports, but not through the operand cache.
    """
    kept: dict[int, tuple[int, ...]] = {}
    cycles = []
    for instruction in instructions:
        banks = [0] * BANKS
        cached = not any(o.kind is Kind.ADDRESS for o in instruction.operands)
        for place, registers in sources(instruction).items():
            if not cached or kept.get(place) != registers:
                for register in registers:
                    banks[register % BANKS] += 1
            if cached:
                kept.pop(place, None)
                if instruction.control.reuse >> place & 1:
                    kept[place] = registers
        cycles.append(max(banks))
    return cycles
