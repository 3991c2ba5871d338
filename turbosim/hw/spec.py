"""What a GPU is to the simulator: plain numbers in SI units, frozen after loading.

Rates "per clock" are per SM and per SM clock cycle. One MAC is one multiply-accumulate, two FLOP.
The numbers come from ``hwconfigs/*.yaml`` through :mod:`turbosim.hw.load`, which also keeps the source of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


@dataclass(frozen=True)
class Quantity:
    """Marks a field that hardware files give with a unit of *dimension* (a key of :data:`turbosim.units.UNITS`)."""

    dimension: str


Count = Annotated[int, Field(gt=0), Quantity("")]
Share = Annotated[float, Field(gt=0, le=1), Quantity("")]
Bytes = Annotated[float, Field(gt=0), Quantity("B")]
ByteCount = Annotated[float, Field(ge=0), Quantity("B")]
BytesPerSecond = Annotated[float, Field(gt=0), Quantity("B/s")]
BytesPerClock = Annotated[float, Field(gt=0), Quantity("B/clk")]
PerClock = Annotated[float, Field(gt=0), Quantity("/clk")]
MacsPerClock = Annotated[float, Field(gt=0), Quantity("MAC/clk")]
Cycles = Annotated[float, Field(ge=0), Quantity("clk")]
Seconds = Annotated[float, Field(gt=0), Quantity("s")]
Duration = Annotated[float, Field(ge=0), Quantity("s")]
Hertz = Annotated[float, Field(gt=0), Quantity("Hz")]
Watts = Annotated[float, Field(gt=0), Quantity("W")]
Area = Annotated[float, Field(gt=0), Quantity("mm2")]


class OpClass(StrEnum):
    """Classes of thread-level instructions that differ in pipe or rate."""

    FP32 = "fp32"
    """FADD, FMUL, FFMA."""
    FP16X2 = "fp16x2"
    """HADD2, HMUL2, HFMA2: one instruction, two results."""
    INT = "int"
    """IADD3, LOP3, SHF, PRMT, ISETP, and FMNMX, which shares the ALU pipe."""
    IMAD = "imad"
    """Integer multiply-add."""
    SFU = "sfu"
    """MUFU: EX2, RCP, LG2, RSQ."""
    CVT = "cvt"
    """I2F, F2I and other full-width conversions."""
    PACK = "pack"
    """F2FP: two FP32 values to one packed FP16 or BF16 pair."""
    WIDEN = "widen"
    """FP16 to FP32 and INT8 to INT32."""
    SHUFFLE = "shuffle"
    """SHFL."""
    SAS = "sas"
    """One SAS exponential in a dedicated unit. Only design points have it."""


class Unit(StrEnum):
    """Servers inside one SM. Each serves requests one at a time, first come first served."""

    TENSOR = "tensor"
    SFU = "sfu"
    FMA = "fma"
    FP16 = "fp16"
    INT = "int"
    CVT = "cvt"
    SMEM = "smem"
    ISSUE = "issue"
    COPY = "copy"
    SAS = "sas"


class Dtype(StrEnum):
    """Operand types of tensor-core instructions. FP16 and BF16 accumulate in FP32, integers in INT32."""

    FP16 = "fp16"
    FP16_ACC16 = "fp16_acc16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


class MmaPath(StrEnum):
    """Tensor-core instruction paths, oldest first. A newer path is faster on the same silicon."""

    MMA_SYNC = "mma.sync"
    WGMMA = "wgmma"
    TCGEN05 = "tcgen05"

    @property
    def is_async(self) -> bool:
        """Whether the instruction runs while its warps go on (true for all but ``mma.sync``)."""
        return self is not MmaPath.MMA_SYNC


class Frozen(BaseModel):
    """Immutable model that refuses unknown fields, infinities and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Clock(Frozen):
    """SM clocks [Hz]."""

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
    smem_bandwidth: BytesPerClock
    """Shared-memory bytes per clock [B/clk]."""
    smem_latency: Cycles
    """Load latency [cycles]."""


class L2(Frozen):
    """The L2 cache."""

    capacity: Bytes
    """Bytes of all partitions [B]."""
    partitions: Count
    shared_fraction: Share
    """Share of the capacity that data read by all SMs can use.

    Below 1 where a partition keeps a copy of what is homed in the other.
    """
    bandwidth: BytesPerSecond
    """Read bandwidth of all SMs together [B/s]."""
    latency_near: Seconds
    """Hit in the own partition [s]."""
    latency_far: Seconds
    """Hit in the other partition [s]. Equal to *latency_near* with one partition."""


class Hbm(Frozen):
    """Device memory (HBM or GDDR)."""

    capacity: Bytes
    """Bytes [B]."""
    bandwidth: BytesPerSecond
    """Peak of the specification [B/s]."""
    efficiency: Share
    """Largest measured share of the peak for long streams."""
    channels: Count
    interleave: Bytes
    """Consecutive bytes of one channel [B]."""
    latency: Seconds
    """Pointer-chase latency of an L2 miss [s]."""


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
    """[W]."""


class Die(Frozen):
    """Silicon."""

    area: Area
    """[mm2]."""
    process: str


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
    die: Die | None = None

    @model_validator(mode="after")
    def _complete(self) -> Gpu:
        missing = [c.value for c in OpClass if c not in self.pipes and c is not OpClass.SAS]
        if missing:
            raise ValueError(f"pipes: {', '.join(missing)} missing: every operation class needs a rate")
        if self.sm.smem_per_cta > self.sm.smem_capacity:
            raise ValueError("sm.smem_per_cta is larger than sm.smem_capacity")
        if self.l2.latency_far < self.l2.latency_near:
            raise ValueError("l2.latency_far is below l2.latency_near")
        if self.hbm.latency < self.l2.latency_far:
            raise ValueError("hbm.latency is below l2.latency_far: a miss cannot be faster than a hit")
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
