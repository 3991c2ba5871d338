"""What the kernels compile to: ``python -m kernels.report [--write] [TARGET ...]``.

Prints resources, occupancy, the instruction mix per score of the attention kernels' main loops and the instructions of
the micro-benchmarks' loops for sm_80, sm_89, sm_90, sm_100 and sm_120, with no GPU present; ``--write`` puts the tables
into ``kernels/README.md``. Compiling takes about 30 s a target.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels.ops.common import MissingPackageError, interpreted, need_triton
from kernels.report_micro import RESOURCES, compiled_micro, loop_cell, resource_cells, resources

TARGETS = {80: "a100_sxm_80gb", 89: "rtx_4090", 90: "h100_sxm", 100: "b200", 120: "rtx_5090"}
"""Compute capabilities, and the GPU whose SM limits the occupancy."""
README = Path(__file__).parent / "README.md"
TENSOR = ("HMMA", "IMMA", "HGMMA", "IGMMA", "UTCHMMA", "UTCIMMA", "UTCQMMA")
CLASSES: dict[str, tuple[str, ...]] = {
    "tensor": TENSOR,
    "MUFU": ("MUFU",),
    "F2I": ("F2I",),
    "I2F": ("I2F.",),
    "I2FP": ("I2FP",),
    "F2F": ("F2F.",),
    "F2FP": ("F2FP",),
    "half": ("HFMA2", "HADD2", "HMUL2", "HMNMX2", "HSET2", "HSETP2"),
    "FMA": ("FFMA", "FADD", "FMUL"),
    "IMAD": ("IMAD",),
    "ALU": ("LOP3", "SHF.", "PRMT", "SEL", "ISETP", "FSEL", "FSETP", "FMNMX", "IADD", "IMNMX", "VIADD", "VIMNMX",
            "LEA", "PLOP3", "P2R", "R2P", "I2I", "IABS", "VOTE"),
    "MOV": ("MOV", "CS2R", "S2R"),
    "SHFL": ("SHFL",),
    "LDS/STS": ("LDS", "STS", "LDSM", "STSM", "LDTM", "STTM"),
}
"""Instruction classes by the beginning of the opcode. I2F and I2FP, F2F and F2FP are different instructions with
different rates: one value on the conversion pipe, and packed or FP32 forms on the arithmetic pipes."""


def cases() -> dict[str, tuple[Callable[[], object], int, int]]:
    """Return, by name, a call, which of its launches is meant, and the scores that a turn of the main loop covers."""
    import torch

    from kernels.ops import flash, kivi, turbo
    from turbosim.numerics.cache import QuantizedKVCache

    def half(*shape: int) -> torch.Tensor:
        return torch.zeros(*shape, dtype=torch.float16)

    def int8(d: int) -> turbo.Int8KV:
        return turbo.Int8KV(tokens, 64, torch.zeros(batch, kv_heads, tokens, d, dtype=torch.int8),
                            torch.zeros(batch, kv_heads, d, tokens, dtype=torch.int8),
                            half(batch, kv_heads, tokens // 64), half(batch, kv_heads, tokens // 64))

    def mixed(d: int) -> QuantizedKVCache:
        cache = QuantizedKVCache(batch, (4, 2) * 4, d, tokens)
        cache.blocks, cache.held = tokens // 64 - 1, 64
        return cache

    batch, heads, kv_heads, tokens, d = 2, 32, 8, 4096, 128
    q, k = half(batch, heads, tokens, d), half(batch, kv_heads, tokens, d)
    q64, k64, kv64, cache64 = half(batch, heads, tokens, 64), half(batch, kv_heads, tokens, 64), int8(64), mixed(64)
    one, one64 = q[:, :, :1], q64[:, :, :1]
    kv, cache = int8(d), mixed(d)
    kivis = {bits: kivi.kivi_cache(k[:, :, :256], k[:, :, :256], bits) for bits in (4, 2)}
    full = QuantizedKVCache(batch, (4, 2) * 4, d, tokens)
    full.blocks, full.held = tokens // 64 - 2, 64
    found: dict[str, tuple[Callable[[], object], int, int]] = {
        "flash prefill": (lambda: flash.flash_prefill(q, k, k, causal=False), 0, 128 * 64),
        "flash prefill, causal": (lambda: flash.flash_prefill(q, k, k, causal=True), 0, 128 * 64),
        "flash prefill, d 64": (lambda: flash.flash_prefill(q64, k64, k64, causal=False), 0, 128 * 64)}
    for convert in ("magic", "cast"):
        for sas in turbo.SAS:
            # With the default tile the chain of selects of naive SAS spills registers on sm_80 and sm_89.
            tile: dict[str, Any] = {"block_m": 128, "warps": 8} if sas == "naive" else {}

            def act(sas: str = sas, convert: str = convert, tile: dict[str, Any] = tile) -> object:
                return turbo.turbo_prefill(q, kv, False, {"sas": sas, "convert": convert, **tile})

            name = f"turbo prefill, {sas}, {convert}"
            found[f"{name}, 128 rows" if tile else name] = act, 0, tile.get("block_m", 64) * 64
    for name, made, causal, options in (
            ("row", (q, kv), False, {"p_scale": "row"}),
            ("row, Q by row", (q, kv), False, {"p_scale": "row", "q_scale": "row"}),
            ("causal", (q, kv), True, {}), ("d 64", (q64, kv64), False, {}), ("d 64, causal", (q64, kv64), True, {})):
        def prefill(made: Any = made, causal: bool = causal, options: Any = options) -> object:
            return turbo.turbo_prefill(*made, causal, options)

        found[f"turbo prefill, exponent, magic, {name}"] = prefill, 0, 64 * 64
    for number, name in enumerate(("quantise", "quantise, buffer")):
        found[name] = lambda: turbo.quantise(k, k, QuantizedKVCache(batch, (4, 2) * 4, d, tokens)), number, 0
    found["append, flush"] = lambda: turbo.append(full, k[:, :, :1], k[:, :, :1]), 0, 0
    found["flash decode"] = lambda: flash.flash_decode(one, k, k, {"splits": 8}), 0, 16 * 64
    found["combine"] = lambda: flash.flash_decode(one, k, k, {"splits": 8}), 1, 0
    found["flash decode, d 64"] = lambda: flash.flash_decode(one64, k64, k64, {"splits": 8}), 0, 16 * 64
    found["turbo decode"] = lambda: turbo.turbo_decode(one, cache, {"splits": 8}), 0, 16 * 64
    found["turbo decode, d 64"] = lambda: turbo.turbo_decode(one64, cache64, {"splits": 8}), 0, 16 * 64
    for name, options in (
            *((sas, {"sas": sas}) for sas in turbo.SAS[1:]), ("element, magic", {"dequant": "element"}),
            ("fold, cast", {"convert": "cast"}), ("row", {"p_scale": "row"})):
        def variant(options: Any = options) -> object:
            return turbo.turbo_decode(one, cache, {"splits": 8, **options})

        found[f"turbo decode, {name}"] = variant, 0, 16 * 64
    for bits, stored in kivis.items():
        def decode(stored: kivi.KiviCache = stored) -> object:
            return kivi.kivi_decode(one, stored, {"splits": 4})

        found[f"kivi decode, {bits}-bit"] = decode, 0, 16 * 64
    return found


def compiled(capability: int) -> dict[str, dict[str, Any]]:
    """Return resources and instruction counts of every case on a target."""
    from kernels.machine_code import captured, compile_launch

    rows = {}
    for name, (act, number, scores) in cases().items():
        launch = captured(act)[number]
        code = compile_launch(launch, capability)
        loops = code.loops_with(*TENSOR)
        # With more than one loop over tiles (masked tiles, 4 and 2 bits), the first is the main one.
        span = min(loops) if loops else code.hot_loop()
        counts: collections.Counter[str] = collections.Counter()
        rest = 0
        for opcode, n in (code.count(span) if span and scores else {}).items():
            family = next((c for c, starts in CLASSES.items() if (opcode + ".").startswith(starts)), None)
            if family is None:
                rest += n
            else:
                counts[family] += n
        rows[name] = {
            **resources(code, launch.warps),
            "loads": sorted({o for o in code.count(span) if o.startswith("LDG")}) if span and scores else [],
            "counts": {c: counts[c] for c in CLASSES} | {"other": rest}, "scores": scores,
            "tensor": sorted({o for o in code.opcodes if o.startswith(TENSOR)})}
    return rows


def tables(capability: int, rows: dict[str, dict[str, Any]], micro: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the tables of one target: attention kernels, their main loops, micro-benchmarks."""
    from turbosim.hw import load_gpu

    sm = load_gpu(TARGETS[capability]).sm
    lines = [f"### sm_{capability}", "", f"| kernel | {RESOURCES} | tensor core |", "|---" * 8 + "|"]
    for name, row in rows.items():
        shapes = sorted({re.sub(r"^(\w+)\.(.*?\d\d+\w*).*$", r"\1.\2", o) for o in row["tensor"]})
        lines.append(f"| {name} | {resource_cells(sm, row)} | {', '.join(shapes[:2])} |")
    scored = {name: row for name, row in rows.items() if row["scores"]}
    # Classes that no kernel of this target uses are left out.
    names = [c for c in (*CLASSES, "other") if c != "tensor" and any(row["counts"][c] for row in scored.values())]
    lines += ["", "Thread-level instructions per score in the main loop:", "",
              "| kernel | " + " | ".join(names) + " | all |", "|---" * (len(names) + 2) + "|"]
    for name, row in scored.items():
        share = 32 * row["warps"] / row["scores"]
        values = [row["counts"][n] * share for n in names]
        total = sum(row["counts"].values()) * share
        lines.append(f"| {name} | " + " | ".join(f"{v:.2f}" if v else "-" for v in values) + f" | {total:.1f} |")
    lines += ["", "Micro-benchmarks, with the instructions of a warp in one turn of the loop:", "",
              f"| kernel | {RESOURCES} | loop |", "|---" * 8 + "|"]
    lines += [f"| {name} | {resource_cells(sm, row)} | {loop_cell(row)} |"
              for name, row in micro.items()]
    return [*lines, ""]


