"""Calibrations on rows of gpu-benches: ``python -m analysis.check_calibration --external DIR [GPU ...] [--write]``.

``--external DIR`` is a folder with ``gpu_microbenchmarks.csv``, which is not part of this repository. ``--write`` puts
the tables into ``calibration.md`` and the pictures into ``figures/``; ``--files DIR`` keeps the hardware files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analysis.check_lifted import put
from turbosim.calibration.calibrate import calibrate
from turbosim.calibration.hardware_file import text_of
from turbosim.cli.common import write_figure
from turbosim.errors import UsageError
from turbosim.views.calibration import to_markdown
from turbosim.views.calibration_figure import figure

PROSE = Path(__file__).parent / "calibration.md"
FIGURES = Path(__file__).parent / "figures"
FILE = "gpu_microbenchmarks.csv"
GPUS = {"a100_sxm_80gb": "A100 80GB", "h100_pcie": "H100 PCIe", "h200_sxm": "H200", "l40s": "L40"}
"""Hardware file -> what the rows call the GPU. The L40 is an L40S with less power: the same chip and memory."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or put them into calibration.md."""
    parser = argparse.ArgumentParser(prog="python -m analysis.check_calibration",
                                     description=(__doc__ or "").split("\n")[0])
    parser.add_argument("gpus", nargs="*", metavar="GPU", help=f"of {', '.join(GPUS)} (default: all)")
    parser.add_argument("--external", type=Path, required=True, metavar="DIR", help=f"folder with {FILE}")
    parser.add_argument("--files", type=Path, metavar="DIR", help="also write the hardware files there")
    parser.add_argument("--write", action="store_true", help="put tables and pictures into analysis/")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.gpus if name not in GPUS]:
        parser.error(f"unknown GPU {unknown[0]!r}: not among {', '.join(GPUS)}")
    path = given.external / FILE
    if not path.is_file():
        raise UsageError(f"--external: no file {path}; give the folder with {FILE}")
    for name in given.gpus or GPUS:
        found = calibrate(name, [path], GPUS[name])
        lines = to_markdown(found)
        print(f"{name}\n" + "\n".join(lines) + "\n", flush=True)
        if given.files:
            stem = f"{name}_calibrated"
            (given.files / f"{stem}.yaml").write_text(text_of(found, stem))
        if given.write:
            PROSE.write_text(put(PROSE.read_text(), name, lines))
            for suffix in ("png", "svg"):
                write_figure(figure(found), FIGURES / f"calibration_{name}.{suffix}")


if __name__ == "__main__":
    main()
