"""What a CTA loads again: shares against closed forms and against sets of sectors, and where nothing is said."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turbosim.hw import load_gpu
from turbosim.sass.access import Access
from turbosim.sass.instruction import Control, Instruction
from turbosim.sass.launch import Launch, Tensor
from turbosim.sass.prepare import find_description, lifted, prepare
from turbosim.sass.reuse import LEAST, MOST_TURNS, note_on
from turbosim.sass.streams import Stream
from turbosim.sass.traffic import SECTOR

GPUS = {80: "a100_sxm_80gb", 90: "h100_sxm", 100: "b200", 120: "rtx_5090"}
NORM = """\
import triton
import triton.language as tl


@triton.jit
def norm(X, W, B, Y, columns, BLOCK: tl.constexpr, PASSES: tl.constexpr):
    row = tl.program_id(0) * columns
    at = tl.arange(0, BLOCK)
    mean = 0.0
    if PASSES == 3:
        total = tl.zeros([BLOCK], tl.float32)
        for first in range(0, columns, BLOCK):
            total += tl.load(X + row + first + at, mask=first + at < columns, other=0.0)
        mean = tl.sum(total) / columns
    if PASSES == 1:
        x = tl.load(X + row + at, mask=at < columns, other=0.0)
        scale = tl.rsqrt(tl.sum(x * x) / columns)
        w, b = tl.load(W + at, mask=at < columns), tl.load(B + at, mask=at < columns)
        tl.store(Y + row + at, x * scale * w + b, mask=at < columns)
    else:
        total = tl.zeros([BLOCK], tl.float32)
        for first in range(0, columns, BLOCK):
            x = tl.load(X + row + first + at, mask=first + at < columns, other=mean) - mean
            total += x * x
        scale = tl.rsqrt(tl.sum(total) / columns)
        for first in range(0, columns, BLOCK):
            mask = first + at < columns
            w, b = tl.load(W + first + at, mask=mask), tl.load(B + first + at, mask=mask)
            x = tl.load(X + row + first + at, mask=mask) - mean
            tl.store(Y + row + first + at, x * scale * w + b, mask=mask)
"""
LAUNCH = """\
kernel: norm.py:norm
sizes: {rows: 256, columns: 4096}
constants: {BLOCK: 512, PASSES: 3}
arguments:
  X: {dtype: fp32, shape: [rows, columns]}
  W: {dtype: fp32, shape: [columns]}
  B: {dtype: fp32, shape: [columns]}
  Y: {dtype: fp32, shape: [rows, columns]}
  columns: columns
grid: [rows]
"""


def lift_program(path, capability, values):
    gpu = load_gpu(GPUS[capability])
    return lifted(prepare(find_description(path), gpu, values), gpu).program


@pytest.fixture(scope="module")
def norm(tmp_path_factory, triton_cache):
    """Lift a normalisation in a process of its own: this one may have Triton's interpreter."""
    folder = tmp_path_factory.mktemp("norm")
    (folder / "norm.py").write_text(NORM)
    (folder / "norm.norm.yaml").write_text(LAUNCH)
    with pytest.MonkeyPatch.context() as patch, \
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        patch.setenv("TURBOSIM_CACHE_DIR", str(folder / "turbosim"))
        patch.setenv("TRITON_CACHE_DIR", triton_cache)
        patch.delenv("TRITON_INTERPRET", raising=False)

        def lift_there(capability, **values):
            return pool.submit(lift_program, str(folder / "norm.norm.yaml"), capability, values).result()

        yield lift_there


@pytest.mark.parametrize("capability", GPUS)
@pytest.mark.parametrize("passes", [2, 3])
# Of the last one more turns are made than are looked at one by one.
@pytest.mark.parametrize("columns", [512, 798, 800, 4096, 4000, 512 * (MOST_TURNS + 1)])
def test_passes_over_a_row_are_told(norm, capability, passes, columns):
    found = norm(capability, PASSES=passes, columns=columns)
    share = (passes - 1) / (passes + 2)
    assert found.meta["assumed"] == (
        f"kernel 'norm': about {share:.0%} of the bytes that a CTA loads it has loaded before, from 'X': on hardware L1 serves "
        "those that it still holds, here L2 or memory all of them")


