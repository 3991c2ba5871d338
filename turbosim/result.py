"""What an engine found out about a program on a GPU: time, traffic, utilisation, and a reason for every cycle."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from turbosim.bottleneck import LAUNCH, bound_of
from turbosim.hw.spec import Unit

TICKS_PER_CYCLE = 64
"""Ticks of simulated time per SM clock cycle. All engine times are whole ticks."""


class Reason(IntEnum):
    """Why a role spends a tick.

    ``RUN_x``: unit x, the one that ends last, serves the role; ``WAIT_x``: it still serves others.
    """

    RUN_TENSOR = 0
    RUN_SFU = 1
    RUN_FMA = 2
    RUN_FP16 = 3
    RUN_INT = 4
    RUN_CVT = 5
    RUN_SMEM = 6
    RUN_ISSUE = 7
    RUN_COPY = 8
    RUN_SAS = 9
    WAIT_TENSOR = 10
    WAIT_SFU = 11
    WAIT_FMA = 12
    WAIT_FP16 = 13
    WAIT_INT = 14
    WAIT_CVT = 15
    WAIT_SMEM = 16
    WAIT_ISSUE = 17
    WAIT_COPY = 18
    WAIT_SAS = 19
    LATENCY = 20
    """Dependent-instruction latency of the role's own work, nothing else in the way."""
    DATA_L2 = 21
    """Waiting for a copy that hit L2."""
    DATA_DRAM = 22
    """Waiting for a copy that came from device memory."""
    MMA = 23
    """Waiting for the role's own asynchronous tensor-core work."""
    BARRIER = 24
    """Waiting for other roles of the CTA."""
    CTA_LAUNCH = 25
    """The next CTA is being started in the slot."""
    DONE = 26
    """The role has ended; its CTA has not."""
    NO_CTA = 27
    """No CTA is left for the slot, or stores are draining."""


UNITS: tuple[Unit, ...] = tuple(Unit)
"""SM units in the order of the ``RUN_``/``WAIT_`` reasons."""


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """One kernel launch. Ticks are 1/64 SM cycle; "summed" means over all SMs."""

    name: str
    ctas: int
    ctas_per_sm: int
    """Occupancy: CTAs resident on one SM at most."""
    occupancy_limit: str
    """What limits it: registers, shared memory, warps, CTA slots or grid."""
    warps_per_cta: int
    ticks: int
    """From the first CTA's launch to the last role's end and the last store's drain."""
    overhead_ticks: int
    """Launch overhead before the first CTA."""
    ops: int
    """Tile operations executed."""
    busy_ticks: dict[Unit, int]
    """Ticks each SM unit was serving, summed."""
    l2_busy_ticks: int
    hbm_busy_ticks: int
    """Summed over channels."""
    l2_read_bytes: int
    l2_hit_bytes: int
    """Bytes of loads that needed no device-memory read of their own."""
    l2_write_bytes: int
    dram_read_bytes: int
    dram_write_bytes: int
    """Bytes stored, all of which are written through."""
    evicted_bytes: int
    """Further bytes written to device memory: lines that were dirty before the program and made room for its reads."""
    reason_ticks: tuple[tuple[int, ...], ...]
    """Ticks per role of the CTA (in order) and :class:`Reason`, summed over SMs and CTA slots."""
    sm_last_end: tuple[int, ...]
    """Tick at which each SM's last CTA ended (0: it had none)."""


