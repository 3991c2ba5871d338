"""Tiles of tensors that loops read in steps of different sizes, and loops whose turns depend on the CTA."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.sass.test_lift_examples import caches, program  # noqa: F401
from turbosim.engine import numba_layout
from turbosim.engine.api import run
from turbosim.hw import load_gpu
from turbosim.program.ops import Load, Loop, Store
from turbosim.program.validate import validate
from turbosim.program.work import compulsory_read_bytes, launch_work, program_work
from turbosim.sass import lift

KERNELS = """\
import triton
import triton.language as tl


@triton.jit
def twice(X, Y, n, BLOCK: tl.constexpr):
    X += tl.program_id(0) * n
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, n, BLOCK):
        total += tl.load(X + first + tl.arange(0, BLOCK))
    scale = tl.sum(total, 0)
    for first in range(0, n, BLOCK):
        column = first + tl.arange(0, BLOCK)
        tl.store(Y + tl.program_id(0) * n + column, tl.load(X + column) * scale)


@triton.jit
def squares(X, Y, n, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None] * n
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(0, n, BLOCK):
        total += tl.load(X + row + first + tl.arange(0, BLOCK)[None, :])
    scale = tl.sum(total, 1)[:, None]
    for first in range(0, n, BLOCK):
        place = row + first + tl.arange(0, BLOCK)[None, :]
        tl.store(Y + place, tl.load(X + place) * scale)


@triton.jit
def windows(X, Y, STEP: tl.constexpr, BLOCK: tl.constexpr):
    x = tl.load(X + tl.program_id(0) * STEP + tl.arange(0, BLOCK))
    tl.store(Y + tl.program_id(0), tl.sum(x, 0))


