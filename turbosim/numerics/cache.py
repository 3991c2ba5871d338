"""FlashQ's KV cache: packed blocks of 4 or 2 bits per head, and an INT8 buffer of the newest tokens."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from turbosim.errors import UsageError
from turbosim.numerics.flashq import (
    BITS,
    INT8_RANGE,
    PackedChannels,
    compress,
    decompress,
    quantise_int8,
)
from turbosim.numerics.packing import pack, unpack

BLOCK = 64
"""Tokens of a block, and of the buffer (n_b of the paper)."""


class QuantizedKVCache:
    """K and V of one layer, quantised.

    Whole blocks are packed; the newest 1 to *block* tokens stay in INT8 under one *universal* scale per head, K and V.
    That scale is the largest among the earlier blocks' scales; new values beyond it are clamped, so that tokens in the
    buffer are never quantised again. The first tokens of an empty cache set it themselves. A full buffer is packed when
    the next token comes.

    Storage, for B sequences, H heads, d channels and room for N blocks (all on one device):

    ``k_codes``, ``v_codes``  uint8 (B, bytes): head h's blocks start at ``offsets[h]``, ``block * d * bits[h] / 8``
                              bytes each. K blocks are (tokens, d bits / 8), V blocks are transposed,
                              (d bits / 8, tokens), since the product with P runs along tokens.
    ``k_step``, ``v_step``    int8 (B, H, N, d): stage-2 scales; ``k_zero``, ``v_zero`` zero points
    ``k_scale``, ``v_scale``  float16 (B, H, N): stage-1 scales
    ``k_buffer``              int8 (B, H, block, d); ``v_buffer`` int8 (B, H, d, block)
    ``k_universal``, ``v_universal``  float16 (B, H)
    ``bits_table``, ``offsets_table``  int32, int64 (H): bits and offsets of the heads
    """

    def __init__(self, batch: int, bits: Sequence[int], head_dim: int, max_tokens: int, *, block: int = BLOCK,
                 device: str = "cpu") -> None:
        """Make room for *max_tokens* tokens; *bits* has an entry, 2 or 4, for every KV head.

        Raises UsageError for other bits, channels that do not fill bytes, or room for nothing.
        """
        if not bits or any(b not in BITS for b in bits):
            raise UsageError(f"bits has 2 or 4 for every KV head, got {list(bits)}")
        if head_dim % 4:
            raise UsageError(f"head_dim must be a multiple of 4 to pack 2-bit codes, got {head_dim}")
        for name, value in (("batch", batch), ("head_dim", head_dim), ("max_tokens", max_tokens), ("block", block)):
            if value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        self.bits, self.block, self.head_dim = tuple(bits), block, head_dim
        places = -(-max_tokens // block)
        self.max_tokens = places * block
        # The last tokens are in the buffer, never in a block.
        self.max_blocks = max(1, places - 1)
        self.blocks = 0
        self.held = 0
        sizes = [self.max_blocks * self.block_bytes(b) for b in bits]
        self.offsets = tuple(sum(sizes[:h]) for h in range(len(sizes)))
        heads = len(bits)
        # For kernels, so that a launch copies nothing to the device.
        self.bits_table = torch.tensor(self.bits, dtype=torch.int32, device=device)
        self.offsets_table = torch.tensor(self.offsets, dtype=torch.int64, device=device)

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.k_codes, self.v_codes = (zeros(batch, sum(sizes), dtype=torch.uint8) for _ in "kv")
        self.k_step, self.v_step, self.k_zero, self.v_zero = (
            zeros(batch, heads, self.max_blocks, head_dim, dtype=torch.int8) for _ in range(4))
        self.k_scale, self.v_scale = (zeros(batch, heads, self.max_blocks, dtype=torch.float16) for _ in "kv")
        self.k_buffer = zeros(batch, heads, block, head_dim, dtype=torch.int8)
        self.v_buffer = zeros(batch, heads, head_dim, block, dtype=torch.int8)
        self.k_universal, self.v_universal = (zeros(batch, heads, dtype=torch.float16) for _ in "kv")

    def block_bytes(self, bits: int) -> int:
        """Return the bytes of a block's codes, of K or of V."""
        return self.block * self.head_dim * bits // 8

    @property
    def tokens(self) -> int:
        """Tokens stored."""
        return self.blocks * self.block + self.held

    def prefill(self, keys: Tensor, values: Tensor) -> None:
        """Store a prompt: float (B, H, tokens, d) each, at least one token.

        Raises UsageError for other shapes, and when the cache is not empty or too small.
        """
        if self.tokens:
            raise UsageError(f"prefill needs an empty cache, this one holds {self.tokens} tokens")
        tokens = keys.shape[-2] if keys.dim() == 4 else 0
        if not tokens:
            raise UsageError(f"prefill takes keys (batch, heads, tokens, channels) of at least one token, got "
                             f"{tuple(keys.shape)}")
        self._check_shapes(keys, values, tokens)
        whole = (tokens - 1) // self.block
        if tokens > self.max_tokens:
            raise UsageError(f"the cache has room for {self.max_tokens} tokens, got {tokens}")
        for number in range(whole):
            part = slice(number * self.block, (number + 1) * self.block)
            k, v = quantise_int8(keys[..., part, :]), quantise_int8(values[..., part, :])
            self._store(k.codes, k.scale, v.codes, v.scale)
        rest = slice(whole * self.block, tokens)
        self._grow(keys[..., rest, :], values[..., rest, :])

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Store one token: float (B, H, d) each. Raises UsageError for other shapes, and when the cache is full."""
        self._check_shapes(keys, values)
        if self.held == self.block:
            if self.tokens == self.max_tokens:
                raise UsageError(f"the cache is full: it has room for {self.max_tokens} tokens")
            self.flush()
        self._grow(keys[..., None, :], values[..., None, :])

    def _check_shapes(self, keys: Tensor, values: Tensor, *tokens: int) -> None:
        """Raise UsageError unless both are of this cache's sequences, heads and channels, and of *tokens*."""
        want = (self.k_scale.shape[0], len(self.bits), *tokens, self.head_dim)
        for name, x in (("keys", keys), ("values", values)):
            if tuple(x.shape) != want:
                raise UsageError(f"{name} must be of shape {want}, got {tuple(x.shape)}")

    def flush(self) -> None:
        """Pack the buffer, which must be full, under its universal scale. Raises UsageError when it is not."""
        if self.held != self.block:
            raise UsageError(f"only a full buffer is packed: it holds {self.held} of {self.block} tokens")
        self._store(self.k_buffer, self.k_universal, self.v_buffer.transpose(-1, -2), self.v_universal)
        self.held = 0

    def _grow(self, keys: Tensor, values: Tensor) -> None:
        """Put tokens into the buffer, clamped to the universal scale."""
        for x, scale, blocks in ((keys, self.k_universal, self.k_scale), (values, self.v_universal, self.v_scale)):
            # Not set yet, or of a head that has held zeros only.
            fresh = scale == 0
            if bool(fresh.any()):
                own = (x.float().abs().amax(dim=(-2, -1)) / INT8_RANGE).half()
                known = blocks[:, :, :self.blocks].amax(dim=-1) if self.blocks else own
                scale.copy_(torch.where(fresh, torch.where(known > 0, known, own), scale))
        place = slice(self.held, self.held + keys.shape[-2])
        self.k_buffer[:, :, place] = quantise_int8(keys, self.k_universal).codes
        self.v_buffer[..., place] = quantise_int8(values, self.v_universal).codes.transpose(-1, -2)
        self.held += keys.shape[-2]

    def _store(self, keys: Tensor, k_scale: Tensor, values: Tensor, v_scale: Tensor) -> None:
        """Append a block of stage-1 codes (B, H, block, d)."""
        number = self.blocks
        self.k_scale[:, :, number], self.v_scale[:, :, number] = k_scale, v_scale
        for head, bits in enumerate(self.bits):
            size = self.block_bytes(bits)
            at = slice(self.offsets[head] + number * size, self.offsets[head] + (number + 1) * size)
            k, v = compress(keys[:, head], bits), compress(values[:, head], bits)
            self.k_codes[:, at] = pack(k.codes, bits).flatten(1)
            self.v_codes[:, at] = pack(v.codes, bits).transpose(-1, -2).flatten(1)
            self.k_step[:, head, number], self.k_zero[:, head, number] = k.scale, k.zero
            self.v_step[:, head, number], self.v_zero[:, head, number] = v.scale, v.zero
        self.blocks += 1

    def stage1(self, head: int, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return K and V of a block as INT8 codes (B, tokens, d), each with its scales (B,).

        Block number ``blocks`` is the buffer.
        """
        if number == self.blocks:
            k, v = self.k_buffer[:, head, :self.held], self.v_buffer[:, head, :, :self.held].transpose(-1, -2)
            return k, self.k_universal[:, head], v, self.v_universal[:, head]
        bits = self.bits[head]
        size, width = self.block_bytes(bits), self.head_dim * bits // 8
        at = slice(self.offsets[head] + number * size, self.offsets[head] + (number + 1) * size)
        k = unpack(self.k_codes[:, at].reshape(-1, self.block, width), bits)
        v = unpack(self.v_codes[:, at].reshape(-1, width, self.block).transpose(-1, -2), bits)
        return (decompress(PackedChannels(k, self.k_step[:, head, number], self.k_zero[:, head, number])),
                self.k_scale[:, head, number],
                decompress(PackedChannels(v, self.v_step[:, head, number], self.v_zero[:, head, number])),
                self.v_scale[:, head, number])

    def dequantised(self) -> tuple[Tensor, Tensor]:
        """Return K and V as stored, float32 (B, H, tokens, d)."""
        keys, values = [], []
        for head in range(len(self.bits)):
            parts = [self.stage1(head, n) for n in range(self.blocks + (self.held > 0))]
            keys.append(torch.cat([k.float() * s.float()[:, None, None] for k, s, _, _ in parts], dim=1))
            values.append(torch.cat([v.float() * s.float()[:, None, None] for _, _, v, s in parts], dim=1))
        return torch.stack(keys, dim=1), torch.stack(values, dim=1)

    def to(self, device: str) -> QuantizedKVCache:
        """Return a copy on *device*."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(other, name, value.to(device))
        return other

    def nbytes(self) -> int:
        """Return the bytes the stored tokens take: codes, steps, zero points, scales, and the whole buffer."""
        batch, heads = self.k_scale.shape[:2]
        codes = 2 * sum(self.block_bytes(b) for b in self.bits) * self.blocks
        per_block = 2 * heads * (2 * self.head_dim + 2) * self.blocks
        buffer = (self.k_buffer.nbytes + self.v_buffer.nbytes + self.k_universal.nbytes + self.v_universal.nbytes)
        return batch * (codes + per_block) + buffer

    def fp16_bytes(self) -> int:
        """Return the bytes the same tokens take in FP16."""
        batch, heads = self.k_scale.shape[:2]
        return 2 * batch * heads * self.tokens * self.head_dim * 2
