"""Sensitivities: what bounds a kernel moves it, sides that cannot be taken are told, Sobol indices of known cases."""

from __future__ import annotations

import json
import re
import sys

import pytest

from tests.study.studies import rows_in, study_of, turbosim
from tests.views.as_before import assert_as_before
from turbosim.errors import UsageError
from turbosim.study.objectives import NoFrontError, Objective
from turbosim.study.point import at_of, chosen_fields, point_of
from turbosim.study.results import load_results
from turbosim.study.sensitivity import Elasticity, Local, elasticities
from turbosim.study.sobol import Global, Index, sobol
from turbosim.study.sweep import run_study
from turbosim.views.tornado_figure import figure

TIME = Objective("time_s")
COPY = """\
hw: h200_sxm
kernel: copy
workload: {bytes: 256 MiB}
axes:
  hbm.bandwidth: {from: 2 TB/s, to: 8 TB/s, scale: log}
  pipes.sfu.rate: {from: 8, to: 64, scale: log}
sampling: {method: random, points: 4}
"""
# Few SFUs and much of everything else.
FLASH = """\
hw: h200_sxm
kernel: [flash3, flash]
workload: {model: llama3-8b, phase: prefill, batch: 1, seq: 2k}
axes:
  pipes.sfu.rate: [1, 2, 16]
  hbm.bandwidth: [4.8, 8 TB/s]
baseline: {kernel: flash3}
"""


def found_at(tmp_path, text, at=(), fields=None, metric=TIME, **more):
    study = study_of(tmp_path, text)
    point = point_of(study, at_of(study, at))
    names = None if fields is None else chosen_fields(study, point, fields)
    found = elasticities(study, tmp_path / "out", metric, at=point, fields=names, jobs=1, **more)
    return {e.field: e for e in found.fields}, found


@pytest.mark.slow
def test_a_copy_is_moved_by_the_memory_alone(tmp_path):
    fields, found = found_at(tmp_path, COPY)
    for name in ("hbm.bandwidth", "hbm.efficiency"):
        assert fields[name].central == pytest.approx(-1, abs=0.02)
        assert fields[name].down == pytest.approx(-1, abs=0.03)
        assert fields[name].up == pytest.approx(-1, abs=0.03)
    assert {e.field for e in found.fields[:2]} == {"hbm.bandwidth", "hbm.efficiency"}
    assert fields["pipes.sfu.rate"].central == 0
    assert not [e for e in found.fields if e.field.startswith(("tensor.", "pipes.")) and e.central]
    sizes = [max(abs(x) for x in (e.central, e.down, e.up) if x is not None) for e in found.fields
             if e.central is not None]
    assert sizes == sorted(sizes, reverse=True)


def test_a_kernel_without_enough_sfus_is_moved_by_these(tmp_path):
    fields, found = found_at(tmp_path, FLASH, at=["pipes.sfu.rate=1"], fields="pipes.sfu,hbm.bandwidth,sm.count,pipes.fp32")
    assert found.at == {"kernel": "flash3", "pipes.sfu.rate": 1.0, "hbm.bandwidth": 4.8e12}
    assert fields["pipes.sfu.rate"].central == pytest.approx(-1, abs=0.1)
    assert fields["hbm.bandwidth"].central == pytest.approx(0, abs=0.02)
    assert abs(fields["pipes.fp32.rate"].central) < 0.1


def test_points_are_shared_with_a_sweep_and_with_themselves(tmp_path):
    study = study_of(tmp_path, FLASH.replace("[1, 2, 16]", "[16]").replace("seq: 2k", "seq: 256"))
    run_study(study, tmp_path / "out", jobs=1)
    before = load_results(tmp_path / "out")
    point = point_of(study, {})
    first = elasticities(study, tmp_path / "out", TIME, at=point, fields=["hbm.bandwidth", "sm.count"], jobs=1)
    rows = rows_in(tmp_path / "out")
    # The point itself was swept: its row is copied.
    assert len(rows) == len(before) + 5
    assert len({row["key"] for row in rows}) == len(before) + 4
    assert first == elasticities(study, tmp_path / "out", TIME, at=point, fields=["hbm.bandwidth", "sm.count"], jobs=1)
    assert len(rows_in(tmp_path / "out")) == len(rows)
    assert len(load_results(tmp_path / "out")) == len(before)
    assert first.value == before.set_index("kernel").loc["flash3"].iloc[0]["time_s"]


