"""The inline assembly of kernels/exponential.py and kernels/codes.py, executed instruction by instruction on the CPU.

The interpreter cannot run it, so a few lines here do: pairs of halves in 32-bit registers, IEEE rounding to nearest.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from kernels import codes
from kernels import exponential as module
from turbosim.numerics.sas import exponential

HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
SCORES = HALVES[(HALVES <= 0.25) & ~np.isnan(HALVES)]
"""And a little above 0, where rounding may leave the largest score."""


def lanes(register):
    """Return the two halves of 32-bit registers, low first."""
    return np.stack([register & 0xFFFF, register >> 16]).astype(np.uint16).view(np.float16)


def packed(halves):
    bits = halves.astype(np.float16).view(np.uint16).astype(np.uint32)
    return bits[0] | bits[1] << np.uint32(16)


def half(function, *registers):
    """Apply a function lane by lane in float64, which holds every product and sum of halves, and round once."""
    with np.errstate(over="ignore", invalid="ignore"):
        return packed(function(*(lanes(r).astype(np.float64) for r in registers)))


def permute(low, high, selector):
    table = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    out = np.zeros_like(low)
    for byte in range(4):
        index = selector >> np.uint32(4 * byte) & np.uint32(7)
        out |= ((table >> (np.uint64(8) * index.astype(np.uint64))) & np.uint64(255)).astype(np.uint32) << np.uint32(8 * byte)
    return out


OPERATIONS = {
    "mov.b32": lambda a: a,
    "neg.f16x2": lambda a: a ^ np.uint32(0x80008000),
    "min.f16x2": lambda a, b: half(np.minimum, a, b),
    "add.rn.f16x2": lambda a, b: half(np.add, a, b),
    "sub.rn.f16x2": lambda a, b: half(np.subtract, a, b),
    "mul.rn.f16x2": lambda a, b: half(np.multiply, a, b),
    "fma.rn.f16x2": lambda a, b, c: half(lambda x, y, z: x * y + z, a, b, c),
    "fma.rn.relu.f16x2": lambda a, b, c: half(lambda x, y, z: np.maximum(x * y + z, 0), a, b, c),
    "set.le.u32.f16x2": lambda a, b: np.where(lanes(a) <= lanes(b), 0xFFFF, 0).astype(np.uint32)[0]
    | np.where(lanes(a) <= lanes(b), 0xFFFF, 0).astype(np.uint32)[1] << np.uint32(16),
    "and.b32": lambda a, b: a & b,
    "xor.b32": lambda a, b: a ^ b,
    "or.b32": lambda a, b: a | b,
    "shr.u32": lambda a, b: a >> b,
    "mad.lo.s32": lambda a, b, c: a * b + c,
    "prmt.b32": permute,
}


def execute(assembly, *inputs):
    """Return register $0 after the assembly, given $1 and on."""
    registers = {f"${number}": value.astype(np.uint32) for number, value in enumerate(inputs, 1)}
    lines = [line.strip("{} \n") for line in assembly.split(";")]
    statements = [line for line in lines if line and not line.startswith(".reg")]
    assert statements[-1].split()[1].startswith("$0")
    for line in statements:
        words = re.fullmatch(r"([a-z][\w.]*)\s+(.*)", line, re.DOTALL)
        assert words is not None, line
        target, *operands = [o.strip() for o in words[2].split(",")]
        values = [registers[o] if o in registers else np.full_like(inputs[0], int(o, 0) & 0xFFFFFFFF, dtype=np.uint32)
                  for o in operands]
        with np.errstate(over="ignore"):
            registers[target] = OPERATIONS[words[1]](*values).astype(np.uint32)
    return registers["$0"]


def pairs(values, seed):
    """Return registers whose low halves are *values* and whose high halves are the same in another order."""
    other = np.random.default_rng(seed).permutation(values)
    return packed(np.stack([values, other])), other


@pytest.mark.parametrize("form", ["table", "exponent"])
def test_every_half_in_either_lane(form):
    assembly = getattr(module, f"_{form.upper()}").value
    scale = math.log2(math.e) if form == "exponent" else 1.0
    registers, other = pairs(SCORES, 0)
    low, high = lanes(execute(assembly, registers))
    for got, x in ((low, SCORES), (high, other)):
        natural = x.astype(np.float64) / scale
        want = np.where(natural >= -6, np.exp(natural), 0)
        # At the threshold itself the half nearest to 6 log2(e) decides.
        sure = np.abs(natural + 6) > 4e-3
        error = np.abs(got.astype(np.float64) - want)
        assert error[sure & (natural <= 0)].max() <= 1.1e-3
        assert error[natural > 0].max() <= 1e-2
        assert (got[natural < -6.004] == 0).all()
        assert (got[natural > -5.99] > 0).all()
        assert not np.isnan(got).any()


@pytest.mark.parametrize("form", ["table", "exponent"])
def test_it_is_the_references_arithmetic(form):
    """Against the float16 reference, which rounds twice in a multiply-add: a unit in the last place apart at most."""
    x = SCORES[(SCORES >= -5.9) & (SCORES <= -1e-3)]
    registers, _ = pairs(x, 1)
    got = lanes(execute(getattr(module, f"_{form.upper()}").value, registers))[0]
    natural = torch.from_numpy(x.astype(np.float32)) / (math.log2(math.e) if form == "exponent" else 1.0)
    want = exponential(natural, form, dtype=torch.float16).numpy()
    assert np.abs(got.astype(np.float64) / want.astype(np.float64) - 1).max() <= 3 * 2.0**-10


def test_the_largest_score_keeps_its_weight():
    zero = np.zeros(1, np.uint32)
    assert lanes(execute(module._EXPONENT.value, zero)).flatten().tolist() == [1.0, 1.0]
    assert lanes(execute(module._TABLE.value, zero))[0, 0] == np.float16(0.99951171875)


def test_four_weights_become_four_bytes():
    p = np.linspace(0, 1, 4001).astype(np.float16)
    generator = np.random.default_rng(2)
    a, b, c, d = (generator.permutation(p) for _ in range(4))
    for inverse in (119.0, 127.0, 200.0 / 2, 119 / 0.7):
        factor = packed(np.full((2, len(p)), inverse))
        kept = [np.where(x * np.float16(inverse) <= 127, x, 0).astype(np.float16) for x in (a, b, c, d)]
        out = execute(module._TO_INT8.value, packed(np.stack(kept[:2])), packed(np.stack(kept[2:])), factor, factor)
        for byte, x in enumerate(kept):
            got = (out >> np.uint32(8 * byte) & np.uint32(255)).astype(int)
            want = np.rint(x.astype(np.float64) * float(np.float16(inverse)))
            assert np.abs(got - want).max() <= 0


def bytes_of(register):
    """Return the four bytes of 32-bit registers, low first."""
    return np.stack([register >> np.uint32(8 * n) & np.uint32(255) for n in range(4)])


def registers_of(values):
    """Return 32-bit registers of bytes (4, n), low first."""
    wide = values.astype(np.uint32) & np.uint32(255)
    return wide[0] | wide[1] << np.uint32(8) | wide[2] << np.uint32(16) | wide[3] << np.uint32(24)


@pytest.mark.parametrize(("bits", "part", "name"), [
    (4, 0, "_FIRST_4"), (4, 1, "_SECOND_4"), (2, 0, "_FIRST_2"), (2, 1, "_SECOND_2"), (2, 2, "_THIRD_2"),
    (2, 3, "_FOURTH_2")])
def test_codes_are_cut_from_every_byte(bits, part, name):
    """In each of the four places, beside any neighbours."""
    rng = np.random.default_rng(bits + part)
    data = np.stack([rng.permutation(256) for _ in range(4)])
    got = bytes_of(execute(getattr(codes, name).value, registers_of(data)))
    assert (got == data >> bits * part & (1 << bits) - 1).all()


def test_every_code_step_and_zero_point_whose_value_is_a_byte():
    """Codes of 4 and 2 bits with the steps that a channel's range of up to 238 can have."""
    every = [(c, s, z) for bits in (4, 2) for s in range(-(-238 // (2**bits - 1)) + 1) for c in range(2**bits)
             for z in range(-119, 120) if -128 <= c * s + z <= 127]
    code, step, zero = (np.array(column) for column in zip(*every, strict=True))
    orders = [np.random.default_rng(seed).permutation(len(every)) for seed in range(4)]
    four = [np.stack([column[order] for order in orders]) for column in (code, step, zero)]
    scale, shift = four[1].astype(np.float16), (four[2] + 1152).astype(np.float16)
    got = execute(codes._TO_INT8.value, registers_of(four[0]), packed(scale[:2]), packed(scale[2:]), packed(shift[:2]),
                  packed(shift[2:]))
    assert (bytes_of(got).astype(np.int8) == four[0] * four[1] + four[2]).all()
