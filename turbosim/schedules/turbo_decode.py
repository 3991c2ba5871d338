"""TurboAttention decode: split-KV over packed 4/2-bit blocks and the INT8 buffer of recent tokens.

The query heads of a KV head fill the rows of a 16-row INT8 MMA; the four warps share its columns. Codes are unpacked
and turned into INT8 in registers (integer multiply-add only), so shared memory is read once per code.

``product=int4`` is a what-if for tensor cores with INT4: codes are operands as they are. The INT8 operand beside them
splits into two nibbles, hence two products. K's channel scales move into the query, which every block quantises anew
(q s, with q z as an offset per row); V's scale and zero point act on the output, the zero point times the row sum of P.
"""

from __future__ import annotations

from turbosim.errors import UsageError
from turbosim.hw.spec import Dtype, Gpu, MmaPath, OpClass
from turbosim.program.ops import Compute, Mma
from turbosim.program.program import Program
from turbosim.schedules import sas, softmax
from turbosim.schedules.decode import DecodePlan, DecodeTile, decode_program
from turbosim.schedules.tiles import THREADS, WARP_GROUP, accumulator_registers, ceil_div, check_multiple
from turbosim.schedules.turbo import TurboOptions, cache_formats, tile_work
from turbosim.workload import Attention
from turbosim.workload.kvcache import BLOCK, FORMATS


def turbo_decode(gpu: Gpu, shape: Attention, options: TurboOptions) -> Program:
    """Return the program. Raises UsageError without FlashQ, whose cache this kernel reads."""
    if not options.flashq:
        raise UsageError("kernel 'turbo': decode reads the FlashQ cache; flashq=false has prefill only")
    d, n = shape.head_dim, options.block_n
    rows = 16 * ceil_div(shape.group, 16)
    stages = 3 if options.stages is None else options.stages
    warps = 4 if options.warps is None else options.warps
    check_multiple("turbo", WARP_GROUP, warps=warps)
    formats = cache_formats(shape, options)
    per_block = [int(FORMATS[f"turbo-{bits}"].block_bytes(d)) * (n // BLOCK) for bits, _ in formats]
    # What does not fill a block, or a full buffer about to be packed.
    _, held = FORMATS["turbo-4"].split(shape.seq_k)
    largest = max(2 * stages * max(per_block), 2 * BLOCK * d)
    plan = DecodePlan(
        kernel="turbo", shape=shape, block_m=rows, block_n=n, warps=warps, stages=stages, splits=options.splits,
        kv_tile_bytes=tuple(per_block), tile=tuple(_tile(options, rows, n, d, bits) for bits, _ in formats),
        heads_of_format=tuple(heads for _, heads in formats), dtype="packed", smem_bytes=largest + rows * d,
        registers=accumulator_registers((rows, d), (rows, n), (rows, d)) + 32, buffer_tokens=held,
        buffer_bytes=held * d + 2, buffer_tile=_tile(options, rows, BLOCK, d, 8),
        pieces=options.pieces, start=(Compute("quantise q", lanes=sas.QUANTISE_STAGE1.lanes(shape.group * d),
                       chain=((OpClass.SHUFFLE, 5),)),))
    meta: dict[str, str | int | float | bool] = {
        "kernel": "turbo", "bits": options.bits, "sas": options.sas, "convert": options.convert,
        "p_scale": options.p_scale, "product": options.product, "pieces": options.pieces}
    if options.product == "int8":
        meta["dequant"] = options.dequant
    if options.sas:
        meta["sas_variant"] = options.sas_variant
    return decode_program(gpu, plan, meta)


def _tile(options: TurboOptions, rows: int, n: int, d: int, bits: int) -> DecodeTile:
    """Return the work of a CTA on one tile of *n* tokens stored with *bits* per code (8: the buffer)."""
    dequant = {"K": sas.DEQUANT_K, "V": sas.DEQUANT_V[options.dequant]}
    narrow = options.product == "int4" and bits != 8
    dtype, halves = (Dtype.INT4, 2) if narrow else (Dtype.INT8, 1)

    def product(label: str, columns: int, depth: int) -> tuple[Compute, ...]:
        # Operands come from registers, where they have been dequantised.
        return (Compute(label, mma=Mma(rows, columns, depth, dtype, MmaPath.MMA_SYNC, halves)),)

    work = tile_work(options, rows, n, d, product("QK^T", n, d), product("PV", d, n), masked=False)
    # Warps hold other columns of a row, so row statistics cross warps through shared memory.
    shared = Compute("share rows", smem_bytes=2 * 4 * rows * 4, lanes=((OpClass.SHUFFLE, 2 * THREADS),))
    codes = n * d * bits // 8

    def unpack(name: str) -> tuple[Compute, ...]:
        if bits == 8:
            return (Compute(f"read {name}", smem_bytes=codes),)
        if narrow:
            widen = sas.WIDEN_TO_4.lanes(n * d) if bits == 2 else ()
            fold = sas.FOLD_INTO_QUERY.lanes(rows * d) if name == "K" else sas.SPLIT_NIBBLES.lanes(rows * n)
            return (Compute(f"read {name}", lanes=widen, smem_bytes=codes), Compute(f"fold {name}", lanes=fold))
        lanes = (sas.UNPACK[bits] + dequant[name]).lanes(n * d)
        return (Compute(f"dequantise {name}", lanes=lanes, smem_bytes=codes),)

    steps: list[Compute | str] = []
    for step in work.softmax:
        steps.append(step)
        if isinstance(step, Compute) and step.label == softmax.row_max(rows, n).label:
            steps += [shared, "barrier"]
    offset = (Compute("add zero points", lanes=((OpClass.FP32, rows * d),)),) if narrow else ()
    return DecodeTile((*unpack("K"), *work.scores), tuple(steps), (*unpack("V"), *work.output, *offset))
