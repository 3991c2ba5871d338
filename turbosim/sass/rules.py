"""What one warp instruction costs on a GPU: pipe, interval, latency.

Rates come from the GPU file, everything else from the instruction table of its architecture. Cycles are SM cycles, of a
warp instruction that meets no contention and no bank conflict.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from turbosim.errors import ProgramError
from turbosim.hw.names import Dtype, MmaPath, OpClass
from turbosim.hw.spec import Gpu
from turbosim.sass.cubin import Kernel
from turbosim.sass.instruction import ZERO, Instruction, Kind
from turbosim.sass.product import macs_of, served
from turbosim.sass.tables import Pipe, Resolved, merged, table_of

__all__ = ["Pipe", "Rule", "Rules", "notes_on", "unknown_opcodes"]

WARP = 32


@dataclass(frozen=True, slots=True)
class Rule:
    """The cost of one warp instruction [cycles]."""

    pipe: Pipe
    interval: int
    """How long the scheduler's pipe takes no other instruction; at least 1."""
    latency: int
    """From issue to the release of the write barrier. Of memory instructions the SM's part: a hit in L1 or shared
    memory. Of a store, until it has left the registers. Service is included: the interval of tensor work that runs
    while its warps go on, the cycles of the data path."""
    read: int
    """From issue to the release of the read barrier."""
    shared: int
    """Of the data path that the schedulers of an SM share, per warp instruction; 0 if it is not used."""
    known: bool
    """Whether table and GPU file have the opcode. If not, *note* says what stands in for it."""
    note: str
    """The assumption in words, or empty."""
    omits: str = ""
    """What the instruction does to the time and the model leaves out, in words, or empty."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one GPU."""

    gpu: Gpu
    table: Resolved
    _found: dict[tuple[str, bool], Rule]

    @classmethod
    def of(cls, gpu: Gpu) -> Rules:
        """Return the rules of *gpu*. Raises UsageError if its architecture has no instruction table."""
        return cls(gpu, table_of(gpu.arch), {})

    def rule(self, instruction: Instruction) -> Rule:
        """Return what *instruction* costs. It depends on the opcode, and on whether its address is uniform.

        Raises ProgramError for a matrix product that the table does not have.
        """
        key = instruction.opcode, _uniform(instruction)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._make(*key)
        return found

    def _make(self, opcode: str, uniform: bool) -> Rule:
        fields = merged(opcode, self.table.entries)
        if not fields:
            if opcode.partition(".")[0].endswith("MMA"):
                raise ProgramError(f"{opcode} is a matrix product that {self.table.file.name} has no rate of, and no "
                                   "other instruction can stand for")
            example, kind = _example(opcode.partition(".")[0])
            fields = merged(".".join([example, *opcode.split(".")[1:]]), self.table.entries)
            fields |= {"unknown": f"{opcode} is not in {self.table.file.name}: taken as {kind}, {example}"}
        return self._rule(opcode, fields, uniform)

    def _rule(self, opcode: str, fields: dict[str, Any], uniform: bool) -> Rule:
        gpu, mio, reads = self.gpu, self.table.table.mio, self.table.table.read
        pipe = Pipe(fields["pipe"])
        interval, latency, shared = 1.0, 0.0, 0.0
        notes = [text for text in (fields.get("unknown"), fields.get("note")) if text]
        missing = fields.get("unknown")
        if pipe is Pipe.MIO:
            interval = mio.interval
        if "data" in fields:
            moved = _bytes(opcode)
            shared = max(mio.request, moved / gpu.sm.smem_bandwidth)
            interval = max(interval, moved / mio.bandwidth) if fields["data"] == "registers" else interval
        if "bandwidth" in fields:
            interval = max(interval, _bytes(opcode) / fields["bandwidth"])
        if "op_class" in fields:
            lanes = gpu.pipes[fields["op_class"]]
            latency = lanes.latency
            if fields["op_class"] is OpClass.SHUFFLE:
                shared = WARP / lanes.rate
            else:
                interval = WARP / (lanes.rate / gpu.sm.schedulers)
        if "mma" in fields:
            interval, latency, absent = self._product(opcode, fields)
            missing = missing or absent
            notes += [absent] if absent else []
        if "barrier" in fields:
            latency = getattr(gpu.barrier, fields["barrier"])
        interval = fields.get("interval", interval)
        latency = fields.get("latency", latency)
        read = fields.get("read", reads.queued if pipe in (Pipe.MIO, Pipe.XU) else reads.fixed)
        if uniform:
            latency, read = fields.get("uniform_latency", latency), fields.get("uniform_read", read)
        return Rule(pipe, max(1, _whole(interval)), _whole(latency), _whole(read), math.ceil(shared), not missing,
                    "; ".join(notes), fields.get("omits") or "")

    def _product(self, opcode: str, fields: dict[str, Any]) -> tuple[float, float, str]:
        """Return interval and latency of a matrix product, and what had to be assumed about its rate."""
        found = served(opcode, fields, self.gpu)
        unit, dtype = self.gpu.tensor[found.path], Dtype(fields["dtype"])
        macs: float | None = macs_of(opcode)
        if macs is None:
            # The tile is that of the FP16 instruction; operands of a byte have twice its depth, those of four half.
            macs = unit.macs_per_instruction_fp16 * {Dtype.FP8: 2.0, Dtype.INT8: 2.0, Dtype.TF32: 0.5}.get(dtype, 1.0)
        # The instruction of mma.sync is one scheduler's, the others occupy all of them.
        share = found.rate / self.gpu.sm.schedulers if found.path is MmaPath.MMA_SYNC else found.rate
        interval = macs * found.scale / share
        return interval, unit.latency + (interval if found.path.is_async else 0.0), found.assumed


