"""What ``tune`` chooses, against the replay of every instruction and against public lists of tilings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ruamel.yaml import YAML

from analysis.check_tune import CASES, HERE, Finding, Row, Source, in_order, lines_of, public, rows_of, tilings
from turbosim.result import OpRecord, Recording


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch, triton_cache):
    monkeypatch.setenv("TURBOSIM_CACHE_DIR", str(tmp_path / "turbosim"))
    monkeypatch.setenv("TRITON_CACHE_DIR", triton_cache)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.parametrize(("name", "shape", "some"), [
    ("flash-d64-causal", {"queries": 1024, "batch": 1, "heads": 32}, [(128, 64, 4), (64, 64, 4), (64, 32, 4), (64, 64, 8)]),
    ("matmul-1024x1024x1024", {"m": 2048}, [(128, 128, 4), (64, 128, 4), (64, 64, 4), (128, 64, 8)])])
def test_the_choice_is_within_five_percent_of_the_best(name, shape, some):
    case = CASES[name]
    case = replace(case, shape={**case.shape, **shape})
    every = [{"BLOCK_M": m, "BLOCK_N": n, "num_stages": 3, "num_warps": w} for m, n, w in some]
    if case.kernel == "matmul":
        every = [{**t, "BLOCK_K": 32} for t in every]
    found = Finding(case, tuple(rows_of(case, every, 1)))
    assert len(found.rows) == len(every)
    assert found.chosen == found.rows[0]
    assert 0 <= found.loss < 0.05
    # The tilings differ by more than that.
    assert max(r.replayed_s for r in found.rows) > 1.2 * found.best.replayed_s
    assert any(s.keeps(found.chosen.tiling) for s in public(case) if "autotuning" in s.name)


def test_public_tilings_are_complete():
    document = YAML(typ="safe").load((HERE / "public_tilings.yaml").read_text())
    assert set(document) == {case.kernel for case in CASES.values()}
    for sources in document.values():
        for source in sources:
            assert set(source) <= {"name", "source", "only", "space", "tilings"}
            assert source["source"].count(",") >= 2, "project and version, file, name in it"
    for case in CASES.values():
        for source in public(case):
            for tiling in source.tilings:
                assert {"BLOCK_M", "BLOCK_N"} <= set(tiling) <= set(case.sweep)
        assert all(set(t) == set(case.sweep) for t in tilings(case))


def test_pytorch_s_search_spaces_are_its_own():
    """The lists are those of the installed PyTorch."""
    from torch._inductor.template_heuristics.triton import CUDAConfigHeuristic

    theirs = CUDAConfigHeuristic()
    for case, name, configs in (
            ("matmul-1024x1024x1024", "PyTorch Inductor, exhaustive search", theirs.exhaustive_configs),
            ("matmul-1024x1024x1024", "PyTorch Inductor, autotuning", theirs.mm_configs),
            ("flash-d64-full", "PyTorch FlexAttention, exhaustive search", theirs.exhaustive_flex_attn_fwd_configs),
            ("flash-d64-full", "PyTorch FlexAttention, autotuning", theirs.flex_attn_fwd_autotune_configs)):
        ours = next(s for s in public(CASES[case]) if s.name == name)
        fields = {"BLOCK_M": "block_m", "BLOCK_N": "block_n", "BLOCK_K": "block_k", "num_stages": "num_stages",
                  "num_warps": "num_warps"}
        assert ({tuple(sorted(t.items())) for t in ours.tilings}
                == {tuple(sorted((n, getattr(c, f)) for n, f in fields.items() if n in ours.tilings[0]))
                    for c in configs})


def test_a_source_keeps_what_it_says():
    source = Source("S", ({"BLOCK_M": 128, "num_warps": 4}, {"BLOCK_M": 64, "num_warps": 8}))
    tiling = {"BLOCK_M": 128, "BLOCK_N": 32, "num_warps": 4, "num_stages": 3}
    assert source.keeps(tiling)
    assert not source.keeps({**tiling, "num_warps": 8})
    assert {s.name: len(s.tilings) for s in public(CASES["flash-d64-full"])}["Triton tutorial 06, with tensor descriptors"] == 36


def test_the_loss_is_that_of_the_replay():
    case = CASES["flash-d64-full"]

    def row(m, tuned, replayed, stages=2):
        return Row({"BLOCK_M": m, "BLOCK_N": 64, "num_warps": 4, "num_stages": stages}, tuned, replayed)

    # Seven stages are not in the sweep, so that tune has not chosen among them.
    rows = (row(64, 0.9e-3, 0.8e-3, 7), row(128, 1e-3, 1.1e-3), row(64, 1.2e-3, 1e-3))
    found = Finding(case, rows)
    assert (found.chosen, found.best) == (rows[1], rows[2])
    assert found.loss == pytest.approx(0.1)
    lines = lines_of([found])
    assert lines[2] == "| flash-d64-full | 3 | 128x64 w4 s2 | 1,000 us | 1,100 us | 64x64 w4 s2 | 1,000 us | 10.0% |"
    assert ("| flash-d64-full | 128x64 w4 s2 | Triton tutorial 06, 2024 to early 2025 | no | 64x64 w4 s7 | -10.0% |"
            in lines)
    assert ("| flash-d64-full | 128x64 w4 s2 | FlashAttention-2, CUDA | no | does not run |  |" in lines)


def test_ctas_are_replayed_in_the_order_in_which_they_began():
    def op(cta, start, end):
        return OpRecord(launch=0, sm=1, slot=0, role=0, cta=cta, op=0, start=start, end=end)

    # CTA 5 begins before 3, whatever the order of the records.
    assert in_order(Recording((op(3, 8, 19), op(5, 4, 12), op(5, 0, 8)))) == [5, 3]
    assert in_order(Recording((op(7, 2, 3), op(6, 2, 4)))) == [6, 7]