def write(capability: int, lines: list[str], text: str) -> str:
    """Return the README *text* with the tables of one target replaced."""
    begin, end = f"<!-- sm_{capability} -->", f"<!-- end of sm_{capability} -->"
    before, rest = text.split(begin)
    return before + "\n".join([begin, *lines, end]) + rest.split(end)[1]


def main(arguments: list[str]) -> None:
    """Compile, print, and write if asked to."""
    parser = argparse.ArgumentParser(prog="python -m kernels.report", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("targets", nargs="*", type=int, metavar="TARGET", help="compute capabilities, such as 80 90")
    parser.add_argument("--write", action="store_true", help="put the tables into kernels/README.md")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON instead")
    given = parser.parse_args(arguments)
    for capability in given.targets or TARGETS:
        if capability not in TARGETS:
            parser.error(f"targets are {', '.join(map(str, TARGETS))}, got {capability}")
    if interpreted():
        parser.error("TRITON_INTERPRET is set, and interpreted kernels are not compiled; unset it")
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    try:
        need_triton()
        importlib.import_module("turbosim.hw")
    except MissingPackageError as error:
        parser.error(str(error))
    except ImportError as error:
        parser.error(f"the GPUs' limits are read with {error.name}, which cannot be imported; install turbosim's "
                     "dependencies with pip install .")
    for capability in given.targets or TARGETS:
        rows, micro = compiled(capability), compiled_micro(capability)
        if given.json:
            print(json.dumps([rows, micro]))
            continue
        lines = tables(capability, rows, micro)
        print("\n".join(lines), flush=True)
        if given.write:
            README.write_text(write(capability, lines, README.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