@pytest.mark.parametrize("capability", GPUS)
def test_one_pass_is_no_note(norm, capability):
    assert "assumed" not in norm(capability, PASSES=1, columns=4000, BLOCK=4096).meta


def instruction(index, opcode):
    return Instruction(index, opcode, (), None, Control(1, False, None, None, (), 0))


LAUNCHED = Launch((1, 1, 1), 2, (Tensor("X", 1 << 20), Tensor("W", 1 << 20)))


@st.composite
def loads(draw):
    """Loads of a CTA of two warps: tensor, first byte, step of each turn, turns, lanes of the last one."""
    return [(draw(st.sampled_from("XW")), 4 * draw(st.integers(0, 300)), SECTOR * draw(st.integers(0, 12)),
             draw(st.integers(1, 5)), draw(st.integers(0, 32))) for _ in range(draw(st.integers(1, 5)))]


def told(cases, opcodes=None, stores=(), known=True, extra=()):
    """The note on *cases*, of which each is a loop of its own."""
    opcodes = opcodes or ["LDG.E"] * len(cases)
    kernel = SimpleNamespace(name="made", instructions=[*(instruction(n, o) for n, o in enumerate(opcodes)), *extra])
    streams, by_warp = {}, [{}, {}]
    for index, (tensor, first, step, turns, last) in enumerate(cases):
        lanes = np.arange(32, dtype=np.uint64) * np.uint64(4) + np.uint64(LAUNCHED.addresses[tensor] + first)
        for turn in range(turns):
            active = np.arange(32) < (last if turn == turns - 1 else 32)
            for warp in range(2):
                by_warp[warp][index, turn] = Access(index, turn, "global", 4, lanes + np.uint64(step * turn + 128 * warp),
                                                    active if known else None)
        stream = Stream(f"loop{index}", (index,), tensor, index in stores)
        streams[stream] = 9 * SECTOR, turns
    return note_on(kernel, LAUNCHED, streams, lambda visits: [
        {key: a for key, a in accesses.items() if key[1] < visits} for accesses in by_warp], "a CTA")


def sectors(cases):
    """The sectors of every turn of every load, by tensor."""
    found = {"X": [], "W": []}
    for tensor, first, step, turns, last in cases:
        for turn in range(turns):
            lanes = range(32) if turn < turns - 1 else range(last)
            found[tensor] += {(first + step * turn + 128 * warp + 4 * lane) // SECTOR for warp in range(2) for lane in lanes}
    return found


@settings(max_examples=200, deadline=None)
@given(loads())
def test_shares_are_those_of_sets_of_sectors(cases):
    found = sectors(cases)
    again = {name: len(every) - len(set(every)) for name, every in found.items()}
    share = sum(again.values()) / max(1, sum(map(len, found.values())))
    note = told(cases)
    if note is None:
        # The first two turns of a loop show whether a closer look is worth it: a third one may then be a part of a turn.
        assert share < 1.5 * LEAST
        return
    number, names = re.fullmatch(r"kernel 'made': about (\d+)% of the bytes that a CTA loads it has loaded before, from (.*): on "
                                 "hardware L1 serves those that it still holds, here L2 or memory all of them", note).groups()
    assert number == f"{100 * share:.0f}"
    assert sorted(re.findall(r"'(\w)'", names)) == sorted(name for name in again if again[name])


TWICE = [("X", 0, 256, 4, 32), ("X", 0, 256, 4, 32)]


def test_what_is_not_known_to_be_in_l1_is_not_told():
    assert told(TWICE) is not None
    assert told(TWICE, ["LDG.E.128.CONSTANT", "LDGSTS.E.LTC128B"]) is not None
    for opcode in ("LDG.E.STRONG.GPU", "LDG.E.EF.128", "LDGSTS.E.BYPASS.LTC128B.128", "UTMALDG.2D", "ATOMG.E.ADD.STRONG.GPU"):
        assert told(TWICE, ["LDG.E", opcode]) is None, opcode
    # What the kernel stores to, whose lines L1 may drop, lanes that depend on data, and lines that the kernel drops.
    assert told([*TWICE, ("X", 0, 256, 4, 32)], stores=(2,)) is None
    assert told([*TWICE, ("W", 0, 256, 4, 32)], stores=(2,)) is not None
    assert told(TWICE, known=False) is None
    assert told(TWICE, extra=[instruction(2, "CCTL.IVALL")]) is None
