"""Programs of micro-benchmarks: what the measured kernels read and write, and what they keep in flight."""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.hw.spec import Gpu, OpClass
from turbosim.program.occupancy import WARP_SIZE
from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, Dim, Launch, Program, Role, Tensor
from turbosim.schedules.stream import stream_launch
from turbosim.schedules.tiles import ceil_div

ACCESS = 8
"""Bytes that a thread of the streaming kernels accesses at a time: a double."""
LINE = 128
"""Bytes that a pointer chase moves on by."""
BLOCK = 256
"""Threads of a CTA of the small elementwise kernels."""


def _counter(name: str) -> Counter:
    return Counter(name, CounterKind.DATA)


def chase(accesses: int) -> Program:
    """Return one warp that loads one sector after the other, each needing the one before."""
    body = Loop("i", Affine(accesses), (Load("load", "buffer", var("i"), "in", 32, smem=False),
                                        Wait("wait", "in", var("i") + 1)))
    launch = Launch("chase", (Dim("c", 1),), (Role("warp", 1, (body,)),), (_counter("in"),), registers_per_thread=32)
    return Program("chase", (Tensor("buffer", accesses, LINE, "byte"),), (launch,))


def stream(gpu: Gpu, threads: int, reads: int, writes: int, steps: int) -> Program:
    """Return *threads* threads per SM that go through *reads* and *writes* vectors together, *steps* elements each.

    A warp waits for its loads before it stores and goes on. Every warp is a CTA of its own as far as an SM has room for
    CTAs, so that warps do not wait for each other.
    """
    warps = ceil_div(threads, WARP_SIZE)
    of_cta = next(n for n in range(1, warps + 1) if warps % n == 0 and warps // n <= gpu.sm.max_ctas)
    ctas = gpu.sm.count * warps // of_cta
    roles = []
    for warp in range(of_cta):
        tile = var("c") * of_cta + var("i") * (ctas * of_cta) + warp
        body: tuple[Op, ...] = (
            *(Load(f"load {n}", f"in {n}", tile, f"in {warp}", smem=False) for n in range(reads)),
            *([Wait("wait", f"in {warp}", var("i") * reads + reads)] if reads else []),
            *(Store(f"store {n}", f"out {n}", tile) for n in range(writes)))
        roles.append(Role(f"warp {warp}", 1, (Loop("i", Affine(steps), body),)))
    names = [*(f"in {n}" for n in range(reads)), *(f"out {n}" for n in range(writes))]
    tensors = tuple(Tensor(n, ctas * of_cta * steps, WARP_SIZE * ACCESS, "byte") for n in names)
    counters = tuple(_counter(f"in {w}") for w in range(of_cta)) if reads else ()
    launch = Launch("stream", (Dim("c", ctas),), tuple(roles), counters, registers_per_thread=32)
    return Program("stream", tensors, (launch,))


@dataclass(frozen=True)
class Reader:
    """CTAs that read tile after tile of a buffer that all share."""

    tile_bytes: int
    steps: int
    """Tiles that a CTA reads."""
    depth: int
    """Tiles that it has in flight."""
    warps: int
    registers: int

    @property
    def chunk_bytes(self) -> int:
        """Bytes that a CTA reads."""
        return self.tile_bytes * self.steps


def shared_read(reader: Reader, chunks: int, repeats: int) -> Program:
    """Return *chunks* x *repeats* CTAs, each reading one of *chunks* chunks that lie interleaved in a buffer."""
    def load(step: Affine) -> Op:
        return Load("load", "buffer", var("b") + step * chunks, "in", smem=False)

    steps, depth = reader.steps, reader.depth
    body: tuple[Op | Loop, ...] = (
        Loop("p", Affine(depth), (load(var("p")),)),
        Loop("i", Affine(steps - depth), (Wait("wait", "in", var("i") + 1), load(var("i") + depth))),
        Wait("end", "in", Affine(steps)))
    launch = Launch("shared read", (Dim("b", chunks), Dim("r", repeats)), (Role("all", reader.warps, body),),
                    (_counter("in"),), registers_per_thread=reader.registers)
    return Program("shared read", (Tensor("buffer", steps * chunks, reader.tile_bytes, "byte"),), (launch,))


def elementwise(elements: int) -> Program:
    """Return a kernel that reads *elements* doubles and writes as many."""
    tiles = ceil_div(elements, BLOCK)
    launch = stream_launch("scale", tiles, ("source",), ("target",), ((OpClass.FP32, BLOCK),))
    return Program("scale", tuple(Tensor(n, tiles, BLOCK * ACCESS, "byte") for n in ("source", "target")), (launch,))


def copy(nbytes: int, tile_bytes: int, warps: int) -> Program:
    """Return CTAs of *warps* warps that copy a tile each, all its loads in flight together."""
    tiles = ceil_div(nbytes, tile_bytes)
    body = (Load("load", "source", var("t"), "in", smem=False), Wait("wait", "in", Affine(1)),
            Store("store", "target", var("t")))
    launch = Launch("copy", (Dim("t", tiles),), (Role("all", warps, body),), (_counter("in"),), registers_per_thread=44)
    return Program("copy", tuple(Tensor(n, tiles, tile_bytes, "byte") for n in ("source", "target")), (launch,))


def empty(ctas: int, warps: int) -> Program:
    """Return CTAs that end at once."""
    body = (Compute("exit", lanes=((OpClass.INT, WARP_SIZE * warps),)),)
    launch = Launch("empty", (Dim("c", ctas),), (Role("all", warps, body),), registers_per_thread=16)
    return Program("empty", (), (launch,))
