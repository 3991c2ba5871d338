"""The columns of the table that measured and simulated rows share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    kind: str
    """``text``, ``int``, ``float`` or ``bool`` (written ``true`` and ``false``). Empty where it does not apply."""
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("source", "text", "`measured`, `simulated`, or `fake` (rows of `--device fake`, which measure nothing)"),
    Column("gpu", "text", "name the driver reports; `fake` for `--device fake`; hardware file of simulated rows"),
    Column("kernel", "text", "name in `kernels/registry.py`"),
    Column("options", "text", "`name=value:name=value`, sorted by name, the kernel's defaults included"),
    Column("phase", "text", "`prefill`, `decode` or `micro`"),
    Column("batch", "int", "sequences"),
    Column("q_heads", "int", "query heads"),
    Column("kv_heads", "int", "key and value heads"),
    Column("seq_q", "int", "queries per sequence"),
    Column("seq_k", "int", "keys per sequence"),
    Column("head_dim", "int", "elements per head"),
    Column("causal", "bool", "whether the causal mask applies"),
    Column("sizes", "text", "micro: `name=value:name=value`, sorted by name"),
    Column("l2", "text", "L2 before each repeat: `cold` (inputs evicted) or `warm`; empty if nothing was timed"),
    Column("method", "text", "`events` (two CUDA events around each launch), `graph` (CUDA graph of many launches, "
                             "time of one), `ncu` (Nsight Compute, clocks not locked), `model`; empty if not timed"),
    Column("time_s", "float", "median time of a run [s]; `ncu`: GPU time of one run, sum over its kernels"),
    Column("time_p10_s", "float", "10th percentile [s]"),
    Column("time_p90_s", "float", "90th percentile [s]"),
    Column("repeats", "int", "samples behind the median; a `graph` sample is the mean over the launches of a graph"),
    Column("flops", "int", "useful operations of a run, masked pairs and padding taken off"),
    Column("nbytes", "int", "bytes a run must move to and from device memory at least [B]"),
    Column("tflops", "float", "flops / time_s [1e12/s]"),
    Column("bandwidth_Bps", "float", "nbytes / time_s [B/s]"),
    Column("sm_clock_hz", "float", "mean SM clock while the row was timed [Hz]"),
    Column("mem_clock_hz", "float", "mean memory clock [Hz]"),
    Column("power_w", "float", "mean board power [W]"),
    Column("temperature_c", "float", "mean GPU temperature [°C]"),
    Column("registers", "text", "registers per thread; one number per kernel of a run, joined by `+`"),
    Column("spills", "text", "spilled registers as the compiler counts them, likewise"),
    Column("smem_bytes", "text", "shared memory per CTA [B], likewise"),
    Column("error", "float", "deviation of the checked run from the reference: of the output, or of LSE where that "
                             "alone is wrong"),
    Column("tolerance", "float", "largest deviation that is right"),
    Column("status", "text", "`ok`; `wrong` (deviates, not timed); `failed` (see reason)"),
    Column("reason", "text", "why a row is not `ok`, one line"),
    Column("cycles", "float", "SM cycles elapsed (`ncu` and simulated rows, like the columns that follow)"),
    Column("dram_read_bytes", "float", "bytes read from device memory [B]"),
    Column("dram_write_bytes", "float", "bytes written to device memory [B]"),
    Column("l2_hit_rate", "float", "share of L2 sector accesses that hit, 0 to 1"),
    Column("tensor_util", "float", "share of cycles the tensor cores are busy, 0 to 1; kernels weighted by their time"),
    Column("xu_util", "float", "likewise of the pipe for special functions and conversions"),
    Column("fma_util", "float", "likewise of the FMA pipe"),
    Column("alu_util", "float", "likewise of the integer pipe"),
    Column("issue_util", "float", "share of cycles a scheduler issues an instruction, 0 to 1"),
    Column("run", "int", "entry of `meta.json`'s `runs` that wrote the row, from 0"),
    Column("key", "text", "hash of kernel, options and shape as the suite names them: the same in every row of a case"),
)

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
_KINDS = {column.name: column.kind for column in COLUMNS}


def markdown() -> str:
    """Return the columns as the table of ``analysis/README.md``."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{c.name}` | {c.kind} | {c.meaning} |" for c in COLUMNS]
    return "\n".join(lines)


def to_text(row: Mapping[str, Value]) -> dict[str, str]:
    """Return every column of *row* as CSV text. Raises KeyError for a name that is not a column."""
    for name in row:
        _KINDS[name]
    return {name: _cell(row.get(name)) for name in NAMES}


def from_text(row: Mapping[str, str]) -> dict[str, Value]:
    """Return a CSV row with its values typed. Raises ValueError for a value that is not of the column's type."""
    return {name: _value(_KINDS[name], row[name]) for name in NAMES}


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.9g}"
    # A row is a line, whatever a message contains.
    return " ".join(str(value).split()) if isinstance(value, str) else str(value)


def _value(kind: str, text: str) -> Value:
    if text == "":
        return None
    if kind == "bool":
        if text not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text == "true"
    return int(text) if kind == "int" else float(text) if kind == "float" else text
