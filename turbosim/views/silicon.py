"""Area and cost of a GPU, for a terminal and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbosim.silicon.area import Area, Part
from turbosim.silicon.cost import RETICLE_MM2, Cost
from turbosim.silicon.files import areas, prices

if TYPE_CHECKING:
    from rich.console import RenderableType


def to_json(name: str, area: Area, cost: Cost) -> dict[str, Any]:
    """Return area and cost as plain values."""
    return {"name": name, "chip": area.chip, "process": area.process, "dies": area.dies, "area_mm2": area.mm2,
            "published_mm2": area.published, "without_residual_mm2": area.blind, "unexplained_mm2": area.unexplained,
            "parts": [{"name": p.name, "group": p.group, "mm2": p.mm2, "share": p.mm2 / area.mm2, "of": p.basis,
                       "explained": p.measured, "source": list(tags_of(p, area.process))} for p in area.parts],
            "cost_usd": cost.usd, "dies_usd": cost.dies, "memory_usd": cost.memory, "package_usd": cost.package,
            "dies_per_wafer": cost.dies_per_wafer, "yield": cost.yielded}


def tags_of(part: Part, process: str) -> tuple[str, ...]:
    """Return the source tags of *part*, with those of the *process* where it goes with that."""
    _, sourced = areas()
    what = "cell" if part.places[:1] and part.places[0].startswith("memories") else "logic"
    return sourced.tags(*(f"processes/{process}/{what}" if x == "processes" else x for x in part.places))


def table(name: str, area: Area, cost: Cost) -> RenderableType:
    """Return the parts of the dies with their sources, and the cost."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    data, sourced = areas()
    rows = Table(box=None, padding=(0, 2))
    for column, right in (("part", False), ("of", False), ("mm2", True), ("share", True), ("source", False)):
        rows.add_column(column, justify="right" if right else "left")
    used: dict[str, None] = {}
    for part in area.parts:
        tags = tags_of(part, area.process)
        used |= dict.fromkeys(tags)
        rows.add_row(part.name + ("" if part.measured else "*"), part.basis, f"{part.mm2:.1f}",
                     f"{part.mm2 / area.mm2:.1%}", ", ".join(tags))
    rows.add_row("all", f"{area.dies} die{'s' * (area.dies != 1)} on {area.process}", f"{area.mm2:.1f}", "100 %", "")
    told = (f"* explained by no unit: {area.unexplained:.0f} mm2, {area.unexplained / area.mm2:.0%}. Without the "
            f"residual, {area.blind:.0f} mm2 would have been predicted ({area.blind / area.mm2 - 1:+.1%}).")
    lines = [told]
    if area.mm2 / area.dies > RETICLE_MM2:
        lines.append(f"note: no die can be larger than {RETICLE_MM2:g} mm2, what one exposure covers")
    lines.append(f"cost: {cost.usd:,.0f} USD: dies {cost.dies:,.0f} ({cost.dies_per_wafer:.1f} a wafer, "
                 f"{cost.yielded:.0%} without a defect), memory {cost.memory:,.0f}, package {cost.package:,.0f}")
    _, priced = prices()
    used_prices = priced.tags(f"processes/{area.process}", "cluster", f"memory/{data.chips[area.chip].memory}",
                              f"package/{data.chips[area.chip].memory}")
    lines += ["", "sources", *(f"  {tag}: {sourced.sources[tag]}" for tag in used), "  of prices",
              *(f"  {tag}: {priced.sources[tag]}" for tag in used_prices)]
    return Group(Text(name), rows, "", *(Text(line) for line in lines))
