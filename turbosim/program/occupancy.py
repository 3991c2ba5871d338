"""How many CTAs of a launch fit on one SM, and what limits it."""

from __future__ import annotations

from turbosim.errors import ProgramError
from turbosim.hw.spec import Gpu, Sm
from turbosim.program.program import Launch

WARP_SIZE = 32
SMEM_UNIT = 128
"""Bytes in which shared memory is allocated."""


def occupancy(gpu: Gpu, launch: Launch) -> tuple[int, str]:
    """Return (CTAs per SM, limiting resource), by the rules of the CUDA occupancy calculator.

    Registers are allocated per warp in units of ``sm.register_allocation`` out of the file of the warp's scheduler,
    shared memory per CTA in units of 128 B with the system's reservation.

    Raises ProgramError when one CTA does not fit, saying by how much.
    """
    sm = gpu.sm
    where = f"launch {launch.name!r} on {gpu.name}"
    if launch.smem_bytes > sm.smem_per_cta:
        over = launch.smem_bytes - sm.smem_per_cta
        raise ProgramError(
            f"{where}: a CTA needs {launch.smem_bytes:,} B of shared memory, {over:,.0f} B more than the "
            f"{sm.smem_per_cta:,.0f} B one CTA may have; use smaller tiles or fewer stages")
    if launch.registers_per_thread > sm.max_registers_per_thread:
        over = launch.registers_per_thread - sm.max_registers_per_thread
        raise ProgramError(
            f"{where}: a thread needs {launch.registers_per_thread} registers, {over} more than the "
            f"{sm.max_registers_per_thread} it may have; use smaller tiles or more warps")
    registers = _registers_per_warp(sm, launch.registers_per_thread) * launch.warps
    if registers > sm.registers:
        raise ProgramError(
            f"{where}: a CTA needs {registers:,} registers, {registers - sm.registers:,} more than the "
            f"{sm.registers:,} of an SM; use smaller tiles or fewer warps")
    if launch.warps > sm.max_warps:
        raise ProgramError(
            f"{where}: a CTA has {launch.warps} warps, {launch.warps - sm.max_warps} more than the "
            f"{sm.max_warps} of an SM; use fewer warps")
    if launch.tensor_memory_bytes > (sm.tensor_memory or 0):
        raise ProgramError(
            f"{where}: a CTA needs {launch.tensor_memory_bytes:,} B of tensor memory, of which an SM has "
            f"{sm.tensor_memory or 0:,.0f} B; use smaller tiles, or a GPU that has it")
    limits = resident_ctas(sm, launch.warps, launch.registers_per_thread, launch.smem_bytes, launch.tensor_memory_bytes)
    limits["grid"] = -(-launch.ctas // sm.count)
    # Where several bind, the one that no other code for the same warps could lift is named.
    limit = min(limits, key=lambda name: (limits[name], name not in ("warps", "CTA slots")))
    if limits[limit] < 1:
        raise ProgramError(
            f"{where}: no CTA fits: {limit} allow {limits[limit]}; use smaller tiles")
    return limits[limit], limit


def _registers_per_warp(sm: Sm, per_thread: int) -> int:
    return -(-per_thread * WARP_SIZE // sm.register_allocation) * sm.register_allocation


def resident_ctas(sm: Sm, warps: int, registers_per_thread: int, smem_bytes: int,
                  tensor_memory_bytes: int = 0) -> dict[str, int]:
    """Return how many CTAs of *warps* warps each resource of an SM has room for."""
    per_warp = _registers_per_warp(sm, registers_per_thread)
    limits = {
        "registers": sm.registers // sm.schedulers // per_warp * sm.schedulers // warps,
        "shared memory": int(sm.smem_capacity // (-(-smem_bytes // SMEM_UNIT) * SMEM_UNIT + sm.smem_reserved)),
        "warps": sm.max_warps // warps,
        "CTA slots": sm.max_ctas,
    }
    if tensor_memory_bytes:
        limits["tensor memory"] = int((sm.tensor_memory or 0) // tensor_memory_bytes)
    return limits