def test_whole_numbers_step_by_whole_numbers_and_missing_sides_are_told(tmp_path):
    fields, _ = found_at(tmp_path, COPY, fields="sm.count,sm.schedulers,hbm.efficiency,l2.latency_far,hbm.latency,"
                                                "l2.shared_fraction,launch", step=0.5)
    assert (fields["sm.count"].low, fields["sm.count"].high) == (88, 198)
    assert (fields["sm.schedulers"].low, fields["sm.schedulers"].high) == (2, 6)
    assert fields["hbm.efficiency"].up is None
    assert fields["hbm.efficiency"].note == "up: must be at most 1, got 1.281"
    assert fields["hbm.efficiency"].central == fields["hbm.efficiency"].down
    assert re.match(r"up: must be at most hbm\.latency \(3\.73e-07\)", fields["l2.latency_far"].note)
    assert re.match(r"down: must be at least l2\.latency_far", fields["hbm.latency"].note)


def test_other_metrics(tmp_path):
    fields, _ = found_at(tmp_path, COPY, fields="hbm.bandwidth,sm.count,energy.static", metric=Objective("area_mm2"))
    assert fields["sm.count"].central == pytest.approx((452 + 60) / 814, abs=0.02)
    assert fields["energy.static"].central == 0
    energy, _ = found_at(tmp_path, COPY, fields="energy.static,energy.hbm", metric=Objective("energy_j"))
    assert 0 < energy["energy.static"].central < 1
    assert 0 < energy["energy.hbm"].central < 1


