"""The files in ``hwconfigs/silicon/``: areas of units and prices, read and checked as hardware files are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from turbosim.errors import ConfigError
from turbosim.hw.fields import tree, tree_of
from turbosim.hw.find import config_directory
from turbosim.hw.reader import Kind, Leaf, Reader
from turbosim.hw.rules import Finding
from turbosim.hw.rules import Path as Place
from turbosim.hw.spec import Area, Bytes, Count, Frozen, Quantity, Ratio, Share

Model = TypeVar("Model", bound=Frozen)
Whole = Annotated[int, Field(ge=0), Quantity("")]
Transistors = Annotated[float, Field(gt=0), Quantity("Tr")]
Density = Annotated[float, Field(gt=0), Quantity("Tr/mm2")]
Cell = Annotated[float, Field(gt=0), Quantity("um2")]
Dollars = Annotated[float, Field(gt=0), Quantity("USD")]
DollarsPerGb = Annotated[float, Field(gt=0), Quantity("USD/GB")]
Defects = Annotated[float, Field(ge=0), Quantity("/cm2")]


class Process(Frozen):
    """A process of a foundry."""

    logic: Density
    cell: Cell
    """Of one bit of a cache [um2]."""


class Memories(Frozen):
    """Memories on a die."""

    large: Share
    """Share of a large memory's area that is cells."""
    small: Share
    two_ports: Ratio
    """Area of a register file's cell over that of a cache."""


class Tensor(Frozen):
    """Tensor cores."""

    fp16_mac: Transistors
    """Per FP16 multiply-accumulate a clock."""
    further_type: Share
    """Of *fp16_mac*, for every further operand type."""


class Lanes(Frozen):
    """Transistors of one lane, by class of instructions."""

    fp32: Transistors
    fp16x2: Transistors
    int: Transistors
    imad: Transistors
    sfu: Transistors
    cvt: Transistors
    pack: Transistors
    widen: Transistors
    shuffle: Transistors
    sas: Transistors
    fp64: Transistors


class Photo(Frozen):
    """Areas on the die photo of one chip [mm2]."""

    product: str
    sm: Area
    l2: Area
    interconnect: Area
    memory_phys: Area
    memory_controllers: Area
    links: Area
    host: Area


class Gddr(Frozen):
    """A 32-bit GDDR interface."""

    phy: Area
    controller: Transistors


class Chip(Frozen):
    """A chip as it is made, whatever a card has switched off."""

    memory: Literal["hbm", "gddr"]
    dies: Count
    sms: Count
    l1: Bytes
    """Of an SM, with shared memory."""
    fp64: Count
    """FP64 lanes of an SM."""
    l2: Bytes
    l2_slices: Count
    phys: Count
    """Stacks of HBM, or 32-bit channels of GDDR."""
    links: Whole
    """NVLinks."""


class Areas(Frozen):
    """``area.yaml``."""

    schema_version: Literal[1]
    processes: dict[str, Process]
    memories: Memories
    tensor: Tensor
    lanes: Lanes
    annotated: Photo
    gddr: Gddr
    chips: dict[str, Chip]
    products: dict[str, str]
    """Chip of every shipped GPU."""


class Making(Frozen):
    """What a process costs."""

    wafer: Dollars
    defects: Defects


class MemoryPrice(Frozen):
    """Of device memory."""

    hbm: DollarsPerGb
    gddr: DollarsPerGb


class PackagePrice(Frozen):
    """Of the package, with what joins dies and memory in it."""

    hbm: Dollars
    gddr: Dollars


class Prices(Frozen):
    """``cost.yaml``."""

    schema_version: Literal[1]
    processes: dict[str, Making]
    cluster: Ratio
    memory: MemoryPrice
    package: PackagePrice


@dataclass(frozen=True)
class Sourced:
    """Where the values of a file come from."""

    leaves: Mapping[Place, Leaf]
    sources: Mapping[str, str]

    def tags(self, *places: str) -> tuple[str, ...]:
        """Return the source tags of the values at and below *places*, in order."""
        found = (tag for place in places for path, leaf in self.leaves.items()
                 if path[:place.count("/") + 1] == tuple(place.split("/")) for tag in leaf.sources)
        return tuple(dict.fromkeys(found))


def directory() -> Path:
    """Return the folder of the shipped files."""
    return config_directory() / "silicon"


def _chips_known(values: Mapping[Place, Any]) -> Iterator[tuple[Finding, ...]]:
    chips = {path[1] for path in values if path[0] == "chips" and len(path) > 1}
    for path, value in values.items():
        if path[0] == "products" and value is not None and value not in chips:
            yield (Finding(path, f"is a chip: one of {', '.join(sorted(chips))}, got {value!r}"),)


def _no_rules(_: Mapping[Place, Any]) -> Iterator[tuple[Finding, ...]]:
    yield from ()


def _read(path: Path, model: type[Model], kind: Kind) -> tuple[Model, Sourced]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    reader = Reader(path, kind)
    reader.read()
    if defects := reader.defects():
        raise ConfigError("\n".join(defects))
    found = model.model_validate(tree({place: leaf.value for place, leaf in reader.leaves.items()}))
    return found, Sourced(reader.leaves, reader.sources)


def read_areas(path: Path) -> tuple[Areas, Sourced]:
    """Return the areas in *path*. Raises ConfigError, one line per defect."""
    return _read(path, Areas, Kind("file of areas", tree_of(Areas), directory, _chips_known, ("sources",)))


def read_prices(path: Path) -> tuple[Prices, Sourced]:
    """Return the prices in *path*. Raises ConfigError, one line per defect."""
    return _read(path, Prices, Kind("file of prices", tree_of(Prices), directory, _no_rules, ("sources",)))


def checker(path: Path) -> Callable[[Path], object] | None:
    """Return what checks *path* if it is a file of areas or of prices: by the table that only these have."""
    tables = {"chips:": read_areas, "package:": read_prices}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((read for table, read in tables.items() if any(line.startswith(table) for line in lines)), None)


@cache
def areas() -> tuple[Areas, Sourced]:
    """Return the shipped areas."""
    return read_areas(directory() / "area.yaml")


@cache
def prices() -> tuple[Prices, Sourced]:
    """Return the shipped prices."""
    return read_prices(directory() / "cost.yaml")
