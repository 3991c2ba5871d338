"""Instruction tables as files: what is wrong with one, where, and how opcodes find their entries."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from turbosim.cli.hw import app
from turbosim.errors import ConfigError
from turbosim.hw import list_gpus
from turbosim.sass.tables import Entry, Mio, Read, Registers, Resolved, is_table, load_table, merged, table_directory

BASE = "extends: sm_80\nopcodes:\n"


def write(tmp_path, text, name="sm_80a.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "message"), [
    (BASE + "  FOO: {pipe: fmaa}\n",
     "{file}:3:9: opcodes.FOO.pipe: is one of fma, heavy, alu, lite, fp16, fp64, xu, tensor, uniform, control, mio, got 'fmaa' (did "
     "you mean 'fma'?)"),
    (BASE + "  FOO: {pipe: alu, op_clas: int, op_class: int}\n",
     "{file}:3:20: opcodes.FOO.op_clas: unknown field (did you mean 'op_class'?)"),
    (BASE + "  FOO: {pipe: alu, op_class: integer}\n",
     "{file}:3:20: opcodes.FOO.op_class: is one of fp32, fp16x2, int, imad, sfu, cvt, pack, widen, shuffle, sas, got 'integer' "
     "(did you mean 'int'?)"),
    (BASE + "  FOO: {pipe: alu, interval: 2 clk, op_class: int}\n",
     "{file}:3:20: opcodes.FOO.interval: a number needs a source: write {{value: 2 clk, source: TAG}}, got '2 clk'"),
    (BASE + "  FOO: {pipe: alu, op_class: int, interval: {value: 0 clk, source: C}}\n",
     "{file}:3:53: opcodes.FOO.interval: must be greater than 0, got 0 clk"),
    (BASE + "  FOO: {pipe: alu, op_class: int, interval: {value: 2 ns, source: C}}\n",
     "{file}:3:46: opcodes.FOO.interval: '2 ns': unit 'ns' does not measure clk; write for example '16 clk'"),
    (BASE + "  FOO: {pipe: alu, op_class: int, latency: {value: 4 clk, source: D}}\n",
     "{file}:3:59: opcodes.FOO.latency: source 'D' is not explained under sources"),
    (BASE + "  FOO: {op_class: int}\n",
     "{file}:3:19: opcodes.FOO.op_class: no pipe: needs one of fma, heavy, alu, lite, fp16, fp64, xu, tensor, uniform, control, mio"),
    (BASE + "  FOO: {pipe: alu, latency: {value: 4 clk, source: C}}\n",
     "{file}:3:15: opcodes.FOO.pipe: no interval: give interval, op_class or mma"),
    (BASE + "  FOO: {pipe: mio}\n",
     "{file}:3:15: opcodes.FOO.pipe: no latency: give latency, op_class, mma or barrier"),
    (BASE + "  FOO: {pipe: tensor, mma: mma.sync}\n",
     "{file}:3:15: opcodes.FOO.pipe: no dtype: mma needs one of fp16, fp16_acc16, bf16, tf32, fp8, int8, int4"),
    (BASE + "  'LDG 128': {pipe: mio}\n",
     "{file}:3:21: opcodes.LDG 128.pipe: 'LDG 128' is not an opcode; write for example LDG.128"),
    (BASE + "  FOO:\n",
     "{file}:3:3: opcodes.FOO: is a table of pipe, op_class, mma, dtype, scale, interval, latency, read, uniform_latency, "
     "uniform_read, data, bandwidth, barrier, note, omits, got nothing"),
    (BASE + "  FOO: {}\n",
     "{file}:3:3: opcodes.FOO: is a table of pipe, op_class, mma, dtype, scale, interval, latency, read, uniform_latency, "
     "uniform_read, data, bandwidth, barrier, note, omits, got an empty table"),
    ("extends: sm_8\nopcodes:\n  FOO: {pipe: mio}\n",
     "{file}:1:1: extends: no instruction table 'sm_8' (did you mean 'sm_89'?)"),
    ("- opcodes\n", "{file}:1:1: an instruction table is a table of fields, got a list"),
])
def test_bad_tables_say_what_and_where(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_table(path)
    assert str(error.value).splitlines()[0] == message.format(file=path)


MANY = """\
extends: sm_80
mio:
  interval: {value: 4, source: H}
  widht: {value: 1 clk, source: H}
