"""Read a kernel out of a cubin: instructions with their scheduling, resources, and where its parameters lie.

Disassembly is nvdisasm's, of the triton wheel or of a CUDA toolkit on PATH; encodings are read beside the text, since
the text leaves the scheduling field out. Parameters, registers and stack come from the ELF attributes that the driver
reads.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.sass.instruction import Control, Instruction, parse_operand, split_operands

INSTRUCTION_BYTES = 16
LONGEST = 60.0
"""For disassembly, which ends within seconds unless the file is damaged [s]."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One kernel parameter: byte offset in the parameter area, and size [byte]."""

    offset: int
    size: int


@dataclass(frozen=True)
class Kernel:
    """A kernel as it would run."""

    name: str
    capability: int
    """Compute capability, as 80 for 8.0."""
    code: tuple[Instruction, ...] | Callable[[], tuple[Instruction, ...]]
    """Its instructions, or what disassembles them when they are needed first."""
    registers: int
    """Per thread."""
    stack_bytes: int
    """Local memory per thread: spills and arrays."""
    smem_bytes: int
    """Static shared memory per CTA; a launch may add to it."""
    parameters: tuple[Parameter, ...]
    parameter_base: int
    """Byte of constant bank 0 at which the parameters begin."""
    threads: int | None
    """Threads per CTA that the kernel was compiled for; None when it does not say."""
    digest: str = ""
    """Of the cubin it was read from."""
    most_threads: int | None = None
    """Threads per CTA up to which it may be launched; None when it does not say."""

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """The instructions, in order."""
        return self.code() if callable(self.code) else self.code


_LINE = re.compile(r"\s*/\*(?P<at>[0-9a-f]{4,})\*/\s+(?:@(?P<guard>!?U?P[0-9T]+)\s+)?(?P<opcode>[A-Z][\w.]*)"
                   r"\s*(?P<operands>.*?)\s*;\s*/\* 0x(?P<low>[0-9a-f]{16}) \*/")
_HIGH = re.compile(r"\s*/\* 0x([0-9a-f]{16}) \*/")
_LABEL = re.compile(r"(\.L_\w+|\$[\w$]+):")
"""Branch targets, and functions that the compiler put behind the kernel, as 64-bit division."""
_SECTION = re.compile(r"\s*\.section\s+\.text\.(\S+?),")

_REGISTERS, _FRAME, _PARAMETER_BANK, _PARAMETER, _MOST_THREADS, _REQUIRED_THREADS = (
    0x2F, 0x11, 0x0A, 0x17, 0x05, 0x10)
"""Attributes of .nv.info sections [names and layouts as cuobjdump -elf prints them]."""


def nvdisasm() -> Path:
    """Return the disassembler. Raises UsageError where there is none."""
    try:
        import triton
    except ImportError:
        pass
    else:
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
        if tool.exists():
            return tool
    if found := shutil.which("nvdisasm"):
        return Path(found)
    raise UsageError("nvdisasm was not found: it comes with triton (pip install 'turbosim[kernels]'), or with CUDA, "
                     "whose bin directory must then be on PATH")


@lru_cache(maxsize=32)
def read_cubin(data: bytes, name: str | None = None, source: str = "cubin", *, trusted: bool = False) -> Kernel:
    """Return kernel *name* of a cubin, by default its only one.

    A *trusted* cubin of one kernel, as the compiler has made it, is disassembled when its instructions are needed.
    Raises ConfigError when *data* is not a cubin or cannot be disassembled, UsageError when *name* is not in it, or is
    needed because it holds several.
    """
    attributes = _Attributes(data, source)
    if trusted and len(attributes.kernels) == 1 and name is None:
        only = next(iter(attributes.kernels))
        return attributes.kernel(only, partial(_code, data, only, source, tuple(attributes.kernels)))
    named = [n for n in attributes.kernels if name in (None, n)]
    chosen = named[0] if len(named) == 1 else name
    return attributes.kernel(*_read(data, chosen, source, tuple(attributes.kernels)))


def _code(data: bytes, name: str, source: str, kernels: tuple[str, ...]) -> tuple[Instruction, ...]:
    return _read(data, name, source, kernels)[1]


def _read(data: bytes, name: str | None, source: str, kernels: tuple[str, ...]) -> tuple[str, tuple[Instruction, ...]]:
    """Return name and instructions of kernel *name* among the *kernels* of a cubin."""
    text = _disassemble(data, source, f"kernel {name}" if name else f"a kernel of {', '.join(kernels)}")
    found = {kernel: lines for kernel, lines in _sections(text) if kernel in kernels}
    if not found:
        raise ConfigError(f"{source}: holds no kernel")
    if name is None and len(found) > 1:
        raise UsageError(f"{source}: holds {len(found)} kernels, name one of them: {', '.join(found)}")
    chosen = name or next(iter(found))
    if chosen not in found:
        raise UsageError(f"{source}: has no kernel {chosen!r}, it has {', '.join(found)}{did_you_mean(chosen, found)}")
    instructions = tuple(_instructions(found[chosen], source))
    if not instructions:
        raise ConfigError(f"{source}: kernel {chosen!r} has no code")
    return chosen, instructions


