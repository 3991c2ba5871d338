"""Loops over blocks of columns that the compiler has unrolled: every turn reads columns of its own."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.api import simulate_kernel
from turbosim.sass.pieces import Runs, tiled
from turbosim.sass.streams import Form, Stream

sizes = st.integers(1, 6)


@given(unrolled=st.integers(2, 6), turns=sizes, blocks=sizes, sectors=st.integers(1, 4), rows=st.integers(2, 64))
def test_turns_of_an_unrolled_loop_have_tiles_of_their_own(unrolled, turns, blocks, sectors, rows):
    run = 32 * sectors
    pitch = run * unrolled * turns
    region, block = rows * run, rows * pitch
    streams = [Stream("loop", (n,), "B", store=False) for n in range(unrolled)]
    forms = {s: (Form(n * run, (("x", block), ("loop", unrolled * run))), {"x": blocks, "loop": turns})
             for n, s in enumerate(streams)}
    found = tiled("B", block * blocks, dict.fromkeys(streams, region),
                  dict.fromkeys(streams, Runs(0, rows, pitch, run)), forms)
    numbers = [found.tiling.number(form).value({"x": x, "loop": turn})
               for form, _ in forms.values() for x in range(blocks) for turn in range(turns)]
    assert sorted(numbers) == list(range(unrolled * turns * blocks))
    assert found.tiling.tiles * found.tiling.tile_bytes == block * blocks


@pytest.mark.parametrize(("block_n", "block_k", "warps", "stages"), [
    (64, 32, 4, 3), (64, 32, 8, 4), (128, 32, 8, 4), (128, 64, 4, 3), (32, 128, 4, 5)])
def test_a_product_reads_its_operands_once(block_n, block_k, warps, stages, monkeypatch, triton_cache):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", triton_cache)
    m, n, k = 64, 2048, 1024
    settings = {"m": m, "n": n, "k": k, "BLOCK_M": 64, "BLOCK_N": block_n, "BLOCK_K": block_k, "num_warps": warps,
                "num_stages": stages}
    # Triton reads the variable when it is imported.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(simulate_kernel, "h100_sxm", "kernels/examples/grouped.py:matmul", settings).result()
    assert result.launches[0].dram_read_bytes == pytest.approx(2 * (m * k + n * k), rel=0.01)
