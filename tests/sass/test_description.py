"""Launch descriptions: expressions, values, and what is wrong with a file, said with its place."""

from __future__ import annotations

import math
import re

import pytest
from pydantic import ValidationError

from turbosim.errors import ConfigError, UsageError
from turbosim.sass.bound import Buffer
from turbosim.sass.description import Description
from turbosim.sass.description_file import read_description
from turbosim.sass.expressions import evaluate

GOOD = """\
kernel: scale.py:scale
sizes:
  rows: 100
  columns: 3 * rows
num_warps: 8
constants:
  BLOCK: next_power_of_2(columns)
  EVEN: columns % BLOCK == 0
  MODE: "'fast'"
arguments:
  X: {dtype: float16, shape: [rows, columns]}
  bias: null
  rows: rows
  factor: 1 / sqrt(columns)
grid: ["cdiv(rows, num_warps)", 2]
flops: rows * columns
"""


SETTINGS = ("settings are, as described, rows=100 (number), columns=300 (number), num_warps=8 (number), num_stages=3 "
            "(number), BLOCK=512 (number), EVEN=False (number), MODE='fast' (text)")


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "d.yaml").write_text(text)
        return tmp_path / "d.yaml"

    return write


@pytest.mark.parametrize(("text", "value"), [
    ("cdiv(7, 2)", 4), ("next_power_of_2(300)", 512), ("next_power_of_2(256)", 256), ("next_power_of_2(1)", 1),
    ("M // 3 + M % 3", 3 + 1), ("min(M, 4, 7)", 4), ("1 if M > 9 and not false else 2", 1), ("M == 10 or none", True),
    ("-M / 4", -2.5), ("'a'", "a"), ("ceil(log2(M))", 4), ("0 < M <= 10", True)])
def test_expressions(text, value):
    found = evaluate(text, {"M": 10})
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("text", "message"), [
    ("8k", "'8k' is not an expression; write 8192: k is for the command line"),
    ("1M", "'1M' is not an expression; write 1048576: M is for the command line"),
    ("M +", "'M +' is not an expression; write for example cdiv(M, BLOCK_M)"),
    ("M ** 9", "'M ** 9': operators are + - * / // % and comparisons"),
    ("~M", "'~M': operators are + - * / // % and comparisons"),
    ("M in M", "'M in M': operators are + - * / // % and comparisons"),
    ("open('x')", "\"open('x')\" calls 'open': functions are cdiv, next_power_of_2, min, max, abs, sqrt, exp, log2, "
     "ceil, floor, int, float"),
    ("cdvi(M, 2)", "'cdvi(M, 2)' calls 'cdvi': functions are cdiv, next_power_of_2, min, max, abs, sqrt, exp, log2, ceil, "
     "floor, int, float (did you mean 'cdiv'?)"),
    ("cdiv(M)", "'cdiv(M)': cdiv takes 2 arguments, got 1"),
    ("M.real", "'M.real': Attribute is not allowed; expressions have numbers, names, arithmetic, comparisons and "
     "functions"),
    ("[M]", "'[M]': List is not allowed; expressions have numbers, names, arithmetic, comparisons and functions"),
    ("N + 1", "'N + 1': unknown name 'N': known here are M, n_a"),
    ("M / 0", "'M / 0' has no value: division by zero"),
    ("M * 1000000000000000000", "'M * 1000000000000000000': a value has more than 63 bits"),
    ("n_a + 1", "'n_a + 1': n_a is None, not a number"),
])
def test_expressions_without_a_value(text, message):
    with pytest.raises(UsageError) as raised:
        evaluate(text, {"M": 10, "n_a": None})
    assert str(raised.value) == message


def test_values_follow_from_those_before_them(written):
    bound = read_description(written(GOOD)).bind()
    assert bound.kernel == "scale.py:scale"
    assert bound.grid == (13, 2, 1)
    assert bound.arguments == {"X": Buffer("fp16", (100, 300)), "bias": None, "rows": 100, "factor": 1 / math.sqrt(300)}
    assert bound.constants == {"BLOCK": 512, "EVEN": False, "MODE": "fast"}
    assert bound.options == {"num_warps": 8, "num_stages": 3}
    assert bound.flops == 30000
    assert bound.arguments["X"].nbytes == 60000


