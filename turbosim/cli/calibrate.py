"""``turbosim calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turbosim.cli import common
from turbosim.errors import UsageError

EXAMPLE = common.examples(
    "turbosim calibrate --from micro/rows.csv --hw a100_sxm_80gb -o my_a100.yaml",
    "turbosim calibrate --from gpu_microbenchmarks.csv --gpu L40 --hw l40s -o l40.yaml --png l40.png --png l40.svg",
    "turbosim validate --hw a100_sxm_80gb=my_a100.yaml --compare",
    after="Files are in the columns that `python -m kernels.measure --suite micro` writes, or in those of gpu-benches "
          "(kernel, metric, value, notes). Rows of attention, matrix products and other kernels that predictions are "
          "held against are refused (exit code 3): no value is ever fitted on them. Fitted are bandwidth and latency "
          "of device memory and L2, the share of L2 that all SMs can use, launch overheads, and the sustained clock "
          "where tensor-core loops at the power limit were measured. A value that the rows do not determine is kept.")


def calibrate(
    source: Annotated[list[Path], typer.Option(
        "--from", metavar="<file>", help="CSV file of measured micro-benchmarks; repeatable.")],
    hw: common.Hw,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="<file>", help="Hardware file to write (.yaml).")],
    gpu: Annotated[str | None, typer.Option(
        help="What the files call the GPU, if not as drivers and --hw do.", show_default=False)] = None,
    png: Annotated[list[Path] | None, typer.Option(
        metavar="<file>", help="Also draw the curves: measured, before and after (.png or .svg); repeatable.")] = None,
    as_json: common.Json = False,
) -> None:
    """Fit memory and launch parameters of a GPU on micro-benchmarks, and write them as a hardware file.

    Every micro-benchmark is simulated with the values that are tried, so that what is fitted is what a simulation uses.
    """
    from turbosim.calibration.calibrate import calibrate as fit
    from turbosim.calibration.hardware_file import check_name, text_of
    from turbosim.hw.find import find
    from turbosim.views.calibration import to_json, to_table

    common.check_output("-o", output)
    check_name(output, find(hw))
    for path in png or []:
        common.check_output("--png", path, ".png", ".svg")
    if len(set(source)) < len(source):
        raise UsageError("--from: a file is given twice, and its rows would count twice")
    common.announce_compilation("numba")
    try:
        with common.progress(f"fitting {hw}") as show:
            found = fit(hw, source, gpu, show)
    except KeyboardInterrupt:
        raise common.InterruptError("nothing is written before the fit is done") from None
    if not found.values:
        reasons = "; ".join(f"{f.parameter.path}: {f.reason}" for f in found.parameters)
        raise UsageError(f"--from: the rows determine no parameter: {reasons}")
    if as_json:
        common.emit_json(to_json(found))
    else:
        common.console().print(to_table(found))
    common.write_file(output, text_of(found, output.stem).encode())
    if png:
        from turbosim.views.calibration_figure import figure

        for path in png:
            common.write_figure(figure(found), path)
