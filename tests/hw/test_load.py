from __future__ import annotations

import re
import subprocess
import sys

import pytest
from pydantic import ValidationError

from turbosim.errors import ConfigError, UsageError
from turbosim.hw import Gpu, diff_gpus, list_gpus, load_gpu, load_resolved, with_overrides


def test_unknown_name():
    message = f"unknown GPU 'h200_smx': not among {', '.join(list_gpus())} (did you mean 'h200_sxm'?)"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        load_gpu("h200_smx")


def write(tmp_path, text):
    path = tmp_path / "my_gpu.yaml"
    path.write_text(text)
    return path


BASE = "extends: h200_sxm\nname: my_gpu\n"


@pytest.mark.parametrize(("text", "message"), [
    (BASE + "hbm:\n  bandwith: {value: 5 TB/s, source: A}\n",
     "{file}:4:3: hbm.bandwith: unknown field (did you mean 'bandwidth'?)"),
    (BASE + "hbm:\n  bandwidth: {value: 5 TB, source: A}\n",
     "{file}:4:15: hbm.bandwidth: '5 TB': unit 'TB' does not measure B/s (did you mean 'TB/s'?)"),
    (BASE + "hbm:\n  bandwidth: {value: 5, source: A}\n",
     "{file}:4:15: hbm.bandwidth: '5' has no unit; write for example '5 TB/s'"),
    (BASE + "hbm:\n  bandwidth: 5 TB/s\n",
     "{file}:4:3: hbm.bandwidth: a number needs a source: write {{value: 5 TB/s, source: TAG}}, got '5 TB/s'"),
    (BASE + "hbm:\n  bandwidth: {value: 5 TB/s}\n",
     "{file}:4:3: hbm.bandwidth: has no source: add source: TAG and explain TAG under sources"),
    (BASE + "hbm:\n  bandwidth: {value: 5 TB/s, source: ZZ}\n",
     "{file}:4:30: hbm.bandwidth: source 'ZZ' is not explained under sources"),
    (BASE + "hbm:\n  bandwidth: {value: -5 TB/s, source: A}\n",
     "{file}:4:22: hbm.bandwidth: must be greater than 0, got -5 TB/s"),
    ("extends: h200_sxm\nname: other\n", "{file}:2:7: name: must be the file's name 'my_gpu', got 'other'"),
    ("extends: h20_sxm\nname: my_gpu\n", "{file}:1:1: extends: no hardware file 'h20_sxm' (did you mean 'h200_sxm'?)"),
    ("extends: my_gpu.yaml\nname: my_gpu\n", "{file}:1:1: extends: no hardware file 'my_gpu.yaml'"),
    ("extends: my_gpu\nname: my_gpu\n", "{file}:1:1: extends: 'my_gpu' is part of the chain that extends it: my_gpu"),
    ("", "{file}:1:1: a hardware file is a table of fields, got nothing"),
    ("- l4", "{file}:1:1: a hardware file is a table of fields, got a list"),
    ("l4", "{file}:1:1: a hardware file is a table of fields, got the value 'l4'"),
    ("name: !!int l4", "{file}:1:1: not valid YAML: invalid literal for int() with base 10: 'l4'"),
    ("name: [", "{file}:1:8: not valid YAML: expected the node content, but found '<stream end>'"),
    (BASE + "hbm:\n  capacity: {value: 1 GB, source: A}\n  capacity: {value: 2 GB, source: A}\n",
     "{file}:5:3: not valid YAML: found duplicate key \"capacity\" with value"),
    (BASE + "hbm:\n  bandwidth: {value: 5 TB/s, source: [[A]]}\n",
     "{file}:4:30: hbm.bandwidth: source ['A'] is not explained under sources"),
    (BASE + "hbm:\n  bandwidth: {value: 1e999 TB/s, source: A}\n",
     "{file}:4:15: hbm.bandwidth: '1e999 TB/s' is too large: the largest float is about 1.8e308"),
    (BASE + "hbm:\n  bandwidth: {value: 5 TB/s, source: A, fitted_on: 3}\n",
     "{file}:4:41: hbm.bandwidth: fitted_on is a text, got 3"),
    ("extends: h200_sxm\n", "{file}:1:1: name: missing; write name: my_gpu"),
    (BASE + "hbm:\n  latency: {value: 10 ns, source: A}\n",
     "{file}:4:20: hbm.latency: must be at least l2.latency_far (271 ns in _hopper.yaml), got 10 ns: a miss cannot be "
     "faster than a hit"),
    (BASE + "sm:\n  smem_per_cta: {value: 300 KiB, source: A}\n",
     "{file}:4:25: sm.smem_per_cta: must be at most sm.smem_capacity (228 KiB in _hopper.yaml), got 300 KiB"),
    (BASE + "sm:\n  smem_capacity: {value: 100 KiB, source: A}\n",
     "{file}:4:26: sm.smem_capacity: must be at least sm.smem_per_cta (227 KiB in _hopper.yaml), got 100 KiB"),
    (BASE + "clock:\n  tensor_spec: {value: 2 GHz, source: A}\n",
     "{file}:4:24: clock.tensor_spec: must be at most clock.boost (1.98 GHz in h200_sxm.yaml), got 2 GHz"),
    (BASE + "hbm:\n  efficiency: {value: 101 %, source: A}\n",
     "{file}:4:23: hbm.efficiency: must be at most 1, got 101 %"),
    (BASE + "sm:\n  count: {value: 13.5, source: A}\n", "{file}:4:18: sm.count: must be a whole number, got 13.5"),
    (BASE + "sm:\n  count: {value: 1e300, source: A}\n", "{file}:4:18: sm.count: is too large, got 1e+300"),
    (BASE + "sm:\n  count: [3]\n",
     "{file}:4:3: sm.count: a number needs a source: write {{value: 16, source: TAG}}, got a list"),
    (BASE + "hbm:\n  latency: {source: A}\n", "{file}:4:3: hbm.latency: has no value; write for example value: 650 ns"),
    (BASE + "pipes:\n  sas: {unit: sas, latency: {value: 1 clk, source: A}}\n",
     "{file}:4:3: pipes.sas.rate: missing; write for example rate: {{value: 16 /clk, source: TAG}}"),
    ("x: &x {count: {value: 0, source: A}}\n" + BASE + "sm:\n  <<: *x\n", "{file}:1:1: x: unknown field"),
    (BASE + "hbm:\n", "{file}:3:1: hbm: is a table of capacity, bandwidth, efficiency, turnaround, channels, pseudo_channels, activation, interleave, latency, loaded_latency, got nothing"),
    (BASE + "sources: [A]\n", "{file}:3:1: sources: is a table from tag to citation"),
    (BASE + "sources: {X: 3}\n", "{file}:3:11: sources.X: is the text of a citation, got 3"),
    (BASE + "hypothetical: 1\n", "{file}:3:1: hypothetical: is true or false, got 1"),
    (BASE + "note: " + "[" * 400 + "]" * 400 + "\n", "{file}:1:1: nested too deeply for a hardware file"),
    (BASE + "pipes:\n  sfu: {unit: sfo}\n",
     "{file}:4:9: pipes.sfu.unit: is one of tensor, sfu, fma, fp16, int, cvt, smem, issue, copy, sas, got 'sfo' (did "
     "you mean 'sfu'?)"),
])
def test_bad_files_say_what_and_where(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert str(error.value).splitlines()[0].startswith(message.format(file=path))


def test_all_defects_are_reported_at_once(tmp_path):
    path = write(tmp_path, BASE + "hbm:\n  bandwith: {value: 5 TB/s, source: A}\nclock:\n  boost: {value: 2, source: A}\n")
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert str(error.value).splitlines() == [
        f"{path}:4:3: hbm.bandwith: unknown field (did you mean 'bandwidth'?)",
        f"{path}:6:11: clock.boost: '2' has no unit; write for example '2 GHz'",
    ]


MANY = """\
extends: h200_sxm
name: my_gpu
hbm:
  bandwith: {value: 5 TB/s, source: A}
  efficiency: {value: 1.5, source: A}
  latency: {value: 10 ns, source: ZZ}
sm:
  smem_per_cta: {value: 300 KiB, source: A}
  count: {value: 13.5, source: A}
l2:
  capacity: {value: 50 MBit, source: A}
  latency_near: {value: 1 us, source: A}
clock:
  tensor_spec: {value: 2 GHz, source: A}
pipes:
  sas: {unit: sos}
  sfu: {rate: 32 /clk}
copy_engine: {tma: 1}
sources: {B: 3}
"""


def test_defects_of_every_kind_are_reported_together(tmp_path):
    path = write(tmp_path, MANY)
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert str(error.value).splitlines() == [f"{path}:{line}" for line in (
        "4:3: hbm.bandwith: unknown field (did you mean 'bandwidth'?)",
        "5:23: hbm.efficiency: must be at most 1, got 1.5",
        "6:20: hbm.latency: must be at least l2.latency_far (271 ns in _hopper.yaml), got 10 ns: a miss cannot be faster "
        "than a hit",
        "6:27: hbm.latency: source 'ZZ' is not explained under sources",
        "8:25: sm.smem_per_cta: must be at most sm.smem_capacity (228 KiB in _hopper.yaml), got 300 KiB",
        "9:18: sm.count: must be a whole number, got 13.5",
        "11:14: l2.capacity: '50 MBit': unit 'MBit' does not measure B (did you mean 'MB'?)",
        "12:25: l2.latency_near: must be at most l2.latency_far (271 ns in _hopper.yaml), got 1 us",
        "14:24: clock.tensor_spec: must be at most clock.boost (1.98 GHz in h200_sxm.yaml), got 2 GHz",
        "16:3: pipes.sas.rate: missing; write for example rate: {value: 16 /clk, source: TAG}",
        "16:3: pipes.sas.latency: missing; write for example latency: {value: 16 clk, source: TAG}",
        "16:9: pipes.sas.unit: is one of tensor, sfu, fma, fp16, int, cvt, smem, issue, copy, sas, got 'sos' (did you "
        "mean 'sas'?)",
        "17:9: pipes.sfu.rate: a number needs a source: write {value: 32 /clk, source: TAG}, got '32 /clk'",
        "18:15: copy_engine.tma: is true or false, got 1",
        "19:11: sources.B: is the text of a citation, got 3")]


def test_a_bad_value_is_not_compared_nor_called_missing(tmp_path):
    path = write(tmp_path, BASE + "hbm:\n  latency: {value: 10, source: A}\nl2:\n  latency_far: {value: 1 s, source: A}\n")
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert str(error.value) == f"{path}:4:13: hbm.latency: '10' has no unit; write for example '10 ns'"


def test_without_its_base_a_file_is_still_checked(tmp_path):
    path = write(tmp_path, "extends: h20_sxm\nname: my_gpu\nsm: {count: {value: 0, source: A}}\n"
                           "l2: {latency_near: {value: 2 s, source: A}, latency_far: {value: 1 s, source: A}}\n")
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert str(error.value).splitlines() == [
        f"{path}:1:1: extends: no hardware file 'h20_sxm' (did you mean 'h200_sxm'?)",
        f"{path}:3:21: sm.count: must be greater than 0, got 0",
        f"{path}:4:28: l2.latency_near: must be at most l2.latency_far (1 s), got 2 s",
    ]


def test_a_base_that_is_no_yaml_is_named(tmp_path):
    (tmp_path / "base.yaml").write_text("name: [\n")
    path = write(tmp_path, "extends: base\nname: other\n")
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'base.yaml'}:2:1: not valid YAML: expected the node content, but found '<stream end>'",
        f"{path}:2:7: name: must be the file's name 'my_gpu', got 'other'",
    ]


