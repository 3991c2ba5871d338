from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from turbosim.cli.hw import app
from turbosim.errors import ConfigError, UsageError
from turbosim.hw import config_directory, json_schema, list_gpus


def hw(*arguments):
    # Test runners may set COLUMNS, which would wrap the tables.
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(a) for a in arguments])


@pytest.fixture
def my_gpu(tmp_path):
    path = tmp_path / "my_gpu.yaml"
    path.write_text("extends: l4\nname: my_gpu\ntitle: Mine [/now]\nsources: {'[/x]': 'a note [bold]in brackets'}\nhbm:\n"
                    "  bandwidth: {value: 600 GB/s, source: '[/x]', fitted_on: stream.csv}\n")
    return path


@pytest.mark.parametrize("command", ["list", "show", "check", "schema", "diff"])
def test_help_has_an_example(command):
    assert f"Example: turbosim hw {command}" in hw(command, "--help").output


def test_the_group_has_an_example():
    assert "Example: turbosim hw show h200_sxm --resolved" in hw("--help").output


def test_list():
    assert [entry["name"] for entry in json.loads(hw("list", "--json").stdout)] == list_gpus()
    lines = hw("list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list_gpus()
    assert {line.split()[0] for line in lines if "(design point)" in line} == {
        "a100_2x_hbm", "h200_2x_sfu", "h200_int4", "h200_sas"}


def test_show_prints_what_the_file_sets_with_sources(my_gpu):
    done = hw("show", my_gpu)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["field", "value", "source", "set", "in"],
        ["name", "my_gpu", "my_gpu.yaml"],
        ["title", "Mine", "[/now]", "my_gpu.yaml"],
        ["hbm.bandwidth", "600", "GB/s", "[/x]", "(fitted", "on", "stream.csv)", "my_gpu.yaml"],
        [],
        ["sources"],
        ["[/x]:", "a", "note", "[bold]in", "brackets"],
    ]


def test_show_resolved_says_which_file_set_a_value(my_gpu):
    values = json.loads(hw("show", my_gpu, "--resolved", "--json").stdout)["values"]
    assert values["hbm.bandwidth"] == {"value": "600 GB/s", "si": 6e11, "source": ["[/x]"], "fitted_on": "stream.csv",
                                       "file": "my_gpu.yaml"}
    assert values["hbm.interleave"] == {"value": "4 KiB", "si": 4096, "source": ["assumed"], "file": "_nvidia.yaml"}
    assert "hbm.interleave" not in json.loads(hw("show", my_gpu, "--json").stdout)["values"]


@pytest.mark.parametrize("command", [["list"], ["show", "h200_sxm", "--resolved"], ["diff", "h100_sxm", "h200_sxm"]])
def test_no_colour_codes_when_not_a_terminal(command):
    assert "\x1b" not in hw(*command).stdout


def test_check_goes_on_after_a_bad_file(tmp_path, my_gpu):
    bad = tmp_path / "bad.yaml"
    bad.write_text("extends: l4\nname: bad\nhbm: {bandwith: 3}\nl2: {capacity: 3}\n")
    done = hw("check", bad, my_gpu, tmp_path / "none.yaml")
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).splitlines() == [
        f"{bad}:3:7: hbm.bandwith: unknown field (did you mean 'bandwidth'?)",
        f"{bad}:4:6: l2.capacity: a number needs a source: write {{value: 3, source: TAG}}, got 3",
        f"{bad}:4:6: l2.capacity: '3' has no unit; write for example '3 GiB'",
        f"{tmp_path / 'none.yaml'}: no such file",
    ]
    assert done.stdout == f"{my_gpu}: ok\n"


def test_check_of_a_folder_names_the_command(tmp_path, my_gpu):
    done = hw("check", tmp_path, my_gpu)
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == (f"{tmp_path}: is a folder, not a hardware file; to check the files in it: "
                                   f"turbosim hw check {tmp_path}/*.yaml")
    assert done.stdout == f"{my_gpu}: ok\n"


def test_check_takes_every_shipped_file_bases_too():
    files = sorted(config_directory().glob("*.yaml"))
    done = hw("check", *files)
    assert (done.exit_code, done.stdout.splitlines()) == (0, [f"{file}: ok" for file in files])


def test_a_base_may_lack_fields_but_has_no_other_defects(tmp_path):
    base = tmp_path / "_base.yaml"
    base.write_text("schema_version: 1\nsm: {count: {value: 0, source: A}}\nsources: {A: a note}\n")
    done = hw("check", base)
    assert str(done.exception) == f"{base}:2:21: sm.count: must be greater than 0, got 0"


def test_show_marks_what_is_not_simulated():
    done = hw("show", "l4")
    starred = [line.split()[0] for line in done.stdout.splitlines() if line.split()[:1] and line.split()[0].endswith("*")]
    assert starred == ["l2.latency_near*", "die.area*", "die.process*", "die.product*", "*"]
    assert "* recorded, not simulated: no engine reads it" in done.stdout.splitlines()
    values = json.loads(hw("show", "l4", "--json").stdout)["values"]
    assert {path for path, value in values.items() if value.get("simulated") is False} == {
        "l2.latency_near", "die.area", "die.process", "die.product"}


def test_schema():
    assert json.loads(hw("schema").stdout) == json_schema()


def test_diff():
    assert json.loads(hw("diff", "h200_sxm", "h200_2x_sfu", "--json").stdout)["pipes.sfu.rate"] == ["16 /clk", "32 /clk"]
    rows = [line.split() for line in hw("diff", "h200_sas", "h200_sxm").stdout.splitlines()]
    assert rows[0] == ["field", "h200_sas", "h200_sxm"]
    assert ["pipes.sas.rate", "64", "/clk", "-"] in rows


@pytest.mark.parametrize("command", [["show", "h20_sxm"], ["diff", "l4", "h20_sxm"]])
def test_unknown_names(command):
    done = hw(*command)
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == (
        f"unknown GPU 'h20_sxm': not among {', '.join(list_gpus())} (did you mean 'h200_sxm'?)")
