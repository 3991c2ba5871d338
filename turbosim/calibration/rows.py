"""Measured micro-benchmarks: files in two layouts become rows, and rows of anything else are refused.

``gpu-benches``: a value and its unit in two columns, sizes in the notes (https://github.com/te42kyfo/gpu-benches).
``micro``: what ``python -m kernels.measure --suite micro`` writes (``analysis/README.md``).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from turbosim.calibration.benchmarks import Benchmark
from turbosim.errors import ConfigError, UsageError
from turbosim.hw.document import shown
from turbosim.hw.spec import Gpu
from turbosim.validation.cells import Line, read_lines
from turbosim.validation.gpus import NAMES

GPU_NAMES = {**NAMES, "A100 80GB": "a100_sxm_80gb", "H100 PCIe": "h100_pcie", "H200": "h200_sxm", "L4": "l4",
             "L40S": "l40s", "A100 40GB": "a100_sxm_40gb"}
"""Hardware file of the GPUs that micro-benchmark files name."""


@dataclass(frozen=True)
class MicroRow:
    """One measured micro-benchmark."""

    where: str
    """``file:line``."""
    digest: str
    curve: str
    """Name of the rows that belong together."""
    x: float
    """Where the row lies on its curve: bytes, threads per SM or CTAs."""
    measured: float
    """Per byte for a bandwidth, else of an access or a run [s]."""
    benchmark: Benchmark
    clock: float
    """SM clock [Hz]."""
    fitted: bool = True
    """Whether the fit uses it; the others are predicted to show what the model does not have."""


@dataclass(frozen=True)
class Sustained:
    """A tensor-core loop whose clock and power were measured."""

    where: str
    digest: str
    clock: float
    """[Hz]."""
    power: float
    """[W]."""


@dataclass(frozen=True)
class MicroFile:
    """The rows of one GPU in a file."""

    path: Path
    sha256: str
    gpu: str
    """What the file calls the GPU."""
    rows: tuple[MicroRow, ...]
    clocks: tuple[Sustained, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Rows that are not used, by reason."""


@dataclass(frozen=True)
class Skip:
    """Why a line is not used."""

    reason: str


Parsed = MicroRow | Sustained | Skip


def read_micro(path: Path, gpu: Gpu, wanted: str | None = None) -> MicroFile:
    """Return the rows that were measured on *gpu*, or on the GPU that the file calls *wanted*.

    Raises ConfigError, with file and line, for a file or a row that holds anything but micro-benchmarks, and
    UsageError if none was measured on the GPU.
    """
    from turbosim.calibration import gpu_benches, suite

    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; --from takes a CSV file")
    columns, lines = read_lines(path)
    layout = next((m for m in (gpu_benches, suite) if set(columns) >= m.COLUMNS), None)
    if layout is None:
        raise ConfigError(
            f"{shown(path)}:1: the columns are of no micro-benchmarks: neither those of gpu-benches (kernel, metric, "
            f"value, notes) nor of the micro suite (kernel, phase, sizes, time_s); hardware is fitted on nothing else, "
            f"so that kernels it is to predict stay unseen")
    for line in lines:
        refuse_other_kernels(line)
    mine = [line for line in lines if _is_of(line.text("gpu"), gpu, wanted)]
    if not mine:
        there = ", ".join(dict.fromkeys(line.text("gpu") for line in lines))
        raise UsageError(f"{shown(path)}: no row was measured on {wanted or gpu.name}: there is {there}; --gpu takes "
                         f"the rows of another name")
    clock = layout.clock_of(mine, gpu)
    parsed = [layout.parse(line, gpu, clock) for line in mine]
    skipped = Counter(item.reason for item in parsed if isinstance(item, Skip))
    if len(lines) > len(mine):
        skipped["of another GPU"] = len(lines) - len(mine)
    return MicroFile(path, hashlib.sha256(path.read_bytes()).hexdigest(), mine[0].text("gpu"),
                     tuple(i for i in parsed if isinstance(i, MicroRow)),
                     tuple(i for i in parsed if isinstance(i, Sustained)), dict(skipped))


def _is_of(name: str, gpu: Gpu, wanted: str | None) -> bool:
    return name == wanted if wanted is not None else gpu.name in (name, GPU_NAMES.get(name))


def refuse_other_kernels(line: Line) -> None:
    """Raise ConfigError for a row of a kernel that predictions are held against, such as attention."""
    cells = line.cells
    attention = next((c for c in ("seq_q", "seq_k", "q_heads", "kv_heads", "heads") if cells.get(c, "").strip()), None)
    if attention is not None or cells.get("phase", "").strip() in ("prefill", "decode"):
        what = "attention" if cells.get("head_dim", "").strip() else "a kernel with sequences or sizes in their columns"
        raise _refused(line, what, f"column {attention} is filled" if attention else f"phase is {cells['phase']}")
    sizes = line.pairs("sizes") if "sizes" in cells else {}
    if cells.get("phase") != "micro" and "metric" not in cells:
        raise _refused(line, "no micro-benchmark", f"phase is {cells.get('phase', '')!r}, not micro"
                       + (f", sizes are {', '.join(sizes)}" if sizes else ""))
    if cells.get("source") in ("simulated", "fake"):
        raise line.error(f"source is {cells['source']!r}, which is no measurement; calibrate needs measured rows")


def _refused(line: Line, what: str, why: str) -> ConfigError:
    return line.error(f"{line.cells.get('kernel', '?')!r} is {what} ({why}); hardware is fitted on micro-benchmarks "
                      f"only, so that kernels it is to predict stay unseen; give a file without such rows")
