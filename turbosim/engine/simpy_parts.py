"""The parts of the SimPy machine: servers, counters, the L2 cache and the turn that orders roles.

Time is integer ticks. Two things decide the order of events at one tick, in both engines: bookkeeping (service ends,
arrivals) comes before roles act, and roles act in the order of their actor number. :class:`Turn` is that rule.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import simpy
from simpy.events import EventPriority

from turbosim.engine.lowered import (
    DELAYS,
    REORDERED,
    SHARE_SHIFT,
    SPREADS,
    WRITE_LOAD,
    LoweredProgram,
    channel_of,
    decayed,
    loaded_ticks,
)
from turbosim.result import Reason

Steps = Generator[simpy.Event, Any, Any]

_FIRST_TURN_PRIORITY = 2
"""SimPy's own events have priorities 0 (urgent) and 1 (normal)."""


class Turn(simpy.Event):
    """An event at the present tick, after all bookkeeping of the tick and after the turns of lower actor numbers."""

    def __init__(self, env: simpy.Environment, actor: int) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        env.schedule(self, EventPriority(_FIRST_TURN_PRIORITY + actor))


def when(event: simpy.Event, do: Callable[[Any], None]) -> None:
    """Call *do* with the event's value when it is processed."""
    if event.callbacks is None:
        raise AssertionError("the event is already processed")
    event.callbacks.append(lambda e: do(e.value))


class Server:
    """Serves one request at a time, first come first served."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.resource = simpy.Resource(env, capacity=1)
        self.busy = 0
        self.free = 0
        """When all requests so far have been served."""

    def start(self) -> int:
        """Return when a request made now is served."""
        return max(int(self.env.now), self.free)

    def serve(self, ticks: int, held: int = 0) -> simpy.Process:
        """Queue for *ticks* of service; the process returns (start, end). The server is held for *held* at least."""
        self.busy += ticks
        start = self.start()
        self.free = self.end(start, max(ticks, held))
        return self.env.process(self._serve(start, self.free))

    def end(self, start: int, ticks: int) -> int:
        """Return when a request of *ticks* that is served from *start* ends."""
        return start + ticks

    def _serve(self, start: int, end: int) -> Steps:
        with self.resource.request() as grant:
            yield grant
            yield self.env.timeout(end - start)
            return int(self.env.now) - (end - start), int(self.env.now)


class TensorCores(Server):
    """The tensor cores, whose asynchronous products are delayed by what other warps write to registers."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env)
        self.writes: dict[int, tuple[int, int, int]] = {}
        """(start, end, ticks of delay) of each role's latest part of a block."""

    def write(self, actor: int, until: int, ticks: int) -> None:
        """Spread *ticks* of delay evenly from now to *until*.

        Products that are there are not delayed themselves, but what follows them; later ones are.
        """
        now = int(self.env.now)
        if until == now:
            return
        if self.free > now:
            last = self.free
            for _ in range(DELAYS):
                last = self.free + ticks * (min(last, until) - now) // (until - now)
            self.free = last
        self.writes[actor] = now, until, ticks

    def end(self, start: int, ticks: int) -> int:
        """Return when a product of *ticks* from *start* ends beside the blocks that write registers meanwhile."""
        end = start + ticks
        for _ in range(DELAYS):
            end = start + ticks + sum(delay * (min(end, until) - max(start, since)) // (until - since)
                                      for since, until, delay in self.writes.values() if until > start)
        return end

    def _serve(self, start: int, end: int) -> Steps:
        # Delays lie between two requests, so that there is no queue to wait in.
        yield self.env.timeout(end - int(self.env.now))
        return start, end


