"""From the columns of a data file to rows: the tidy schema of ``analysis/README.md``, and layouts that others use.

A layout is told by its columns. ``tidy``: a time (``time_s``), a rate (``tflops``) or a bandwidth (``bandwidth_Bps``),
of attention or of ``sizes``. ``latency``: attention in a serving engine, times in ms, ``isl`` new tokens after ``step``
earlier ones. ``gemm``: matrix products, times in ms. ``metric``: a value and its unit in two columns; sizes of what is
not attention stand in the columns of the sequences and the head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.validation.cells import Line
from turbosim.validation.counters import COUNTERS, clock_of, read_counters, sm_clock
from turbosim.validation.row import DTYPES, TIMES, Row, workload_of
from turbosim.workload import Attention, Gemm, Phase, Workload

if TYPE_CHECKING:
    from turbosim.validation.meta import Meta

_SKIPPED_STATUS = ("wrong", "failed")


@dataclass(frozen=True)
class Layout:
    """A set of columns and how a line becomes a row, whose GPU is still called as in the line.

    None is a line that holds no time of a known kind of work.
    """

    name: str
    needs: frozenset[str]
    row: Callable[[Line, str, Meta], Row | None]


def layout_of(columns: list[str], where: str) -> Layout:
    """Return the layout with *columns*. Raises ConfigError where there is none."""
    for layout in LAYOUTS:
        if layout.needs <= set(columns):
            return layout
    nearest = min(LAYOUTS, key=lambda x: len(x.needs - set(columns)))
    missing = ", ".join(sorted(nearest.needs - set(columns)))
    raise ConfigError(f"{where}: the columns are of no known layout ({', '.join(x.name for x in LAYOUTS)}); nearest "
                      f"is {nearest.name}, which also has {missing}")


def _attention(line: Line, sizes: tuple[int, int, int, int, int, int], causal: bool, phase: Phase) -> Attention:
    batch, q_heads, kv_heads, seq_q, seq_k, head_dim = sizes
    try:
        return Attention(batch, q_heads, kv_heads, seq_q, seq_k, head_dim, causal, phase)
    except UsageError as error:
        raise line.error(str(error)) from None


def _sizes(line: Line, *heads: str) -> tuple[int, int, int, int, int, int]:
    batch, q_heads, kv_heads = (line.integer(c) for c in heads)
    return batch, q_heads, kv_heads, line.integer("seq_q"), line.integer("seq_k"), line.integer("head_dim")


def _tidy(line: Line, dataset: str, meta: Meta) -> Row | None:
    source = line.cells.get("source", "")
    if source in ("simulated", "fake"):
        raise line.error(f"source is {source!r}, which is no measurement; validate needs measured rows")
    if line.cells.get("status", "ok") in _SKIPPED_STATUS or line.cells.get("phase") == "micro":
        return None
    if line.cells.get("seq_q", "").strip():
        phase = Phase(line.choice("phase", ("prefill", "decode"), "prefill"))
        work: Workload = _attention(line, _sizes(line, "batch", "q_heads", "kv_heads"), line.boolean("causal"), phase)
        stream = (0, 0)
    else:
        try:
            work, stream = workload_of(line.sizes("sizes"))
        except UsageError as error:
            raise line.error(f"neither attention (seq_q) nor other work: {error}") from None
    protocol = meta.protocol
    if line.cells.get("l2"):
        protocol = replace(protocol, l2=line.choice("l2", ("cold", "dirty", "warm")))  # type: ignore[arg-type]
    if line.cells.get("method"):
        protocol = replace(protocol, method=line.choice("method", ("events", "graph", "ncu")))  # type: ignore[arg-type]
    if line.cells.get("sm_clock_hz"):
        protocol = replace(protocol, clock=sm_clock(line))
    time, column, unit = _tidy_time(line, meta, work, stream)
    if protocol.method == "ncu" and line.cells.get("cycles") and not line.cells.get("sm_clock_hz"):
        protocol = replace(protocol, clock=clock_of(line, time))
    return Row(line.where, dataset, line.text("gpu"), line.text("kernel"), work, time, protocol,
               _dtype(line, line.text("dtype", "fp16")), line.text("version", ""), _options(line), stream,
               read_counters(line), column=column, unit=unit)


def _dtype(line: Line, text: str) -> str:
    name = text.lower()
    if name not in DTYPES:
        raise line.error_in("dtype", f"must be one of {', '.join(DTYPES)}, got {text!r}{did_you_mean(text, DTYPES)}")
    return name


def _options(line: Line) -> tuple[tuple[str, str], ...]:
    return tuple(line.pairs("options").items())


def _tidy_time(line: Line, meta: Meta, work: Workload, stream: tuple[int, int]) -> tuple[float, str, str]:
    """Return the time [s], and the column and the unit that it was given in."""
    if line.cells.get("time_s"):
        return line.positive("time_s"), "time_s", "s"
    if line.cells.get("tflops"):
        flops = meta.flops.flops(work)
        if not flops:
            raise line.error("column tflops: the work has no FLOPs; give time_s or bandwidth_Bps")
        return flops / (line.positive("tflops") * 1e12), "tflops", "TFLOP/s"
    if line.cells.get("bandwidth_Bps"):
        if not any(stream):
            raise line.error("column bandwidth_Bps is for elementwise kernels; give time_s or tflops")
        return sum(stream) / line.positive("bandwidth_Bps"), "bandwidth_Bps", "B/s"
    raise line.error("has no time; fill in time_s, tflops or bandwidth_Bps")


def _latency(line: Line, dataset: str, meta: Meta) -> Row:
    phase = Phase(line.choice("phase", ("prefill", "decode")))
    isl, step = line.integer("isl"), line.text("step")
    if not step.isdigit():
        raise line.error(f"column step must be a whole number of at least 0, got {step!r}")
    prefill = phase is Phase.PREFILL
    # One new token is a decode to the kernels, whatever the engine calls it.
    one = not prefill or isl == 1
    work = _attention(line, (line.integer("batch_size"), line.integer("num_heads"), line.integer("num_key_value_heads"),
                             1 if one else isl, isl + int(step), line.integer("head_dim")), not one,
                      Phase.DECODE if one else phase)
    return Row(line.where, dataset, line.text("system"), f"{line.text('kernel_source')} {phase.value}",
               work, line.positive("latency") * 1e-3, meta.protocol, "bf16", line.text("ver", ""),
               column="latency", unit="ms")


def _gemm(line: Line, dataset: str, meta: Meta) -> Row:
    work = Gemm(line.integer("m"), line.integer("n"), line.integer("k"))
    kind = line.text("gemm_dtype")
    return Row(line.where, dataset, line.text("system"), kind, work, line.positive("latency") * 1e-3,
               meta.protocol, {"sq": "int8"}.get(kind, "fp16"), line.text("ver", ""),
               weights={"int8_wo": "int8", "int4_wo": "int4"}.get(kind, ""), column="latency", unit="ms")


_16_OR_32_BITS = ("fp16", "bf16", "fp32")


def _metric(line: Line, dataset: str, meta: Meta) -> Row | None:
    metric = line.choice("metric", (*TIMES, "tflops", "gbps", "gelements/s", "cycles"))
    found = _metric_work(line, metric)
    if found is None:
        return None
    work, stream = found
    value = line.positive("value")
    if metric in TIMES:
        time, unit = value * TIMES[metric], metric
    elif metric == "tflops":
        time, unit = meta.flops.flops(work) / (value * 1e12), "TFLOP/s"
    else:
        time, unit = sum(stream) / (value * 1e9), "GB/s"
    kernel, dtype = line.text("kernel"), line.text("dtype", "fp16").replace(",", " ").split()[0]
    dtype = _dtype(line, dtype)
    if dtype not in _16_OR_32_BITS:
        # A kernel of other operands is another kernel.
        kernel = f"{kernel} ({dtype})"
    if "INT8" in kernel:
        dtype = "int8"
    model = meta.kernels.get(kernel)
    protocol = meta.protocol if model is None or model.l2 is None else replace(meta.protocol, l2=model.l2)
    return Row(line.where, dataset, line.text("gpu"), kernel, work, time, protocol, dtype, line.text("version", ""),
               stream=stream, column="value", unit=unit)


def _metric_work(line: Line, metric: str) -> tuple[Workload, tuple[int, int]] | None:
    """Return the work and the bytes that it streams.

    Without a batch, m, n and k stand in the columns of the sequences and the head, or rows and columns, or a count.
    """
    def filled(column: str) -> bool:
        return bool(line.cells[column].strip())

    if filled("batch") and metric != "gbps":
        sizes = _sizes(line, "batch", "heads", "kv_heads")
        return _attention(line, sizes, line.boolean("causal"), Phase.PREFILL), (0, 0)
    if filled("batch") or not filled("seq_q") or metric in ("gelements/s", "cycles"):
        return None
    if filled("head_dim"):
        gemm = Gemm(line.integer("seq_q"), line.integer("seq_k"), line.integer("head_dim"))
        return None if metric == "gbps" else (gemm, (0, 0))
    if metric == "tflops" or line.text("dtype", "fp16") != "fp32":
        return None
    if filled("seq_k"):
        return workload_of({"rows": line.integer("seq_q"), "columns": line.integer("seq_k")})
    return workload_of({"count": line.integer("seq_q")})


LAYOUTS = (
    Layout("metric", frozenset({"gpu", "kernel", "batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim", "causal",
                                "metric", "value"}), _metric),
    Layout("latency", frozenset({"system", "phase", "kernel_source", "batch_size", "isl", "step", "num_heads",
                                 "num_key_value_heads", "head_dim", "latency"}), _latency),
    Layout("gemm", frozenset({"system", "gemm_dtype", "m", "n", "k", "latency"}), _gemm),
    Layout("tidy", frozenset({"gpu", "kernel"}), _tidy),
)
COLUMNS = frozenset.union(*(layout.needs for layout in LAYOUTS), COUNTERS, {
    "source", "status", "phase", "batch", "q_heads", "kv_heads", "seq_q", "seq_k", "head_dim", "causal", "sizes", "l2",
    "method", "sm_clock_hz", "cycles", "time_s", "tflops", "bandwidth_Bps", "dtype", "version", "ver", "options"})
"""All columns that are read, in any layout."""
