"""What the interfaces share: lazy imports, argument checks, the split heuristic."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import Any

from turbosim.errors import TurbosimError, UsageError, did_you_mean

Options = Mapping[str, int | str | bool]

OFFSETS = 2**31
"""Offsets along the tokens of a head are 32-bit in the kernels; those of heads and sequences are 64-bit."""
GRID = 65535
"""CTAs in the second and third dimension of a grid: CUDA C++ Programming Guide, table of compute capabilities."""


LEAST = {"torch": (2, 11), "triton": (3, 6)}
"""Oldest versions the kernels are meant for."""


class MissingPackageError(TurbosimError):
    """A package the kernels need is not installed, or too old (exit code 2)."""

    exit_code = 2


def need_triton() -> None:
    """Raise MissingPackageError unless torch and triton can be imported, and numpy, which interprets kernels.

    Of torch and triton, versions before those in :data:`LEAST` are refused too.
    """
    for name in (*(("numpy",) if interpreted() else ()), "torch", "triton"):
        try:
            module = __import__(name)
        except ImportError as error:
            raise MissingPackageError(f"the kernels need {name}, which cannot be imported ({error}); "
                                      f"install it, for example with pip install {name}") from None
        check_version(name, getattr(module, "__version__", ""))


@functools.lru_cache
def check_version(name: str, version: str) -> None:
    """Raise MissingPackageError for a *version* of package *name* before that in :data:`LEAST`."""
    found = re.match(r"(\d+)\.(\d+)", version)
    least = LEAST.get(name)
    if least is not None and found is not None and (int(found[1]), int(found[2])) < least:
        raise MissingPackageError(f"{name} {version} is too old for the kernels; install {name} "
                                  f"{'.'.join(map(str, least))} or newer")


def interpreted() -> bool:
    """Whether triton runs kernels on the CPU, one operation at a time."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on")


def merged(kernel: str, defaults: Options, given: Options) -> dict[str, Any]:
    """Return *defaults* with *given* on top. Raises UsageError for an unknown option or a value of another type."""
    for name, value in given.items():
        if name not in defaults:
            raise UsageError(f"kernel {kernel!r} has no option {name!r}: it has {', '.join(defaults)}"
                             f"{did_you_mean(name, defaults)}")
        if type(value) is not type(defaults[name]):
            raise UsageError(f"kernel {kernel!r}: option {name} is of type {type(defaults[name]).__name__}, "
                             f"got {value!r}")
    return {**defaults, **given}


def check_power_of_two(kernel: str, least: int, most: int, **values: int) -> None:
    """Raise UsageError for a value that is no power of two in the range, which Triton's tiles need."""
    for name, value in values.items():
        if value < least or value > most or value & (value - 1):
            raise UsageError(f"kernel {kernel!r}: {name} must be a power of two from {least} to {most}, got {value}")


def check_choice(kernel: str, name: str, value: Any, known: Any) -> None:
    """Raise UsageError for a value that is not among *known*."""
    if value not in known:
        raise UsageError(f"kernel {kernel!r}: {name} is one of {', '.join(map(str, known))}, got {value!r}"
                         f"{did_you_mean(str(value), map(str, known))}")


def check_attention(kernel: str, q: Any, k: Any, v: Any) -> None:
    """Raise UsageError unless q (B, Hq, M, d), k and v (B, Hkv, N, d) are FP16 tensors that fit together.

    Without queries k stands for q as well, without keys q for k and v.
    """
    import torch

    named = [("q", q)] if k is q and v is q else [("k", k), ("v", v)] if k is q else [("q", q), ("k", k), ("v", v)]
    for name, x in named:
        if x.dtype != torch.float16:
            raise UsageError(f"kernel {kernel!r}: {name} must be float16, got {x.dtype}")
        if x.dim() != 4 or x.stride(-1) != 1:
            raise UsageError(f"kernel {kernel!r}: {name} must be (batch, heads, tokens, channels) with neighbouring "
                             f"channels, got shape {tuple(x.shape)} and strides {x.stride()}")
        if not x.numel():
            raise UsageError(f"kernel {kernel!r}: {name} of shape {tuple(x.shape)} is empty; every dimension must be "
                             "at least 1")
        if x.device != q.device:
            raise UsageError(f"kernel {kernel!r}: {name} is on {x.device}, q on {q.device}")
    if k.shape != v.shape or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise UsageError(f"kernel {kernel!r}: shapes do not fit: q {tuple(q.shape)}, k {tuple(k.shape)}, "
                         f"v {tuple(v.shape)}")
    if q.shape[1] % k.shape[1]:
        raise UsageError(f"kernel {kernel!r}: query heads must be a multiple of KV heads, got {q.shape[1]} and "
                         f"{k.shape[1]}")
    check_power_of_two(kernel, 16, 128, head_dim=q.shape[3])
    for name, x in named:
        check_grid(kernel, **{f"batch of {name}": x.shape[0], f"heads of {name}": x.shape[1]})
        check_offsets(kernel, name, x)