class SharedMemory(Server):
    """Serves the operands of asynchronous products first, evenly over the time of each, and requests with the rest."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env)
        self.reads: deque[tuple[int, int, int]] = deque(maxlen=SPREADS)
        """(start, end, ticks) of the latest products, in their order on the tensor cores."""

    def read(self, start: int, end: int, ticks: int) -> None:
        """Read the operands of a product for *ticks* between *start* and *end*.

        What requests already have of that time comes later to them together, as the next one sees.
        """
        self.busy += ticks
        self.reads.append((start, end, ticks))
        if self.free > start:
            self.free += ticks * (min(self.free, end) - start) // (end - start)

    def end(self, start: int, ticks: int) -> int:
        """Return when a request of *ticks* that is served from *start* ends beside the operands of products."""
        at = start
        for begin, end, reads in self.reads:
            if end <= at:
                continue
            if begin > at:
                if begin - at >= ticks:
                    break
                ticks -= begin - at
                at = begin
            left = end - begin - reads
            spare = (end - at) * left // (end - begin)
            if spare >= ticks:
                return at - (-ticks * (end - begin) // left)
            ticks -= spare
            at = end
        return at + ticks

    def _serve(self, start: int, end: int) -> Steps:
        # What products read meanwhile may come between two requests, so that there is no queue to wait in.
        yield self.env.timeout(end - int(self.env.now))
        return start, end


@dataclass
class Completion:
    """One signal of a counter: when it is complete, and what a role that waits for it waits for."""

    done: simpy.Event
    code: int = 0


class CtaCounter:
    """Signals of one counter of one CTA, which complete in the order of their issue."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.signals: list[Completion] = []
        self._issued: list[tuple[int, simpy.Event]] = []

    def signal(self, work: simpy.Event, latency: int, code: int | None) -> Completion:
        """Issue a signal that completes *latency* after *work*, and not before its predecessor.

        With *code* None the value of *work* is the code.
        """
        previous = self.signals[-1] if self.signals else None
        completion = Completion(self.env.event())
        self.signals.append(completion)
        self.env.process(self._complete(completion, previous, work, latency, code))
        for number, event in self._issued:
            if number == len(self.signals):
                event.succeed()
        return completion

    def _complete(self, completion: Completion, previous: Completion | None, work: simpy.Event, latency: int,
                  code: int | None) -> Steps:
        value = yield work
        if latency:
            yield self.env.timeout(latency)
        completion.code = value if code is None else code
        own_end = self.env.now
        if previous is not None and not previous.done.triggered:
            yield previous.done
            if self.env.now > own_end:
                completion.code = previous.code
        completion.done.succeed(int(self.env.now))

    def issued(self, number: int) -> simpy.Event:
        """Return an event for the issue of signal *number* (counted from 1)."""
        event = self.env.event()
        self._issued.append((number, event))
        return event


