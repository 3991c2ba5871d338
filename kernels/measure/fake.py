"""``--device fake``: a timer without a GPU, which tries the harness and measures nothing.

Its times follow from operations and bytes alone. Kernels are stand-ins that are always right; torch and triton are not
needed. Rows carry source and gpu ``fake``, and cannot share a directory with rows of a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from kernels.case import Check, Kernel, Prepared
from kernels.measure.device import Timing
from kernels.measure.predict import repeats_for
from kernels.measure.suites import MICRO
from turbosim.workload import Attention

COLD_BANDWIDTH, WARM_BANDWIDTH = 2e12, 6e12
L2_BYTES = 32 * 1024**2
PEAK = 2e14
LAUNCH_S = 2e-6


class FakeDevice:
    """A device that launches every kernel once a row and makes up the time."""

    source = "fake"
    target = "fake"

    def facts(self) -> dict[str, Any]:
        """Return constants."""
        return {"gpu": "fake", "compute_capability": None, "sm_count": 1, "memory_bytes": 0, "l2_bytes": L2_BYTES,
                "l2_flush_bytes": 0, "cuda": None, "torch": None, "triton": None}

    def uuid(self) -> str | None:
        """Return None: there are no sensors."""
        return None

    def time_events(self, prepared: Prepared, cold: bool) -> Timing:
        """Make up a time from operations and bytes; inputs that fit into L2 are faster if not *cold*."""
        return _timing(prepared, cold or prepared.nbytes > L2_BYTES, LAUNCH_S)

    def time_graph(self, prepared: Prepared) -> Timing:
        """Likewise, with a quarter of the launch overhead."""
        return _timing(prepared, prepared.nbytes > L2_BYTES, LAUNCH_S / 4)

    def release(self) -> None:
        """Nothing is held."""

    def healthy(self) -> bool:
        """Always."""
        return True


def _timing(prepared: Prepared, from_memory: bool, overhead: float) -> Timing:
    began = time.monotonic()
    prepared.launch()
    bandwidth = COLD_BANDWIDTH if from_memory else WARM_BANDWIDTH
    run_s = overhead + max(prepared.nbytes / bandwidth, prepared.flops / PEAK)
    repeats = repeats_for(run_s)
    return Timing([run_s * (1 + 0.1 * i / repeats) for i in range(repeats)], began, time.monotonic())


def _prepare(shape: Any, options: Mapping[str, int | str | bool], device: str, seed: int) -> Prepared:
    del options, device, seed
    if isinstance(shape, Attention):
        flops = shape.flops
        nbytes = shape.kv_bytes_fp16 + 4 * shape.batch * shape.q_heads * shape.seq_q * shape.head_dim
    else:
        flops, nbytes = 0, 2 * shape.get("nbytes", 0)
    compiled = SimpleNamespace(n_regs=32, n_spills=0, metadata=SimpleNamespace(shared=0))
    return Prepared(lambda: [compiled], lambda: Check(0.0, 0.0, "none"), flops, nbytes)


STAND_IN = Kernel("stand-in", "computes nothing", {}, _prepare)
NAMES: dict[str, str] = dict.fromkeys(("flash", "turbo", "kivi", "quantise", *MICRO), "kernels.measure.fake:STAND_IN")
"""What ``kernels/registry.py`` is on a GPU."""
