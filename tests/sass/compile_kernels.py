"""Compile the project's kernels for a GPU that need not be present: ``python -m tests.sass.compile_kernels 90 FOLDER``.

One cubin a kernel, named by its number in the order of the cases.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from kernels import machine_code, report
from tests.kernels.test_micro_sass import CASES

CODES = r"flash|table, magic|naive, cast|quantise|append|combine|turbo decode|kivi"
"""Of the prefill variants two suffice: the others consist of the same opcodes."""


def main(capability: int, folder: Path) -> None:
    from kernels.ops.micro import plan_of

    cubins: list[bytes] = []

    def keep(cubin: bytes, *_rest: Any) -> None:
        cubins.append(cubin)

    machine_code.read = keep
    for name, (act, number, _) in report.cases().items():
        if re.search(CODES, name):
            machine_code.compile_launch(machine_code.captured(act)[number], capability)
    for name, sizes, options, constants in CASES.values():
        plan = plan_of(name, sizes, options, "cpu", 0)
        machine_code.compile_launch(machine_code.Launch(
            plan.kernel, {**plan.arguments, **plan.constants, **constants}, {"num_warps": plan.warps}), capability)
    for number, cubin in enumerate(cubins):
        (folder / f"{number}.cubin").write_bytes(cubin)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
