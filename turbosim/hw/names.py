"""The names that hardware files and programs share: instruction classes, units, operand types, tensor-core paths."""

from __future__ import annotations

from enum import StrEnum


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
    """Operand types of tensor-core instructions. FP16, BF16 and TF32 accumulate in FP32, integers in INT32."""

    FP16 = "fp16"
    FP16_ACC16 = "fp16_acc16"
    BF16 = "bf16"
    TF32 = "tf32"
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
