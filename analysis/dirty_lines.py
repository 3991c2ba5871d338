"""How much of what was overwritten L2 still has to write to memory: ``python -m analysis.dirty_lines``.

Triton's do_bench overwrites 256 MB before each run, and a line that the kernel brings in costs a further write where
it displaces one that device memory does not have yet. What share of the overwritten lines that is follows from
torch.softmax on the A100's page, whose rows of up to 1024 columns are in ``published/torch_softmax.csv``. There a warp
reads a row into registers, and writes it when it is done (softmax_warp_forward of PyTorch,
aten/src/ATen/native/cuda/PersistentSoftmax.cuh), so that device memory bounds it more than any other kernel of these
pages. No other kernel's rows are used, and these rows are in no data set. If something else slows the kernel, the share
is smaller.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from turbosim.engine.api import L2Start, run
from turbosim.hw import Gpu, load_gpu, with_overrides
from turbosim.hw.names import OpClass
from turbosim.program.ops import Affine, Compute, Load, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Tensor

MEASURED = Path(__file__).parent / "published" / "torch_softmax.csv"
GPU = "a100_pcie_80gb"
"""The card that the page's other kernels fit (lifted.md)."""
ROWS = 4096
WARPS = 4
"""Of a CTA, each with a row."""
OTHER_REGISTERS = 24
"""Beside those that hold the row."""
EVENTS = 1.7e-6
"""What two events add [s], as in the data set of these pages."""


def measured() -> dict[int, float]:
    """Return the measured times [s] by columns."""
    with MEASURED.open(encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {int(r["columns"]): 2 * 4 * ROWS * int(r["columns"]) / float(r["bandwidth_Bps"]) for r in rows}


def softmax(columns: int) -> Program:
    """Return torch's kernel for rows of *columns* FP32 numbers, at most 1024."""
    ctas, lanes = ROWS // WARPS, columns * WARPS
    body = (Load("load", "x", var("c"), "row", smem=False), Wait("wait", "row", Affine(1)),
            Compute("softmax", lanes=((OpClass.FP32, 4 * lanes), (OpClass.SFU, lanes))), Store("store", "y", var("c")))
    held = 1 << (columns - 1).bit_length()
    launch = Launch("softmax", (Dim("c", ctas),), (Role("warps", WARPS, body),), (Counter("row", CounterKind.DATA),),
                    (CtaClass("all"),), registers_per_thread=held // 32 + OTHER_REGISTERS)
    return Program("softmax", tuple(Tensor(name, ctas, 4 * lanes, "fp32") for name in "xy"), (launch,))


def predicted(gpu: Gpu, columns: int, l2: L2Start = "dirty") -> float:
    """Return the time that do_bench would show for torch's kernel [s]."""
    return run(gpu, softmax(columns), launch="stream", l2=l2).time_s + EVENTS


def with_share(gpu: Gpu, share: float) -> Gpu:
    """Return *gpu* with this share of overwritten lines dirty."""
    return with_overrides(gpu, {"l2.dirty_share": share})


def share_of(gpu: Gpu, times: dict[int, float]) -> float:
    """Return the share whose predictions differ least from *times*, in squares of microseconds."""
    def misfit(share: float) -> float:
        found = with_share(gpu, share)
        return sum((1e6 * (predicted(found, columns) - time)) ** 2 for columns, time in times.items())

    return float(minimize_scalar(misfit, bounds=(0.01, 1.0), method="bounded", options={"xatol": 0.002}).x)


def main() -> None:
    """Print the share, and predictions without dirty lines, with it, and with all lines dirty."""
    gpu, times = load_gpu(GPU), measured()
    share = share_of(gpu, times)
    print(f"torch.softmax, {ROWS} rows of FP32, {GPU} [us]; of overwritten lines {share:.2f} are dirty "
          f"(hardware file: {gpu.l2.dirty_share:.2f})\n"
          f"{'columns':>7} {'measured':>9} {'cold':>9} {f'{share:.2f}':>9} {'1.00':>9}")
    errors = []
    for columns, time in times.items():
        found = [predicted(gpu, columns, "cold"), *(predicted(with_share(gpu, x), columns) for x in (share, 1.0))]
        errors.append([x - time for x in found])
        print(f"{columns:7} {1e6 * time:9.2f} " + " ".join(f"{1e6 * x:9.2f}" for x in found))
    print(f"{'rms of errors':>17} " + " ".join(f"{1e6 * x:9.2f}" for x in np.sqrt(np.mean(np.square(errors), axis=0))))


if __name__ == "__main__":
    main()
