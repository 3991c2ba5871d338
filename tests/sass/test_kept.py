"""Lifted programs on disk."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from tests.sass.test_evaluate import flash_launch
from turbosim.errors import ProgramError
from turbosim.hw import load_gpu, with_overrides
from turbosim.sass import kept
from turbosim.sass.launch import Tensor
from turbosim.sass.lift import lift
from turbosim.sass.tables import table_directory

A100 = load_gpu("a100_sxm_80gb")


@pytest.fixture
def case(compiled, monkeypatch, tmp_path):
    """Return a kernel, its launch, and a list that grows with every lifting."""
    monkeypatch.setenv("TURBOSIM_CACHE_DIR", str(tmp_path))
    done = []

    def counted(*arguments):
        done.append(arguments)
        return lift(*arguments)

    monkeypatch.setattr(kept, "lift", counted)
    code = compiled("causal", 80)
    return code.kernel, flash_launch(code, 192, 1024, 6, 2, 2), done


def test_a_program_is_lifted_once_and_comes_back_as_it_was(case):
    kernel, launch, done = case
    first, second = (kept.lifted_program(kernel, launch, A100) for _ in range(2))
    assert first == second == lift(kernel, launch, A100).program
    assert len(done) == 1


@pytest.mark.parametrize("change", [
    lambda k, c, g: (k, replace(c, grid=(*c.grid[:2], 3)), g),
    lambda k, c, g: (k, replace(c, arguments=tuple(
        replace(a, nbytes=2 * a.nbytes) if isinstance(a, Tensor) else a for a in c.arguments)), g),
    lambda k, c, g: (k, replace(c, smem_bytes=c.smem_bytes + 4096), g),
    lambda k, c, g: (replace(k, digest="of another cubin"), c, g),
    lambda k, c, g: (k, c, with_overrides(g, {"pipes.sfu.rate": 32})),
    lambda k, c, g: (k, c, with_overrides(g, {"sm.count": 4})),
])
def test_what_it_follows_from_makes_another_program(case, change):
    kernel, launch, done = case
    kept.lifted_program(kernel, launch, A100)
    changed = change(kernel, launch, A100)
    assert kept.lifted_program(*changed) == lift(*changed).program
    assert len(done) == 2


def test_another_name_and_price_of_the_gpu_are_no_difference(case):
    kernel, launch, done = case
    for gpu in (A100, with_overrides(A100, {"power.limit": 250})):
        kept.lifted_program(kernel, launch, gpu)
    assert len(done) == 1


def test_another_version_of_the_code_lifts_again(case, monkeypatch):
    kernel, launch, done = case
    kept.lifted_program(kernel, launch, A100)
    monkeypatch.setattr(kept, "_code", lambda: "another version")
    kept.lifted_program(kernel, launch, A100)
    assert len(done) == 2


def test_another_instruction_table_lifts_again(monkeypatch, tmp_path):
    tables = tmp_path / "sm"
    shutil.copytree(table_directory(), tables)
    monkeypatch.setattr(kept, "table_directory", lambda: tables)
    before = kept._code.__wrapped__()
    (tables / "sm_90.yaml").write_text((tables / "sm_90.yaml").read_text().replace("8 clk", "9 clk"))
    assert kept._code.__wrapped__() != before


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"", lambda data: b"not a program"])
def test_a_damaged_entry_is_made_again(case, tmp_path, damage):
    kernel, launch, done = case
    first = kept.lifted_program(kernel, launch, A100)
    entry, = tmp_path.glob("programs/*.trace.gz")
    entry.write_bytes(damage(entry.read_bytes()))
    assert kept.lifted_program(kernel, launch, A100) == first
    assert kept.lifted_program(kernel, launch, A100) == first
    assert len(done) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(case, monkeypatch, tmp_path):
    kernel, launch, done = case
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TURBOSIM_CACHE_DIR", str(tmp_path / "file"))
    assert kept.lifted_program(kernel, launch, A100) == kept.lifted_program(kernel, launch, A100)
    assert len(done) == 2


def test_kernels_of_no_cubin_are_not_kept(case, tmp_path):
    kernel, launch, done = case
    for _ in range(2):
        kept.lifted_program(replace(kernel, digest=""), launch, A100)
    assert len(done) == 2
    assert not list(tmp_path.iterdir())


def test_refusals_are_not_kept(case, tmp_path):
    kernel, launch, _ = case
    with pytest.raises(ProgramError):
        kept.lifted_program(kernel, launch, with_overrides(A100, {"sm.registers": 1024}))
    assert not list(tmp_path.iterdir())
