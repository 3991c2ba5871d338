"""Packed 4-bit and 2-bit codes back to INT8, as Triton code: code * step + zero, four values at a time.

Triton emits byte by byte what inline assembly does on registers of four. Codes are cut out by a shift and a mask. Their
multiply-add is one of packed halves: 1024 + n has n in its low bits, so that bytes become halves and halves bytes by
permutes; step and zero point are channels' constants, and code * step + zero + 128 lies in 0 .. 255. Under the
interpreter (PACKED = False) the same integers are computed one by one.
"""

import triton
import triton.language as tl

_SHIFTED = "{{ .reg .b32 t; shr.u32 t, $1, {shift}; and.b32 $0, t, {mask}; }}"
_FIRST_4 = tl.constexpr(_SHIFTED.format(shift=0, mask="0x0F0F0F0F"))
_SECOND_4 = tl.constexpr(_SHIFTED.format(shift=4, mask="0x0F0F0F0F"))
_FIRST_2 = tl.constexpr(_SHIFTED.format(shift=0, mask="0x03030303"))
_SECOND_2 = tl.constexpr(_SHIFTED.format(shift=2, mask="0x03030303"))
_THIRD_2 = tl.constexpr(_SHIFTED.format(shift=4, mask="0x03030303"))
_FOURTH_2 = tl.constexpr(_SHIFTED.format(shift=6, mask="0x03030303"))

# Bytes to halves 1024 + code, less 1024; times step, plus zero + 1152; the low bytes are the value + 128.
_TO_INT8 = tl.constexpr("""{
    .reg .b32 a, b, c;
    mov.b32 c, 0x64006400;
    prmt.b32 a, $1, c, 0x5150;
    prmt.b32 b, $1, c, 0x5352;
    sub.rn.f16x2 a, a, c;
    sub.rn.f16x2 b, b, c;
    fma.rn.f16x2 a, a, $2, $4;
    fma.rn.f16x2 b, b, $3, $5;
    prmt.b32 a, a, b, 0x6420;
    xor.b32 $0, a, 0x80808080;
}""")


@triton.jit
def codes_of(data, part: tl.constexpr, BITS: tl.constexpr, PACKED: tl.constexpr):
    """Return codes number *part* of the bytes *data*, as INT8 or UINT8."""
    if not PACKED:
        return (data >> (BITS * part)) & ((1 << BITS) - 1)
    elif BITS == 4:
        return _cut(data, _FIRST_4 if part == 0 else _SECOND_4)
    elif part < 2:
        return _cut(data, _FIRST_2 if part == 0 else _SECOND_2)
    else:
        return _cut(data, _THIRD_2 if part == 2 else _FOURTH_2)


@triton.jit
def _cut(data, ASSEMBLY: tl.constexpr):
    return tl.inline_asm_elementwise(ASSEMBLY, "=r,r", [data], dtype=tl.int8, is_pure=True, pack=4)


@triton.jit
def dequantised(codes, step, zero, PACKED: tl.constexpr):
    """Return INT8 code * step + zero: *step* and *zero* INT8, of the shape of *codes* or 1 along an axis."""
    if PACKED:
        scale = (step.to(tl.int16) | 0x6400).to(tl.float16, bitcast=True) - 1024.0
        shift = ((zero.to(tl.int16) + 128) | 0x6400).to(tl.float16, bitcast=True)
        return tl.inline_asm_elementwise(_TO_INT8, "=r,r,r,r,r,r", [
            codes, tl.broadcast_to(scale.to(tl.float16), codes.shape), tl.broadcast_to(shift, codes.shape)],
            dtype=tl.int8, is_pure=True, pack=4)
    else:
        return (codes.to(tl.int16) * step.to(tl.int16) + zero.to(tl.int16)).to(tl.int8)


@triton.jit
def small_to_float(value, CONVERT: tl.constexpr):
    """Return INT8 values as FP32: by I2F with CONVERT, else by the bits of 2^23 + value + 128."""
    if CONVERT:
        return value.to(tl.float32)
    else:
        return ((value.to(tl.int32) + 128) | 0x4B000000).to(tl.float32, bitcast=True) - 8388736.0
