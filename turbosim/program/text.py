"""A program as readable text."""

from __future__ import annotations

from collections.abc import Iterator

from turbosim.program.ops import Compute, Load, Loop, Op, Store, Wait
from turbosim.program.program import Launch, Program, Scheduler
from turbosim.program.work import class_counts, program_work

_CLASSES_SHOWN = 4


def dump(program: Program) -> str:
    """Return *program* as text: tensors, launches with classes and counters, streams, and its total work."""
    lines = [f"program {program.name}"]
    if program.meta:
        # Sentences have lines of their own.
        text = {k: str(v) for k, v in program.meta.items() if isinstance(v, str) and " " in v}
        lines.append("  " + ", ".join(f"{k}={v}" for k, v in program.meta.items() if k not in text))
        lines += [f"  {k}: {line}" for k, v in text.items() for line in v.splitlines()]
    lines.append("tensors")
    lines += [f"  {t.name}: {t.tiles:,} tiles of {t.tile_bytes:,} B {t.dtype}, {t.nbytes:,} B"
              + (f", in runs of {t.run_bytes:,} B" if t.run_bytes else "") for t in program.tensors]
    for launch in program.launches:
        lines += _launch(launch)
    work = program_work(program)
    lines.append("totals")
    lines.append(f"  useful FLOPs {program.useful_flops:,}; tensor-core FLOPs {work.tensor_flops:,}")
    lines.append(f"  loads {work.read_bytes:,} B; stores {work.write_bytes:,} B; shared memory {work.smem_bytes:,} B")
    lanes = ", ".join(f"{c.value} {n:,}" for c, n in sorted(work.lanes.items()))
    lines.append(f"  instructions per thread class: {lanes or 'none'}")
    lines.append(f"  tile operations {work.ops:,}")
    return "\n".join(lines) + "\n"


def _launch(launch: Launch) -> Iterator[str]:
    grid = " x ".join(f"{d.name}={d.size}" for d in launch.grid)
    yield (f"launch {launch.name}: grid {grid} = {launch.ctas:,} "
           + ("CTAs" if launch.scheduler is Scheduler.SINGLE else f"elements, {launch.scheduler.value} schedule"))
    yield (f"  per CTA: {launch.warps} warps, {launch.registers_per_thread} registers per thread, "
           f"{launch.smem_bytes:,} B shared memory"
           + (f", {launch.tensor_memory_bytes:,} B tensor memory" if launch.tensor_memory_bytes else ""))
    for shown, (cta_class, count) in enumerate(class_counts(launch)):
        if shown == _CLASSES_SHOWN:
            yield f"  ... {len(launch.classes) - shown} more classes"
            break
        params = ", ".join(f"{k}={v}" for k, v in cta_class.params) or "no parameters"
        yield f"  class {cta_class.name}: {count:,} CTAs, {params}"
    if launch.counters:
        yield "  counters " + ", ".join(f"{c.name} ({c.kind.value})" for c in launch.counters)
    for role in launch.roles:
        yield f"  role {role.name}: {role.warps} warps"
        yield from _body(role.body, "    ")


def _body(body: tuple[Op | Loop, ...], indent: str) -> Iterator[str]:
    for item in body:
        if isinstance(item, Loop):
            yield f"{indent}loop {item.variable} < {item.trips}"
            yield from _body(item.body, indent + "  ")
        else:
            yield indent + _op(item)


def _op(op: Op) -> str:
    if isinstance(op, Compute):
        parts = []
        if op.mma is not None:
            parts.append(f"{op.mma.path.value} {op.mma.dtype.value} {op.mma.m}x{op.mma.n}x{op.mma.k}"
                         + (f" x{op.mma.count}" if op.mma.count > 1 else ""))
        parts += [f"{c.value} {n:,}" for c, n in op.lanes]
        if op.smem_bytes:
            parts.append(f"smem {op.smem_bytes:,} B")
        if op.chain:
            parts.append("chain " + " + ".join(f"{n} {c.value}" for c, n in op.chain))
        if op.pieces > 1:
            parts.append(f"{op.pieces} pieces")
        if op.cycles:
            parts.append(_duration(op.cycles))
        if op.signal is not None:
            parts.append(f"-> {op.signal}")
        return f"compute {op.label}: {'; '.join(parts) or 'nothing'}"
    if isinstance(op, (Load, Store)):
        size = "" if op.nbytes is None else f" {op.nbytes:,} B"
        if isinstance(op, Store):
            return f"store {op.tensor}[{op.tile}]{size}"
        how = " bulk" if op.bulk else ""
        how += f" for {op.shared_by} CTAs" if op.shared_by > 1 else ""
        where = "" if op.smem else " to registers"
        return f"load {op.tensor}[{op.tile}]{size}{how}{where} -> {op.counter}"
    if isinstance(op, Wait):
        return f"wait {op.counter} >= {op.until}"
    return f"signal {op.counter}"


def _duration(cycles: tuple[float, ...]) -> str:
    if len(set(cycles)) == 1:
        return f"takes {cycles[0]:,.1f} cycles"
    return f"takes {cycles[0]:,.1f} to {cycles[-1]:,.1f} cycles with 1 to {len(cycles)} CTAs on the SM"