def test_settings_replace_what_others_follow_from(written):
    bound = read_description(written(GOOD)).bind({"rows": 8, "BLOCK": "2 * rows", "maxnreg": 128})
    assert bound.constants["BLOCK"] == 16
    assert bound.values["columns"] == 24
    assert bound.options["maxnreg"] == 128


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"BLCK": 2}, UsageError, "setting 'BLCK': scale.py:scale has rows, columns, num_warps, num_stages, maxnreg, BLOCK, "
     "EVEN, MODE (did you mean 'BLOCK'?)"),
    ({"BLOCK": "columns +"}, UsageError,
     "setting 'BLOCK': 'columns +' is not an expression; write for example cdiv(M, BLOCK_M)"),
    ({"num_warps": 3}, UsageError, "setting 'num_warps': is a power of two up to 32, got 3"),
    ({"MODE": "slow"}, UsageError,
     "setting 'MODE': 'slow': unknown name 'slow': known here are rows, columns, num_warps, num_stages, maxnreg, BLOCK, EVEN; "
     f"a text is written in quotes, as --set \"MODE='slow'\"; {SETTINGS}"),
    ({"MODE": 3}, UsageError,
     f"setting 'MODE': is a text, got 3; a text is written in quotes, as --set \"MODE='3'\"; {SETTINGS}"),
    ({"BLOCK": "'a'"}, UsageError, f"setting 'BLOCK': is a number, got 'a'; BLOCK is a number; {SETTINGS}"),
    ({"maxnreg": "relu"}, UsageError,
     "setting 'maxnreg': 'relu': unknown name 'relu': known here are rows, columns, num_warps, num_stages; maxnreg is null in "
     f"the description: it takes a number, true, false, or a text in quotes, but no function; {SETTINGS}"),
    ({"rows": -1}, UsageError, "setting 'rows': is a size, of at least 0, got -1"),
    ({"rows": 0}, UsageError,
     "setting 'rows': must be at least 1, got 0, with which there is nothing in d.yaml:11:31: arguments.X.shape.0"),
    ({"columns": "rows / 0"}, UsageError, "setting 'columns': 'rows / 0' has no value: division by zero"),
    ({"columns": 0.5}, ConfigError, "d.yaml:11:37: arguments.X.shape.1: is a whole number of at least 1, got 0.5 with columns=0.5"),
])
def test_settings_that_do_not_fit(written, settings, error, message):
    described = read_description(written(GOOD))
    with pytest.raises(error) as raised:
        described.bind(settings)
    assert str(raised.value) == message


@pytest.mark.parametrize(("old", "new", "name", "value"), [
    ("rows: 100", "rows: 4M", "rows", 64), ("3 * rows", "3 * rows)", "columns", 64), ("3 * rows", "[rows]", "columns", 64),
    ("3 * rows", "{}", "columns", "3 * rows"), ("num_warps: 8", "num_warps: 8 warps", "num_warps", 4),
    ("next_power_of_2(columns)", "next_power_of_2(columns", "BLOCK", 64), ("\"'fast'\"", "fast!", "MODE", "'slow'"),
    # These are expressions, without a value.
    ("rows: 100", "rows: row", "rows", 64), ("columns % BLOCK == 0", "columns % BLOK == 0", "EVEN", True)])
def test_what_a_setting_replaces_is_not_looked_at(written, old, new, name, value):
    wanted = read_description(written(GOOD)).bind({name: value})
    path = written(GOOD.replace(old, new))
    described = read_description(path, {name})
    assert described.bind({name: value}) == wanted
    with pytest.raises((ConfigError, UsageError), match=rf"d\.yaml:\d+:\d+: (sizes\.|constants\.)?{name}: "):
        read_description(path).bind()
    # What is wrong with the setting itself is told, and nothing about the file that does not hold.
    with pytest.raises(UsageError) as raised:
        described.bind({name: "nothing_known"})
    assert str(raised.value).startswith(f"setting {name!r}: 'nothing_known': unknown name")
    assert "null in the description" not in str(raised.value)


