"""Reading hardware files: YAML with units, sources and inheritance, checked in one go.

A number is written ``{value: 4.8 TB/s, source: TAG}``; the tags are explained in the file's ``sources`` table. All
defects of a file are reported together, each as ``file:line:col: path: message``. Only text that is not YAML, or no
table, is reported alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from turbosim.errors import ConfigError
from turbosim.hw.fields import tree
from turbosim.hw.find import find
from turbosim.hw.fitted import FittedRecord
from turbosim.hw.reader import Leaf, Reader
from turbosim.hw.spec import Gpu


@dataclass(frozen=True)
class Resolved:
    """A hardware file with everything it inherits."""

    gpu: Gpu
    leaves: dict[tuple[str, ...], Leaf]
    sources: dict[str, str]
    file: Path
    chain: tuple[Path, ...]
    """The files it was put together from, base first."""
    records: tuple[FittedRecord, ...] = ()
    """What values of these files were fitted on."""


def load_gpu(name: str | Path) -> Gpu:
    """Return the GPU called *name*, or described by the YAML file *name*.

    Raises UsageError for an unknown name and ConfigError, listing every defect, for a file that is not acceptable.
    """
    return load_resolved(name).gpu


def load_resolved(name: str | Path) -> Resolved:
    """Return a GPU with the source and position of every value. Raises as :func:`load_gpu`."""
    reader = _read(name, whole=True)
    gpu = Gpu.model_validate(tree({path: leaf.value for path, leaf in reader.leaves.items()}))
    return Resolved(gpu, reader.leaves, reader.sources, reader.file, tuple(reader.chain), tuple(reader.records))


def check_file(name: str | Path) -> None:
    """Check a hardware file; one whose name starts with an underscore is a base and may lack fields.

    Raises as :func:`load_gpu`.
    """
    _read(name, whole=not Path(name).name.startswith("_"))


def _read(name: str | Path, whole: bool) -> Reader:
    reader = Reader(find(name))
    reader.read()
    defects = reader.defects(whole)
    if defects:
        raise ConfigError("\n".join(defects))
    return reader
