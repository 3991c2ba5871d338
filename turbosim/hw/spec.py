"""What a GPU is to the simulator: plain numbers in SI units, frozen after loading.

Rates "per clock" are per SM and per SM clock cycle. One MAC is one multiply-accumulate, two FLOP.
The numbers come from ``hwconfigs/*.yaml`` through :mod:`turbosim.hw.load`, which also keeps the source of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from turbosim.hw.names import Dtype, MmaPath, OpClass, Unit
from turbosim.hw.rules import flat, violations

__all__ = ["L2", "Barrier", "BytesPerClock", "Clock", "Copy", "Cycles", "Die", "Dtype", "Energy", "Frozen", "Gpu",
           "Hbm", "Launch", "MmaPath", "OpClass", "Pipe", "PositiveCycles", "Power", "Quantity", "Ratio", "Recorded",
           "Sm", "TensorPath", "Unit"]


@dataclass(frozen=True)
class Quantity:
    """Marks a field that hardware files give with a unit of *dimension* (a key of :data:`turbosim.units.UNITS`)."""

    dimension: str


@dataclass(frozen=True)
class Recorded:
    """Marks a field that is recorded, not simulated: it describes the chip, and no engine reads it."""


Count = Annotated[int, Field(gt=0), Quantity("")]
Share = Annotated[float, Field(gt=0, le=1), Quantity("")]
Bytes = Annotated[float, Field(gt=0), Quantity("B")]
ByteCount = Annotated[float, Field(ge=0), Quantity("B")]
BytesPerSecond = Annotated[float, Field(gt=0), Quantity("B/s")]
BytesPerClock = Annotated[float, Field(gt=0), Quantity("B/clk")]
PerClock = Annotated[float, Field(gt=0), Quantity("/clk")]
MacsPerClock = Annotated[float, Field(gt=0), Quantity("MAC/clk")]
Cycles = Annotated[float, Field(ge=0), Quantity("clk")]
PositiveCycles = Annotated[float, Field(gt=0), Quantity("clk")]
Ratio = Annotated[float, Field(gt=0), Quantity("")]
Surcharge = Annotated[float, Field(ge=0), Quantity("")]
Seconds = Annotated[float, Field(gt=0), Quantity("s")]
Duration = Annotated[float, Field(ge=0), Quantity("s")]
Hertz = Annotated[float, Field(gt=0), Quantity("Hz")]
Watts = Annotated[float, Field(gt=0), Quantity("W")]
Joules = Annotated[float, Field(gt=0), Quantity("J")]
JoulesPerByte = Annotated[float, Field(gt=0), Quantity("J/B")]
JoulesPerMac = Annotated[float, Field(gt=0), Quantity("J/MAC")]
Area = Annotated[float, Field(gt=0), Quantity("mm2")]


class Frozen(BaseModel):
    """Immutable model that refuses unknown fields, infinities and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Clock(Frozen):
    """SM clocks [Hz]. *tensor_spec* is at most *boost*.

    *sustained* may lie above *boost*, which is the vendor's reference: some cards run faster than that.
    """

    boost: Hertz
    tensor_spec: Hertz | None = None
    """The clock at which the vendor's tensor peak is stated."""
    sustained: Hertz | None = None
    """The clock under a sustained tensor load at the board's power limit."""

    def hertz(self, which: Literal["boost", "tensor_spec", "sustained"]) -> float:
        """Return the clock called *which*, falling back to boost where the file gives none."""
        value: float | None = getattr(self, which)
        return self.boost if value is None else value


class Pipe(Frozen):
    """Where one :class:`OpClass` executes and how fast."""

    rate: PerClock
    """Thread-level instructions per clock per SM [1/clk]."""
    unit: Unit
    latency: Cycles
    """Dependent-issue latency [cycles]."""


class TensorPath(Frozen):
    """One tensor-core instruction path."""

    rates: dict[Dtype, MacsPerClock]
    """Dense MACs per clock per SM [1/clk] per operand type."""
    latency: Cycles
    """From the issue of the last instruction of a tile to its result [cycles]."""
    macs_per_instruction_fp16: Count
    """MACs of one FP16 instruction per warp that issues it: 2048 for m16n8k16, 65536 for m64n256k16 of four warps."""
    queue: Count | None = None
    """Asynchronous instructions that an SM accepts ahead of the one its tensor cores work on, where it is known; a warp
    group with more to issue is held up."""
    write_conflict: Cycles | None = None
    """By how much an instruction of a warp that writes a register delays the asynchronous products that run on its
    scheduler's tensor core, whose accumulators are registers, too [cycles]. None: not at all."""


class Sm(Frozen):
    """One streaming multiprocessor."""

    count: Count
    schedulers: Count
    max_warps: Count
    max_ctas: Count
    registers: Count
    """32-bit registers per SM."""
    max_registers_per_thread: Count
    register_allocation: Count
    """Registers are allocated to a warp in multiples of this."""
    smem_capacity: Bytes
    """Shared memory usable by all CTAs of an SM together [B]."""
    smem_per_cta: Bytes
    """Largest shared memory of one CTA [B]."""
    smem_reserved: ByteCount
    """Shared memory the system takes per CTA [B]."""
    tensor_memory: ByteCount | None = None
    """Tensor memory of an SM, where it has one [B]."""
    smem_bandwidth: BytesPerClock
    """Shared-memory bytes per clock [B/clk]."""
    smem_latency: Cycles
    """Load latency [cycles]."""


