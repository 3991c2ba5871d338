"""Compile a Triton function for a GPU that need not be present; the result is kept by content."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.files import write_whole
from turbosim.hw.document import shown
from turbosim.sass.source import Source
from turbosim.sass.specialise import TensorDescriptor, interpreted, kind_of, specialised, triton_compile

_FORMAT = 2


@dataclass(frozen=True)
class Compiled:
    """A kernel's machine code."""

    cubin: bytes
    smem_bytes: int
    """Dynamic shared memory per CTA."""
    parameters: tuple[str, ...]
    """Names of the parameters that the machine code has, in order."""
    scalars: Mapping[str, Any]
    """Defaults of those that were not given."""
    boxes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What one copy of each tensor descriptor among the parameters moves [elements], at most a block."""


def cache_directory(kind: str = "cubins") -> Path:
    """Return where compiled kernels, or another *kind*, are kept: TURBOSIM_CACHE_DIR, or the user's cache directory."""
    given = os.environ.get("TURBOSIM_CACHE_DIR")
    if given:
        return Path(given) / kind
    from platformdirs import user_cache_path

    return user_cache_path("turbosim", appauthor=False) / kind


def compile_kernel(source: Source, arguments: Mapping[str, Any], constants: Mapping[str, Any], capability: int,
                   options: Mapping[str, int]) -> Compiled:
    """Return *source* compiled for compute *capability* (80, 90 ...).

    *arguments* are :class:`turbosim.sass.specialise.Pointer`, ``TensorDescriptor``, numbers or None, *constants* the
    values of ``constexpr`` parameters, both by name. Raises UsageError where Triton is missing, interprets or does not
    know the target, ParameterError where the arguments are not the function's; ConfigError for a file that cannot be
    imported and a kernel that does not compile.
    """
    if interpreted():
        raise UsageError("TRITON_INTERPRET is set, which replaces the compiler by an interpreter; unset it to read "
                         "machine code")
    entry = cache_directory() / f"{_key(source, arguments, constants, capability, options)}.cubin"
    if (kept := _read(entry)) is not None:
        return kept
    made = _compile(source, {**arguments, **constants}, capability, options)
    # A cache that cannot be written costs time only.
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_whole(entry, _packed(made))
    return made


def triton_version() -> str:
    """Return the version of the Triton that is installed. Raises UsageError without one."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton")
    except PackageNotFoundError:
        raise UsageError("compiling a kernel needs Triton, which is not installed: pip install 'turbosim[kernels]'"
                         ) from None


def _key(source: Source, arguments: Mapping[str, Any], constants: Mapping[str, Any], capability: int,
         options: Mapping[str, int]) -> str:
    """Return the name that the result is kept under.

    Numbers count as they are specialised, so that one entry serves all lengths that compile alike; what the function
    says about its parameters is in its source.
    """
    what = [_FORMAT, triton_version(), source.digest(), source.module, source.function, capability,
            sorted(options.items()), sorted((name, kind_of(value)) for name, value in arguments.items()),
            sorted((name, repr(value)) for name, value in constants.items()),
            os.environ.get("TRITON_DEFAULT_FP_FUSION")]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _compile(source: Source, arguments: Mapping[str, Any], capability: int, options: Mapping[str, int]) -> Compiled:
    function = source.load()
    _check_names(source, function, arguments)
    chosen = specialised(function, arguments)
    try:
        with _silent():
            code = triton_compile(function, chosen, capability, options)
    except Exception as error:
        raise _explained(error, source, capability) from None
    defaults = {p.name: p.default for p in function.params
                if p.name in chosen.parameters and p.name not in arguments}
    described = [n for n in chosen.parameters if isinstance(arguments.get(n), TensorDescriptor)]
    if described and not code.metadata.tensordesc_meta:
        raise UsageError(f"{source.where}: argument {described[0]!r} is a tensor descriptor, which Triton compiles to "
                         f"bulk copies from sm_90 on, and the GPU is sm_{capability}; choose another GPU or pass a "
                         "pointer")
    boxes = {n: tuple(int(side) for side in meta["block_size"])
             for n, meta in zip(described, code.metadata.tensordesc_meta if described else (), strict=True)}
    return Compiled(code.asm["cubin"], int(code.metadata.shared), chosen.parameters, defaults, boxes)


class ParameterError(UsageError):
    """Arguments or constants that are not the function's; *field* leads to them in a launch description."""

    def __init__(self, message: str, field: tuple[str, ...]) -> None:
        super().__init__(message)
        self.field = field


