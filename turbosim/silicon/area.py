"""Area of a GPU's dies, unit by unit.

Units are transistors at the density of a process, or memory cells; interfaces to other chips do not shrink. What one SM
and the L2 of GA100 take beyond their units was measured on its die photo and is carried to other chips with the density
of their process. The difference to the published area of a chip is the residual, which may be negative; with it, the
GPUs that are sold have the area of their chip by construction. A design point differs from the GPU it is derived from
by what it changes: a chip with spare SMs keeps their share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from turbosim.errors import UsageError
from turbosim.hw import Gpu, load_gpu
from turbosim.hw.rules import flat
from turbosim.silicon.files import Areas, Chip, Process, areas

MIB = 2.0**20
_SHARED = {"fp16": 1.0, "bf16": 1.0, "fp16_acc16": 1.0, "tf32": 0.5, "fp8": 2.0, "int8": 2.0, "int4": 4.0}
"""Products a clock that FP16 multipliers do of a type."""
_FURTHER = ("fp8", "int8", "int4")


@dataclass(frozen=True)
class Part:
    """One part of a die."""

    name: str
    group: str
    mm2: float
    basis: str
    """What there is of it."""
    places: tuple[str, ...]
    """Where ``area.yaml`` has its numbers."""
    measured: bool = True
    """Whether the part was modelled or measured, not left over."""


@dataclass(frozen=True)
class Area:
    """The dies of a GPU."""

    parts: tuple[Part, ...]
    chip: str
    process: str
    dies: int
    published: float
    """Area of the chip that the GPU is derived from [mm2]."""

    @property
    def mm2(self) -> float:
        """All dies together [mm2]."""
        return sum(part.mm2 for part in self.parts)

    @property
    def residual(self) -> float:
        """What nothing explains [mm2]; below zero where the parts are estimated too large."""
        return next(part.mm2 for part in self.parts if part.name == "residual")

    @property
    def unexplained(self) -> float:
        """Area that no unit explains [mm2]: the residual, and the rest of SMs and L2."""
        return sum(part.mm2 for part in self.parts if not part.measured)

    @property
    def blind(self) -> float:
        """Area without the residual: what would be predicted of an unpublished chip [mm2]."""
        return self.mm2 - self.residual


def area_of_gpu(gpu: Gpu) -> Area:
    """Return the area of *gpu*. Raises UsageError as :func:`area_of`."""
    return area_of(values_of(gpu))


def values_of(gpu: Gpu) -> dict[str, Any]:
    """Return the fields of *gpu* by dotted name."""
    return {".".join(path): value for path, value in flat(gpu.model_dump()).items()}


@cache
def _product(name: str) -> dict[str, Any]:
    return values_of(load_gpu(name))


def area_of(values: Mapping[str, Any]) -> Area:
    """Return the area of the GPU whose hardware fields are *values*, by dotted name and in SI units.

    Raises UsageError where its file does not say which shipped GPU has the die, or nothing is known of that.
    """
    data, _ = areas()
    name, base, chip, process = origin(values)
    parts = _parts(data, chip, data.processes[process], values, base)
    published = base["die.area"]
    residual = _residual(str(values["die.product"]))
    what = f"to the {published:g} mm2 of {name}"
    return Area((*parts, Part("residual", "residual", residual, what, (), measured=False)), name, process, chip.dies,
                published)


@cache
def _residual(product: str) -> float:
    """Return what is left of the published area of a shipped GPU [mm2]."""
    data, _ = areas()
    _, base, chip, process = origin({"die.product": product})
    return float(base["die.area"]) - sum(p.mm2 for p in _parts(data, chip, data.processes[process], base, base))


def origin(values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], Chip, str]:
    """Return chip (name), fields of the shipped GPU with it, the chip, and its process. Raises UsageError."""
    data, _ = areas()
    product = values.get("die.product")
    if product is None:
        raise UsageError(f"the hardware file of {values.get('name', 'the GPU')} has no die.product, the shipped GPU "
                         "with the same die, so that area and cost are not known")
    if product not in data.products:
        raise UsageError(f"die.product {product!r}: nothing is known of its die; there are "
                         f"{', '.join(sorted(data.products))}")
    base = _product(str(product))
    name = data.products[str(product)]
    return name, base, data.chips[name], str(base["die.process"])


def _parts(data: Areas, chip: Chip, process: Process, values: Mapping[str, Any], base: Mapping[str, Any]
           ) -> list[Part]:
    def ratio(field: str) -> float:
        return float(values[field]) / float(base[field])

    sms = chip.sms * ratio("sm.count")
    parts = [Part(p.name, "SMs", sms * p.mm2, f"{sms:.4g} x {p.basis}", p.places, p.measured)
             for p in _sm_parts(data, chip, process, values, base)]
    sm_rest, slice_rest = _rests()
    parts.append(Part("rest of SM", "SMs", sms * ratio("sm.schedulers") * sm_rest / process.logic,
                      f"{sms:.4g} x {values['sm.schedulers']} schedulers", ("annotated/sm", "processes"),
                      measured=False))
    capacity, slices = chip.l2 * ratio("l2.capacity"), chip.l2_slices * ratio("l2.bandwidth")
    parts += [
        Part("L2 arrays", "L2", _memory(capacity, process, data.memories.large), f"{capacity / MIB:.4g} MiB",
             ("memories/large", "processes")),
        Part("rest of L2", "L2", slices * slice_rest / process.logic, f"{slices:.4g} slices",
             ("annotated/l2", "processes"), measured=False)]
    photo, seen = data.annotated, data.chips[data.products[data.annotated.product]]
    origin_logic = data.processes[str(_product(photo.product)["die.process"])].logic
    scale = origin_logic / process.logic
    wires = sms * ratio("copy_engine.bandwidth")
    parts.append(Part("interconnect", "interconnect", wires * photo.interconnect / seen.sms * scale,
                      f"{sms:.4g} SMs of {values['copy_engine.bandwidth']:g} B/clk", ("annotated/interconnect",)))
    phys = chip.phys * ratio("hbm.bandwidth")
    if chip.memory == "hbm":
        phy, controller = photo.memory_phys / seen.phys, photo.memory_controllers / seen.phys * scale
        places = ("annotated/memory_phys",), ("annotated/memory_controllers",)
    else:
        phy, controller = data.gddr.phy, data.gddr.controller / process.logic
        places = ("gddr/phy",), ("gddr/controller",)
    what = f"{phys:.4g} {'stacks' if chip.memory == 'hbm' else 'channels of 32 bits'}"
    return [*parts, Part("memory PHYs", "memory", phys * phy, what, places[0]),
            Part("memory controllers", "memory", phys * controller, what, places[1]),
            Part("NVLink", "other interfaces", chip.links * photo.links / seen.links, f"{chip.links} links",
                 ("annotated/links",)),
            Part("host interface, front end", "other interfaces", chip.dies * photo.host, f"{chip.dies} x GA100's",
                 ("annotated/host",))]


def _sm_parts(data: Areas, chip: Chip, process: Process, values: Mapping[str, Any], base: Mapping[str, Any]
              ) -> list[Part]:
    """Return the parts of one SM that are modelled."""
    macs = _tensor_rates(values)
    arrays = max((rate / _SHARED[dtype] for dtype, rate in macs.items()), default=0.0)
    further = data.tensor.further_type * sum(macs[d] / _SHARED[d] for d in _FURTHER if d in macs)
    tensor = data.tensor.fp16_mac * (arrays + further)
    parts = [Part("tensor cores", "", tensor / process.logic, f"{arrays:.4g} FP16 MAC/clk"
                  + "".join(f", {d.upper()}" for d in _FURTHER if d in macs), ("tensor", "processes"))]
    lanes: dict[str, dict[str, float]] = {}
    for field, rate in values.items():
        if field.startswith("pipes.") and field.endswith(".rate"):
            kind = field.split(".")[1]
            group = {"fp32": "FP32, FP16 lanes", "fp16x2": "FP32, FP16 lanes", "int": "INT lanes",
                     "imad": "INT lanes", "sfu": "SFUs", "sas": "SAS units"}.get(kind, "conversion, shuffle lanes")
            lanes.setdefault(group, {})[kind] = float(rate)
    lanes["FP64 lanes"] = {"fp64": float(chip.fp64)}
    for group, kinds in lanes.items():
        count = sum(rate * getattr(data.lanes, kind) for kind, rate in kinds.items())
        parts.append(Part(group, "", count / process.logic,
                          " + ".join(f"{rate:.4g} {kind}" for kind, rate in kinds.items()),
                          (*(f"lanes/{kind}" for kind in kinds), "processes")))
    registers = 4.0 * values["sm.registers"]
    l1 = chip.l1 * values["sm.smem_capacity"] / base["sm.smem_capacity"]
    own = values.get("sm.tensor_memory") or 0.0
    small = data.memories.small
    parts += [Part("register files", "", data.memories.two_ports * _memory(registers, process, small),
                   f"{registers / 1024:.4g} KiB", ("memories/small", "memories/two_ports", "processes")),
              Part("L1, shared memory", "", _memory(l1, process, small), f"{l1 / 1024:.4g} KiB",
                   ("memories/small", "processes"))]
    if own:
        parts.append(Part("tensor memory", "", _memory(own, process, small), f"{own / 1024:.4g} KiB",
                          ("memories/small", "processes")))
    return parts


def _tensor_rates(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the MACs a clock of an SM by operand type, on the fastest path: all run on the same multipliers."""
    found: dict[str, float] = {}
    for field, rate in values.items():
        if field.startswith("tensor.") and ".rates." in field:
            dtype = field.rpartition(".")[2]
            found[dtype] = max(found.get(dtype, 0.0), float(rate))
    return found


def _memory(nbytes: float, process: Process, share: float) -> float:
    """Return the area of *nbytes* of memory of which cells are *share* [mm2]."""
    return 8 * nbytes * process.cell * 1e-6 / share


@cache
def _rests() -> tuple[float, float]:
    """Return the transistors of GA100's SM that are in none of its units, and those of a slice of its L2."""
    data, _ = areas()
    photo = data.annotated
    base, chip = _product(photo.product), data.chips[data.products[photo.product]]
    process = data.processes[str(base["die.process"])]
    known = sum(part.mm2 for part in _sm_parts(data, chip, process, base, base))
    arrays = _memory(chip.l2, process, data.memories.large)
    return (photo.sm - known) * process.logic, (photo.l2 - arrays) * process.logic / chip.l2_slices
