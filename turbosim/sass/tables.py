"""Instruction tables: ``hwconfigs/sm/sm_80.yaml`` and its like, read and checked as hardware files are.

A table gives, by opcode, what GPU files do not have: the pipe, latencies, and intervals that differ from the rate of
the operation class. An entry holds for all opcodes of its name that have its modifiers, in their order: ``LDG.128`` for
``LDG.E.128.CONSTANT``. What a more specific entry does not give is that of a less specific one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from turbosim.errors import ConfigError, UsageError
from turbosim.hw.fields import tree, tree_of
from turbosim.hw.find import config_directory
from turbosim.hw.names import Dtype, MmaPath, OpClass
from turbosim.hw.reader import Kind, Leaf, Reader
from turbosim.hw.rules import Finding
from turbosim.hw.rules import Path as Field
from turbosim.hw.spec import BytesPerClock, Count, Cycles, Frozen, PositiveCycles, Ratio


class Pipe(StrEnum):
    """Where an instruction goes. Each scheduler has one of each."""

    FMA = "fma"
    """FP32, and what shares its lanes."""
    HEAVY = "heavy"
    """The half of a two-part FMA pipe that multiplies integers. FP32 then has a pipe of its own, since it takes either
    half and is limited by issue alone."""
    ALU = "alu"
    """Integers, comparisons and packed conversions; where LITE exists, what that does not take."""
    LITE = "lite"
    """The half of a two-part ALU that adds, selects and compares, at a warp instruction a cycle."""
    FP16 = "fp16"
    """Packed half precision, where it does not block FP32."""
    FP64 = "fp64"
    XU = "xu"
    """Transcendentals and conversions."""
    TENSOR = "tensor"
    UNIFORM = "uniform"
    CONTROL = "control"
    """Branches, and what takes an issue slot only."""
    MIO = "mio"
    """The queue to the part that schedulers share: memory, shuffles, barriers, special registers."""


class Read(Frozen):
    """When source registers have been read, by the way instructions go [cycles after issue]."""

    fixed: Cycles
    queued: Cycles
    """Of the pipes with a queue: MIO and XU."""


class Mio(Frozen):
    """The way from a scheduler to the shared part of the SM."""

    interval: PositiveCycles
    """Between two instructions of one scheduler."""
    bandwidth: BytesPerClock
    """Between the registers of one scheduler and the shared part."""
    request: PositiveCycles
    """Fewest cycles of the data path for one instruction that moves data."""
    depth: Count
    """Instructions of one scheduler that can wait."""


class Registers(Frozen):
    """The register file of a scheduler."""

    window: Cycles
    """After issue, within which an instruction must be able to begin to read its operands."""


class Entry(Frozen):
    """What a table says about the opcodes of one key."""

    pipe: Pipe | None = None
    op_class: OpClass | None = None
    """Class of the GPU file whose rate gives the interval, and whose latency stands in for a missing one."""
    mma: MmaPath | None = None
    """Path of the GPU file whose rate and latency a matrix product has."""
    dtype: Dtype | None = None
    scale: Ratio | None = None
    """Multiply-accumulates of *dtype* that one of the instruction's costs."""
    interval: PositiveCycles | None = None
    latency: Cycles | None = None
    read: Cycles | None = None
    uniform_latency: Cycles | None = None
    """With an address that has no register of its own per thread."""
    uniform_read: Cycles | None = None
    data: Literal["registers", "copy"] | None = None
    """Moves data through the shared part: to or from registers, or past them."""
    bandwidth: BytesPerClock | None = None
    """Of a path that is not the memory's: the interval follows from the bytes."""
    barrier: Literal["sync", "mbarrier"] | None = None
    """Which barrier cost of the GPU file is the latency."""
    note: str | None = None
    """What is assumed beyond the numbers."""
    omits: str | None = None
    """What it does to the time of a kernel and the model leaves out."""


class Table(Frozen):
    """An instruction table."""

    read: Read
    mio: Mio
    registers: Registers
    opcodes: dict[str, Entry]


EXAMPLES = ("IADD3", "UIADD3", "LDG", "STG")
"""Opcodes that stand for unknown ones of their kind: every table has them."""

_OPCODE = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)*")


