"""A launch of machine code from a file: arguments of the description, in order, for the parameters that a cubin has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from turbosim.errors import ConfigError, ProgramError, UsageError
from turbosim.sass.bound import BYTES, Bound, Buffer
from turbosim.sass.compile import Compiled
from turbosim.sass.cubin import Kernel, Parameter, read_cubin
from turbosim.sass.description import Description
from turbosim.sass.evaluate import walk
from turbosim.sass.expressions import Value
from turbosim.sass.launch import Launch, Tensor, Tiles
from turbosim.sass.semantics import LANES
from turbosim.sass.tensor_map import NBYTES

_POINTER = 8
_CONSTANT = re.compile(r"c\[0x0\]\[(0x[0-9a-f]+)\]")


def read_code(description: Description, bound: Bound, gpu: str, capability: int) -> tuple[Compiled, Kernel, Launch]:
    """Return the code of *description*'s cubin for *gpu* of compute *capability*, its kernel, and *bound* as a launch.

    Raises ConfigError, with the place in the description, for a file that is no cubin or of another architecture, and
    for arguments, warps and shared memory that are not those of the code.
    """
    at = description.where(("cubin",))
    try:
        data = Path(description.cubin).read_bytes()
    except OSError as error:
        raise ConfigError(f"{at}: {description.cubin}: {error.strerror}") from None
    try:
        kernel = read_cubin(data, description.entry or None, description.cubin)
    except UsageError as error:
        raise ConfigError(f"{description.where(('entry',))}: {error}") from None
    if kernel.capability != capability:
        raise ConfigError(f"{at}: {description.cubin} is code for sm_{kernel.capability}, and {gpu} is "
                          f"sm_{capability}; name a GPU of sm_{kernel.capability}, or compile for sm_{capability}")
    arguments = _arguments(description, bound, kernel)
    launch = Launch(bound.grid, _warps(description, bound, kernel), arguments, bound.smem_bytes)
    _check_shared(description, kernel, launch)
    return Compiled(data, bound.smem_bytes, tuple(bound.arguments), {}), kernel, launch


def _arguments(description: Description, bound: Bound, kernel: Kernel) -> tuple[Any, ...]:
    """Return what the parameters of *kernel* are given. Raises ConfigError for a number and for sizes that differ."""
    given, parameters = list(bound.arguments.items()), kernel.parameters
    sizes = ", ".join(str(p.size) for p in parameters) or "none"
    has = f"{kernel.name} of {description.cubin} has {len(parameters)} parameters, of these bytes: {sizes}"
    where = description.where(("arguments",))
    if len(given) > len(parameters):
        raise ConfigError(f"{where}: are {len(given)}, and {has}")
    read = {int(x, 16) - kernel.parameter_base for i in kernel.instructions for o in i.operands
            for x in _CONSTANT.findall(o.text)}
    for number, left in enumerate(parameters[len(given):], len(given)):
        # Compilers add pointers at the end, as Triton does to scratch memory, which most code does not read.
        if left.size != _POINTER or len(parameters) - len(given) > 2 or any(
                left.offset <= at < left.offset + left.size for at in read):
            raise ConfigError(f"{where}: are {len(given)}, and {has}; parameter {number + 1} is missing (a pointer "
                              "that the compiler has added may be given as 0)")
    for number, (name, value) in enumerate(given):
        if problem := _mismatch(value, parameters[number]):
            raise ConfigError(f"{description.where(('arguments', name))}: {problem}; parameter {number + 1} of "
                              f"{len(parameters)} of {kernel.name} has {parameters[number].size} bytes")
    return tuple(_passed(name, value) for name, value in given)


def _mismatch(value: Buffer | Value, parameter: Parameter) -> str:
    """Return why *value* cannot be passed as *parameter*, or nothing."""
    size = parameter.size
    if isinstance(value, Buffer):
        needed = _POINTER if value.block is None else NBYTES
        kind = "tensor is passed as a pointer" if value.block is None else "tensor descriptor is passed as a map"
        return "" if size == needed else f"a {kind} of {needed} bytes"
    if value is None:
        return "is nothing, which has no place among parameters"
    if isinstance(value, float):
        return "" if size in (4, 8) else f"a number with a point, as {value}, has 4 or 8 bytes"
    assert isinstance(value, int)
    if size > _POINTER:
        return f"a number, as {value}, has at most {_POINTER} bytes"
    return "" if -(1 << 8 * size - 1) <= value < 1 << 8 * size else f"{value} needs more bytes"


def _passed(name: str, value: Any) -> Any:
    if not isinstance(value, Buffer):
        return value
    tensor = Tensor(name, value.nbytes)
    return tensor if value.block is None else Tiles(tensor, BYTES[value.dtype], value.shape, value.block)


def _warps(description: Description, bound: Bound, kernel: Kernel) -> int:
    """Return the warps of a CTA. Raises ConfigError where the code is for another number, or for any if none is given.
    """
    given = bound.options.get("num_warps")
    where = description.where(("num_warps",))
    if kernel.threads is None:
        most = LANES if kernel.most_threads is None else min(LANES, -(-kernel.most_threads // LANES))
        runs = (f"{kernel.name} of {description.cubin} runs with any number of warps"
                f"{'' if kernel.most_threads is None else f' up to {most}'}")
        if given is None:
            raise ConfigError(f"{where}: missing; {runs}")
        if given > most:
            if "num_warps" not in description.model_fields_set:
                raise UsageError(f"setting 'num_warps': is at most {most}, got {given}; {runs}")
            raise ConfigError(f"{where}: is at most {most}, got {given}; {runs}")
        return given
    if given is not None and given * LANES != kernel.threads:
        raise ConfigError(f"{where}: is {given}, and {kernel.name} of {description.cubin} was compiled for "
                          f"{kernel.threads // LANES}; drop it")
    return kernel.threads // LANES


def _check_shared(description: Description, kernel: Kernel, launch: Launch) -> None:
    """Raise ConfigError where the first warp touches more shared memory than the CTA has."""
    try:
        accesses = walk(kernel, launch, (0, 0, 0), 0).accesses
    except ProgramError:
        # What cannot be followed is told by the lift.
        return
    ends = [int(a.addresses.max()) + a.nbytes for a in accesses if a.space == "shared" and a.addresses is not None]
    has = kernel.smem_bytes + launch.smem_bytes
    if max(ends, default=0) > has:
        raise ConfigError(f"{description.where(('smem_bytes',))}: {kernel.name} touches shared memory up to byte "
                          f"{max(ends)}, and has {kernel.smem_bytes} of its own and {launch.smem_bytes} by the launch; "
                          "give its dynamic shared memory as smem_bytes")
