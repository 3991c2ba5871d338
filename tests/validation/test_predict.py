"""Predictions follow the protocol; impossible rows and fitted models are refused; scores are what they say."""

import re
from dataclasses import replace

import pytest

from turbosim import simulate
from turbosim.engine.api import run
from turbosim.errors import ConfigError
from turbosim.hw import load_gpu, with_overrides
from turbosim.schedules.registry import get_schedule
from turbosim.validation.jobs import Job, answer, run_all, without_overhead
from turbosim.validation.meta import Case
from turbosim.validation.predict import FEW, jobs_of, predict
from turbosim.validation.roofline import peak_flops, read_write_bytes, roofline_seconds
from turbosim.validation.row import Protocol
from turbosim.validation.score import score_of
from turbosim.validation.sets import list_sets, load_file, load_set
from turbosim.workload import Attention, Gemm, Phase

SHAPE = Attention(1, 4, 4, 256, 256, 64, True, Phase.PREFILL)


def outcome(table, time="2e-5", gpu="l4"):
    return predict([load_file(table(f"{gpu},flash,prefill,1,4,4,256,256,64,true,{time}"))])


def test_tile_prediction_is_the_simulation_under_the_protocol(table):
    (found,) = outcome(table).outcomes
    assert found.times["tile"] == simulate("l4", SHAPE, "flash", launch="stream").time_s
    assert found.error("tile") == pytest.approx(found.times["tile"] / 2e-5 - 1)


@pytest.mark.parametrize(("protocol", "settings"), [
    (Protocol("warm", "graph"), {"l2": "warm"}), (Protocol("dirty", "graph"), {"l2": "dirty"}),
    (Protocol("cold", "events"), {"launch": "stream"})])
def test_protocol_sets_cache_and_launch(protocol, settings):
    assert answer(Job("l4", "flash", SHAPE, (), protocol)) == simulate("l4", SHAPE, "flash", **settings).time_s


def test_events_add_their_own_time_and_other_methods_do_not():
    bare = answer(Job("l4", "flash", SHAPE, (), Protocol("cold", "events")))
    assert answer(Job("l4", "flash", SHAPE, (), Protocol("cold", "events", overhead=2e-6))) == pytest.approx(bare + 2e-6)
    assert answer(Job("l4", "flash", SHAPE, (), Protocol("cold", "graph", overhead=2e-6))) \
        == answer(Job("l4", "flash", SHAPE, (), Protocol("cold", "graph")))


def test_profiler_time_is_without_launch_overhead_at_the_locked_clock():
    gpu = with_overrides(load_gpu("l4"), {"clock.sustained": 1e9})
    result = run(gpu, get_schedule("flash").program(gpu, SHAPE))
    expected = sum(x.ticks for x in result.launches) / (64 * 1e9)
    assert without_overhead(result) == pytest.approx(expected, rel=1e-12)
    assert answer(Job("l4", "flash", SHAPE, (), Protocol("cold", "ncu", 1e9))) == pytest.approx(expected, rel=1e-12)
    assert expected < result.time_s


@pytest.mark.parametrize("clock", ["power", "boost", "sustained"])
@pytest.mark.parametrize("highest", [0.5e9, 9e9])
def test_no_clock_is_above_the_one_that_was_set(clock, highest):
    # A matrix product of this size does not reach the limit of the card.
    shape = Gemm(512, 512, 4096)
    found = answer(Job("a100_sxm_80gb", "gemm", shape, (), Protocol(highest=highest), clock=clock))
    gpu = load_gpu("a100_sxm_80gb")
    free = gpu.clock.hertz("sustained") if clock == "sustained" else gpu.clock.boost
    assert found == pytest.approx(simulate(gpu, shape, "gemm", clock=min(highest, free), launch="stream").time_s, rel=1e-3)


def test_a_warm_start_beyond_the_cache_is_a_cold_one():
    shape = Attention(8, 8, 8, 1, 16384, 128, False, Phase.DECODE)
    assert shape.kv_bytes_fp16 > 2 * load_gpu("a100_sxm_80gb").l2.capacity
    warm, cold = (simulate("a100_sxm_80gb", shape, "flash", l2=l2).time_s for l2 in ("warm", "cold"))
    assert warm == pytest.approx(cold, rel=0.001)


