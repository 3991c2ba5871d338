"""Predictions beside published measurements: ``python -m analysis.check_published``.

The rows are Triton's documented FP16 forward attention on an A100 (see the CSV's header). The page does not say which
card; its vector addition (1684 GB/s) and cuBLAS products (222 TFLOP/s) fit the 300 W PCIe card and not the SXM card, so
both are shown. The prediction is the first-principles tile model with FlashAttention-2's tiling; nothing is fitted.
"""

from __future__ import annotations

import csv
from pathlib import Path

from turbosim import Attention, Phase, simulate

DATA = Path(__file__).parent / "published" / "triton_fused_attention_a100.csv"


COMMIT = "7e03fe9512ef"
"""Late 2024."""
CARDS = ("a100_pcie_80gb", "a100_sxm_80gb")


def errors_on(gpu: str, show: bool = False) -> list[float]:
    """Return the relative errors of the predicted times on *gpu*, printing a line for each row if asked to."""
    lines = [line for line in DATA.read_text().splitlines() if not line.startswith("#")]
    errors = []
    for row in csv.DictReader(lines):
        if row["commit"] != COMMIT:
            continue
        heads, seq = int(row["heads"]), int(row["seq"])
        shape = Attention(int(row["batch"]), heads, heads, seq, seq, int(row["head_dim"]), row["causal"] == "true",
                          Phase.PREFILL)
        predicted = simulate(gpu, shape, "flash").tflops
        errors.append(float(row["tflops"]) / predicted - 1)
        if show:
            print(f"{seq:7} {row['causal']:>7} {float(row['tflops']):9.1f} {predicted:10.1f} {errors[-1]:11.1%}")
    return errors


def mean_absolute(errors: list[float]) -> float:
    """Return the mean of the absolute values."""
    return sum(map(abs, errors)) / len(errors)


def main() -> None:
    """Print measured and predicted TFLOP/s, and the error of the predicted time."""
    for gpu in CARDS:
        print(f"{gpu}\n{'tokens':>7} {'causal':>7} {'measured':>9} {'predicted':>10} {'time error':>11}")
        errors = errors_on(gpu, show=True)
        print(f"mean absolute error {mean_absolute(errors):.1%}, bias {sum(errors) / len(errors):.1%}\n")


if __name__ == "__main__":
    main()
