"""Kernels from cubins: the same program as from their source, and one clear error for what does not fit."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.cli.conftest import ROOT
from turbosim.errors import ConfigError, TurbosimError
from turbosim.program.store import load
from turbosim.sass import cubin
from turbosim.sass.cubin import read_cubin

GPUS = {80: "a100_sxm_80gb", 90: "h100_sxm"}
SAVE = """
import sys
from pathlib import Path
from turbosim.hw import load_gpu
from turbosim.sass.prepare import find_description, prepare
for name, reference in (("matmul", "kernels/examples/matmul.py:matmul"), ("softmax", "kernels/examples/softmax.py:softmax")):
    for target, gpu in ((80, "a100_sxm_80gb"), (90, "h100_sxm")):
        made = prepare(find_description(reference), load_gpu(gpu))
        Path(sys.argv[1], f"{name}_{target}.cubin").write_bytes(made.compiled.cubin)
        Path(sys.argv[1], f"{name}_{target}.smem").write_text(str(made.compiled.smem_bytes))
"""
MATMUL = """\
cubin: {file}
smem_bytes: {smem}
sizes: {{m: 4096, n: 4096, k: 4096}}
arguments:
  A: {{dtype: fp16, shape: [m, k]}}
  B: {{dtype: fp16, shape: [k, n]}}
  C: {{dtype: fp16, shape: [m, n]}}
  m: m
  n: n
  k: k
  stride_a: k
  stride_b: n
  stride_c: n
grid: ["cdiv(m, 128)", "cdiv(n, 128)"]
flops: 2 * m * n * k
"""
SOFTMAX = """\
cubin: {file}
smem_bytes: {smem}
sizes: {{rows: 4096, columns: 4096}}
arguments:
  X: {{dtype: fp16, shape: [rows, columns]}}
  Y: {{dtype: fp16, shape: [rows, columns]}}
  rows: rows
  columns: columns
  stride: columns
grid: [rows]
flops: 5 * rows * columns
"""
FORMS = {"matmul": MATMUL, "softmax": SOFTMAX}
PTX = """\
.version 8.0
.target sm_80
.address_size 64
.visible .entry twice(.param .u64 x, .param .f32 factor, .param .u64 count)
{
    .reg .b64 %rd<4>; .reg .b32 %r<5>; .reg .f32 %f<3>; .reg .pred %p;
    ld.param.u64 %rd1, [x]; ld.param.f32 %f1, [factor]; ld.param.u64 %rd2, [count];
    cvta.to.global.u64 %rd1, %rd1;
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    cvt.u64.u32 %rd3, %r4;
    setp.ge.u64 %p, %rd3, %rd2;
    @%p bra done;
    shl.b64 %rd3, %rd3, 2;
    add.u64 %rd1, %rd1, %rd3;
    ld.global.f32 %f2, [%rd1];
    mul.f32 %f2, %f2, %f1;
    st.global.f32 [%rd1], %f2;
done:
    ret;
}
.visible .entry other(.param .u64 x) { ret; }
"""
TWICE = """\
cubin: twice.cubin
entry: twice
num_warps: 4
sizes: {n: 1048576}
arguments:
  X: {dtype: fp32, shape: [n]}
  factor: 2.0
  n: n
