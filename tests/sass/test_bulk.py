"""Bulk tensor copies: tensor maps, what kernels with them move, against closed forms, and what is refused."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sass.test_tensor_memory import kernel
from turbosim.errors import ConfigError, ProgramError, UsageError
from turbosim.hw import load_gpu
from turbosim.program.ops import Load, Store
from turbosim.program.work import launch_work, trip_counts
from turbosim.sass import bulk, oracle, replay
from turbosim.sass.access import Access
from turbosim.sass.build import code_of, cta_class, sm_model
from turbosim.sass.cubin import Parameter
from turbosim.sass.description import Description
from turbosim.sass.evaluate import Walk, walk
from turbosim.sass.launch import Launch, Tensor, Tiles
from turbosim.sass.prepare import find_description, lifted, prepare
from turbosim.sass.rules import Rules
from turbosim.sass.tensor_map import TensorMap, decode
from turbosim.sass.tensor_memory import Event

GPUS = {90: load_gpu("h100_sxm"), 100: load_gpu("b200"), 120: load_gpu("rtx_5090")}
SECTOR = 32


def lift_program(text, capability, settings):
    gpu = GPUS[capability]
    return lifted(prepare(find_description(text), gpu, settings), gpu).program


def replays(text, capability, settings):
    """Cycles of the first CTAs by both models of the SM."""
    gpu = GPUS[capability]
    made = prepare(find_description(text), gpu, settings)
    cta, walks = cta_class(made.kernel, made.launch, (0, 0, 0))
    code, model = code_of(made.kernel, Rules.of(gpu), walks), sm_model(gpu, 1.6e9)
    return [run(code, [cta], [0, 0], 1, model).cycles for run in (oracle.replay, replay.replay)]


@pytest.fixture(scope="module")
def there(tmp_path_factory, triton_cache):
    """Run in a process of its own: this one may have Triton's interpreter."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("caches")
        patch.setenv("TURBOSIM_CACHE_DIR", str(folder / "turbosim"))
        patch.setenv("TRITON_CACHE_DIR", triton_cache)
        patch.delenv("TRITON_INTERPRET", raising=False)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            yield lambda function, name, capability, **settings: pool.submit(
                function, name if name.startswith("/") else f"kernels/examples/tma.py:{name}", capability, settings).result()


