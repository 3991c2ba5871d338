from __future__ import annotations

import json
import re

import pytest

from turbosim.hw import config_directory, json_schema, list_gpus, load_gpu, load_resolved
from turbosim.hw.fields import ROOT, node_at
from turbosim.hw.spec import Dtype, MmaPath, OpClass

NAMES = ["a100_2x_hbm", "a100_pcie_80gb", "a100_sxm_40gb", "a100_sxm_80gb", "b200", "h100_pcie", "h100_sxm", "h200_2x_sfu",
         "h200_int4", "h200_sas", "h200_sxm", "l4", "l40s", "rtx_3090", "rtx_4090", "rtx_5090"]
FILES = sorted(config_directory().glob("*.yaml"))


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
    ("a100_sxm_80gb", 311.9), ("h100_sxm", 989.4), ("h100_pcie", 756.5), ("b200", 2250.0), ("l40s", 362.0),
    ("rtx_5090", 209.5)])
def test_tensor_peaks_are_those_of_the_data_sheets(name, tflops):
    gpu = load_gpu(name)
    assert 2e-12 * gpu.peak_macs(Dtype.FP16, gpu.clock.hertz("tensor_spec")) == pytest.approx(tflops, rel=0.01)


@pytest.mark.parametrize(("name", "base", "paths"), [
    ("h200_2x_sfu", "h200_sxm", {"pipes.sfu.rate"}),
    ("h200_sas", "h200_sxm", {"pipes.sas.rate", "pipes.sas.unit", "pipes.sas.latency",
                                 "energy.instruction.sas"}),
    ("h200_int4", "h200_sxm", {"tensor.mma.sync.rates.int4", "tensor.wgmma.rates.int4"}),
    ("a100_2x_hbm", "a100_sxm_80gb", {"hbm.bandwidth", "hbm.pseudo_channels"}),
])
def test_design_points_change_only_what_they_say(name, base, paths):
    a, b = load_resolved(base).leaves, load_resolved(name).leaves
    changed = {".".join(p) for p in {*a, *b} if a.get(p) is None or b.get(p) is None or a[p].value != b[p].value}
    assert changed - {"name", "title", "note", "hypothetical"} == paths


