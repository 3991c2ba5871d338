"""Compile the project's kernels for a GPU that need not be present: ``python -m tests.sass.compile_kernels 90 FOLDER``.

Cubins are named by number.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kernels import machine_code, report
from tests.kernels.test_micro_sass import CASES

KERNELS = ("flash prefill", "turbo prefill, table, magic", "turbo prefill, naive, magic, 128 rows",
           "turbo prefill, exp2, cast", "quantise, buffer", "append, flush", "flash decode", "combine", "turbo decode", "kivi decode, 2-bit")
"""Those left out are variants that consist of the same opcodes."""


def main(capability: int, folder: Path) -> None:
    """Compile the attention kernels and the micro-benchmarks into *folder*."""
    from kernels.ops.micro import plan_of

    cubins: list[bytes] = []

    def keep(cubin: bytes, *_rest: Any) -> None:
        cubins.append(cubin)

    machine_code.read = keep
    cases = report.cases()
    launches = [machine_code.captured(cases[name][0])[cases[name][1]] for name in KERNELS]
    for name, sizes, options, constants in CASES.values():
        plan = plan_of(name, sizes, options, "cpu", 0)
        launches.append(machine_code.Launch(plan.kernel, {**plan.arguments, **plan.constants, **constants},
                                            {"num_warps": plan.warps}))
    for launch in launches:
        machine_code.compile_launch(launch, capability)
    for number, cubin in enumerate(cubins):
        (folder / f"{number}.cubin").write_bytes(cubin)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
