"""What Triton compiles for given arguments, as a launch on a GPU would have it compiled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 16
"""Integers that it divides, and pointers that it aligns, are compiled for [byte]."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer to elements of a type, by Triton's name."""

    dtype: str


@dataclass(frozen=True, slots=True)
class TensorDescriptor:
    """A descriptor, made by the host, of a tensor of elements of a type; *block* is the shape of what it moves."""

    dtype: str
    block: tuple[int, ...]

    @property
    def kind(self) -> str:
        """Triton's name of its type."""
        return f"tensordesc<{self.dtype}[{', '.join(map(str, self.block))}]>"


@dataclass(frozen=True)
class Specialised:
    """Types and constants of a kernel's parameters, as ``triton.compiler.ASTSource`` takes them."""

    signature: Mapping[str, str]
    constants: Mapping[tuple[int, ...], Any]
    aligned: Mapping[tuple[int, ...], list[list[Any]]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters that machine code has: those that are not constants."""
        return tuple(name for name, kind in self.signature.items() if kind != "constexpr")


def specialised(function: Any, arguments: Mapping[str, Any]) -> Specialised:
    """Return what a ``JITFunction`` is compiled for with *arguments*: pointers, numbers and constants by name.

    As in a launch, integers of 1 and None become constants, and multiples of 16 are known as such. Parameters that are
    left out have their defaults.
    """
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    aligned: dict[tuple[int, ...], list[list[Any]]] = {}
    for number, parameter in enumerate(function.params):
        name = parameter.name
        value = arguments.get(name, parameter.default)
        free = not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (free and type(value) is int and value == 1):
            signature[name] = "constexpr"
            constants[number,] = value
            continue
        if isinstance(value, TensorDescriptor):
            signature[name] = value.kind
            continue
        if isinstance(value, Pointer):
            signature[name] = f"*{value.dtype}"
            whole = True
        else:
            signature[name] = parameter.annotation_type or _scalar(value)
            whole = type(value) is int and value % ALIGNMENT == 0
        if whole and free and not parameter.do_not_specialize_on_alignment:
            aligned[number,] = [["tt.divisibility", ALIGNMENT]]
    return Specialised(signature, constants, aligned)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "u1"
    if isinstance(value, float):
        return "fp32"
    return "i32" if -1 << 31 <= value < 1 << 31 else "i64" if value < 1 << 63 else "u64"


def kind_of(value: Any) -> str:
    """Return what :func:`specialised` sees of an argument; arguments of one kind compile alike."""
    if isinstance(value, Pointer):
        return f"*{value.dtype}"
    if isinstance(value, TensorDescriptor):
        return value.kind
    if type(value) is int:
        return "1" if value == 1 else _scalar(value) + ("/16" if value % ALIGNMENT == 0 else "")
    return "None" if value is None else _scalar(value)


def triton_compile(function: Any, source: Specialised, capability: int, options: Mapping[str, Any]) -> Any:
    """Return Triton's compiled kernel for compute *capability* (80, 90 ...). Raises as ``triton.compile`` does."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    chosen = dict(options)
    if "TRITON_DEFAULT_FP_FUSION" not in os.environ:
        # Triton's default, which it warns about where it is not said.
        chosen.setdefault("enable_fp_fusion", True)
    ast_source = ASTSource(function, dict(source.signature), dict(source.constants), dict(source.aligned))
    return triton.compile(ast_source, target=GPUTarget("cuda", capability, 32), options=chosen)


def interpreted() -> bool:
    """Return whether Triton is told to interpret kernels instead of compiling them."""
    text = os.environ.get("TRITON_INTERPRET", "")
    with suppress(ValueError):
        return int(text) != 0
    return text.lower() in ("true", "on", "yes", "y")
