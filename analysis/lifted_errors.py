"""What is known of the errors of lifted kernels: ``python -m analysis.lifted_errors [--write]``.

Three things of the A100 pages that the tables of :mod:`analysis.check_lifted` leave open, for each row of attention and
of products from 1024 on, with the tiling that table has:

- how far the measured versions are apart, where there are several;
- the clock. The page does not tell it, and the power model's depends on what an instruction of the CUDA cores takes, of
  which only a range is known (``analysis/power.md``): 10.4 pJ, the sweep's FMA, to 22.1 pJ, the most that an FP32
  product at boost leaves. Both ends are predicted;
- the clock at which the prediction would meet the mean of the measurements, and the power that the model has there.

And one of the H100's bars: the mean error at both ends of what is known of L2's energy.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

from analysis.check_lifted import PROSE, put
from analysis.lifted_cases import HOPPER, PCIE, Row, attention_a100, attention_h100, matmul_a100
from analysis.lifting import Compiled, flush
from turbosim.engine.api import run
from turbosim.engine.lower import ClockName
from turbosim.hw import Gpu, load_gpu, with_overrides
from turbosim.result import Result
from turbosim.validation.jobs import gpu_at

KNOWN = 10.4, 22.1
"""Least and most energy of an instruction [pJ]."""
L2_KNOWN = 37.0, 72.0
"""Least and most energy of a byte of L2 on Hopper [pJ] (``analysis/power.md``)."""
LABEL = re.compile(r"^(\S+(?: \d+)?) {2,}.* {2}(\S+(?: \S+){1,2}) +[\d.]+ GHz")


def tilings(text: str, name: str) -> dict[str, str]:
    """Return label -> tiling of the committed table *name* in *text*."""
    block = text.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]
    return {found[1].strip(): found[2].strip() for line in block.splitlines() if (found := LABEL.match(line))}


def with_instructions_of(gpu: Gpu, picojoules: float) -> Gpu:
    """Return *gpu* with another energy of its instructions."""
    assert gpu.energy is not None
    return with_overrides(gpu, {f"energy.instruction.{c.value}": picojoules * 1e-12 for c in gpu.energy.instruction})


def meeting(gpu: Gpu, row: Row, kernel: Compiled) -> Result:
    """Return the replay at the clock at which it takes the mean of the measured times, found by secants."""
    wanted = sum(row.amount / m for m in row.measured) / len(row.measured) - row.overhead
    hertz = gpu.clock.boost
    found = at(gpu, kernel, hertz)
    for _ in range(4):
        hertz *= found.time_s / wanted
        found = at(gpu, kernel, hertz)
    return found


def at(gpu: Gpu, kernel: Compiled, clock: ClockName | float) -> Result:
    """Return the replay at *clock*, with do_bench's flush between runs."""
    return run(gpu, kernel.program, clock=clock, launch="stream", l2="dirty", between=flush(gpu))


def lines() -> Iterator[str]:
    """Return the table."""
    gpu = load_gpu(PCIE)
    text = PROSE.read_text()
    low, high = KNOWN
    yield (f"| row | versions, from their mean | error at {low} pJ | as in the file | at {high} pJ "
           "| meets the mean at | power there |")
    yield "|---|---|---|---|---|---|---|"
    for name, table in (("attention", attention_a100()), ("matmul", matmul_a100())):
        chosen = tilings(text, name)
        for row in table.rows:
            if row.group == "small":
                continue
            kernel = row.tilings[chosen[row.label]]()
            mean = sum(row.measured) / len(row.measured)
            spread = f"{min(row.measured) / mean - 1:+.1%} to {max(row.measured) / mean - 1:+.1%}"
            cells = []
            for card in (with_instructions_of(gpu, low), gpu, with_instructions_of(gpu, high)):
                result = at(card, kernel, "power")
                predicted = row.amount / (result.time_s + row.overhead)
                error = sum(m / predicted - 1 for m in row.measured) / len(row.measured)
                cells.append(f"{error:+.1%}, {result.clock_hz / 1e9:.2f} GHz")
            met = meeting(gpu, row, kernel)
            where = f"{met.clock_hz / 1e9:.2f} GHz | {met.power_w:.0f} W" if met.clock_hz <= gpu.clock.boost else \
                "no clock up to boost | "
            yield f"| {row.label} | {spread if len(row.measured) > 1 else 'one'} | {' | '.join(cells)} | {where} |"


def hopper_lines() -> Iterator[str]:
    """Return the table of L2's energy."""
    gpu = gpu_at(HOPPER[0].gpu, None, HOPPER[0].highest)
    assert gpu.energy is not None
    chosen = tilings(PROSE.read_text(), "h100")
    table = attention_h100()
    kernels = {row.label: row.tilings[chosen[row.label]]() for row in table.rows}
    yield "| energy of a byte of L2 | mean absolute error, all rows | clocks |"
    yield "|---|---|---|"
    for joules in (L2_KNOWN[0] * 1e-12, gpu.energy.l2, L2_KNOWN[1] * 1e-12):
        card = with_overrides(gpu, {"energy.l2": joules})
        errors, clocks = [], []
        for row in table.rows:
            result = run(card, kernels[row.label].program, clock="power", launch="stream", l2=HOPPER[0].l2)
            clocks.append(result.clock_hz / 1e9)
            errors += [abs(m / (row.amount / (result.time_s + row.overhead)) - 1) for m in row.measured]
        yield (f"| {joules * 1e12:.0f} pJ/B | {sum(errors) / len(errors):.1%} "
               f"| {min(clocks):.2f} to {max(clocks):.2f} GHz |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or put it into lifted.md."""
    parser = argparse.ArgumentParser(prog="python -m analysis.lifted_errors",
                                     description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into analysis/lifted.md")
    given = parser.parse_args(arguments)
    for name, table in (("errors", lines), ("l2 energy", hopper_lines)):
        found = []
        for line in table():
            print(line, flush=True)
            found.append(line)
        if given.write:
            PROSE.write_text(put(PROSE.read_text(), name, found))


if __name__ == "__main__":
    main()
