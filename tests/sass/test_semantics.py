"""Arithmetic of single instructions against Python's integers, for words that lanes share and for words by lane."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.sass.conversion import float_of_int, int_of_float, reciprocal
from turbosim.sass.instruction import Control, Instruction, parse_operand, split_operands
from turbosim.sass.logic import LOGIC
from turbosim.sass.opcodes import MODELLED
from turbosim.sass.semantics import shuffled, spread, spread_flag
from turbosim.sass.steps import ACTIVE, ALIVE, NotModelled, Slots, Unknown, slot
from turbosim.sass.warp import CONCERNING

LOW = 2**32 - 1
edges = st.sampled_from([0, 1, 2, 31, 32, 33, 2**16, 2**31 - 1, 2**31, 2**31 + 1, LOW - 1, LOW])
words = st.one_of(edges, st.integers(0, LOW))
flags = st.booleans()


def signed(value, bits=32):
    return value - (1 << bits) if value >> bits - 1 else value


def execute(text, **given):
    """The registers after an instruction of the form ``OPCODE operands``, from those given; by lane for odd values."""
    opcode, _, rest = text.partition(" ")
    guard = None
    if opcode.startswith("@"):
        guard = parse_operand(opcode[1:])
        opcode, _, rest = rest.partition(" ")
    inst = Instruction(7, opcode, split_operands(rest), guard, Control.decode(0))
    slots = Slots()
    makers = {**MODELLED, **LOGIC, **CONCERNING}
    step = (makers.get(inst.name) or makers[inst.name.removeprefix("U")])(slots, inst)
    results = []
    for by_lane in (False, True):
        values = [0] * slots.size
        values[512:1024] = [False] * 512
        values[512 + 255] = values[768 + 255] = values[ACTIVE] = values[ALIVE] = True
        for value, number in slots.literals.items():
            values[number] = value
        for name, value in given.items():
            values[slot(parse_operand(name))] = (
                value if not by_lane else spread_flag(value).copy() if isinstance(value, bool) else spread(value).copy())
        step.run(values)
        results.append(values)

    def read(name):
        one, many = (r[slot(parse_operand(name))] for r in results)
        if isinstance(one, np.ndarray):
            one = one.tolist()
            assert many.tolist() == one
            return one
        assert np.unique(many).tolist() == [one]
        return one

    return read


def join(read, low, high):
    return read(low) | read(high) << 32


@given(words, words, words, words, flags)
def test_products(a, b, low, high, u32):
    read = execute(f"IMAD.WIDE{'.U32' if u32 else ''} R2, R4, R5, R6", R4=a, R5=b, R6=low, R7=high)
    product = a * b if u32 else signed(a) * signed(b)
    c = low | high << 32
    assert join(read, "R2", "R3") == (product + c) % 2**64
    assert execute(f"IMAD.HI{'.U32' if u32 else ''} R2, R4, R5, R6", R4=a, R5=b, R6=low, R7=high)("R2") == (
        product + c >> 32) % 2**32
    assert execute("IMAD R2, R4, -R5, R6", R4=a, R5=b, R6=low)("R2") == (low - a * b) % 2**32
    if u32:
        read = execute("IMAD.WIDE.U32 R2, P1, R4, R5, R6", R4=a, R5=b, R6=low, R7=high)
        assert (join(read, "R2", "R3"), read("P1")) == ((product + c) % 2**64, product + c >= 2**64)


@given(words, words, words, words)
def test_sums_and_differences_of_two_words(a_low, a_high, b_low, b_high):
    a, b = a_low | a_high << 32, b_low | b_high << 32
    for sign, second, want in (("", "", a + b), ("-", "~", a - b)):
        low = execute(f"IADD3 R2, P0, R4, {sign}R6, RZ", R4=a_low, R6=b_low)
        high = execute(f"IADD3.X R3, R5, {second}R7, RZ, P0, !PT", R5=a_high, R7=b_high, P0=low("P0"))
        assert (low("R2"), high("R3")) == (want % 2**32, want % 2**64 >> 32)
    read = execute("IADD.64 R2, R4, -R6", R4=a_low, R5=a_high, R6=b_low, R7=b_high)
    assert join(read, "R2", "R3") == (a - b) % 2**64


@given(words, words, words, flags, flags)
def test_sum_of_three_carries_twice(a, b, c, p, q):
    read = execute("UIADD3.X UR2, UP0, UP1, UR4, UR5, UR6, UP2, UP3", UR4=a, UR5=b, UR6=c, UP2=p, UP3=q)
    total = a + b + c + p + q
    assert (read("UR2"), read("UP0"), read("UP1")) == (total % 2**32, total >= 2**32, total >= 2**33)


@given(words, words, words, words, st.integers(0, 31))
def test_scaled_addresses(low, high, base_low, base_high, scale):
    base = base_low | base_high << 32
    one = execute(f"LEA R2, P0, R4, R6, {scale:#x}", R4=low, R6=base_low)
    given_ = {"R4": low, "R5": high, "R7": base_high, "P0": one("P0")}
    two = execute(f"LEA.HI.X R3, R4, R7, R5, {scale:#x}, P0", **given_)
    assert one("R2") | two("R3") << 32 == (base + ((low | high << 32) << scale)) % 2**64
    two = execute(f"LEA.HI.X.SX32 R3, R4, R7, {scale:#x}, P0", **given_)
    assert one("R2") | two("R3") << 32 == (base + (signed(low) << scale)) % 2**64


@given(words, words, st.one_of(st.integers(0, 70), words))
def test_shifts(low, high, amount):
    both, given_ = low | high << 32, {"R4": low, "R5": amount, "R6": high}
    few, many = min(amount, 32), min(amount, 64)
    for opcode, want in (
            ("SHF.L.U32", low << few), ("SHF.R.U32.HI", high >> few), ("SHF.R.S32.HI", signed(high) >> few),
            ("SHF.L.U64.HI", both << many >> 32), ("SHF.R.U64", both >> many), ("SHF.R.S64", signed(both, 64) >> many),
            ("SHF.L.W.U32.HI", both << (amount & 31) >> 32), ("SHF.R.W.U32", both >> (amount & 31))):
        assert execute(f"{opcode} R2, R4, R5, R6", **given_)("R2") == want % 2**32, opcode


@given(words, words, words, st.integers(0, 255), flags)
def test_logic(a, b, c, table, other):
    read = execute(f"LOP3.LUT P0, R2, R4, R5, R6, {table:#x}, P1", R4=a, R5=b, R6=c, P1=other)
    want = sum((table >> ((a >> n & 1) * 4 + (b >> n & 1) * 2 + (c >> n & 1)) & 1) << n for n in range(32))
    assert (read("R2"), read("P0")) == (want, want != 0 or other)


@given(flags, flags, flags, st.integers(0, 255), st.integers(0, 255))
def test_predicate_logic(a, b, c, one, two):
    read = execute(f"PLOP3.LUT P0, P1, P2, !P3, UP4, {one:#x}, {two:#x}", P2=a, P3=b, UP4=c)
    place = 4 * a + 2 * (not b) + c
    assert (read("P0"), read("P1")) == (bool(one >> place & 1), bool(two >> place & 1))


RELATIONS = {"LT": lambda a, b: a < b, "LE": lambda a, b: a <= b, "GT": lambda a, b: a > b, "GE": lambda a, b: a >= b,
             "EQ": lambda a, b: a == b, "NE": lambda a, b: a != b}


@given(words, words, words, words, st.sampled_from(sorted(RELATIONS)), flags, flags, flags)
def test_comparisons(a_low, a_high, b_low, b_high, relation, u32, other, same):
    if same:
        b_high = a_high
    kind = ".U32" if u32 else ""
    extend = (lambda v, bits: v) if u32 else signed
    read = execute(f"ISETP.{relation}{kind}.AND P0, P1, R4, R6, P2", R4=a_low, R6=b_low, P2=other)
    want = RELATIONS[relation](extend(a_low, 32), extend(b_low, 32))
    assert (read("P0"), read("P1")) == (want and other, not want and other)
    low = execute(f"ISETP.{relation}.U32.AND P0, PT, R4, R6, PT", R4=a_low, R6=b_low)("P0")
    high = execute(f"ISETP.{relation}{kind}.OR.EX P0, PT, R5, R7, P2, P1", R5=a_high, R7=b_high, P1=low, P2=other)("P0")
    want = RELATIONS[relation](extend(a_low | a_high << 32, 64), extend(b_low | b_high << 32, 64))
    assert high == (want or other)
    long = execute(f"ISETP.{relation}.{'U64' if u32 else 'S64'}.AND P0, PT, R4, R6, PT", R4=a_low, R5=a_high, R6=b_low,
                   R7=b_high)
    assert long("P0") == want


@given(words, words, words)
def test_permutations(a, selector, c):
    source = (a | c << 32).to_bytes(8, "little")
    chosen = []
    for place in range(4):
        nibble = selector >> 4 * place & 15
        byte = source[nibble & 7]
        chosen.append(byte if nibble < 8 else 255 * (byte >= 128))
    assert execute("PRMT R2, R4, R5, R6", R4=a, R5=selector, R6=c)("R2") == int.from_bytes(bytes(chosen), "little")


@given(words, st.integers(0, 40))
def test_fields(a, width):
    field = a % 2**min(width, 32)
    assert execute("SGXT.U32 R2, R4, R5", R4=a, R5=width)("R2") == field
    want = signed(field, min(width, 32)) if width else 0
    assert execute("SGXT R2, R4, R5", R4=a, R5=width)("R2") == want % 2**32
    # Widths in the code take another way.
    assert execute(f"SGXT R2, R4, {width:#x}", R4=a)("R2") == want % 2**32
    assert execute("BMSK R2, R5, R4", R4=width, R5=3)("R2") == (2**min(width, 32) - 1 << 3) % 2**32


@given(words, words, words, flags, flags)
def test_extremes_and_choices(a, b, c, p, u32):
    kind, key = (".U32", int) if u32 else ("", signed)
    best = min if p else max
    assert execute(f"IMNMX{kind} R2, R4, R5, P0", R4=a, R5=b, P0=p)("R2") == best(a, b, key=key)
    assert execute(f"VIADDMNMX{kind} R2, R4, R5, R6, P0", R4=a, R5=b, R6=c, P0=p)("R2") == best(
        (a + b) % 2**32, c, key=key)
    assert execute("SEL R2, R4, R5, !P0", R4=a, R5=b, P0=p)("R2") == (b if p else a)
    assert execute("IABS R2, R4", R4=a)("R2") == abs(signed(a))


@given(words)
def test_bits(a):
    assert execute("POPC R2, R4", R4=a)("R2") == f"{a:b}".count("1")
    assert execute("BREV R2, R4", R4=a)("R2") == int(f"{a:032b}"[::-1], 2)
    assert execute("FLO.U32 R2, R4", R4=a)("R2") == (len(f"{a:b}") - 1 if a else LOW)
    assert execute("FLO.U32.SH R2, R4", R4=a)("R2") == (32 - len(f"{a:b}") if a else LOW)
    other = a if a < 2**31 else LOW - a
    assert execute("FLO R2, R4", R4=a)("R2") == (len(f"{other:b}") - 1 if other else LOW)


@given(words, words, st.integers(0, 127), st.lists(flags, min_size=7, max_size=7))
def test_predicates_as_bits(a, b, mask, predicates):
    given_ = {f"P{n}": p for n, p in enumerate(predicates)}
    bits = sum(p << n for n, p in enumerate(predicates))
    assert execute(f"P2R R2, PR, R4, {mask:#x}", R4=a, **given_)("R2") == a & ~mask | bits & mask
    assert execute(f"P2R.B2 R2, PR, R4, {mask:#x}", R4=a, **given_)("R2") == a & ~(mask << 16) | (bits & mask) << 16
    if mask:
        read = execute(f"R2P PR, R4.B1, {mask:#x}", R4=b, **given_)
        assert [read(f"P{n}") for n in range(7)] == [
            bool(b >> 8 + n & 1) if mask >> n & 1 else p for n, p in enumerate(predicates)]


def float_bits(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


@given(st.integers(-2**63, 2**63 - 1), flags)
def test_integers_as_floats(value, long):
    bits = 64 if long else 32
    if not long:
        value = signed(value % 2**32)
    nearest = int(np.array(value).astype(np.float32).view(np.uint32))
    assert float_of_int(value % 2**bits, True, bits, "RN") == nearest

    def exact(rounding):
        return int(struct.unpack("<f", struct.pack("<I", float_of_int(value % 2**bits, True, bits, rounding)))[0])

    assert exact("RM") <= value <= exact("RP")
    assert abs(exact("RZ")) <= abs(value)
    # The two sides are neighbours, or the value itself.
    if exact("RM") != exact("RP"):
        assert np.nextafter(np.float32(exact("RM")), np.float32(np.inf)) == np.float32(exact("RP"))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_floats_as_integers(value):
    encoded = float_bits(value)
    for rounding, function in (("TRUNC", np.trunc), ("FLOOR", np.floor), ("CEIL", np.ceil), ("RN", np.rint)):
        whole = int(function(value))
        assert int_of_float(encoded, True, 32, rounding) == min(max(whole, -2**31), 2**31 - 1) % 2**32
        assert int_of_float(encoded, False, 64, rounding) == min(max(whole, 0), 2**64 - 1)
    if value:
        with np.errstate(over="ignore"):
            assert reciprocal(encoded) == float_bits(np.float32(1 / value))


def test_special_floats():
    infinity, nan = float_bits(float("inf")), 0x7FC00000
    assert [int_of_float(v, True, 32, "TRUNC") for v in (infinity, infinity | 1 << 31, nan)] == [2**31 - 1, 2**31, 0]
    assert [reciprocal(v) for v in (0, 1 << 31, infinity, nan)] == [infinity, infinity | 1 << 31, 0, 0x7FFFFFFF]


def test_floating_point_load_of_a_constant():
    assert execute("HFMA2.MMA R2, -RZ, RZ, 1.875, 0")("R2") == 0x3F800000
    assert execute("HFMA2 R2, -RZ, RZ, 0, 5.9604644775390625e-08")("R2") == 1
    assert execute("HFMA2.BF16_V2 R2, -RZ, RZ, 1, -1")("R2") == 0x3F80BF80
    with pytest.raises(NotModelled):
        execute("HFMA2 R2, R3, R4, 1, 1")


def test_votes():
    lanes = np.arange(32) % 3 == 0
    ballot = sum(1 << n for n in range(0, 32, 3))
    read = execute("VOTE.ANY R2, P1, P0", P0=lanes)
    assert (read("R2"), read("P1")) == (ballot, True)
    read = execute("VOTE.ALL R2, P1, !P0", P0=lanes)
    assert (read("R2"), read("P1")) == (LOW - ballot, False)
    assert execute("VOTEU.ANY UP1, P0", P0=np.zeros(32, bool))("UP1") is False
    assert execute("ELECT P0, URZ, PT")("P0") == [True] + [False] * 31


@pytest.mark.parametrize(("mode", "argument", "bounds", "source"), [
    ("IDX", 5, 0x1F, lambda n: 5), ("IDX", 2, 0x181F, lambda n: n & 24 | 2), ("BFLY", 3, 0x1F, lambda n: n ^ 3),
    ("UP", 4, 0, lambda n: n - 4 if n >= 4 else n), ("DOWN", 4, 0x1F, lambda n: n + 4 if n < 28 else n)])
def test_shuffles(mode, argument, bounds, source):
    inside, got = shuffled(np.arange(100, 132, dtype=np.uint64), argument, bounds, mode)
    assert got.tolist() == [100 + source(n) for n in range(32)]
    kept = {"UP": lambda n: n >= 4, "DOWN": lambda n: n < 28}.get(mode, lambda n: True)
    assert inside.tolist() == [kept(n) for n in range(32)]


def test_a_guard_keeps_other_lanes():
    odd = np.arange(32) % 2 == 1
    assert execute("@P0 MOV R2, 0x5", R2=3, P0=odd)("R2") == [3, 5] * 16
    assert execute("@!P0 IADD3 R2, R2, 0x1, RZ", R2=3, P0=odd)("R2") == [4, 3] * 16


def test_what_follows_from_unknown_values_is_unknown():
    slots = Slots()
    inst = Instruction(3, "IADD3", split_operands("R2, P0, R4, R5, RZ"), None, Control.decode(0))
    step = MODELLED["IADD3"](slots, inst)
    values = [0] * slots.size
    values[ACTIVE] = values[ALIVE] = True
    values[4] = Unknown(1, "")
    step.run(values)
    assert values[2] == values[512] == Unknown(1, "")
    guarded = MODELLED["MOV"](slots, replace(inst, opcode="MOV", operands=split_operands("R6, R7"),
                                             guard=parse_operand("P0")))
    guarded.run(values)
    assert values[6] == Unknown(1, "")
