"""Operands, control fields and register reads, on lines as nvdisasm prints them."""

from __future__ import annotations

import pytest

from turbosim.sass.instruction import ZERO, Control, Instruction, Kind, parse_operand, split_operands
from turbosim.sass.ports import port_cycles, sources


def instruction(text: str, reuse: int = 0) -> Instruction:
    opcode, _, operands = text.partition(" ")
    return Instruction(0, opcode, split_operands(operands), None, Control(1, False, None, None, (), reuse))


@pytest.mark.parametrize(("text", "kind", "fields"), [
    ("R12", Kind.REGISTER, {"index": 12}),
    ("-R5.reuse", Kind.REGISTER, {"index": 5, "negative": True, "suffix": ""}),
    ("|R7|", Kind.REGISTER, {"index": 7, "absolute": True}),
    ("-|R7|.reuse", Kind.REGISTER, {"index": 7, "absolute": True, "negative": True}),
    ("~R3", Kind.REGISTER, {"index": 3, "inverted": True}),
    ("R9.H0_H0", Kind.REGISTER, {"index": 9, "suffix": "H0_H0"}),
    ("RZ", Kind.REGISTER, {"index": ZERO}),
    ("UR4", Kind.UNIFORM, {"index": 4}),
    ("!P2", Kind.PREDICATE, {"index": 2, "inverted": True}),
    ("!PT", Kind.PREDICATE, {"index": ZERO, "inverted": True}),
    ("UPT", Kind.UNIFORM_PREDICATE, {"index": ZERO}),
    ("0x1f", Kind.INTEGER, {"value": 31}),
    ("-0x1", Kind.INTEGER, {"value": -1}),
    ("1.4426950216293334961", Kind.FLOAT, {"value": 1.4426950216293335}),
    ("-INF", Kind.FLOAT, {"value": float("-inf")}),
    ("c[0x0][0x168]", Kind.CONSTANT, {"index": 0, "offset": 0x168}),
    ("-c[0x0][0x1a8]", Kind.CONSTANT, {"index": 0, "offset": 0x1a8, "negative": True}),
    ("c[0x0][UR5+0x10]", Kind.CONSTANT, {"index": 0, "uniform": 5, "offset": 16}),
    ("[R207+0x4000]", Kind.ADDRESS, {"base": 207, "offset": 0x4000, "wide": False}),
    ("[R230.64]", Kind.ADDRESS, {"base": 230, "wide": True}),
    ("[R2.64+-0x80]", Kind.ADDRESS, {"base": 2, "offset": -128, "wide": True}),
    ("desc[UR4][R2.64+0x10]", Kind.ADDRESS, {"base": 2, "offset": 16, "wide": True}),
    ("[R4+UR7+0x20]", Kind.ADDRESS, {"base": 4, "uniform": 7, "offset": 32}),
    ("[UR8]", Kind.ADDRESS, {"base": ZERO, "uniform": 8}),
    ("SR_CTAID.X", Kind.SPECIAL, {}),
    ("`(.L_x_3)", Kind.LABEL, {}),
    ("gdesc[UR20].tnspB", Kind.OTHER, {}),
])
def test_operands(text, kind, fields):
    found = parse_operand(text)
    assert found.kind is kind
    assert {name: getattr(found, name) for name in fields} == fields


def test_operands_are_divided_outside_of_brackets():
    assert [o.text for o in split_operands("P0, PT, R4, c[0x0][0x1a8], !PT")] == ["P0", "PT", "R4", "c[0x0][0x1a8]", "!PT"]


def test_control_field():
    field = 6 | 1 << 4 | 2 << 5 | 7 << 8 | 0b001010 << 11 | 0b0101 << 17
    found = Control.decode(field << 105 | 0xFFFF)
    assert found == Control(stall=6, yields=False, write_barrier=2, read_barrier=None, wait=(1, 3), reuse=5)


@pytest.mark.parametrize(("text", "registers"), [
    ("FFMA R1, R2, R3, R4", {0: (2,), 1: (3,), 2: (4,)}),
    ("HMMA.16816.F32 R4, R60.reuse, R216, RZ", {0: (60, 61, 62, 63), 1: (216, 217)}),
    ("ISETP.GE.AND P3, PT, R241, c[0x0][0x1a8], PT", {0: (241,)}),
    ("IADD3 R4, P0, R6, R8, RZ", {0: (6,), 1: (8,)}),
    ("SHFL.BFLY PT, R4, R6, 0x2, 0x1f", {0: (6,)}),
    ("STS.128 [R3+0x10], R8", {0: (3,), 1: (8, 9, 10, 11)}),
    ("LDG.E.128 R4, [R2.64]", {0: (2, 3)}),
    ("IMAD.WIDE R2, R4, 0x2, R6", {0: (4,), 2: (6, 7)}),
])
def test_registers_read(text, registers):
    assert sources(instruction(text)) == registers


def test_read_ports_count_the_fuller_bank_and_what_is_kept():
    first = instruction("HMMA.16816.F32 R4, R60, R216, R4", reuse=1)
    other = instruction("LDSM.16.M88.4 R8, [R3]")
    second = instruction("HMMA.16816.F32 R12, R60, R218, R12")
    third = instruction("FFMA R0, R2, R4, R6")
    assert port_cycles([first, other, second, third]) == [5, 1, 3, 3]
