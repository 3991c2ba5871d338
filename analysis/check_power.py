"""The power model beside rows whose clock or power is known: ``python -m analysis.check_power [TABLE ...] [--write]``.

Products under a known board limit come from ``published/power_products.csv``, the energy of an instruction from
``published/fp32_products.csv``. With ``--external DIR``, a folder with
``gpu_microbenchmarks.csv`` and ``gemm_a100_int8_int4_bf16.csv``, there are also sweeps of FMA with measured power and
clock, and products of other shapes. Nothing is fitted on attention or on Triton's pages; the rows that gave an energy
of a hardware file are marked, and the slope of the voltage is fitted here, on an L40.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.check_lifted import put
from analysis.instruction_energy import header, instruction_lines, with_sweep_fma
from analysis.l2_energy import l2_lines
from turbosim import simulate
from turbosim.errors import UsageError
from turbosim.hw import Gpu, load_gpu, with_overrides
from turbosim.hw.names import OpClass
from turbosim.power import energy_of
from turbosim.program.work import Work
from turbosim.result import Result
from turbosim.workload import Gemm

PROSE = Path(__file__).parent / "power.md"
PRODUCTS = Path(__file__).parent / "published" / "power_products.csv"
LARGE = 8e11
"""FLOPs of an external product that takes milliseconds, with all sizes 4096 or more."""
_NOTE = re.compile(r"([\d.]+) flop/B; (\d+) GFlop/s; (\d+) MHz; (\d+) W")


@dataclass(frozen=True)
class Sweep:
    """A row of a sweep over FMA per byte."""

    gbps: float
    tflops: float
    ghz: float
    watts: float


def product(gpu: Gpu, m: int, n: int, k: int, dtype: str, clock: Any = "power") -> Result:
    """Return the schedule's matrix product at *clock*. BF16 costs what FP16 does."""
    return simulate(gpu, Gemm(m, n, k), "gemm", options={"dtype": "fp16" if dtype == "bf16" else dtype}, clock=clock)


def products() -> Iterator[tuple[str, str, str, float, Result, float]]:
    """Yield (GPU and limit, product, source and use, measured, result, TFLOP/s at boost) for each published row."""
    lines = [line for line in PRODUCTS.read_text().splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines):
        size = int(row["size"])
        gpu = with_overrides(load_gpu(row["gpu"]), {"power.limit": float(row["limit_w"])})
        yield (f"{row['gpu']}, {row['limit_w']} W", f"{row['dtype']} {size}", f"{row['source']}, {row['use']}",
               float(row["tflops"]), product(gpu, size, size, size, row["dtype"]),
               product(gpu, size, size, size, row["dtype"], "boost").tflops)


def external_products(folder: Path) -> Iterator[tuple[str, str, str, float, Result, float]]:
    """Yield the large products on an A100 SXM of aiconfigurator's table, as :func:`products` does."""
    gpu = load_gpu("a100_sxm_80gb")
    for row in _rows(folder / "gemm_a100_int8_int4_bf16.csv"):
        dtype = {"bfloat16": "bf16", "sq": "int8"}.get(row["gemm_dtype"])
        m, n, k = (int(row[name]) for name in "mnk")
        if dtype and 2 * m * n * k >= LARGE and min(m, n, k) >= 4096:
            yield ("a100_sxm_80gb, 400 W", f"{dtype} {m}x{n}x{k}", "A, check", float(row["tflops"]),
                   product(gpu, m, n, k, dtype), product(gpu, m, n, k, dtype, "boost").tflops)


def product_lines(rows: Iterator[tuple[str, str, str, float, Result, float]]) -> list[str]:
    """Return a table of *rows* and their mean absolute errors of time."""
    lines = header("GPU, limit", "product", "row", "measured [TFLOP/s]", "predicted", "error of time", "clock [GHz]",
                   "power [W]", "error at boost")
    errors: list[tuple[bool, float, float]] = []
    for where, what, use, measured, result, boost in rows:
        error, at_boost = measured / result.tflops - 1, measured / boost - 1
        errors.append((use.endswith("check"), abs(error), abs(at_boost)))
        lines.append(f"| {where} | {what} | {use} | {measured:.1f} | {result.tflops:.1f} | {error:+.1%} | "
                     f"{result.clock_hz / 1e9:.2f} | {result.power_w:.0f} | {at_boost:+.1%} |")
    kept = [(e, b) for check, e, b in errors if check]
    power, at_boost = (float(np.mean(errors)) for errors in zip(*kept, strict=True))
    told = f"{len(kept)} rows that gave nothing"
    return [*lines, "", f"Mean absolute error of the {told}: {power:.1%}; at the boost clock {at_boost:.1%}."]


