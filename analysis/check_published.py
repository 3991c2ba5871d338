"""Predictions beside published measurements: ``python -m analysis.check_published``.

The rows are Triton's documented FP16 forward attention on an A100 (see the CSV's header). The prediction is the
first-principles tile model with FlashAttention-2's tiling; nothing is fitted.
"""

from __future__ import annotations

import csv
from pathlib import Path

from turbosim import Attention, Phase, simulate

DATA = Path(__file__).parent / "published" / "triton_fused_attention_a100.csv"


def main() -> None:
    """Print measured and predicted TFLOP/s, and the error of the predicted time."""
    lines = [line for line in DATA.read_text().splitlines() if not line.startswith("#")]
    errors = []
    print(f"{'tokens':>7} {'causal':>7} {'measured':>9} {'predicted':>10} {'time error':>11}")
    for row in csv.DictReader(lines):
        heads, seq = int(row["heads"]), int(row["seq"])
        shape = Attention(int(row["batch"]), heads, heads, seq, seq, int(row["head_dim"]), row["causal"] == "true",
                          Phase.PREFILL)
        predicted = simulate("a100_sxm_80gb", shape, "flash").tflops
        error = float(row["tflops"]) / predicted - 1
        errors.append(error)
        print(f"{seq:7} {row['causal']:>7} {float(row['tflops']):9.1f} {predicted:10.1f} {error:11.1%}")
    print(f"mean absolute error {sum(map(abs, errors)) / len(errors):.1%}, bias {sum(errors) / len(errors):.1%}")


if __name__ == "__main__":
    main()
