"""LOP3 on words of which some bits are known, against all words that they may be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.sass.instruction import Control, Instruction, parse_operand, split_operands
from turbosim.sass.logic import Partly, logic
from turbosim.sass.opcodes import MODELLED
from turbosim.sass.semantics import LOW, lookup
from turbosim.sass.steps import ACTIVE, ALIVE, Slots, Unknown, known_in, opaque, slot

BITS = [1, 1 << 7, 1 << 31]
"""Bits that may be in doubt: few, so that all words can be tried."""
DATA = Unknown(3, "data")


def execute(text, maker=logic, guard=None, **given):
    """The slots after an instruction, from those given."""
    opcode, _, rest = text.partition(" ")
    slots = Slots()
    step = maker(slots, Instruction(7, opcode, split_operands(rest), guard and parse_operand(guard), Control.decode(0)))
    values = [0] * slots.size
    values[512:1024] = [False] * 512
    values[512 + 255] = values[768 + 255] = values[ACTIVE] = values[ALIVE] = True
    for value, number in slots.literals.items():
        values[number] = value
    for name, value in given.items():
        values[slot(parse_operand(name))] = value
    step.run(values)
    return lambda name: values[slot(parse_operand(name))]


def candidates(value):
    """All words that *value* may be, of those whose bits in doubt are among BITS."""
    if not isinstance(value, Unknown):
        return {value}
    assert value.doubt & ~sum(BITS) == 0
    doubted = [b for b in BITS if value.doubt & b]
    return {value.known | sum(chosen) for n in range(len(doubted) + 1) for chosen in itertools.combinations(doubted, n)}


@st.composite
def words(draw):
    doubt = sum(draw(st.sets(st.sampled_from(BITS))))
    known = draw(st.integers(0, LOW)) & ~doubt
    return Partly(3, "data", known, doubt) if doubt else known


@given(words(), words(), st.integers(0, LOW), st.integers(0, 255))
def test_a_bit_is_known_where_no_bit_in_doubt_decides_it(a, b, c, table):
    after = execute(f"LOP3.LUT P1, R0, R1, R2, R3, {table:#x}, !PT", R1=a, R2=b, R3=c)
    wanted = [lookup(table, x, y, c) for x in candidates(a) for y in candidates(b)]
    low, high = LOW, 0
    for word in wanted:
        low, high = low & word, high | word
    found = after("R0")
    if low == high:
        assert found == low
    else:
        assert (found.known, found.doubt) == (low, low ^ high)
    if len({bool(w) for w in wanted}) == 1 and (low or low == high):
        assert after("P1") == bool(low)
    else:
        assert isinstance(after("P1"), Unknown)


@given(words(), words(), st.integers(0, LOW))
def test_under_a_predicate_on_data_both_words_are_possible(a, old, c):
    found = execute("LOP3.LUT R0, R1, R2, RZ, 0xfc, !PT", guard="P1", P1=DATA, R1=a, R2=c, R0=old)("R0")
    wanted = {w | c for w in candidates(a)} | candidates(old)
    low, high = LOW, 0
    for word in wanted:
        low, high = low & word, high | word
    if low == high:
        assert found == low
    elif low ^ high == LOW:
        assert found == DATA
    else:
        assert (found.known, found.doubt) == (low, low ^ high)


def test_lanes_have_bits_of_their_own():
    lanes = np.arange(32, dtype=np.uint64)
    after = execute("LOP3.LUT P1, R0, R1, R2, RZ, 0xc0, !PT", R1=Partly(3, "data", lanes, 1 << 31), R2=lanes + 32)
    assert after("R0").tolist() == lanes.tolist()
    assert after("P1").tolist() == [lane > 0 for lane in range(32)]


def test_bits_among_data_keep_what_is_known():
    """Two predicates in one register, one of them on data: the other decides a branch."""
    register = execute("LOP3.LUT R0, R0, 0x20, RZ, 0xfc, !PT", guard="P2", P2=DATA, R0=0x40)("R0")
    assert execute("LOP3.LUT P0, RZ, R0, 0x40, RZ, 0xc0, !PT", R0=register)("P0") is True
    assert execute("LOP3.LUT P0, RZ, R0, 0x20, RZ, 0xc0, !PT", R0=register)("P0") == DATA
    assert execute("LOP3.LUT P0, RZ, R0, 0x10, RZ, 0xc0, !PT", R0=register)("P0") is False


@pytest.mark.parametrize("text", ["IADD3 R4, R0, 0x1, RZ", "MOV R4, R0"])
def test_other_instructions_take_the_word_for_unknown(text):
    found = execute(text, MODELLED[text.partition(" ")[0]], R0=Partly(3, "data", 0x40, 1))("R4")
    assert type(found) is Unknown
    assert found == DATA


def test_some_lanes_of_a_word_in_doubt_are_not_known():
    some = np.arange(32) < 16
    assert execute("LOP3.LUT R0, R1, RZ, RZ, 0xfc, !PT", guard="P1", P1=some, R1=Partly(3, "data", 0x40, 1),
                   R0=7)("R0") == DATA
    found = execute("LOP3.LUT R0, R1, RZ, RZ, 0xfc, !PT", guard="P1", P1=some, R1=7, R0=Partly(3, "data", 0x40, 1))("R0")
    assert found.origin == DATA
    assert known_in(found, np.arange(32) < 3).tolist()[:3] == [7, 7, 7]
    assert known_in(found, np.arange(32) < 17) is found
    assert execute("FADD R0, R1, R2", lambda _, inst: opaque(inst, [0]), R0=7)("R0") == Unknown(7, "")
