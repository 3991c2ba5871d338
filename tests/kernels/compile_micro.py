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
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.ops.micro import plan_of

TYPES = {torch.float16: "*fp16", torch.float32: "*fp32", torch.float64: "*fp64", torch.int8: "*i8", torch.int32: "*i32"}
NVDISASM = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"


def compiled(plan: Any, capability: int) -> Any:
    """Compile with the signature and the alignments that a launch would find."""
    kernel, signature, aligned = plan.kernel, {}, {}
    for i, name in enumerate(kernel.arg_names):
        value = plan.arguments.get(name)
        if isinstance(value, torch.Tensor):
            signature[name] = TYPES[value.dtype]
        else:
            signature[name] = "constexpr" if name in plan.constants else "i32"
        if signature[name] != "constexpr" and (name == "n" or signature[name].startswith("*")):
            aligned[i,] = [["tt.divisibility", 16]]
    constants = {(kernel.arg_names.index(name),): value for name, value in plan.constants.items()}
    return triton.compile(ASTSource(kernel, signature, constants, aligned), target=GPUTarget("cuda", capability, 32),
                          options={"num_warps": plan.warps})


def instructions(cubin: bytes) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the opcodes in order, and the first and last index of every loop."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([NVDISASM, "-c", file.name], capture_output=True, text=True, check=True).stdout
    labels: dict[str, int] = {}
    opcodes: list[str] = []
    loops = []
    for line in text.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(opcodes)
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", line):
            target = re.search(r"\.L_x_\d+", found[2])
            if found[1].startswith("BRA") and target and target[0] in labels:
                loops.append((labels[target[0]], len(opcodes)))
            opcodes.append(found[1])
    return opcodes, loops


def largest_innermost(loops: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the longest of the loops that contain no other and more than a branch to itself."""
    inner = [a for a in loops if a[0] < a[1] and not any(
        a != b and a[0] <= b[0] < b[1] <= a[1] for b in loops)]
    return max(inner, key=lambda loop: loop[1] - loop[0], default=None)


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
        kernel = compiled(plan, capability)
        opcodes, loops = instructions(kernel.asm["cubin"])
        loop = largest_innermost(loops)
        found[case] = {
            "all": collections.Counter(opcodes),
            "loop": None if loop is None else collections.Counter(opcodes[loop[0]:loop[1] + 1]),
            "conflicts": conflicts(kernel.asm["ptx"], 32 * plan.warps) if name == "smem" else None,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
