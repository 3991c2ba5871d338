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
from turbosim.schedules.kivi import check_bits, quantise_launches
from turbosim.schedules.sas import PerElement
from turbosim.schedules.stream import stream_launch
from turbosim.schedules.tiles import PIECES, check_positive
from turbosim.schedules.unfused_decode import pipeline
from turbosim.workload import Attention, Phase

ITERATIONS = 3
"""Power iterations of the published scripts."""


@dataclass(frozen=True)
class GearOptions:
    """Options of ``gear``."""

    bits: str = "4"
    rank: int = 4
    path: str = "mma.sync"
    """Prefill: instruction path of its FlashAttention, as in ``flash``."""
    pieces: int = PIECES


def build_gear(gpu: Gpu, shape: Attention, options: GearOptions) -> Program:
    """Return the program. Raises UsageError for an option out of range."""
    check_bits("gear", options.bits)
    check_positive("gear", rank=options.rank, pieces=options.pieces)
    meta: dict[str, str | int | float | bool] = {"kernel": "gear", "bits": options.bits, "rank": options.rank}
    if shape.phase is Phase.PREFILL:
        flash = build_flash(gpu, shape, FlashOptions(path=options.path, pieces=options.pieces))
        tensors, launches = quantise_launches(flash, int(options.bits))
        more_tensors, more = _factorise(flash, shape, options.rank)
        return replace(flash, name="gear prefill", tensors=(*flash.tensors, *tensors, *more_tensors),
                       launches=(*flash.launches, *launches, *more), meta={**flash.meta, **meta})
    decode_tensors, decode_launches = pipeline(shape, int(options.bits), options.rank)
    return Program("gear decode", tuple(decode_tensors), tuple(decode_launches), shape.flops, meta)


def _factorise(flash: Program, shape: Attention, rank: int) -> tuple[list[Tensor], list[Launch]]:
    """Return dequantisation to the error E and the power iterations over it, for K and V.

    Every tile has its rows of the token side and its part of the channel side; the sum of those parts, and the QR step
    of the last iteration over so few columns, are left out.
    """
    cache = flash.tensor("K")
    elements = cache.tile_bytes // 2
    tensors = []
    launches = []
    product = PerElement(fp32=rank).lanes(elements)
    for name in ("K", "V"):
        error, rows, columns = f"{name} error", f"{name} token factor", f"{name} channel factor"
        tensors += [Tensor(error, cache.tiles, cache.tile_bytes, "fp16"),
                    Tensor(rows, cache.tiles, 2 * rank * (elements // shape.head_dim), "fp16"),
                    Tensor(columns, cache.tiles, 2 * rank * shape.head_dim, "fp16")]
        launches.append(stream_launch(f"{name} error", cache.tiles, (name, f"{name} codes", f"{name} min max"),
                                      (error,), PerElement(integer=2, cvt=1, fp32=2).lanes(elements)))
        for step in range(ITERATIONS):
            launches += [stream_launch(f"{name} power {step} E Q", cache.tiles, (error, columns), (rows,), product),
                         stream_launch(f"{name} power {step} E^T P", cache.tiles, (error, rows), (columns,), product)]
    return tensors, launches


GEAR: Schedule[GearOptions] = Schedule(
    "gear", "GEAR-L: KIVI's cache with a low-rank correction", (Attention,), GearOptions, build_gear,
    {"path": Phase.PREFILL})
