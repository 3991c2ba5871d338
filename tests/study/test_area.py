"""Area and cost: published dies by construction, other chips without the residual, and what design points change."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.study.studies import study_of
from turbosim.cli.main import app
from turbosim.errors import ConfigError, UsageError
from turbosim.hw import config_directory, list_gpus, load_gpu, with_overrides
from turbosim.silicon import area_of_gpu, cost_of_gpu
from turbosim.silicon.cost import die_yield, dies_per_wafer
from turbosim.silicon.files import areas, directory, prices, read_areas
from turbosim.study.results import load_results
from turbosim.study.sweep import run_study

SOLD = [name for name in list_gpus() if not load_gpu(name).hypothetical]
BLIND = {"h200_sxm": -0.075, "l40s": -0.062, "l4": -0.077, "rtx_3090": 0.098, "rtx_5090": -0.006, "b200": -0.334}


@pytest.mark.parametrize("name", SOLD)
def test_gpus_that_are_sold_have_the_area_of_their_chip(name):
    gpu = load_gpu(name)
    area = area_of_gpu(gpu)
    assert area.mm2 == pytest.approx(gpu.die.area)
    assert area.process == gpu.die.process
    assert all(part.mm2 >= 0 for part in area.parts if part.name != "residual")
    assert sum(part.mm2 for part in area.parts) == pytest.approx(area.mm2)


@pytest.mark.parametrize(("name", "error"), BLIND.items())
def test_other_chips_are_predicted_from_ga100_with_these_errors(name, error):
    """Nothing of these chips but their counts is in what is predicted: the README has the same numbers."""
    area = area_of_gpu(load_gpu(name))
    assert area.blind / area.published - 1 == pytest.approx(error, abs=6e-4)
    text = (directory() / "README.md").read_text()
    assert f"| {area.published:g} | {area.blind:.0f} | {error:+.1%}".replace("%", " %") in text.replace("about ", "")


def test_ga100_is_its_die_photo():
    area = area_of_gpu(load_gpu("a100_sxm_80gb"))
    photo = areas()[0].annotated
    groups = {}
    for part in area.parts:
        groups[part.group] = groups.get(part.group, 0.0) + part.mm2
    assert groups["SMs"] == pytest.approx(128 * photo.sm)
    assert groups["L2"] == pytest.approx(photo.l2)
    assert groups["memory"] == pytest.approx(photo.memory_phys + photo.memory_controllers)


@pytest.mark.parametrize(("field", "factor", "part", "grows"), [
    ("pipes.sfu.rate", 2, "SFUs", 2), ("sm.count", 0.5, "rest of SM", 0.5), ("l2.capacity", 2, "L2 arrays", 2),
    ("l2.bandwidth", 2, "rest of L2", 2), ("hbm.bandwidth", 1.5, "memory PHYs", 1.5),
    ("sm.registers", 2, "register files", 2), ("sm.smem_capacity", 2, "L1, shared memory", 2),
    ("copy_engine.bandwidth", 2, "interconnect", 2), ("tensor.wgmma.rates.fp16", 2, "tensor cores", (2 + 0.2) / 1.2),
    ("hbm.latency", 1.5, "SFUs", 1), ("clock.boost", 1.1, "rest of L2", 1)])
def test_a_design_point_differs_by_what_it_changes(field, factor, part, grows):
    gpu = load_gpu("h200_sxm")
    value = gpu
    for key in field.replace("wgmma.", "wgmma|").replace("tensor.", "tensor|").replace("|", ".").split("."):
        value = value[key] if isinstance(value, dict) else getattr(value, key)
    before = area_of_gpu(gpu)
    after = area_of_gpu(with_overrides(gpu, {field: value * factor}))
    sizes = [{p.name: p.mm2 for p in area.parts} for area in (before, after)]
    assert sizes[1][part] / sizes[0][part] == pytest.approx(grows)
    changed = {name for name in sizes[0] if sizes[0][name] != pytest.approx(sizes[1][name])}
    if field == "hbm.bandwidth":
        assert changed == {"memory PHYs", "memory controllers"}
    elif field != "sm.count":
        assert changed == ({part} if grows != 1 else set())


def test_an_operand_type_that_is_added_takes_area():
    base, int4 = (area_of_gpu(load_gpu(name)).mm2 for name in ("h200_sxm", "h200_int4"))
    assert 0 < int4 - base < 20


def test_what_is_not_known_is_told():
    bare = load_gpu("l4").model_copy(update={"die": None})
    with pytest.raises(UsageError, match=r"^the hardware file of l4 has no die\.product, the shipped GPU with the same"):
        area_of_gpu(bare)
    with pytest.raises(UsageError, match=r"^die\.product 'l5': nothing is known of its die; there are a100_pcie_80gb"):
        area_of_gpu(with_overrides(load_gpu("l4"), {"die.product": "l5"}))


def test_every_number_has_a_source_that_is_used():
    for _, sourced in (areas(), prices()):
        numbers = [leaf for leaf in sourced.leaves.values() if isinstance(leaf.value, (int, float))]
        assert all(leaf.sources for leaf in numbers if leaf.path != ("schema_version",))
        assert {tag for leaf in numbers for tag in leaf.sources} == set(sourced.sources)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("fp16_mac: {value: 29.4 kTr, source: [derived, TU]}", "fp16_mac: {value: 29.4 mm2, source: TU}",
     "tensor.fp16_mac: '29.4 mm2': unit 'mm2' does not measure Tr"),
    ("l40s: AD102", "l40s: AD103", "products.l40s: is a chip: one of AD102, AD104, B200, GA100, GA102, GB202, GH100, got 'AD103'"),
    ("further_type: {value: 10 %, source: assumed}", "further_typ: {value: 10 %, source: assumed}",
     "tensor.further_typ: unknown field (did you mean 'further_type'?)"),
])
def test_defects_of_the_file_are_told_with_their_place(tmp_path, old, new, message):
    text = (directory() / "area.yaml").read_text()
    (tmp_path / "area.yaml").write_text(text.replace(old, new))
    line = text[:text.index(old)].count("\n") + 1
    with pytest.raises(ConfigError, match=rf"area\.yaml:{line}:\d+: {re.escape(message)}"):
        read_areas(tmp_path / "area.yaml")


@given(st.floats(1, 850), st.floats(0, 1), st.floats(0.5, 20))
def test_yield_lies_between_poisson_and_one(mm2, per_cm2, cluster):
    found = die_yield(mm2, per_cm2, cluster)
    assert math.exp(-mm2 / 100 * per_cm2) * (1 - 1e-9) <= found <= 1


def test_cost_grows_with_the_die_and_the_memory():
    gpu = load_gpu("h200_sxm")
    base = cost_of_gpu(gpu)
    assert base.usd == pytest.approx(base.dies + 141 * 15 + 750)
    assert base.dies == pytest.approx(16988 / (dies_per_wafer(814) * (1 + 0.814 / 3) ** -3))
    assert cost_of_gpu(with_overrides(gpu, {"sm.count": 140})).dies > base.dies
    assert cost_of_gpu(with_overrides(gpu, {"hbm.capacity": 282e9})).memory == pytest.approx(2 * base.memory)
    assert math.isinf(cost_of_gpu(with_overrides(gpu, {"sm.count": 100_000})).usd)


def test_studies_read_area_and_cost(tmp_path):
    study = study_of(tmp_path, """\
