"""From a launch description to a program: compile, read, lift."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.document import shown
from turbosim.hw.find import list_gpus
from turbosim.hw.spec import Gpu
from turbosim.program.occupancy import occupancy
from turbosim.program.program import Dim, Program, Role
from turbosim.program.program import Launch as ProgramLaunch
from turbosim.sass.bound import BYTES, Bound, Buffer
from turbosim.sass.compile import Compiled, ParameterError, compile_kernel
from turbosim.sass.cubin import Kernel, read_cubin
from turbosim.sass.cubin_launch import read_code
from turbosim.sass.description import NOUN, Description
from turbosim.sass.description_file import read_description
from turbosim.sass.expressions import Value
from turbosim.sass.kept import lifted_program
from turbosim.sass.launch import Launch, Tensor, Tiles
from turbosim.sass.lift import ClockName, Lifted, lift
from turbosim.sass.origin import COSTS, GPU, costs_digest
from turbosim.sass.source import parse_reference
from turbosim.sass.specialise import Pointer, TensorDescriptor

DEFAULT_GPUS = {80: "a100_sxm_80gb", 86: "rtx_3090", 89: "rtx_4090", 90: "h100_sxm", 100: "b200", 120: "rtx_5090"}
"""The GPU that stands for a target."""


@dataclass(frozen=True)
class Prepared:
    """A compiled kernel and its launch."""

    bound: Bound
    compiled: Compiled
    kernel: Kernel
    launch: Launch

    def check_fits(self, gpu: Gpu) -> None:
        """Raise ProgramError, saying by how much, when one CTA is too large for an SM of *gpu*."""
        role = Role("warps", self.launch.warps, ())
        dims = tuple(Dim(name, size) for name, size in zip("xyz", self.launch.grid, strict=True))
        occupancy(gpu, ProgramLaunch(self.kernel.name, dims, (role,), registers_per_thread=self.kernel.registers,
                                     smem_bytes=self.kernel.smem_bytes + self.launch.smem_bytes))


def find_description(text: str, launch: Path | None = None, replaced: Collection[str] = ()) -> Description:
    """Return the description that *text* names: a YAML file, FILE.py:FUNCTION or FILE.cubin.

    That of FILE.py:FUNCTION is *launch*, or FILE.FUNCTION.yaml beside it, that of FILE.cubin FILE.yaml. Settings give
    the names *replaced* other values than the file. Raises UsageError for other forms and where there is none,
    ConfigError for a file with defects.
    """
    if text.endswith((".yaml", ".yml")):
        if launch is not None:
            raise UsageError(f"--launch-file: {text} is a {NOUN} already; drop one of the two")
        return read_description(Path(text), replaced)
    if text.endswith(".cubin"):
        beside = Path(text).with_suffix(".yaml")
        if not Path(text).is_file():
            raise ConfigError(f"{text}: no such file")
    else:
        source = parse_reference(text)
        beside = source.path.with_name(f"{source.path.stem}.{source.function}.yaml")
    if launch is None and not beside.is_file():
        if not text.endswith(".cubin"):
            source.check_defined()
        raise UsageError(f"{text}: needs a {NOUN}: write {shown(beside)}, or name one with --launch-file")
    found = read_description(launch or beside, replaced)
    return found.with_code(cubin=text) if text.endswith(".cubin") else found.with_code(kernel=text)


def capability_of(target: str) -> int:
    """Return 80 for ``sm_80``, ``sm80`` and ``80``; an ``a`` at the end is allowed. Raises UsageError.

    No other target is suggested for a number: code for one is none for the other.
    """
    digits = target.lower().removeprefix("sm").removeprefix("_").removesuffix("a")
    if not digits.isdecimal() or int(digits) not in DEFAULT_GPUS:
        known = [f"sm_{n}" for n in DEFAULT_GPUS]
        if digits.isdecimal():
            raise UsageError(f"target {target!r}: no instruction table says what its instructions cost; there are "
                             f"tables of {', '.join(known)}")
        raise UsageError(f"target {target!r}: must be a compute capability as sm_90, one of {', '.join(known)}"
                         f"{did_you_mean(target, known)}")
    return int(digits)


def gpu_for(target: str | None, hw: str | None) -> str:
    """Return the name or file of the GPU that *target* and *hw* mean. Raises UsageError where they say nothing."""
    if hw is not None:
        return hw
    if target is None:
        raise UsageError(f"name the GPU with --hw ({', '.join(list_gpus()[:3])} ...) or a target with --target sm_90")
    return DEFAULT_GPUS[capability_of(target)]


def capability(gpu: Gpu, target: str | None = None) -> int:
    """Return the compute capability of *gpu*. Raises UsageError where *target* is another."""
    found = capability_of(gpu.arch)
    if target is not None and capability_of(target) != found:
        raise UsageError(f"--target: {gpu.name} is {gpu.arch} and does not run code for {target}; drop --target, or "
                         "name a GPU of that target")
    return found


def prepare(description: Description, gpu: Gpu, settings: Mapping[str, Value] | None = None) -> Prepared:
    """Compile the kernel of *description* for *gpu*, or read it from its cubin.

    Raises as :meth:`~turbosim.sass.description.Description.bind`, :func:`turbosim.sass.compile.compile_kernel`,
    :func:`turbosim.sass.cubin.read_cubin` and :func:`turbosim.sass.cubin_launch.read_code`.
    """
    bound = description.bind(settings)
    if description.cubin:
        code, kernel, launch = read_code(description, bound, gpu.name, capability(gpu))
        return Prepared(bound, code, kernel, launch)
    both = [name for name in bound.arguments if name in bound.constants]
    if both:
        raise ConfigError(f"{description.where(('arguments', both[0]))}: is among the constants too; drop one")
    source = parse_reference(bound.kernel)
    arguments = {n: _typed(v) for n, v in bound.arguments.items()}
    try:
        compiled = compile_kernel(source, arguments, bound.constants, capability(gpu), bound.options)
    except ParameterError as error:
        section = "constants" if error.field and error.field[0] in bound.constants else "arguments"
        raise ConfigError(f"{description.where((section, *error.field))}: {error}") from None
    kernel = read_cubin(compiled.cubin, source=source.where, trusted=True)
    given = [bound.arguments[n] if n in bound.arguments else compiled.scalars[n] for n in compiled.parameters]
    passed = tuple(p for n, v in zip(compiled.parameters, given, strict=True) for p in _passed(n, v, compiled))
    # Warps beyond those asked for are added by the compiler where it specialises warps.
    warps = bound.options["num_warps"] if kernel.threads is None else kernel.threads // 32
    return Prepared(bound, compiled, kernel, Launch(bound.grid, warps, passed, compiled.smem_bytes))


def _typed(value: Buffer | Value) -> Any:
    """Return what an argument is compiled for."""
    if not isinstance(value, Buffer):
        return value
    return Pointer(value.dtype) if value.block is None else TensorDescriptor(value.dtype, value.block)


def _passed(name: str, value: Any, compiled: Compiled) -> Sequence[Any]:
    """Return the parameters of the machine code for an argument: of a descriptor its shape and strides follow it."""
    if not isinstance(value, Buffer):
        return [value]
    tensor = Tensor(name, value.nbytes)
    if value.block is None:
        return [tensor]
    strides = [math.prod(value.shape[n + 1:]) for n in range(len(value.shape))]
    return [Tiles(tensor, BYTES[value.dtype], value.shape, compiled.boxes[name]), *value.shape, *strides]


def lifted(prepared: Prepared, gpu: Gpu, clock: ClockName = "sustained") -> Lifted:
    """Return *prepared* as a program for *gpu*, which says what it was lifted from. Raises as lift()."""
    prepared.check_fits(gpu)
    found = lift(prepared.kernel, prepared.launch, gpu, clock)
    return replace(found, program=_signed(found.program, prepared.bound, gpu))


def program_of(prepared: Prepared, gpu: Gpu, clock: ClockName = "sustained") -> Program:
    """Return the program of :func:`lifted` alone, from the cache if it was lifted before. Raises as lift()."""
    prepared.check_fits(gpu)
    return _signed(lifted_program(prepared.kernel, prepared.launch, gpu, clock), prepared.bound, gpu)


def _signed(program: Program, bound: Bound, gpu: Gpu) -> Program:
    meta = {**program.meta, GPU: gpu.name, COSTS: costs_digest(gpu),
            **{n: v for n, v in bound.values.items() if v is not None}}
    return replace(program, useful_flops=bound.flops, meta=meta)