class L2Cache:
    """Which tiles are resident: fully associative, least recently used goes first. Sizes in bytes."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.tiles: OrderedDict[int, int] = OrderedDict()

    def touch(self, tile: int) -> bool:
        """Make *tile* the most recently used; return whether it is resident."""
        if tile not in self.tiles:
            return False
        self.tiles.move_to_end(tile)
        return True

    def insert(self, tile: int, nbytes: int) -> None:
        """Make room and insert. A tile larger than the cache is not kept."""
        if nbytes > self.capacity:
            return
        while self.used + nbytes > self.capacity:
            _, size = self.tiles.popitem(last=False)
            self.used -= size
        self.tiles[tile] = nbytes
        self.used += nbytes


class MemorySystem:
    """L2 and device memory, shared by all SMs."""

    def __init__(self, program: LoweredProgram, dirty: bool = False) -> None:
        self.program = program
        self.cache = L2Cache(program.memory.l2_capacity)
        self.foreign = program.memory.l2_held if dirty else 0
        """Bytes of lines that something before the program has written."""

    def start(self, env: simpy.Environment) -> None:
        """Begin a launch with idle servers; the cache keeps its tiles, all of them arrived."""
        self.env = env
        self.l2 = Server(env)
        self.channels = [Server(env) for _ in range(self.program.memory.channels)]
        # Bytes that each has read and no write has been matched with.
        self.read_before = [0] * self.program.memory.channels
        # Of each, the tick of its last access, and its load after it.
        self.loads = [(0, 0)] * self.program.memory.channels
        self.fills: dict[int, simpy.Process] = {}
        self.read_bytes = self.hit_bytes = self.write_bytes = 0
        self.dram_read_bytes = self.dram_write_bytes = self.evicted_bytes = 0

    def load(self, tensor: int, tile: int, nbytes: int, own: list[simpy.Process], extra: int) -> simpy.Process:
        """Read a tile; the process ends at its arrival and returns the reason for waiting on it.

        *own* are the services of the SM's units that the copy also needs, *extra* further latency [ticks].
        """
        memory = self.program.memory
        self.read_bytes += nbytes
        l2 = self.l2.serve(memory.service(memory.l2_rate, nbytes))
        number = self.program.tensors[tensor].first_tile + tile
        fill: simpy.Process | None
        if self.cache.touch(number):
            self.hit_bytes += nbytes
            fill = self.fills.get(number)
        else:
            self.dram_read_bytes += nbytes
            fill = self.env.process(self._after([l2, *self._transfer(tensor, tile, nbytes)], memory.dram_latency))
            self.fills[number] = fill
            self.cache.insert(number, nbytes)
            displaced = min(nbytes, self.foreign)
            self.foreign -= displaced
            evicted = displaced * memory.dirty >> SHARE_SHIFT
            self.evicted_bytes += evicted
            self._transfer(tensor, tile, evicted, write=True, rate=memory.hbm_rate)
        return self.env.process(self._arrive([l2, *own], fill, extra))

    def store(self, tensor: int, tile: int, nbytes: int, own: list[simpy.Process]) -> simpy.Process:
        """Write a tile through to device memory; the process ends when it is drained.

        It displaces lines of before, too; those that are dirty are written in its stead, and as much of it stays dirty.
        """
        memory = self.program.memory
        self.write_bytes += nbytes
        self.dram_write_bytes += nbytes
        l2 = self.l2.serve(memory.service(memory.l2_rate, nbytes))
        channels = self._transfer(tensor, tile, nbytes, write=True)
        number = self.program.tensors[tensor].first_tile + tile
        if not self.cache.touch(number):
            self.foreign -= min(nbytes, self.foreign)
            self.cache.insert(number, nbytes)
        self.fills[number] = self.env.process(self._after([l2], 0))
        return self.env.process(self._after([l2, *channels, *own], 0))

    def _transfer(self, tensor: int, tile: int, nbytes: int, *, write: bool = False, rate: int | None = None
                  ) -> list[simpy.Process]:
        memory = self.program.memory
        placed = self.program.tensors[tensor]
        rate = placed.rate if rate is None else rate
        address = placed.address + tile * placed.tile_bytes
        end = address + nbytes
        served = []
        while address < end:
            granule = address // memory.interleave
            part = min(end, (granule + 1) * memory.interleave) - address
            channel = channel_of(granule, memory.channels)
            ticks = memory.service(rate, part)
            if write:
                matched = min(part, self.read_before[channel])
                self.read_before[channel] -= matched
                ticks += memory.service(memory.turnaround, matched)
            else:
                self.read_before[channel] = min(self.read_before[channel] + part, REORDERED * memory.interleave)
            done = self.channels[channel].serve(ticks)
            load = self._load_before(channel, WRITE_LOAD * ticks if write else ticks)
            extra = 0 if write else loaded_ticks(memory.loaded_latency, load, memory.window)
            served.append(self.env.process(self._after([done], extra)) if extra else done)
            address += part
        return served

    def _load_before(self, channel: int, ticks: int) -> int:
        """Return the load of a channel, to which *ticks* are added afterwards."""
        now = int(self.env.now)
        at, load = self.loads[channel]
        load = decayed(load, now - at, self.program.memory.window)
        self.loads[channel] = now, load + ticks
        return load

    def _after(self, services: list[simpy.Process], latency: int) -> Steps:
        yield self.env.all_of(services)
        if latency:
            yield self.env.timeout(latency)
        return int(self.env.now)

    def _arrive(self, services: list[simpy.Process], fill: simpy.Process | None, extra: int) -> Steps:
        yield self.env.all_of(services)
        yield self.env.timeout(self.program.memory.l2_latency)
        code = Reason.DATA_L2
        if fill is not None:
            hit_at = int(self.env.now)
            filled_at = yield fill
            if filled_at > hit_at:
                code = Reason.DATA_DRAM
        if extra:
            yield self.env.timeout(extra)
        return int(code)