opcodes:
  FOO: {pipe: alu, interval: {value: 2 clk}}
  LDG.256: {latency: {value: -1 clk, source: H}}
  BAR: {barrier: syncs}
"""


def test_all_defects_are_reported_at_once(tmp_path):
    path = write(tmp_path, MANY)
    with pytest.raises(ConfigError) as error:
        load_table(path)
    assert str(error.value).splitlines() == [
        f"{path}:3:14: mio.interval: '4' has no unit; write for example '4 clk'",
        f"{path}:4:3: mio.widht: unknown field",
        f"{path}:6:15: opcodes.FOO.pipe: no latency: give latency, op_class, mma or barrier",
        f"{path}:6:20: opcodes.FOO.interval: has no source: add source: TAG and explain TAG under sources",
        f"{path}:7:30: opcodes.LDG.256.latency: must be at least 0, got -1 clk",
        f"{path}:8:9: opcodes.BAR.barrier: is one of sync, mbarrier, got 'syncs' (did you mean 'sync'?)",
    ]


def test_a_table_of_its_own_needs_everything(tmp_path):
    path = write(tmp_path, "sources: {X: measured}\nopcodes:\n  IADD3: {pipe: alu, op_class: int}\n")
    with pytest.raises(ConfigError) as error:
        load_table(path)
    assert str(error.value).splitlines() == [
        f"{path}:1:1: read: missing; it is a table of fixed, queued",
        f"{path}:1:1: mio: missing; it is a table of interval, bandwidth, request, depth",
        f"{path}:1:1: registers: missing; it is a table of window",
        *(f"{path}:2:1: opcodes.{name}: missing: it stands for unknown opcodes of its kind"
          for name in ("UIADD3", "LDG", "STG")),
    ]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_table(tmp_path / "sm_1.yaml")
    assert str(error.value) == f"{tmp_path}/sm_1.yaml: no such file"


def test_entries_of_a_file_replace_those_of_its_base(tmp_path):
    resolved = load_table(write(tmp_path, BASE + "  FFMA: {latency: {value: 9 clk, source: C}}\n"))
    assert isinstance(resolved, Resolved)
    assert (resolved.table.opcodes["FFMA"].pipe, resolved.table.opcodes["FFMA"].latency) == ("fma", 9)
    assert resolved.leaves["opcodes", "FFMA", "latency"].where.endswith("sm_80a.yaml:3:27")
    assert resolved.leaves["opcodes", "FFMA", "pipe"].file == table_directory() / "_nvidia.yaml"


@pytest.mark.parametrize(("opcode", "value"), [
    ("LDG", 1), ("LDG.E", 1), ("LDG.E.128.CONSTANT", 2), ("LDG.128.E", 3), ("LDG.E.64", 4), ("LDG.E.64.128", 4), ("LDGX", None),
    ("LD", None)])
def test_the_most_specific_entry_counts(opcode, value):
    entries = {"LDG": {"a": 1, "b": 1}, "LDG.128": {"a": 2, "c": None}, "LDG.128.E": {"a": 3}, "LDG.64": {"a": 4}}
    found = merged(opcode, entries)
    assert found.get("a") == value
    assert found.get("b") == (None if value is None else 1)
    assert "c" not in found


def test_the_check_command_takes_tables(tmp_path):
    files = sorted(table_directory().glob("*.yaml"))
    result = CliRunner().invoke(app, ["check", *map(str, files)])
    assert (result.exit_code, result.stdout) == (0, "".join(f"{f}: ok\n" for f in files))
    bad = CliRunner().invoke(app, ["check", str(write(tmp_path, MANY, "mine.yaml")), str(files[0])])
    assert isinstance(bad.exception, ConfigError)
    assert f"{tmp_path}/mine.yaml:8:9: opcodes.BAR.barrier: is one of" in str(bad.exception)


def test_gpus_are_not_tables():
    assert not any(name.startswith("sm_") for name in list_gpus())
    assert [f.name for f in table_directory().parent.glob("*.yaml") if is_table(f)] == []
    assert [f.name for f in table_directory().glob("*.yaml") if not is_table(f)] == []


def test_the_readme_lists_every_field():
    rows = (table_directory() / "README.md").read_text()
    named = set(re.findall(r"`(?:[\w.]*\.)?(\w+)`", "\n".join(r.split("|")[1] for r in rows.splitlines() if r.startswith("| `"))))
    assert named == {*Read.model_fields, *Mio.model_fields, *Registers.model_fields, *Entry.model_fields}
