"""What the micro-benchmarks compile to, and the cells of a table that show resources and a loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHAIN = {"ctas": 4, "iterations": 64, "elements": 16}
TILES = ((64, 64, 4), (128, 64, 4), (128, 128, 8), (16, 64, 1))
"""m, n and warps of the matrix products that are measured; k is 64."""
CASES: dict[str, tuple[str, dict[str, int], dict[str, int], tuple[str, ...]]] = {
    "copy": ("copy", {"nbytes": 65536}, {}, ("LDG", "STG")),
    "l2_read": ("l2_read", {"nbytes": 65536, "passes": 3, "ctas": 2}, {}, ("LDG", "STG", "FADD")),
    "tile_read": ("tile_read", {"ctas": 2, "rows": 128, "piece": 128, "depth": 1024}, {},
                  ("LDGSTS", "LDG", "LDS", "BAR")),
    **{f"{kernel}, {m} x {n} x 64": (kernel, {"ctas": 4, "iterations": 64, "m": m, "n": n, "k": 64}, {"warps": warps},
                                     ("HMMA", "IMMA", "HGMMA", "IGMMA", "UTCHMMA", "UTCIMMA", "LDSM", "LDS", "LDG"))
       for kernel in ("mma_fp16", "mma_int8") for m, n, warps in TILES},
    "exp2": ("exp2", CHAIN, {}, ("MUFU",)),
    "fma_fp16": ("fma_fp16", CHAIN, {}, ("HFMA2",)),
    "i2f": ("i2f", CHAIN, {}, ("I2F",)),
    "f2i": ("f2i", CHAIN, {}, ("F2I", "LOP3")),
    "f2h": ("f2h", CHAIN, {}, ("F2F",)),
    "smem, 4 warps": ("smem", {"ctas": 4, "iterations": 64}, {"warps": 4}, ("STS", "LDS", "BAR")),
    "smem, 8 warps": ("smem", {"ctas": 4, "iterations": 64}, {"warps": 8}, ("STS", "LDS", "BAR")),
    "empty": ("empty", {"ctas": 4}, {}, ()),
}
"""Name in the table -> micro-benchmark, sizes, options, and beginnings of the opcodes that the table names. Trip
counts, grids and buffers are small, since they are not compiled in."""
RESOURCES = "registers | spills | shared memory | CTAs an SM | limited by | warps"
"""Heads of the cells of :func:`resource_cells`."""


def compiled_micro(capability: int) -> dict[str, dict[str, Any]]:
    """Return resources and instructions of every case on a target: of the loop, or of a kernel that has none."""
    from kernels.machine_code import Launch, compile_launch
    from kernels.ops.micro import plan_of

    rows = {}
    for name, (kernel, sizes, options, named) in CASES.items():
        plan = plan_of(kernel, sizes, options, "cpu", 0)
        constants = dict(plan.constants)
        if "asm" in constants:
            constants["asm"] = True
        code = compile_launch(Launch(plan.kernel, {**plan.arguments, **constants}, {"num_warps": plan.warps}),
                              capability)
        span = code.hot_loop()
        # Behind the end of a kernel are NOPs.
        counts = {opcode: n for opcode, n in code.count(span).items() if span or opcode != "NOP"}
        rows[name] = {**resources(code, plan.warps), "in_loop": span is not None, "counts": counts, "named": named}
    return rows


def resources(code: Any, warps: int) -> dict[str, int]:
    """Return what a CTA of *warps* warps of the :class:`kernels.machine_code.MachineCode` *code* takes."""
    return {"registers": code.registers, "stack": code.stack_bytes, "smem": code.smem_bytes, "warps": warps,
            "spills": sum(n for o, n in code.count().items() if o.startswith(("STL", "LDL")))}


def resource_cells(sm: Any, row: Mapping[str, Any]) -> str:
    """Return the cells of :data:`RESOURCES`; *sm* is a :class:`turbosim.hw.spec.Sm`."""
    from turbosim.program.occupancy import resident_ctas

    limits = resident_ctas(sm, row["warps"], row["registers"], row["smem"])
    least = min(limits, key=lambda n: limits[n])
    return (f"{row['registers']} | {row['spills']} | {row['smem'] / 1024:.1f} KiB | {limits[least]} | {least} "
            f"| {limits[least] * row['warps']} of {sm.max_warps}")


def loop_cell(row: Mapping[str, Any]) -> str:
    """Return ``64 MUFU.EX2, 5 others``: the opcodes that begin like one of ``named``, and how many others there are."""
    shown = {opcode: n for opcode, n in row["counts"].items() if opcode.startswith(tuple(row["named"]))}
    others = sum(row["counts"].values()) - sum(shown.values())
    parts = [f"{n} {opcode}" for opcode, n in sorted(shown.items(), key=lambda item: (-item[1], item[0]))]
    parts += [f"{others} other{'s' if others > 1 else ''}"] if others else []
    return ("" if row["in_loop"] else "no loop: ") + ", ".join(parts)
