from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import HealthCheck, given, settings

from tests.strategies import programs
from turbosim.errors import ConfigError, ProgramError
from turbosim.hw import load_gpu
from turbosim.hw.spec import OpClass
from turbosim.program.ops import Affine, Compute, Load, Loop, Signal, Wait, var
from turbosim.program.program import Counter, CounterKind, CtaClass, Dim, Launch, Program, Role, Tensor
from turbosim.program.store import load, save
from turbosim.program.text import dump
from turbosim.program.validate import validate
from turbosim.program.work import program_work
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Phase, attention_of, get_model

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

BODY = (Loop("j", var("n"), (Load("load K", "K", var("x") + var("j"), "k"), Wait("wait K", "k", var("j") + 1),
                             Compute("work", ((OpClass.FP32, 64),)))),)
GOOD = Program("p", (Tensor("K", 8, 64, "fp16"),), (
    Launch("l", (Dim("x", 2),), (Role("r", 4, BODY),), (Counter("k", CounterKind.DATA),),
           (CtaClass("c", (("n", 3),)),)),), 384, {"kernel": "demo"})

TEXT = """\
program p
  kernel=demo
tensors
  K: 8 tiles of 64 B fp16, 512 B
launch l: grid x=2 = 2 CTAs
  per CTA: 4 warps, 128 registers per thread, 0 B shared memory
  class c: 2 CTAs, n=3
  counters k (data)
  role r: 4 warps
    loop j < n
      load K[x + j] -> k
      wait k >= j + 1
      compute work: fp32 64
totals
  useful FLOPs 384; tensor-core FLOPs 0
  loads 384 B; stores 0 B; shared memory 384 B
  instructions per thread class: fp32 384
  tile operations 18
"""


def test_text():
    assert dump(GOOD) == TEXT


@QUIET
@given(programs())
def test_generated_programs_are_well_formed_and_survive_saving(tmp_path_factory, program):
    validate(program)
    path = tmp_path_factory.mktemp("p") / "x.json.gz"
    save(program, path)
    assert load(path) == program


@pytest.mark.parametrize("kernel", ["flash", "turbo", "kivi", "gear"])
@pytest.mark.parametrize("phase", list(Phase))
def test_size_does_not_depend_on_the_sequence_length(kernel, phase):
    def operations(seq):
        shape = attention_of(get_model("llama3-8b"), phase, 1, seq)
        program = get_schedule(kernel).program(load_gpu("h200_sxm"), shape)
        return [r.body for launch in program.launches for r in launch.roles]

    def count(body):
        return sum(1 + count(x.body) if isinstance(x, Loop) else 1 for x in body)

    assert sum(map(count, operations(4096))) == sum(map(count, operations(131072)))


def changed(**changes):
    launch = dataclasses.replace(GOOD.launches[0], **changes)
    return dataclasses.replace(GOOD, launches=(launch,))


def role(*ops):
    return changed(roles=(Role("r", 4, ops),))


