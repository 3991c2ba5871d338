"""Which GPU a lifted program is for."""

from __future__ import annotations

import hashlib
import json

from turbosim.errors import UsageError
from turbosim.hw.spec import Gpu
from turbosim.program.program import Program

GPU, COSTS = "gpu", "costs"
"""Keys of a lifted program's meta: the GPU that it was lifted for, and a digest of what its costs depend on."""
ASSUMED = "assumed"
"""Key of what is assumed of opcodes without a cost, of accesses whose addresses depend on data and of L1, by lines."""


def costs_digest(gpu: Gpu) -> str:
    """Return a digest of what the costs of a lifted program depend on; GPUs with the same SM share it."""
    parts = gpu.model_dump(mode="json", include={"arch", "sm", "pipes", "tensor", "barrier"})
    del parts["sm"]["count"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def check_gpu(program: Program, gpu: Gpu) -> str | None:
    """Return a warning where *program* was lifted for another GPU than *gpu*; None where its costs hold.

    Raises UsageError where *gpu* could not run its machine code.
    """
    lifted_for, target = program.meta.get(GPU), program.meta.get("lifted")
    if target is None:
        return None
    if target != gpu.arch:
        raise UsageError(f"{program.name}: was lifted from {target} code for {lifted_for}, and {gpu.name} is "
                         f"{gpu.arch}; lift it again with --hw {gpu.name}")
    if program.meta.get(COSTS) != costs_digest(gpu):
        return (f"{program.name} was lifted for {lifted_for}, whose SM differs from that of {gpu.name}: durations of "
                f"its blocks are those of {lifted_for}; lift it again with --hw {gpu.name}")
    return None