def test_the_fastest_tiling_counts_and_is_named():
    data = load_set("triton_matmul_a100")
    row = next(r for r in data.rows if r.kernel == "Triton" and r.workload.m == 1024)
    (found,) = predict([replace(data, rows=(row,))]).outcomes
    model = data.meta.kernels["Triton"]
    times = {options: simulate(row.gpu, row.workload, "gemm", options={**model.options, **tiling},
                               launch="stream", l2="dirty").time_s + row.protocol.overhead
             for tiling in model.tilings
             for options in [":".join(f"{n}={v}" for n, v in {**model.options, **tiling}.items())]}
    assert found.times["tile"] == min(times.values())
    assert times[found.choices["tile"]] == found.times["tile"]


def test_another_clock_is_for_rows_whose_own_is_not_known():
    data = load_set("triton_matmul_a100")
    row = next(r for r in data.rows if r.kernel == "cuBLAS" and r.workload.m == 4096)
    locked = replace(row, protocol=replace(row.protocol, clock=1.2e9))
    times = {clock: [o.times["tile"] for o in predict([replace(data, rows=(row, locked))], clock=clock).outcomes]
             for clock in ("sustained", "boost", "power")}
    assert times["boost"][0] < times["power"][0] != times["sustained"][0]
    assert times["boost"][1] == times["power"][1] == times["sustained"][1]


def test_a_large_row_tries_the_best_tilings_of_a_smaller_one():
    data = load_set("triton_attention_a100")
    rows = tuple(r for r in data.rows if r.kernel == "Triton" and r.version == "7e03fe9512ef" and not r.workload.causal
                 and r.workload.seq_q in (1024, 8192))
    small, large = sorted(predict([replace(data, rows=rows)]).outcomes, key=lambda o: o.row.workload.seq_q)
    jobs = jobs_of(small.row, data.meta.kernels["Triton"], "tile", small.row.gpu)
    times = {j: t for j in jobs if isinstance(t := answer(j), float)}
    best = sorted(times, key=times.get)[:FEW]
    assert len(jobs) == 12
    assert large.times["tile"] == min(answer(replace(j, workload=large.row.workload)) for j in best)


def test_each_version_of_a_page_has_the_tilings_that_it_listed():
    data = load_set("triton_attention_a100")
    model = data.meta.kernels["Triton"]
    lists = {}
    for row in data.rows:
        if row.kernel == "Triton":
            for rung in ("tile", "sass"):
                found = {frozenset(dict(j.options).items()) for j in jobs_of(row, model, rung, row.gpu)}
                lists.setdefault((rung, row.version, row.workload.head_dim), []).append(
                    [{n.lower(): v for n, v in options} for options in found])

    def values(rung, version, head_dim, *names):
        return {next(o[n] for n in names if n in o) for found in lists[rung, version, head_dim] for o in found}

    for version in ("acda248b3f04", "7e03fe9512ef"):
        assert values("tile", version, 64, "warps") == {4}
        assert values("tile", version, 64, "stages") == {3, 4, 7}
        assert values("sass", version, 64, "num_stages") <= {3, 4, 7}
    assert values("tile", "001d977d8a92", 64, "block_n") == {32, 64}
    assert values("tile", "001d977d8a92", 128, "block_n") == {32, 64, 128}
    for version in ("001d977d8a92", "web-2025"):
        assert values("tile", version, 64, "warps") == {4, 8}
        assert values("tile", version, 64, "stages") == {2, 3, 4}
    for (rung, version, head_dim), found in lists.items():
        if rung == "sass":
            listed = [{tuple(o[n] for n in ("block_m", "block_n", "warps", "stages")) for o in each}
                      for each in lists["tile", version, head_dim]]
            assert all({tuple(o[n] for n in ("block_m", "block_n", "num_warps", "num_stages")) for o in each} <= listed[0]
                       for each in found)


def test_a_case_without_options_or_sweep_is_refused():
    with pytest.raises(ValueError, match="needs options or a sweep"):
        Case(when={"version": "1"})


def test_roofline_is_compute_or_memory():
    data = load_set("flashattention3_h100_1500mhz")
    row = max(data.rows, key=lambda r: r.workload.flops)
    gpu = load_gpu("h100_sxm")
    # 4096 MACs a clock and SM.
    assert roofline_seconds(gpu, row) == pytest.approx(row.workload.flops / (2 * 4096 / 2 * 132 * 1.5e9), rel=0.01)
    row = load_set("triton_vector_add_a100").rows[0]
    assert roofline_seconds(load_gpu(row.gpu), row) == pytest.approx(12 * 4096 / 1935e9)


