"""All points of a study under the roofs of their GPUs, a panel each.

Roofs are what can be held: the sustained clock and the measured efficiency of device memory. Where the points change
them, the area between the lowest and the highest is shaded, and the lines are those of the hardware file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turbosim.errors import UsageError
from turbosim.hw.spec import Gpu
from turbosim.study.axis import Kind
from turbosim.study.pictures import Picture
from turbosim.study.study import Study
from turbosim.views.roofline import compute_ceilings, memory_ceilings
from turbosim.views.study_columns import Columns, log_ticks
from turbosim.views.style import DARK, MARKERS, MEDIUM, OKABE_ITO

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 6
LOOKS = 6


@dataclass(frozen=True)
class Roofs:
    """Ceilings of one GPU, and how far the points of a study change them."""

    compute: dict[str, float]
    """TFLOP/s by operand type and instruction path."""
    memory: float
    """TB/s of device memory."""
    compute_range: tuple[float, float]
    """Lowest and highest of the fastest paths, over the points."""
    memory_range: tuple[float, float]


def roofs(study: Study, hw: str, frame: pd.DataFrame) -> Roofs:
    """Return the roofs of the GPU *hw* and of the points of *frame*, which are on it."""
    gpu = study.hardware[hw].gpu
    names = [a.name for a in study.axes if a.kind is Kind.HARDWARE]
    points = [gpu]
    if names:
        rows = frame[names].drop_duplicates().to_dict("records")
        points = [study.gpu_of({**dict.fromkeys(study.axis_names, ""), **row, "hw": hw}) for row in rows] or [gpu]
    tops = [max(held for _, held in compute_ceilings(g).values()) / 1e12 for g in points]
    speeds = [_memory(g) for g in points]
    ceilings = {name: held / 1e12 for name, (_, held) in compute_ceilings(gpu, all_paths=True).items()}
    return Roofs(ceilings, _memory(gpu), (min(tops), max(tops)), (min(speeds), max(speeds)))


def _memory(gpu: Gpu) -> float:
    return memory_ceilings(gpu)["device memory"][1] / 1e12


def figure(columns: Columns, picture: Picture) -> Figure:
    """Return *picture* of the points of *columns*. Raises UsageError if there are too many GPUs or colours."""
    from matplotlib.figure import Figure

    frame = columns.frame
    frame = frame[(frame["intensity"] > 0) & (frame["tflops"] > 0)]
    if frame.empty:
        raise UsageError("roofline: no point does useful work on data from device memory")
    gpus = columns.order("hw", frame)
    if len(gpus) > PANELS:
        raise UsageError(f"roofline: {len(gpus)} GPUs, at most {PANELS} fit; select points with where")
    looks = _Looks(columns, frame, picture.by)
    found = {hw: roofs(columns.study, hw, frame[frame["hw"] == hw]) for hw in gpus}
    low, high = frame["intensity"].min() / 2.5, frame["intensity"].max() * 2.5
    # The ends of the slopes are in the picture.
    ridges = [max(r.compute.values()) / r.memory for r in found.values()]
    low, high = min(low, min(ridges) / 10), max(high, 2.5 * max(ridges))
    top = max(max(*r.compute.values(), r.compute_range[1]) for r in found.values()) * 1.6
    floor = frame["tflops"].min() / 3
    wide = 1 if len(gpus) == 1 else 2
    fig = Figure(figsize=(9.2, 6.2) if len(gpus) == 1 else (13, 0.8 + 4.5 * -(-len(gpus) // 2)), layout="constrained")
    grid = list(fig.subplots(-(-len(gpus) // wide), wide, sharex=True, sharey=True, squeeze=False).flat)
    for n, (axes, hw) in enumerate(zip(grid, gpus, strict=False)):
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, top))
        log_ticks(axes.xaxis, (low, high))
        log_ticks(axes.yaxis, (floor, top))
        _draw_roofs(axes, found[hw], low, high, floor)
        looks.draw(axes, frame[frame["hw"] == hw])
        axes.set_title(columns.study.hardware[hw].gpu.title, loc="left", fontsize=10)
        if n % wide == 0:
            axes.set_ylabel("useful throughput [TFLOP/s]")
        if n + wide >= len(gpus):
            axes.set_xlabel("arithmetic intensity [useful FLOP per byte of device memory]")
            axes.tick_params(labelbottom=True)
        axes.grid(visible=True, which="major", color="#EBEBEB", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(gpus):]:
        axes.set_visible(False)
    changed = any(_changed(r.memory_range) or _changed(r.compute_range) for r in found.values())
    facts = filter(None, (columns.fixed(frame, ["hw"]), f"{len(frame):,} points",
                          "shaded: roofs that the points change" if changed else ""))
    fig.suptitle(f"{columns.study.title}\n{', '.join(facts)}", fontsize=11, x=0.01, ha="left")
    looks.key(fig, grid[:len(gpus)])
    return fig


def _changed(ends: tuple[float, float]) -> bool:
    return ends[1] > 1.001 * ends[0]


def _draw_roofs(axes: Axes, found: Roofs, low: float, high: float, floor: float) -> None:
    """Draw the slope of device memory and the flat roofs, each with its name."""
    best = max(found.compute.values())
    axes.plot([low, best / found.memory], [low * found.memory, best], color=DARK, linewidth=1.4)
    shade: dict[str, Any] = {"color": MEDIUM, "alpha": 0.16, "linewidth": 0, "zorder": 0}
    if _changed(found.memory_range):
        ends = [low, high]
        least, most = found.memory_range
        axes.fill_between(ends, [x * least for x in ends], [x * most for x in ends], **shade)
    if _changed(found.compute_range):
        axes.axhspan(*found.compute_range, **shade)
    below = math.inf
    for name, height in sorted(found.compute.items(), key=lambda item: -item[1]):
        axes.plot([height / found.memory, high], [height, height], color=DARK, linewidth=1.1)
        if height < floor:
            continue
        pixel = axes.transData.transform((high, height))[1] * 72 / axes.figure.dpi
        below = min(pixel, below - 9)
        axes.annotate(f"{name} {height:,.0f}", (high, height), xytext=(4, below - pixel), annotation_clip=False,
                      textcoords="offset points", fontsize=8, va="center", color=DARK)
    middle = (low * best / found.memory) ** 0.5
    (x0, y0), (x1, y1) = axes.transData.transform([(low, low), (10 * low, 10 * low)])
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    axes.annotate(f"device memory {found.memory:.3g} TB/s", (middle, middle * found.memory), xytext=(-3, 3),
                  textcoords="offset points", fontsize=8, color=DARK, rotation=angle, rotation_mode="anchor",
                  ha="center", va="bottom")


class _Looks:
    """How points are told apart: words and few numbers by colour and marker, many numbers by shade."""

    def __init__(self, columns: Columns, frame: pd.DataFrame, by: str) -> None:
        from matplotlib.colors import LogNorm, Normalize

        varying = [n for n in columns.varying(frame) if n != "hw"]
        self.columns = columns
        self.by = columns.check(by, "by") if by else "kernel" if frame["kernel"].nunique() > 1 else (
            varying[0] if varying else "")
        self.values = columns.order(self.by, frame) if self.by else []
        self.column = columns.column(self.by) if self.by else None
        self.shaded = len(self.values) > LOOKS and self.column is not None and self.column.numeric
        if self.shaded:
            low, high = float(self.values[0]), float(self.values[-1])
            factor = self.column.factor if self.column else 1.0
            self.norm = (LogNorm if low > 0 and high / low >= 8 else Normalize)(low * factor, high * factor)
        elif len(self.values) > len(MARKERS) * LOOKS:
            raise UsageError(f"by: {self.by} has {len(self.values)} values, at most {len(MARKERS) * LOOKS} can be told "
                             "apart")

    def _look(self, value: Any) -> tuple[str, str]:
        place = self.values.index(value) if value in self.values else 0
        return OKABE_ITO[place % LOOKS], MARKERS[(place + place // LOOKS) % len(MARKERS)]

    def draw(self, axes: Axes, frame: pd.DataFrame) -> None:
        """Draw the points of a panel."""
        size, alpha = (46, 0.9) if len(frame) <= 60 else (26, 0.75) if len(frame) <= 600 else (9, 0.5)
        if self.shaded and self.column is not None:
            axes.scatter(frame["intensity"], frame["tflops"], c=self.column.values(frame), norm=self.norm, s=size,
                         alpha=alpha, cmap="cividis", linewidths=0, zorder=3)
            return
        for value in self.values or [None]:
            rows = frame if value is None else frame[frame[self.by] == value]
            colour, marker = self._look(value)
            axes.scatter(rows["intensity"], rows["tflops"], color=colour, marker=marker, s=size, alpha=alpha, zorder=3,
                         linewidths=0.4, edgecolors="white")

    def key(self, fig: Figure, panels: list[Axes]) -> None:
        """Draw the colour bar or the legend."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.lines import Line2D

        if self.shaded and self.column is not None:
            bar = fig.colorbar(ScalarMappable(self.norm, "cividis"), ax=panels, aspect=30, pad=0.02)
            bar.set_label(self.column.label)
            bar.outline.set_visible(False)
        elif self.by:
            looks = [(value, *self._look(value)) for value in self.values]
            handles = [Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=8,
                              label=self.columns.text(self.by, value)) for value, colour, marker in looks]
            fig.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=9,
                       frameon=False)
