"""The exponential of the scores and the quantisation of P, as Triton code.

Scores come as x = score - maximum, at most 0, or -inf where masked; in base two (times log2 e) for EXP2 and EXPONENT,
in natural units for NAIVE and TABLE (:func:`unit` gives the factor). EXP2 returns FP32, the others FP16, and 0 where
the natural score is below -6.

EXP2      ex2.approx.f32: one MUFU per score.
NAIVE     as tensor code has it: floor, casts between float and integer, a chain of selects for the table e^-i.
TABLE     the table's eight entries in four registers, picked by byte permutes; floor by adding a large number.
EXPONENT  2^round(x) by integer subtraction on the exponent bits, times a cubic for 2^f on [-1/2, 1/2].

TABLE and EXPONENT work on pairs in packed half instructions. Triton emits scalar ones, hence the inline assembly; under
the interpreter (PACKED = False) the same operations run one by one, where a multiply-add rounds twice.
"""

import triton
import triton.language as tl

EXP2 = tl.constexpr(0)
NAIVE = tl.constexpr(1)
TABLE = tl.constexpr(2)
EXPONENT = tl.constexpr(3)
VARIANTS = {"exp2": 0, "naive": 1, "table": 2, "exponent": 3}
LOG2_E = 1.4426950408889634


def unit(variant: str) -> float:
    """Return the factor from natural scores to the ones *variant* takes."""
    return LOG2_E if variant in ("exp2", "exponent") else 1.0


# A score may come out above 0 by rounding, so the number that rounds leaves room below: 1536 = 6600, unit in the last
# place 1. Other halves: 14 = 4B00, 6 log2 e = 4854; the cubic of 2^-f: AB0B, 33C0, B98C, 3C00. Eleven instructions a
# pair: HMNMX2, 3 HADD2, 3 HFMA2, HSET2, LOP3, IMAD, LOP3.
_EXPONENT = tl.constexpr("""{
    .reg .b32 y, t, f, p, c;
    neg.f16x2 y, $1;
    mov.b32 c, 0x4B004B00;
    min.f16x2 y, y, c;
    mov.b32 c, 0x66006600;
    add.rn.f16x2 t, y, c;
    sub.rn.f16x2 f, t, c;
    sub.rn.f16x2 f, y, f;
    mov.b32 p, 0xAB0BAB0B;
    mov.b32 c, 0x33C033C0;
    fma.rn.f16x2 p, p, f, c;
    mov.b32 c, 0xB98CB98C;
    fma.rn.f16x2 p, p, f, c;
    mov.b32 c, 0x3C003C00;
    fma.rn.f16x2 p, p, f, c;
    and.b32 t, t, 0x000F000F;
    mad.lo.s32 p, t, -1024, p;
    mov.b32 c, 0x48544854;
    set.le.u32.f16x2 c, y, c;
    and.b32 $0, p, c;
}""")

# e^-i for i = 0 .. 6, then 0: low bytes 00 E3 55 5F B0 E6 14 00, high bytes 3C 35 30 2A 24 1E 19 00. Subtracting 1/2
# (not below 0, where scores above 0 would end) before rounding to integers by 1536 floors, but for ties that stay
# below, where the fraction is 1. The cubic is the printed one: AE8F, 3767, BBF0, 3BFF. Seventeen instructions a pair:
# ten on halves, seven on integers.
_TABLE = tl.constexpr("""{
    .reg .b32 y, t, f, p, c, d, e;
    neg.f16x2 y, $1;
    mov.b32 c, 0x47004700;
    min.f16x2 y, y, c;
    mov.b32 c, 0x3C003C00;
    mov.b32 d, 0xB800B800;
    fma.rn.relu.f16x2 t, y, c, d;
    mov.b32 c, 0x66006600;
    add.rn.f16x2 t, t, c;
    sub.rn.f16x2 f, t, c;
    sub.rn.f16x2 f, y, f;
    mov.b32 p, 0xAE8FAE8F;
    mov.b32 c, 0x37673767;
    fma.rn.f16x2 p, p, f, c;
    mov.b32 c, 0xBBF0BBF0;
    fma.rn.f16x2 p, p, f, c;
    mov.b32 c, 0x3BFF3BFF;
    fma.rn.f16x2 p, p, f, c;
    and.b32 t, t, 0x00070007;
    shr.u32 c, t, 12;
    or.b32 t, t, c;
    mov.b32 c, 0x5F55E300;
    mov.b32 d, 0x0014E6B0;
    prmt.b32 e, c, d, t;
    mov.b32 c, 0x2A30353C;
    mov.b32 d, 0x00191E24;
    prmt.b32 t, c, d, t;
    prmt.b32 e, e, t, 0x5140;
    mul.rn.f16x2 p, p, e;
    mov.b32 c, 0x46004600;
    set.le.u32.f16x2 c, y, c;
    and.b32 $0, p, c;
}""")