@pytest.mark.parametrize(("at", "fields", "message"), [
    (["seq=1k"], None, r"--at: 'seq' is no axis; there are hbm\.bandwidth, pipes\.sfu\.rate"),
    (["hbm.bandwidth"], None, r"--at: 'hbm\.bandwidth' is not name=value"),
    (["hbm.bandwidth=4 GB"], None, r"--at: hbm\.bandwidth: '4 GB': unit 'GB' does not measure B/s \(did you mean 'GB/s'\?\)"),
    (["hbm.bandwidth=4"], None, r"--at: hbm\.bandwidth: '4' has no unit; write for example '4 TB/s'"),
    ([], "hbm.bandwith", r"--fields: h200_sxm has no hardware field 'hbm\.bandwith' \(did you mean 'hbm\.bandwidth'\?\)"),
    ([], "copy_engine.tma", r"--fields: copy_engine\.tma is not a number"),
])
def test_what_is_refused(tmp_path, at, fields, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        found_at(tmp_path, COPY, at, fields)


def test_sobol_finds_what_causes_the_variance(tmp_path):
    study = study_of(tmp_path, COPY)
    found = sobol(study, tmp_path / "out", TIME, samples=16, seed=1, jobs=1)
    again = sobol(study, tmp_path / "out", TIME, samples=16, seed=1, jobs=1)
    assert found == again
    assert found.points <= 16 * 4 == len(rows_in(tmp_path / "out")) + (64 - found.points)
    memory, sfus = found.axes
    assert (memory.axis, sfus.axis) == ("hbm.bandwidth", "pipes.sfu.rate")
    assert memory.total == pytest.approx(1, abs=0.25)
    assert sfus.total == pytest.approx(0, abs=1e-6)
    assert memory.total_conf > 0
    assert len(load_results(tmp_path / "out")) == found.points


@pytest.mark.parametrize(("change", "samples", "error", "message"), [
    (("", ""), 12, UsageError, "--samples: must be a power of two, got 12"),
    (("sampling", "constraints: [pipes.sfu.rate < 30]\nsampling"), 4, UsageError,
     r".*study.yaml:7:1: constraints: (\d+) of 16 points break one, and Sobol indices need all points: "
     r"'pipes.sfu.rate < 30' \(.*study.yaml:7:15\) \1; drop the constraints, or narrow the ranges$"),
    (("  pipes.sfu.rate: {from: 8, to: 64, scale: log}\n", ""), 4, UsageError, ".*Sobol indices need two axes or more, got 1"),
    (("hbm.bandwidth: {from: 2 TB/s, to: 8 TB/s, scale: log}", "pipes.fp32.rate: {from: 64, to: 128}"), 2, NoFrontError,
     "time_s is .* at all 8 points: nothing moves it"),
    (("hbm.bandwidth: {from: 2 TB/s, to: 8 TB/s, scale: log}",
      "hbm.latency: {from: 300 ns, to: 500 ns}\n  l2.latency_far: {from: 271 ns, to: 450 ns}"), 4, NoFrontError,
     "time_s has no value at hbm.latency=.*a miss cannot be faster than a hit.*; Sobol indices need all points"),
])
def test_what_sobol_refuses(tmp_path, change, samples, error, message):
    with pytest.raises(error, match=message):
        sobol(study_of(tmp_path, COPY.replace(*change)), tmp_path / "out", TIME, samples=samples, jobs=1)


def test_salib_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SALib", None)
    with pytest.raises(UsageError, match=r"^--method sobol needs SALib: pip install 'turbosim\[search\]'$"):
        sobol(study_of(tmp_path, COPY), tmp_path / "out", TIME, jobs=1)


@pytest.mark.slow
def test_command(tmp_path):
    study_of(tmp_path, COPY)
    done = turbosim("sensitivity", "study.yaml", "--fields", "hbm,pipes.sfu", "--step", "5%", "--jobs", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "time_s of copy on h200_sxm is" in done.stdout
    assert re.search(r"hbm\.bandwidth +4\.8 TB/s +-(1\.0|0\.9)", done.stdout)
    assert re.search(r"no effect \(\d+\): .*pipes\.sfu\.rate", done.stdout, re.DOTALL)
    assert (tmp_path / "study.results/tornado.png").exists()
    assert "elasticity of time_s" in (tmp_path / "study.results/tornado.svg").read_text()
    indices = turbosim("sensitivity", "study.yaml", "--method", "sobol", "--samples", 4, "--jobs", 1, "--json", cwd=tmp_path)
    found = json.loads(indices.stdout)
    assert [a["axis"] for a in found["axes"]] == ["hbm.bandwidth", "pipes.sfu.rate"]
    assert (tmp_path / "study.results/sobol.svg").exists()
    for arguments, message in [(["--step", "0"], "--step: must be above 0 and at most 100%, got 0"),
                               (["--metric", "tim"], "--metric: 'tim' is no column of a row (did you mean 'time'?)"),
                               (["--method", "sobol", "--fields", "hbm"], "--fields: does not apply to sobol")]:
        refused = turbosim("sensitivity", "study.yaml", *arguments, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: {message}")


def test_pictures(tmp_path):
    fields = (Elasticity("sm.count", 132, -0.98, -1.01, -0.99, 118, 146), Elasticity(
        "hbm.bandwidth", 4.8e12, -0.4, 0.0, -0.2, 4.3e12, 5.3e12), Elasticity("hbm.efficiency", 0.95, 0.1, None, 0.1, 0.86, None))
    local = Local(TIME, {}, "h200_sxm", 1e-3, 0.1, fields)
    assert_as_before(figure(local, "A sample\nof three fields"), "tornado", tmp_path)
    indices = (Index("sm.count", 0.6, 0.1, 0.8, 0.12), Index("hbm.bandwidth", 0.1, 0.05, 0.3, 0.08))
    assert_as_before(figure(Global(TIME, 64, 16, 0, 1e-3, 1e-4, indices), "A sample"), "sobol", tmp_path)
