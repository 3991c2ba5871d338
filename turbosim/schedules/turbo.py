"""``turbo``: TurboAttention (FlashQ + SAS), INT8 prefill that leaves a 4/2-bit cache, and decode over that cache.

Prefill reads INT8 Q, K and V, since stage 1 of FlashQ is fused into the QKV projection (section 5.2 of the paper); with
``quantise_inputs`` it reads FP16 and quantises in the loop, as its Algorithm 1 is printed. Stage 2, which packs the
cache, is a second launch over the INT8 tiles: each block is packed once, not once per query tile, and the tokens that
would still be in the INT8 buffer are packed with the rest.

INT8 operands are fed as the tensor cores want them, four consecutive k of a column in a register: K as it lies, V
token-major within a channel, which the projection writes so. P leaves the first product with another split of columns
over threads than the second takes it in, which a fixed permutation of the tokens of K and V undoes at no cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Dtype, Gpu, MmaPath, OpClass
from turbosim.program.ops import Affine, Compute, Load, Loop, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Tensor
from turbosim.schedules import sas, softmax
from turbosim.schedules.base import Schedule
from turbosim.schedules.prefill import PrefillPlan, TileWork, prefill_launch, prefill_tensors, sync_note
from turbosim.schedules.tiles import (
    PIECES,
    THREADS,
    accumulator_registers,
    best_path,
    ceil_div,
    check_multiple,
    check_positive,
    product,
    roles_of,
    rows_per_thread,
)
from turbosim.workload import Attention, Phase
from turbosim.workload.kvcache import BLOCK, FORMATS


@dataclass(frozen=True)
class TurboOptions:
    """Options of ``turbo``. The tile defaults are the paper's 64 x 64."""

    bits: str = "mixed"
    """Cache codes: ``4``, ``2`` or ``mixed`` (by KV head)."""
    two_bit_heads: int | None = None
    """KV heads with 2 bits when mixed; None is half."""
    flashq: bool = True
    """INT8 matrix products; false: FP16, SAS alone."""
    sas: bool = True
    """SAS; false: FP32 exponentials on MUFU, FlashQ alone."""
    sas_variant: str = "auto"
    """How SAS is computed, see :mod:`turbosim.schedules.sas`; ``auto`` is ``unit`` where there is one, else
    ``exponent``."""
    convert: str = "magic"
    p_scale: str = "tile"
    """Scale of P: ``tile`` (maximum of the tile, as printed), ``fixed`` (1/119, since P <= 1), or ``row`` (1/119, P
    being relative to the row's maximum within the tile, and both sides of the running sum and output weighted)."""
    quantise_inputs: bool = False
    """Prefill: read FP16 and do stage 1 in the loop."""
    dequant: str = "element"
    """Decode: codes to INT8 one by one (``element``), or V four tokens at a time (``packed``)."""
    product: str = "int8"
    """Decode: type of the products over packed codes: ``int8``, or ``int4`` where the tensor cores have it."""
    path: str = "auto"
    """Prefill: instruction path; ``auto`` is the newest."""
    block_m: int = 64
    block_n: int = 64
    warps: int | None = None
    stages: int | None = None
    splits: int | None = None
    pieces: int = PIECES
    order: str = "forward"
    sync: str = "barrier"
    """Prefill: as in ``flash``."""


def int4_path(gpu: Gpu) -> bool:
    """Whether ``mma.sync`` multiplies INT4."""
    return Dtype.INT4 in gpu.tensor[MmaPath.MMA_SYNC].rates


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"kernel 'turbo': option {name} must be one of {', '.join(known)}, got {value!r}"
                         f"{did_you_mean(value, known)}")


