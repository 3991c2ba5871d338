"""What a compiled kernel is kept under, and which functions can be found; compilation itself is in tests/cli."""

from __future__ import annotations

import re

import pytest

from turbosim.errors import ConfigError, UsageError
from turbosim.sass import compile as compiler
from turbosim.sass.compile import Compiled, compile_kernel
from turbosim.sass.source import parse_reference
from turbosim.sass.specialise import Pointer

KERNEL = "import helper\nfrom inner.deep import value\ndef kernel(X, n, B): pass\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return the function of a file with imports, and how often it was compiled."""
    (tmp_path / "k.py").write_text(KERNEL)
    (tmp_path / "helper.py").write_text("A = 1\n")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/__init__.py").write_text("")
    (tmp_path / "inner/deep.py").write_text("from . import other\nvalue = 1\n")
    (tmp_path / "inner/other.py").write_text("")
    monkeypatch.setenv("TURBOSIM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    calls = []

    def compiled(*given):
        calls.append(given)
        return Compiled(b"code %d" % len(calls), 64, ("X", "n"), {})

    monkeypatch.setattr(compiler, "_compile", compiled)

    def run(n=64, constants=None, capability=80, **options):
        source = parse_reference(f"{tmp_path}/k.py:kernel")
        found = compile_kernel(source, {"X": Pointer("fp16"), "n": n}, constants or {"B": 32}, capability, options)
        return found.cubin, len(calls)

    run.folder = tmp_path
    return run


def test_a_second_time_nothing_is_compiled(project):
    assert project() == (b"code 1", 1)
    assert project() == (b"code 1", 1)


@pytest.mark.parametrize(("changed", "again"), [
    ({"n": 128}, False), ({"n": 65}, True), ({"n": 1}, True), ({"n": 1 << 40}, True), ({"n": 2.0}, True),
    ({"constants": {"B": 64}}, True), ({"constants": {"B": 32.0}}, True), ({"capability": 90}, True),
    ({"num_warps": 8}, True)])
def test_what_compiles_alike_is_compiled_once(project, changed, again):
    project()
    assert project(**changed)[1] == 1 + again


@pytest.mark.parametrize("name", ["k.py", "helper.py", "inner/deep.py", "inner/other.py"])
def test_a_change_of_a_file_that_the_kernel_may_depend_on_compiles_again(project, name):
    project()
    path = project.folder / name
    text = path.read_text()
    path.write_text(text + "# changed\n")
    assert project()[1] == 2
    path.write_text(text)
    assert project() == (b"code 1", 2)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"{}\n" + b, lambda b: b[::-1]])
def test_a_damaged_entry_is_compiled_again(project, damage):
    project()
    entry, = (project.folder / "cache/cubins").iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    assert project() == (b"code 2", 2)
    assert project() == (b"code 2", 2)


def test_a_cache_that_cannot_be_written_is_no_error(project, monkeypatch):
    (project.folder / "file").write_text("")
    monkeypatch.setenv("TURBOSIM_CACHE_DIR", str(project.folder / "file"))
    assert project() == (b"code 1", 1)
    assert project() == (b"code 2", 2)


def test_without_triton_the_error_says_what_to_install(project, monkeypatch):
    from importlib import metadata

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(UsageError, match=re.escape(
            "compiling a kernel needs Triton, which is not installed: pip install 'turbosim[kernels]'") + "$"):
        project()


def test_the_interpreter_is_refused(project, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UsageError, match=re.escape(
            "TRITON_INTERPRET is set, which replaces the compiler by an interpreter; unset it to read machine code")):
        project()


def test_a_file_that_is_not_python_is_refused(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    (project.folder / "helper.py").write_text("A = 1\ndef (\n")
    with pytest.raises(ConfigError, match=re.escape("helper.py:2: is not Python: invalid syntax") + "$"):
        project()


@pytest.mark.parametrize(("text", "error", "message"), [
    ("k", UsageError, "kernel 'k': is written FILE.py:FUNCTION, as softmax.py:softmax"),
    ("k.py", UsageError, "kernel 'k.py': is written FILE.py:FUNCTION, as softmax.py:softmax"),
    ("k.py:2", UsageError, "kernel 'k.py:2': is written FILE.py:FUNCTION, as softmax.py:softmax"),
    ("nowhere.py:f", ConfigError, "nowhere.py: no such file"),
])
def test_references(text, error, message):
    with pytest.raises(error, match=re.escape(message) + "$"):
        parse_reference(text)


def test_a_module_of_a_package_keeps_its_name():
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    source = parse_reference(f"{root}/kernels/ops/flash.py:flash_prefill")
    assert (source.module, source.root) == ("kernels.ops.flash", root)
