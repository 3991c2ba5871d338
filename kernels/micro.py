"""Device code of the micro-benchmarks: each loop keeps one unit of the GPU busy.

The instructions named below are those of Triton 3.9 and its ptxas; ``tests/kernels/test_micro_sass.py`` compiles every
kernel for sm_80, sm_89, sm_90, sm_100 and sm_120 and asserts them. Inputs are runtime data, every step needs the one
before, and a checksum of the last values is stored, so no work can be removed or hoisted. ``iterations`` is the trip
count of a loop; *unroll* steps make one turn. Trip counts are not specialised, so a launch runs the binary that was
tested.

The interpreter (``TRITON_INTERPRET=1``) cannot run inline assembly; there *asm* is false and plain Triton computes the
same.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def empty_kernel(out_ptr):
    """Do nothing, to time a launch and the start of CTAs."""


@triton.jit
def copy_kernel(x_ptr, y_ptr, n, block: tl.constexpr):
    """Copy *n* 4-byte elements, *block* a CTA.

    LDG.E.128 and STG.E.128 only, because *n* is a multiple of 16; all loads of a thread come before its first store.
    """
    i = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    tl.store(y_ptr + i, tl.load(x_ptr + i, mask=i < n), mask=i < n)


@triton.jit(do_not_specialize=["total", "ctas", "step", "blocks"])
def l2_read_kernel(x_ptr, out_ptr, total, ctas, step, blocks, block: tl.constexpr):
    """Read *blocks* blocks of float32 until the CTAs together have read *total* of them; checksum: their sum per CTA.

    The n-th read of a CTA is block ``(cta + n * ctas) % blocks``, with *step* = ``ctas % blocks``. Loads are
    ``ld.global.cg`` (LDG.E.128.STRONG.GPU), which L1 does not serve. The block changes with every step, so that no
    load is loop-invariant.
    """
    cta = tl.program_id(0)
    i = tl.arange(0, block)
    total_here = tl.zeros((block,), tl.float32)
    at = cta
    for _ in range(cta, total, ctas):
        total_here += tl.load(x_ptr + at * block + i, cache_modifier=".cg")
        at += step
        at = tl.where(at >= blocks, at - blocks, at)
    tl.store(out_ptr + cta, tl.sum(total_here).to(tl.float64))


@triton.jit(do_not_specialize=["turns"])
def tile_read_kernel(x_ptr, out_ptr, depth, turns, rows: tl.constexpr, width: tl.constexpr, stages: tl.constexpr):
    """Read *rows* rows of *depth* float32 a CTA, *width* of each at a time; checksum: their sum per CTA.

    How a product streams its operand, without the product. With two *stages* or more the loads are LDGSTS.128 into
    ``stages - 1`` buffers, each waited for when all later ones are under way, and a barrier a turn; with one stage
    they are LDG.E.128.
    """
    cta = tl.program_id(0)
    row = cta.to(tl.int64) * rows + tl.arange(0, rows)
    at = x_ptr + row[:, None] * depth + tl.arange(0, width)[None, :]
    total_here = tl.zeros((rows, width), tl.float32)
    for _ in tl.range(turns, num_stages=stages):
        total_here += tl.load(at)
        at += width
    tl.store(out_ptr + cta, tl.sum(tl.sum(total_here, 1), 0).to(tl.float64))


@triton.jit(do_not_specialize=["iterations"])
def smem_kernel(x_ptr, out_ptr, iterations, tile: tl.constexpr):
    """Transpose a *tile* x *tile* matrix of int32 through shared memory; checksum: its elements times their positions.

    The transposed layout must be converted back to the loop's. A turn stores the whole tile with STS and reads it with
    LDS, 32 bits a thread and 128 bytes a warp, each free of bank conflicts, between two CTA barriers:
    ``2 * 4 * tile**2`` bytes of shared memory. With fewer than ``tile / 16`` warps Triton takes LDSM and many moves
    between registers.
    """
    i = tl.arange(0, tile)[:, None] * tile + tl.arange(0, tile)[None, :]
    x = tl.load(x_ptr + i)
    for _ in range(iterations):
        x = tl.trans(x)
    tl.store(out_ptr + tl.program_id(0), tl.sum((x * i).to(tl.int64)).to(tl.float64))


@triton.jit(do_not_specialize=["iterations"])
def mma_kernel(a_ptr, b_ptr, out_ptr, iterations, m: tl.constexpr, n: tl.constexpr, k: tl.constexpr,
               unroll: tl.constexpr):
    """Add A @ B to an accumulator again and again; checksum: the sum of each of its rows.

    A is [m, k]; B is stored as [n, k] and used transposed, the order that INT8 ``wgmma`` needs. FP16 accumulates in
    FP32, INT8 in INT32. Nothing but the matrix product touches memory in the loop, and that only shared memory:

    * sm_80, sm_89 and sm_120: HMMA.16816.F32 and IMMA.16832.S8.S8.SAT. The fragments are read again once a turn
      (LDSM), so *unroll* decides their share. Beyond 64 accumulators a thread the registers do not suffice.
    * sm_90 with four warps or more and m >= 64: HGMMA and IGMMA on operands in shared memory, each product waited for,
      so several warp groups must share an SM. With fewer warps: the HMMA and IMMA of ``mma.sync``.
    * sm_100 likewise: UTCHMMA and UTCIMMA (tcgen05, accumulators in tensor memory), or HMMA and IMMA.
    """
    rows = tl.arange(0, m)
    depth = tl.arange(0, k)
    a = tl.load(a_ptr + rows[:, None] * k + depth[None, :])
    b = tl.trans(tl.load(b_ptr + tl.arange(0, n)[:, None] * k + depth[None, :]))
    integer: tl.constexpr = a_ptr.dtype.element_ty == tl.int8
    acc = tl.zeros((m, n), tl.int32 if integer else tl.float32)
    for _ in range(iterations):
        for _ in tl.static_range(unroll):
            acc = tl.dot(a, b, acc, out_dtype=acc.dtype)
    sums = tl.sum(acc.to(tl.int64 if integer else tl.float32), 1)
    tl.store(out_ptr + tl.program_id(0) * m + rows, sums.to(tl.float64))


@triton.jit(do_not_specialize=["iterations"])
def exp2_kernel(x_ptr, out_ptr, iterations, block: tl.constexpr, unroll: tl.constexpr):
    """x = 2**-x, which tends to 0.641; checksum: the sum.

    MUFU.EX2 alone: the negation is a modifier of its operand and ``tl.exp2`` flushes subnormals, so needs no scaling.
    """
    x = tl.load(x_ptr + tl.arange(0, block))
    for _ in range(iterations):
        for _ in tl.static_range(unroll):
            x = tl.exp2(-x)
    tl.store(out_ptr + tl.program_id(0), tl.sum(x).to(tl.float64))


@triton.jit(do_not_specialize=["iterations"])
def fma_fp16_kernel(x_ptr, c_ptr, out_ptr, iterations, block: tl.constexpr, unroll: tl.constexpr, asm: tl.constexpr):
    """x = x * c[0] + c[1] in FP16; checksum: the sum.

    ``fma.rn.f16x2``, one HFMA2 for two elements. Plain ``tl.fma`` and ``x * a + b`` are scalar ``fma.rn.f16`` in PTX,
    which ptxas pairs to as many HFMA2 in a loop as simple as this one.
    """
    x = tl.load(x_ptr + tl.arange(0, block))
    a = tl.load(c_ptr)
    b = tl.load(c_ptr + 1)
    for _ in range(iterations):
        for _ in tl.static_range(unroll):
            if asm:
                x = tl.inline_asm_elementwise("fma.rn.f16x2 $0, $1, $2, $3;", "=r,r,r,r", [x, a, b], dtype=tl.float16,
                                              is_pure=True, pack=2)
            else:
                x = tl.fma(x, a, b)
    tl.store(out_ptr + tl.program_id(0), tl.sum(x.to(tl.float32)).to(tl.float64))


@triton.jit(do_not_specialize=["iterations"])
def i2f_kernel(x_ptr, out_ptr, iterations, block: tl.constexpr, unroll: tl.constexpr):
    """Convert int32 to float32, whose bits are the next int32; checksum: the sum of the bits.

    A plain cast. On sm_80 it is I2F, on the later targets I2FP.F32.S32, another instruction.
    """
    x = tl.load(x_ptr + tl.arange(0, block))
    for _ in range(iterations):
        for _ in tl.static_range(unroll):
            x = x.to(tl.float32).to(tl.int32, bitcast=True)
    tl.store(out_ptr + tl.program_id(0), tl.sum(x.to(tl.int64)).to(tl.float64))


@triton.jit(do_not_specialize=["iterations"])
def f2i_kernel(x_ptr, c_ptr, out_ptr, iterations, block: tl.constexpr, unroll: tl.constexpr):
    """Convert float32 to int32, towards zero, and make the next float32 of its low bits; checksum: the sum of the bits.

    A plain cast, F2I.TRUNC.NTZ on all targets. The bits of an integer are a tiny float, which would end the chain at
    zero, so one LOP3 sets sign and exponent from c[0], a number between 2**30 and 2**31.
    """
    x = tl.load(x_ptr + tl.arange(0, block))
    pattern = tl.load(c_ptr)
    for _ in range(iterations):
        for _ in tl.static_range(unroll):
            x = (x.to(tl.float32, bitcast=True).to(tl.int32) & 0x7FFFFF) ^ pattern
    tl.store(out_ptr + tl.program_id(0), tl.sum(x.to(tl.int64)).to(tl.float64))


@triton.jit(do_not_specialize=["iterations"])
def f2h_kernel(x_ptr, c_ptr, out_ptr, iterations, block: tl.constexpr, unroll: tl.constexpr, asm: tl.constexpr):
    """Pack c[0] and x as two FP16, which are the bits of the next float32 x; checksum: the sum of the bits.

    ``cvt.rn.f16x2.f32``, one F2FP for two values, which is also what Triton makes of ``x.to(tl.float16)`` for a tile.
    Casts of single values, as in the plain form of this loop, are F2F.F16.F32 and PRMT on sm_80.
    """
    x = tl.load(x_ptr + tl.arange(0, block))
    c = tl.load(c_ptr)
    for _ in range(iterations):
        for _ in tl.static_range(unroll):
            low = x.to(tl.float32, bitcast=True)
            if asm:
                x = tl.inline_asm_elementwise("cvt.rn.f16x2.f32 $0, $1, $2;", "=r,f,f", [c, low], dtype=tl.int32,
                                              is_pure=True, pack=1)
            else:
                high = c.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) << 16
                x = high | (low.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF)
    tl.store(out_ptr + tl.program_id(0), tl.sum(x.to(tl.int64)).to(tl.float64))


INTERPRETED = not isinstance(empty_kernel, triton.JITFunction)
"""Whether TRITON_INTERPRET=1 was set when triton was imported."""
