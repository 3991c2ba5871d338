"""Trip counts and addresses of compiled kernels, against the arithmetic of their grids and strides."""

from __future__ import annotations

import random
import re
import time

import numpy as np
import pytest

from tests.sass.conftest import TARGETS
from turbosim.errors import ProgramError, UsageError
from turbosim.sass import evaluate
from turbosim.sass.evaluate import walk
from turbosim.sass.flow import blocks_of, loops_of
from turbosim.sass.launch import SPACING, Launch, Tensor

D, BM, BN = 64, 64, 32
ALL = 1 << 30
PRODUCTS = ("HMMA", "HGMMA", "UTCHMMA")


def flash_launch(code, queries, keys, heads=6, kv_heads=2, batch=2):
    tensors = {"Q": (batch, heads, queries), "K": (batch, kv_heads, keys), "V": (batch, kv_heads, keys),
               "O": (batch, heads, queries)}
    values = {name: Tensor(name, 2 * D * int(np.prod(shape))) for name, shape in tensors.items()}
    values |= {"LSE": Tensor("LSE", 4 * batch * heads * queries), "scale": 0.125, "q_heads": heads,
               "group": heads // kv_heads, "queries": queries, "keys": keys}
    for name, (_, n, tokens) in tensors.items():
        values |= {f"stride_{name.lower()}b": n * tokens * D, f"stride_{name.lower()}h": tokens * D,
                   f"stride_{name.lower()}{'m' if name in 'QO' else 'n'}": D}
    return Launch((-(-queries // BM), heads, batch), code.warps, tuple(values[p] for p in code.parameters),
                  code.smem_bytes)


def products(code, walked):
    """Products of tensor cores that a warp issues."""
    blocks = blocks_of(code.kernel.instructions)
    in_block = [sum(i.name in PRODUCTS for i in code.kernel.instructions[b.first:b.last + 1]) for b in blocks]
    return sum(in_block[b] for b in walked.blocks)


def key_tiles(causal, queries, keys, x, grid):
    """Key tiles of one CTA: those of the loop without mask, and those of the loop with it."""
    if not causal:
        return keys // BN, -(-keys // BN) - keys // BN
    tile = grid - 1 - x
    whole = (keys - queries + tile * BM + 1) // BN
    return whole, -(-(min(keys, keys - queries + (tile + 1) * BM) - whole * BN) // BN)


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize(("case", "queries", "keys"), [
    ("causal", 333, 333), ("causal", 200, 1001), ("causal", 64, 65), ("full", 128, 96), ("full", 64, 1024)])
def test_trip_counts(compiled, capability, case, queries, keys):
    code = compiled(case, capability)
    launch = flash_launch(code, queries, keys)
    per_tile = set()
    for x in range(launch.grid[0]):
        walked = walk(code.kernel, launch, (x, 1, 0), 0, visits=0)
        assert walked.unmodelled == ()
        assert walked.accesses == ()
        tiles = sum(key_tiles(case == "causal", queries, keys, x, launch.grid[0]))
        count = products(code, walked)
        assert count % tiles == 0
        per_tile.add(count // tiles)
    # A tile takes as many products wherever it is.
    assert len(per_tile) == 1
    assert per_tile.pop() > 0


@pytest.mark.parametrize("capability", [80, 89, 90, 120])
def test_blocks_of_loops_run_once_a_tile(compiled, capability):
    """Without software pipelining of the products, the loops turn once for each tile."""
    code = compiled("causal", capability)
    launch = flash_launch(code, 333, 400)
    blocks = blocks_of(code.kernel.instructions)
    loops = [loop for loop in loops_of(code.kernel.instructions, blocks) if any(
        i.name in PRODUCTS for i in code.kernel.instructions[blocks[loop.first].first:blocks[loop.last].last + 1])]
    assert len(loops) == 2
    for x in range(launch.grid[0]):
        walked = walk(code.kernel, launch, (x, 0, 0), 0)
        assert [walked.times(loop.first) for loop in loops] == list(key_tiles(True, 333, 400, x, launch.grid[0]))


def touched(walks, launch, name, kernel, opcodes):
    """How often each byte of a tensor is touched by instructions of *opcodes* in global memory."""
    base, nbytes = launch.addresses[name], next(a.nbytes for a in launch.arguments if getattr(a, "name", "") == name)
    counts = np.zeros(nbytes, np.int64)
    for walked in walks:
        for access in walked.accesses:
            if access.space == "global" and kernel.instructions[access.index].name in opcodes:
                at = access.addresses[access.active]
                at = at[(at >= base) & (at < base + SPACING)] - np.uint64(base)
                np.add.at(counts, (at[:, None] + np.arange(access.nbytes, dtype=np.uint64)).ravel(), 1)
    return counts


def rows(counts, heads, batch, head, first, last):
    """The counts that should be: 1 in the rows, 0 elsewhere."""
    expected = np.zeros_like(counts)
    per_row = expected.reshape(heads[0], heads[1], -1, counts.size // (heads[0] * heads[1] * heads[2]))
    per_row[batch, head, first:last] = 1
    return expected


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize(("case", "queries", "keys", "cta"), [
    ("causal", 200, 301, (0, 5, 1)), ("causal", 200, 301, (2, 3, 0)), ("full", 128, 160, (1, 2, 1))])
def test_global_addresses_cover_the_tiles(compiled, capability, case, queries, keys, cta):
    code = compiled(case, capability)
    launch = flash_launch(code, queries, keys)
    walks = [walk(code.kernel, launch, cta, warp, visits=ALL) for warp in range(code.warps)]
    x, head, batch = cta
    tile = launch.grid[0] - 1 - x if case == "causal" else x
    read = min(keys, sum(key_tiles(case == "causal", queries, keys, x, launch.grid[0])) * BN)
    # Three query heads share a KV head: a division by a number that the kernel is given.
    for name, heads, part in (("Q", (2, 6, queries), (batch, head, tile * BM, min(queries, (tile + 1) * BM))),
                              ("K", (2, 2, keys), (batch, head // 3, 0, read)),
                              ("V", (2, 2, keys), (batch, head // 3, 0, read))):
        counts = touched(walks, launch, name, code.kernel, ("LDG", "LDGSTS"))
        np.testing.assert_array_equal(counts, rows(counts, heads, *part))
        assert not touched(walks, launch, name, code.kernel, ("STG",)).any()
    for name in ("O", "LSE"):
        counts = touched(walks, launch, name, code.kernel, ("STG",))
        np.testing.assert_array_equal(counts, rows(counts, (2, 6, queries), batch, head, tile * BM,
                                                   min(queries, (tile + 1) * BM)))
    # No access lies outside of all tensors.
    for walked in walks:
        for access in walked.accesses:
            if access.space == "global":
                at = access.addresses[access.active]
                owner = at // SPACING
                sizes = np.array([0, *(a.nbytes for a in launch.arguments if isinstance(a, Tensor))], np.uint64)
                assert (at % SPACING + np.uint64(access.nbytes) <= sizes[owner]).all()


@pytest.mark.parametrize("capability", TARGETS)
def test_shared_addresses_lie_in_shared_memory(compiled, capability):
    code = compiled("causal", capability)
    launch = flash_launch(code, 200, 301)
    stored, loaded = set(), set()
    for warp in range(code.warps):
        for access in walk(code.kernel, launch, (1, 0, 0), warp).accesses:
            if access.space == "shared":
                at = access.addresses[access.active].astype(np.int64)
                assert (at % access.nbytes == 0).all()
                assert (at >= 0).all()
                assert (at + access.nbytes <= code.kernel.smem_bytes + code.smem_bytes).all()
                name = code.kernel.instructions[access.index].name
                (loaded if name in ("LDS", "LDSM") else stored).update(at.tolist())
    # What is read was written, at the same addresses or in wider stores around them.
    assert stored
    assert loaded


def test_visits_bound_what_is_recorded(compiled):
    code = compiled("full", 80)
    launch = flash_launch(code, 64, 32 * 64)
    few, many = (walk(code.kernel, launch, (0, 0, 0), 1, visits=n).accesses for n in (2, 5))
    assert max(a.visit for a in few) == 1
    assert max(a.visit for a in many) == 4
    kept = [a for a in many if a.visit < 2]
    assert [(a.index, a.visit, a.space) for a in few] == [(a.index, a.visit, a.space) for a in kept]
    for a, b in zip(few, kept, strict=True):
        np.testing.assert_array_equal(a.addresses, b.addresses)
        np.testing.assert_array_equal(a.active, b.active)


@pytest.mark.parametrize("capability", TARGETS)
def test_a_long_loop_is_fast(compiled, capability):
    code = compiled("full", capability)
    launch = flash_launch(code, 64, 32 * 512)
    walk(code.kernel, launch, (0, 0, 0), 0)
    begin = time.process_time()
    walked = walk(code.kernel, launch, (0, 1, 0), 1)
    assert time.process_time() - begin < 0.3
    assert walked.blocks.size > 500


def truncated(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


@pytest.mark.parametrize("capability", TARGETS)
def test_division_is_exact(compiled, capability):
    code = compiled("quotients", capability)
    assert code.parameters == [*"ABCDEF", *"abcd"]
    tensors = tuple(Tensor(name, 1 << 32) for name in "ABCDEF")

    def stores(a, b, c, d):
        launch = Launch((1, 1, 1), 1, (*tensors, a, b, c, d))
        walked = walk(code.kernel, launch, (0, 0, 0), 0)
        assert walked.unmodelled == ()
        return launch, {x.index: x.addresses for x in walked.accesses if x.space == "global"}

    launch, small = stores(7, 3, 9, 5)
    bases = {int(at[0]) // SPACING: index for index, at in small.items()}
    index = {name: bases[base // SPACING] for name, base in launch.addresses.items()}
    assert len(set(index.values())) == 6
    chance = random.Random(1)
    edges = [(2**31 - 1, 1), (-2**31, 3), (2**31 - 1, 2**31 - 1), (0, 5), (-1, 2**31 - 1), (2**24 + 1, 3), (-7, -2),
             (-2**31, -2**31), (6, 3), (5, -3)]
    for a, b in edges + [(chance.randint(-2**31, 2**31 - 1), chance.choice((-1, 1)) * (1 + chance.getrandbits(
            chance.randint(1, 31)) % (2**31 - 1))) for _ in range(30)]:
        c = chance.choice((-1, 1)) * chance.getrandbits(chance.randint(1, 63))
        d = chance.choice((-1, 1)) * (1 + chance.getrandbits(chance.randint(1, 62)))
        _, at = stores(a, b, c, d)
        lane = range(32)
        bits = {"A": [truncated(a, b) + n for n in lane], "B": [a - b * truncated(a, b) + n for n in lane],
                "C": [truncated(c, d) + n for n in lane],
                "D": [a % 2**32 // (b % 2**32) + n for n in lane],
                "E": [c % 2**64 // (d % 2**64) + n for n in lane],
                "F": [truncated((a + n + 2**31) % 2**32 - 2**31, b) for n in lane]}
        for name, quotients in bits.items():
            expected = [(launch.addresses[name] + q) % 2**64 for q in quotients]
            assert at[index[name]].tolist() == expected, (name, a, b, c, d)


@pytest.mark.parametrize("capability", [80, 90, 100, 120])
def test_grid_and_place(compiled, capability):
    code = compiled("places", capability)
    launch = Launch((4, 3, 2), 1, (Tensor("A", 1 << 30),))
    for cta in ((0, 0, 0), (3, 1, 0), (2, 2, 1)):
        [access] = walk(code.kernel, launch, cta, 0).accesses
        place = (cta[0] + 10 * cta[1] + 100 * cta[2]) * 1000 + 234
        assert access.addresses.tolist() == [launch.addresses["A"] + 32 * place + n for n in range(32)]
        assert (access.nbytes, access.active.tolist()) == (1, [True] * 32)


def test_a_loop_over_data_is_refused(compiled):
    code = compiled("chase", 80)
    launch = Launch((1, 1, 1), 1, (Tensor("P", 128), Tensor("A", 128)))
    texts = [f"{16 * i.index:#06x}: {i}" for i in code.kernel.instructions]
    load = next(t for t in texts if " LDG" in t)
    branch = next(t for t in texts if " EXIT" in t or " BRA" in t)
    with pytest.raises(ProgramError, match=re.escape(
            f"kernel 'chase', warp 0: the branch at {branch} depends on the load at {load}, from the contents of 'P'. "
            "The way of a warp must follow from sizes and integers of the launch: make a loop's turns an integer "
            "argument or a constant, choose between values with tl.where, and use approximations of functions that "
            "have a slow path for some values, as tl.sin has") + "$"):
        walk(code.kernel, launch, (0, 0, 0), 0)


def test_a_loop_over_given_data_is_followed(compiled):
    code = compiled("chase", 80)
    links = np.zeros(32, np.int32)
    links[[0, 5, 9, 31, 2]] = [5, 9, 31, 2, 0]
    launch = Launch((1, 1, 1), 1, (Tensor("P", 128, links.tobytes()), Tensor("A", 128)))
    accesses = walk(code.kernel, launch, (0, 0, 0), 0, visits=ALL).accesses
    stores = [int(a.addresses[0]) - launch.addresses["A"] for a in accesses
              if code.kernel.instructions[a.index].name == "STG" and a.active.any()]
    assert stores == [5, 9, 31, 2]


def test_addresses_from_data_are_none(compiled):
    code = compiled("gather", 80)
    launch = Launch((1, 1, 1), 1, (Tensor("P", 4096), Tensor("A", 4096), 3))
    accesses = [a for a in walk(code.kernel, launch, (0, 0, 0), 0, visits=ALL).accesses if a.active.any()]
    loads = [a for a in accesses if code.kernel.instructions[a.index].name == "LDG"]
    assert [a.addresses.tolist() for a in loads] == [
        [launch.addresses["P"] + 4 * (32 * i + n) for n in range(32)] for i in range(3)]
    stores = [a for a in accesses if code.kernel.instructions[a.index].name == "STG"]
    assert len(stores) == 3
    assert all(a.addresses is None and a.active.all() for a in stores)


def test_a_walk_has_a_limit(compiled, monkeypatch):
    code = compiled("gather", 80)
    launch = Launch((1, 1, 1), 1, (Tensor("P", 4096), Tensor("A", 4096), 2**31 - 1))
    monkeypatch.setattr(evaluate, "LIMIT", 1000)
    with pytest.raises(ProgramError, match=r"^kernel 'gather', warp 0: executed 1000 blocks and did not end; the last "
                       r"ended at 0x[0-9a-f]{4}: .*\. Give a smaller problem, or check the arguments$"):
        walk(code.kernel, launch, (0, 0, 0), 0)


A = Tensor("A", 64)


@pytest.mark.parametrize(("make", "message"), [
    (lambda k: Launch((0, 1, 1), 1, ()), "launch: grid must be three numbers of at least 1, got (0, 1, 1)"),
    (lambda k: Launch((1, 1, 1), 33, ()), "launch: warps per CTA must be 1 to 32, got 33"),
    (lambda k: Launch((1, 1, 1), 1, (A, Tensor("A", 32))),
     "launch: two tensors are called 'A', of 32 and 64 bytes, or of different data: give them different names"),
    (lambda k: Launch((1, 1, 1), 1, (Tensor("A", 0),)), "launch: tensor 'A' must have 1 to 2**40 bytes, got 0"),
    (lambda k: Launch((1, 1, 1), 1, (Tensor("A", 64, bytes(3)),)), "launch: tensor 'A' has 64 bytes, its data 3"),
    (lambda k: walk(k, Launch((1, 1, 1), 2, (A, A, 1)), (0, 0, 0), 0),
     "kernel 'gather': was compiled for 1 warps, the launch has 2"),
    (lambda k: walk(k, Launch((1, 1, 1), 1, (A, A)), (0, 0, 0), 0),
     "kernel 'gather': has 5 parameters, of which two pointers at the end may be left out; the launch has 2"),
    (lambda k: walk(k, Launch((1, 1, 1), 1, (A, A, A)), (0, 0, 0), 0),
     "kernel 'gather', parameter 2: is a scalar of 4 bytes, got tensor 'A'"),
    (lambda k: walk(k, Launch((1, 1, 1), 1, (A, A, 1 << 32)), (0, 0, 0), 0),
     "kernel 'gather', parameter 2: has 4 bytes, which cannot hold 4294967296"),
    (lambda k: walk(k, Launch((1, 1, 1), 1, (A, A, 1)), (1, 0, 0), 0), "launch: a grid of (1, 1, 1) has no CTA (1, 0, 0)"),
    (lambda k: walk(k, Launch((1, 1, 1), 1, (A, A, 1)), (0, 0, 0), 1), "launch: a CTA of 1 warps has no warp 1"),
])
def test_launches_that_do_not_fit(compiled, make, message):
    kernel = compiled("gather", 80).kernel
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make(kernel)
