"""What an engine returns for one launch: sums in ticks and bytes, and the records of chosen SMs."""

from __future__ import annotations

from dataclasses import dataclass, field

from turbosim.result import OpRecord, StallRecord, UnitRecord


@dataclass(frozen=True, slots=True)
class LaunchTotals:
    """Sums over all SMs; see :class:`turbosim.result.LaunchResult` for the meaning of each."""

    ticks: int
    ops: int
    busy: tuple[int, ...]
    l2_busy: int
    hbm_busy: int
    l2_read_bytes: int
    l2_hit_bytes: int
    l2_write_bytes: int
    dram_read_bytes: int
    dram_write_bytes: int
    evicted_bytes: int
    reasons: tuple[tuple[int, ...], ...]
    sm_last_end: tuple[int, ...]


@dataclass(slots=True)
class Records:
    """Records in no particular order; :meth:`ordered` gives the canonical one."""

    ops: list[OpRecord] = field(default_factory=list)
    units: list[UnitRecord] = field(default_factory=list)
    stalls: list[StallRecord] = field(default_factory=list)

    def ordered(self) -> Records:
        """Sort by place and time, so that equal runs have equal records."""
        return Records(
            sorted(self.ops, key=lambda r: (r.launch, r.sm, r.slot, r.role, r.start, r.end, r.op, r.cta)),
            sorted(self.units, key=lambda r: (r.launch, r.sm, r.unit, r.start, r.end, r.slot, r.role, r.op)),
            sorted(self.stalls, key=lambda r: (r.launch, r.sm, r.slot, r.role, r.start, r.end, r.reason)),
        )
