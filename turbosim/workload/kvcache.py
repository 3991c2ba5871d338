"""KV-cache formats, byte by byte.

Sizes are per KV head and block of 64 tokens (KIVI and GEAR: per group), for K and V together, and as totals with the
recent tokens each method keeps at higher precision. Sources: TurboAttention (MLSys 2025), the code of KIVI
(jy-yuan/KIVI) and GEAR (opengear-project/GEAR).
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """The window of newest tokens that are kept apart."""
    recent_bytes: int = 2
    """Bytes per element of those."""
    recent_scale: int = 0
    """Bytes of the window's own scale, one for K and one for V."""
    channel_bytes: int = 0
    """Bytes per channel of K or of V held once per sequence: the channel side of GEAR's low-rank factors."""
    mixed: tuple[tuple[str, float], ...] = ()
    """(format, share of the KV heads) of a mixed one."""

    def block_items(self, head_dim: int) -> dict[str, float]:
        """Return bytes per block of K or of V, by item."""
        return {name: n * head_dim / 128 if scale == "d" else n for name, n, scale in self.items}

    def block_bytes(self, head_dim: int) -> float:
        """Return bytes per block of K or of V."""
        if self.mixed:
            return sum(FORMATS[name].block_bytes(head_dim) * share for name, share in self.mixed)
        return sum(self.block_items(head_dim).values())

    def bytes_per_token(self, head_dim: int) -> float:
        """Return bytes of K and V per token and KV head, recent tokens aside."""
        return 2 * self.block_bytes(head_dim) / self.block_tokens

    def split(self, tokens: int) -> tuple[int, int]:
        """Return (quantised tokens, recent tokens) after *tokens* tokens.

        The window fills up before it is packed, so it holds the remainder of a division by its length, or all of it.
        KIVI fills the window of V only once and then moves it token by token; K and V agree whenever it is full.
        """
        if not self.recent_tokens:
            return tokens, 0
        recent = min(tokens, tokens % self.recent_tokens or self.recent_tokens)
        return tokens - recent, recent

    def cache_items(self, head_dim: int, tokens: int) -> dict[str, float]:
        """Return bytes of K and V of one KV head with *tokens* cached, by item, recent tokens included.

        A format without a window may end in a partial block, which counts in proportion.
        """
        packed, recent = self.split(tokens)
        blocks = 2 * packed / self.block_tokens
        parts = [(FORMATS[name], share) for name, share in self.mixed] or [(self, 1.0)]
        items: dict[str, float] = {}
        for part, share in parts:
            for name, nbytes in part.block_items(head_dim).items():
                items[name] = items.get(name, 0) + blocks * share * nbytes
        if self.recent_tokens:
            items["recent tokens"] = 2 * recent * head_dim * self.recent_bytes
        if self.recent_scale:
            items["recent scale"] = 2 * self.recent_scale if recent else 0
        if self.channel_bytes:
            items["channel factors"] = 2 * head_dim * self.channel_bytes if packed else 0
        return items

    def cache_bytes(self, head_dim: int, tokens: int) -> float:
        """Return the sum of :meth:`cache_items`."""
        return sum(self.cache_items(head_dim, tokens).values())


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
    """KIVI's groups and the token-side factor of the low-rank error; the channel side is held once for a prompt."""
    return (*_kivi(bits, group), ("token factors", group * rank * 2, "const"))


def mixed_format(two_bit_share: float = 0.5, fp16_scales: bool = False) -> CacheFormat:
    """Return TurboAttention's cache with *two_bit_share* of the KV heads at 2 bits and the others at 4.

    Channel scales and zeros are INT8 as in the paper, or FP16. Raises UsageError for a share outside 0 to 1.
    """
    if not 0 <= two_bit_share <= 1:
        raise UsageError(f"cache format: two_bit_share must be 0 to 1, got {two_bit_share}")
    suffix, scales = ("-fp16sz", ", FP16 channel scales and zeros") if fp16_scales else ("", "")
    return CacheFormat(
        f"turbo-mixed{suffix}", f"TurboAttention, {two_bit_share:.0%} of the heads 2-bit, the rest 4-bit{scales}",
        4 - 2 * two_bit_share, BLOCK, (), BLOCK, 1, 2,
        mixed=((f"turbo-4{suffix}", 1 - two_bit_share), (f"turbo-2{suffix}", two_bit_share)))


FORMATS: dict[str, CacheFormat] = {
    f.name: f
    for f in (
        CacheFormat("fp16", "FP16", 16, BLOCK, (("values", BLOCK * 128 * 2, "d"),)),
        CacheFormat("int8", "INT8, stage 1 of FlashQ", 8, BLOCK,
                    (("codes", BLOCK * 128, "d"), ("block scale", 2, "const"))),
        CacheFormat("turbo-4", "TurboAttention 4-bit", 4, BLOCK, _turbo(4), BLOCK, 1, 2),
        CacheFormat("turbo-2", "TurboAttention 2-bit", 2, BLOCK, _turbo(2), BLOCK, 1, 2),
        mixed_format(),
        CacheFormat("turbo-4-fp16sz", "TurboAttention 4-bit, FP16 channel scales and zeros", 4, BLOCK, _turbo(4, 2),
                    BLOCK, 1, 2),
        CacheFormat("turbo-2-fp16sz", "TurboAttention 2-bit, FP16 channel scales and zeros", 2, BLOCK, _turbo(2, 2),
                    BLOCK, 1, 2),
        mixed_format(fp16_scales=True),
        CacheFormat("kivi-4", "KIVI 4-bit, group 64, 64 recent tokens", 4, 64, _kivi(4, 64), 64),
        CacheFormat("kivi-2", "KIVI 2-bit, group 64, 64 recent tokens", 2, 64, _kivi(2, 64), 64),
        CacheFormat("kivi-2-g32", "KIVI 2-bit, group 32, 128 recent tokens", 2, 32, _kivi(2, 32), 128),
        CacheFormat("gear-l-4", "GEAR-L 4-bit, group 64, rank 4, 64 recent tokens", 4, 64, _gear(4, 64, 4), 64,
                    channel_bytes=2 * 4),
    )
}


def get_format(name: str) -> CacheFormat:
    """Return the format called *name*. Raises UsageError for an unknown one."""
    try:
        return FORMATS[name]
    except KeyError:
        raise UsageError(f"unknown cache format {name!r}: not among {', '.join(FORMATS)}"
                         f"{did_you_mean(name, FORMATS)}") from None
