"""KV-cache formats, byte by byte.

Sizes are per KV head and block of 64 tokens (KIVI and GEAR: per group), for K and V together, and as totals with the
recent tokens each method keeps at higher precision. Sources: TurboAttention (MLSys 2025), the code of KIVI
(jy-yuan/KIVI) and GEAR (opengear-project/GEAR).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from turbosim.errors import UsageError, did_you_mean

BLOCK = 64
"""Tokens of a quantisation block in TurboAttention, and of its INT8 buffer."""


@dataclass(frozen=True, slots=True)
class CacheFormat:
    """How one KV head's cache is stored."""

    name: str
    title: str
    bits: float
    """Bits per code."""
    block_tokens: int
    """Tokens per block of :attr:`block_items`."""
    items: tuple[tuple[str, float, str], ...]
    """(item, bytes per block of K or of V at head dimension 128, how it scales: ``d`` or ``const``)."""
    recent_tokens: int = 0
    """Newest tokens that are kept apart."""
    recent_bytes: int = 2
    """Bytes per element of those."""
    mixed: tuple[str, ...] = field(default=())
    """Names of the two formats a mixed one is half of."""

    def block_items(self, head_dim: int) -> dict[str, float]:
        """Return bytes per block of K or of V, by item."""
        return {name: n * head_dim / 128 if scale == "d" else n for name, n, scale in self.items}

    def block_bytes(self, head_dim: int) -> float:
        """Return bytes per block of K or of V."""
        if self.mixed:
            return sum(FORMATS[name].block_bytes(head_dim) for name in self.mixed) / len(self.mixed)
        return sum(self.block_items(head_dim).values())

    def bytes_per_token(self, head_dim: int) -> float:
        """Return bytes of K and V per token and KV head, recent tokens aside."""
        return 2 * self.block_bytes(head_dim) / self.block_tokens

    def cache_bytes(self, head_dim: int, tokens: int) -> float:
        """Return bytes of K and V of one KV head with *tokens* cached, recent tokens included."""
        recent = min(self.recent_tokens, tokens)
        return (tokens - recent) * self.bytes_per_token(head_dim) + 2 * recent * head_dim * self.recent_bytes


def _turbo(bits: int, scale_bytes: int = 1) -> tuple[tuple[str, float, str], ...]:
    """Stage 2 of FlashQ: codes, one scale and one zero per channel, one FP16 block scale of stage 1."""
    return (("codes", BLOCK * 128 * bits / 8, "d"), ("channel scales", 128 * scale_bytes, "d"),
            ("channel zeros", 128 * scale_bytes, "d"), ("block scale", 2, "const"))


def _kivi(bits: int, group: int) -> tuple[tuple[str, float, str], ...]:
    """FP16 scale and FP16 minimum per group of *group* codes."""
    codes = group * 128
    return (("codes", codes * bits / 8, "d"), ("group scales", codes / group * 2, "d"),
            ("group minima", codes / group * 2, "d"))


def _gear(bits: int, group: int, rank: int) -> tuple[tuple[str, float, str], ...]:
    """KIVI's groups and the token-side factor of the low-rank error; the channel side is shared by a prompt."""
    return (*_kivi(bits, group), ("token factors", group * rank * 2, "const"))


FORMATS: dict[str, CacheFormat] = {
    f.name: f
    for f in (
        CacheFormat("fp16", "FP16", 16, BLOCK, (("values", BLOCK * 128 * 2, "d"),)),
        CacheFormat("int8", "INT8, stage 1 of FlashQ", 8, BLOCK,
                    (("codes", BLOCK * 128, "d"), ("block scale", 2, "const"))),
        CacheFormat("turbo-4", "TurboAttention 4-bit", 4, BLOCK, _turbo(4), BLOCK, 1),
        CacheFormat("turbo-2", "TurboAttention 2-bit", 2, BLOCK, _turbo(2), BLOCK, 1),
        CacheFormat("turbo-mixed", "TurboAttention, half the heads 4-bit, half 2-bit", 3, BLOCK, (), BLOCK, 1,
                    ("turbo-4", "turbo-2")),
        CacheFormat("turbo-4-fp16sz", "TurboAttention 4-bit, FP16 channel scales and zeros", 4, BLOCK, _turbo(4, 2),
                    BLOCK, 1),
        CacheFormat("turbo-2-fp16sz", "TurboAttention 2-bit, FP16 channel scales and zeros", 2, BLOCK, _turbo(2, 2),
                    BLOCK, 1),
        CacheFormat("turbo-mixed-fp16sz", "TurboAttention mixed, FP16 channel scales and zeros", 3, BLOCK, (), BLOCK,
                    1, ("turbo-4-fp16sz", "turbo-2-fp16sz")),
        CacheFormat("kivi-4", "KIVI 4-bit, group 64, 64 recent tokens", 4, 64, _kivi(4, 64), 64),
        CacheFormat("kivi-2", "KIVI 2-bit, group 64, 64 recent tokens", 2, 64, _kivi(2, 64), 64),
        CacheFormat("kivi-2-g32", "KIVI 2-bit, group 32, 128 recent tokens", 2, 32, _kivi(2, 32), 128),
        CacheFormat("gear-l-4", "GEAR-L 4-bit, group 64, rank 4, 64 recent tokens", 4, 64, _gear(4, 64, 4), 64),
    )
}


def get_format(name: str) -> CacheFormat:
    """Return the format called *name*. Raises UsageError for an unknown one."""
    try:
        return FORMATS[name]
    except KeyError:
        raise UsageError(f"unknown cache format {name!r}: not among {', '.join(FORMATS)}"
                         f"{did_you_mean(name, FORMATS)}") from None
