"""How often a pseudo-channel of HBM opens a row: ``python -m analysis.dram_rows``.

A tile of a matrix is a run of bytes from each of some rows. The runs lie kilobytes apart, in different rows of the
banks of device memory, which have to be opened first; how often a pseudo-channel may do that bounds short runs. Here a
queue of them, in banks that chance picks, is served in the order in which their rows can be opened. Timings are those
of HBM2 in DRAMsim3 (``configs/HBM2_8Gb_x128.ini``) [ns], but for the window of four openings, of which simulators
differ: 12.5 ns in gem5-X, 30 ns in DRAMsim3. Here it is what four openings as fast as ``tRRD_S`` take. No measured time
is used, but that choice was made when measured ones were known (tilings.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from turbosim.hw import Gpu, load_gpu

GPUS = ("a100_sxm_80gb", "h100_pcie", "h100_sxm", "h200_sxm")
RUNS = (32, 64, 128, 256, 1024)
"""Lengths [B]."""
DEPTH = 32
"""Requests that the controller chooses from, as DRAMsim3's (``cmd_queue_size``)."""
REQUESTS = 20_000


@dataclass(frozen=True)
class Timings:
    """Of a pseudo-channel [ns]."""

    banks: int = 16
    groups: int = 4
    row_cycle: float = 48.0
    """From an opening of a bank's row to the next: tRAS + tRP."""
    open_other: float = 4.0
    """Between openings in different bank groups: tRRD_S."""
    open_same: float = 6.0
    """Between openings in a bank group: tRRD_L."""
    window: float = 16.0
    """In which four rows may be opened: tFAW."""
    to_data: float = 14.0
    """From an opening to data: tRCD."""
    close: float = 18.0
    """From a read to the next opening: tRTP + tRP."""
    refreshed: float = 260.0 / 3900.0
    """Share of the time that refreshing takes: tRFC / tREFI."""


def bandwidth(run: int, bus: float, timings: Timings = Timings(), depth: int = DEPTH, seed: int = 0) -> float:
    """Return what a pseudo-channel with a bus of *bus* delivers of runs of *run* bytes in rows of their own [B/ns]."""
    t = timings
    random = Random(seed)
    waiting = [random.randrange(t.banks) for _ in range(depth)]
    bank_ready = [0.0] * t.banks
    group_ready = [0.0] * t.groups
    opened = [-t.window] * 4
    bus_free = 0.0
    for _ in range(REQUESTS):
        any_bank = max(opened[-1] + t.open_other, opened[0] + t.window)
        ready = [max(bank_ready[bank], group_ready[bank % t.groups], any_bank) for bank in waiting]
        place = min(range(depth), key=ready.__getitem__)
        bank = waiting.pop(place)
        # No row is opened before the bus can take its data.
        at = max(ready[place], bus_free - t.to_data)
        bus_free = at + t.to_data + run / bus
        bank_ready[bank] = max(at + t.row_cycle, bus_free + t.close)
        group_ready[bank % t.groups] = at + t.open_same
        opened = [*opened[1:], at]
        waiting.append(random.randrange(t.banks))
    return REQUESTS * run / bus_free * (1 - t.refreshed)


def bus_of(gpu: Gpu) -> float:
    """Return the peak of one of *gpu*'s pseudo-channels [B/ns]."""
    return gpu.hbm.bandwidth / (gpu.hbm.channels * gpu.hbm.pseudo_channels) / 1e9


def activation(timings: Timings = Timings(), depth: int = DEPTH) -> float:
    """Return the mean time between openings where no bus is in the way [ns]: ``hbm.activation``."""
    return 1 / bandwidth(1, 1e6, timings, depth)


def main() -> None:
    """Print the time between openings, and the share of the peak that runs reach on each GPU."""
    print("time between openings [ns]: " + ", ".join(
        f"{activation(depth=depth):.2f} of {depth} requests" for depth in (16, 32, 64)))
    print(f"\nshare of the peak of device memory\n{'run':>8} " + " ".join(f"{name:>14}" for name in GPUS))
    for run in RUNS:
        shares = (bandwidth(run, bus) / bus for bus in (bus_of(load_gpu(name)) for name in GPUS))
        print(f"{run:6} B " + " ".join(f"{share:14.2f}" for share in shares))


if __name__ == "__main__":
    main()