def check_options(gpu: Gpu, options: TurboOptions) -> None:
    """Raise UsageError for options out of range or a variant the GPU lacks the unit for."""
    _one_of("bits", options.bits, ("4", "2", "mixed"))
    _one_of("sas_variant", options.sas_variant, ("auto", *sas.VARIANTS))
    _one_of("product", options.product, ("int8", "int4"))
    _one_of("convert", options.convert, sas.CONVERSIONS)
    _one_of("p_scale", options.p_scale, ("tile", "fixed", "row"))
    _one_of("dequant", options.dequant, tuple(sas.DEQUANT_V))
    _one_of("order", options.order, ("forward", "heavy_first"))
    check_multiple("turbo", 16, block_m=options.block_m)
    check_multiple("turbo", BLOCK, block_n=options.block_n)
    check_positive("turbo", pieces=options.pieces,
                   **{n: v for n in ("stages", "splits") if (v := getattr(options, n)) is not None})
    if options.bits != "mixed" and options.two_bit_heads is not None:
        raise UsageError(f"kernel 'turbo': option two_bit_heads needs bits=mixed, got bits={options.bits}")
    if options.quantise_inputs and not options.flashq:
        raise UsageError("kernel 'turbo': option quantise_inputs needs flashq=true, whose stage 1 it is")
    if options.flashq and options.convert == "magic" and options.block_n > sas.MAGIC_DEPTH:
        raise UsageError(
            f"kernel 'turbo': convert=magic is exact for block_n up to {sas.MAGIC_DEPTH}, got {options.block_n}; "
            "use convert=i2f")
    defaults = TurboOptions()
    for switch, names in (("sas", ("sas_variant",)), ("flashq", ("convert", "p_scale", "bits", "two_bit_heads"))):
        given = [n for n in names if getattr(options, n) != getattr(defaults, n)]
        if given and not getattr(options, switch):
            raise UsageError(f"kernel 'turbo': option {given[0]} needs {switch}=true")
    if options.product == "int4" and options.dequant != defaults.dequant:
        raise UsageError("kernel 'turbo': option dequant needs product=int8, since INT4 takes codes as they are")
    if options.product == "int4" and not int4_path(gpu):
        raise UsageError(f"kernel 'turbo': product=int4 needs INT4 tensor cores, which {gpu.name} does not have")
    if options.sas and options.sas_variant == "unit" and OpClass.SAS not in gpu.pipes:
        raise UsageError(f"kernel 'turbo': sas_variant=unit needs a SAS unit, which {gpu.name} does not have")


def cache_formats(shape: Attention, options: TurboOptions) -> tuple[tuple[int, int], ...]:
    """Return (bits, KV heads) of every cache format in use. Raises UsageError for too many 2-bit heads."""
    if options.bits != "mixed":
        return ((int(options.bits), shape.kv_heads),)
    two = shape.kv_heads // 2 if options.two_bit_heads is None else options.two_bit_heads
    if not 0 <= two <= shape.kv_heads:
        raise UsageError(f"kernel 'turbo': two_bit_heads must be 0 to {shape.kv_heads}, got {two}")
    return tuple((bits, heads) for bits, heads in ((4, shape.kv_heads - two), (2, two)) if heads)