# Four values: scale, round by adding 1024, gather the four low bytes.
_TO_INT8 = tl.constexpr("""{
    .reg .b32 a, b, c;
    mov.b32 c, 0x64006400;
    fma.rn.f16x2 a, $1, $3, c;
    fma.rn.f16x2 b, $2, $4, c;
    prmt.b32 $0, a, b, 0x6420;
}""")


@triton.jit
def _half(value):
    return value.to(tl.float16)


@triton.jit
def exponential(x, VARIANT: tl.constexpr, PACKED: tl.constexpr):
    """Return the exponential of the FP32 scores *x*."""
    if VARIANT == 0:
        return tl.exp2(x)
    elif VARIANT == 1:
        # Rounding may leave a score above 0, which would fall through the selects.
        y = _half(tl.maximum(-x, 0.0))
        kept = y <= 6.0
        y = _half(tl.where(kept, y, 6.0))
        whole = tl.floor(y.to(tl.float32)).to(tl.int32)
        t = _half(y - _half(whole.to(tl.float32)))
        table = tl.where(whole == 0, 1.0, tl.where(whole == 1, 0.36787944, tl.where(whole == 2, 0.13533528, tl.where(
            whole == 3, 0.049787068, tl.where(whole == 4, 0.018315639, tl.where(whole == 5, 0.006737947,
                                                                               0.0024787522))))))
        poly = _half(_half(_half(t * -0.1025 + 0.4626) * t + -0.9922) * t + 0.9996)
        return tl.where(kept, _half(poly * _half(table)), 0.0).to(tl.float16)
    elif PACKED:
        if VARIANT == 2:
            return tl.inline_asm_elementwise(_TABLE, "=r,r", [_half(x)], dtype=tl.float16, is_pure=True, pack=2)
        else:
            return tl.inline_asm_elementwise(_EXPONENT, "=r,r", [_half(x)], dtype=tl.float16, is_pure=True, pack=2)
    elif VARIANT == 2:
        y = tl.minimum(_half(-x), 7.0)
        whole = _half(_half(_half(tl.maximum(y - 0.5, 0.0)) + 1536.0) - 1536.0)
        t = _half(y - whole)
        poly = _half(_half(_half(t * -0.1025 + 0.4626) * t + -0.9922) * t + 0.9996)
        value = _half(poly * _half(tl.exp2(whole.to(tl.float32) * -1.4426950408889634)))
        return tl.where(y <= 6.0, value, 0.0).to(tl.float16)
    else:
        y = tl.minimum(_half(-x), 14.0)
        whole = _half(_half(y + 1536.0) - 1536.0)
        f = _half(y - whole)
        poly = _half(_half(_half(f * -0.055009 + 0.242211) * f + -0.693283) * f + 1.0)
        value = _half(poly.to(tl.float32) * tl.exp2(-whole.to(tl.float32)))
        return tl.where(y <= 8.65625, value, 0.0).to(tl.float16)


@triton.jit
def quantise_weights(p, inverse, PACKED: tl.constexpr, CAST: tl.constexpr):
    """Return round(p * inverse) as INT8 for p >= 0: FP16 or FP32 weights, *inverse* a scalar or row factor of p's type.

    CAST converts by F2I; otherwise FP16 is rounded by adding 1024, FP32 by adding 1.5 * 2^23, and the low byte taken.
    """
    if CAST:
        return (p.to(tl.float32) * inverse.to(tl.float32) + 0.5).to(tl.int32).to(tl.int8)
    elif p.dtype == tl.float32:
        return (p * inverse + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)
    elif PACKED:
        return tl.inline_asm_elementwise(_TO_INT8, "=r,r,r,r,r", [p, tl.broadcast_to(inverse, p.shape)],
                                         dtype=tl.int8, is_pure=True, pack=4)
    else:
        return _half(_half(p * inverse) + 1024.0).to(tl.int16, bitcast=True).to(tl.int8)
