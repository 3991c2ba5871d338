"""What the interfaces share: lazy imports, argument checks, the split heuristic."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from turbosim.errors import TurbosimError, UsageError, did_you_mean

Options = Mapping[str, int | str | bool]


class MissingPackageError(TurbosimError):
    """A package the kernels need is not installed (exit code 1)."""


def need_triton() -> None:
    """Raise MissingPackageError unless torch and triton can be imported."""
    for name in ("torch", "triton"):
        try:
            __import__(name)
        except ImportError as error:
            raise MissingPackageError(f"the kernels need {name}, which cannot be imported ({error}); "
                                      f"install it, for example with pip install {name}") from None


def interpreted() -> bool:
    """Whether triton runs kernels on the CPU, one operation at a time."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


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
    """Raise UsageError unless q (B, Hq, M, d), k and v (B, Hkv, N, d) are FP16 tensors that fit together."""
    import torch

    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dtype != torch.float16:
            raise UsageError(f"kernel {kernel!r}: {name} must be float16, got {x.dtype}")
        if x.dim() != 4 or x.stride(-1) != 1:
            raise UsageError(f"kernel {kernel!r}: {name} must be (batch, heads, tokens, channels) with neighbouring "
                             f"channels, got shape {tuple(x.shape)} and strides {x.stride()}")
        if x.device != q.device:
            raise UsageError(f"kernel {kernel!r}: {name} is on {x.device}, q on {q.device}")
    if k.shape != v.shape or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise UsageError(f"kernel {kernel!r}: shapes do not fit: q {tuple(q.shape)}, k {tuple(k.shape)}, "
                         f"v {tuple(v.shape)}")
    if q.shape[1] % k.shape[1]:
        raise UsageError(f"kernel {kernel!r}: query heads must be a multiple of KV heads, got {q.shape[1]} and "
                         f"{k.shape[1]}")
    check_power_of_two(kernel, 16, 128, head_dim=q.shape[3])


def split_count(device: Any, rows: int, tiles: int, per_sm: int = 2) -> int:
    """Return splits of *tiles* KV tiles for *rows* CTAs that fill the GPU once, *per_sm* CTAs an SM."""
    import torch

    sms = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
    return max(1, min(tiles, per_sm * sms // rows))