def tile_work(options: TurboOptions, rows: int, columns: int, head_dim: int, qk: tuple[Compute, ...],
              pv: tuple[Compute, ...], masked: bool) -> TileWork:
    """Return the work of one KV tile: products as given, softmax and quantisation by the options."""
    scores = rows * columns
    row_work = rows_per_thread(rows) * THREADS
    steps: list[Compute | str] = [softmax.mask(rows, columns)] if masked else []
    steps.append(softmax.row_max(rows, columns))
    convert, accumulate = sas.PerElement(fp32=1), sas.ACCUMULATE[options.convert]
    if options.flashq:
        convert = sas.SCALE_SCORES[options.convert]
        if options.convert == "magic" and any(b.mma is not None and b.mma.path.is_async for b in qk):
            convert, accumulate = convert + sas.MAGIC_AFTER, accumulate + sas.MAGIC_AFTER
    if options.sas:
        exponential = convert + sas.PACK_SCORES + sas.EXPONENTIAL[options.sas_variant] + sas.ROW_SUM_FP16
        steps.append(Compute("SAS", lanes=exponential.lanes(scores + row_work)))
    elif options.flashq:
        steps.append(Compute("exp", lanes=(convert + sas.EXP_FP32).lanes(scores + row_work)))
    else:
        steps.append(softmax.exponentials(rows, columns))
    if options.flashq:
        if options.p_scale == "tile":
            # One scale per tile: threads, then warps through shared memory.
            largest = sas.TILE_MAX_FP16 if options.sas else sas.TILE_MAX_FP32
            steps.append(Compute("max P", lanes=(*largest.lanes(scores), (OpClass.SHUFFLE, 5 * THREADS)),
                                 smem_bytes=8 * THREADS, chain=((OpClass.SHUFFLE, 5),)))
            steps.append("barrier")
        quantise = sas.QUANTISE_P_FP16 if options.sas else sas.QUANTISE_P_FP32
        steps.append(Compute("quantise P", lanes=quantise.lanes(scores)))
        outputs = accumulate.lanes(rows * head_dim)
        if options.p_scale == "row":
            outputs = sas.joined(outputs, sas.WEIGH_ROWS[options.convert].lanes(row_work))
        update = Compute("accumulate O", lanes=outputs)
        return TileWork(qk, tuple(steps), (*pv, update))
    steps.append(softmax.rescale(rows, head_dim))
    return TileWork(qk, tuple(steps), pv)


def build_turbo(gpu: Gpu, shape: Attention, options: TurboOptions) -> Program:
    """Return the program. Raises UsageError for an option out of range."""
    check_options(gpu, options)
    if options.sas and options.sas_variant == "auto":
        options = replace(options, sas_variant="unit" if OpClass.SAS in gpu.pipes else "exponent")
    if shape.phase is Phase.DECODE:
        from turbosim.schedules.turbo_decode import turbo_decode

        return turbo_decode(gpu, shape, options)
    plan = turbo_plan(gpu, shape, options)
    tensors = list(prefill_tensors(plan))
    launches = [prefill_launch(plan)]
    meta: dict[str, str | int | float | bool] = {
        "kernel": "turbo", "path": plan.path, "flashq": options.flashq, "sas": options.sas, "block_m": plan.block_m,
        "block_n": plan.block_n, "warps": 4 * plan.roles, "stages": plan.stages, "pieces": options.pieces,
        **sync_note(plan)}
    if options.sas:
        meta["sas_variant"] = options.sas_variant
    if options.flashq:
        meta |= {"bits": options.bits, "convert": options.convert, "p_scale": options.p_scale}
        cache, extra = cache_launch(plan, cache_formats(shape, options), options.quantise_inputs)
        tensors += extra
        launches.append(cache)
    return Program("turbo prefill", tuple(tensors), tuple(launches), shape.flops, meta)


