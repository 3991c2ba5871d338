"""The fit finds the parameters that made the rows, within its intervals, and says what the rows do not determine."""

import numpy as np
import pytest

from tests.calibration.conftest import BENCHES, SUITE, benches, small_gpu, suite, write
from turbosim.calibration import capacity
from turbosim.calibration.clock import sustained
from turbosim.calibration.fit import fit
from turbosim.calibration.model import Model
from turbosim.calibration.parameters import PARAMETERS, ordered
from turbosim.calibration.rows import Sustained, read_micro
from turbosim.hw import with_overrides


def rows_of(tmp_path, gpu, made, columns):
    return read_micro(write(tmp_path / "rows.csv", columns, made), gpu).rows


@pytest.mark.parametrize(("made", "columns", "kept"), [
    (benches, BENCHES, {"launch.cta", "copy_engine.bandwidth"}),
    (suite, SUITE, {"l2.latency_near", "copy_engine.bandwidth"})])
def test_known_parameters_are_found_within_their_intervals(tmp_path, known, made, columns, kept):
    gpu = small_gpu()
    rows = [r for r in rows_of(tmp_path, gpu, made(with_overrides(gpu, known), 0.01, 1), columns) if r.fitted]
    found = {f.parameter.path: f for f in fit(gpu, rows).parameters}
    assert {path for path, f in found.items() if not f.determined} >= kept
    checked = [path for path, f in found.items() if f.determined and path in known]
    assert {"hbm.efficiency", "l2.bandwidth", "launch.stream", "launch.graph", "l2.shared_fraction"} <= set(checked)
    for path in checked:
        assert found[path].low <= known[path] <= found[path].high, path
        if path != "l2.shared_fraction":
            assert found[path].high / found[path].low < 1.35, path


def test_without_noise_the_values_are_exact(tmp_path, known):
    gpu = small_gpu()
    rows = [r for r in rows_of(tmp_path, gpu, benches(with_overrides(gpu, known), 0.0, 0), BENCHES) if r.fitted]
    found = fit(gpu, rows)
    for path in ("hbm.efficiency", "l2.bandwidth", "l2.latency_far", "hbm.latency", "launch.graph"):
        assert found.values[path] == pytest.approx(known[path], rel=0.01), path
    error = np.expm1(Model(gpu, rows).seconds(found.values) - Model(gpu, rows).measured())
    assert np.median(abs(error)) < 0.005


def test_latency_under_load_is_found_where_there_is_any(tmp_path, known):
    gpu = small_gpu()
    for loaded in (0, 3e-7):
        made = benches(with_overrides(gpu, {**known, "hbm.loaded_latency": loaded}), 0.005, 3)
        rows = [r for r in rows_of(tmp_path, gpu, made, BENCHES) if r.fitted]
        found = {f.parameter.path: f for f in fit(gpu, rows).parameters}["hbm.loaded_latency"]
        if loaded:
            assert found.after == pytest.approx(loaded, rel=0.05)
        else:
            assert found.reason in ("lowers the cost by less than 5%", "no row depends on it")
            assert found.after == 0


def test_parameters_without_rows_keep_their_values(tmp_path, known):
    gpu = small_gpu()
    made = benches(with_overrides(gpu, known), 0.0, 0, only="pointer")
    found = {f.parameter.path: f for f in fit(gpu, rows_of(tmp_path, gpu, made, BENCHES)).parameters}
    assert {p for p, f in found.items() if f.determined} == {"l2.latency_near", "l2.latency_far", "hbm.latency"}
    for path in ("hbm.efficiency", "launch.graph", "l2.shared_fraction"):
        assert (found[path].after, found[path].reason) == (found[path].before, "no row depends on it")


def test_two_launch_costs_that_add_up_are_not_told_apart(tmp_path, known):
    gpu = small_gpu(**{"launch.cta": 1000})
    made = benches(with_overrides(gpu, known), 0.0, 0, only="back-to-back")
    found = {f.parameter.path: f for f in fit(gpu, rows_of(tmp_path, gpu, made, BENCHES)).parameters}
    assert found["launch.cta"].reason.startswith("not told apart from l2.latency_far")
    assert found["launch.graph"].determined


def test_on_one_partition_both_hits_take_as_long(tmp_path):
    gpu = small_gpu(**{"l2.partitions": 1, "l2.latency_near": 2.4e-7})
    made = benches(with_overrides(gpu, {"l2.latency_near": 2.9e-7, "l2.latency_far": 2.9e-7}), 0.0, 0, only="pointer")
    found = fit(gpu, rows_of(tmp_path, gpu, made, BENCHES)).values
    assert found["l2.latency_near"] == found["l2.latency_far"] == pytest.approx(2.9e-7, rel=0.01)


def test_no_miss_is_faster_than_a_hit():
    gpu = small_gpu()
    values = ordered({"l2.latency_far": 3e-7, "hbm.latency": 2.5e-7, "l2.latency_near": 2.8e-7}, gpu)
    assert values == {"l2.latency_far": 2.5e-7, "hbm.latency": 2.5e-7, "l2.latency_near": 2.5e-7}
    with_overrides(gpu, values)


def test_the_share_needs_working_sets_on_both_sides(tmp_path, known):
    gpu = small_gpu()
    made = [r for r in benches(with_overrides(gpu, known), 0.0, 0, only="L2") if r["notes"].startswith(("4096", "5120", "6144", "7168"))]
    rows = rows_of(tmp_path, gpu, made, BENCHES)
    found = capacity.scan(Model(gpu, rows), {p.path: p.value(gpu) for p in PARAMETERS})
    assert (found.value, found.reason) == (gpu.l2.shared_fraction, "too few working sets around the capacity")


def test_the_sustained_clock_is_that_of_loops_at_the_limit():
    gpu = small_gpu()
    rows = [Sustained(f"r:{n}", "0" * 16, clock, power) for n, (clock, power) in enumerate(
        [(1.40e9, 72.0), (1.41e9, 71.0), (1.39e9, 70.0), (2.0e9, 50.0)])]
    found = sustained(rows, gpu)
    # 4.303 (Student's t for two degrees of freedom) x 10 MHz / sqrt(3).
    assert (found.after, found.rows) == (pytest.approx(1.4e9), 3)
    assert (found.low, found.high) == (pytest.approx(1.4e9 - 24.84e6, abs=1e5), pytest.approx(1.4e9 + 24.84e6, abs=1e5))
    assert sustained(rows[2:], gpu).reason == "1 of 2 tensor-core loops within 5% of 72 W"
    assert sustained([], gpu).reason == "no tensor-core loop with its power"
