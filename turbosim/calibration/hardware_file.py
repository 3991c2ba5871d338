"""The hardware file that a calibration writes: the fitted values, their source, and what they were fitted on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from turbosim import __version__
from turbosim.calibration.calibrate import Calibration
from turbosim.calibration.fit import Fitted
from turbosim.errors import UsageError
from turbosim.hw.find import config_directory
from turbosim.units import show

TAG = "calibrated"
NOTE = "micro-benchmarks under fitted.files"
ROWS_A_LINE = 6


def check_name(output: Path, hardware: Path) -> None:
    """Raise UsageError if a file *output* could not extend the hardware file *hardware*."""
    if output.suffix not in (".yaml", ".yml") or output.name.startswith("_"):
        raise UsageError(f"-o: a hardware file is called NAME.yaml, got {str(output)!r}")
    if output.stem == hardware.stem:
        raise UsageError(f"-o: {str(output)!r} would extend a file of its own name; choose another, for example "
                         f"{output.with_stem(output.stem + '_calibrated').name}")
    if hardware.resolve().parent not in (output.resolve().parent, config_directory().resolve()):
        raise UsageError(f"-o: {str(output)!r} extends {hardware.name}, which must lie in the same folder; write "
                         f"{hardware.parent / output.name}")


def text_of(found: Calibration, name: str) -> str:
    """Return the hardware file called *name*."""
    lines = [f"# Fitted on micro-benchmarks of {found.label}; `turbosim calibrate` wrote it.",
             f"extends: {found.hardware.stem}", f"name: {name}",
             f"title: {json.dumps(found.gpu.title + ', calibrated on micro-benchmarks')}",
             "sources:", f"  {TAG}: robust least squares on micro-benchmarks; the table fitted has rows and intervals"]
    fitted = [f for f in found.parameters if f.determined]
    for group in dict.fromkeys(f.parameter.path.split(".")[0] for f in fitted):
        lines.append(f"{group}:")
        for f in fitted:
            table, _, field = f.parameter.path.partition(".")
            if table == group:
                lines += _field(f, field)
    return "\n".join([*lines, *_record(found, fitted)]) + "\n"


def _field(f: Fitted, field: str) -> Iterator[str]:
    def shown(value: float) -> str:
        return show(value, f.parameter.dimension)

    assert f.low is not None
    assert f.high is not None
    rows = f"{f.rows} rows: {'; '.join(f.curves)}"
    yield f"  # {shown(f.low)} to {shown(f.high)} (95 %), before {shown(f.before)}; {rows}"
    yield f"  {field}: {{value: {shown(f.after)}, source: {TAG}, fitted_on: {NOTE}}}"


def _record(found: Calibration, fitted: list[Fitted]) -> Iterator[str]:
    yield "fitted:"
    yield f"  by: turbosim calibrate, version {__version__}"
    yield f"  gpu: {json.dumps(found.label)}"
    yield "  parameters:"
    for f in fitted:
        numbers = f"before: {f.before:.6g}, value: {f.after:.6g}, interval: [{f.low:.6g}, {f.high:.6g}]"
        yield f"    {f.parameter.path}: {{{numbers}, rows: {f.rows}, on: {json.dumps(list(f.curves))}}}"
    kept = [f for f in found.parameters if not f.determined]
    if kept:
        yield "  kept:"
        for f in kept:
            yield f"    {f.parameter.path}: {json.dumps(f.reason)}"
    yield "  files:"
    for file in found.files:
        rows = found.used()[file.path]
        yield f"    {json.dumps(file.path.name)}:"
        yield f"      sha256: {json.dumps(file.sha256)}"
        yield "      rows: ["
        for start in range(0, len(rows), ROWS_A_LINE):
            # Quoted, since digits with an e among them would be a number.
            yield "        " + " ".join(f'"{digest}",' for digest in rows[start:start + ROWS_A_LINE])
        yield "      ]"
