"""Programs lifted from kernels with launch descriptions: bytes against closed forms, tilings that must be liftable."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor

import pytest

from turbosim.engine.api import run
from turbosim.errors import ProgramError
from turbosim.hw import load_gpu
from turbosim.program.validate import validate
from turbosim.program.work import launch_work
from turbosim.sass.prepare import find_description, lifted, prepare

GPUS = {80: load_gpu("a100_sxm_80gb"), 90: load_gpu("h100_sxm")}
SECTOR = 32


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory, triton_cache):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("caches")
        patch.setenv("TURBOSIM_CACHE_DIR", str(folder / "turbosim"))
        patch.setenv("TRITON_CACHE_DIR", triton_cache)
        patch.delenv("TRITON_INTERPRET", raising=False)
        yield


def lift_program(path, capability, settings):
    gpu = GPUS[capability]
    return lifted(prepare(find_description(path), gpu, settings), gpu).program


@pytest.fixture(scope="module")
def program(caches):
    """Lift in a process of its own: this one may have Triton's interpreter."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        def lift_there(kernel, capability, **settings):
            path = kernel if kernel.startswith("/") else f"kernels/{kernel}"
            return pool.submit(lift_program, path, capability, settings).result()

        yield lift_there


def tile_bytes(first_row, rows, row_bytes, first, nbytes):
    """Bytes of the sectors of a tile: *nbytes* from byte *first* of each of *rows* rows."""
    total = 0
    for row in range(first_row, first_row + rows):
        at = row * row_bytes + first
        total += (at + nbytes - 1) // SECTOR - at // SECTOR + 1
    return SECTOR * total


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("m", "n", "k", "tile"), [
    (512, 512, 256, (128, 128, 32, 8)), (256, 512, 192, (64, 256, 32, 4)), (512, 256, 256, (128, 64, 64, 4)),
    # Sizes that no tile divides: the tiles at the ends count as whole ones.
    (500, 392, 200, (128, 128, 32, 8)), (1000, 1000, 1000, (128, 128, 32, 8)), (200, 328, 104, (64, 64, 32, 4)),
    # Two turns of the loop copy, the second of them half a tile.
    (320, 128, 112, (64, 64, 32, 4))])
def test_a_product_moves_its_tiles(program, m, n, k, tile, capability):
    rows, columns, depth, warps = tile
    found = program("examples/matmul.py:matmul", capability, m=m, n=n, k=k, BLOCK_M=rows, BLOCK_N=columns,
                    BLOCK_K=depth, num_warps=warps)
    launch = found.launches[0]
    work = launch_work(found, launch)
    down, across, turns = -(-m // rows), -(-n // columns), -(-k // depth)
    assert work.loaded["A"] == down * across * turns * tile_bytes(0, rows, 2 * k, 0, 2 * depth)
    assert work.loaded["B"] == down * across * turns * tile_bytes(0, depth, 2 * n, 0, 2 * columns)
    assert work.stored == {"C": down * across * tile_bytes(0, rows, 2 * n, 0, 2 * columns)}
    c = next(t for t in found.tensors if t.name == "C")
    assert (c.tiles, c.tile_bytes) == (down * across, tile_bytes(0, rows, 2 * n, 0, 2 * columns))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("rows", "columns", "warps"), [(64, 4096, 8), (1000, 1024, 4), (64, 3000, 8), (64, 776, 4)])
def test_softmax_reads_and_writes_every_row_once(program, rows, columns, warps, capability):
    found = program("examples/softmax.py:softmax", capability, rows=rows, columns=columns, num_warps=warps)
    work = launch_work(found, found.launches[0])
    # The first row stands for all; of 776 columns it begins and ends with a sector.
    wanted = rows * tile_bytes(0, 1, 2 * columns, 0, 2 * columns)
    assert (work.loaded, work.stored) == ({"X": wanted}, {"Y": wanted})


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("queries", "keys", "rows", "columns"), [
    (512, 512, 128, 64), (512, 1024, 64, 128), (500, 500, 128, 64), (200, 1000, 64, 32)])
