"""From a Triton launch to a predicted time: compile, read the machine code, lift it, replay it. No GPU is needed.

Not for processes with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from kernels.machine_code import Launch, captured, compiled
from turbosim.engine.api import L2Start, run
from turbosim.engine.lower import ClockName
from turbosim.hw import Gpu, load_gpu
from turbosim.power import Between
from turbosim.program.program import Program
from turbosim.result import Result
from turbosim.sass.cubin import Kernel, read_cubin
from turbosim.sass.kept import lifted_program
from turbosim.sass.launch import Launch as Called
from turbosim.sass.launch import Tensor as Argument
from turbosim.sass.lift import with_useful_flops
from turbosim.validation.jobs import gpu_at

Options = dict[str, Any]


FLUSHED = 256_000_000
"""Bytes that Triton's do_bench overwrites before each run."""


def flush(gpu: Gpu) -> Between:
    """Return what do_bench does between two runs: a kernel that overwrites a buffer."""
    return Between(gpu.launch.stream + FLUSHED / (gpu.hbm.bandwidth * gpu.hbm.efficiency), FLUSHED)


@dataclass(frozen=True)
class Compiled:
    """A kernel lifted for one architecture, to be replayed on its GPUs."""

    program: Program
    registers: int
    """Per thread."""
    spilled: int
    """Bytes of local memory per thread."""
    seconds: float
    """Wall time to compile and lift."""

    def on(self, gpu: str, clock: ClockName = "sustained", l2: L2Start = "cold",
           highest: float | None = None) -> Result:
        """Return the replay, launched from a stream, at no clock above *highest* [Hz] if that is given.

        With the clock ``power``, and L2 dirty as do_bench leaves it, it alternates with :func:`flush`.
        """
        spec = gpu_at(gpu, None, highest)
        return run(spec, self.program, clock=clock, launch="stream", l2=l2,
                   between=flush(spec) if clock == "power" and l2 == "dirty" else None)


@lru_cache(maxsize=64)
def _read(cubin: bytes) -> Kernel:
    return read_cubin(cubin)


def machine_code(launch: Launch, gpu: str) -> tuple[Kernel, Called]:
    """Return the machine code of *launch* for *gpu*, and the launch of one CTA as the code sees it."""
    import torch

    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    code, parameters = compiled(launch, int(load_gpu(gpu).arch.removeprefix("sm_")))
    arguments: list[Argument | int | float] = []
    for name in parameters:
        value = launch.arguments[name]
        arguments.append(Argument(name, value.numel() * value.element_size()) if isinstance(value, torch.Tensor)
                         else value)
    return (_read(code.asm["cubin"]),
            Called((1, 1, 1), launch.warps, tuple(arguments), int(code.metadata.shared)))


def lifted(gpu: str, launch: Launch, grid: tuple[int, ...], flops: int = 0) -> Compiled:
    """Return *launch* over *grid*, compiled and lifted for *gpu*.

    Prices are in cycles with all data at hand, so that GPUs that differ in clock and memory only share them. Raises
    ProgramError where the kernel cannot be lifted.
    """
    began = time.perf_counter()
    kernel, called = machine_code(launch, gpu)
    x, y, z = (*grid, 1, 1)[:3]
    program = lifted_program(kernel, replace(called, grid=(x, y, z)), load_gpu(gpu))
    return Compiled(with_useful_flops(program, flops), kernel.registers, kernel.stack_bytes,
                    time.perf_counter() - began)


def tensor(*shape: int, dtype: str = "float16") -> Any:
    """Return a tensor without contents, of any size."""
    import torch

    return torch.empty(*shape, dtype=getattr(torch, dtype), device="meta")


def _first(act: Callable[[], object]) -> Launch:
    return captured(act)[0]


def attention_flops(batch: int, heads: int, seq: int, d: int, causal: bool) -> int:
    """Return the FLOPs of both products, halved for causal ones as the published figures count them."""
    return 4 * batch * heads * seq * seq * d // (2 if causal else 1)


def attention(gpu: str, shape: Sequence[int], causal: bool, options: Options) -> Compiled:
    """Return FP16 attention of *shape* (batch, heads, KV heads, tokens, d) for *gpu*."""
    from kernels.ops.flash import flash_prefill

    batch, heads, kv_heads, seq, d = shape
    q, k = tensor(batch, heads, seq, d), tensor(batch, kv_heads, seq, d)
    launch = _first(lambda: flash_prefill(q, k, k, causal, options))
    return lifted(gpu, launch, (-(-seq // options["block_m"]), heads, batch),
                  attention_flops(batch, heads, seq, d, causal))


def turbo(gpu: str, shape: Sequence[int], causal: bool, options: Options) -> Compiled:
    """Return INT8 attention of *shape* with K and V quantised beforehand, blocks of 64 keys."""
    from kernels.ops.turbo import PREFILL_DEFAULTS, Int8KV, turbo_prefill

    batch, heads, kv_heads, seq, d = shape
    q = tensor(batch, heads, seq, d)
    kv = Int8KV(seq, 64, tensor(batch, kv_heads, seq, d, dtype="int8"), tensor(batch, kv_heads, d, seq, dtype="int8"),
                tensor(batch, kv_heads, seq // 64), tensor(batch, kv_heads, seq // 64))
    launch = _first(lambda: turbo_prefill(q, kv, causal, options))
    return lifted(gpu, launch, (-(-seq // {**PREFILL_DEFAULTS, **options}["block_m"]), heads, batch),
                  attention_flops(batch, heads, seq, d, causal))