def test_missing_pieces_of_tables(tmp_path):
    path = write(tmp_path, "schema_version: 1\nname: my_gpu\npipes:\n  sfu: {unit: sfu}\n"
                           "tensor:\n  wgmma: {rates: {}, latency: {value: 1 clk, source: A}}\nsources: {A: a note}\n")
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    lines = [line for line in str(error.value).splitlines() if not line.startswith(f"{path}:1:1: ")]
    assert lines == [
        *[f"{path}:3:1: pipes.{name}: missing: every operation class but sas needs a pipe"
          for name in ("fp32", "fp16x2", "int", "imad", "cvt", "pack", "widen", "shuffle")],
        f"{path}:4:3: pipes.sfu.rate: missing; write for example rate: {{value: 16 /clk, source: TAG}}",
        f"{path}:4:3: pipes.sfu.latency: missing; write for example latency: {{value: 16 clk, source: TAG}}",
        f"{path}:6:3: tensor.wgmma.macs_per_instruction_fp16: missing",
        f"{path}:6:11: tensor.wgmma.rates: missing; it is a table of fp16, fp16_acc16, bf16, tf32, fp8, int8, int4",
    ]


def test_merged_keys_have_the_place_of_their_table(tmp_path):
    path = write(tmp_path, BASE + "hbm: &x\n  latency: {value: 1 ms, source: A}\nl2:\n  <<: *x\n")
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert str(error.value) == f"{path}:6:3: l2.latency: unknown field (did you mean 'latency_far'?)"