def test_other_defects_are_told_with_those_that_settings_replace_left_out(written):
    with pytest.raises(ConfigError) as raised:
        read_description(written(GOOD.replace("rows: 100", "rows: 4M").replace("3 * rows", "3M")), {"rows", "BLOCK", "grid"})
    assert str(raised.value) == (
        "d.yaml:4:12: sizes.columns: '3M' is not an expression; write 3145728: M is for the command line")


@pytest.mark.parametrize(("old", "new", "messages"), [
    ("dtype: float16", "dtype: floot16", [
        "d.yaml:11:14: arguments.X.dtype: is one of bf16, fp16, fp32, fp64, fp8e4b15, fp8e4nv, fp8e5, i1, i16, i32, i64, "
        "i8, u16, u32, u64, u8, got 'floot16' (did you mean 'float16'?)"]),
    ("dtype: float16", "dtpe: float16", [
        "d.yaml:11:6: arguments.X.dtype: missing",
        "d.yaml:11:7: arguments.X.dtpe: unknown field (did you mean 'dtype'?); fields are dtype, shape, block"]),
    ("grid: [\"cdiv(rows, num_warps)\", 2]", "grid: []", ["d.yaml:15:7: grid: has at least one entry, got an empty list"]),
    ("grid: [\"cdiv(rows, num_warps)\", 2]", "grid: [1, 1, 1, 1]", [
        "d.yaml:15:7: grid: has at most three entries, got a list"]),
    ("grid: [\"cdiv(rows, num_warps)\", 2]\n", "", ["d.yaml:1:1: grid: missing"]),
    ("flops:", "flop:", [
        "d.yaml:16:1: flop: unknown field (did you mean 'flops'?); fields are kernel, cubin, entry, smem_bytes, about, sizes, num_warps, "
        "num_stages, maxnreg, constants, arguments, grid, flops"]),
    ("rows: 100", "rows: [100]", ["d.yaml:3:9: sizes.rows: is a number or an expression, got a list"]),
    ("3 * rows", "3 * rows)", [
        "d.yaml:4:12: sizes.columns: '3 * rows)' is not an expression: its parentheses do not match; in a list in YAML, "
        "quote expressions with commas"]),
    ("kernel: scale.py:scale", "kernel: 7", ["d.yaml:1:9: kernel: is a text, got 7"]),
])
def test_every_defect_of_a_file_is_told_with_its_place(written, old, new, messages):
    with pytest.raises(ConfigError) as raised:
        read_description(written(GOOD.replace(old, new)))
    assert str(raised.value).splitlines() == messages


def test_an_expression_that_has_no_value_is_told_with_its_place(written):
    described = read_description(written(GOOD.replace("rows * columns", "rows * colums")))
    with pytest.raises(ConfigError, match=re.escape(
            "d.yaml:16:8: flops: 'rows * colums': unknown name 'colums': known here are rows, columns, num_warps, "
            "num_stages, maxnreg, BLOCK, EVEN, MODE, bias, factor (did you mean 'columns'?)")):
        described.bind()


def test_in_python_a_function_of_a_file_names_itself():
    class Jitted:
        fn = staticmethod(test_expressions)

    made = Description(kernel=Jitted, grid=[1], arguments={})
    assert made.kernel == f"{__file__}:test_expressions"
    with pytest.raises(ValidationError):
        Description(kernel=Jitted, grid=[1], arguments={}, gird=1)
    with pytest.raises(ConfigError, match=re.escape("launch description: grid.0: is a whole number of at least 1, got 0")):
        Description(kernel="a.py:b", grid=[0], arguments={}).bind()
