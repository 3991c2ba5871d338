"""The energy of a byte that L2 delivers, on Hopper, from a card whose power limit binds when it reads L2.

An H100 PCIe "gets right up against" its 350 W in bandwidth tests, above all when it reads L2, and its clock falls from
1755 to as little as 1395 MHz (Chips and Cheese, "Nvidia's H100: Funny L2, and Tons of Bandwidth", 2023). gpu-benches
measured L2's bandwidth on such a card and on an H200, the same chip at a limit that it does not reach. If L2 delivers
as many bytes a cycle and SM on both, the ratio of the bandwidths gives the clock to which the card fell.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.instruction_energy import header
from turbosim.hw import Gpu, load_gpu
from turbosim.hw.names import OpClass
from turbosim.power import energy_data, voltage
from turbosim.program.work import Work

WORD = 8
"""Bytes that a thread of the benchmark loads at once (double)."""
INSTRUCTIONS = 2
"""Instructions for each: the load and an addition."""
WHOLE_PATH = 8 * 15.3e-12
"""From device memory to the SM, by the sweep on an H200 [J/B]: L2's energy and that of device memory share it."""
LOWEST = 1.395e9
"""The lowest clock that was seen [Hz]."""


@dataclass(frozen=True)
class Card:
    """A card that reads L2 at its power limit."""

    gpu: Gpu
    hertz: float
    """SM clock."""

    @property
    def watts(self) -> float:
        """Power beyond that at rest [W]."""
        return self.gpu.power.limit - energy_data(self.gpu, Work()).static

    def bytes_per_s(self, per_clock: float) -> float:
        """Return the bandwidth of L2 at *per_clock* bytes a cycle and SM."""
        return per_clock * self.gpu.sm.count * self.hertz

    def energy(self, per_clock: float) -> float:
        """Return the energy of a byte [J] that makes the card take its limit."""
        data = energy_data(self.gpu, Work())
        whole = self.watts / (voltage(data, self.hertz) ** 2 * self.bytes_per_s(per_clock))
        return whole - INSTRUCTIONS * data.instruction[OpClass.FP32] / WORD


def per_clock(gpu: Gpu, hertz: float) -> float:
    """Return the bytes a cycle and SM that L2 delivers at the measured bandwidth of *gpu* and *hertz*."""
    return gpu.l2.bandwidth / (gpu.sm.count * hertz)


def cards() -> tuple[float, list[Card]]:
    """Return an H200's bytes a cycle and SM, and an H100 PCIe at the clock that they imply, the lowest, and boost."""
    h200, h100 = load_gpu("h200_sxm"), load_gpu("h100_pcie")
    wide = per_clock(h200, h200.clock.boost)
    implied = h100.l2.bandwidth / (wide * h100.sm.count)
    return wide, [Card(h100, hertz) for hertz in (implied, LOWEST, h100.clock.boost)]


def l2_lines() -> list[str]:
    """Return the table of the energy at the clock that is implied, and at the ends of what was seen."""
    wide, found = cards()
    lines = header("H100 PCIe at 350 W", "clock [GHz]", "L2 [TB/s]", "energy of L2 [pJ/B]", "of device memory [pJ/B]")
    for name, card in zip(("as the bandwidths imply", "lowest seen", "boost: the limit just met"), found, strict=True):
        energy = card.energy(wide)
        lines.append(f"| {name} | {card.hertz / 1e9:.2f} | {card.bytes_per_s(wide) / 1e12:.2f} | {1e12 * energy:.0f} | "
                     f"{1e12 * (WHOLE_PATH - energy):.0f} |")
    h200 = load_gpu("h200_sxm")
    data = energy_data(h200, Work())
    loads = INSTRUCTIONS * data.instruction[OpClass.FP32] / WORD
    watts = data.static + h200.l2.bandwidth * (data.l2 + loads)
    told = (f"With the energies of its file an H200 takes {watts:.0f} W at {h200.l2.bandwidth / 1e12:.1f} TB/s and "
            f"boost. Its limit is {h200.power.limit:.0f} W.")
    return [*lines, "", told]
