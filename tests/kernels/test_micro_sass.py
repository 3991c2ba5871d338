"""What the micro-benchmarks compile to, for GPUs that need not be present."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.ops.micro import MICRO

CHAIN = {"ctas": 4, "iterations": 64, "elements": 8}
HALVES = {**CHAIN, "elements": 16}
FP16 = {"ctas": 4, "iterations": 64, "m": 64, "n": 64, "k": 32}
INT8 = {**FP16, "k": 64}
CASES = {
    "empty": ("empty", {"ctas": 4}, {}, {}),
    "copy": ("copy", {"nbytes": 65536}, {}, {}),
    "copy, small block": ("copy", {"nbytes": 65536}, {"block": 1024}, {}),
    "l2_read": ("l2_read", {"nbytes": 65536, "passes": 3, "ctas": 2}, {}, {}),
    **{f"tile_read, {n} stages": ("tile_read", {"ctas": 2, "rows": 128, "piece": 128, "depth": 1024}, {"stages": n}, {})
       for n in (1, 2, 5)},
    "smem": ("smem", {"ctas": 4, "iterations": 64}, {}, {}),
    "smem, large tile": ("smem", {"ctas": 4, "iterations": 64}, {"tile": 128, "warps": 8}, {}),
    "exp2": ("exp2", CHAIN, {}, {}),
    "fma_fp16": ("fma_fp16", HALVES, {}, {}),
    "fma_fp16, plain": ("fma_fp16", HALVES, {}, {"asm": False}),
    "i2f": ("i2f", CHAIN, {}, {}),
    "f2i": ("f2i", CHAIN, {}, {}),
    "f2h": ("f2h", CHAIN, {}, {}),
    "f2h, plain": ("f2h", CHAIN, {}, {"asm": False}),
    "mma_fp16": ("mma_fp16", FP16, {}, {}),
    "mma_fp16, two warps": ("mma_fp16", FP16, {"warps": 2}, {}),
    "mma_fp16, wide": ("mma_fp16", {**FP16, "m": 128, "n": 256, "k": 64}, {"warps": 8}, {}),
    "mma_int8": ("mma_int8", INT8, {}, {}),
    "mma_int8, two warps": ("mma_int8", INT8, {"warps": 2}, {}),
    "mma_int8, wide": ("mma_int8", {**INT8, "m": 128, "n": 256, "k": 128}, {"warps": 8}, {}),
}
PIPES = {
    "exp2": ("MUFU.EX2", "MUFU.EX2"),
    "fma_fp16": ("HFMA2", "HFMA2"),
    "fma_fp16, plain": ("HFMA2", "HFMA2"),
    "i2f": ("I2F", "I2FP.F32.S32"),
    "f2i": ("F2I.TRUNC.NTZ", "F2I.TRUNC.NTZ"),
    "f2h": ("F2FP.PACK_AB", "F2FP.F16.F32.PACK_AB"),
}
"""The instruction under test on sm_80 and on later targets; a turn has 8 chains of 4 steps."""
MMA_SYNC = {"mma_fp16": "HMMA.16816.F32", "mma_int8": "IMMA.16832.S8.S8.SAT"}
MMA_OWN = {90: {"mma_fp16": "HGMMA", "mma_int8": "IGMMA"}, 100: {"mma_fp16": "UTCHMMA", "mma_int8": "UTCIMMA"}}


def total(counts, *prefixes):
    return sum(n for opcode, n in counts.items() if opcode.startswith(prefixes))


def macs(opcode, sizes, warps):
    """Multiply-adds of all warps that issue one such instruction each."""
    if found := re.match(r"[HI]GMMA\.(\d+)x(\d+)x(\d+)", opcode):
        m, n, k = map(int, found.groups())
        return m * n * k * warps // 4
    if found := re.match(r"[HI]MMA\.(16)(8)(16|32)", opcode):
        m, n, k = map(int, found.groups())
        return m * n * k * warps
    # One thread issues it for the whole tile.
    return {"UTCHMMA": 16, "UTCIMMA": 32}[opcode] * sizes["m"] * sizes["n"]


def faults_of_mma(case, target, loop):
    name, sizes, options, _ = CASES[case]
    chosen = {**MICRO[name].defaults, **options}
    own = target in MMA_OWN and chosen["warps"] >= 4
    expected = MMA_OWN[target][name] if own else MMA_SYNC[name]
    products = {opcode: n for opcode, n in loop.items() if "MMA" in opcode}
    if not products or not all(opcode.startswith(expected) for opcode in products):
        return [f"products are {products}, not {expected}"]
    done = sum(n * macs(opcode, sizes, chosen["warps"]) for opcode, n in products.items())
    faults = []
    if done % (sizes["m"] * sizes["n"] * sizes["k"] * chosen["unroll"]):
        faults.append(f"{done} multiply-adds a turn")
    if total(loop, "LDG", "STG", "LDS.", "STS") or total(loop, "LDSM") * 4 > (0 if own else sum(products.values())):
        faults.append("memory accesses in the loop")
    return faults


def faults_of_memory(name, options, found):
    """Accesses of copy, l2_read and smem; 128 threads unless the options say otherwise."""
    chosen = {**MICRO[name].defaults, **options}
    threads = 32 * chosen["warps"]
    if name == "copy":
        vectors = chosen["block"] // threads // 4
        accesses = {o: n for o, n in found["all"].items() if o.startswith(("LDG", "STG"))}
        return [] if accesses == {"LDG.E.128": vectors, "STG.E.128": vectors} else [f"accesses are {accesses}"]
    loop = found["loop"] or {}
    if name == "l2_read":
        accesses = {o: n for o, n in loop.items() if o.startswith(("LD", "ST"))}
        vectors = chosen["block"] // threads // 4
        return [] if accesses == {"LDG.E.128.STRONG.GPU": vectors} else [f"accesses are {accesses}"]
    if name == "tile_read":
        accesses = {o: n for o, n in loop.items() if o.startswith("LDG") and o != "LDGDEPBAR"}
        vectors = 128 * 128 // 16 // threads
        return [] if accesses == {"LDG.E.128" if chosen["stages"] == 1 else "LDGSTS.E.BYPASS.128": vectors} and \
            loop.get("LDS.128", 0) == (0 if chosen["stages"] == 1 else vectors) else [f"accesses are {loop}"]
    words = chosen["tile"] ** 2 // threads
    barriers = total(loop, "BAR")
    faults = [] if loop.get("STS") == loop.get("LDS") == words * barriers // 2 > 0 else [f"accesses are {loop}"]
    if sum(loop.values()) > 2.5 * words * barriers // 2:
        faults.append(f"other instructions: {loop}")
    if found["conflicts"] != 1:
        faults.append(f"{found['conflicts']} lanes want one bank")
    return faults


def faults_of_pipe(case, target, loop):
    opcode = PIPES[case][target > 80]
    n = loop.get(opcode, 0)
    others = sum(loop.values()) - n
    if case == "f2i":
        others -= loop.get("LOP3.LUT", 0) if loop.get("LOP3.LUT", 0) == n else 0
    return [] if n and n % 32 == 0 and others <= n / 4 else [f"{n} {opcode} in {loop}"]


def faults_of(case, target, found):
    name, _, options, _ = CASES[case]
    faults = ["spills"] if total(found["all"], "STL", "LDL") else []
    loop = found["loop"] or {}
    if name == "empty":
        return faults + [o for o in found["all"] if o not in ("NOP", "EXIT", "BRA", "MOV", "LDC")]
    if case == "f2h, plain":
        single = loop.get("F2F.F16.F32", 0)
        return faults + ([] if (single > 0 and single % 32 == 0) == (target == 80) else [f"{single} F2F"])
    if name in MMA_SYNC:
        return faults + faults_of_mma(case, target, loop)
    if case in PIPES:
        return faults + faults_of_pipe(case, target, loop)
    return faults + faults_of_memory(name, options, found)


@pytest.mark.parametrize("target", [80, 89, 90, 100, 120])
def test_every_loop_is_the_instruction_it_is_named_after(target, triton_cache):
    # In another process, because triton interprets in this one. One process a target: importing torch takes longer
    # than compiling a kernel. The wide tiles need more registers than mma.sync leaves.
    cases = {case: of for case, of in CASES.items() if target in MMA_OWN or "wide" not in case}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
    environment["TRITON_CACHE_DIR"] = triton_cache
    made = subprocess.run([sys.executable, "-m", "tests.kernels.compile_micro", str(target), json.dumps(cases)],
                          env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=250)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert set(found) == set(cases)
    assert {name for name, *_ in cases.values()} == set(MICRO)
    assert {case: faults_of(case, target, of) for case, of in found.items() if faults_of(case, target, of)} == {}
