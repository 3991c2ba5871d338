"""``copy``: stream bytes from device memory, and back unless ``write=false``."""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.hw.spec import Gpu
from turbosim.program.ops import Affine, Load, Loop, Op, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Tensor
from turbosim.schedules.base import Schedule
from turbosim.schedules.tiles import ceil_div, check_multiple, check_positive
from turbosim.workload import CopyBytes


@dataclass(frozen=True)
class CopyOptions:
    """Options of ``copy``."""

    tile_bytes: int = 4096
    """Bytes a CTA moves at a time: 256 threads, 16 bytes each."""
    stages: int = 4
    """Tiles in flight per CTA."""
    ctas_per_sm: int = 8
    write: bool = True


def build_copy(gpu: Gpu, shape: CopyBytes, options: CopyOptions) -> Program:
    """Return a grid-stride loop over tiles. Raises UsageError for an option out of range."""
    check_multiple("copy", 32, tile_bytes=options.tile_bytes)
    check_positive("copy", stages=options.stages, ctas_per_sm=options.ctas_per_sm)
    tiles = ceil_div(shape.nbytes, options.tile_bytes)
    ctas = min(tiles, gpu.sm.count * options.ctas_per_sm)
    few, more = divmod(tiles, ctas)
    ahead = min(options.stages, few)

    def load(step: Affine) -> Op:
        return Load("load", "source", var("c") + step * ctas, "tiles", smem=False)

    def move(step: Affine) -> tuple[Op, ...]:
        wait: Op = Wait("wait", "tiles", step + 1)
        return (wait, Store("store", "target", var("c") + step * ctas)) if options.write else (wait,)

    rest = var("n") - ahead
    body: tuple[Op | Loop, ...] = (
        Loop("p", Affine(ahead), (load(var("p")),)),
        Loop("i", rest, (*move(var("i")), load(var("i") + ahead))),
        Loop("j", Affine(ahead), move(var("j") + rest)),
    )
    launch = Launch(
        "copy", (Dim("c", ctas),), (Role("all", 8, body),), (Counter("tiles", CounterKind.DATA),),
        (CtaClass("long", (("n", few + 1),)), CtaClass("short", (("n", few),))),
        (("c", tuple([0] * more + [1] * (ctas - more))),), 0, 32)
    names = ("source", "target") if options.write else ("source",)
    return Program("copy", tuple(Tensor(n, tiles, options.tile_bytes, "byte") for n in names), (launch,), 0,
                   {"kernel": "copy", "tile_bytes": options.tile_bytes, "stages": options.stages,
                    "write": options.write})


COPY: Schedule[CopyOptions] = Schedule("copy", "stream copy", (CopyBytes,), CopyOptions, build_copy)
