"""The energy of an instruction of the CUDA cores, from the power of FP32 matrix products without tensor cores.

The FMA sweep that gave static power and memory repeats ``v = v * a - b`` on two arrays that hold their own index
(gpu-benches, gpu-roofline/main.cu at e4e93a3). There v soon is infinite and stays so. :func:`unchanged` says how soon;
:func:`fma_energy` gives what an FMA takes in a product of random matrices.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turbosim.hw import Gpu, load_gpu, with_overrides
from turbosim.hw.names import OpClass
from turbosim.power import energy_data, energy_of, find_clock, voltage
from turbosim.program.work import Work

PRODUCTS = Path(__file__).parent / "published" / "fp32_products.csv"
SWEEP_FMA = {"sm_80": 10.4e-12, "sm_90": 11.6e-12}
"""Least squares over the sweeps on an A100 40 GB and an H200 [J], by architecture: FMAs whose result stays the same."""
SMEM = 1.0
"""Bytes of shared memory an FMA: a thread with 8 x 8 results reads 16 numbers for 64 FMAs."""
L2 = 1 / 16
"""Bytes of L2 an FMA: a CTA with 128 x 128 results reads 256 numbers for 16384 FMAs."""
SHARES = {"sm_80": ("a100_pcie_80gb", "Y"), "sm_90": ("h100_sxm", "I")}
"""The rows taken to have run at boost. Their share of the peak there is that of the kernel on other cards."""


@dataclass(frozen=True)
class Product:
    """A row of ``published/fp32_products.csv``."""

    gpu: str
    limit: float
    """[W]."""
    shape: tuple[int, int, int]
    tflops: float
    watts: tuple[float, float] | None
    """Range of the measured power [W]."""
    source: str
    use: str

    @property
    def fmas(self) -> int:
        """FMAs of the product."""
        m, n, k = self.shape
        return m * n * k

    @property
    def dram_bytes(self) -> int:
        """Bytes of the three matrices, each once."""
        m, n, k = self.shape
        return 4 * (m * k + k * n + m * n)

    def card(self) -> Gpu:
        """Return the GPU with the row's limit."""
        return with_overrides(load_gpu(self.gpu), {"power.limit": self.limit})


def products() -> list[Product]:
    """Return the published rows in the file's order."""
    lines = [line for line in PRODUCTS.read_text().splitlines() if not line.startswith("#")]
    return [Product(r["gpu"], float(r["limit_w"]), (int(r["m"]), int(r["n"]), int(r["k"])), float(r["tflops"]),
                    (float(r["low_w"]), float(r["high_w"])) if r["low_w"] else None, r["source"], r["use"])
            for r in csv.DictReader(lines)]


def energies(gpu: Gpu, row: Product, seconds: float, hertz: float, fmas: int | None = None) -> dict[str, float]:
    """Return the energy of *row* in *seconds* at *hertz*, by component [J]; with *fmas* for its FMAs if given."""
    work = Work(lanes={OpClass.FP32: row.fmas if fmas is None else fmas}, smem_bytes=round(SMEM * row.fmas))
    return energy_of(gpu, work, round(L2 * row.fmas), row.dram_bytes, seconds, hertz)


def fma_energy(gpu: Gpu, row: Product, watts: float) -> float:
    """Return the energy of an FMA that makes *row* take *watts* at the boost clock [J]."""
    seconds, hertz = 2 * row.fmas / (row.tflops * 1e12), gpu.clock.boost
    rest = sum(energies(gpu, row, seconds, hertz, fmas=0).values())
    return (watts * seconds - rest) / (row.fmas * voltage(energy_data(gpu, Work()), hertz) ** 2)


def watts_at_boost(gpu: Gpu, row: Product) -> float:
    """Return the power that the model gives for the measured rate of *row* at the boost clock [W]."""
    seconds = 2 * row.fmas / (row.tflops * 1e12)
    return sum(energies(gpu, row, seconds, gpu.clock.boost).values()) / seconds


def peak(gpu: Gpu, hertz: float) -> float:
    """Return the FP32 rate of the CUDA cores [FLOP/s]."""
    return 2 * gpu.pipes["fp32"].rate * gpu.sm.count * hertz


