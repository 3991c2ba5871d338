"""The hierarchical roofline picture: ceilings per instruction path and memory level, simulated kernels as points.

Dashed ceilings are the specification (tensor clock, memory peak); solid ones what can be held (sustained clock,
measured memory efficiency). A kernel's marker stands at useful FLOPs per byte of device memory; ticks at the same
height stand at its useful FLOPs per byte of L2 and of shared memory, each to be held against the ceiling of its level.
The picture is that of Yang, Kurth and Williams (2020), "Hierarchical Roofline analysis for GPUs".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbosim.hw.spec import Dtype, Gpu, MmaPath, OpClass, Unit
from turbosim.result import TICKS_PER_CYCLE, Result
from turbosim.units import show
from turbosim.views.style import BROWN, DARK, LIGHT, MARKERS, MEDIUM, OKABE_ITO, PURPLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

_MEMORY = {"device memory": DARK, "L2": BROWN, "shared memory": PURPLE}
_POINTS = OKABE_ITO[:6]
_LEGIBLE = 16
"""Most points whose other memory levels are marked unless asked for, and whose labels are all written."""
_CLEAR = 14
"""Pixels between a memory level's name and the nearest mark."""


@dataclass(frozen=True, slots=True)
class Point:
    """One simulated kernel."""

    kernel: str
    phase: str
    batch: int
    seq: int
    result: Result


@dataclass(frozen=True, slots=True)
class Mark:
    """A point's place at another memory level."""

    level: str
    intensity: float
    """Useful FLOPs per byte of the level."""
    point: Point


def intensities(gpu: Gpu, result: Result) -> dict[str, float]:
    """Return useful FLOPs per byte of each memory level, without levels that carry nothing.

    Shared-memory bytes are its busy time at its full rate, which also counts shuffles: they occupy the same data path.
    """
    smem_cycles = sum(x.busy_ticks[Unit.SMEM] for x in result.launches) / TICKS_PER_CYCLE
    moved = {"device memory": result.dram_bytes, "L2": result.l2_bytes,
             "shared memory": smem_cycles * gpu.sm.smem_bandwidth}
    return {level: result.useful_flops / nbytes for level, nbytes in moved.items() if nbytes}


def compute_ceilings(gpu: Gpu, results: Iterable[Result] = (), all_paths: bool = False
                     ) -> dict[str, tuple[float, float]]:
    """Return (specified, sustained) FLOP/s per operand type and instruction path, fastest first.

    These are the fastest paths of INT8 and FP16, or *all_paths* of the two, and all that *results* use.
    """
    best = {(path, dtype) for dtype in (Dtype.INT8, Dtype.FP16)
            for path in (gpu.tensor if all_paths else (gpu.mma_path(dtype),))}
    used = {tuple(name.split()) for result in results for name in result.peak_macs}
    spec, held = gpu.clock.hertz("tensor_spec"), gpu.clock.hertz("sustained")
    rates = {(path, dtype): 2 * gpu.tensor[path].rates[dtype] * gpu.sm.count for path in gpu.tensor
             for dtype in gpu.tensor[path].rates if (path, dtype) in best or (path.value, dtype.value) in used}
    ceilings = {_path_name(path, dtype): (rate * spec, rate * held)
                for (path, dtype), rate in sorted(rates.items(), key=lambda item: -item[1])}
    rate = 2 * gpu.pipes[OpClass.FP32].rate * gpu.sm.count
    ceilings["FP32 CUDA cores"] = (rate * gpu.clock.boost, rate * held)
    return ceilings


def _path_name(path: MmaPath, dtype: Dtype) -> str:
    return f"{dtype.value.upper().replace('_ACC16', ' (FP16 sums)')} {path.value}"


def memory_ceilings(gpu: Gpu) -> dict[str, tuple[float, float]]:
    """Return (specified, achievable) B/s per memory level."""
    smem = gpu.sm.smem_bandwidth * gpu.sm.count
    return {"device memory": (gpu.hbm.bandwidth, gpu.hbm.bandwidth * gpu.hbm.efficiency),
            "L2": (gpu.l2.bandwidth, gpu.l2.bandwidth),
            "shared memory": (smem * gpu.clock.boost, smem * gpu.clock.hertz("sustained"))}


