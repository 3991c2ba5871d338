"""Orders of tilings that public code states without times (tiling_claims.yaml), beside predicted ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from turbosim.api import simulate
from turbosim.errors import ProgramError
from turbosim.workload import Attention, Phase

CLAIMS = Path(__file__).with_name("tiling_claims.yaml")
TOKENS, CHANNELS = 16384, 2048
"""In all sequences, and in all heads."""


@dataclass(frozen=True)
class Claim:
    """One tiling is faster than another."""

    gpu: str
    head_dim: int
    faster: str
    slower: str
    causal: bool = False
    percent: float | None = None
    """By how much the other is slower; None where the source does not say."""
    assumed: bool = False
    """Whether the source names no GPU."""


@dataclass(frozen=True)
class Checked:
    """A claim with what is predicted."""

    claim: Claim
    percent: float | None
    """By how much the other is predicted to be slower; None where it does not fit the registers of a thread."""

    @property
    def agrees(self) -> bool:
        """Whether the order is the same. What does not fit would spill, and is slower."""
        return self.percent is None or self.percent > 0


def read_claims() -> tuple[int, list[Claim]]:
    """Return the queries of a sequence, and the claims."""
    document = YAML(typ="safe").load(CLAIMS.read_text())
    return document["queries"], [Claim(**claim) for claim in document["claims"]]


def seconds(claim: Claim, tiling: str, queries: int) -> float:
    """Return the predicted time of *tiling*, rows x columns and warps as ``128x64 w4`` [s]. Raises as ``simulate``."""
    rows, columns, warps = map(int, re.findall(r"\d+", tiling))
    heads = CHANNELS // claim.head_dim
    work = Attention(TOKENS // queries, heads, heads, queries, queries, claim.head_dim, claim.causal, Phase.PREFILL)
    return simulate(claim.gpu, work, "flash",
                    options={"block_m": rows, "block_n": columns, "warps": warps, "stages": 1}).time_s


def check(claim: Claim, queries: int) -> Checked:
    """Return *claim* with the prediction. Raises as ``simulate`` where the faster tiling cannot run."""
    faster = seconds(claim, claim.faster, queries)
    try:
        return Checked(claim, 100 * (seconds(claim, claim.slower, queries) / faster - 1))
    except ProgramError as error:
        if "registers" not in str(error):
            raise
        return Checked(claim, None)


def claim_table(checked: Sequence[Checked]) -> list[str]:
    """Return the table, as Markdown."""
    lines = ["| GPU | d | mask | faster | slower | stated | predicted | same order |",
             "|---|---:|---|---|---|---:|---:|---|"]
    for c in checked:
        stated = "" if c.claim.percent is None else f"{c.claim.percent:+.0f}%"
        found = "too many registers" if c.percent is None else f"{c.percent:+.1f}%"
        lines.append(f"| {c.claim.gpu}{' (assumed)' if c.claim.assumed else ''} | {c.claim.head_dim} | "
                     f"{'causal' if c.claim.causal else 'none'} | {c.claim.faster} | {c.claim.slower} | {stated} | "
                     f"{found} | {'yes' if c.agrees else 'no'} |")
    return lines


def checked_claims() -> list[Checked]:
    """Return all claims with their predictions."""
    queries, claims = read_claims()
    return [check(claim, queries) for claim in claims]
