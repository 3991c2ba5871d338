"""Pictures of predictions against measurements, and a CSV of all rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbosim.files import write_together
from turbosim.units import show
from turbosim.validation.predict import Findings, Outcome, Rung
from turbosim.validation.roofline import read_write_bytes
from turbosim.views import validation_counters
from turbosim.views.style import DARK, LIGHT, MARKERS, MEDIUM, OKABE_ITO
from turbosim.views.validation import to_csv, to_markdown
from turbosim.workload import Attention, Gemm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BANDS = (0.1, 0.25)
"""Errors between which the bands lie."""
SHADES = (0.28, 0.14)
HATCHES = (None, "////", "....", "xxxx")
"""Of groups in a colour that others have, too."""
LETTER_INCHES = 0.062
"""Width of a letter of the legend, at most on average."""
CLIPPED = 1.5
"""Errors are drawn from -1 to this; larger ones at it."""


def write_report(folder: Path, findings: Findings, rungs: Sequence[Rung]) -> list[Path]:
    """Write scatter, error_by_shape, residuals and counters as PNG and SVG, rows.csv and table.md; return their paths.

    Without counters there is no picture of them. All are written or none. Raises OSError.
    """
    from matplotlib import rc_context

    files: dict[Path, bytes] = {}
    for name, picture in (("scatter", scatter(findings, rungs)), ("error_by_shape", by_shape(findings, rungs)),
                          ("residuals", residuals(findings, rungs)),
                          ("counters", validation_counters.picture(findings, rungs))):
        if picture is None:
            continue
        for suffix in ("png", "svg"):
            drawn = BytesIO()
            with rc_context({"svg.fonttype": "none", "svg.hashsalt": "turbosim"}):
                picture.savefig(drawn, format=suffix, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            files[folder / f"{name}.{suffix}"] = drawn.getvalue()
    for name, text in (("rows.csv", to_csv(findings, rungs)), ("table.md", to_markdown(findings, rungs))):
        files[folder / name] = text.encode()
    folder.mkdir(parents=True, exist_ok=True)
    write_together(files)
    return list(files)


def _grouped(findings: Findings, rung: Rung) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in findings.outcomes:
        if rung in outcome.times:
            groups.setdefault(_group(outcome), []).append(outcome)
    return groups


def _group(outcome: Outcome) -> str:
    return f"{outcome.row.dataset}, {outcome.row.gpu}, {outcome.row.kernel}"


def _numbers(findings: Findings) -> dict[str, int]:
    """Return a number for each set, GPU and kernel, the same in every panel."""
    return {name: number for number, name in enumerate(dict.fromkeys(map(_group, findings.outcomes)))}


def _look(number: int) -> dict[str, Any]:
    # A colour that comes round again has another marker.
    marker = MARKERS[(number + number // len(OKABE_ITO)) % len(MARKERS)]
    return {"color": OKABE_ITO[number % len(OKABE_ITO)], "marker": marker, "s": 14, "alpha": 0.7, "linewidths": 0}


def _panels(findings: Findings, rows: int, columns: int, width: float, height: float, **shared: Any
            ) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of *rows* x *columns* panels of a size in inches, with room below for the legend."""
    from matplotlib.figure import Figure

    names = _numbers(findings)
    wide = max(1.2 + width * columns, 0.5 + _entry_inches(names))
    legend = 0.3 + 0.17 * math.ceil((len(names) + len(BANDS)) / _legend_columns(wide, names))
    picture = Figure(figsize=(wide, 0.6 + height * rows + legend), layout="constrained")
    panels = [list(line) for line in picture.subplots(rows, columns, squeeze=False, **shared)]
    for axes in (axes for line in panels for axes in line):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return picture, panels


def _entry_inches(names: Iterable[str]) -> float:
    return 0.7 + LETTER_INCHES * max(map(len, names), default=0)


def _legend_columns(wide: float, names: Iterable[str]) -> int:
    return max(1, int(wide / _entry_inches(names)))


