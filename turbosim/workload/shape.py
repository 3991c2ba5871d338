"""What is to be computed: attention, matrix-product and copy shapes, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from turbosim.errors import UsageError


class Phase(StrEnum):
    """Which half of inference an attention call belongs to."""

    PREFILL = "prefill"
    DECODE = "decode"


LONGEST = 2**24
"""Longest sequence, in tokens: the CTA classes of a causal prefill grow with it."""
MOST_TILES = 50_000_000
"""Most 64-token KV tiles of a call: the cache model keeps a state for each."""


def _positive(owner: str, **sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise UsageError(f"{owner}: {name} must be at least 1, got {value}")


def _readable(number: int) -> str:
    """Return *number* with its digits in groups, or its order of magnitude where they would fill a line."""
    return f"{number:,}" if number < 10**18 else f"about 10^{len(str(number)) - 1}"


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention call of one layer.

    Shapes: Q and O are (batch, q_heads, seq_q, head_dim), K and V are (batch, kv_heads, seq_k, head_dim). With
    *causal*, query i sees keys 0 .. i + seq_k - seq_q. Raises UsageError when a size is not positive, the head counts
    do not divide, head_dim is not a multiple of 16, or a causal call has more queries than keys.
    """

    batch: int
    q_heads: int
    kv_heads: int
    seq_q: int
    seq_k: int
    head_dim: int
    causal: bool
    phase: Phase
    label: str = ""
    """Name of the model preset, if any."""

    def __post_init__(self) -> None:
        _positive("attention", batch=self.batch, q_heads=self.q_heads, kv_heads=self.kv_heads, seq_q=self.seq_q,
                  seq_k=self.seq_k, head_dim=self.head_dim)
        if max(self.seq_q, self.seq_k) > LONGEST:
            raise UsageError(f"attention: sequences have at most {LONGEST:,} tokens, got "
                             f"{_readable(max(self.seq_q, self.seq_k))}")
        if self.batch * self.q_heads * self.seq_k > 64 * MOST_TILES:
            raise UsageError(f"attention: batch x q_heads x seq_k must be at most {64 * MOST_TILES:,}, got "
                             f"{_readable(self.batch * self.q_heads * self.seq_k)}; use a smaller batch")
        if self.q_heads % self.kv_heads:
            raise UsageError(
                f"attention: q_heads must be a multiple of kv_heads, got {self.q_heads} and {self.kv_heads}")
        if self.head_dim % 16 or self.head_dim > 256:
            raise UsageError(
                f"attention: head_dim must be a multiple of 16 up to 256, got {self.head_dim}")
        if self.causal and self.seq_q > self.seq_k:
            raise UsageError(f"attention: a causal call needs seq_q <= seq_k, got {self.seq_q} and {self.seq_k}")
        if self.phase is Phase.DECODE and self.seq_q != 1:
            raise UsageError(f"attention: decode has one query per sequence, got seq_q {self.seq_q}")

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.q_heads // self.kv_heads

    @property
    def pairs(self) -> int:
        """Query-key pairs of one head that the mask lets through."""
        if not self.causal:
            return self.seq_q * self.seq_k
        first = self.seq_k - self.seq_q + 1
        return self.seq_q * (first + self.seq_k) // 2

    @property
    def flops(self) -> int:
        """FLOPs of QK^T and PV over unmasked pairs: 4 * batch * q_heads * pairs * head_dim."""
        return 4 * self.batch * self.q_heads * self.pairs * self.head_dim

    @property
    def kv_bytes_fp16(self) -> int:
        """Size of K and V of this layer in FP16 [B]."""
        return 2 * 2 * self.batch * self.kv_heads * self.seq_k * self.head_dim

    def describe(self) -> dict[str, object]:
        """Return the fields as plain values, for tables and JSON."""
        return {"kind": "attention", "phase": self.phase.value, "model": self.label or None, "batch": self.batch,
                "q_heads": self.q_heads, "kv_heads": self.kv_heads, "seq_q": self.seq_q, "seq_k": self.seq_k,
                "head_dim": self.head_dim, "causal": self.causal}


@dataclass(frozen=True, slots=True)
class Gemm:
    """C (m, n) = A (m, k) x B (k, n). Raises UsageError when a size is not positive."""

    m: int
    n: int
    k: int

    def __post_init__(self) -> None:
        _positive("gemm", m=self.m, n=self.n, k=self.k)

    @property
    def flops(self) -> int:
        """2 m n k."""
        return 2 * self.m * self.n * self.k

    def describe(self) -> dict[str, object]:
        """Return the fields as plain values, for tables and JSON."""
        return {"kind": "gemm", "m": self.m, "n": self.n, "k": self.k}


@dataclass(frozen=True, slots=True)
class CopyBytes:
    """Read *nbytes* and write them elsewhere. Raises UsageError when the size is not positive."""

    nbytes: int

    def __post_init__(self) -> None:
        _positive("copy", nbytes=self.nbytes)

    @property
    def flops(self) -> int:
        """None: a copy computes nothing."""
        return 0

    def describe(self) -> dict[str, object]:
        """Return the fields as plain values, for tables and JSON."""
        return {"kind": "copy", "nbytes": self.nbytes}


Workload = Attention | Gemm | CopyBytes