def test_attention_moves_its_tiles(program, queries, keys, rows, columns, capability):
    found = program("flash.py:fwd", capability, batch=2, heads=3, queries=queries, keys=keys, CAUSAL=False,
                    BLOCK_M=rows, BLOCK_N=columns, num_warps=4)
    work = launch_work(found, found.launches[0])
    heads, down = 6, -(-queries // rows)
    # The last keys have a turn of their own, in which what is beyond them is masked; queries at the end count as a tile.
    assert work.loaded["K"] == work.loaded["V"] == heads * down * keys * 64 * 2
    assert work.loaded["Q"] == work.stored["O"] == heads * down * rows * 64 * 2
    assert work.stored["LSE"] == heads * down * rows * 4


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("rows", "columns", "warps"), [(64, 64, 4), (128, 64, 8), (64, 128, 4), (32, 128, 4)])
@pytest.mark.parametrize(("tokens", "causal"), [(512, True), (512, False), (256, True)])
def test_int8_attention_is_lifted_at_every_tiling(program, rows, columns, warps, tokens, causal, capability):
    """Of causal ones some CTAs have no turn of the loop over whole tiles, and some have one."""
    found = program("turbo.py:fwd", capability, batch=1, heads=2, queries=tokens, CAUSAL=causal, BLOCK_M=rows,
                    BLOCK_N=columns, num_warps=warps)
    work = launch_work(found, found.launches[0])
    down = tokens // rows
    turns = [-(-min(tokens, (x + 1) * rows) // columns) if causal else tokens // columns for x in range(down)]
    assert sum(work.macs.values()) == 2 * sum(turns) * rows * columns * 64 * 2
    # The copies ahead of the loop over whole tiles count also where it has none.
    ahead = sum((x * rows + 1) // columns == 0 for x in range(down)) if causal else 0
    assert work.loaded["K8"] == work.loaded["V8"] == 2 * (sum(turns) + ahead) * columns * 64
    assert work.stored["O"] == 2 * tokens * 64 * 2


@pytest.mark.parametrize("capability", [80, 90])
def test_naive_sas_keeps_masks_beside_scores(program, capability):
    """At d = 128 the masks of the stores share a register with predicates on scores."""
    found = program("turbo.py:fwd", capability, batch=1, heads=2, queries=256, HEAD_DIM=128, CAUSAL=False, VARIANT=1,
                    CONVERT=True)
    assert launch_work(found, found.launches[0]).stored["O"] == 2 * 256 * 128 * 2


PERSISTENT = """\
import triton
import triton.language as tl


@triton.jit
def persistent(A, B, C, m, n, k, ctas, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    across = tl.cdiv(n, BLOCK)
    for tile in range(tl.program_id(0), tl.cdiv(m, BLOCK) * across, ctas):
        rows = tile // across * BLOCK + tl.arange(0, BLOCK)
        columns = tile % across * BLOCK + tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK, BLOCK], tl.float32)
        for first in range(0, k, DEPTH):
            depth = first + tl.arange(0, DEPTH)
            a = tl.load(A + rows[:, None] * k + depth[None, :])
            total = tl.dot(a, tl.load(B + depth[:, None] * n + columns[None, :]), total)
        tl.store(C + rows[:, None] * n + columns[None, :], total.to(tl.float16))
"""
DESCRIPTION = """\
kernel: own.py:persistent
sizes: {m: 1024, n: 1024, k: 512, ctas: 16}
constants: {BLOCK: 64, DEPTH: 32}
arguments:
  A: {dtype: fp16, shape: [m, k]}
  B: {dtype: fp16, shape: [k, n]}
  C: {dtype: fp16, shape: [m, n]}
  m: m
  n: n
  k: k
  ctas: ctas
grid: [ctas]
"""


@pytest.mark.parametrize("capability", [80, 90])
def test_loops_over_tiles_are_refused(program, tmp_path, capability):
    (tmp_path / "own.py").write_text(PERSISTENT)
    (tmp_path / "own.persistent.yaml").write_text(DESCRIPTION)
    where = "0x[0-9a-f]{4}"
    with pytest.raises(ProgramError) as caught:
        program(str(tmp_path / "own.persistent.yaml"), capability)
    found = re.fullmatch(
        f"kernel 'persistent': the loop at ({where}) is inside the loop at ({where}), which cannot be lifted; "
        "where the outer one goes over tiles, as in persistent kernels, give every tile a CTA of its own",
        str(caught.value))
    assert found, str(caught.value)
    assert int(found[2], 16) < int(found[1], 16)


DATA = """\
import triton
import triton.language as tl


@triton.jit
def gather(X, Idx, Y, BLOCK: tl.constexpr, TURNS: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    index = tl.load(Idx + place).to(tl.int64)
    total = tl.zeros([BLOCK], tl.float32)
    for turn in range(TURNS):
        total += tl.load(X + index * 64 + turn * 8)
    tl.store(Y + place, total)


@triton.jit
def histogram(Idx, H, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(H + tl.load(Idx + place), 1)


@triton.jit
def either(X, Z, Idx, Y, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    index = tl.load(Idx + place)
    tl.store(Y + place, tl.load(tl.where(index > 0, X + index, Z - index)))
"""
ARGUMENTS = """\
  Idx: {dtype: int32, shape: [n]}
  Y: {dtype: fp32, shape: [n]}
"""
LAUNCHES = {
    "gather": "constants: {BLOCK: 1024, TURNS: 2}\narguments:\n  X: {dtype: fp32, shape: [rows, 64]}\n" + ARGUMENTS,
    "histogram": "constants: {BLOCK: 1024}\narguments:\n  Idx: {dtype: int32, shape: [n]}\n"
                 "  H: {dtype: int32, shape: [256]}\n",
    "either": "constants: {BLOCK: 1024}\narguments:\n  X: {dtype: fp32, shape: [n]}\n  Z: {dtype: fp32, shape: [n]}\n"
              + ARGUMENTS,
}


@pytest.fixture
def on_data(program, tmp_path):
    """Lift a kernel whose addresses depend on data, 64 CTAs of 1024 lanes."""
    def lift_it(name, capability, **settings):
        (tmp_path / "data.py").write_text(DATA)
        file = tmp_path / f"data.{name}.yaml"
        file.write_text(f"kernel: data.py:{name}\nsizes: {{n: 65536, rows: 65536}}\n{LAUNCHES[name]}grid: [64]\n")
        return program(str(file), capability, **settings)

    return lift_it


def assumed(program, name, tensor):
    """Whether the only assumption of *program*, but for its atomics and their fences, is the one on *tensor*."""
    lines = [x for x in program.meta["assumed"].splitlines() if not re.match("(MEMBAR|ERRBAR|CGAERRBAR|CCTL|ATOM|RED)", x)]
    return re.fullmatch(
        rf"kernel '{name}': addresses in '{tensor}' of \S+ at (0x[0-9a-f]{{4}}(, | and \d+ more)?)+ depend on data: "
        "every active lane is taken to touch 32 B of its own, evenly over the tensor", "\n".join(lines))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("rows", "read"), [
    (1 << 20, 64 * 1024 * 2 * SECTOR),  # 256 MB: no sector is read twice.
    (1 << 13, 1 << 21),  # 2 MB: half of the CTAs find all of it in L2.
    (1000, 192 * 1024),  # 256 kB, of which three times what a CTA reads are used.
])
def test_gathers_read_a_sector_for_every_lane(on_data, rows, read, capability):
    found = on_data("gather", capability, rows=rows)
    validate(found)
    assert launch_work(found, found.launches[0]).loaded == {"Idx": 4 * 65536, "X": 64 * 1024 * 2 * SECTOR}
    result = run(GPUS[capability], found)
    assert result.launches[0].dram_read_bytes == 4 * 65536 + read
    assert assumed(found, "gather", "X")
    assert result.options["assumed"] == found.meta["assumed"]


@pytest.mark.parametrize("capability", [80, 90])
def test_histograms_write_a_sector_for_every_lane(on_data, capability):
    found = on_data("histogram", capability)
    validate(found)
    assert launch_work(found, found.launches[0]).stored == {"H": 65536 * SECTOR}
    assert assumed(found, "histogram", "H")


@pytest.mark.parametrize("capability", [80, 90])
def test_traffic_of_no_known_tensor_is_named(on_data, capability):
    found = on_data("either", capability)
    assert "X" not in launch_work(found, found.launches[0]).loaded
    assert re.fullmatch(r"kernel 'either': the tensor of LDG\.E at (0x[0-9a-f]{4}(, | and \d+ more)?)+ depends on data: "
                        "its traffic to L2 and memory is left out", found.meta["assumed"]), found.meta["assumed"]
