"""Suites: what they cover, how they are split, what they take."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from kernels.measure import predict
from kernels.measure.cases import columns_of, from_json, text_of
from kernels.measure.suites import decode, get_suite, interleave, make, part_of, prefill

SUITES = ("quick", "full", "micro")


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_parts_are_a_partition_and_cover_every_kernel(suite, count):
    cases = get_suite(suite).cases
    parts = [part_of(cases, index, count) for index in range(1, count + 1)]
    assert Counter(case.key for part in parts for case in part) == Counter({case.key: 1 for case in cases})
    sizes = Counter(case.kernel for case in cases)
    for part in parts:
        got = Counter(case.kernel for case in part)
        assert all(abs(got[kernel] - size / count) < 1 for kernel, size in sizes.items())
    assert max(map(len, parts)) - min(map(len, parts)) <= len(sizes)


def test_the_order_is_the_same_whatever_order_cases_come_in():
    cases = get_suite("full").cases
    assert interleave(cases) == interleave(tuple(reversed(cases)))
    # Any stretch holds the kernels in proportion, up to the rounding at both of its ends.
    order, sizes = interleave(cases), Counter(case.kernel for case in cases)
    for start in range(0, len(order) - 100, 37):
        got = Counter(case.kernel for case in order[start:start + 100])
        assert all(abs(got[kernel] - 100 * size / len(order)) <= 2 for kernel, size in sizes.items())


def test_the_full_suite_covers_what_it_claims():
    shapes = [(case.kernel, case.shape) for case in get_suite("full").cases]
    prefills = [s for kernel, s in shapes if kernel == "flash" and s.phase == "prefill"]
    assert {(s.head_dim, s.causal) for s in prefills} == {(64, True), (64, False), (128, True), (128, False)}
    assert {s.seq_q for s in prefills} == {512 * 2**i for i in range(7)}
    for kernel in ("flash", "turbo", "kivi"):
        decodes = [s for name, s in shapes if name == kernel and s.phase == "decode"]
        assert {s.batch for s in decodes} == {1, 4, 16, 64}
        assert {min(s.seq_k for s in decodes), max(s.seq_k for s in decodes)} == {512, 128 * 1024}
    tilings = {case.options for case in get_suite("full").cases if case.phase == "prefill"}
    assert len({dict(options).get("warps") for options in tilings} - {None}) >= 3
    assert len({dict(options).get("stages") for options in tilings} - {None}) >= 3


@pytest.mark.parametrize(("suite", "minutes", "parts"), [("quick", 5, 1), ("micro", 9, 1), ("full", 9, 5)])
def test_predicted_times_fit_the_limits(suite, minutes, parts):
    chosen = get_suite(suite)
    assert chosen.limit_minutes == minutes
    for index in range(1, parts + 1):
        assert predict.START_S + sum(predict.predict(part_of(chosen.cases, index, parts))) < 60 * minutes


def test_a_compilation_is_predicted_once():
    case, same = make("flash", prefill(128, True, 512, 1)), make("flash", prefill(128, True, 512, 1))
    first, second = predict.predict([case, same])
    assert first - second == pytest.approx(predict.COMPILE_S)
    other = predict.predict([case, make("flash", prefill(128, False, 512, 1))])
    assert other[1] > predict.COMPILE_S


@pytest.mark.parametrize("time_s", [1e-9, 1e-3, 2e-3, 1e-2, 10.0])
def test_repeats_stay_within_their_bounds(time_s):
    repeats = predict.repeats_for(time_s)
    assert 20 <= repeats <= 200
    if 20 < repeats < 200:
        assert repeats * time_s == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("suite", SUITES)
def test_a_case_survives_json_and_keeps_its_key(suite):
    for case in get_suite(suite).cases:
        copy = from_json(json.loads(json.dumps(case.to_json())))
        assert copy == case
        assert copy.key == case.key


def test_keys_do_not_depend_on_the_order_of_options():
    shape = prefill(64, True, 512, 1)
    assert make("flash", shape, {"warps": 4, "stages": 2}).key == make("flash", shape, {"stages": 2, "warps": 4}).key
    assert make("flash", shape, {"warps": 4}).key != make("flash", shape, {"warps": 8}).key
    assert columns_of(make("flash", shape, {"warps": 8}), {"warps": 4, "fused": True})["options"] == "fused=true:warps=8"
    assert text_of({}) == ""


def test_the_check_of_a_long_cache_is_predicted():
    """Its reference runs block by block on the CPU: 2048 blocks here, that of FlashAttention on the GPU."""
    turbo, flash = (predict.predict([make(kernel, decode(128, 128 * 1024, 1))])[0] for kernel in ("turbo", "flash"))
    assert turbo - flash == pytest.approx(2048 * predict.REFERENCE_BLOCK_S)