def _check_names(source: Source, function: Any, arguments: Mapping[str, Any]) -> None:
    names = [p.name for p in function.params]
    for name in arguments:
        if name not in names:
            raise ParameterError(f"{source.where} has no parameter {name!r}; it has {', '.join(names)}"
                                 f"{did_you_mean(name, names)}", (name,))
    absent = [p.name for p in function.params if p.name not in arguments and not p.has_default]
    if absent:
        kinds = {p.name: "constants" if p.is_constexpr else "arguments" for p in function.params}
        under = sorted({kinds[n] for n in absent})
        raise ParameterError(f"{', '.join(absent)} missing, parameters of {source.where}; give them under "
                             f"{' and '.join(under)}", ())


def _explained(error: Exception, source: Source, capability: int) -> ConfigError | UsageError:
    """Return the error in one line, with the place in the file where Triton tells one."""
    from triton.compiler.errors import CompilationError

    text = str(error)
    if "is not defined for option 'gpu-name'" in text:
        return UsageError(f"{source.where}: Triton {triton_version()} cannot compile for sm_{capability}")
    if isinstance(error, CompilationError):
        inner: BaseException = error
        while isinstance(inner.__cause__, CompilationError):
            # The innermost call is where it went wrong.
            inner = inner.__cause__
        assert isinstance(inner, CompilationError)
        reason = str(inner.error_message or inner.__cause__ or "").strip().splitlines()
        where = _place(source, inner)
        return ConfigError(f"{where}: does not compile: {reason[0] if reason else type(inner).__name__}")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = next((line for line in lines if "fatal" in line or "error   " in line), lines[0] if lines else "")
    return ConfigError(f"{source.where}: does not compile for sm_{capability}: {fatal or type(error).__name__}")


def _place(source: Source, error: Any) -> str:
    """Return file:line:col of a compilation error, whose lines count from the function's."""
    line, column = getattr(error.node, "lineno", None), getattr(error.node, "col_offset", 0)
    if line is None or error.src is None:
        return source.where
    whole = source.path.read_text(encoding="utf-8")
    begin = whole.find(error.src)
    if begin < 0:
        return f"{source.where}: line {line} of a function it calls"
    return f"{shown(source.path)}:{whole[:begin].count(chr(10)) + line}:{column + 1}"


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what compilers print, on the descriptors themselves, away from the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(kept, 1):
                os.dup2(copy, number)
                os.close(copy)


def _packed(made: Compiled) -> bytes:
    header = {"smem_bytes": made.smem_bytes, "parameters": made.parameters, "scalars": dict(made.scalars),
              "boxes": dict(made.boxes),
              "sha256": hashlib.sha256(made.cubin).hexdigest()}
    return json.dumps(header).encode() + b"\n" + made.cubin


def _read(entry: Path) -> Compiled | None:
    """Return what is kept in *entry*; None where there is nothing, or it is damaged."""
    try:
        head, _, cubin = entry.read_bytes().partition(b"\n")
        header = json.loads(head)
        if header["sha256"] != hashlib.sha256(cubin).hexdigest():
            return None
        boxes = {name: tuple(box) for name, box in header["boxes"].items()}
        return Compiled(cubin, header["smem_bytes"], tuple(header["parameters"]), header["scalars"], boxes)
    except (OSError, ValueError, KeyError, TypeError):
        return None