def figure(gpu: Gpu, points: list[Point], subtitle: str = "", levels: bool | None = None) -> Figure:
    """Return the roofline of *gpu* with labelled *points*; points without device-memory traffic have no place.

    *levels* says whether to mark the intensities at L2 and shared memory; None marks them on pictures of few points.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    fig = Figure(figsize=(10, 6.8), layout="constrained")
    axes = fig.add_subplot()
    points = [p for p in points if p.result.arithmetic_intensity > 0 and p.result.tflops > 0]
    marks = []
    if levels or (levels is None and len(points) <= _LEGIBLE):
        marks = [Mark(level, x, p) for p in points for level, x in intensities(gpu, p.result).items()
                 if level != "device memory"]
    compute, memory = compute_ceilings(gpu, (p.result for p in points)), memory_ceilings(gpu)
    top = max(spec for spec, _ in compute.values())
    places = [p.result.arithmetic_intensity for p in points] + [m.intensity for m in marks]
    low, high = min([0.5, *(x / 1.5 for x in places)]), max([3e3, *(x * 3 for x in places)])
    floor = min([top / 1e3, *(p.result.tflops * 1e12 / 4 for p in points)])
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, top * 1.9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y / 1e12:g}"))
    _draw_ceilings(axes, compute, memory, low, high, floor)
    _draw_marks(axes, points, marks)
    _draw_points(axes, points)
    axes.set_xlabel("arithmetic intensity [useful FLOP per byte of device memory" + (
        " (markers), of L2 and of shared memory (ticks)]" if marks else "]"))
    axes.set_ylabel("useful throughput [TFLOP/s]")
    axes.set_title(f"{gpu.title}: roofline and simulated kernels" + (f" ({subtitle})" if subtitle else ""),
                   loc="left", fontsize=11)
    axes.grid(visible=True, which="major", color="#EBEBEB", linewidth=0.7)
    axes.set_axisbelow(True)
    entries = len(axes.get_legend_handles_labels()[1])
    fig.legend(loc="outside lower center", ncols=entries if entries < 8 else (entries + 1) // 2, fontsize=9,
               frameon=False)
    _label_compute(axes, compute, high)
    fig.draw_without_rendering()
    dots = [*map(_position, points), *((m.intensity, _position(m.point)[1]) for m in marks)]
    notes = _label_memory(axes, memory, low, floor, dots)
    _label_points(axes, points, [*dots, *(spot for note in notes for spot in _spots(axes, note))])
    return fig


def _draw_ceilings(axes: Axes, compute: dict[str, tuple[float, float]], memory: dict[str, tuple[float, float]],
                   low: float, high: float, floor: float) -> None:
    roofs = [max(ceiling[n] for ceiling in compute.values()) for n in (0, 1)]
    for name, rates in memory.items():
        for rate, roof, style, width in zip(rates, roofs, ("--", "-"), (1.0, 1.5), strict=True):
            axes.plot([floor / rate, roof / rate], [floor, roof], linestyle=style, linewidth=width,
                      color=_MEMORY[name])
    for rates in compute.values():
        start = max(low, rates[1] / memory["shared memory"][1])
        for rate, style, width in zip(rates, ("--", "-"), (1.0, 1.5), strict=True):
            axes.plot([start, high], [rate, rate], linestyle=style, linewidth=width, color=DARK)
    axes.plot([], [], color=DARK, linewidth=1.5, label="achievable")
    axes.plot([], [], color=DARK, linestyle="--", linewidth=1.0, label="specified")


def _draw_marks(axes: Axes, points: list[Point], marks: list[Mark]) -> None:
    """Draw ticks in the colours of their levels, joined to their point by a thin line in the colour of its kernel."""
    kernels = list(dict.fromkeys(p.kernel for p in points))
    for point in points:
        own = [m.intensity for m in marks if m.point is point]
        if own:
            x, y = _position(point)
            axes.plot([min(x, *own), max(x, *own)], [y, y], color=_look(kernels.index(point.kernel))[0], linewidth=0.6,
                      alpha=0.7, zorder=4)
    for level in dict.fromkeys(m.level for m in marks):
        here = [m for m in marks if m.level == level]
        axes.plot([m.intensity for m in here], [_position(m.point)[1] for m in here], linestyle="none", marker="|",
                  markersize=9, markeredgewidth=2, color=_MEMORY[level], zorder=4.5, label=f"per byte of {level}")


def _draw_points(axes: Axes, points: list[Point]) -> None:
    """Draw the points: colour and marker by kernel, hollow in the second phase, joined along the sequence length."""
    kernels = list(dict.fromkeys(p.kernel for p in points))
    phases = list(dict.fromkeys(p.phase for p in points))
    for kernel, phase, batch in dict.fromkeys((p.kernel, p.phase, p.batch) for p in points):
        row = sorted((p for p in points if (p.kernel, p.phase, p.batch) == (kernel, phase, batch)),
                     key=lambda p: p.seq)
        colour, marker = _look(kernels.index(kernel))
        x, y = zip(*map(_position, row), strict=True)
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.9, marker=marker, markersize=7.5, zorder=5,
                  markeredgewidth=1.4, markerfacecolor="white" if phases.index(phase) else colour)
    for number, kernel in enumerate(kernels):
        colour, marker = _look(number)
        axes.plot([], [], marker=marker, linestyle="none", markersize=8, color=colour, label=kernel)
    if len(phases) > 1:
        for number, phase in enumerate(phases):
            axes.plot([], [], marker="o", linestyle="none", markersize=8, color=MEDIUM, label=phase,
                      markerfacecolor="white" if number else MEDIUM)


def _look(number: int) -> tuple[str, str]:
    return _POINTS[number % len(_POINTS)], MARKERS[number % len(MARKERS)]


def _label_memory(axes: Axes, memory: dict[str, tuple[float, float]], low: float, floor: float,
                  dots: list[tuple[float, float]]) -> list[Annotation]:
    """Write each memory level along its line, as near to the left edge as *dots* allow; the layout must be final."""
    (x0, y0), (x1, y1) = axes.transData.transform([(low, floor), (10 * low, 10 * floor)])
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    taken = [tuple(pixel) for pixel in axes.transData.transform(dots or [(1.0, 1.0)])]
    notes = []
    for name, (spec, held) in memory.items():
        start = max(low * 1.15, 1.3 * floor / held)
        text = f"{name} {show(held, 'B/s', 3)}" + (f" of {show(spec, 'B/s', 3)}" if held < spec else "")
        for further in (1, 1.5, 2, 3, 5, 8):
            x = start * further
            note = axes.annotate(text, (x, x * spec), xytext=(-3, 4), textcoords="offset points", fontsize=8.5,
                                 color=_MEMORY[name], rotation=angle, rotation_mode="anchor", va="bottom")
            spots = axes.transData.transform(_spots(axes, note))
            if further == 8 or all(math.dist(spot, dot) > _CLEAR for spot in spots for dot in taken):
                break
            note.remove()
        notes.append(note)
    return notes


def _label_compute(axes: Axes, compute: dict[str, tuple[float, float]], high: float) -> None:
    """Write each path beside the right end of its line, those of close ceilings apart."""
    below = math.inf
    for name, (spec, held) in sorted(compute.items(), key=lambda item: -item[1][1]):
        text = f"{name} {held / 1e12:,.0f}" + (f" of {spec / 1e12:,.0f}" if held < 0.999 * spec else "")
        height = axes.transData.transform((high, held))[1] * 72 / axes.figure.dpi
        below = min(height, below - 10)
        axes.annotate(text, (high, held), xytext=(5, below - height), textcoords="offset points", color=DARK,
                      fontsize=8.5, va="center", annotation_clip=False)


def _position(point: Point) -> tuple[float, float]:
    return point.result.arithmetic_intensity, point.result.tflops * 1e12


def _label_points(axes: Axes, points: list[Point], kept: list[tuple[float, float]]) -> None:
    """Write batch and length beside the points, clear of the places *kept*, with leader lines.

    Of many points those at the ends of a line along the sequence length are labelled.
    """
    from textalloc import allocate

    kernels = list(dict.fromkeys(p.kernel for p in points))
    one_batch = len({p.batch for p in points}) == 1
    if len(points) > _LEGIBLE:
        ends: dict[tuple[str, str, int], list[int]] = {}
        for p in points:
            ends.setdefault((p.kernel, p.phase, p.batch), []).append(p.seq)
        points = [p for p in points if p.seq in (min(own := ends[p.kernel, p.phase, p.batch]), max(own))]
    if not points:
        return
    sizes = [f"{p.seq // 1024}k" if p.seq % 1024 == 0 else str(p.seq) for p in points]
    x, y = (list(axis) for axis in zip(*map(_position, points), strict=True))
    allocate(axes, x, y, [size if one_batch else f"b{p.batch} {size}" for p, size in zip(points, sizes, strict=True)],
             x_scatter=[a for a, _ in kept], y_scatter=[b for _, b in kept], textsize=8, margin=0.005,
             min_distance=0.009, max_distance=0.15, nbr_candidates=400, direction="east", linecolor=LIGHT,
             textcolor=[_look(kernels.index(p.kernel))[0] for p in points], linewidth=0.6,
             avoid_label_lines_overlap=True, avoid_crossing_label_lines=True)


def _spots(axes: Axes, note: Annotation) -> list[tuple[float, float]]:
    """Return places along a text in data coordinates, which stand for it where only points can be avoided."""
    box = note.get_window_extent()
    rising = note.get_rotation() > 0
    steps = [n / 12 for n in range(13)]
    pixels = [(box.x0 + t * box.width, box.y0 + (t if rising else 0.5) * box.height) for t in steps]
    return [(float(a), float(b)) for a, b in axes.transData.inverted().transform(pixels)]
