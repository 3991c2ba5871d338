"""Compile kernels for a GPU that need not be present: ``python -m tests.sass.compile_cubins CAPABILITY FOLDER``.

Writes NAME.cubin and NAME.json (parameter names, warps, dynamic shared memory) into the folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl

from kernels.machine_code import Launch, captured, compiled
from kernels.ops.flash import flash_prefill


@triton.jit
def quotients(A, B, C, D, E, F, a, b, c, d):
    """Store to where quotients point: of 32 and 64 bits, signed and not, the same in all lanes or not."""
    lane = tl.arange(0, 32)
    tl.store(A + (a // b) + lane, 1)
    tl.store(B + (a % b) + lane, 1)
    tl.store(C + (c // d) + lane, 1)
    tl.store(D + (a.to(tl.uint32, bitcast=True) // b.to(tl.uint32, bitcast=True)).to(tl.int64) + lane, 1)
    tl.store(E + (c.to(tl.uint64, bitcast=True) // d.to(tl.uint64, bitcast=True)).to(tl.int64, bitcast=True) + lane, 1)
    tl.store(F + (a + lane) // b, 1)


@triton.jit
def places(A):
    """Store to where the CTA's place in the grid, and the grid, point."""
    at = tl.program_id(0) + 10 * (tl.program_id(1) + 10 * tl.program_id(2))
    at = at * 1000 + tl.num_programs(0) + 10 * (tl.num_programs(1) + 10 * tl.num_programs(2))
    tl.store(A + at * 32 + tl.arange(0, 32), 1)


@triton.jit
def chase(P, A):
    """Follow a list in memory."""
    at = tl.load(P)
    while at > 0:
        tl.store(A + at, 1)
        at = tl.load(P + at)


@triton.jit
def gather(P, A, n):
    """Store to where loaded values point, as often as the launch says."""
    lane = tl.arange(0, 32)
    for i in range(n):
        tl.store(A + tl.load(P + i * 32 + lane), 1)


def cases(capability: int) -> dict[str, Launch]:
    """Return the launches by name."""
    def flash(causal: bool, tokens: int) -> Launch:
        q, k = (torch.zeros(2, heads, tokens, 64, dtype=torch.float16) for heads in (6, 2))
        return captured(lambda: flash_prefill(q, k, k, causal, {"block_m": 64, "block_n": 32, "warps": 4}))[0]

    words, bytes_ = torch.zeros(32, dtype=torch.int32), torch.zeros(32, dtype=torch.int8)
    found = {"causal": flash(True, 333), "full": flash(False, 256)}
    # Odd, since the compiler makes use of multiples of 16.
    found["quotients"] = Launch(quotients, {**dict.fromkeys("ABCDEF", bytes_), "a": 7, "b": 3, "c": (1 << 40) + 1,
                                            "d": (1 << 35) + 1}, {"num_warps": 1})
    if capability != 89:
        found["places"] = Launch(places, {"A": bytes_}, {"num_warps": 1})
    if capability == 80:
        found["chase"] = Launch(chase, {"P": words, "A": bytes_}, {"num_warps": 1})
        found["gather"] = Launch(gather, {"P": words, "A": bytes_, "n": 7}, {"num_warps": 1})
    return found


def main(capability: int, folder: Path) -> None:
    """Compile and write."""
    for name, launch in cases(capability).items():
        code, parameters = compiled(launch, capability)
        (folder / f"{name}.cubin").write_bytes(code.asm["cubin"])
        about: dict[str, Any] = {"parameters": parameters, "warps": launch.warps, "smem_bytes": code.metadata.shared}
        (folder / f"{name}.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
