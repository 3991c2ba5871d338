"""INT8 attention with SAS beside FP16 attention, both lifted from machine code, and beside the schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.lifting import Compiled, Options, attention, turbo
from turbosim import Attention, Phase, simulate
from turbosim.errors import TurbosimError
from turbosim.hw import load_gpu
from turbosim.result import TICKS_PER_CYCLE, Result

SHAPE = (4, 40, 10, 8192, 128)
"""Batch, heads, KV heads, tokens, d: Phi-3-medium. Without the causal mask."""
GPUS = ("a100_sxm_80gb", "h100_sxm", "h200_sxm", "b200")
FLASH: tuple[Options, ...] = tuple(
    {"block_m": m, "block_n": n, "warps": w, "stages": s}
    for m, n, w, s in ((128, 64, 4, 2), (128, 32, 4, 3), (128, 64, 8, 3), (128, 128, 8, 2), (64, 64, 4, 2)))
TURBO: tuple[Options, ...] = tuple(
    {"block_m": m, "warps": w, "stages": s} for m, w, s in ((64, 4, 2), (128, 4, 2), (128, 8, 2)))
VARIANTS: dict[str, tuple[Options, str]] = {
    "SAS on exponent bits": ({}, "turbo"),
    "SAS by table": ({"sas": "table"}, "turbo:sas_variant=table"),
    "naive SAS": ({"sas": "naive", "convert": "cast"}, "turbo:sas_variant=naive:convert=i2f"),
    "exp2": ({"sas": "exp2"}, "turbo:sas=false"),
    "SAS, P scale fixed": ({"p_scale": "fixed"}, "turbo:p_scale=fixed"),
    "SAS, P scale by row": ({"p_scale": "row"}, "turbo:p_scale=row"),
    "exp2, P scale by row": ({"p_scale": "row", "sas": "exp2"}, "turbo:sas=false:p_scale=row"),
}
"""What differs -> options of the kernel, and the schedule with its options."""


@dataclass(frozen=True)
class Line:
    """A kernel on one GPU."""

    gpu: str
    kernel: str
    tiling: str
    seconds: float
    busiest: str
    scheduled: float
    """Time of the schedule's attention launch [s]."""
    scheduled_busiest: str
    spilled: int


def busiest(result: Result, count: int = 3) -> str:
    """Return the busiest units and their shares."""
    shares = sorted(result.utilization.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{name} {share:.0%}" for name, share in shares)


def schedule(gpu: str, text: str) -> tuple[float, str]:
    """Return time and busiest units of the attention launch of a schedule, ``kernel:option=value:...``."""
    name, _, options = text.partition(":")
    batch, heads, kv_heads, seq, d = SHAPE
    shape = Attention(batch, heads, kv_heads, seq, seq, d, causal=False, phase=Phase.PREFILL)
    result = simulate(gpu, shape, name, options=dict(o.split("=") for o in options.split(":") if o))
    # The other launch writes the cache.
    longest = max(result.launches, key=lambda one: one.ticks)
    return longest.ticks / (TICKS_PER_CYCLE * result.clock_hz), busiest(result)


def _label(options: Options) -> str:
    return f"{options['block_m']}x{options.get('block_n', 64)} w{options['warps']} s{options['stages']}"


def fastest(gpu: str, kernels: Sequence[tuple[Options, Compiled]]) -> tuple[Options, Compiled, Result]:
    """Return the fastest of *kernels*."""
    results = [(options, kernel, kernel.on(gpu)) for options, kernel in kernels]
    return min(results, key=lambda one: one[2].time_s)


class Refusals(dict[str, str]):
    """Kernels that could not be lifted, and why."""

    def lifted(self, name: str, act: object, options: Sequence[Options], gpu: str) -> list[tuple[Options, Compiled]]:
        """Return those of *options* that can be lifted."""
        found = []
        for one in options:
            try:
                found.append((one, act(gpu, SHAPE, False, one)))  # type: ignore[operator]
            except TurbosimError as error:
                self[f"{gpu} {name} {_label(one)}"] = str(error)
        return found


def lines(gpus: Sequence[str] = GPUS) -> tuple[list[Line], Refusals]:
    """Return what was found on *gpus*. Those of one architecture differ in memory and clock only and share kernels."""
    refused = Refusals()
    found: list[Line] = []
    for arch in dict.fromkeys(load_gpu(g).arch for g in gpus):
        family = [g for g in gpus if load_gpu(g).arch == arch]
        lead = family[0]
        kernels = {"FP16": (refused.lifted("FP16", attention, FLASH, lead), "flash:path=auto")}
        for name, (options, scheduled) in VARIANTS.items():
            kernels[name] = refused.lifted(name, turbo, [{**tiling, **options} for tiling in TURBO], lead), scheduled
        for gpu in family:
            for name, (of, scheduled) in kernels.items():
                if not of:
                    continue
                options, kernel, result = fastest(gpu, of)
                seconds, units = schedule(gpu, scheduled)
                found.append(Line(gpu, name, _label(options), result.time_s, busiest(result), seconds, units,
                                  kernel.spilled))
    return found, refused


def table() -> list[str]:
    """Return the lines as a Markdown table, and what was refused."""
    found, refused = lines()
    text = ["| GPU | kernel | tiling | lifted [ms] | over FP16 | busiest units | schedule [ms] | over FP16 | busiest |",
            "|---|---|---|---|---|---|---|---|---|"]
    for line in found:
        base = next((x for x in found if x.gpu == line.gpu and x.kernel == "FP16"), line)
        spilled = f", spills {line.spilled} B" if line.spilled else ""
        text.append(f"| {line.gpu} | {line.kernel} | {line.tiling}{spilled} | {line.seconds * 1e3:.2f} | "
                    f"{base.seconds / line.seconds:.2f} | {line.busiest} | {line.scheduled * 1e3:.2f} | "
                    f"{base.scheduled / line.scheduled:.2f} | {line.scheduled_busiest} |")
    return [*text, *([""] if refused else []), *(f"Refused: {where}: {why}" for where, why in refused.items())]