def scatter(findings: Findings, rungs: Sequence[Rung]) -> Figure:
    """Return predicted over measured times, both logarithmic, a panel per model, with bands of 10 and 25 %."""
    picture, (panels,) = _panels(findings, 1, len(rungs), 4.6, 4.9, sharex=True, sharey=True)
    numbers = _numbers(findings)
    times = [t for o in findings.outcomes for t in (o.row.time_s, *(o.times[r] for r in rungs if r in o.times))]
    ends = [min(times) / 1.3, max(times) * 1.3] if times else [1e-6, 1e-3]
    for axes, rung in zip(panels, rungs, strict=True):
        for name, outcomes in _grouped(findings, rung).items():
            axes.scatter([o.row.time_s for o in outcomes], [o.times[rung] for o in outcomes], label=name,
                         **_look(numbers[name]))
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=rung, xlabel="measured time")
        axes.set_box_aspect(1)
        axes.plot(ends, ends, color=DARK, linewidth=0.8)
        for band, shade in zip(BANDS, SHADES, strict=True):
            axes.fill_between(ends, [e * (1 - band) for e in ends], [e * (1 + band) for e in ends], color=LIGHT,
                              alpha=shade, linewidth=0, label=f"within {band:.0%} of the measured time")
        for axis in (axes.xaxis, axes.yaxis):
            _ticks(axis, ends, lambda value: show(value, "s", 3))
    panels[0].set_ylabel("predicted time")
    _legend(picture, panels, numbers)
    return picture


