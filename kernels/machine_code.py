"""Compile a launch for a GPU that need not be present, and read what came out: resources, opcodes, loops.

The launch itself says what to compile: :func:`captured` runs an interface function with launching replaced, so that
signature, constants and alignments are those a GPU would be given. Not for processes with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import collections
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turbosim.sass.specialise import Pointer, specialised, triton_compile


@dataclass(frozen=True)
class Launch:
    """One kernel launch: function, arguments by name, compiler options."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, int]

    @property
    def warps(self) -> int:
        """Warps per CTA."""
        return self.options.get("num_warps", 4)


@dataclass(frozen=True)
class MachineCode:
    """A kernel compiled for one target."""

    registers: int
    """Per thread."""
    stack_bytes: int
    """Local memory per thread: spills, where the source has no arrays."""
    smem_bytes: int
    """Shared memory per CTA."""
    opcodes: tuple[str, ...]
    loops: tuple[tuple[int, int], ...]
    """First and last index of every loop: the target of a backward branch, and the branch."""
    ptx: str

    def count(self, span: tuple[int, int] | None = None) -> collections.Counter[str]:
        """Return how often each opcode occurs in *span*, or anywhere."""
        first, last = span or (0, len(self.opcodes) - 1)
        return collections.Counter(self.opcodes[first:last + 1])

    def hot_loop(self) -> tuple[int, int] | None:
        """Return the longest loop that contains no other; None without loops."""
        return max(self._innermost(), key=lambda loop: loop[1] - loop[0], default=None)

    def loops_with(self, *prefixes: str) -> list[tuple[int, int]]:
        """Return the innermost loops that contain an opcode starting with one of *prefixes*."""
        return [a for a in self._innermost() if any(o.startswith(prefixes) for o in self.opcodes[a[0]:a[1] + 1])]

    def _innermost(self) -> list[tuple[int, int]]:
        """Return the loops that contain no other and more than a branch to itself."""
        return [a for a in self.loops if a[0] < a[1] and not any(
            a != b and a[0] <= b[0] < b[1] <= a[1] for b in self.loops)]


@contextmanager
def _recording(into: list[Launch]) -> Iterator[None]:
    from triton.runtime.jit import JITFunction

    def run(self: Any, *args: Any, **given: Any) -> None:
        given.pop("grid"), given.pop("warmup")
        names = self.arg_names
        arguments = dict(zip(names, args, strict=False)) | {n: v for n, v in given.items() if n in names}
        into.append(Launch(self, arguments, {n: v for n, v in given.items() if n not in names}))

    kept = JITFunction.run
    JITFunction.run = run
    try:
        yield
    finally:
        JITFunction.run = kept


def captured(act: Callable[[], object]) -> list[Launch]:
    """Return the launches of *act*, none of which happens."""
    launches: list[Launch] = []
    with _recording(launches):
        act()
    return launches


def compile_launch(launch: Launch, capability: int) -> MachineCode:
    """Compile for compute capability *capability* (80, 89, 90, 100 ...) and read the result."""
    code, _ = compiled(launch, capability)
    return read(code.asm["cubin"], int(code.metadata.shared), code.asm["ptx"])


def compiled(launch: Launch, capability: int) -> tuple[Any, list[str]]:
    """Return Triton's compiled kernel, and the names of its parameters: the arguments that are not constants."""
    import torch

    types = {torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64", torch.int8: "i8",
             torch.uint8: "u8", torch.int32: "i32", torch.int64: "i64"}
    source = specialised(launch.kernel, {
        name: Pointer(types[value.dtype]) if isinstance(value, torch.Tensor) else value
        for name, value in launch.arguments.items()})
    return triton_compile(launch.kernel, source, capability, launch.options), list(source.parameters)


def read(cubin: bytes, smem_bytes: int, ptx: str = "") -> MachineCode:
    """Disassemble *cubin* with the tools of the triton wheel; *smem_bytes* is the dynamic shared memory."""
    import triton

    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tools / "nvdisasm", "-c", file.name], capture_output=True, text=True, check=True).stdout
        usage = subprocess.run([tools / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True,
                               check=True).stdout
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
    registers, stack = (int(found[1]) for found in (re.search(rf"{n}:(\d+)", usage) for n in ("REG", "STACK")) if found)
    return MachineCode(registers, stack, smem_bytes, tuple(opcodes), tuple(loops), ptx)