def test_bytes_of_operands_are_those_of_their_types(tmp_path):
    path = tmp_path / "gemm.csv"
    path.write_text("system,gemm_dtype,m,n,k,latency\n" + "".join(f"a100_sxm,{kind},64,128,256,0.02\n" for kind in (
        "bfloat16", "sq", "int8_wo", "int4_wo")))
    a, b, c = 64 * 256, 128 * 256, 64 * 128
    assert [read_write_bytes(row) for row in load_file(path).rows] == [
        (2 * a + 2 * b, 2 * c), (a + b, 2 * c), (2 * a + b, 2 * c), (2 * a + b // 2, 2 * c)]
    row = next(r for r in load_set("triton_attention_a100").rows if r.dtype == "fp8_e5m2")
    assert read_write_bytes(row)[0] == read_write_bytes(replace(row, dtype="int8"))[0]


@pytest.mark.parametrize(("dtype", "gpu", "ratio"), [("fp8_e4m3", "h100_sxm", 2), ("fp8_e5m2", "a100_sxm_80gb", 1),
                                                     ("int8", "a100_sxm_80gb", 2), ("bf16", "h100_sxm", 1)])
def test_peaks_are_those_of_the_type(dtype, gpu, ratio):
    assert peak_flops(load_gpu(gpu), dtype, 1e9) == pytest.approx(ratio * peak_flops(load_gpu(gpu), "fp16", 1e9))


def test_rows_without_a_schedule_have_a_reason(table):
    (found,) = predict([load_file(table("l4,other,prefill,1,4,4,256,256,64,true,2e-5"))]).outcomes
    assert set(found.times) == {"roofline"}
    assert found.reasons == {"tile": "unknown kernel"}


def test_a_row_above_the_peak_is_excluded_and_counted(table):
    data = load_file(table("l4,flash,prefill,8,32,32,4096,4096,64,true,2e-2", "l4,flash,prefill,8,32,32,4096,4096,64,true,1e-3"))
    found = predict([data], ["roofline"])
    assert [o.row.where for o in found.outcomes] == ["data/rows.csv:2"]
    ((row, why),) = found.impossible
    assert row.where == "data/rows.csv:3"
    assert re.fullmatch(r"1 ms is \d\.\d\d times as fast as the peak of l4 allows", why)


def test_no_committed_row_is_impossible():
    assert predict([load_set(n) for n in list_sets()], ["roofline"]).impossible == ()


def test_a_model_that_was_fitted_on_the_rows_is_refused(table, tmp_path):
    (tmp_path / "fitted.yaml").write_text(
        "extends: l4\nname: fitted\nsources: {F: fit}\n"
        "hbm: {efficiency: {value: 0.9, source: F, fitted_on: 'micro, data'}}\n")
    data = load_file(table("l4,flash,prefill,1,4,4,256,256,64,true,2e-5"))
    with pytest.raises(ConfigError, match=re.escape(
            "fitted.yaml:4:27: hbm.efficiency was fitted on data, whose rows it would predict; validate on other rows, or fit on "
            "other ones")):
        predict([data], hardware={"l4": "fitted.yaml"})
    assert predict([replace(data, name="else")], hardware={"l4": "fitted.yaml"}).outcomes


def test_two_processes_find_the_same():
    jobs = [Job("l4", "copy", load_set("triton_vector_add_a100").rows[0].workload, (("stages", n), ("ctas_per_sm", m)),
                Protocol()) for n in range(1, 9) for m in range(1, 31)]
    assert run_all(jobs, workers=2) == run_all(jobs, workers=1)


def test_score():
    found = score_of([(1, 1.1), (2, 1.8), (4, 4.4), (8, 4)])
    assert (found.count, found.mean, found.bias) == (4, pytest.approx(0.2), pytest.approx(-0.1))
    assert (found.median, found.worst) == (pytest.approx(0.1), pytest.approx(0.5))
    assert found.p90 == pytest.approx(0.1 + 0.7 * 0.4)
    assert found.kendall == pytest.approx(4 / 6)
    assert score_of([(1, 2), (2, 8), (4, 32)]).slope == pytest.approx(2)
    assert score_of([(1, 2)]).slope is None
