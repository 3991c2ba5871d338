"""Programs of micro-benchmarks: what the measured kernels read and write, and what they keep in flight."""

from __future__ import annotations

from turbosim.hw.spec import Gpu, OpClass
from turbosim.program.occupancy import WARP_SIZE
from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Signal, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Tensor
from turbosim.schedules.stream import stream_launch
from turbosim.schedules.tiles import BASE_REGISTERS, ceil_div

ACCESS = 8
"""Bytes that a thread of the streaming kernels accesses at a time: a double."""
STEP_BYTES, CHUNK_STEPS, CHUNK_DEPTH = 8192, 64, 4
"""Of a CTA that reads a chunk of a shared buffer: 1024 threads read a double each, 64 times (gpu-l2-cache). Four reads
are taken to be in flight, more than any GPU needs."""
CHUNK_BYTES = STEP_BYTES * CHUNK_STEPS
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


def shared_read(gpu: Gpu, chunks: int, turns: int) -> Program:
    """Return CTAs of 1024 threads, one per SM, that read *turns* of *chunks* chunks that lie interleaved in a buffer.

    The CTAs take the chunks in order, and begin again after the last.
    """
    ctas = gpu.sm.count
    offsets = [tuple((turn * ctas + c) % chunks - c for turn in range(turns)) for c in range(ctas)]
    kinds = {offset: number for number, offset in enumerate(dict.fromkeys(offsets))}
    names = [f"o{turn}" for turn in range(turns)]
    body: list[Op | Loop] = []
    for turn, name in enumerate(names):
        first = var("c") + var(name)
        body += [Loop("p", Affine(CHUNK_DEPTH), (_read(first + var("p") * chunks),)),
                 Loop("i", Affine(CHUNK_STEPS - CHUNK_DEPTH), (
                     Wait("wait", "in", var("i") + (turn * CHUNK_STEPS + 1)),
                     _read(first + var("i") * chunks + CHUNK_DEPTH * chunks))),
                 Wait("end", "in", Affine((turn + 1) * CHUNK_STEPS))]
    classes = tuple(CtaClass(f"from {c}", tuple(zip(names, offset, strict=True)))
                    for c, offset in enumerate(kinds))
    launch = Launch("shared read", (Dim("c", ctas),), (Role("all", 32, tuple(body)),), (_counter("in"),), classes,
                    (("c", tuple(kinds[offset] for offset in offsets)),), registers_per_thread=64)
    return Program("shared read", (Tensor("buffer", CHUNK_STEPS * chunks, STEP_BYTES, "byte"),), (launch,))


def sweep(nbytes: int, tile_bytes: int, passes: int, ctas: int, warps: int) -> Program:
    """Return up to *ctas* CTAs that read a buffer *passes* times together, tile by tile, each waiting for its tile."""
    tiles = ceil_div(nbytes, tile_bytes)
    each = ceil_div(tiles, ctas)
    # All CTAs have as many tiles, of slightly fewer CTAs or bytes than were measured.
    ctas = tiles // each
    body = Loop("p", Affine(passes), (Loop("j", Affine(each), (
        _read(var("c") + var("j") * ctas), Wait("wait", "in", var("p") * each + var("j") + 1))),))
    launch = Launch("sweep", (Dim("c", ctas),), (Role("all", warps, (body,)),), (_counter("in"),),
                    registers_per_thread=64)
    return Program("sweep", (Tensor("buffer", each * ctas, tile_bytes, "byte"),), (launch,))


def tile_read(ctas: int, tile_bytes: int, piece: int, turns: int, stages: int, warps: int) -> Program:
    """Return CTAs that read *turns* tiles of their own each, up to ``stages - 1`` of them in flight, at least one.

    A tile has *piece* bytes of each of its rows, which have as many for every turn.
    """
    ahead = min(max(1, stages - 1), turns)
    first = var("c") * turns

    def take(turn: Affine, more: bool) -> tuple[Op, ...]:
        barrier = (Signal("arrive", "turn"), Wait("barrier", "turn", turn + 1))
        following = (Load("load", "buffer", first + turn + ahead, "in"),) if more else ()
        # The next tile overwrites the one that was taken.
        return (Wait("wait", "in", turn + 1), Compute("take", lanes=((OpClass.FP32, tile_bytes // 4),),
                                                      smem_bytes=tile_bytes), *barrier, *following)

    body = (Loop("p", Affine(ahead), (Load("load", "buffer", first + var("p"), "in"),)),
            Loop("i", Affine(turns - ahead), take(var("i"), more=True)),
            Loop("j", Affine(ahead), take(var("j") + (turns - ahead), more=False)))
    launch = Launch("tile read", (Dim("c", ctas),), (Role("all", warps, body),),
                    (_counter("in"), Counter("turn", CounterKind.BARRIER)), smem_bytes=ahead * tile_bytes,
                    registers_per_thread=BASE_REGISTERS + tile_bytes // (4 * WARP_SIZE * warps))
    run = None if turns == 1 else piece
    return Program("tile read", (Tensor("buffer", ctas * turns, tile_bytes, "byte", run_bytes=run),), (launch,))


def _read(tile: Affine) -> Op:
    return Load("load", "buffer", tile, "in", smem=False)


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
