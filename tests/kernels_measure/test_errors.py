"""Every refusal, with its full text and exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kernels import registry
from kernels.measure import fake, store
from kernels.measure.cli import main
from kernels.measure.schema import NAMES
from kernels.measure.store import HEADER, ROOT, Store, read_rows, source_hashes
from kernels.ops.common import MissingPackageError, check_version, need_triton
from turbosim.errors import ConfigError

SEE = "; see python -m kernels.measure --help"

REFUSING = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {REFUSED!r} or {ONLY_STANDARD} and not (
                name.split(".")[0] in sys.stdlib_module_names | {"kernels", "turbosim", "sitecustomize"}):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refusing())
"""


def refused(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "--suite is missing: give --suite quick, full or micro" + SEE),
    (["--suite", "fast"], "--suite fast: not among quick, full, micro" + SEE),
    (["--suite", "Quik"], "--suite Quik: not among quick, full, micro (did you mean 'quick'?)" + SEE),
    (["--suite"], "--suite: its value is missing" + SEE),
    (["--sute", "quick"], "--sute: no such flag (did you mean '--suite'?)" + SEE),
    (["--suite", "quick", "--outt=x"], "--outt=x: no such flag (did you mean '--out'?)" + SEE),
    (["--suite", "quick", "--verbose"], "--verbose: no such flag" + SEE),
    (["--bogus"], "--bogus: no such flag" + SEE),
    (["--suite", "quick", "--only", "flash", "turbo", "--dry-run"],
     "turbo: a word that belongs to no flag; quote values that contain spaces" + SEE),
    (["--suite", "quick"], "--out is missing: give --out DIR, a directory for the rows, or --dry-run"),
    (["--suite", "quick", "--out", ""], "--out is empty: give --out DIR, a directory for the rows"),
    (["--suite", "quick", "--out", "x", "--limit-minutes", "0"], "--limit-minutes 0: must be a positive number"),
    (["--suite", "quick", "--out", "x", "--limit-minutes", "nan"], "--limit-minutes nan: must be a positive number"),
    (["--suite", "quick", "--out", "x", "--limit-minutes", "soon"], "--limit-minutes soon: not a number" + SEE),
    (["--suite", "quick", "--out", "x", "--case-timeout", "-1"], "--case-timeout -1: must be a positive number"),
    (["--suite", "quick", "--dry-run", "--part", "2"],
     "--part 2: must be I/N, two whole numbers, for example 1/4"),
    (["--suite", "quick", "--dry-run", "--part", "x"],
     "--part x: must be I/N, two whole numbers, for example 1/4"),
    (["--suite", "quick", "--dry-run", "--part", "0/3"], "--part 0/3: there are parts 1/3 to 3/3"),
    (["--suite", "quick", "--dry-run", "--part", "5/4"], "--part 5/4: there are parts 1/4 to 4/4"),
    (["--suite", "quick", "--dry-run", "--part", "1/0"], "--part 1/0: N must be at least 1"),
    (["--suite", "quick", "--dry-run", "--only", "flsh"],
     "--only: suite 'quick' has no kernel 'flsh': not among flash, turbo, kivi, quantise (did you mean 'flash'?)"),
    (["--suite", "quick", "--dry-run", "--only", "flash,"],
     "--only flash,: a kernel is empty; write KERNEL,KERNEL without spaces"),
    (["--suite", "quick", "--out", "x", "--counters"],
     "--counters: the fake device has none; leave out --counters or --device fake"),
    (["--suite", "quick", "--out", "x", "--device", "tpu"], "--device tpu: not among cuda, fake" + SEE),
])
def test_bad_flags(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "--device" not in arguments and arguments[-1:] != ["--suite"]:
        arguments = [*arguments, "--device", "fake"]
    assert refused(capsys, *arguments) == (2, f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_kernels_that_are_not_registered(capsys, monkeypatch):
    monkeypatch.setattr(registry, "NAMES", {})
    assert refused(capsys, "--suite", "quick", "--dry-run") == (
        2, "error: suite 'quick': none of its kernels is in kernels/registry.py: flash, turbo, kivi, quantise\n")
    monkeypatch.setattr(registry, "NAMES", {"flash": "a:b"})
    assert refused(capsys, "--suite", "quick", "--dry-run", "--only", "kivi") == (
        2, "error: --only: kernel 'kivi' is not in kernels/registry.py\n")
    assert main(["--suite", "quick", "--dry-run"]) == 0
    assert capsys.readouterr().err == "not in kernels/registry.py, left out: turbo, kivi, quantise\n"


def test_out_is_a_file(capsys, tmp_path):
    path = tmp_path / "out"
    path.write_text("")
    for mode in (("--device", "fake"), ("--dry-run",)):
        assert refused(capsys, "--suite", "quick", *mode, "--out", path) == (
            2, f"error: --out {path}: it is a file; give a directory, new or of an earlier call\n")
        assert refused(capsys, "--suite", "quick", *mode, "--out", path / "a" / "b") == (
            2, f"error: --out {path / 'a' / 'b'}: {path} is a file; give a directory, new or of an earlier call\n")


def test_out_may_not_be_written_to(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(store.os, "access", lambda place, mode: mode != os.W_OK | os.X_OK)
    assert refused(capsys, "--suite", "quick", "--device", "fake", "--out", tmp_path / "a" / "b") == (
        2, f"error: --out {tmp_path / 'a' / 'b'}: cannot be written to: no permission to write to {tmp_path}; give a "
           "directory of your own\n")
    # A dry run only reads.
    assert main(["--suite", "quick", "--dry-run", "--device", "fake", "--out", str(tmp_path)]) == 0


def test_out_cannot_be_made(capsys):
    """What permissions do not tell, such as a file system that takes no directories."""
    code, err = refused(capsys, "--suite", "quick", "--device", "fake", "--out", "/proc/out")
    assert code == 2
    assert re.fullmatch(r"error: --out /proc/out: cannot be written to: (No such file or directory|no permission to write "
                        r"to /proc); give a directory of your own\n", err)


@pytest.fixture
def measured(tmp_path, capsys):
    """A directory with rows of the fake device."""
    assert main(["--suite", "quick", "--only", "quantise", "--device", "fake", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    return tmp_path


def again(capsys, path):
    return refused(capsys, "--suite", "quick", "--only", "quantise", "--device", "fake", "--out", path)


def change(path, **values):
    meta = json.loads((path / "meta.json").read_text())
    meta["runs"][-1].update(values)
    (path / "meta.json").write_text(json.dumps(meta))


def test_rows_of_another_gpu(capsys, measured):
    change(measured, gpu="NVIDIA H200")
    rows = (measured / "rows.csv").read_bytes()
    assert again(capsys, measured) == (2, f"error: --out {measured}: holds rows of GPU 'NVIDIA H200', this is 'fake'; "
                                          "use an empty --out directory\n")
    assert (measured / "rows.csv").read_bytes() == rows


def test_rows_of_another_triton(capsys, measured):
    change(measured, triton="3.6.0")
    assert again(capsys, measured) == (2, f"error: --out {measured}: holds rows measured with triton '3.6.0', this is "
                                          "None; use an empty --out directory\n")


def test_rows_of_other_kernel_sources(capsys, measured):
    change(measured, kernel_sources={**source_hashes(), "kernels/case.py": "0", "kernels/gone.py": "1"})
    assert again(capsys, measured) == (
        2, f"error: --out {measured}: holds rows of another version of the kernels' sources (changed: kernels/case.py, "
           "kernels/gone.py); use an empty --out directory\n")


def test_meta_is_missing_or_broken(capsys, measured):
    (measured / "meta.json").write_text('{"runs": [1]}')
    assert again(capsys, measured) == (3, f"error: {measured / 'meta.json'}: not the meta.json of a measurement; use an "
                                          "empty --out directory\n")
    (measured / "meta.json").unlink()
    assert again(capsys, measured) == (3, f"error: {measured / 'meta.json'}: missing, though rows.csv holds rows; use an "
                                          "empty --out directory\n")


def test_rows_that_cannot_be_read(capsys, measured):
    path = measured / "rows.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2].replace("cold", "cold,").replace("warm", "warm,") + lines[3])
    code, err = again(capsys, measured)
    assert code == 3
    assert err.startswith(f"error: {path}:3: not a row of this table: ")
    cells = dict.fromkeys(NAMES, "")
    for name, value, problem in (("batch", "many", "invalid literal for int() with base 10: 'many'"),
                                 ("causal", "yes", "'yes' is neither true nor false")):
        path.write_text(HEADER + ",".join({**cells, name: value}.values()) + "\n")
        with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}:2: not a row of this table: {problem}; delete the line')}$"):
            read_rows(path)
    path.write_text("a,b\n1,2\n")
    assert again(capsys, measured) == (3, f"error: {path}:1: other columns than this version writes; use an empty --out "
                                          "directory\n")


def test_two_calls_at_once(capsys, tmp_path):
    with Store(tmp_path):
        assert refused(capsys, "--suite", "quick", "--device", "fake", "--out", tmp_path) == (
            1, f"error: --out {tmp_path}: another measurement is writing there; wait for it, or use another directory\n")


def cuda_call(tmp_path, refuse=(), only_standard=False, torch=None, arguments=("--out", "out"), triton="3.6.0"):
    """Run a call on a GPU in a process whose imports are restricted, and whose torch is the text *torch*."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        REFUSING.replace("{REFUSED!r}", repr(set(refuse))).replace("{ONLY_STANDARD}", repr(only_standard)))
    if torch is not None:
        (site / "torch.py").write_text(torch)
        (site / "triton.py").write_text(f'__version__ = "{triton}"\n')
    code = ("import kernels.registry as r; r.NAMES = {'flash': 'tests.kernels_measure.stubs:RIGHT'}\n"
            "import sys; from kernels.measure.cli import main; sys.exit(main())")
    return subprocess.run([sys.executable, "-c", code, "--suite", "quick", *arguments], capture_output=True, text=True,
                          timeout=60, env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}, cwd=tmp_path)


ABSENT = "not in kernels/registry.py, left out: turbo, kivi, quantise\n"
CPU_TORCH = '__version__ = "2.11.0+cpu"\nclass version:\n    cuda = None\n'
NO_GPU = '__version__ = "2.11.0"\nclass version:\n    cuda = "13.0"\nclass cuda:\n    is_available = lambda: False\n'


@pytest.mark.parametrize(("refuse", "torch", "code", "message"), [
    (["torch"], None, 2, "torch cannot be imported: No module named 'torch'; install torch 2.11 or newer, built with CUDA"),
    (["triton"], CPU_TORCH, 2, "triton cannot be imported: No module named 'triton'; install triton 3.6 or newer"),
    # numpy is for the interpreter: without it a GPU run is what it is with it.
    (["numpy"], CPU_TORCH, 1, "torch 2.11.0+cpu is built without CUDA; install a build for an NVIDIA GPU"),
    ([], CPU_TORCH, 1, "torch 2.11.0+cpu is built without CUDA; install a build for an NVIDIA GPU"),
    ([], NO_GPU, 1, "no NVIDIA GPU: torch sees no CUDA device; check nvidia-smi and CUDA_VISIBLE_DEVICES"),
])
def test_what_a_gpu_run_needs(tmp_path, refuse, torch, code, message):
    done = cuda_call(tmp_path, refuse, torch=torch)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"{ABSENT}error: {message}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("torch", "triton", "message"), [
    ("2.10.1+cu130", "3.6.0", "torch 2.10.1+cu130 is too old for the kernels; install torch 2.11 or newer"),
    ("2.11.0", "3.5.1", "triton 3.5.1 is too old for the kernels; install triton 3.6 or newer"),
    ("1.13", "2.0", "torch 1.13 is too old for the kernels; install torch 2.11 or newer")])
def test_old_versions(tmp_path, torch, triton, message):
    done = cuda_call(tmp_path, torch=NO_GPU.replace("2.11.0", torch), triton=triton)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{ABSENT}error: {message}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", ["2.11.0a0+git123", "2.12", "3.0.0", "unknown"])
def test_versions_that_pass(version):
    check_version("torch", version)


def test_an_old_triton_behind_the_kernels_interfaces(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.11.0"))
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.2.0"))
    with pytest.raises(MissingPackageError,
                       match=r"^triton 3\.2\.0 is too old for the kernels; install triton 3\.6 or newer$"):
        need_triton()


@pytest.mark.parametrize("name", ["torch", "triton", "numpy"])
def test_what_the_interpreter_needs(tmp_path, monkeypatch, name):
    """The kernels' own interfaces, on a CPU."""
    (tmp_path / "sitecustomize.py").write_text(
        REFUSING.replace("{REFUSED!r}", repr({name})).replace("{ONLY_STANDARD}", "False"))
    code = ("import sys\nfrom kernels.ops.common import need_triton\nfrom turbosim.errors import TurbosimError\n"
            "try:\n    need_triton()\nexcept TurbosimError as e:\n    print(e)\n    sys.exit(e.exit_code)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    assert (done.returncode, done.stdout) == (
        2, f"the kernels need {name}, which cannot be imported (No module named '{name}'); install it, for example with "
           f"pip install {name}\n")


def test_dry_run_needs_no_package(tmp_path):
    done = cuda_call(tmp_path, only_standard=True, arguments=("--dry-run", "--limit-minutes", "2.5"))
    assert (done.returncode, done.stderr) == (0, ABSENT)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 12 + 2
    assert lines[0] == "predicted  kernel, phase: shape: options other than defaults"
    assert lines[1].endswith("block_m=128:block_n=64:stages=2:warps=4")
    assert re.fullmatch(r"12 cases: about \d+\.\d minutes, 1 call of at most 2\.5 minutes", lines[-2])
    assert lines[-1].startswith("prediction: a run = bytes / 2 TB/s + operations / 200 TFLOP/s + 10 us; a case = ")


def test_the_fake_device_needs_no_package(tmp_path):
    done = cuda_call(tmp_path, only_standard=True, arguments=("--device", "fake", "--out", "out"))
    assert done.returncode == 0
    assert done.stdout == "rows added to out/rows.csv: 105 ok, 0 wrong, 0 failed\n"


def test_a_dry_run_says_what_a_directory_lacks(measured, capsys):
    for only, line in (("quantise", "0 cases of 3, the others are done: about 0.0 minutes, 0 calls of at most 5 minutes"),
                       ("quantise,kivi", r"6 cases of 9, the others are done: about \d\.\d minutes, 1 call of at most 5 "
                                         "minutes")):
        assert main(["--suite", "quick", "--only", only, "--device", "fake", "--dry-run", "--out", str(measured)]) == 0
        assert re.fullmatch(line, capsys.readouterr().out.splitlines()[-2])


def test_a_dry_run_of_one_case(capsys):
    assert main(["--suite", "quick", "--only", "quantise", "--part", "1/3", "--device", "fake", "--dry-run"]) == 0
    assert re.fullmatch(r"1 case: about \d\.\d minutes, 1 call of at most 5 minutes",
                        capsys.readouterr().out.splitlines()[-2])


def test_ncu_is_missing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "NAMES", fake.NAMES)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(capsys, "--suite", "quick", "--counters", "--out", tmp_path / "out") == (
        1, "error: --counters: ncu is not on the PATH; install Nsight Compute, or leave the option out\n")


def test_the_worker_does_not_start(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("kernels.measure.link.child_environment", lambda: {"PYTHONPATH": str(tmp_path)})
    monkeypatch.chdir(tmp_path)
    code, err = refused(capsys, "--suite", "quick", "--device", "fake", "--out", tmp_path / "out")
    assert code == 1
    assert err.startswith("error: the worker process did not start: the worker process ended with exit code 1: ")
    assert "No module named 'kernels" in err


def test_a_directory_that_was_only_begun_may_change_hands(measured, monkeypatch):
    (measured / "rows.csv").write_text(HEADER)
    change(measured, gpu="NVIDIA H200")
    monkeypatch.setattr(store, "source_hashes", dict)
    assert main(["--suite", "quick", "--only", "quantise", "--device", "fake", "--out", str(measured)]) == 0
    assert len(json.loads((measured / "meta.json").read_text())["runs"]) == 1