def tile_bytes(rows, row_bytes, nbytes):
    """Bytes of the sectors of the first *nbytes* of each of *rows* rows."""
    return SECTOR * sum((r * row_bytes + nbytes - 1) // SECTOR - r * row_bytes // SECTOR + 1 for r in range(rows))


def operations(program):
    return [op for op, times in trip_counts(program.launches[0].roles[0].body, {}) if times]


@pytest.mark.parametrize("capability", [90, 100, 120])
@pytest.mark.parametrize(("m", "n", "rows", "columns"), [(512, 512, 64, 128), (1000, 1000, 64, 64)])
def test_a_copy_moves_its_tiles(there, m, n, rows, columns, capability):
    """One descriptor is made by the host, one in the kernel."""
    found = there(lift_program, "add", capability, m=m, n=n, BLOCK_M=rows, BLOCK_N=columns)
    work = launch_work(found, found.launches[0])
    wanted = -(-m // rows) * -(-n // columns) * tile_bytes(rows, 2 * n, 2 * columns)
    assert (work.loaded, work.stored) == ({"a": wanted}, {"B": wanted})
    loads = [op for op in operations(found) if isinstance(op, Load)]
    assert [(op.bulk, op.smem) for op in loads] == [(True, True)]
    assert sum(isinstance(op, Store) for op in operations(found)) == 1


@pytest.mark.parametrize("name", ["matmul", "matmul_device"])
@pytest.mark.parametrize(("m", "n", "k", "tile"), [
    (512, 512, 512, (128, 256, 64, 8)), (256, 384, 320, (128, 128, 64, 4)), (384, 128, 256, (64, 64, 32, 4)),
    # The tiles at the ends count as whole ones.
    (500, 392, 200, (128, 128, 64, 4))])
def test_a_product_moves_its_tiles(there, m, n, k, tile, name):
    rows, columns, depth, warps = tile
    found = there(lift_program, name, 90, m=m, n=n, k=k, BLOCK_M=rows, BLOCK_N=columns, BLOCK_K=depth, num_warps=warps)
    work = launch_work(found, found.launches[0])
    a, b, c = "abc" if name == "matmul" else "ABC"
    down, across, turns = -(-m // rows), -(-n // columns), -(-k // depth)
    assert work.loaded[a] == down * across * turns * tile_bytes(rows, 2 * k, 2 * depth)
    assert work.loaded[b] == down * across * turns * tile_bytes(depth, 2 * n, 2 * columns)
    assert work.stored == {c: down * across * tile_bytes(rows, 2 * n, 2 * columns)}
    assert sum(work.macs.values()) == down * across * turns * rows * columns * depth
    assert all(op.bulk for op in operations(found) if isinstance(op, Load))


@pytest.mark.parametrize(("tokens", "width", "rows", "columns", "warps", "causal"), [
    (512, 128, 128, 128, 8, False), (512, 64, 64, 64, 4, False), (512, 64, 128, 64, 4, True)])
def test_attention_moves_its_tiles(there, tokens, width, rows, columns, warps, causal):
    found = there(lift_program, "flash", 90, heads=3, tokens=tokens, HEAD_DIM=width, BLOCK_M=rows, BLOCK_N=columns,
                  num_warps=warps, CAUSAL=causal)
    work = launch_work(found, found.launches[0])
    turns = sum(-(-(x + 1) * rows // columns) if causal else tokens // columns for x in range(tokens // rows))
    assert work.loaded == {"q": 3 * tokens * width * 2, **dict.fromkeys("kv", 3 * turns * columns * width * 2)}
    assert work.stored == {"o": 3 * tokens * width * 2}
    assert sum(work.macs.values()) == 3 * turns * rows * columns * width * 2


@pytest.mark.parametrize("capability", [90, 120])
@pytest.mark.parametrize(("name", "settings"), [
    ("add", {"m": 512, "n": 512}), ("matmul", {"m": 256, "n": 256, "k": 512}),
    ("matmul_device", {"m": 256, "n": 128, "k": 256, "BLOCK_N": 128, "num_warps": 4}),
    ("flash", {"heads": 1, "tokens": 512, "HEAD_DIM": 64})])
def test_both_models_of_the_sm_agree(there, name, settings, capability):
    slow, fast = there(replays, name, capability, **settings)
    assert slow == fast > 0


@given(st.data())
def test_tensor_maps_survive_their_bytes(data):
    rank = data.draw(st.integers(1, 5))
    sides = st.lists(st.integers(1, 256), min_size=rank, max_size=rank)
    shape = tuple(16 * s for s in data.draw(sides))
    strides = tuple(16 * s for s in data.draw(st.lists(st.integers(1, 1 << 35), min_size=rank - 1, max_size=rank - 1)))
    made = TensorMap(data.draw(st.integers(0, 1 << 48)), shape, strides, tuple(data.draw(sides)),
                     data.draw(st.sampled_from([1, 2, 4, 8])))
    assert decode(made.encode()) == made


def test_a_tensor_map_as_the_compiler_makes_it():
    """A tensor of 512 x 512 FP16 and boxes of 64 x 64: the words that the machine code of ``add`` writes."""
    words = np.zeros(32, np.uint32)
    words[[1, 2, 3, 8, 9, 13, 14]] = 1 << 8, 0x10 | 0x300 | 0x6000, 1024 >> 4, 511, 511, 63 << 24, 63
    assert decode(words.tobytes()) == TensorMap(1 << 40, (512, 512), (1024,), (64, 64), 2)
    words[13] |= 1
    assert decode(words.tobytes()) is None


def test_parts_of_a_box_that_are_outside_of_the_tensor_do_not_move():
    made = TensorMap(1 << 40, (40, 10), (80,), (16, 4), 2)
    places, nbytes = made.pieces((0, 0))
    assert nbytes == 32
    assert (places - (1 << 40)).tolist() == [0, 80, 160, 240]
    # Of 16 columns from the 32nd on, 8 are there; of 4 rows from the last on, one.
    places, nbytes = made.pieces((32, 9))
    assert (nbytes, (places - (1 << 40)).tolist()) == (16, [9 * 80 + 64])
    assert made.pieces((-8, -3))[0].tolist() == [1 << 40]
    assert len(made.pieces((40, 0))[0]) == len(made.pieces((0, -4))[0]) == 0


X = Tensor("x", 64 * 64 * 2)


@pytest.mark.parametrize(("tiles", "what"), [
    (Tiles(X, 2, (64, 64), (64,)), "shape and block have the same 1 to 5 dimensions, got [64, 64] and [64]"),
    (Tiles(X, 2, (64, 64), (64, 512)), "a box has 1 to 256 elements a side, got [64, 512]"),
    (Tiles(Tensor("x", 120), 2, (10, 6), (2, 2)), "rows are a multiple of 16 bytes, got 6 elements of 2 bytes; pad them"),
    (Tiles(X, 4, (64, 64), (8, 8)), "[64, 64] elements of 4 bytes are not the 8192 bytes of the tensor")])
def test_descriptors_that_tma_does_not_have(tiles, what):
    with pytest.raises(UsageError, match=f"^{re.escape(f'launch: the tensor descriptor of {chr(39)}x{chr(39)}: {what}')}$"):
        Launch((1, 1, 1), 4, (tiles,))


def compiles(text, capability, settings):
    prepare(find_description(text), load_gpu("a100_sxm_80gb"), settings)


def test_descriptors_of_the_host_want_a_gpu_with_tma(there):
    said = ("kernels/examples/tma.py:add: argument 'a' is a tensor descriptor, which Triton compiles to bulk copies from sm_90 on, "
            "and the GPU is sm_80; choose another GPU or pass a pointer")
    with pytest.raises(UsageError, match=f"{re.escape(said)}$"):
        there(compiles, "add", 80)


@pytest.mark.parametrize(("argument", "size", "what"), [
    (X, 128, "is a tensor descriptor, got tensor 'x'"), (7, 128, "is a tensor descriptor, got 7"),
    (Tiles(X, 2, (64, 64), (64, 64)), 8, "is a parameter of 8 bytes, got a tensor descriptor of 'x'")])
def test_descriptors_go_where_descriptors_are_wanted(argument, size, what):
    code = kernel("EXIT")
    object.__setattr__(code, "parameters", (Parameter(0, size),))
    with pytest.raises(UsageError, match=f"^{re.escape(f'kernel {chr(39)}k{chr(39)}, parameter 0: {what}')}$"):
        walk(code, Launch((1, 1, 1), 1, (argument,)), (0, 0, 0), 0)


def test_blocks_have_as_many_sides_as_their_tensors():
    made = Description(kernel="a.py:f", grid=[1], arguments={"a": {"dtype": "fp16", "shape": [64, 64], "block": [64, 48]}})
    with pytest.raises(ConfigError, match=re.escape(
            "launch description: arguments.a.block: has a power of two for each of the 2 sides of the tensor, got [64, 48]")):
        made.bind()


LOAD, EXPECT = "UTMALDG.2D [UR8], [UR4]", "SYNCS.ARRIVE.TRANS64 RZ, [UR6], R2"


def bulk_walk(*boxes, expected=64, known=True):
    places = np.arange(4, dtype=np.uint64) * 32 if known else None
    acting = np.ones(4, np.bool_) if known else None
    return Walk(np.zeros(0, np.int32), tuple(Access(0, n, "global", 32, places, acting, b) for n, b in enumerate(boxes)), (),
                (Event(1, (8, expected)), *(Event(0, (8,)) for _ in boxes)))


@pytest.mark.parametrize(("found", "what"), [
    (bulk_walk(0, known=False), "UTMALDG.2D at 0x0: its tensor map or coordinates do not follow from the launch; make the "
     "descriptor at the beginning of the kernel from arguments, or pass it"),
    (bulk_walk(64, 128), "UTMALDG.2D at 0x0: moves boxes of different sizes, of 64 and 128 bytes; use one block shape for each "
     "copy"),
    (bulk_walk(64, expected=None), "SYNCS.ARRIVE.TRANS64 at 0x10: the bytes that it expects do not follow from the launch; make "
     "the block shape constexpr"),
    (bulk_walk(64, 64), "SYNCS.ARRIVE.TRANS64 at 0x10: its mbarrier expects 64 bytes in all and bulk copies bring 128; wait for "
     "copies of one kind with one mbarrier"),
    (replace(bulk_walk(64), warp=4), "UTMALDG.2D at 0x0: is left to other warps than the first, as by warp "
     "specialisation; compile the kernel without")])
def test_copies_that_cannot_be_followed(found, what):
    with pytest.raises(ProgramError, match=f"^{re.escape(f'kernel {chr(39)}k{chr(39)}: {what}')}$"):
        bulk.check_counts(kernel(LOAD, EXPECT), [found])


def test_what_one_thread_computes_is_known_in_its_lane():
    """As compilers write it: the thread that copies adds to a register that holds data in the others, and reads it back."""
    code = kernel("LDG.E R2, [R4]", "ELECT P0, URZ, PT", "@P0 IADD3 R2, RZ, 0x40, RZ", "@P0 R2UR UR6, R2",
                  "SYNCS.EXCH.64 URZ, [UR6], UR4", "R2UR UR6, R2", "SYNCS.EXCH.64 URZ, [UR6], UR4", "@!P0 R2UR UR6, R2",
                  "SYNCS.EXCH.64 URZ, [UR6], UR4", "EXIT")
    events = walk(code, Launch((1, 1, 1), 1, ()), (0, 0, 0), 0).events
    assert [e.values for e in events] == [(0x40,), (None,), (None,)]