grid: ["cdiv(n, 32 * num_warps)"]
flops: n
"""


@pytest.fixture(scope="session")
def cubins(turbosim, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cubins")
    done = turbosim("-c", SAVE, folder)
    assert done.returncode == 0, done.stderr
    triton = pytest.importorskip("triton")
    (folder / "twice.ptx").write_text(PTX)
    ptxas = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    subprocess.run([ptxas, "-arch=sm_80", folder / "twice.ptx", "-o", folder / "twice.cubin"], check=True)
    return folder


@pytest.fixture
def described(cubins, tmp_path):
    """Return a function that writes the description of a cubin beside a copy of it, with changes."""

    def write(name, target, *changes):
        data = (cubins / f"{name}_{target}.cubin").read_bytes()
        (tmp_path / "code.cubin").write_bytes(data)
        text = FORMS[name].format(file="code.cubin", smem=(cubins / f"{name}_{target}.smem").read_text())
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "code.yaml").write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize("target", GPUS)
@pytest.mark.parametrize("name", FORMS)
def test_a_cubin_is_lifted_as_its_source(turbosim, described, name, target):
    folder = described(name, target)
    sizes = ["--set", "m=1k"] if name == "matmul" else ["--set", "rows=2k"]
    options = ["--hw", GPUS[target], *sizes]
    for text, trace in ((ROOT / f"kernels/examples/{name}.py:{name}", "source.trace"), ("code.cubin", "file.trace"),
                        ("code.yaml", "other.trace")):
        done = turbosim("lift", text, *options, "-o", trace, cwd=folder)
        assert done.returncode == 0, done.stderr
    source, file = load(folder / "source.trace"), load(folder / "file.trace")
    assert replace(source, meta={}) == replace(file, meta={})
    assert {k: v for k, v in source.meta.items() if k not in ("num_warps", "num_stages") and not k.isupper()} == file.meta
    assert (folder / "file.trace").read_bytes() == (folder / "other.trace").read_bytes()


def test_sass_and_tune_take_cubins(turbosim, described):
    folder = described("matmul", 80)
    done = turbosim("sass", "code.cubin", "--target", "sm_80", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    loop = json.loads(done.stdout)
    assert (loop["kernel"], loop["warps_per_cta"]) == ("code.cubin", 8)
    assert loop["smem_bytes"] == 32768
    assert loop["is_loop"]
    done = turbosim("tune", "code.cubin", "--target", "sm_80", "--sweep", "m=256,2k", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout)
    assert (small["settings"], large["settings"]) == ({"m": 256}, {"m": 2048})
    assert 0 < small["time_s"] < large["time_s"]


def test_a_cubin_without_triton_s_conventions(turbosim, cubins, tmp_path):
    """Of several kernels one is chosen; the number of warps and a count of 64 bits are the launch's."""
    (tmp_path / "twice.cubin").write_bytes((cubins / "twice.cubin").read_bytes())
    (tmp_path / "twice.yaml").write_text(TWICE)
    done = turbosim("lift", "twice.cubin", "--target", "sm_80", "--set", "num_warps=8", "--set", "n=2097152",
                    "-o", "t.trace", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    program = load(tmp_path / "t.trace")
    launch, = program.launches
    assert [(role.name, role.warps) for role in launch.roles] == [("warps", 8)]
    assert launch.ctas == 2097152 // 256
    assert program.meta["num_warps"] == 8


@pytest.mark.parametrize(("changes", "code", "message"), [
    ([("  stride_c: n\n", "")], 3,
     "code.yaml:5:3: arguments: are 8, and matmul of code.cubin has 11 parameters, of these bytes: 8, 8, 8, 4, 4, 4, 4, 4, 4, "
     "8, 8; parameter 9 is missing (a pointer that the compiler has added may be given as 0)"),
    ([("  stride_c: n\n", "  stride_c: n\n  p: 0\n  q: 0\n  r: 0\n")], 3,
     "code.yaml:5:3: arguments: are 12, and matmul of code.cubin has 11 parameters, of these bytes: 8, 8, 8, 4, 4, 4, 4, 4, 4, "
     "8, 8"),
    ([("  m: m\n", "  m: {dtype: fp16, shape: [m]}\n")], 3,
     "code.yaml:8:6: arguments.m: a tensor is passed as a pointer of 8 bytes; parameter 4 of 11 of matmul has 4 bytes"),
    ([("  m: m\n", "  m: m * 1000000000\n")], 3,
     "code.yaml:8:6: arguments.m: 4096000000000 needs more bytes; parameter 4 of 11 of matmul has 4 bytes"),
    ([("  m: m\n", "  m: null\n")], 3,
     "code.yaml:8:6: arguments.m: is nothing, which has no place among parameters; parameter 4 of 11 of matmul has 4 bytes"),
    ([("[m, k]}", "[m, k], block: [128, 32]}")], 3,
     "code.yaml:5:6: arguments.A: a tensor descriptor is passed as a map of 128 bytes; parameter 1 of 11 of matmul has 8 "
     "bytes"),
    ([("smem_bytes: 32768\n", "")], 3,
     "code.yaml:1:8: smem_bytes: matmul touches shared memory up to byte 32768, and has 0 of its own and 0 by the "
     "launch; give its dynamic shared memory as smem_bytes"),
    ([("smem_bytes: 32768", "smem_bytes: 16384")], 3,
     "code.yaml:2:13: smem_bytes: matmul touches shared memory up to byte 32768, and has 0 of its own and 16384 by the "
     "launch; give its dynamic shared memory as smem_bytes"),
    ([("smem_bytes: 32768", "smem_bytes: 32768\nnum_warps: 4")], 3,
     "code.yaml:3:12: num_warps: is 4, and matmul of code.cubin was compiled for 8; drop it"),
    ([("smem_bytes: 32768", "entry: matmol")], 3,
     "code.yaml:2:8: entry: code.cubin: has no kernel 'matmol', it has matmul (did you mean 'matmul'?)"),
    ([("smem_bytes: 32768", "num_stages: 3")], 3,
     "code.yaml:2:13: num_stages: is for a Triton function, and a cubin is compiled already; names that other values need "
     "go under sizes"),
    ([("cubin:", "kernel: a.py:b\ncubin:")], 3, "code.yaml:2:8: cubin: is named beside a kernel; drop one of the two"),
    ([("cubin: code.cubin\n", "")], 3,
     "code.yaml:1:1: kernel: missing; write FILE.py:FUNCTION, or cubin: FILE.cubin"),
    ([("cubin: code.cubin", "kernel: a.py:b")], 3, "code.yaml:2:13: smem_bytes: is for a cubin; of a Triton function it is known"),
    ([("cubin: code.cubin", "cubin: cod.cubin")], 3, "code.yaml:1:8: cubin: cod.cubin: No such file or directory"),
])
def test_what_does_not_fit_the_code_is_one_error(turbosim, described, changes, code, message):
    folder = described("matmul", 80, *changes)
    done = turbosim("lift", "code.yaml", "--target", "sm_80", "-o", "x.trace", cwd=folder)
    assert done.stderr.splitlines()[1:] == [f"error: {message}"]
    assert (done.returncode, done.stdout) == (code, "")
    assert not (folder / "x.trace").exists()


def test_commands_that_a_cubin_does_not_go_with(turbosim, described, cubins, tmp_path):
    folder = described("matmul", 80)

    def said(*arguments):
        done = turbosim("lift", *arguments, "-o", "x.trace", cwd=folder)
        return done.returncode, done.stderr.splitlines()[-1]

    assert said("code.cubin", "--hw", "h100_sxm") == (
        3, "error: code.yaml:1:8: cubin: code.cubin is code for sm_80, and h100_sxm is sm_90; name a GPU of sm_80, or compile "
           "for sm_90")
    assert said("code.cubin", "--hw", "a100_sxm_80gb", "--set", "num_stages=3") == (
        2, "error: setting 'num_stages': code.cubin has m, n, k, num_warps (did you mean 'num_warps'?)")
    (folder / "lone.cubin").write_bytes(b"")
    assert said("lone.cubin", "--target", "sm_80") == (
        2, "error: lone.cubin: needs a launch description: write lone.yaml, or name one with --launch-file")
    assert said("nowhere.cubin", "--target", "sm_80") == (3, "error: nowhere.cubin: no such file")
    assert said("lone.cubin", "--target", "sm_80", "--launch-file", "code.yaml") == (
        3, "error: lone.cubin: is not a cubin, or is damaged: ELFError Magic number does not match")
    launch = ROOT / "kernels/examples/matmul.matmul.yaml"
    code, message = said("code.cubin", "--target", "sm_80", "--launch-file", launch)
    assert code == 3
    assert message.endswith("matmul.matmul.yaml:9:13: num_stages: is for a Triton function, and a cubin is compiled already; "
                            "names that other values need go under sizes") or "constants" in message
    (folder / "twice.cubin").write_bytes((cubins / "twice.cubin").read_bytes())
    (folder / "twice.yaml").write_text(TWICE.replace("entry: twice\n", ""))
    assert said("twice.cubin", "--target", "sm_80") == (
        3, "error: twice.yaml:1:8: entry: twice.cubin: holds 2 kernels, name one of them: other, twice")
    (folder / "twice.yaml").write_text(TWICE.replace("num_warps: 4\n", "").replace("num_warps", "4"))
    assert said("twice.cubin", "--target", "sm_80") == (
        3, "error: twice.yaml:1:8: num_warps: missing; twice of twice.cubin runs with any number of warps")
    (folder / "twice.yaml").write_text(TWICE.replace("  n: n\n", ""))
    code, message = said("twice.cubin", "--target", "sm_80")
    assert code == 3
    assert "parameter 3 is missing" in message


def test_a_kernel_takes_no_more_warps_than_it_was_compiled_for(turbosim, cubins, tmp_path):
    """``.maxntid`` is a limit, and a launch beyond it fails on the GPU."""
    ptxas = cubin.nvdisasm().with_name("ptxas")
    head, brace, body = PTX.partition("\n{")
    assert brace
    (tmp_path / "k.ptx").write_text(f"{head}\n.maxntid 256, 1, 1{brace}{body}")
    subprocess.run([ptxas, "-arch=sm_80", tmp_path / "k.ptx", "-o", tmp_path / "twice.cubin"], check=True)
    limited = [n for n in ("twice", "other")
               if read_cubin((tmp_path / "twice.cubin").read_bytes(), n).most_threads == 256]
    assert len(limited) == 1
    (tmp_path / "twice.yaml").write_text(TWICE.replace("entry: twice", f"entry: {limited[0]}").replace(
        "num_warps: 4", "num_warps: 16"))
    done = turbosim("lift", "twice.yaml", "--target", "sm_80", "-o", "x.trace", cwd=tmp_path)
    place = next(n for n, x in enumerate((tmp_path / "twice.yaml").read_text().splitlines(), 1) if "num_warps: 16" in x)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        3, f"error: twice.yaml:{place}:12: num_warps: is at most 8, got 16; {limited[0]} of twice.cubin runs with any "
           "number of warps up to 8")


