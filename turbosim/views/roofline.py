"""The roofline picture: ceilings per precision and memory level, simulated kernels as points.

Dashed ceilings are the specification (tensor clock, memory peak); solid ones what can be held (sustained clock,
measured memory efficiency). Points stand at useful FLOPs per byte of device memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbosim.hw.spec import Dtype, Gpu, OpClass
from turbosim.result import Result
from turbosim.units import show
from turbosim.views.style import DARK, LIGHT, MARKERS, MEDIUM, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

_MEMORY = {"device memory": DARK, "L2": MEDIUM, "shared memory": LIGHT}
_PAPER = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.9}
_POINTS = OKABE_ITO[:6]


@dataclass(frozen=True, slots=True)
class Point:
    """One simulated kernel."""

    kernel: str
    phase: str
    batch: int
    seq: int
    result: Result


def compute_ceilings(gpu: Gpu) -> dict[str, tuple[float, float]]:
    """Return (specified, sustained) FLOP/s per precision."""
    spec, held = gpu.clock.hertz("tensor_spec"), gpu.clock.hertz("sustained")
    ceilings = {f"{dtype.value.upper()} tensor": (2 * gpu.peak_macs(dtype, spec), 2 * gpu.peak_macs(dtype, held))
                for dtype in (Dtype.INT8, Dtype.FP16) if gpu.mma_path(dtype) is not None}
    rate = 2 * gpu.pipes[OpClass.FP32].rate * gpu.sm.count
    ceilings["FP32 CUDA cores"] = (rate * gpu.clock.boost, rate * held)
    return ceilings


def memory_ceilings(gpu: Gpu) -> dict[str, tuple[float, float]]:
    """Return (specified, achievable) B/s per memory level."""
    smem = gpu.sm.smem_bandwidth * gpu.sm.count
    return {"device memory": (gpu.hbm.bandwidth, gpu.hbm.bandwidth * gpu.hbm.efficiency),
            "L2": (gpu.l2.bandwidth, gpu.l2.bandwidth),
            "shared memory": (smem * gpu.clock.boost, smem * gpu.clock.hertz("sustained"))}


def figure(gpu: Gpu, points: list[Point], subtitle: str = "") -> Figure:
    """Return the roofline of *gpu* with labelled *points*; points without device-memory traffic have no place."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    fig = Figure(figsize=(10, 6.8), layout="constrained")
    axes = fig.add_subplot()
    points = [p for p in points if p.result.arithmetic_intensity > 0 and p.result.tflops > 0]
    compute, memory = compute_ceilings(gpu), memory_ceilings(gpu)
    top = max(spec for spec, _ in compute.values())
    low = min([0.5, *(p.result.arithmetic_intensity / 3 for p in points)])
    high = max([3e3, *(p.result.arithmetic_intensity * 3 for p in points)])
    floor = min([top / 1e3, *(p.result.tflops * 1e12 / 4 for p in points)])
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, top * 1.9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y / 1e12:g}"))
    _draw_ceilings(axes, compute, memory, low, high, floor)
    _draw_points(axes, points)
    axes.set_xlabel("arithmetic intensity [useful FLOP per byte of device memory]")
    axes.set_ylabel("useful throughput [TFLOP/s]")
    axes.set_title(f"{gpu.title}: roofline and simulated kernels" + (f" ({subtitle})" if subtitle else ""),
                   loc="left", fontsize=11)
    axes.grid(visible=True, which="major", color="#EBEBEB", linewidth=0.7)
    axes.set_axisbelow(True)
    fig.legend(loc="outside lower center", ncols=7, fontsize=9, frameon=False)
    fig.draw_without_rendering()
    notes = _label_memory(axes, memory, low, floor) + _label_compute(axes, compute, high, points)
    _label_points(axes, points, notes)
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


def _label_memory(axes: Axes, memory: dict[str, tuple[float, float]], low: float, floor: float
                  ) -> list[Annotation]:
    """Write each memory level along its line, near the left edge; the layout must be final."""
    (x0, y0), (x1, y1) = axes.transData.transform([(low, floor), (10 * low, 10 * floor)])
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    notes = []
    for name, (spec, held) in memory.items():
        x = max(low * 1.15, 1.3 * floor / held)
        text = f"{name} {show(held, 'B/s', 3)}" + (f" of {show(spec, 'B/s', 3)}" if held < spec else "")
        notes.append(axes.annotate(text, (x, x * spec), xytext=(-3, 4), textcoords="offset points", fontsize=8.5,
                                   color=_MEMORY[name], rotation=angle, rotation_mode="anchor", va="bottom"))
    return notes


def _label_compute(axes: Axes, compute: dict[str, tuple[float, float]], high: float, points: list[Point]
                   ) -> list[Annotation]:
    """Write each precision above its line, at the right edge or, where points are, further left."""
    dots = axes.transData.transform([_position(p) for p in points] or [(1.0, 1.0)])
    notes = []
    for name, (spec, held) in compute.items():
        text = f"{name} {held / 1e12:,.0f}" + (f" of {spec / 1e12:,.0f}" if held < 0.999 * spec else "") + " TFLOP/s"
        for share in (0.95, 0.55, 0.3, 0.17):
            note = axes.annotate(text, (high * share, spec), xytext=(0, 3), textcoords="offset points", color=DARK,
                                 fontsize=8.5, ha="right", va="bottom", bbox=_PAPER, zorder=3)
            if share == 0.17 or note.get_window_extent().count_contains(dots) == 0:
                break
            note.remove()
        notes.append(note)
    return notes


def _position(point: Point) -> tuple[float, float]:
    return point.result.arithmetic_intensity, point.result.tflops * 1e12


def _label_points(axes: Axes, points: list[Point], notes: list[Annotation]) -> None:
    """Write batch and length beside every point, clear of *notes*, with leader lines."""
    from textalloc import allocate

    if not points:
        return
    kernels = list(dict.fromkeys(p.kernel for p in points))
    one_batch = len({p.batch for p in points}) == 1
    sizes = [f"{p.seq // 1024}k" if p.seq % 1024 == 0 else str(p.seq) for p in points]
    x, y = (list(axis) for axis in zip(*map(_position, points), strict=True))
    kept = [*zip(x, y, strict=True), *(place for note in notes for place in _spots(axes, note))]
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
