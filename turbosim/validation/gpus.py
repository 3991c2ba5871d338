"""Which hardware file a GPU's name in a data file means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw import list_gpus

NAMES = {
    "NVIDIA A100-SXM4-80GB": "a100_sxm_80gb", "NVIDIA A100-SXM4-40GB": "a100_sxm_40gb",
    "NVIDIA A100 80GB PCIe": "a100_pcie_80gb", "NVIDIA H100 80GB HBM3": "h100_sxm", "NVIDIA H100 PCIe": "h100_pcie",
    "NVIDIA H200": "h200_sxm", "NVIDIA B200": "b200", "NVIDIA L4": "l4", "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 3090": "rtx_3090", "NVIDIA GeForce RTX 4090": "rtx_4090",
    "NVIDIA GeForce RTX 5090": "rtx_5090",
    "a100_sxm": "a100_sxm_80gb", "h100_sxm": "h100_sxm", "h200_sxm": "h200_sxm", "b200_sxm": "b200",
    "A100 80GB (4x A100 node of the paper)": "a100_sxm_80gb",
}
"""Names that drivers report and that the files of others use; a node of four A100 has the SXM card."""

_CARDS: dict[str, dict[str, str]] = {
    "a100": {"a100_sxm_40gb": "sxm sxm4 40gb", "a100_sxm_80gb": "sxm sxm4 80gb", "a100_pcie_80gb": "pcie 80gb",
             "A100 PCIe 40GB": "pcie 40gb"},
    "h100": {"h100_sxm": "sxm sxm5 80gb hbm3", "h100_pcie": "pcie 80gb hbm2e", "H100 NVL": "nvl 94gb hbm3"},
    "h200": {"h200_sxm": "sxm sxm5 141gb hbm3e", "H200 NVL": "nvl 141gb hbm3e"},
    "b200": {"b200": "sxm sxm6 180gb 192gb hbm3e"},
    "l4": {"l4": "pcie 24gb"}, "l40s": {"l40s": "pcie 48gb"}, "rtx 3090": {"rtx_3090": "24gb"},
    "rtx 4090": {"rtx_4090": "24gb"}, "rtx 5090": {"rtx_5090": "32gb"},
}
"""Cards of a chip, and the words that may follow its name; those that are no hardware file have none."""
_VARIANTS = frozenset(("ti", "super", "laptop", "mobile", "max", "q", "d", "ada", "generation", "gpu", "pcie", "sxm",
                       "sxm2", "sxm3", "nvl", "hbm2", "mig", "oam"))
"""Further words of vendors' names of cards."""
_MEMORY = re.compile(r"\d+gb")
_FILE_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
_WITHOUT = frozenset((
    "p100", "v100", "t4", "a2", "a10", "a10g", "a16", "a30", "a40", "a6000", "rtx a6000", "l40", "h20", "h800",
    "gh200", "b100", "b300", "gb200", "gb300", "rtx 2080", "rtx 3080", "rtx 4080", "rtx 5080", "mi250", "mi250x",
    "mi300", "mi300x"))
"""Chips without a hardware file."""


def cards_of(text: str) -> list[str]:
    """Return what the GPU called *text* may be: names of hardware files, or of cards that have none.

    More than one where the name leaves the card open, as "A100 80GB" does. Remarks in parentheses do not count. Raises
    UsageError for a name that is none of a GPU, and for one that looks like a hardware file's but is not.
    """
    known = list_gpus()
    if text in known:
        return [text]
    if text in NAMES:
        return [NAMES[text]]
    plain = re.sub(r"\(.*?\)", " ", text).lower()
    words = [w for w in re.split(r"[\s_,-]+", plain) if w not in ("", "nvidia", "geforce", "tesla", "amd", "class")]
    chip = " ".join(words[:2] if words[:1] == ["rtx"] else words[:1])
    rest = set(words[len(chip.split()):])
    found = [name for name, said in _CARDS.get(chip, {}).items() if rest <= set(said.split())]
    is_file = _FILE_NAME.fullmatch(text) is not None
    if found and not (is_file and not set(found) & set(known)):
        return found
    hint = did_you_mean(text, [*known, *NAMES])
    if is_file and (chip in _CARDS or chip in _WITHOUT):
        raise UsageError(f"GPU {text!r}: there is no hardware file of this name{hint}; see `turbosim hw list`, and "
                         f"write the vendor's name of a card without one, as in 'H100 NVL'")
    if chip in _CARDS or chip in _WITHOUT:
        vocabulary = {word for cards in _CARDS.values() for said in cards.values() for word in said.split()} | _VARIANTS
        strange = [word for word in sorted(rest) if word not in vocabulary and not _MEMORY.fullmatch(word)]
        if not strange:
            return [text]
        raise UsageError(f"GPU {text!r}: {strange[0]!r} is no word of vendors' names of cards"
                         f"{did_you_mean(strange[0], vocabulary)}; correct it, or put a remark in parentheses")
    raise UsageError(f"unknown GPU {text!r}: neither a name from `turbosim hw list` nor one of a GPU that drivers or "
                     f"vendors use{hint}")


def gpu_of(text: str, chosen: Sequence[str] = ()) -> str | None:
    """Return the hardware file of the GPU called *text*; None for a GPU without one.

    Of several that it may be it is the one that is *chosen*, and None if others are. Raises UsageError for an unknown
    name, and for one that leaves several.
    """
    known, cards = list_gpus(), cards_of(text)
    if len(cards) == 1:
        return cards[0] if cards[0] in known else None
    left = [name for name in cards if name in chosen or not chosen]
    if len(left) > 1:
        files = [name for name in left if name in known]
        others = ", ".join(name for name in left if name not in known)
        raise UsageError(f"GPU {text!r} may be {', '.join(files)}"
                         + (f" or, without a hardware file, {others}" if others else "")
                         + f"; say which: {' or '.join(f'--hw {name}' for name in files)}")
    return left[0] if left else None