def external_lines(folder: Path) -> list[str]:
    """Return a summary of those products, by type."""
    rows = list(external_products(folder))
    lines = header("product", "rows", "mean absolute error of time", "bias", "worst", "mean at boost", "clock [GHz]")
    for dtype in ("bf16", "int8"):
        of = [r for r in rows if r[1].startswith(dtype)]
        errors = [measured / result.tflops - 1 for *_, measured, result, _ in of]
        boost = [abs(measured / at_boost - 1) for *_, measured, _, at_boost in of]
        clocks = [result.clock_hz / 1e9 for *_, result, _ in of]
        lines.append(f"| {dtype} | {len(of)} | {np.mean(np.abs(errors)):.1%} | {np.mean(errors):+.1%} | "
                     f"{max(errors, key=abs):+.1%} | {np.mean(boost):.1%} | {min(clocks):.2f}-{max(clocks):.2f} |")
    return lines


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        raise UsageError(f"--external: no file {file}; give the folder with gpu_microbenchmarks.csv and "
                         "gemm_a100_int8_int4_bf16.csv")
    with file.open() as text:
        return list(csv.DictReader(text))


def sweeps(folder: Path, gpu: str) -> list[Sweep]:
    """Return the rows of the FMA sweep on *gpu*, in the file's order."""
    found = []
    for row in _rows(folder / "gpu_microbenchmarks.csv"):
        note = _NOTE.match(row["notes"])
        if row["gpu"] == gpu and row["kernel"].startswith("roofline FMA") and note:
            found.append(Sweep(float(row["value"]), float(note[2]) / 1e3, float(note[3]) / 1e3, float(note[4])))
    return found


def watts_of(gpu: Gpu, row: Sweep) -> float:
    """Return the power that the model gives for the rates and the clock of *row* [W]."""
    nbytes = round(row.gbps * 1e9)
    work = Work(lanes={OpClass.FP32: round(row.tflops * 1e12 / 2)})
    return sum(energy_of(gpu, work, nbytes, nbytes, 1.0, row.ghz * 1e9).values())


def _summary(errors: Sequence[float]) -> str:
    """Return cells: count, mean absolute error, bias, worst."""
    return f"{len(errors)} | {np.mean(np.abs(errors)):.1%} | {np.mean(errors):+.1%} | {max(errors, key=abs):+.1%}"


def sweep_lines(folder: Path) -> list[str]:
    """Return errors of the power of the sweep on an H200, by what it is bound by; with the energy of its own FMA."""
    gpu, rows = with_sweep_fma(load_gpu("h200_sxm")), sweeps(folder, "H200")
    lines = header("device memory", "rows", "mean absolute error of power", "bias", "worst")
    for name, low, high in (("3 TB/s and more", 3000, 9e9), ("1 to 3 TB/s", 1000, 3000), ("less", 0, 1000)):
        errors = [watts_of(gpu, r) / r.watts - 1 for r in rows if low <= r.gbps < high]
        lines.append(f"| {name} | {_summary(errors)} |")
    return lines


@dataclass(frozen=True)
class VoltageFit:
    """Power = hbm * GB/s + (idle * clock + fma * TFLOP/s) * (1 + slope * (clock / top - 1)) ** 2."""

    slope: float
    top: float
    hbm: float
    idle: float
    fma: float
    rms: float
    """[W]."""

    def clock(self, row: Sweep) -> float:
        """Return the clock at which the rates of *row* take its power [GHz]."""
        clocks = np.linspace(0.3 * self.top, self.top, 2000)
        power = self.hbm * row.gbps + (self.idle * clocks / self.top + self.fma * row.tflops) * (
            1 + self.slope * (clocks / self.top - 1)) ** 2
        return float(clocks[np.argmin(abs(power - row.watts))])


