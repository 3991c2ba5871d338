"""Which KV heads get two bits: TurboAttention's head-wise mixed precision."""

from __future__ import annotations

import torch
from torch import Tensor

from turbosim.errors import UsageError


def priority(keys: Tensor, values: Tensor) -> Tensor:
    """Return gap * deviation of every head, from keys and values of shape (..., heads, tokens, channels).

    A channel's gap is its largest minus its smallest value over tokens (and leading dimensions); a head's gap is the
    largest minus the smallest value over all its channels, its deviation that of the channel gaps. A head stores K and
    V with the same bits, so the channels of both count.
    """
    both = torch.cat((keys, values), dim=-1).float()
    heads = both.movedim(-3, 0).flatten(1, -2)
    low, high = heads.amin(dim=1), heads.amax(dim=1)
    return (high.amax(dim=-1) - low.amin(dim=-1)) * (high - low).std(dim=-1, correction=0)


def mixed_bits(keys: Tensor, values: Tensor, two_bit_heads: int | None = None) -> tuple[int, ...]:
    """Return 2 for the *two_bit_heads* heads of lowest priority (None: half) and 4 for the others.

    Raises UsageError when there are not that many heads.
    """
    heads = keys.shape[-3]
    count = heads // 2 if two_bit_heads is None else two_bit_heads
    if not 0 <= count <= heads:
        raise UsageError(f"two_bit_heads must be 0 to {heads}, got {count}")
    order = torch.argsort(priority(keys, values), stable=True)[:count].tolist()
    return tuple(2 if head in order else 4 for head in range(heads))
