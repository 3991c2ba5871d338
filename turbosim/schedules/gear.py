"""``gear``: GEAR-L, KIVI's cache plus a low-rank matrix of its quantisation error.

Decode adds (q Q) P^T to the scores and the same on the value side: two batched products each, reading the rank-r
factors. Prefill adds the factorisation: the error in FP16, then three power iterations that read it twice each. Source:
opengear-project/GEAR.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from turbosim.hw.spec import Gpu
from turbosim.program.program import Launch, Program, Tensor
from turbosim.schedules.base import Schedule
from turbosim.schedules.flash import FlashOptions, build_flash
from turbosim.schedules.kivi import check_bits, pipeline, quantise_launches
from turbosim.schedules.sas import PerElement
from turbosim.schedules.stream import stream_launch
from turbosim.schedules.tiles import ceil_div, check_positive
from turbosim.workload import Attention, Phase

ITERATIONS = 3
"""Power iterations of the published scripts."""


@dataclass(frozen=True)
class GearOptions:
    """Options of ``gear``."""

    bits: str = "4"
    rank: int = 4
    pieces: int = 4


def build_gear(gpu: Gpu, shape: Attention, options: GearOptions) -> Program:
    """Return the program. Raises UsageError for an option out of range."""
    check_bits("gear", options.bits)
    check_positive("gear", rank=options.rank, pieces=options.pieces)
    meta: dict[str, str | int | float | bool] = {"kernel": "gear", "bits": options.bits, "rank": options.rank}
    if shape.phase is Phase.PREFILL:
        flash = build_flash(gpu, shape, FlashOptions(pieces=options.pieces))
        tensors, launches = quantise_launches(flash, int(options.bits))
        more_tensors, more = _factorise(flash, options)
        return replace(flash, name="gear prefill", tensors=(*flash.tensors, *tensors, *more_tensors),
                       launches=(*flash.launches, *launches, *more), meta={**flash.meta, **meta})
    tensors, launches = pipeline(shape, int(options.bits))
    more_tensors, more = _low_rank(shape, options)
    return Program("gear decode", (*tensors, *more_tensors), (*launches, *more), shape.flops, meta)


def _low_rank(shape: Attention, options: GearOptions) -> tuple[list[Tensor], list[Launch]]:
    """Return the products with the factors, one CTA per 64 tokens and query head."""
    blocks = ceil_div(shape.seq_k, 64)
    heads = shape.batch * shape.kv_heads
    tensors = []
    launches = []
    for name in ("K", "V"):
        tokens, channels, small, out = (f"{name} {x}" for x in ("token factor", "channel factor", "small", "low rank"))
        tensors += [Tensor(tokens, heads * blocks, 2 * 64 * options.rank, "fp16"),
                    Tensor(channels, heads, 2 * shape.head_dim * options.rank, "fp16"),
                    Tensor(small, heads * shape.group, 32, "fp16"),
                    Tensor(out, heads * blocks * shape.group, 2 * 64, "fp16")]
        launches += [
            stream_launch(f"{name} low rank: q Q", heads, (channels,), (small,),
                          PerElement(fp32=1).lanes(shape.head_dim * options.rank), shape.group),
            stream_launch(f"{name} low rank: P^T", heads * blocks, (tokens,), (out,),
                          PerElement(fp32=1).lanes(64 * options.rank), shape.group)]
    return tensors, launches


def _factorise(flash: Program, options: GearOptions) -> tuple[list[Tensor], list[Launch]]:
    """Return dequantisation to the error and the power iterations over it, for K and V."""
    cache = flash.tensor("K")
    elements = cache.tile_bytes // 2
    factor = max(32, cache.tile_bytes // 64)
    tensors = []
    launches = []
    product = PerElement(fp32=options.rank).lanes(elements)
    for name in ("K", "V"):
        error, small = f"{name} error", f"{name} factor"
        tensors += [Tensor(error, cache.tiles, cache.tile_bytes, "fp16"), Tensor(small, cache.tiles, factor, "fp16")]
        launches.append(stream_launch(f"{name} error", cache.tiles, (name, f"{name} codes"), (error,),
                                      PerElement(integer=2, cvt=1, fp32=2).lanes(elements)))
        for step in range(ITERATIONS):
            launches += [stream_launch(f"{name} power {step} E Q", cache.tiles, (error,), (small,), product),
                         stream_launch(f"{name} power {step} E^T P", cache.tiles, (error,), (small,), product)]
    return tensors, launches


GEAR: Schedule[GearOptions] = Schedule(
    "gear", "GEAR-L: KIVI's cache with a low-rank correction", (Attention,), GearOptions, build_gear)