def test_damaged_code_is_named_with_the_first_error(cubins):
    from elftools.elf.elffile import ELFFile

    data = bytearray((cubins / "matmul_80.cubin").read_bytes())
    with (cubins / "matmul_80.cubin").open("rb") as file:
        at = ELFFile(file).get_section_by_name(".text.matmul")["sh_offset"]
    data[at + 0x30:at + 0x40] = b"\xff" * 16
    with pytest.raises(ConfigError, match=r"^k\.cubin: the code of kernel matmul cannot be disassembled, as if the file "
                                          r"were damaged: nvdisasm error .* at address 0x0+30$"):
        read_cubin(bytes(data), source="k.cubin")


def test_a_disassembler_that_does_not_end_is_an_error(cubins, tmp_path, monkeypatch):
    """Some damage has nvdisasm run forever."""
    (tmp_path / "nvdisasm").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "nvdisasm").chmod(0o755)
    monkeypatch.setattr(cubin, "nvdisasm", lambda: tmp_path / "nvdisasm")
    monkeypatch.setattr(cubin, "LONGEST", 0.1)
    with pytest.raises(ConfigError, match=r"^k\.cubin: nvdisasm has not ended after 0\.1 s, as with a damaged cubin$"):
        read_cubin((cubins / "matmul_80.cubin").read_bytes(), source="k.cubin")


@pytest.mark.parametrize("name", ["matmul_80", "softmax_90", "twice"])
def test_a_damaged_cubin_is_one_error_or_still_a_kernel(cubins, name):
    """Cut off, or with bytes overwritten, wherever that is."""
    data = (cubins / f"{name}.cubin").read_bytes()
    step = max(1, len(data) // 24)
    damaged = [data[:at] for at in range(0, len(data), step)]
    random = Random(name)
    damaged += [data[:at] + random.randbytes(8) + data[at + 8:] for at in range(0, len(data) - 8, step)]
    said = []
    for broken in damaged:
        try:
            assert read_cubin(broken, "twice" if name == "twice" else None).instructions
        except TurbosimError as error:
            said.append(str(error))
    assert len(said) >= len(damaged) // 2
    assert {len(message.splitlines()) for message in said} == {1}
