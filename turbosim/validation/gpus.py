"""Which hardware file a GPU's name in a data file means."""

from __future__ import annotations

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


def gpu_of(text: str) -> str:
    """Return the hardware file of the GPU called *text*. Raises UsageError for an unknown one."""
    known = list_gpus()
    if text in known:
        return text
    if text in NAMES:
        return NAMES[text]
    raise UsageError(f"unknown GPU {text!r}: neither a name from `turbosim hw list` nor one that a driver reports"
                     f"{did_you_mean(text, [*known, *NAMES])}")