def fit_voltage(rows: Sequence[Sweep]) -> VoltageFit:
    """Return the least-squares fit, the slope to two digits."""
    table = np.array([(r.gbps, r.tflops, r.ghz, r.watts) for r in rows])
    gbps, tflops, ghz, watts = table.T
    top = float(ghz.max())

    def at(slope: float) -> tuple[float, NDArray[np.float64]]:
        square = (1 + slope * (ghz / top - 1)) ** 2
        matrix = np.stack([gbps, square * ghz / top, square * tflops], axis=1)
        factors = np.linalg.lstsq(matrix, watts, rcond=None)[0]
        return float(np.sqrt(np.mean((matrix @ factors - watts) ** 2))), factors

    slope = min((s / 100 for s in range(201)), key=lambda s: at(s)[0])
    rms, factors = at(slope)
    return VoltageFit(slope, top, *(float(f) for f in factors), rms)


def voltage_lines(folder: Path) -> list[str]:
    """Return the fit of the voltage on every second row of a card at its limit, and the clocks of the others."""
    # The file has two cards in turn; that of 300 W has clocks that do not follow from its rates.
    rows = sweeps(folder, "L40")[1::2]
    fit, rest = fit_voltage(rows[::2]), [r for r in rows[1::2] if r.ghz < 2.5]
    lines = header("clock", "rows", "mean absolute error of the clock", "bias", "worst")
    for name, low, high in (("2.3 to 2.5 GHz", 2.3, 2.5), ("2.1 to 2.3 GHz", 2.0, 2.3)):
        lines.append(f"| {name} | {_summary([fit.clock(r) / r.ghz - 1 for r in rest if low <= r.ghz < high])} |")
    every = fit_voltage(rows)
    return [*lines, "", (f"Fitted on {len(rows[::2])} rows, to {fit.rms:.1f} W: slope {fit.slope:.2f} at {fit.top:.2f} "
                         f"GHz (on all {len(rows)}: {every.slope:.2f}).")]


CHANGES: dict[str, dict[str, float]] = {
    "as in the file": {}, "voltage slope 0.6": {"energy.voltage_slope": 0.6},
    "voltage slope 1.1": {"energy.voltage_slope": 1.1}, "20 W less at rest": {"energy.static": 46.0},
    "20 W more at rest": {"energy.static": 86.0}, "L2 half": {"energy.l2": 6e-12}, "L2 double": {"energy.l2": 24e-12},
    "shared memory double": {"energy.smem": 3.2e-12}, "tensor 20 % less": {"energy.tensor.fp16": 1.84e-12},
    "tensor 20 % more": {"energy.tensor.fp16": 2.76e-12}}


def sensitivity_lines() -> list[str]:
    """Return the clocks of a product on two A100 cards with other energies."""
    lines = header("energies", "a100_sxm_80gb, 400 W", "a100_pcie_80gb, 300 W")
    for name, changes in CHANGES.items():
        cells = []
        for card in ("a100_sxm_80gb", "a100_pcie_80gb"):
            result = product(with_overrides(load_gpu(card), changes), 8192, 8192, 8192, "fp16")
            cells.append(f"{result.clock_hz / 1e9:.2f} GHz, {result.tflops:.0f} TFLOP/s")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or put them into power.md."""
    tables = {"products": lambda _: product_lines(products()), "instruction": lambda _: instruction_lines(),
              "l2": lambda _: l2_lines(), "sensitivity": lambda _: sensitivity_lines()}
    more = {"external": external_lines, "sweep": sweep_lines, "voltage": voltage_lines}
    parser = argparse.ArgumentParser(prog="python -m analysis.check_power", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join([*tables, *more])} (default: all)")
    parser.add_argument("--external", type=Path, metavar="DIR", help=f"where the rows of {', '.join(more)} are")
    parser.add_argument("--write", action="store_true", help="put the tables into analysis/power.md")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.tables if name not in {**tables, **more}]:
        parser.error(f"unknown table {unknown[0]!r}: not among {', '.join([*tables, *more])}")
    for name in given.tables or [*tables, *(more if given.external else [])]:
        if name in more and given.external is None:
            parser.error(f"table {name!r} needs --external DIR, which is not part of this repository")
        lines = {**tables, **more}[name](given.external)
        print(f"{name}\n" + "\n".join(lines) + "\n", flush=True)
        if given.write:
            PROSE.write_text(put(PROSE.read_text(), name, lines))


if __name__ == "__main__":
    main()
