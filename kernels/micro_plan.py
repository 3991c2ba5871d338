"""Host side of the micro-benchmarks: inputs, launch arguments and the results to expect, computed with torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from kernels import micro
from kernels.case import Check, Prepared
from turbosim.errors import UsageError

Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """One launch of a kernel of :mod:`kernels.micro`."""

    kernel: Any
    grid: int
    arguments: Mapping[str, Any]
    """Tensors and integers by parameter name."""
    constants: Mapping[str, Any]
    """Compile-time constants by parameter name."""
    warps: int
    output: torch.Tensor
    """The argument that the kernel writes."""
    reference: Callable[[], torch.Tensor]
    """What *output* must hold, to be broadcast over CTAs; NaN where the kernel must not write."""
    tolerance: float = 0.0
    """Largest relative L2 deviation; 0 asks for equality."""

    def launch(self) -> list[Any]:
        """Enqueue the kernel; returns triton's compiled kernel, or nothing in interpreter mode."""
        made = self.kernel[(self.grid,)](**self.arguments, **self.constants, num_warps=self.warps)
        return [] if made is None else [made]

    def check(self) -> Check:
        """Poison the output, run once, compare."""
        self.output.fill_(math.nan)
        self.launch()
        expected = self.reference().to(self.output).expand_as(self.output)
        if bool((torch.isnan(self.output) != torch.isnan(expected)).any()):
            error = math.nan
        elif self.tolerance:
            error = float((self.output - expected).norm() / expected.norm())
        else:
            # Not by index, which would take several times the memory of the largest copies.
            wrong = (self.output != expected).logical_and_(~torch.isnan(expected))
            error = float(wrong.sum() / self.output.numel())
        return Check(error, self.tolerance,
                     "relative L2 of the checksums" if self.tolerance else "share of outputs that differ")

    def prepared(self, flops: int) -> Prepared:
        """Return what the harness runs; the arguments are each moved once."""
        tensors = [] if self.kernel is micro.empty_kernel else [
            t for t in self.arguments.values() if isinstance(t, torch.Tensor)]
        return Prepared(self.launch, self.check, flops, sum(t.nbytes for t in tensors))