def merged(opcode: str, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields that *opcode* has by the matching *entries*, the most specific first; empty for none."""
    name, *modifiers = opcode.split(".")
    matching: list[tuple[int, tuple[int, ...], Mapping[str, Any]]] = []
    for key, entry in entries.items():
        of, *wanted = key.split(".")
        if of == name and (places := _places(wanted, modifiers)) is not None:
            matching.append((len(wanted), tuple(-p for p in places), entry))
    fields: dict[str, Any] = {}
    for *_, entry in sorted(matching, key=lambda m: m[:2]):
        fields |= {k: v for k, v in entry.items() if v is not None}
    return fields


def _places(wanted: list[str], modifiers: list[str]) -> tuple[int, ...] | None:
    """Return where the *wanted* modifiers stand, in their order; None if they do not."""
    places: list[int] = []
    for modifier in wanted:
        try:
            places.append(modifiers.index(modifier, places[-1] + 1 if places else 0))
        except ValueError:
            return None
    return tuple(places)


def _violations(values: Mapping[Field, Any]) -> Iterator[tuple[Finding, ...]]:
    """Yield the broken rules of a table. A field that is given but not acceptable is None, and counts as given."""
    entries: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        if path[0] == "opcodes" and len(path) == 3:
            entries.setdefault(path[1], {})[path[2]] = "" if value is None else value
    spoilt = {path[1] for path in values if path[0] == "opcodes" and len(path) == 2}
    for key in entries:
        at = ("opcodes", key)
        first = (*at, next(iter(entries[key])))
        if not _OPCODE.fullmatch(key):
            yield (Finding(first, f"{key!r} is not an opcode; write for example LDG.128"),)
            continue
        fields = merged(key, entries)
        if "pipe" not in fields:
            yield (Finding(first, f"no pipe: needs one of {', '.join(Pipe)}"),)
        elif "mma" in fields:
            if "dtype" not in fields:
                yield (Finding(first, f"no dtype: mma needs one of {', '.join(Dtype)}"),)
        elif "op_class" not in fields:
            if fields["pipe"] not in (Pipe.MIO, "") and "interval" not in fields:
                yield (Finding(first, "no interval: give interval, op_class or mma"),)
            if "latency" not in fields and "barrier" not in fields:
                yield (Finding(first, "no latency: give latency, op_class, mma or barrier"),)
    for wanted in EXAMPLES:
        if wanted not in entries and wanted not in spoilt:
            yield (Finding(("opcodes", wanted), "missing: it stands for unknown opcodes of its kind"),)


def table_directory() -> Path:
    """Return the folder of the shipped tables."""
    return config_directory() / "sm"


KIND = Kind("instruction table", tree_of(Table), table_directory, _violations)


@dataclass(frozen=True)
class Resolved:
    """An instruction table with everything it inherits."""

    table: Table
    leaves: dict[Field, Leaf]
    sources: dict[str, str]
    file: Path

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The entries as plain fields."""
        return {key: entry.model_dump() for key, entry in self.table.opcodes.items()}


def is_table(path: Path) -> bool:
    """Whether *path* is to be read as an instruction table: its name is that of one, or it has a field ``opcodes``."""
    if re.fullmatch(r"sm_\d+[a-z]?", path.stem):
        return True
    try:
        return any(line.startswith("opcodes:") for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return False


def check_table(path: Path) -> None:
    """Check an instruction table; one whose name starts with an underscore is a base and may lack fields.

    Raises ConfigError that lists every defect.
    """
    _read(path, whole=not path.name.startswith("_"))


def load_table(path: Path) -> Resolved:
    """Return the instruction table in *path*. Raises ConfigError that lists every defect."""
    reader = _read(path, whole=True)
    table = Table.model_validate(tree({path: leaf.value for path, leaf in reader.leaves.items()}))
    return Resolved(table, reader.leaves, reader.sources, reader.file)


@cache
def table_of(arch: str) -> Resolved:
    """Return the shipped table of *arch*, as ``sm_80``. Raises UsageError where there is none."""
    path = table_directory() / f"{arch}.yaml"
    known = sorted((p.stem for p in table_directory().glob("sm_*.yaml")), key=lambda stem: int(stem[3:]))
    if arch not in known:
        raise UsageError(f"no instruction table of {arch!r}: not among {', '.join(known)}")
    return load_table(path)


def _read(path: Path, whole: bool) -> Reader:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    reader = Reader(path, KIND)
    reader.read()
    if defects := reader.defects(whole):
        raise ConfigError("\n".join(defects))
    return reader