def test_the_schema_is_current():
    assert json.loads((config_directory() / "schema.json").read_text()) == json_schema()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_files_name_their_schema_and_fit_the_page(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=schema.json"
    assert not [line for line in lines if line != line.rstrip() or "\t" in line]


def test_every_source_is_used():
    used, explained = set(), set()
    for name in NAMES:
        item = load_resolved(name)
        explained |= set(item.sources)
        used |= {tag for leaf in item.leaves.values() for tag in leaf.sources}
    assert explained - used == set()


def test_derived_numbers_are_explained_on_the_spot():
    """A comment on the line above says how; one comment may serve neighbouring lines."""
    bare = []
    for path in FILES:
        explained = False
        for line in path.read_text().splitlines():
            derived = re.search(r"source: \[?derived", line) is not None
            explained = line.lstrip().startswith("#") or (explained and derived)
            if derived and not explained:
                bare.append(f"{path.name}: {line.strip()}")
    assert bare == []


@pytest.mark.parametrize("name", NAMES)
def test_relations_that_hold_on_every_gpu(name):
    gpu = load_gpu(name)
    for path in gpu.tensor.values():
        assert path.rates[Dtype.FP16] == path.rates[Dtype.BF16]
        assert path.rates[Dtype.FP16] <= path.rates[Dtype.INT8]
    assert gpu.hbm.bandwidth < gpu.l2.bandwidth < gpu.sm.count * gpu.sm.smem_bandwidth * gpu.clock.boost
    assert (gpu.l2.shared_fraction == 0.5) == (gpu.l2.partitions == 2)
    assert gpu.launch.graph < gpu.launch.stream
    assert gpu.copy_engine.tma == (int(gpu.arch.removeprefix("sm_")) >= 90)
    asynchronous = {path for path in gpu.tensor if path.is_async}
    assert asynchronous == {"sm_90": {MmaPath.WGMMA}, "sm_100": {MmaPath.TCGEN05}}.get(gpu.arch, set())
    assert gpu.pipes[OpClass.SFU].rate == (32 if name == "h200_2x_sfu" else 16)


def test_int4_tensor_cores_end_with_ada():
    assert [n for n in NAMES if load_gpu(n).mma_path(Dtype.INT4) is None] == [
        "b200", "h100_pcie", "h100_sxm", "h200_2x_sfu", "h200_sas", "h200_sxm", "rtx_5090"]


@pytest.mark.parametrize("name", ["rtx_3090", "rtx_4090", "rtx_5090"])
def test_geforce_halves_fp16_with_fp32_accumulation(name):
    rates = load_gpu(name).tensor[MmaPath.MMA_SYNC].rates
    assert 2 * rates[Dtype.FP16] == rates[Dtype.FP16_ACC16]


def test_hopper_reaches_63_percent_with_the_old_instruction():
    tensor = load_gpu("h200_sxm").tensor
    for dtype in (Dtype.FP16, Dtype.INT8):
        assert tensor[MmaPath.MMA_SYNC].rates[dtype] / tensor[MmaPath.WGMMA].rates[dtype] == pytest.approx(0.629, abs=2e-3)


# Instructions per clock and SM by compute capability: CUDA C++ Programming Guide, FlashAttention-3, FlashMLA; half2 and
# F2FP instructions hold two values. F2FP and shuffles of 12.0 are measured, where the others' are the guide's.
PIPE_RATES = {
    "sm_80": {"fp32": 64, "fp16x2": 128, "int": 64, "imad": 64, "sfu": 16, "cvt": 16, "pack": 16, "widen": 64, "shuffle": 32},
    "sm_86": {"fp32": 128, "fp16x2": 64, "int": 64, "imad": 64, "sfu": 16, "cvt": 16, "pack": 16, "widen": 64, "shuffle": 32},
    "sm_120": {"fp32": 128, "fp16x2": 64, "int": 64, "imad": 64, "sfu": 16, "cvt": 16, "pack": 64, "widen": 64, "shuffle": 16},
    "sm_90": {"fp32": 128, "fp16x2": 128, "int": 64, "imad": 64, "sfu": 16, "cvt": 16, "pack": 16, "widen": 64, "shuffle": 32},
}
PIPE_RATES |= {"sm_89": PIPE_RATES["sm_86"], "sm_100": PIPE_RATES["sm_90"]}


@pytest.mark.parametrize("name", [n for n in NAMES if not load_gpu(n).hypothetical])
def test_pipe_rates_are_those_of_the_compute_capability(name):
    gpu = load_gpu(name)
    assert {c.value: pipe.rate for c, pipe in gpu.pipes.items()} == PIPE_RATES[gpu.arch]


def test_the_4090_ran_faster_than_its_reference_boost():
    """Tensor rates measured on it need that clock, were every cycle used."""
    gpu = load_gpu("rtx_4090")
    rates = gpu.tensor[MmaPath.MMA_SYNC].rates
    needed = min(711.7e12 / rates[Dtype.INT8], 357.6e12 / rates[Dtype.FP16_ACC16]) / (2 * gpu.sm.count)
    assert gpu.clock.boost < gpu.clock.sustained <= needed


def test_the_5090_ran_faster_than_its_reference_boost():
    """So do its matrix products of BF16, 240 TFLOP/s."""
    gpu = load_gpu("rtx_5090")
    needed = 240.05e12 / (2 * gpu.sm.count * gpu.tensor[MmaPath.MMA_SYNC].rates[Dtype.BF16])
    assert gpu.clock.boost < gpu.clock.sustained <= needed


def _fields(node, path=()):
    for name, child in node.children:
        name = {("pipes",): "CLASS", ("tensor",): "PATH", ("tensor", "PATH", "rates"): "DTYPE",
                ("energy", "tensor"): "DTYPE", ("energy", "instruction"): "CLASS"}.get(path, name)
        if child.children:
            yield from _fields(child, (*path, name))
        else:
            yield ".".join((*path, name))


def test_the_readme_lists_every_field():
    rows = re.findall(r"^\| (`.*?) \|", (config_directory() / "README.md").read_text(), re.MULTILINE)
    assert {field for row in rows for field in re.findall(r"`([^`]+)`", row)} == set(_fields(ROOT))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_files_follow_the_schema(path):
    jsonschema = pytest.importorskip("jsonschema")
    from ruamel.yaml import YAML

    jsonschema.Draft7Validator(json_schema()).validate(YAML(typ="safe").load(path))
