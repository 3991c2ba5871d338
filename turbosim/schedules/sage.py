"""``sage``: SageAttention's INT8 attention with an FP16 second product, prefill.

Q and K come as INT8 with one FP32 scale per warp's rows and per KV tile, V as FP16. Scores are converted from INT32 and
scaled within the multiply-add of the exponential; P V accumulates in FP16. Quantisation of Q and K and smoothing of K
are kernels of their own and not part of this one, as in the published figures. Source: J. Zhang et al.,
"SageAttention", arXiv:2410.02367; tiles of 128 x 64 with four warps from thu-ml/SageAttention,
``csrc/qattn/qk_int_sv_f16_cuda_sm80.cu`` at 3c362cc (``8+16`` of its figures). ``accumulate=fp16+fp32`` adds every
tile's FP16 product into FP32, as the Triton kernel of version 1 does (``attn_qk_int8_per_block.py`` at 303669a, eight
warps at d = 128).
"""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Dtype, Gpu, MmaPath, OpClass
from turbosim.program.ops import Compute
from turbosim.program.program import Program
from turbosim.schedules import softmax
from turbosim.schedules.base import Schedule
from turbosim.schedules.prefill import PrefillPlan, TileWork, prefill_launch, prefill_tensors
from turbosim.schedules.tiles import (
    PIECES,
    accumulator_registers,
    best_path,
    check_multiple,
    check_positive,
    product,
    roles_of,
)
from turbosim.workload import Attention, Phase

ACCUMULATORS = ("fp16", "fp16+fp32", "fp32")
SCALE_BYTES = 4


@dataclass(frozen=True)
class SageOptions:
    """Options of ``sage``."""

    accumulate: str = "fp16"
    """P V: ``fp16``, ``fp16+fp32`` (FP16 within a KV tile, FP32 over tiles), or ``fp32``."""
    block_m: int = 128
    block_n: int = 64
    warps: int = 4
    stages: int = 1
    pieces: int = PIECES
    """Parts in which the blocks of a KV tile are served."""
    order: str = "forward"
    """Causal: query tiles ``forward`` or ``heavy_first``."""


def build_sage(gpu: Gpu, shape: Attention, options: SageOptions) -> Program:
    """Return the program. Raises UsageError for decode, an option out of range, or tensor cores without the types."""
    if shape.phase is Phase.DECODE:
        raise UsageError("kernel 'sage' has prefill only; use flash for decode")
    for name, value, known in (("accumulate", options.accumulate, ACCUMULATORS),
                               ("order", options.order, ("forward", "heavy_first"))):
        if value not in known:
            raise UsageError(f"kernel 'sage': option {name} must be one of {', '.join(known)}, got {value!r}"
                             f"{did_you_mean(value, known)}")
    check_positive("sage", stages=options.stages, pieces=options.pieces)
    check_multiple("sage", 16, block_m=options.block_m, block_n=options.block_n)
    plan = _plan(gpu, shape, options)
    return Program(
        "sage prefill", prefill_tensors(plan), (prefill_launch(plan),), shape.flops,
        {"kernel": "sage", "path": plan.path, "accumulate": options.accumulate, "block_m": plan.block_m,
         "block_n": plan.block_n, "warps": 4 * plan.roles, "stages": plan.stages, "pieces": options.pieces,
         "order": options.order})


def _plan(gpu: Gpu, shape: Attention, options: SageOptions) -> PrefillPlan:
    roles = roles_of("sage", options.warps, options.block_m)
    rows, n, d = options.block_m // roles, options.block_n, shape.head_dim
    path = MmaPath.MMA_SYNC.value
    second_type = Dtype.FP16 if options.accumulate == "fp32" else Dtype.FP16_ACC16
    first = best_path(gpu, Dtype.INT8, rows, "sage", path)
    second = best_path(gpu, second_type, rows, "sage", path)

    def tile(masked: bool) -> TileWork:
        scores = product("QK^T", rows, n, d, Dtype.INT8, first, a_in_smem=True)
        steps = (Compute("convert scores", lanes=((OpClass.CVT, rows * n),)),
                 *((softmax.mask(rows, n),) if masked else ()), softmax.row_max(rows, n),
                 softmax.exponentials(rows, n), _rescale(options, rows, d))
        output = product("PV", rows, d, n, second_type, second, a_in_smem=False)
        return TileWork(scores, steps, (*output, _add(rows, d)) if options.accumulate == "fp16+fp32" else output)

    # An FP16 accumulator is half as wide; where it is added into FP32, both are there.
    output = {"fp16": d // 2, "fp16+fp32": d + d // 2, "fp32": d}[options.accumulate]
    return PrefillPlan(
        kernel="sage", shape=shape, block_m=options.block_m, block_n=n, roles=roles, stages=options.stages,
        heavy_first=options.order == "heavy_first", q_bytes=options.block_m * d + SCALE_BYTES * options.warps,
        kv_bytes=n * d + SCALE_BYTES, v_bytes=2 * n * d, out_bytes=2 * rows * d, dtype="int8", bulk=False, tile=tile,
        start=(), finish=(softmax.normalise(rows, d),),
        smem_bytes=d * (options.block_m + 3 * options.stages * n),
        registers=accumulator_registers((rows, output), (rows, n)), path=path, pieces=options.pieces)


def _rescale(options: SageOptions, rows: int, head_dim: int) -> Compute:
    """Rescale the running output, two FP16 values an instruction."""
    if options.accumulate == "fp16":
        return Compute("rescale O", lanes=((OpClass.FP16X2, rows * head_dim // 2),))
    return softmax.rescale(rows, head_dim)


def _add(rows: int, head_dim: int) -> Compute:
    """Add a tile's FP16 product into FP32."""
    outputs = rows * head_dim
    return Compute("add PV", lanes=((OpClass.WIDEN, outputs), (OpClass.FP32, outputs)))


SAGE: Schedule[SageOptions] = Schedule(
    "sage", "SageAttention: INT8 scores, FP16 second product", (Attention,), SageOptions, build_sage)