@triton.jit
def ragged(X, Y, n, first, modulus, factor, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([BLOCK], tl.float32)
    for turn in range(0, row * factor % modulus + first):
        total += tl.load(X + row * n + turn * BLOCK + tl.arange(0, BLOCK))
    tl.store(Y + row * BLOCK + tl.arange(0, BLOCK), total)
"""
DESCRIPTIONS = {
    "twice": """\
kernel: own.py:twice
sizes: {rows: 512, n: 4096}
constants: {BLOCK: 1024}
arguments: {X: {dtype: fp32, shape: [rows, n]}, Y: {dtype: fp32, shape: [rows, n]}, n: n}
grid: [rows]
""",
    "squares": """\
kernel: own.py:squares
sizes: {rows: 256, n: 512}
constants: {ROWS: 16, BLOCK: 64}
arguments: {X: {dtype: fp32, shape: [rows, n]}, Y: {dtype: fp32, shape: [rows, n]}, n: n}
grid: [rows // ROWS]
""",
    "windows": """\
kernel: own.py:windows
sizes: {rows: 1024}
constants: {STEP: 256, BLOCK: 1024}
arguments: {X: {dtype: fp32, shape: ["(rows - 1) * STEP + BLOCK"]}, Y: {dtype: fp32, shape: [rows]}}
grid: [rows]
""",
    "ragged": """\
kernel: own.py:ragged
sizes: {rows: 48, n: 65536, first: 8, modulus: 1024, factor: 1}
constants: {BLOCK: 1024}
arguments: {X: {dtype: fp32, shape: [rows, n]}, Y: {dtype: fp32, shape: [rows, BLOCK]}, n: n, first: first,
            modulus: modulus, factor: factor}
grid: [rows]
"""}


@pytest.fixture(scope="module")
def lift_own(program, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(KERNELS)
    for name, text in DESCRIPTIONS.items():
        (folder / f"own.{name}.yaml").write_text(text)
    return lambda name, capability, **settings: program(str(folder / f"own.{name}.yaml"), capability, **settings)


def moves(body, values):
    """Yield every executed load and store with its tile's number."""
    for item in body:
        if isinstance(item, Loop):
            for turn in range(item.trips.value(values)):
                yield from moves(item.body, {**values, item.variable: turn})
        elif isinstance(item, Load | Store):
            yield item, item.tile.value(values)


def loads_of(found, x):
    """Return the loads that the CTA at *x* executes, with the numbers of their tiles."""
    launch = found.launches[0]
    number = sum(table[x] for _, table in launch.class_of)
    values = {**dict(launch.classes[number].params), **{d.name: 0 for d in launch.grid}, "x": x}
    return [(op, tile) for op, tile in moves(launch.roles[0].body, values) if isinstance(op, Load)]


def tiles_of(found, x):
    """Count how often the CTA at *x* loads every tile."""
    return Counter(tile for _, tile in loads_of(found, x))


def tensor(found, name):
    return next(t for t in found.tensors if t.name == name)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("rows", "n"), [(512, 4096), (1, 4096), (64, 9216), (64, 5120)])
def test_loops_that_are_unrolled_differently_read_the_same_tiles(lift_own, rows, n, capability):
    found = lift_own("twice", capability, rows=rows, n=n)
    x = tensor(found, "X")
    assert x.tiles * x.tile_bytes == 4 * rows * n
    assert "no_common_tile" not in found.meta
    assert launch_work(found, found.launches[0]).loaded == {"X": 2 * 4 * rows * n}
    a_row = 4 * n // x.tile_bytes
    for row in {0, rows // 2, rows - 1}:
        assert tiles_of(found, row) == Counter(dict.fromkeys(range(row * a_row, (row + 1) * a_row), 2))


def test_a_second_pass_over_what_l2_holds_takes_nothing_from_device_memory(lift_own):
    found = lift_own("twice", 80)
    result = run(load_gpu("a100_sxm_80gb"), found)
    assert result.dram_read_bytes == compulsory_read_bytes(found, program_work(found)) == 4 * 512 * 4096


@pytest.mark.parametrize("capability", [80, 90])
def test_blocks_of_several_rows_have_a_common_tile(lift_own, capability):
    found = lift_own("squares", capability)
    x = tensor(found, "X")
    assert x.tiles * x.tile_bytes == 4 * 256 * 512
    read = Counter()
    for cta in range(16):
        read += tiles_of(found, cta)
    assert read == Counter(dict.fromkeys(range(x.tiles), 2))


@pytest.mark.parametrize("step", [256, 512, 768])
def test_windows_that_overlap_share_tiles(lift_own, step):
    found = lift_own("windows", 80, STEP=step)
    x = tensor(found, "X")
    assert x.tiles * x.tile_bytes == 4 * (1023 * step + 1024)
    each = 4 * step // x.tile_bytes
    assert all(tiles_of(found, row) == Counter(range(row * each, row * each + 4096 // x.tile_bytes))
               for row in (0, 1, 500, 1023))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("turns", [
    {"first": 8}, {"first": 1}, {"first": 1, "modulus": 13, "factor": 7919}, {"first": 5, "modulus": 4},
    {"first": 0, "modulus": 7, "factor": 3}, {"first": 3, "factor": 0}, {"first": 0, "modulus": 3}])
def test_loops_whose_turns_depend_on_the_cta_read_what_they_say(lift_own, turns, capability):
    found = lift_own("ragged", capability, **turns)
    validate(found)
    sizes = {"modulus": 1024, "factor": 1, **turns}
    counts = [row * sizes["factor"] % sizes["modulus"] + sizes["first"] for row in range(48)]
    x = tensor(found, "X")
    assert x.tiles * x.tile_bytes == 4 * 48 * 65536
    assert [sum(op.nbytes for op, _ in loads_of(found, row)) for row in range(48)] == [4096 * n for n in counts]
    # Where no loop takes single blocks, tiles are larger than these.
    if max(counts) > 3:
        assert x.tile_bytes == 4096
        for row, count in enumerate(counts):
            assert tiles_of(found, row) == Counter(range(64 * row, 64 * row + count)), row


@pytest.mark.parametrize("n", [96, 128])
def test_copies_in_many_pieces_stay_within_what_the_fast_engine_remembers(program, n):  # noqa: F811
    """The last turn copies half of B's rows, so that pieces of both are rows, and a stage is 32 copies."""
    made = program("examples/matmul.py:matmul", 80, m=320, n=n, k=80, BLOCK_M=64, BLOCK_N=64, num_warps=4)
    assert "B" in str(made.meta["no_common_tile"]).split()
    gpu = load_gpu("a100_sxm_80gb")
    assert run(gpu, made).ticks == run(gpu, made, engine="simpy").ticks


def test_what_a_wait_may_leave_open_is_what_the_fast_engine_remembers():
    assert lift.MOST_OUTSTANDING == numba_layout.WINDOW