def test_missing_fields_are_named(tmp_path):
    path = write(tmp_path, "schema_version: 1\nname: my_gpu\n")
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert str(error.value).splitlines()[3] == (
        f"{path}:1:1: sm: missing; it is a table of count, schedulers, max_warps, max_ctas, registers, "
        "max_registers_per_thread, register_allocation, smem_capacity, smem_per_cta, smem_reserved, tensor_memory, "
        "smem_bandwidth, smem_latency")


@pytest.mark.parametrize(("changes", "message"), [
    ({"sm.cout": 1}, "unknown hardware field 'sm.cout': sm has "),
    ({"hbm": 1}, "hardware field 'hbm' is a table: name one of "),
    ({"sm.count.x": 1}, "unknown hardware field 'sm.count.x': sm.count has no fields"),
    ({"sm.count": 0}, "hardware field sm.count: must be greater than 0, got 0"),
    ({"sm.count": True}, "hardware field sm.count: must be a number, got True"),
    ({"hbm.bandwidth": float("inf")}, "hardware field hbm.bandwidth: must be finite, got inf"),
    ({"hbm.bandwidth": "2 TB"}, "hardware field hbm.bandwidth: '2 TB': unit 'TB' does not measure B/s"),
    ({"hbm.latency": "10 ns"}, "hardware field hbm.latency: must be at least l2.latency_far (1.11e-07), got 10 ns: a miss"),
])
def test_bad_overrides(changes, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        with_overrides(load_gpu("l4"), changes)


def test_bad_overrides_are_reported_together():
    changes = {"sm.cout": 1, "sm.count": 2.5, "hbm.latency": -1, "l2.latency_near": "1 s", "sm.smem_capacity": "1 KiB"}
    with pytest.raises(UsageError) as error:
        with_overrides(load_gpu("l4"), changes)
    assert str(error.value).splitlines()[1:] == [
        "hardware field sm.count: must be a whole number, got 2.5",
        "hardware field hbm.latency: must be greater than 0, got -1",
        "hardware field sm.smem_capacity: must be at least sm.smem_per_cta (101376.0), got 1 KiB",
        "hardware field l2.latency_near: must be at most l2.latency_far (1.11e-07), got 1 s",
    ]


def test_a_gpu_built_in_python_obeys_the_same_rules():
    tree = load_gpu("l4").model_dump()
    del tree["pipes"]["sfu"]
    tree["l2"]["latency_near"] = 1.0
    tree["tensor"]["mma.sync"]["rates"] = {}
    with pytest.raises(ValidationError, match=re.escape(
            "l2.latency_near: must be at most l2.latency_far (1.11e-07), got 1; "
            "pipes.sfu: missing: every operation class but sas needs a pipe; "
            "tensor.mma.sync.rates: missing: needs the rate of at least one operand type")):
        Gpu.model_validate(tree)


def test_the_sustained_clock_may_exceed_the_reference_boost():
    assert with_overrides(load_gpu("l4"), {"clock.sustained": "3 GHz"}).clock.hertz("sustained") == 3e9


def test_overrides_take_units():
    gpu = with_overrides(load_gpu("l4"), {"hbm.bandwidth": "2 TB/s", "sm.count": 60})
    assert (gpu.hbm.bandwidth, gpu.sm.count) == (2e12, 60)


def test_overrides_of_an_optional_table_the_gpu_lacks():
    bare = load_gpu("l4").model_copy(update={"die": None})
    assert with_overrides(bare, {"die.area": "300 mm2", "die.process": "X"}).die.area == 300
    with pytest.raises(UsageError, match=r"^hardware field die\.process: missing$"):
        with_overrides(bare, {"die.area": 300})


def test_a_chain_of_files_points_each_value_to_the_file_that_holds_it(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: l4\nname: base\nhbm:\n  capacity: {value: 48 GB, source: mine}\n"
                                        "sources: {mine: a note}\n")
    path = write(tmp_path, "extends: base\nname: my_gpu\nhbm:\n  bandwidth: {value: 600 GB/s, source: mine}\n")
    item = load_resolved(path)
    where = {name: (item.leaves["hbm", name].file.name, item.leaves["hbm", name].line)
             for name in ("capacity", "bandwidth", "interleave")}
    assert where["capacity"] == ("base.yaml", 4)
    assert where["bandwidth"] == ("my_gpu.yaml", 4)
    assert where["interleave"][0] == "_nvidia.yaml"
    assert [f.name for f in item.chain] == ["_nvidia.yaml", "_ada.yaml", "l4.yaml", "base.yaml", "my_gpu.yaml"]
    assert (item.gpu.hbm.capacity, item.gpu.hbm.bandwidth) == (48e9, 600e9)


def test_a_defect_of_the_base_points_to_the_base(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: l4\nname: base\nhbm: {bandwith: 3}\n")
    path = write(tmp_path, "extends: base\nname: my_gpu\n")
    message = f"{tmp_path / 'base.yaml'}:3:7: hbm.bandwith: unknown field (did you mean 'bandwidth'?)"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_gpu(path)


@pytest.mark.parametrize(("name", "message"), [
    ("folder", "{path}: is a folder, not a hardware file; to check the files in it: turbosim hw check {path}/*.yaml"),
    ("my_gpu.txt", "{path}: the name of a hardware file ends in .yaml or .yml"),
])
def test_what_is_not_a_hardware_file(tmp_path, name, message):
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.touch()
    with pytest.raises(ConfigError, match=f"^{re.escape(message.format(path=path))}$"):
        load_gpu(path)


def test_a_missing_file():
    with pytest.raises(ConfigError, match=r"^nowhere\.yaml: no such file$"):
        load_gpu("nowhere.yaml")


def test_diff_compares_values_not_spellings(tmp_path):
    path = write(tmp_path, "extends: l4\nname: my_gpu\nhbm:\n  bandwidth: {value: 0.3 TB/s, source: A}\n"
                           "  capacity: {value: 48 GB, source: A}\n")
    assert diff_gpus("l4", path) == {"hbm.capacity": ("24 GB", "48 GB")}
    assert diff_gpus("h200_sas", "h200_sxm")["pipes.sas.rate"] == ("64 /clk", None)


def test_importing_hw_is_light():
    code = ("import sys, turbosim.hw\n"
            "print(sorted({'numba', 'matplotlib', 'torch', 'numpy', 'pandas', 'rich', 'pint'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