def _generator(seed: int, device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _checksums(count: int, device: str) -> torch.Tensor:
    return torch.empty(count, dtype=torch.float64, device=device)


def empty(sizes: Sizes, options: Mapping[str, Any], device: str, _seed: int) -> Plan:
    """One untouched number a CTA."""
    out = _checksums(sizes["ctas"], device)
    return Plan(micro.empty_kernel, sizes["ctas"], {"out_ptr": out}, {}, options["warps"], out,
                lambda: torch.tensor(math.nan))


def copy(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Random float32 numbers into a second buffer."""
    n = sizes["nbytes"] // 4
    x = torch.rand(n, generator=_generator(seed, device), device=device)
    y = torch.empty_like(x)
    return Plan(micro.copy_kernel, -(-n // options["block"]), {"x_ptr": x, "y_ptr": y, "n": n},
                {"block": options["block"]}, options["warps"], y, lambda: x)


def l2_read(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Small whole numbers, so that sums in float32 stay exact for long."""
    block, ctas = options["block"], sizes["ctas"]
    blocks = sizes["nbytes"] // (4 * block)
    total = sizes["passes"] * blocks
    x = torch.randint(8, (blocks * block,), generator=_generator(seed, device), device=device).float()
    out = _checksums(ctas, device)

    def reference() -> torch.Tensor:
        of_blocks = x.view(blocks, block).double().sum(1)
        reads = torch.arange(total, device=device)
        return torch.zeros_like(out).index_add_(0, reads % ctas, of_blocks[reads % blocks])

    return Plan(micro.l2_read_kernel, ctas, {"x_ptr": x, "out_ptr": out, "total": total, "ctas": ctas,
                                             "step": ctas % blocks, "blocks": blocks},
                {"block": block}, options["warps"], out, reference, 1e-5)


def tile_read(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Small whole numbers, so that sums in float32 stay exact for long."""
    ctas, rows, width = sizes["ctas"], sizes["rows"], sizes["piece"] // 4
    x = torch.randint(8, (ctas * rows, sizes["depth"] // 4), generator=_generator(seed, device), device=device).float()
    out = _checksums(ctas, device)
    return Plan(micro.tile_read_kernel, ctas,
                {"x_ptr": x, "out_ptr": out, "depth": x.shape[1], "turns": x.shape[1] // width},
                {"rows": rows, "width": width, "stages": options["stages"]}, options["warps"],
                out, lambda: x.view(ctas, -1).double().sum(1), 1e-5)


def smem(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """A tile of integers below 1024, whose products with positions fit 32 bits."""
    tile = options["tile"]
    x = torch.randint(1024, (tile, tile), generator=_generator(seed, "cpu"), dtype=torch.int32)
    out = _checksums(sizes["ctas"], device)

    def reference() -> torch.Tensor:
        moved = x.T if sizes["iterations"] % 2 else x
        return (moved.double().flatten() * torch.arange(tile * tile)).sum()

    return Plan(micro.smem_kernel, sizes["ctas"],
                {"x_ptr": x.to(device), "out_ptr": out, "iterations": sizes["iterations"]},
                {"tile": tile}, options["warps"], out, reference)


def _mma(sizes: Sizes, options: Mapping[str, Any], device: str, a: torch.Tensor, b: torch.Tensor,
         tolerance: float) -> Plan:
    out = torch.empty((sizes["ctas"], sizes["m"]), dtype=torch.float64, device=device)
    return Plan(micro.mma_kernel, sizes["ctas"],
                {"a_ptr": a.to(device), "b_ptr": b.to(device), "out_ptr": out,
                 "iterations": sizes["iterations"] // options["unroll"]},
                {"m": sizes["m"], "n": sizes["n"], "k": sizes["k"], "unroll": options["unroll"]}, options["warps"], out,
                lambda: (a.double() @ b.double().T).sum(1) * sizes["iterations"], tolerance)


def mma_fp16(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Normally distributed operands; tensor cores may truncate each sum, all to the same side."""
    generator = _generator(seed, "cpu")
    a, b = (torch.randn((sizes[rows], sizes["k"]), generator=generator).half() for rows in ("m", "n"))
    return _mma(sizes, options, device, a, b, 1e-4 + sizes["iterations"] * sizes["k"] / 8 * 2**-23)


def mma_int8(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Operands from -127 to 127; refuses more iterations than INT32 accumulators hold, since some paths saturate."""
    generator = _generator(seed, "cpu")
    a, b = (torch.randint(-127, 128, (sizes[rows], sizes["k"]), generator=generator, dtype=torch.int8)
            for rows in ("m", "n"))
    # Within the last product partial sums may exceed the final value by all positive terms.
    most = int((2**31 - 1 - sizes["k"] * 127**2) // (a.double() @ b.double().T).abs().max().clamp(min=1))
    if sizes["iterations"] > most:
        raise UsageError(f"micro-benchmark mma_int8: size 'iterations' is {sizes['iterations']}, would overflow the "
                         f"INT32 accumulators of this tile and seed; use at most {most}")
    return _mma(sizes, options, device, a, b, 0.0)


def _chain(kernel: Any, sizes: Sizes, options: Mapping[str, Any], device: str, x: torch.Tensor,
           step: Callable[[torch.Tensor], torch.Tensor], c: torch.Tensor | None = None, tolerance: float = 0.0) -> Plan:
    """Return a launch of *kernel* on the values *x* of one CTA, of which *step* is one iteration."""
    out = _checksums(sizes["ctas"], device)
    arguments = {"x_ptr": x.to(device), "out_ptr": out, "iterations": sizes["iterations"] // options["unroll"]}
    constants = {"block": x.numel(), "unroll": options["unroll"]}
    if c is not None:
        arguments["c_ptr"] = c.to(device)
    if "asm" in kernel.arg_names:
        constants["asm"] = not micro.INTERPRETED

    def reference() -> torch.Tensor:
        y = x
        for _ in range(sizes["iterations"]):
            y = step(y)
        return y.double().sum()

    return Plan(kernel, sizes["ctas"], arguments, constants, options["warps"], out, reference, tolerance)


def _values(sizes: Sizes, options: Mapping[str, Any], seed: int) -> torch.Tensor:
    """Uniform numbers from -1 to 1, one for each element of a CTA."""
    count = 32 * options["warps"] * sizes["elements"]
    return torch.rand(count, generator=_generator(seed, "cpu")) * 2 - 1


def exp2(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Exponents between -2 and 1."""
    x = _values(sizes, options, seed)
    return _chain(micro.exp2_kernel, sizes, options, device, x, lambda y: torch.exp2(-y), tolerance=1e-5)


def fma_fp16(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """A slowly shrinking oscillation; float64 holds the product and sum exactly, so the reference rounds once."""
    x = _values(sizes, options, seed).half()
    c = torch.tensor([-0.96875, 0.25], dtype=torch.float16)
    return _chain(micro.fma_fp16_kernel, sizes, options, device, x,
                  lambda y: (y.double() * c[0].double() + c[1].double()).half(), c, 1e-3)


def i2f(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Integers of both signs."""
    x = (_values(sizes, options, seed) * 2**20).to(torch.int32)
    return _chain(micro.i2f_kernel, sizes, options, device, x, lambda y: y.float().view(torch.int32))


def f2i(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Bits of float32 between 2**30 and 2**31."""
    c = torch.tensor([0x4E8D5A35], dtype=torch.int32)
    x = (_values(sizes, options, seed).abs() * (2**23 - 1)).to(torch.int32) ^ c
    return _chain(micro.f2i_kernel, sizes, options, device, x,
                  lambda y: (y.view(torch.float32).to(torch.int32) & 0x7FFFFF) ^ c, c)


def f2h(sizes: Sizes, options: Mapping[str, Any], device: str, seed: int) -> Plan:
    """Bits of float32 from -1 to 1."""
    x = _values(sizes, options, seed).view(torch.int32)
    c = torch.tensor([2.71])
    high = c.half().view(torch.int16).to(torch.int32) << 16
    return _chain(micro.f2h_kernel, sizes, options, device, x,
                  lambda y: high | (y.view(torch.float32).half().view(torch.int16).to(torch.int32) & 0xFFFF), c)
