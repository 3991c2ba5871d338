"""Attention in a serving engine: pages, the write of new tokens, copies that regroup query heads."""

import pytest

from turbosim import simulate
from turbosim.api import build_program
from turbosim.program.work import program_work
from turbosim.workload import Attention, Phase


def decode(q_heads=8, kv_heads=2, batch=3, keys=640):
    return Attention(batch, q_heads, kv_heads, 1, keys, 128, False, Phase.DECODE)


def prefill(q_heads=4, kv_heads=2, batch=2, tokens=512, head_dim=128):
    return Attention(batch, q_heads, kv_heads, tokens, tokens, head_dim, True, Phase.PREFILL)


def names(shape, **options):
    return [x.name for x in build_program("a100_sxm_80gb", shape, "flash", options).launches]


@pytest.mark.parametrize(("heads", "before", "after"), [
    ((8, 2), ["regroup Q"], ["regroup O"]), ((8, 1), [], ["regroup O"]), ((8, 8), [], [])])
def test_query_heads_of_a_kv_head_are_brought_together_and_parted(heads, before, after):
    plain = names(decode(*heads))
    assert names(decode(*heads), paged=True) == [*before, *plain, *after]
    assert names(decode(*heads), paged=True, cache_write=True) == ["cache write", *before, *plain, *after]


@pytest.mark.parametrize(("kernel", "gpu", "shape", "tokens"), [
    ("flash", "a100_sxm_80gb", decode(), 3), ("flash", "a100_sxm_80gb", prefill(), 1024),
    ("flash3", "h100_sxm", prefill(), 1024)])
def test_every_new_token_is_read_and_written_once(kernel, gpu, shape, tokens):
    program = build_program(gpu, shape, kernel, {"cache_write": True})
    plain = build_program(gpu, shape, kernel, {})
    moved = 2 * tokens * 2 * 128 * 2
    assert program.launches[0].name == "cache write"
    assert program.launches[1:] == plain.launches
    written = program_work(program).write_bytes - program_work(plain).write_bytes
    read = program_work(program).read_bytes - program_work(plain).read_bytes
    # A sector for every token's slot.
    assert (written, read) == (moved, moved + 32 * tokens)


@pytest.mark.parametrize(("head_dim", "keys"), [(64, 256), (128, 128), (256, 64)])
def test_a_paged_prefill_has_the_tiles_of_the_split_kernel(head_dim, keys):
    meta = build_program("a100_sxm_80gb", prefill(head_dim=head_dim), "flash", {"paged": True}).meta
    assert (meta["block_m"], meta["block_n"], meta["warps"]) == (64, keys, 4)


@pytest.mark.parametrize("shape", [decode(), prefill(tokens=128)])
def test_engines_agree_on_paged_attention(shape):
    options = {"paged": True, "cache_write": True}
    fast, slow = (simulate("a100_sxm_80gb", shape, "flash", options=options, engine=e) for e in ("numba", "simpy"))
    assert fast.ticks == slow.ticks


def test_pages_cost_time():
    bare, paged, written = (simulate("a100_sxm_80gb", prefill(batch=64), "flash", options=options).time_s for options in
                            ({"block_m": 64, "block_n": 128, "warps": 4, "stages": 1}, {"paged": True},
                             {"paged": True, "cache_write": True}))
    assert bare < paged < written
