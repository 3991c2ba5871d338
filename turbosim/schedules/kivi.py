"""``kivi``: KIVI's 4/2-bit cache, dequantised to FP16.

Decode as published (jy-yuan/KIVI) is the pipeline of :mod:`turbosim.schedules.unfused_decode`. ``fused=true`` is what a
FlashAttention kernel that dequantises in registers would do. Prefill is FlashAttention over FP16, then quantisation of
whole tiles: minimum and maximum, four elementwise passes and packing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from turbosim.errors import UsageError
from turbosim.hw.spec import Dtype, Gpu, MmaPath, OpClass
from turbosim.program.ops import Compute, Mma
from turbosim.program.program import Launch, Program, Tensor
from turbosim.schedules import softmax
from turbosim.schedules.base import Schedule
from turbosim.schedules.decode import DecodePlan, DecodeTile, decode_program
from turbosim.schedules.flash import FlashOptions, build_flash
from turbosim.schedules.sas import PerElement
from turbosim.schedules.stream import stream_launch
from turbosim.schedules.tiles import PIECES, accumulator_registers, ceil_div, check_multiple, check_positive
from turbosim.schedules.unfused_decode import QUANTISE, WINDOW, pipeline
from turbosim.workload import Attention, Phase
from turbosim.workload.kvcache import FORMATS

DEQUANT_FP16 = PerElement(integer=1 / 2, fp16x2=1 / 2)
"""Fused: mask codes into the mantissa of 1024.0 (one LOP3 a pair), one HFMA2 with scale and minimum."""


@dataclass(frozen=True)
class KiviOptions:
    """Options of ``kivi``."""

    bits: str = "4"
    path: str = "mma.sync"
    """Prefill: instruction path of its FlashAttention, as in ``flash``."""
    fused: bool = False
    """Decode in one split-KV kernel instead of the published pipeline."""
    block_n: int = 64
    """Fused decode, like the next two."""
    stages: int = 2
    splits: int | None = None
    pieces: int = PIECES


def check_bits(kernel: str, bits: str) -> None:
    """Raise UsageError unless *bits* is 4 or 2."""
    if bits not in ("4", "2"):
        raise UsageError(f"kernel {kernel!r}: option bits must be 4 or 2, got {bits!r}")


def build_kivi(gpu: Gpu, shape: Attention, options: KiviOptions) -> Program:
    """Return the program. Raises UsageError for an option out of range."""
    check_bits("kivi", options.bits)
    check_multiple("kivi", WINDOW, block_n=options.block_n)
    check_positive("kivi", stages=options.stages, pieces=options.pieces,
                   **({} if options.splits is None else {"splits": options.splits}))
    meta: dict[str, str | int | float | bool] = {"kernel": "kivi", "bits": options.bits}
    if shape.phase is Phase.PREFILL:
        flash = build_flash(gpu, shape, FlashOptions(path=options.path, pieces=options.pieces))
        tensors, launches = quantise_launches(flash, int(options.bits))
        return replace(flash, name="kivi prefill", tensors=(*flash.tensors, *tensors),
                       launches=(*flash.launches, *launches), meta={**flash.meta, **meta})
    if options.fused:
        return _fused(gpu, shape, options, meta)
    defaults = KiviOptions()
    for name in ("block_n", "stages", "splits"):
        if getattr(options, name) != getattr(defaults, name):
            raise UsageError(f"kernel 'kivi': option {name} needs fused=true")
    tensors, launches = pipeline(shape, int(options.bits))
    return Program("kivi decode", tuple(tensors), tuple(launches), shape.flops, {**meta, "fused": False})


def quantise_launches(flash: Program, bits: int) -> tuple[list[Tensor], list[Launch]]:
    """Return the passes over FP16 K and V after prefill: min/max; subtract, divide, clamp, round to INT32; pack."""
    cache = flash.tensor("K")
    elements = cache.tile_bytes // 2
    codes = ceil_div(elements * bits, 8)
    scales = max(32, 4 * elements // WINDOW)
    tensors: list[Tensor] = []
    launches = []
    for name in ("K", "V"):
        ranges, work, whole, packed = (f"{name} {x}" for x in ("min max", "scratch", "int32", "codes"))
        tensors += [Tensor(ranges, cache.tiles, scales, "fp16"), Tensor(work, cache.tiles, cache.tile_bytes, "fp16"),
                    Tensor(whole, cache.tiles, 4 * elements, "int32"), Tensor(packed, cache.tiles, codes, f"int{bits}")]
        passes = {"min max": ((name,), ranges), "subtract": ((name, ranges), work), "divide": ((work, ranges), work),
                  "clamp": ((work,), work), "round": ((work,), whole), "pack": ((whole,), packed)}
        launches += [
            stream_launch(f"{name} {step}", cache.tiles, passes[step][0], (passes[step][1],), counts.lanes(elements))
            for step, counts in QUANTISE]
    return tensors, launches


def _fused(gpu: Gpu, shape: Attention, options: KiviOptions, meta: dict[str, str | int | float | bool]) -> Program:
    bits, n, d = int(options.bits), options.block_n, shape.head_dim
    rows = 16 * ceil_div(shape.group, 16)
    _, recent = FORMATS[f"kivi-{bits}"].split(shape.seq_k)

    def tile(columns: int, codes: int) -> DecodeTile:
        def product(label: str, width: int, depth: int) -> Compute:
            # Operands come from registers, where they have been dequantised.
            return Compute(label, mma=Mma(rows, width, depth, Dtype.FP16, MmaPath.MMA_SYNC))

        def unpack(name: str) -> Compute:
            lanes = DEQUANT_FP16.lanes(columns * d) if codes < 16 else ()
            return Compute(f"dequantise {name}" if codes < 16 else f"read {name}", lanes=lanes,
                           smem_bytes=columns * d * codes // 8)

        share = Compute("share rows", smem_bytes=2 * 4 * rows * 4, lanes=((OpClass.SHUFFLE, 256),))
        return DecodeTile(
            (unpack("K"), product("QK^T", columns, d)),
            (softmax.row_max(rows, columns), share, "barrier", softmax.exponentials(rows, columns),
             softmax.rescale(rows, d)),
            (unpack("V"), product("PV", d, columns)))

    nbytes = int(FORMATS[f"kivi-{bits}"].block_bytes(d)) * n // WINDOW
    plan = DecodePlan(
        kernel="kivi", shape=shape, block_m=rows, block_n=n, warps=4, stages=options.stages, splits=options.splits,
        kv_tile_bytes=(nbytes,), tile=(tile(n, bits),), heads_of_format=(shape.kv_heads,), dtype=f"int{bits}",
        smem_bytes=max(2 * options.stages * nbytes, 4 * recent * d) + 2 * rows * d,
        registers=accumulator_registers((rows, d), (rows, n)) + 32, pieces=options.pieces, buffer_tokens=recent,
        buffer_bytes=2 * recent * d, buffer_tile=tile(16 * ceil_div(recent, 16), 16))
    return decode_program(gpu, plan, {**meta, "fused": True, "pieces": options.pieces})


KIVI: Schedule[KiviOptions] = Schedule(
    "kivi", "KIVI: 4/2-bit cache dequantised to FP16", (Attention,), KiviOptions, build_kivi,
    {"path": Phase.PREFILL, "fused": Phase.DECODE, "block_n": Phase.DECODE, "stages": Phase.DECODE,
     "splits": Phase.DECODE})
