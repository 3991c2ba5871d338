from __future__ import annotations

import re
import subprocess
import sys

import pytest

from turbosim.errors import ConfigError, UsageError
from turbosim.hw import diff_gpus, list_gpus, load_gpu, load_resolved, with_overrides


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
     "{file}:4:22: hbm.bandwidth: Input should be greater than 0, got -5 TB/s"),
    ("extends: h200_sxm\nname: other\n", "{file}:2:7: name: must be the file's name 'my_gpu', got 'other'"),
    ("extends: h20_sxm\nname: my_gpu\n", "{file}:1:1: extends: no hardware file 'h20_sxm' (did you mean 'h200_sxm'?)"),
    ("extends: my_gpu\nname: my_gpu\n", "{file}:1:1: extends: 'my_gpu' is part of the chain that extends it: my_gpu"),
    ("", "{file}:1:1: a hardware file is a table of fields, got nothing"),
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
     "{file}:4:20: hbm.latency is below l2.latency_far: a miss cannot be faster than a hit"),
    (BASE + "sm:\n  smem_per_cta: {value: 300 KiB, source: A}\n",
     "{file}:4:25: sm.smem_per_cta is larger than sm.smem_capacity"),
    (BASE + "hbm:\n", "{file}:3:1: hbm: is a table of capacity, bandwidth, efficiency, channels, interleave, latency"),
    (BASE + "sources: [A]\n", "{file}:3:1: sources: is a table from tag to citation"),
    (BASE + "sources: {X: 3}\n", "{file}:3:11: sources.X: is the text of a citation"),
    (BASE + "hypothetical: 1\n", "{file}:3:1: hypothetical: is true or false, got 1"),
    (BASE + "note: " + "[" * 400 + "]" * 400 + "\n", "{file}:1:1: nested too deeply for a hardware file"),
    ("- 1\n", "{file}:1:1: a hardware file is a table of fields, got CommentedSeq"),
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


def test_missing_fields_are_named(tmp_path):
    path = write(tmp_path, "schema_version: 1\nname: my_gpu\n")
    with pytest.raises(ConfigError) as error:
        load_gpu(path)
    assert f"{path}:1:1: clock: missing" in str(error.value).splitlines()


@pytest.mark.parametrize(("changes", "message"), [
    ({"sm.cout": 1}, "unknown hardware field 'sm.cout': sm has "),
    ({"hbm": 1}, "hardware field 'hbm' is a table: name one of "),
    ({"sm.count": 0}, "hardware field sm.count: Input should be greater than 0"),
    ({"hbm.bandwidth": float("inf")}, "hardware field hbm.bandwidth: Input should be a finite number"),
])
def test_bad_overrides(changes, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        with_overrides(load_gpu("l4"), changes)


def test_overrides_take_units():
    gpu = with_overrides(load_gpu("l4"), {"hbm.bandwidth": "2 TB/s", "sm.count": 60})
    assert (gpu.hbm.bandwidth, gpu.sm.count) == (2e12, 60)


def test_overrides_of_an_optional_table_the_gpu_lacks():
    bare = load_gpu("l4").model_copy(update={"die": None})
    assert with_overrides(bare, {"die.area": "300 mm2", "die.process": "X"}).die.area == 300
    with pytest.raises(UsageError, match=r"^hardware field die\.process: Field required$"):
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