def check_offsets(kernel: str, name: str, x: Any) -> None:
    """Raise UsageError where a 32-bit offset into x (batch, heads, tokens, channels) could overflow.

    Of one query per sequence the heads are what other tensors' tokens are: rows of a tile.
    """
    what, dim = ("heads", 1) if x.shape[2] == 1 else ("tokens", 2)
    # Outputs and INT8 copies are contiguous whatever the stride here.
    step = max(x.stride(dim), x.shape[3])
    if x.shape[dim] * step >= OFFSETS:
        raise UsageError(f"kernel {kernel!r}: {name} of shape {tuple(x.shape)} needs offsets of {x.shape[dim] * step} "
                         f"elements ({x.shape[dim]} {what} {step} apart), and they are 32-bit, below {OFFSETS}; use "
                         f"{'a contiguous tensor' if step > x.shape[3] else f'at most {(OFFSETS - 1) // step} {what}'}")


def check_grid(kernel: str, **counts: int) -> None:
    """Raise UsageError for more CTAs than a grid can have in its second or third dimension."""
    for name, count in counts.items():
        if count > GRID:
            raise UsageError(f"kernel {kernel!r}: {name} is {count}, and a grid has at most {GRID}; split the batch")


def check_output(kernel: str, name: str, x: Any, shape: tuple[int, ...], dtype: Any, device: Any) -> None:
    """Raise UsageError unless x is a tensor that a kernel may write *shape* of *dtype* to, channels side by side."""
    if tuple(x.shape) != shape or x.dtype != dtype or x.device != device or x.stride(-1) != 1:
        raise UsageError(f"kernel {kernel!r}: {name} must be {dtype} of shape {shape} on {device} with unit stride "
                         f"along the last dimension, got {x.dtype} of shape {tuple(x.shape)} on {x.device}")


def prefill_outputs(kernel: str, q: Any, out: Any, lse: Any) -> tuple[Any, Any]:
    """Return *out* (B, Hq, M, d) and *lse* (B, Hq, M), or new tensors. Raises UsageError where they do not fit."""
    import torch

    out = torch.empty_like(q) if out is None else out
    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device) if lse is None else lse
    check_output(kernel, "out", out, tuple(q.shape), q.dtype, q.device)
    check_output(kernel, "lse", lse, tuple(q.shape[:3]), torch.float32, q.device)
    if not lse.is_contiguous():
        raise UsageError(f"kernel {kernel!r}: lse must be contiguous, got shape {tuple(lse.shape)} and strides "
                         f"{lse.stride()}")
    return out, lse


def decode_output(kernel: str, q: Any, out: Any) -> Any:
    """Return *out*, or a new tensor of the shape of *q* (B, Hq, 1, d), as rows that follow each other.

    The kernel that merges splits takes no strides. Raises UsageError when *out* has others.
    """
    import torch

    if out is None:
        return torch.empty(q.shape, dtype=q.dtype, device=q.device)
    check_output(kernel, "out", out, tuple(q.shape), q.dtype, q.device)
    if not out.is_contiguous():
        raise UsageError(f"kernel {kernel!r}: out must be contiguous, got shape {tuple(out.shape)} and strides "
                         f"{out.stride()}")
    return out


def split_count(device: Any, rows: int, tiles: int, per_sm: int = 2) -> int:
    """Return splits of *tiles* KV tiles for *rows* CTAs that fill the GPU once, *per_sm* CTAs an SM."""
    import torch

    sms = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
    return max(1, min(tiles, per_sm * sms // rows))
