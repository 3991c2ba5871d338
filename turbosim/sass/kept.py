"""Lifted programs, kept on disk by the content of what they follow from."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path

from turbosim.errors import ConfigError
from turbosim.hw.spec import Gpu
from turbosim.program.program import Program
from turbosim.program.store import load, save
from turbosim.sass.compile import cache_directory
from turbosim.sass.cubin import Kernel
from turbosim.sass.launch import Launch
from turbosim.sass.lift import ClockName, lift
from turbosim.sass.tables import table_directory

_HARDWARE = {"arch", "sm", "pipes", "tensor", "l2", "hbm", "copy_engine", "barrier"}
"""Fields that prices may depend on."""


def lifted_program(kernel: Kernel, launch: Launch, gpu: Gpu, clock: ClockName = "sustained") -> Program:
    """Return *kernel* of *launch* on *gpu* as a program, from the cache if it is there. Raises as lift().

    Kernels that were not read from a cubin are not kept.
    """
    if not kernel.digest:
        return lift(kernel, launch, gpu, clock).program
    entry = cache_directory("programs") / f"{_key(kernel, launch, gpu, clock)}.trace.gz"
    # What cannot be read is made again, and what cannot be written costs time only.
    if entry.is_file():
        with suppress(ConfigError):
            return load(entry)
    made = lift(kernel, launch, gpu, clock).program
    with suppress(OSError, ConfigError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        save(made, entry)
    return made


def _key(kernel: Kernel, launch: Launch, gpu: Gpu, clock: ClockName) -> str:
    arguments = [[type(a).__name__, repr(a)] for a in launch.arguments]
    contents = [None if t.data is None else hashlib.sha256(t.data).hexdigest() for t in launch.tensors]
    what = [_code(), kernel.name, kernel.digest, launch.grid, launch.warps, launch.smem_bytes, arguments, contents,
            gpu.model_dump(mode="json", include=_HARDWARE), gpu.clock.hertz("boost" if clock == "power" else clock)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    """Return a digest of the code that lifts and of instruction tables: what older ones have made is no answer."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in ("sass", "program", "hw"):
        for source in sorted((package / folder).glob("*.py")):
            digest.update(source.read_bytes())
    for table in sorted(table_directory().glob("*.yaml")):
        digest.update(table.read_bytes())
    return digest.hexdigest()