def _disassemble(data: bytes, source: str, kernels: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(data)
        file.flush()
        try:
            done = subprocess.run([nvdisasm(), "-hex", "-c", file.name], capture_output=True, text=True, check=False,
                                  timeout=LONGEST)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{source}: nvdisasm has not ended after {LONGEST:g} s, as with a damaged cubin"
                              ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        # Warnings stand before and behind the errors, of which the first has the address.
        first = next((line for line in said if re.match(r"nvdisasm (error|fatal)", line)), said[-1])
        raise ConfigError(f"{source}: the code of {kernels} cannot be disassembled, as if the file were damaged: "
                          f"{first.replace(file.name, source)}")
    return done.stdout


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield name and lines of every function."""
    name: str | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if section := _SECTION.match(line):
            if name:
                yield name, lines
            name, lines = section[1], []
        else:
            lines.append(line)
    if name:
        yield name, lines


def _instructions(lines: list[str], source: str) -> Iterator[Instruction]:
    """Yield the instructions of a function, branches resolved."""
    labels: dict[str, int] = {}
    parsed: list[tuple[re.Match[str], Control]] = []
    for number, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = len(parsed)
        elif found := _LINE.match(line):
            high = _HIGH.match(lines[number + 1]) if number + 1 < len(lines) else None
            if high is None:
                raise ConfigError(f"{source}: instruction at 0x{found['at']} has no second word")
            parsed.append((found, Control.decode(int(high[1], 16) << 64 | int(found["low"], 16))))
    for index, (found, control) in enumerate(parsed):
        guard = parse_operand(found["guard"]) if found["guard"] else None
        target = re.search(r"`\((\.L_\w+|\$[\w$]+)\)", found["operands"])
        yield Instruction(index, found["opcode"], split_operands(found["operands"]), guard, control,
                          labels.get(target[1]) if target else None)


class _Attributes:
    """What a cubin's ELF sections say about its kernels."""

    def __init__(self, data: bytes, source: str) -> None:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile

        self._source = source
        self._digest = hashlib.sha256(data).hexdigest()
        try:
            elf = ELFFile(BytesIO(data))
            if elf["e_machine"] != "EM_CUDA":
                raise ConfigError(f"{source}: is an ELF file for {elf['e_machine']}, not a cubin")
            flags = elf["e_flags"]
            # The newer layout has the capability in the second byte, the older in the first.
            self.capability = flags >> 8 & 0xFF if elf["e_ident"]["EI_ABIVERSION"] >= 8 else flags & 0xFF
            sections: dict[str, Any] = {s.name: s for s in elf.iter_sections()}
            symbols = [s.name for s in sections[".symtab"].iter_symbols()]
            self.kernels = {s.removeprefix(".nv.info."): list(_attributes(section.data()))
                            for s, section in sections.items() if s.startswith(".nv.info.")}
            self._shared = {s.removeprefix(".nv.shared."): section["sh_size"] for s, section in sections.items()
                            if s.startswith(".nv.shared.")}
            self._registers: dict[str, int] = {}
            self._frames: dict[str, int] = {}
            for attribute, value in _attributes(sections[".nv.info"].data()):
                if attribute in (_REGISTERS, _FRAME):
                    symbol, size = struct.unpack("<II", value)
                    (self._registers if attribute == _REGISTERS else self._frames)[symbols[symbol]] = size
        except (ELFError, ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError,
                struct.error) as error:
            # Offsets and sizes of a damaged file lead the reader anywhere.
            raise ConfigError(f"{source}: is not a cubin, or is damaged: {type(error).__name__} {error}") from None

    def kernel(self, name: str, code: tuple[Instruction, ...] | Callable[[], tuple[Instruction, ...]]) -> Kernel:
        parameters: dict[int, Parameter] = {}
        base, threads, most = 0, None, None
        for attribute, value in self.kernels[name]:
            if attribute == _PARAMETER_BANK:
                _, base, _ = struct.unpack("<IHH", value)
            elif attribute == _PARAMETER:
                _, ordinal, offset, packed = struct.unpack("<IHHI", value)
                parameters[ordinal] = Parameter(offset, packed >> 18)
            elif attribute in (_MOST_THREADS, _REQUIRED_THREADS):
                x, y, z = struct.unpack("<III", value)
                threads, most = (x * y * z, most) if attribute == _REQUIRED_THREADS else (threads, x * y * z)
        if name not in self._registers:
            raise ConfigError(f"{self._source}: kernel {name!r} has no code")
        # The static shared memory of newer targets holds 1 KiB that the system takes.
        return Kernel(name, self.capability, code, self._registers[name], self._frames.get(name, 0),
                      self._shared.get(name, 0), tuple(parameters[n] for n in sorted(parameters)), base, threads,
                      self._digest, most)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and value of the attributes of a .nv.info section that have a value of their own."""
    at = 0
    while at < len(data):
        form, number, size = struct.unpack_from("<BBH", data, at)
        at += 4
        if form == 4:
            if at + size > len(data):
                raise ValueError("an attribute is cut off")
            yield number, data[at:at + size]
            at += size
