"""Compile the micro-benchmarks for a GPU that need not be present and print, as JSON, what their loops consist of.

``python -m tests.kernels.compile_micro 90 CASES``, where CASES is JSON: {case: [kernel, sizes, options, constants]}. Of
each case: ``all``, the number of times each opcode occurs; ``loop``, the same for the largest innermost loop (from the
target of a backward branch to that branch), or null; ``conflicts``, the most lanes of a warp that want one bank of
shared memory at a time, or null for a kernel without plain shared-memory accesses.
"""

from __future__ import annotations

import collections
import json
import re
import sys
from typing import Any

from kernels.machine_code import Launch, compile_launch
from kernels.ops.micro import plan_of


def conflicts(ptx: str, threads: int) -> int | None:
    """Follow the integer arithmetic of every thread to the loop's 32-bit shared-memory accesses; see the module."""
    loop = re.search(r"(\$L\w+):.*bra\s+\1;", ptx, re.DOTALL)
    if loop is None:
        return None
    operations = {"and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
                  "shl": lambda a, b: a << b, "shr": lambda a, b: a >> b, "add": lambda a, b: a + b, "mov": lambda a: a,
                  "neg": lambda a: -a,
                  "bfe": lambda a, low, width: -(a >> low & 1) if width == 1 else a >> low & (1 << width) - 1}
    accesses: dict[tuple[int, int], collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for thread in range(threads):
        known = {"%tid.x": thread, "global_smem": 0}
        for number, line in enumerate(ptx[:loop.end()].splitlines()):
            if access := re.match(r"\s*(?:st|ld)\.shared\.b32.*\[(%r\d+)(?:\+(\d+))?\]", line):
                address = known[access[1]] + int(access[2] or 0)
                accesses[number, thread // 32][address // 4 % 32] += 1
            elif step := re.match(r"\s*(\w+)\.\w+ \s*(%r\d+), ([^;{]+);", line):
                values = [known.get(s) if s in known or not s.lstrip("-").isdigit() else int(s)
                          for s in step[3].split(", ")]
                if step[1] in operations and None not in values:
                    known[step[2]] = operations[step[1]](*values)
    return max((max(banks.values()) for banks in accesses.values()), default=None)


def main(capability: int, cases: dict[str, Any]) -> None:
    """Compile and print."""
    found = {}
    for case, (name, sizes, options, constants) in cases.items():
        plan = plan_of(name, sizes, options, "cpu", 0)
        plan.constants.update(constants)
        launch = Launch(plan.kernel, {**plan.arguments, **plan.constants}, {"num_warps": plan.warps})
        code = compile_launch(launch, capability)
        loop = code.hot_loop()
        found[case] = {
            "all": code.count(),
            "loop": None if loop is None else code.count(loop),
            "conflicts": conflicts(code.ptx, 32 * plan.warps) if name == "smem" else None,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
