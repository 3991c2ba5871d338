"""Traffic of memory instructions, shapes of walks and numbers of tiles, on cases counted by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.errors import ProgramError
from turbosim.sass.access import Access
from turbosim.sass.flow import Loop, blocks_of, loops_of
from turbosim.sass.instruction import Control, Instruction, parse_operand, split_operands
from turbosim.sass.launch import Launch, Tensor
from turbosim.sass.scattered import Spread
from turbosim.sass.skeleton import Run, runs, shape_of, shortened
from turbosim.sass.streams import Form, Stream, Tiling, fit
from turbosim.sass.traffic import sectors, traffic_of, turns

ALL = np.ones(32, np.bool_)


def access(step: int, nbytes: int, space: str = "shared", active=ALL, base: int = 0) -> Access:
    """Return an access whose lanes are *step* bytes apart."""
    return Access(0, 0, space, nbytes, np.arange(32, dtype=np.uint64) * np.uint64(step) + np.uint64(base), active)


@pytest.mark.parametrize(("step", "nbytes", "cycles"), [
    (4, 4, 1), (0, 4, 1), (8, 4, 2), (12, 4, 1), (128, 4, 32), (132, 4, 1), (8, 8, 2), (16, 8, 4), (16, 16, 4),
    (144, 16, 4), (128, 16, 32), (2, 2, 1), (1, 1, 1)])
def test_bank_conflicts(step, nbytes, cycles):
    assert turns(access(step, nbytes)) == cycles


def test_lanes_that_take_no_part_take_no_bank():
    assert turns(access(128, 4, active=np.arange(32) < 3)) == 3
    assert turns(access(128, 4, active=np.zeros(32, np.bool_))) == 0


@pytest.mark.parametrize(("step", "nbytes", "count"), [(4, 4, 4), (16, 16, 16), (32, 4, 32), (0, 4, 1), (2, 2, 2), (128, 16, 32)])
def test_sectors(step, nbytes, count):
    assert sectors(access(step, nbytes, "global")) == count


def test_accesses_that_cross_a_sector_touch_both():
    assert sectors(access(32, 8, "global", base=28)) == 33


def test_traffic_is_an_average_over_visits():
    found = traffic_of([access(4, 4, "global"), access(32, 4, "global"), access(128, 4)])
    assert (found[0].sectors, found[0].turns) == (18.0, 32.0)


LOOPS = (Loop(2, 3, 40), Loop(6, 6, 60))


def test_shape_of_a_walk():
    nodes = shape_of([0, 2, 3, 2, 3, 2, 4, 6, 6, 7], LOOPS)
    assert nodes == (0, Run(LOOPS[0], ((2, 3), (2, 3), (2,))), 4, Run(LOOPS[1], ((6,), (6,))), 7)
    assert [len(r.turns) for r in runs(nodes)] == [3, 2]


def test_a_loop_of_one_block_that_turns_once_is_a_loop():
    """Else CTAs whose loop turns once would run other code than those whose loop turns more often."""
    assert shape_of([0, 6, 7], LOOPS) == (0, Run(LOOPS[1], ((6,),)), 7)


def code_of_texts(*texts):
    """Instructions ``OPCODE operands``; ``->n`` at the end of a branch is its target."""
    found = []
    for index, text in enumerate(texts):
        text, _, target = text.partition("->")
        guard, _, rest = text.partition(" ") if text.startswith("@") else ("", "", text)
        opcode, _, operands = rest.strip().partition(" ")
        found.append(Instruction(index, opcode, split_operands(operands), parse_operand(guard[1:]) if guard else None,
                                 Control.decode(0), int(target) if target else None))
    return tuple(found)


@pytest.mark.parametrize(("opcode", "count"), [("IADD3 R0, R0, 0x1, RZ", 1),
                                               ("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R1", 0)])
def test_trying_again_to_pass_a_barrier_is_no_loop(opcode, count):
    code = code_of_texts("NOP", opcode, "@P0 BRA ->1", "EXIT", "BRA ->4")
    assert len(loops_of(code, blocks_of(code))) == count


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(3, 8))
def test_shortened_walks_keep_their_ends(turns_of, most):
    blocks = [0]
    for n in turns_of:
        blocks += [2, 3] * n + [4]
    nodes = shape_of(blocks, LOOPS)
    assert shortened(nodes, 10 ** 6) == blocks
    assert len(shortened(nodes, most)) == 1 + sum(2 * min(n, most) + 1 for n in turns_of)


def test_nested_loops_have_nested_turns():
    outer, inner = Loop(1, 4, 40), Loop(2, 3, 30)
    nodes = shape_of([0, 1, 2, 3, 2, 3, 4, 1, 2, 3, 4, 5], (outer, inner))
    assert nodes == (0, Run(outer, ((1, Run(inner, ((2, 3), (2, 3))), 4), (1, Run(inner, ((2, 3),)), 4))), 5)


@given(st.integers(0, 1000), st.integers(-50, 50), st.integers(-50, 50))
def test_lines_are_found_from_samples(const, a, b):
    samples = [({"x": x, "y": y}, const + a * x + b * y) for x in range(4) for y in range(3)]
    assert fit("here", samples, ["x", "y"]) == Form(const, tuple((v, c) for v, c in (("x", a), ("y", b)) if c))
    samples[-1] = samples[-1][0], samples[-1][1] + 1
    assert fit("here", samples, ["x", "y"]) is None


def test_a_fit_needs_its_origin():
    with pytest.raises(ProgramError, match=re.escape("here: nothing is known at the origin of the grid")):
        fit("here", [({"x": 1}, 5)], ["x"])


def test_tiles_that_start_at_multiples_of_their_size():
    form = Form(7 * 4096, (("x", -4096), ("head", 8 * 4096)))
    tiling = Tiling(8 * 3 * 4096, 4096, [(form, {"x": 8, "head": 3})])
    assert tiling.number(form) == Form(7, (("x", -1), ("head", 8)))
    assert tiling.tiles == 24


def test_blocks_of_columns_are_numbered_by_digits():
    # 64 rows by 32 columns of a matrix with rows of 256 bytes: four blocks side by side.
    form = Form(64, (("k", 64), ("m", 64 * 256)))
    tiling = Tiling(4 * 64 * 256, 64 * 64, [(form, {"k": 3, "m": 4})])
    number = tiling.number(form)
    seen = {number.value({"k": k, "m": m}) for k in range(3) for m in range(4)}
    assert len(seen) == 12
    assert max(seen) < tiling.tiles == 16


@given(st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4)), st.integers(1, 60), st.booleans(),
       st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_scattered_tiles_cover_a_tensor_and_stay_in_it(grid, tiles, classes, turns):
    launch = Launch(grid, 4, (Tensor("X", tiles * 4096),))
    streams = [Stream(f"loop{n}", (n,), "X", store=False, scattered=True) for n in range(len(turns))]
    groups, columns = {}, {}
    spread = Spread(launch, groups, columns, classes)
    forms = spread.forms(dict.fromkeys(streams, 4096), {s.part: n for s, n in zip(streams, turns, strict=True)})
    seen = set()
    for x, y, z in np.ndindex(grid):
        at = {axis: c % groups.get(axis, c + 1) for axis, c in zip("xyz", (x, y, z), strict=True)}
        at |= {f"{axis}_group": c // groups[axis] for axis, c in zip("xyz", (x, y, z), strict=True) if axis in groups}
        at |= {name: column[x] for name, column in columns.items()}
        seen |= {forms[s].value({**at, s.part: turn})
                 for s, n in zip(streams, turns, strict=True) for turn in range(n)}
    assert set(range(len(seen))) == seen
    assert len(seen) <= tiles
    # Along x alone, at least three quarters of the places at which CTAs can begin.
    if grid[1:] == (1, 1) and sum(turns) <= tiles:
        assert 4 * len(seen) >= 3 * sum(turns) * min(grid[0], tiles // sum(turns))