def notes_on(kernel: Kernel, gpu: Gpu) -> list[str]:
    """Return what is assumed of the opcodes of *kernel* that *gpu* has no rule for, and what is left out, in words."""
    rules = Rules.of(gpu)
    found = [(i.opcode, rules.rule(i)) for i in kernel.instructions]
    return [*sorted({rule.note for _, rule in found if not rule.known}),
            *sorted({f"{opcode} costs an issue slot and its latency: {rule.omits} is left out"
                     for opcode, rule in found if rule.omits})]


def unknown_opcodes(kernel: Kernel, gpu: Gpu) -> dict[str, int]:
    """Return the opcodes of *kernel* that *gpu* has no rule for, with how often they stand in the code."""
    rules = Rules.of(gpu)
    return dict(sorted(Counter(i.opcode for i in kernel.instructions if not rules.rule(i).known).items()))


def _example(name: str) -> tuple[str, str]:
    """Return the opcode whose rule an unknown one takes, and its kind in words."""
    if name.startswith("U"):
        return "UIADD3", "uniform arithmetic"
    if name.startswith(("ST", "RED")):
        return "STG", "a store"
    if name.startswith(("LD", "ATOM")):
        return "LDG", "a load"
    return "IADD3", "integer arithmetic"


def _uniform(instruction: Instruction) -> bool:
    """Whether the address has no register per thread."""
    return any(o.base == ZERO for o in instruction.operands
               if o.kind is Kind.ADDRESS or (o.kind is Kind.CONSTANT and instruction.name == "LDC"))


_WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "F16": 2, "64": 8, "128": 16, "256": 32, "F32x4": 16, "F32x2": 8,
           "F16x8": 16, "F16x4": 8, "BF16x8": 16, "BF16x4": 8, "F64": 8}
"""Bytes per thread, by modifier; 4 without one."""


def _bytes(opcode: str) -> int:
    """Return the bytes that a warp instruction moves."""
    name, *modifiers = opcode.split(".")
    if name in ("LDSM", "STSM"):
        # 8 x 8 matrices of 16-bit elements.
        return 128 * next((int(m) for m in modifiers if m in ("2", "4")), 1)
    if name in ("LDTM", "STTM"):
        columns = next((int(m[1:]) for m in modifiers if re.fullmatch(r"x\d+", m)), 1)
        return 4 * columns * (16 if modifiers[0].startswith("16dp") else WARP)
    return WARP * next((_WIDTHS[m] for m in modifiers if m in _WIDTHS), 4)


def _whole(cycles: float) -> int:
    return math.floor(cycles + 0.5)
