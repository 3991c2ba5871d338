"""Energy and average power of a finished run, and the clock at which a board keeps within its limit.

Dynamic energy of the chip goes with the square of its voltage. The voltage falls with the clock in a straight line
until it reaches a floor, the form that Schoonhoven et al. (PMBS 2022, "Going Green") find on NVIDIA GPUs. Energies come
from :class:`turbosim.hw.spec.Energy` and hold for random operands. What was assumed is in ``analysis/power.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from turbosim.errors import UsageError
from turbosim.hw.spec import Energy, Gpu
from turbosim.program.work import Work
from turbosim.units import show


@dataclass(frozen=True)
class Between:
    """What runs between two runs of a program, as benchmarks clear the cache: the limit holds for both together."""

    seconds: float
    dram_bytes: int
    """Bytes that cross L2 and device memory."""


WITHIN = 0.005
"""The power found is at most this share below the limit."""
MOST_RUNS = 12
COMPONENTS = ("static", "tensor", "instructions", "smem", "l2", "hbm")


def without_energy(gpu: Gpu, work: Work) -> str:
    """Return the field of the hardware file that the energy of *work* needs and *gpu* lacks; empty if there is none."""
    if gpu.energy is None:
        return "energy"
    lacking = [f"energy.tensor.{dtype.value}" for _, dtype in work.macs if dtype not in gpu.energy.tensor]
    lacking += [f"energy.instruction.{kind.value}" for kind in work.lanes if kind not in gpu.energy.instruction]
    return next(iter(lacking), "")


def energy_data(gpu: Gpu, work: Work) -> Energy:
    """Return the energies of *gpu*. Raises UsageError where its file lacks one that *work* needs."""
    lacking = without_energy(gpu, work)
    if gpu.energy is None or lacking:
        raise UsageError(f"clock power: the hardware file of {gpu.name} has no {lacking}, so the power is not known; "
                         "add it, or take another clock: sustained, boost, tensor_spec")
    return gpu.energy


def voltage(data: Energy, hertz: float) -> float:
    """Return the voltage at *hertz* over that at which *data* are stated."""
    return max(data.voltage_floor, 1 + data.voltage_slope * (hertz / data.clock - 1))


def padding_of(work: Work, useful_flops: int) -> float:
    """Return the share of the products of *work* that are beyond *useful_flops*; 0 where those are not stated.

    Masked products count as padding too, although one of the two that attention computes has ordinary operands.
    """
    return max(0.0, 1 - useful_flops / work.tensor_flops) if useful_flops and work.tensor_flops else 0.0


def energy_of(gpu: Gpu, work: Work, l2_bytes: int, dram_bytes: int, seconds: float, hertz: float,
              padding: float = 0.0) -> dict[str, float]:
    """Return the energy of a run of *seconds* at *hertz*, by component [J]; the sum is that of the board.

    *work* is what the program executes, *padding* the share of its products with constant operands, *l2_bytes* and
    *dram_bytes* what crossed L2 and device memory. Raises UsageError where the GPU's file lacks an energy.
    """
    data = energy_data(gpu, work)
    square = voltage(data, hertz) ** 2
    ordinary = 1 - padding * (1 - data.padding)
    return {
        "static": data.static * seconds,
        "tensor": square * ordinary * sum(n * data.tensor[dtype] for (_, dtype), n in work.macs.items()),
        "instructions": square * sum(n * data.instruction[kind] for kind, n in work.lanes.items()),
        "smem": square * work.smem_bytes * data.smem,
        "l2": square * l2_bytes * data.l2,
        "hbm": dram_bytes * data.hbm,
    }


def with_between(gpu: Gpu, seconds: float, energies: Mapping[str, float], between: Between, hertz: float
                 ) -> tuple[float, dict[str, float]]:
    """Return the time [s] and the energies [J] of a run at *hertz* and of what comes before the next one."""
    more = energy_of(gpu, Work(), between.dram_bytes, between.dram_bytes, between.seconds, hertz)
    return seconds + between.seconds, {name: joules + more[name] for name, joules in energies.items()}


def find_clock(gpu: Gpu, measure: Callable[[float], tuple[float, Mapping[str, float]]]) -> float:
    """Return the highest SM clock, up to boost, at which the average power is within the board's limit [Hz].

    *measure* runs the program at a clock [Hz] and returns its time [s] and energies [J] as :func:`energy_of` has them.
    Where even the lowest clock draws too much, that is returned. Raises UsageError where the GPU's file has no
    energies.
    """
    data, limit = energy_data(gpu, Work()), gpu.power.limit
    low, high = data.lowest_clock, gpu.clock.boost
    clock = high
    seen: list[tuple[float, float]] = []
    for _ in range(MOST_RUNS):
        seconds, energies = measure(clock)
        power = sum(energies.values()) / seconds
        if power <= limit and (clock == gpu.clock.boost or power >= limit * (1 - WITHIN)):
            return clock
        if clock == data.lowest_clock:
            return clock
        low, high = (clock, high) if power <= limit else (low, clock)
        seen.append((clock, seconds))
        guess = _guess(data, seen, energies, limit)
        if guess <= data.lowest_clock and low == data.lowest_clock:
            clock = low
        else:
            # A guess outside of what is known of the answer is replaced by the middle.
            clock = guess if low < guess < high else (low + high) / 2
    return low


def _guess(data: Energy, seen: list[tuple[float, float]], energies: Mapping[str, float], limit: float) -> float:
    """Return where the limit is met if the time is a / clock + b, as the last two of *seen* (clock, time) have it."""
    clock, seconds = seen[-1]
    slope = clock * seconds
    if len(seen) > 1:
        before, other = seen[-2]
        slope = min(slope, max(0.0, (other - seconds) / (1 / before - 1 / clock)))
    fixed = seconds - slope / clock
    scaled = sum(energies[name] for name in ("tensor", "instructions", "smem", "l2")) / voltage(data, clock) ** 2
    low, high = 1.0, 2 * max(c for c, _ in seen)
    for _ in range(60):
        middle = (low + high) / 2
        time = slope / middle + fixed
        power = data.static + (scaled * voltage(data, middle) ** 2 + energies["hbm"]) / time
        low, high = (middle, high) if power < limit * (1 - WITHIN / 2) else (low, middle)
    return low


def describe(energies: Mapping[str, float], seconds: float, limit: float) -> str:
    """Return the average power and its split on one line."""
    total = sum(energies.values())
    parts = ", ".join(f"{name} {joules / total:.0%}" for name, joules in energies.items() if joules >= 0.005 * total)
    power = total / seconds
    over = f", above the limit of {show(limit, 'W')}" if power > limit * (1 + WITHIN) else f" of {show(limit, 'W')}"
    return f"{show(power, 'W', 3)}{over} ({parts})"