def turbo_plan(gpu: Gpu, shape: Attention, options: TurboOptions) -> PrefillPlan:
    """Return the plan of the prefill kernel."""
    d, block_m, block_n = shape.head_dim, options.block_m, options.block_n
    warps = 4 * max(1, block_m // 64) if options.warps is None else options.warps
    stages = 2 if options.stages is None else options.stages
    roles = roles_of("turbo", warps, block_m)
    rows = block_m // roles
    dtype = Dtype.INT8 if options.flashq else Dtype.FP16
    width = 1 if options.flashq and not options.quantise_inputs else 2
    path = best_path(gpu, dtype, rows, "turbo", options.path)

    def quantise(name: str, elements: int) -> tuple[Compute, ...]:
        # In place in shared memory: FP16 read, INT8 written.
        work = Compute(f"quantise {name}", lanes=sas.QUANTISE_STAGE1.lanes(elements), smem_bytes=3 * elements)
        return (work,) if options.quantise_inputs else ()

    def tile(masked: bool) -> TileWork:
        qk = product("QK^T", rows, block_n, d, dtype, path, a_in_smem=True)
        pv = product("PV", rows, d, block_n, dtype, path, a_in_smem=False)
        work = tile_work(options, rows, block_n, d, qk, pv, masked)
        share = ceil_div(block_n * d, roles)
        return TileWork((*quantise("K", share), *work.scores), work.softmax, (*quantise("V", share), *work.output))

    scale = 2 if width == 1 else 0
    # INT8 products need their own INT32 output tile beside the FP32 running output.
    accumulators = ((rows, d), (rows, block_n)) + (((rows, d // 2),) if options.flashq else ())
    return PrefillPlan(
        kernel="turbo", shape=shape, block_m=block_m, block_n=block_n, roles=roles, stages=stages,
        heavy_first=options.order == "heavy_first", q_bytes=width * block_m * d + scale,
        kv_bytes=width * block_n * d + scale * (block_n // BLOCK), out_bytes=2 * rows * d,
        dtype="int8" if width == 1 else "fp16", bulk=gpu.copy_engine.tma and path.is_async, tile=tile,
        start=quantise("Q", rows * d),
        finish=(softmax.normalise(rows, d),), smem_bytes=width * d * (block_m + 2 * stages * block_n),
        registers=accumulator_registers(*accumulators), path=path.value, sync=options.sync,
        pieces=options.pieces)


def cache_launch(plan: PrefillPlan, formats: tuple[tuple[int, int], ...],
                 from_fp16: bool) -> tuple[Launch, list[Tensor]]:
    """Return stage 2 of FlashQ over the whole cache, one CTA per tile and KV head, and the cache's tensors.

    With *from_fp16* the tiles are FP16 and stage 1 comes first.
    """
    shape = plan.shape
    tiles, heads = plan.key_tiles, shape.batch * shape.kv_heads
    source = (var("h") + var("b") * shape.kv_heads) * tiles + var("t")
    body: list[Loop] = []
    tensors = []
    for number, (bits, count) in enumerate(formats):
        nbytes = int(FORMATS[f"turbo-{bits}"].block_bytes(shape.head_dim)) * (plan.block_n // BLOCK)
        size = shape.batch * count * tiles * nbytes
        names = (f"K cache {bits}-bit", f"V cache {bits}-bit")
        tensors += [Tensor(name, heads * tiles, nbytes, f"int{bits}", size) for name in names]
        per_element = sas.QUANTISE_STAGE2 + sas.QUANTISE_STAGE1 if from_fp16 else sas.QUANTISE_STAGE2
        work = Compute("quantise", lanes=per_element.lanes(2 * plan.block_n * shape.head_dim))
        body.append(Loop(f"f{number}", var(f"use{number}"), (
            Load("load K", "K", source, "in", smem=False), Load("load V", "V", source, "in", smem=False),
            Wait("wait", "in", Affine(2)), work,
            Store("store K", names[0], source), Store("store V", names[1], source))))
    classes = tuple(
        CtaClass(f"{bits}-bit", tuple((f"use{n}", int(n == number)) for n in range(len(formats))))
        for number, (bits, _) in enumerate(formats))
    by_head = tuple(number for number, (_, count) in enumerate(formats) for _ in range(count))
    launch = Launch(
        "quantise cache", (Dim("t", tiles), Dim("h", shape.kv_heads), Dim("b", shape.batch)),
        (Role("all", 4, tuple(body)),), (Counter("in", CounterKind.DATA),), classes, (("h", by_head),), 0, 96)
    return launch, tensors


TURBO: Schedule[TurboOptions] = Schedule(
    "turbo", "TurboAttention: INT8 attention, SAS softmax, 4/2-bit cache", (Attention,), TurboOptions, build_turbo,
    {"path": Phase.PREFILL, "order": Phase.PREFILL, "sync": Phase.PREFILL, "quantise_inputs": Phase.PREFILL,
     "block_m": Phase.PREFILL, "product": Phase.DECODE, "dequant": Phase.DECODE, "splits": Phase.DECODE})
