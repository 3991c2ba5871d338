from __future__ import annotations

import json
import re

import pytest

from turbosim.errors import ConfigError, UsageError
from turbosim.hw import config_directory, list_gpus, load_gpu, load_resolved, with_overrides
from turbosim.hw.fields import node_at
from turbosim.hw.schema import json_schema
from turbosim.hw.spec import Dtype

NAMES = ["a100_2x_hbm", "a100_sxm_40gb", "a100_sxm_80gb", "b200", "h100_pcie", "h100_sxm", "h200_2x_sfu", "h200_int4",
         "h200_sas", "h200_sxm", "l4", "l40s", "rtx_3090", "rtx_4090"]


def test_the_shipped_gpus():
    assert list_gpus() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source(name):
    item = load_resolved(name)
    for path, leaf in item.leaves.items():
        if node_at(path).kind == "quantity":
            assert leaf.sources, path
            assert all(tag in item.sources for tag in leaf.sources)


@pytest.mark.parametrize(("name", "tflops"), [
    ("a100_sxm_80gb", 311.9), ("h100_sxm", 989.4), ("h100_pcie", 756.5), ("b200", 2250.0), ("l40s", 362.0)])
def test_tensor_peaks_are_those_of_the_data_sheets(name, tflops):
    gpu = load_gpu(name)
    assert 2e-12 * gpu.peak_macs(Dtype.FP16, gpu.clock.hertz("tensor_spec")) == pytest.approx(tflops, rel=0.01)


@pytest.mark.parametrize(("name", "base", "paths"), [
    ("h200_2x_sfu", "h200_sxm", {"pipes.sfu.rate"}),
    ("h200_sas", "h200_sxm", {"pipes.sas.rate", "pipes.sas.unit", "pipes.sas.latency"}),
    ("h200_int4", "h200_sxm", {"tensor.mma.sync.rates.int4", "tensor.wgmma.rates.int4"}),
    ("a100_2x_hbm", "a100_sxm_80gb", {"hbm.bandwidth"}),
])
def test_design_points_change_only_what_they_say(name, base, paths):
    a, b = load_resolved(base).leaves, load_resolved(name).leaves
    changed = {".".join(p) for p in {*a, *b} if a.get(p) is None or b.get(p) is None or a[p].value != b[p].value}
    assert changed - {"name", "title", "note", "hypothetical"} == paths


def test_the_schema_is_current():
    assert json.loads((config_directory() / "schema.json").read_text()) == json_schema()


def test_unknown_name():
    message = f"unknown GPU 'h200_smx': not among {', '.join(NAMES)} (did you mean 'h200_sxm'?)"
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
])
def test_bad_overrides(changes, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        with_overrides(load_gpu("l4"), changes)


def test_overrides_take_units():
    gpu = with_overrides(load_gpu("l4"), {"hbm.bandwidth": "2 TB/s", "sm.count": 60})
    assert (gpu.hbm.bandwidth, gpu.sm.count) == (2e12, 60)
