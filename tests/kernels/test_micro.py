"""The micro-benchmarks, interpreted, against torch; and what they refuse."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.ops import micro
from kernels.ops.micro import MICRO, plan_of, unit_work
from turbosim.errors import UsageError

CHAIN = {"ctas": 3, "iterations": 2, "elements": 8}
MMA = {"ctas": 3, "iterations": 2, "m": 32, "n": 16, "k": 32}
TILE = {"ctas": 3, "rows": 64, "piece": 128, "depth": 1024}
SMALL = {
    "copy": ({"nbytes": 4096 + 64}, {"warps": 1, "block": 512}),
    "l2_read": ({"nbytes": 7 * 2048, "passes": 3, "ctas": 5}, {"warps": 1, "block": 512}),
    "tile_read": ({"ctas": 3, "rows": 8, "piece": 64, "depth": 320}, {"warps": 1, "stages": 2}),
    "mma_fp16": (MMA, {"warps": 1, "unroll": 2}),
    "mma_int8": (MMA, {"warps": 1, "unroll": 2}),
    "exp2": (CHAIN, {"warps": 1, "unroll": 1}),
    "fma_fp16": (CHAIN, {"warps": 2, "unroll": 2}),
    "i2f": (CHAIN, {"warps": 1, "unroll": 2}),
    "f2i": (CHAIN, {"warps": 1, "unroll": 1}),
    "f2h": (CHAIN, {"warps": 1, "unroll": 2}),
    "smem": ({"ctas": 3, "iterations": 3}, {"warps": 2, "tile": 32}),
    "empty": ({"ctas": 3}, {}),
}
LOOPS = sorted(set(MICRO) - {"copy", "empty", "l2_read", "tile_read"})


@pytest.mark.parametrize("name", MICRO)
@pytest.mark.parametrize("seed", [0, 1])
def test_computes_what_torch_does(name, seed):
    sizes, options = SMALL[name]
    prepared = MICRO[name].prepare(sizes, options, "cpu", seed)
    assert prepared.launch() == []
    check = prepared.check()
    assert check.ok, check


@pytest.mark.parametrize("name", sorted(set(MICRO) - {"copy", "empty"}))
def test_an_unwritten_output_is_no_success(name):
    plan = plan_of(name, *SMALL[name], "cpu", 0)
    check = dataclasses.replace(plan, grid=plan.grid - 1).check()
    assert math.isnan(check.error)
    assert not check.ok


def test_an_unfinished_copy_is_no_success():
    plan = plan_of("copy", *SMALL["copy"], "cpu", 0)
    assert math.isnan(dataclasses.replace(plan, grid=plan.grid - 1).check().error)


@pytest.mark.parametrize("name", LOOPS)
def test_another_trip_count_is_no_success(name):
    sizes, options = SMALL[name]
    plan = plan_of(name, sizes, {**options, **({} if name == "smem" else {"unroll": 1})}, "cpu", 0)
    assert plan.check().ok
    more = {**plan.arguments, "iterations": sizes["iterations"] + 1}
    check = dataclasses.replace(plan, arguments=more).check()
    assert check.error > check.tolerance


def test_another_number_of_passes_is_no_success():
    plan = plan_of("l2_read", *SMALL["l2_read"], "cpu", 0)
    more = {**plan.arguments, "total": plan.arguments["total"] + 1}
    assert not dataclasses.replace(plan, arguments=more).check().ok


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.sampled_from([8, 16, 32]), st.sampled_from([64, 128, 256]), st.integers(1, 6), st.integers(1, 4),
       st.integers(0, 9))
def test_every_row_of_every_tile_is_read_once(ctas, rows, piece, turns, stages, seed):
    sizes = {"ctas": ctas, "rows": rows, "piece": piece, "depth": piece * turns}
    options = {"warps": 1, "stages": stages}
    plan = plan_of("tile_read", sizes, options, "cpu", seed)
    assert plan.check().ok
    fewer = {**plan.arguments, "turns": turns - 1}
    assert not dataclasses.replace(plan, arguments=fewer).check().ok


@pytest.mark.parametrize(("name", "flops", "nbytes", "work"), [
    ("copy", 0, 2 * 4160, (2 * 4160, "bytes read from and written to device memory")),
    ("l2_read", 0, 14336 + 40, (3 * 14336, "bytes read from L2")),
    ("tile_read", 0, 3 * 8 * 320 + 24, (3 * 8 * 320, "bytes read from device memory or L2")),
    ("mma_fp16", 196608, 2 * (32 + 16) * 32 + 768, (196608, "FP16 operations")),
    ("mma_int8", 196608, (32 + 16) * 32 + 768, (196608, "INT8 operations")),
    ("exp2", 1536, 1024 + 24, (1536, "exponentials")),
    ("fma_fp16", 6144, 1024 + 4 + 24, (6144, "FP16 operations")),
    ("i2f", 1536, 1024 + 24, (1536, "conversions")),
    ("f2i", 1536, 1024 + 4 + 24, (1536, "conversions")),
    ("f2h", 3072, 1024 + 4 + 24, (3072, "conversions")),
    ("smem", 0, 4096 + 24, (3 * 3 * 2 * 4096, "bytes stored to and loaded from shared memory")),
    ("empty", 0, 0, (3, "CTAs")),
])
def test_counts(name, flops, nbytes, work):
    sizes, options = SMALL[name]
    prepared = MICRO[name].prepare(sizes, options, "cpu", 0)
    assert (prepared.flops, prepared.nbytes) == (flops, nbytes)
    assert unit_work(name, sizes, options) == work


def test_every_kernel_has_its_name_and_attribute():
    assert list(MICRO) == ["copy", "l2_read", "tile_read", "mma_fp16", "mma_int8", "exp2", "fma_fp16", "i2f", "f2i", "f2h",
                           "smem", "empty"]
    for name, kernel in MICRO.items():
        assert kernel.name == name
        assert getattr(micro, name.upper()) is kernel


POSITIVE = "must be an integer from 1 to 2**31 - 1; give such a number"


@pytest.mark.parametrize(("name", "sizes", "options", "message"), [
    ("exp2", 5, {}, "micro-benchmark exp2: the shape is of type int, must be a mapping of sizes; give ctas, iterations, elements"),
    ("exp2", {"ctas": 1, "iterations": 4}, {}, "micro-benchmark exp2: size 'elements' is missing; give ctas, iterations, elements"),
    ("exp2", {**CHAIN, "element": 4}, {}, "micro-benchmark exp2: unknown size 'element' (did you mean 'elements'?); known are ctas, iterations, elements"),
    ("exp2", CHAIN, {"warp": 4}, "micro-benchmark exp2: unknown option 'warp' (did you mean 'warps'?); known are warps, unroll"),
    ("exp2", {**CHAIN, "ctas": 0}, {}, f"micro-benchmark exp2: size 'ctas' is 0, {POSITIVE}"),
    ("exp2", {**CHAIN, "ctas": True}, {}, f"micro-benchmark exp2: size 'ctas' is True, {POSITIVE}"),
    ("exp2", CHAIN, {"warps": "4"}, f"micro-benchmark exp2: option 'warps' is '4', {POSITIVE}"),
    ("i2f", {**CHAIN, "iterations": 2**31}, {}, f"micro-benchmark i2f: size 'iterations' is 2147483648, {POSITIVE}"),
    ("f2i", {**CHAIN, "elements": 12, "iterations": 4}, {}, "micro-benchmark f2i: size 'elements' is 12, must be a power of two from 1 to 128; use 8"),
    ("fma_fp16", {**CHAIN, "elements": 1, "iterations": 4}, {}, "micro-benchmark fma_fp16: size 'elements' is 1, must be a power of two from 2 to 128; use 2"),
    ("f2h", CHAIN, {"warps": 64}, "micro-benchmark f2h: option 'warps' is 64, must be a power of two from 1 to 32; use 32"),
    ("f2h", CHAIN, {"unroll": 3}, "micro-benchmark f2h: option 'unroll' is 3, must be a power of two from 1 to 64; use 2"),
    ("f2h", CHAIN, {"unroll": 8}, "micro-benchmark f2h: size 'iterations' is 2, must be a multiple of option 'unroll' (8); use 8"),
    ("copy", {"nbytes": 100}, {}, "micro-benchmark copy: size 'nbytes' is 100, must be a multiple of 64, so that all accesses are vectors; use 128"),
    ("copy", {"nbytes": 2**63}, {}, "micro-benchmark copy: size 'nbytes' is 9223372036854775808, must be an integer from 1 to 2**63 - 1; give such a number"),
    ("copy", {"nbytes": 128}, {"block": 256}, "micro-benchmark copy: option 'block' is 256, must be a power of two from 512 to 16384; use 512"),
    ("l2_read", {"nbytes": 20000, "passes": 1, "ctas": 1}, {}, "micro-benchmark l2_read: size 'nbytes' is 20000, must be a multiple of a block's 16384 bytes; use 32768"),
    ("l2_read", {"nbytes": 32768, "passes": 1, "ctas": 3}, {}, "micro-benchmark l2_read: size 'ctas' is 3, must not exceed the 2 blocks of 16384 bytes; use fewer CTAs, a smaller block or more bytes"),
    ("l2_read", {"nbytes": 2**33, "passes": 1, "ctas": 3}, {}, "micro-benchmark l2_read: size 'nbytes' is 8589934592, must be below 8 GiB; use what fits L2"),
    ("l2_read", {"nbytes": 32768, "passes": 2**30, "ctas": 2}, {}, "micro-benchmark l2_read: size 'passes' is 1073741824, must keep passes times 2 blocks below 2**31; use at most 1073741822"),
    ("tile_read", {**TILE, "piece": 96}, {}, "micro-benchmark tile_read: size 'piece' is 96, must be a power of two from 16 to 4096; use 64"),
    ("tile_read", {**TILE, "depth": 1000}, {}, "micro-benchmark tile_read: size 'depth' is 1000, must be a multiple of size 'piece' (128); use 1024"),
    ("tile_read", TILE, {"stages": 9}, "micro-benchmark tile_read: option 'stages' is 9, must be from 1 to 8; use 3"),
    ("tile_read", {**TILE, "rows": 2}, {}, "micro-benchmark tile_read: size 'rows' is 2, must give each thread of 4 warps 1 to 32 vectors of 16 bytes of a tile (here 256 bytes in all); use other rows, piece or warps"),
    ("tile_read", {**TILE, "rows": 256}, {"stages": 5}, "micro-benchmark tile_read: option 'stages' is 5, must keep its tiles of 32768 bytes in 100352 bytes of shared memory; use fewer stages or a smaller tile"),
    ("smem", {"ctas": 1, "iterations": 1}, {"tile": 256}, "micro-benchmark smem: option 'tile' is 256, must be a power of two from 32 to 128; use 128"),
    ("smem", {"ctas": 1, "iterations": 1}, {"warps": 2}, "micro-benchmark smem: option 'warps' is 2, must be at least tile / 16 = 4, or the loop is not LDS and STS; use more warps or a smaller tile"),
    ("mma_fp16", {**MMA, "m": 8}, {"unroll": 1}, "micro-benchmark mma_fp16: size 'm' is 8, must be a power of two from 16 to 512; use 16"),
    ("mma_int8", {**MMA, "k": 16}, {"unroll": 1}, "micro-benchmark mma_int8: size 'k' is 16, must be a power of two from 32 to 512; use 32"),
    ("mma_int8", {**MMA, "m": 256, "n": 256}, {"unroll": 1}, "micro-benchmark mma_int8: option 'warps' is 4, must hold 256 x 256 accumulators, at most 128 a thread (here 512); use more warps or a smaller tile"),
    ("mma_fp16", {**MMA, "m": 128, "n": 128, "k": 256}, {"unroll": 1}, "micro-benchmark mma_fp16: size 'k' is 256, must keep both operands in 101376 bytes of shared memory (here 131072); use a smaller tile"),
])
def test_refuses(name, sizes, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        MICRO[name].prepare(sizes, options, "cpu", 0)


def test_refuses_more_iterations_than_int8_accumulators_hold():
    options = {"warps": 1, "unroll": 1}
    plan = plan_of("mma_int8", MMA, options, "cpu", 0)
    a, b = (plan.arguments[x].long() for x in ("a_ptr", "b_ptr"))
    most = (2**31 - 1 - 32 * 127**2) // int((a @ b.T).abs().max())
    assert plan_of("mma_int8", {**MMA, "iterations": most}, options, "cpu", 0).arguments["iterations"] == most
    message = (f"micro-benchmark mma_int8: size 'iterations' is {most + 1}, would overflow the INT32 accumulators of this "
               f"tile and seed; use at most {most}")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        MICRO["mma_int8"].prepare({**MMA, "iterations": most + 1}, options, "cpu", 0)


def run(code, **environment):
    return subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True,
                          timeout=120, env=environment)


def test_needs_a_gpu_or_the_interpreter():
    made = run("from kernels.ops.micro import EMPTY; EMPTY.prepare({'ctas': 1}, {}, 'cpu', 0)")
    assert made.returncode == 1
    assert made.stderr.splitlines()[-1] == (
        "turbosim.errors.UsageError: micro-benchmark empty: device 'cpu' can only interpret kernels; use a GPU, or set "
        "TRITON_INTERPRET=1 before triton is imported")


def test_needs_torch_and_triton_only_and_those_when_used():
    made = run("""
import sys, tomllib
refused = {d.split(">")[0].split(".")[0] for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused - {"numpy"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from kernels.ops.micro import EXP2
print({"torch", "triton", "numpy"} & set(sys.modules), len(refused) > 5)
print(EXP2.prepare({"ctas": 1, "iterations": 4, "elements": 8}, {}, "cpu", 0).check().ok)
""", TRITON_INTERPRET="1")
    assert made.stdout.splitlines() == ["set() True", "True"], made.stderr