def share(rows: list[Product], arch: str) -> float:
    """Return the share of the FP32 peak at boost that the row of :data:`SHARES` reached."""
    row = next(r for r in rows if (r.gpu, r.source) == SHARES[arch])
    gpu = row.card()
    return row.tflops * 1e12 / peak(gpu, gpu.clock.boost)


def limited(gpu: Gpu, row: Product, of_peak: float) -> float:
    """Return the clock at which *row* at *of_peak* of the FP32 rate keeps within the card's limit [Hz]."""

    def measure(hertz: float) -> tuple[float, Mapping[str, float]]:
        seconds = 2 * row.fmas / (of_peak * peak(gpu, hertz))
        return seconds, energies(gpu, row, seconds, hertz)

    return find_clock(gpu, measure)


def with_sweep_fma(gpu: Gpu) -> Gpu:
    """Return *gpu* with the FMA energy of the sweep, whose operands hardly change."""
    return with_overrides(gpu, {"energy.instruction.fp32": SWEEP_FMA[gpu.arch]})


def unchanged(steps: int, sms: int, samples: int = 100_000) -> float:
    """Return the share of a sweep row's FMAs, *steps* a value, that leave v as it was.

    The arrays of a GPU of *sms* SMs have 4000 numbers for each of its 2048 threads an SM; *samples* of them are drawn.
    """
    a = np.random.default_rng(0).integers(0, sms * 2048 * 4000, samples).astype(np.float32)
    v, same = np.zeros(samples, np.float32), 0
    with np.errstate(all="ignore"):
        for _ in range(steps):
            # A product of two floats is exact in a double: all but ties are rounded as an FMA rounds them.
            after = (v.astype(np.float64) * a - a).astype(np.float32)
            same += np.count_nonzero((after == v) | (np.isnan(after) & np.isnan(v)))
            v = after
    return same / (steps * samples)


def header(*names: str) -> list[str]:
    """Return the first lines of a table."""
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def instruction_lines() -> list[str]:
    """Return how constant the sweep is, the energy that a measured power gives, and checks by other rows."""
    rows = products()
    told = ", ".join(f"{unchanged(n, 132):.0%} at {n}" for n in (8, 16, 100, 400))
    lines = [f"FMAs of the sweep on an H200 that leave their result as it was, by FMAs a value: {told}.", "",
             *header("GPU, limit", "product", "row", "measured [TFLOP/s]", "of the peak at boost", "power there [W]",
                     "energy of an FMA [pJ]")]
    for row in (r for r in rows if (r.gpu, r.source) in SHARES.values()):
        gpu = row.card()
        low, high = row.watts or (row.limit, row.limit)
        known = f"{low:.0f} to {high:.0f} measured" if row.watts else f"{watts_at_boost(gpu, row):.0f} predicted"
        found = [1e12 * fma_energy(gpu, row, watts) for watts in (low, (low + high) / 2, high)]
        energy = f"{found[1]:.1f} ({found[0]:.1f} to {found[2]:.1f})" if row.watts else f"below {found[1]:.1f}"
        lines.append(f"| {_where(row)} | {row.tflops:.2f} | {share(rows, gpu.arch):.0%} | {known} | {energy} |")
    lines += ["", *header("GPU, limit", "product", "row", "measured [TFLOP/s]", "predicted", "error of time",
                          "clock [GHz]", "error with the sweep's FMA")]
    for row in (r for r in rows if (r.gpu, r.source) not in SHARES.values()):
        of_peak = share(rows, row.card().arch)
        clocks = [limited(gpu, row, of_peak) for gpu in (row.card(), with_sweep_fma(row.card()))]
        tflops, before = (of_peak * peak(row.card(), hertz) / 1e12 for hertz in clocks)
        lines.append(f"| {_where(row)} | {row.tflops:.2f} | {tflops:.2f} | {row.tflops / tflops - 1:+.1%} | "
                     f"{clocks[0] / 1e9:.2f} | {row.tflops / before - 1:+.1%} |")
    return lines


def _where(row: Product) -> str:
    m, n, k = row.shape
    return f"{row.gpu}, {row.limit:.0f} W | {m}x{n}x{k} | {row.source}, {row.use}"