@pytest.mark.parametrize(("program", "message"), [
    (role(Load("load", "k", Affine(), "k")), "launch 'l' / role 'r' / load: unknown tensor 'k' (did you mean 'K'?)"),
    (role(Load("load", "K", Affine(), "kk")), "launch 'l' / role 'r' / load: unknown counter 'kk' (did you mean 'k'?)"),
    (role(Load("load", "K", Affine(8), "k")),
     "launch 'l' / role 'r' / load: reaches tiles 8 to 8 of 'K', which has 8 (CTA class 'c')"),
    (role(Load("load", "K", var("y"), "k")), "launch 'l' / role 'r' / load: unknown variable 'y'"),
    (role(Load("load", "K", Affine(), "k", nbytes=65)),
     "launch 'l' / role 'r' / load: moves 65 B, a tile of 'K' has 64 B"),
    (role(Load("load", "K", Affine(), "k", shared_by=2)), "launch 'l' / role 'r' / load: shared_by is for bulk copies to "
                                                          "shared memory, got 2 with bulk=False and smem=True"),
    (role(Load("load", "K", Affine(), "k", smem=False, bulk=True, shared_by=2)),
     "launch 'l' / role 'r' / load: shared_by is for bulk copies to shared memory, got 2 with bulk=True and smem=False"),
    (role(Load("load", "K", Affine(), "k", bulk=True, shared_by=4)),
     "launch 'l' / role 'r' / load: shared_by must divide the 2 CTAs of the launch, got 4"),
    (role(Load("load", "K", Affine(), "k", bulk=True, shared_by=0)),
     "launch 'l' / role 'r' / load: shared_by must be 1 to 16 CTAs, got 0"),
    (role(Load("load", "K", Affine(), "k", bulk=True, shared_by=32)),
     "launch 'l' / role 'r' / load: shared_by must be 1 to 16 CTAs, got 32"),
    (role(Signal("arrive", "k")), "launch 'l' / role 'r' / arrive: a signal arrives at a barrier or mbarrier, 'k' is data"),
    (role(Wait("wait", "k", Affine(1))),
     "launch 'l' / role 'r' / wait: waits for 1 signals of 'k', CTA class 'c' issues 0"),
    (role(Compute("work", pieces=0)), "launch 'l' / role 'r' / work: pieces must be at least 1, got 0"),
    (role(Loop("x", Affine(1), ())),
     "launch 'l' / role 'r' / loop x: loop variable 'x' is already a grid dimension, parameter or loop"),
    (role(Loop("i", Affine(0), (Signal("arrive", "nowhere"),))),
     "launch 'l' / role 'r' / loop i / arrive: unknown counter 'nowhere'"),
    (role(Loop("i", Affine(0), (Wait("wait", "k", var("q")),))),
     "launch 'l' / role 'r' / loop i / wait: unknown variable 'q'"),
    (changed(grid=(Dim("x", 0),)), "launch 'l': grid dimension 'x' must be at least 1, got 0"),
    (changed(grid=(Dim("x", 2), Dim("y", -1))), "launch 'l': grid dimension 'y' must be at least 1, got -1"),
    (changed(grid=(Dim("x", 10**6), Dim("y", 10**6))),
     "launch 'l': has 1,000,000,000,000 CTAs, the engines keep a class number per grid coordinate for at most 50,000,000; "
     "use larger tiles or a smaller problem"),
    (changed(grid=(Dim("x", 10**30),)),
     "launch 'l': has 1,000,000,000,000,000,000,000,000,000,000 CTAs, the engines keep a class number per grid coordinate "
     "for at most 50,000,000; use larger tiles or a smaller problem"),
    (changed(class_of=(("x", (0,)),)), "launch 'l': class table of 'x' has 1 entries, the dimension has 2"),
    (changed(class_of=(("x", (0, 1)),)), "launch 'l': class tables reach 0 to 1, classes are 0 to 0"),
    (dataclasses.replace(GOOD, tensors=(*GOOD.tensors, GOOD.tensors[0])),
     "program 'p': tensor 'K' is declared 2 times"),
])
def test_ill_formed_programs(program, message):
    with pytest.raises(ProgramError) as error:
        validate(program)
    assert message in str(error.value).splitlines()


def test_copies_that_a_cluster_shares():
    program = role(Load("load", "K", var("x"), "k", bulk=True, shared_by=2))
    validate(program)
    assert "    load K[x] bulk for 2 CTAs -> k\n" in dump(program)
    work = program_work(program)
    # Each of the two asks for 64 B and receives the other's, too.
    assert (work.read_bytes, work.smem_bytes) == (128, 256)


def test_tiles_of_a_loop_that_never_runs_are_not_bounded():
    validate(role(Loop("i", Affine(0), (Load("load", "K", var("i") + 8, "k"),))))


def test_saved_files_have_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "any").touch()
    save(GOOD, tmp_path / "x.gz")
    assert (tmp_path / "x.gz").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "x.gz").mkdir()
    message = f"{tmp_path / 'x.gz'}: cannot be written: Is a directory"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        save(GOOD, tmp_path / "x.gz")
    assert list(tmp_path.iterdir()) == [tmp_path / "x.gz"]


def test_damaged_files(tmp_path):
    path = tmp_path / "x.json"
    save(GOOD, path)
    text = path.read_text()
    cases = {
        text[:-20]: "truncated or not JSON at line 1 column",
        text.replace('"tiles":8', '"tiles":9'): "checksum mismatch, the file was damaged or edited; write the trace again",
        text.replace('"version":2', '"version":1'): "version 1 of the format, this turbosim reads version 2; write the "
                                                    "trace again",
        "{}": "not a turbosim program (format is not 'turbosim-program')",
    }
    for content, message in cases.items():
        path.write_text(content)
        with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}: {message}')}"):
            load(path)
    packed = tmp_path / "x.json.gz"
    save(GOOD, packed)
    packed.write_bytes(packed.read_bytes()[:-10])
    message = f"{packed}: truncated or damaged gzip data; write the trace again"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load(packed)
    missing = tmp_path / "no"
    message = f"{missing}: cannot be read: No such file or directory"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load(missing)