@dataclass(frozen=True, slots=True)
class OpRecord:
    """One executed tile operation, for timelines and engine comparison."""

    launch: int
    sm: int
    slot: int
    role: int
    cta: int
    op: int
    """Index of the operation in the lowered stream of its launch."""
    start: int
    end: int
    """Ticks since the launch began. For asynchronous operations: the end of the work, not of its issue."""


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """One interval of service of one SM unit."""

    launch: int
    sm: int
    unit: int
    slot: int
    role: int
    op: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StallRecord:
    """One interval of one role with one reason."""

    launch: int
    sm: int
    slot: int
    role: int
    reason: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Records of the SMs that were asked for, in order of occurrence."""

    ops: tuple[OpRecord, ...] = ()
    units: tuple[UnitRecord, ...] = ()
    stalls: tuple[StallRecord, ...] = ()
    op_labels: tuple[tuple[str, ...], ...] = ()
    """Label of every lowered operation, per launch."""
    op_roles: tuple[tuple[str, ...], ...] = ()
    """Names of the roles, per launch."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished simulation."""

    hw: str
    kernel: str
    workload: dict[str, object]
    options: dict[str, str | int | float | bool]
    engine: str
    clock_hz: float
    sms: int
    hbm_channels: int
    launches: tuple[LaunchResult, ...]
    useful_flops: int
    compulsory_bytes: int
    """Bytes that must cross device memory with an empty cache [B]."""
    bound_s: float
    """Roofline bound: no schedule of this work can be faster; reads are left out if the cache starts warm [s]."""
    peak_macs: dict[str, float] = field(default_factory=dict)
    """MACs per second of each (path/dtype) used."""
    recording: Recording | None = None
    energy_j: dict[str, float] = field(default_factory=dict)
    """Energy by component (:data:`turbosim.power.COMPONENTS`) [J]; empty where the GPU's file has no energies."""
    power_limit_w: float = 0.0
    """Of the board [W]."""

    @property
    def power_w(self) -> float | None:
        """Average board power [W]; None where it is not known."""
        total = self.total_energy_j
        return None if total is None else total / self.time_s

    @property
    def total_energy_j(self) -> float | None:
        """Energy of the board over the whole time [J]; None where it is not known."""
        return sum(self.energy_j.values()) if self.energy_j else None

    @property
    def ticks(self) -> int:
        """Whole time with launch overheads."""
        return sum(x.ticks + x.overhead_ticks for x in self.launches)

    @property
    def cycles(self) -> int:
        """Whole time in SM cycles, rounded up."""
        return -(-self.ticks // TICKS_PER_CYCLE)

    @property
    def time_s(self) -> float:
        """Whole time [s]."""
        return self.ticks / (TICKS_PER_CYCLE * self.clock_hz)

    @property
    def tflops(self) -> float:
        """Useful FLOPs per second [TFLOP/s]."""
        return self.useful_flops / self.time_s / 1e12

    @property
    def dram_read_bytes(self) -> int:
        """Bytes read from device memory."""
        return sum(x.dram_read_bytes for x in self.launches)

    @property
    def dram_write_bytes(self) -> int:
        """Bytes written to device memory, without :attr:`evicted_bytes`."""
        return sum(x.dram_write_bytes for x in self.launches)

    @property
    def evicted_bytes(self) -> int:
        """Bytes written to device memory that were dirty in L2 at the start and made room for reads."""
        return sum(x.evicted_bytes for x in self.launches)

    @property
    def dram_bytes(self) -> int:
        """All bytes that crossed device memory."""
        return self.dram_read_bytes + self.dram_write_bytes + self.evicted_bytes

    @property
    def dram_bandwidth_Bps(self) -> float:  # noqa: N802 - B/s is the unit
        """Device-memory bytes per second over the whole time."""
        return self.dram_bytes / self.time_s

    @property
    def l2_bytes(self) -> int:
        """Bytes that crossed L2."""
        return sum(x.l2_read_bytes + x.l2_write_bytes for x in self.launches)

    @property
    def l2_hit_rate(self) -> float:
        """Share of load bytes that needed no device-memory read of their own (0 without loads)."""
        read = sum(x.l2_read_bytes for x in self.launches)
        return sum(x.l2_hit_bytes for x in self.launches) / read if read else 0.0

    @property
    def utilization(self) -> dict[str, float]:
        """Busy share of every unit over the whole time, launch overhead included."""
        total = self.ticks
        shares = {
            unit.value: sum(x.busy_ticks[unit] for x in self.launches) / (total * self.sms) for unit in UNITS
        }
        shares["l2"] = sum(x.l2_busy_ticks for x in self.launches) / total
        shares["hbm"] = sum(x.hbm_busy_ticks for x in self.launches) / (total * self.hbm_channels)
        return shares

    @property
    def stalls(self) -> dict[str, float]:
        """Share of role time per reason, launch overhead as its own; sums to 1."""
        totals = dict.fromkeys((r.name.lower() for r in Reason), 0)
        overhead = 0
        for launch in self.launches:
            role_slots = self.sms * launch.ctas_per_sm * len(launch.reason_ticks)
            overhead += launch.overhead_ticks * role_slots
            for row in launch.reason_ticks:
                for reason in Reason:
                    totals[reason.name.lower()] += row[reason]
        totals["kernel_launch"] = overhead
        everything = sum(totals.values())
        return {name: ticks / everything for name, ticks in totals.items() if ticks}

    @property
    def arithmetic_intensity(self) -> float:
        """Useful FLOPs per byte of device memory (0 without traffic)."""
        moved = self.dram_bytes
        return self.useful_flops / moved if moved else 0.0

    @property
    def bound(self) -> str:
        """What takes the time: ``launch`` if overheads take most, else as :func:`turbosim.bottleneck.bound_of`."""
        overhead = sum(x.overhead_ticks for x in self.launches)
        if overhead * 2 > self.ticks:
            return LAUNCH
        return bound_of(self.utilization)