def _ticks(axis: Axis, ends: Sequence[float], text: Callable[[float], str]) -> None:
    """Label a logarithmic axis of base 10: every decade of many, some of each of few; ticks between have no label."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = math.log10(ends[1] / ends[0])
    subs = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 0.8 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(10, subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())


Way = tuple[str, Callable[[Outcome], float | None]]


def _of_attention(size: Callable[[Attention], int]) -> Callable[[Outcome], float | None]:
    return lambda o: size(o.row.workload) if isinstance(o.row.workload, Attention) else None


def _stream_bytes(outcome: Outcome) -> float | None:
    return None if isinstance(outcome.row.workload, (Attention, Gemm)) else sum(read_write_bytes(outcome.row))


WAYS: tuple[Way, ...] = (
    ("attention: keys per sequence", _of_attention(lambda w: w.seq_k)),
    ("attention: sequences in the batch", _of_attention(lambda w: w.batch)),
    ("matrix products: size in FLOP", lambda o: o.row.workload.flops if isinstance(o.row.workload, Gemm) else None),
    ("elementwise kernels: bytes read and written", _stream_bytes))
"""What errors are drawn over, and its value for a row; None for rows of other work."""


Points = dict[str, list[tuple[float, float]]]
"""Size and error of rows, by group."""


def _points(findings: Findings, rung: Rung, way: Way) -> Points:
    found: Points = {}
    for name, outcomes in _grouped(findings, rung).items():
        if points := [(x, min(o.error(rung), CLIPPED)) for o in outcomes if (x := way[1](o)) is not None]:
            found[name] = points
    return found


def by_shape(findings: Findings, rungs: Sequence[Rung]) -> Figure:
    """Return the errors over the size of the work, a line of panels per model, a column per kind of size that occurs.

    Each model has the rows that it predicts, whether or not others do, and a scale of errors of its own; the columns
    have one scale of sizes. Where a model predicts no row of a kind there is no panel.
    """
    points = {(rung, way[0]): _points(findings, rung, way) for rung in rungs for way in WAYS}
    ways = [way for way in WAYS if any(points[rung, way[0]] for rung in rungs)] or [WAYS[0]]
    shown = [rung for rung in rungs if any(points[rung, way[0]] for way in ways)] or list(rungs[:1])
    picture, panels = _panels(findings, len(shown), len(ways), 3.6, 2.7, sharex="col", sharey="row")
    numbers = _numbers(findings)
    drawn = {(rung, way[0]): axes for line, rung in zip(panels, shown, strict=True)
             for axes, way in zip(line, ways, strict=True)}
    # What is left labels itself: the panel that labelled a line or a column may be gone.
    for key in [key for key in drawn if not points[key] and any(points.values())]:
        drawn.pop(key).remove()
    for key, axes in drawn.items():
        for name, found in points[key].items():
            axes.scatter(*zip(*found, strict=True), label=name, **_look(numbers[name]))
        axes.axhline(0, color=DARK, linewidth=0.8)
        for band, shade in zip(BANDS, SHADES, strict=True):
            axes.axhspan(-band, band, color=LIGHT, alpha=shade, linewidth=0,
                         label=f"within {band:.0%} of the measured time")
        axes.yaxis.set_major_formatter(_percent)
    for rung in shown:
        first = next(axes for (of, _), axes in drawn.items() if of == rung)
        first.set_ylabel(f"{rung}: error of the time")
        first.tick_params(labelleft=True)
    for label, size in ways:
        column = [axes for (_, of), axes in drawn.items() if of == label]
        sizes = [x for o in findings.outcomes if (x := size(o)) is not None]
        for axes in column:
            # The panels of a column share the scale, which drops what labels it.
            axes.set_xscale("log", base=2 if "attention" in label else 10)
        for axes in column:
            _size_ticks(axes.xaxis, label, sizes)
        column[-1].set_xlabel(label)
        column[-1].tick_params(labelbottom=True)
    _note(picture, "Negative is too fast" + _clipped(findings, rungs))
    _legend(picture, list(drawn.values()), numbers)
    return picture


def _size_ticks(axis: Axis, label: str, found: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if "attention" not in label:
        ends = (min(found), max(found)) if found else (1.0, 2.0)
        _ticks(axis, ends, lambda value: _engineering(value, "FLOP" if "FLOP" in label else "B"))
        return
    axis.set_major_locator(LogLocator(2, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1024:g}k" if x >= 1024 else f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _engineering(value: float, unit: str) -> str:
    power = max(0, min(5, math.floor(math.log10(value) / 3 + 1e-9)))
    return f"{value / 1000**power:g} {' kMGTP'[power].strip()}{unit}"


def _percent(share: float, _: object = None) -> str:
    return f"{share:+.0%}" if round(share, 3) else "0%"


def residuals(findings: Findings, rungs: Sequence[Rung]) -> Figure:
    """Return a histogram of the errors of each model, the groups stacked."""
    picture, (panels,) = _panels(findings, 1, len(rungs), 4.6, 3.4, sharex=True, sharey=True)
    numbers = _numbers(findings)
    most = max((min(o.error(r), CLIPPED) for o in findings.outcomes for r in rungs if r in o.times), default=0.0)
    bins = [-1 + 0.05 * n for n in range(math.floor((1 + max(most, BANDS[-1])) / 0.05) + 2)]
    for axes, rung in zip(panels, rungs, strict=True):
        groups = _grouped(findings, rung)
        if groups:
            looks = [numbers[name] for name in groups]
            axes.hist([[min(o.error(rung), CLIPPED) for o in some] for some in groups.values()], bins=bins,
                      stacked=True, label=list(groups), color=[OKABE_ITO[n % len(OKABE_ITO)] for n in looks],
                      hatch=[HATCHES[n // len(OKABE_ITO) % len(HATCHES)] for n in looks])
        axes.axvline(0, color=DARK, linewidth=0.8)
        axes.set(title=rung, xlabel="error of the predicted time")
        axes.xaxis.set_major_formatter(_percent)
    panels[0].set_ylabel("rows")
    _note(picture, "Negative is too fast" + _clipped(findings, rungs))
    _legend(picture, panels, numbers)
    return picture


def _clipped(findings: Findings, rungs: Sequence[Rung]) -> str:
    over = sum(o.error(r) > CLIPPED for o in findings.outcomes for r in rungs if r in o.times)
    return f"; {over} errors above {CLIPPED:+.0%} are drawn there" if over else ""


def _note(picture: Figure, text: str) -> None:
    picture.suptitle(text, fontsize=8, color=MEDIUM)


def _legend(picture: Figure, panels: Sequence[Axes], numbers: Mapping[str, int]) -> None:
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    # Groups by number; then the bands.
    labels = sorted(entries, key=lambda label: numbers.get(label, len(numbers)))
    if labels:
        picture.legend([entries[label] for label in labels], labels, loc="outside lower center", fontsize=7,
                       ncols=_legend_columns(picture.get_figwidth(), numbers), frameon=False)