class L2(Frozen):
    """The L2 cache."""

    capacity: Bytes
    """Bytes of all partitions [B]."""
    partitions: Count
    """They decide how much the cache holds of data that one SM touches each; *shared_fraction* does for other data."""
    shared_fraction: Share
    """Share of the capacity that data read by all SMs can use.

    Below 1 where a partition keeps a copy of what is homed in the other.
    """
    dirty_share: Share
    """Share of the lines last written that device memory does not have yet: each costs a write when it is displaced."""
    bandwidth: BytesPerSecond
    """Read bandwidth of all SMs together [B/s]."""
    latency_near: Annotated[Seconds, Recorded()]
    """Hit in the own partition [s]. Recorded, not simulated: every hit takes *latency_far*."""
    latency_far: Seconds
    """Hit in the other partition [s], charged for every hit. Equal to *latency_near* with one partition."""


class Hbm(Frozen):
    """Device memory (HBM or GDDR)."""

    capacity: Bytes
    """Bytes [B]."""
    bandwidth: BytesPerSecond
    """Peak of the specification [B/s]."""
    efficiency: Share
    """Largest measured share of the peak for long streams of reads, or of writes."""
    turnaround: Surcharge
    """Further time of a byte that is written beside one that is read, relative to its transfer: the bus changes its
    direction."""
    channels: Count
    pseudo_channels: Count
    """Of a channel: each opens the rows of its banks by itself."""
    activation: Duration
    """Mean time between two rows that a pseudo-channel opens where runs of bytes lie apart [s]: a run takes no less,
    however short it is. 0 where it is not modelled."""
    interleave: Bytes
    """Consecutive bytes of one channel [B]."""
    latency: Seconds
    """Pointer-chase latency of an L2 miss [s]."""
    loaded_latency: Duration
    """What a full channel adds to it, beside the queue for its bus [s].

    It grows as the square of the load that the channel had in the microsecond before, in which a byte written counts
    twice. Shipped files have 0; :mod:`turbosim.calibration` finds it from streams of reads and writes."""


class Copy(Frozen):
    """Asynchronous copies between global and shared memory."""

    bandwidth: BytesPerClock
    """Bytes per clock between L2 and one SM [B/clk]."""
    tma: bool
    """Whether bulk tensor copies exist."""
    tma_latency: Cycles
    """Latency of a bulk copy beyond that of a plain load [cycles]."""


class Barrier(Frozen):
    """Synchronisation costs."""

    sync: Cycles
    """CTA-wide barrier, from last arrival to release [cycles]."""
    mbarrier: Cycles
    """mbarrier, from arrival to release [cycles]."""


class Launch(Frozen):
    """Costs of starting kernels and CTAs."""

    stream: Duration
    """Between dependent kernels of a stream [s]."""
    graph: Duration
    """Between dependent kernels of a CUDA graph [s]."""
    cta: Cycles
    """From a free slot to the first instruction of its next CTA [cycles]."""


class Power(Frozen):
    """Board power."""

    limit: Watts
    """[W]. Only the clock ``power`` heeds it, and only where the file has an :class:`Energy`."""


class Energy(Frozen):
    """What operations and bytes cost with random operands, on the chip at the voltage of *clock*.

    The voltage falls with the clock in a straight line down to a floor; all but *static* and *hbm* goes with its
    square.
    """

    static: Watts
    """Power whatever the load [W]."""
    clock: Hertz
    """SM clock at whose voltage the energies are stated [Hz]."""
    lowest_clock: Hertz
    """Lowest SM clock that the power limit can enforce [Hz]."""
    voltage_slope: Ratio
    """Relative change of the voltage over the relative change of the clock, at *clock*."""
    voltage_floor: Share
    """Lowest voltage, as a share of that at *clock*."""
    tensor: dict[Dtype, JoulesPerMac]
    """Of a multiply-accumulate with its registers and instructions [J]."""
    padding: Share
    """What a multiply-accumulate of constant operands, as padding has them, takes of that."""
    instruction: dict[OpClass, Joules]
    """Of an instruction of one thread, all in [J]."""
    smem: JoulesPerByte
    """Of a byte of shared memory [J/B]."""
    l2: JoulesPerByte
    """Of a byte between L2 and an SM [J/B]."""
    hbm: JoulesPerByte
    """Of a byte between device memory and L2, where *l2* is not counted [J/B]."""


class Die(Frozen):
    """Silicon. Recorded, not simulated."""

    area: Annotated[Area, Recorded()]
    """[mm2]."""
    process: Annotated[str, Recorded()]
    product: Annotated[str | None, Recorded()] = None
    """The shipped GPU with this die, from which :mod:`turbosim.silicon` scales what design points change."""


class Gpu(Frozen):
    """A GPU, real or a design point."""

    schema_version: Literal[1]
    name: str
    title: str
    arch: str
    """Compiler target, for example ``sm_90``."""
    hypothetical: bool = False
    """True for design points that no one sells."""
    note: str = ""
    clock: Clock
    sm: Sm
    pipes: dict[OpClass, Pipe]
    tensor: dict[MmaPath, TensorPath]
    l2: L2
    hbm: Hbm
    copy_engine: Copy
    barrier: Barrier
    launch: Launch
    power: Power
    energy: Energy | None = None
    die: Die | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Gpu:
        values = flat(self.model_dump())
        broken = [sides[0].message(lambda path: f"{values[path]:g}") for sides in violations(values)]
        if broken:
            raise ValueError("; ".join(broken))
        return self

    def mma_path(self, dtype: Dtype) -> MmaPath | None:
        """Return the newest path that multiplies *dtype*, or None if the tensor cores cannot."""
        for path in reversed(MmaPath):
            if path in self.tensor and dtype in self.tensor[path].rates:
                return path
        return None

    def peak_macs(self, dtype: Dtype, clock: float) -> float:
        """Return the dense MACs per second of *dtype* at *clock* [Hz] on its fastest path (0 if none)."""
        path = self.mma_path(dtype)
        return 0.0 if path is None else self.tensor[path].rates[dtype] * self.sm.count * clock
