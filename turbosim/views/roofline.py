"""The roofline picture: ceilings per precision and memory level, simulated kernels as points.

Dashed ceilings are the specification (tensor clock, memory peak); solid ones what can be held (sustained clock,
measured memory efficiency). Points stand at useful FLOPs per byte of device memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from turbosim.hw.spec import Dtype, Gpu, OpClass
from turbosim.result import Result
from turbosim.units import show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_POINT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_COMPUTE = {"INT8 tensor": "#5E3C99", "FP16 tensor": "#1B7837", "FP32 CUDA cores": "#666666"}
_MEMORY = {"device memory": "#B2182B", "L2": "#EF8A62", "shared memory": "#C7A76C"}


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


def figure(gpu: Gpu, points: list[tuple[str, Result]]) -> Figure:
    """Return the roofline of *gpu* with labelled *points*."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(10, 6.4), layout="constrained")
    axes = fig.add_subplot()
    placed = [(label, r.arithmetic_intensity, r.tflops * 1e12) for label, r in points if r.arithmetic_intensity > 0]
    compute, memory = compute_ceilings(gpu), memory_ceilings(gpu)
    top = max(spec for spec, _ in compute.values())
    low = min([0.5, *(x / 3 for _, x, _ in placed)])
    high = max([3e3, *(x * 6 for _, x, _ in placed)])
    floor = min([top / 1e3, *(y / 3 for _, _, y in placed)])
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, top * 2.2))
    _draw_ceilings(axes, compute, memory, low, high, floor)
    groups = list(dict.fromkeys(label.split(" ", 1)[0] for label, _, _ in placed))
    _draw_points(axes, placed, groups)
    axes.set_xlabel("arithmetic intensity: useful FLOP per byte of device memory")
    axes.set_ylabel("useful FLOP/s")
    axes.set_title(f"{gpu.title}: roofline and simulated kernels", loc="left", fontsize=12)
    fig.draw_without_rendering()
    _label_memory(axes, memory, low, floor)
    axes.grid(visible=True, which="major", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.plot([], [], color="#444444", linestyle="--", linewidth=1.1, label="specified")
    axes.plot([], [], color="#444444", linewidth=1.6, label="achievable")
    axes.legend(loc="upper left", fontsize=9, frameon=True, framealpha=0.95, edgecolor="none")
    return fig


def _draw_ceilings(axes: Axes, compute: dict[str, tuple[float, float]], memory: dict[str, tuple[float, float]],
                   low: float, high: float, floor: float) -> None:
    peak = max(held for _, held in compute.values())
    spec_peak = max(spec for spec, _ in compute.values())
    for name, (spec, held) in memory.items():
        colour = _MEMORY[name]
        for rate, roof, style, width in ((spec, spec_peak, "--", 1.1), (held, peak, "-", 1.6)):
            axes.plot([floor / rate, roof / rate], [floor, roof], linestyle=style, linewidth=width, color=colour)
    for name, (spec, held) in compute.items():
        colour = _COMPUTE[name]
        start = max(low, held / memory["shared memory"][1])
        axes.plot([start, high], [spec, spec], linestyle="--", linewidth=1.1, color=colour)
        axes.plot([start, high], [held, held], linewidth=1.6, color=colour)
        axes.annotate(f"{name} {held / 1e12:,.0f} of {spec / 1e12:,.0f} TFLOP/s", (high * 0.92, spec), xytext=(0, 3),
                      textcoords="offset points", color=colour, fontsize=8.5, ha="right", va="bottom")


def _label_memory(axes: Axes, memory: dict[str, tuple[float, float]], low: float, floor: float) -> None:
    """Write each memory level along its line, near the left edge; the layout must be final."""
    (x0, y0), (x1, y1) = axes.transData.transform([(low, floor), (10 * low, 10 * floor)])
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    for name, (spec, held) in memory.items():
        x = max(low * 1.15, 1.3 * floor / held)
        axes.annotate(f"{name} {show(held, 'B/s')}", (x, x * spec), xytext=(-3, 4), textcoords="offset points",
                      color=_MEMORY[name], fontsize=8.5, rotation=angle, rotation_mode="anchor", va="bottom")


def _draw_points(axes: Axes, placed: list[tuple[str, float, float]], groups: list[str]) -> None:
    """Draw the points and spread their labels along the right edge of the cloud, with leader lines."""
    for label, x, y in placed:
        group = groups.index(label.split(" ", 1)[0])
        axes.plot(x, y, marker=_MARKERS[group % len(_MARKERS)], color=_POINT_COLOURS[group % len(_POINT_COLOURS)],
                  markersize=8, markeredgecolor="white", linestyle="none", zorder=5)
    for group, name in enumerate(groups):
        axes.plot([], [], marker=_MARKERS[group % len(_MARKERS)], linestyle="none", markersize=8, label=name,
                  color=_POINT_COLOURS[group % len(_POINT_COLOURS)])
    low_y, high_y = axes.get_ylim()
    low_x, high_x = axes.get_xlim()
    gap = math.log10(high_y / low_y) * 0.036
    near = math.log10(high_x / low_x) * 0.14
    taken = [(math.log10(x), math.log10(y)) for _, x, y in placed]
    near_point = math.log10(high_x / low_x) * 0.01
    for label, x, y in sorted(placed, key=lambda p: (-p[2], p[1])):
        side = 1 if math.log10(high_x / x) > near * 1.6 else -1
        text_x = math.log10(x) + side * math.log10(high_x / low_x) * 0.025
        text_y = math.log10(y) - gap
        middle = text_x + side * near / 2
        while any(abs(text_y - ty) < gap and abs(middle - tx) < (near_point + near / 2 if n < len(placed) else near)
                  for n, (tx, ty) in enumerate(taken)):
            text_y -= gap / 2
        taken.append((middle, text_y))
        group = groups.index(label.split(" ", 1)[0])
        axes.annotate(label, (x, y), xytext=(10**text_x, 10**text_y), textcoords="data", fontsize=8,
                      ha="left" if side > 0 else "right", va="center",
                      color=_POINT_COLOURS[group % len(_POINT_COLOURS)], zorder=4,
                      bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85},
                      arrowprops={"arrowstyle": "-", "color": "#888888", "linewidth": 0.7})