hw: h200_sxm
kernel: copy
workload: {bytes: 1 MiB}
axes:
  hbm.bandwidth: [2, 4.8, 8 TB/s]
  sm.count: [100, 132]
constraints: [area_mm2 < 860]
metrics: {per_area: hbm_gbps / area_mm2, more: area_mm2 - baseline.area_mm2}
baseline: {sm.count: 132}
""")
    run_study(study, tmp_path / "out", jobs=1)
    frame = load_results(tmp_path / "out")
    assert len(frame) == 5
    assert (frame["area_mm2"] < 860).all()
    row = frame[(frame["hbm.bandwidth"] == 4.8e12) & (frame["sm.count"] == 132)].iloc[0]
    assert (row["area_mm2"], row["more"]) == (pytest.approx(814), 0)
    assert row["per_area"] == pytest.approx(row["hbm_gbps"] / 814)
    assert row["cost_usd"] == pytest.approx(cost_of_gpu(load_gpu("h200_sxm")).usd)
    wide = with_overrides(load_gpu("h200_sxm"), {"hbm.bandwidth": 8e12, "sm.count": 100})
    found = frame[(frame["hbm.bandwidth"] == 8e12) & (frame["sm.count"] == 100)].iloc[0]
    assert found["area_mm2"] == pytest.approx(area_of_gpu(wide).mm2)


def test_a_gpu_without_known_die_has_neither(tmp_path):
    text = (config_directory() / "l4.yaml").read_text().replace(", product: l4", "").replace("name: l4", "name: mine")
    (tmp_path / "mine.yaml").write_text(text)
    study = study_of(tmp_path, "hw: mine.yaml\nkernel: copy\nworkload: {bytes: 1 MiB}\n"
                               "axes: {hbm.bandwidth: [2, 4 TB/s]}\n")
    assert [study.silicon(axes) for axes in study.candidates()] == 2 * [{"area_mm2": None, "cost_usd": None}]


def test_hw_check_knows_the_files():
    files = [str(directory() / name) for name in ("area.yaml", "cost.yaml")]
    done = CliRunner().invoke(app, ["hw", "check", *files])
    assert (done.exit_code, done.stdout.splitlines()) == (0, [f"{file}: ok" for file in files])


def test_command():
    done = CliRunner().invoke(app, ["hw", "area", "h200_2x_sfu"])
    assert done.exit_code == 0, done.output
    assert re.search(r"SFUs +144 x 32 sfu +6\.7 +0\.8%", done.output)
    found = json.loads(CliRunner().invoke(app, ["hw", "area", "h200_2x_sfu", "--json"]).stdout)
    assert sum(p["mm2"] for p in found["parts"]) == pytest.approx(found["area_mm2"])
    assert found["published_mm2"] == 814
    assert all(p["source"] for p in found["parts"] if p["name"] != "residual")
