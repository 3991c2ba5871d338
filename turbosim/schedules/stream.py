"""Elementwise kernels: every CTA reads a tile of each input, computes, and writes a tile of each output."""

from __future__ import annotations

from turbosim.hw.spec import OpClass
from turbosim.program.ops import Affine, Compute, Load, Op, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, Dim, Launch, Role


def stream_launch(name: str, tiles: int, reads: tuple[str, ...], writes: tuple[str, ...],
                  lanes: tuple[tuple[OpClass, int], ...], repeat: int = 1) -> Launch:
    """Return a launch of *tiles* x *repeat* CTAs: tile i of every read tensor in, tile i of every written one out.

    With *repeat* > 1 every input tile is read by that many CTAs (query heads that share a KV head) and only the
    outputs differ, whose tile numbers are then tile * repeat + repetition.
    """
    out = var("t") * repeat + var("r") if repeat > 1 else var("t")
    body: tuple[Op, ...] = (
        *(Load(f"load {n}", n, var("t"), "in", smem=False) for n in reads),
        Wait("wait", "in", Affine(len(reads))),
        Compute("work", lanes=lanes),
        *(Store(f"store {n}", n, out) for n in writes),
    )
    grid = (Dim("r", repeat), Dim("t", tiles)) if repeat > 1 else (Dim("t", tiles),)
    return Launch(name, grid, (Role("all", 4, body),), (Counter("in", CounterKind.DATA),), registers_per_thread=40)
