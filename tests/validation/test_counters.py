"""Counters: the columns of the measuring harness, what can be in them, and errors that come out as they were put in."""

from __future__ import annotations

import csv
import json
import random
import re
from dataclasses import replace

import pytest

from kernels.measure.cases import Case, columns_of
from kernels.measure.counters import SHARES, SUMS
from kernels.measure.store import Store
from kernels.ops.measured import FLASH_DEFAULTS
from turbosim import build_program
from turbosim.cli import validate as command
from turbosim.engine.api import run
from turbosim.errors import ConfigError
from turbosim.hw import load_gpu, with_overrides
from turbosim.hw.spec import Unit
from turbosim.validation import sets
from turbosim.validation.counter_score import counter_score
from turbosim.validation.counters import COUNTERS, ROOFLINE
from turbosim.validation.predict import predict
from turbosim.validation.score import Group
from turbosim.validation.sets import load_file
from turbosim.validation.thresholds import ThresholdError, judge, read_thresholds
from turbosim.views import validation_counters
from turbosim.workload import Attention, Phase

CLOCK = 1.2e9
UNITS = {"tensor_util": Unit.TENSOR, "xu_util": Unit.SFU, "fma_util": Unit.FMA, "alu_util": Unit.INT, "issue_util": Unit.ISSUE}
SHAPES = [Attention(1, 8, 4, 512, 1024, 64, True, Phase.PREFILL), Attention(2, 4, 4, 384, 384, 128, False, Phase.PREFILL),
          Attention(2, 16, 4, 1, 8192, 64, False, Phase.DECODE), Attention(1, 8, 8, 1, 4000, 128, False, Phase.DECODE)]
HEADER = "gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s,l2,method,"
ROW = "l4,flash,prefill,1,4,4,256,256,64,true,2e-5,cold,ncu,"


def launches(gpu, shape):
    """Return the result of each launch of flash, whose caches are emptied before it."""
    prefill = {"path": "auto", "block_m": 128} if shape.phase is Phase.PREFILL else {}
    program = build_program(gpu, shape, "flash", {"block_n": 64} | prefill)
    return [run(gpu, replace(program, launches=(one,))) for one in program.launches]


def by_hand(gpu, results):
    """Return the time without launch overhead [s] and the counters of *results*."""
    parts = [r.launches[0] for r in results]
    ticks = [p.ticks for p in parts]

    def mean(shares):
        return sum(s * t for s, t in zip(shares, ticks, strict=True)) / sum(ticks)

    found = {name: mean([p.busy_ticks[unit] / p.ticks / gpu.sm.count for p in parts]) for name, unit in UNITS.items()}
    found["l2_hit_rate"] = mean([1 - (p.l2_read_bytes - p.l2_hit_bytes) / (p.l2_read_bytes + p.l2_write_bytes) for p in parts])
    found["dram_read_bytes"] = sum(p.dram_read_bytes for p in parts)
    return sum(ticks) / (64 * CLOCK), found


def measured(folder, changed, count=None):
    """Write a table as the harness does, of *changed*(name, predicted) for every counter; return its path."""
    gpu = with_overrides(load_gpu("a100_sxm_80gb"), {"clock.sustained": CLOCK})
    with Store(folder) as store:
        store.open({"gpu": "NVIDIA A100-SXM4-80GB", "triton": "3.6", "kernel_sources": {}})
        for shape in SHAPES[:count]:
            seconds, counters = by_hand(gpu, launches(gpu, shape))
            values = {name: changed(name, value) for name, value in counters.items()}
            store.append({"source": "measured", "gpu": "NVIDIA A100-SXM4-80GB", "l2": "cold", "method": "ncu", "status": "ok",
                          **columns_of(Case("flash", shape), FLASH_DEFAULTS), "time_s": 1.5 * seconds,
                          "cycles": 1.5 * seconds * CLOCK, "dram_write_bytes": 0.0, **values})
    return folder / "rows.csv"


def test_the_columns_are_those_of_the_harness():
    assert set(COUNTERS) == {*SUMS, *SHARES} - {"time_s", "cycles"}
    assert {name for name, c in COUNTERS.items() if c.in_bytes} == {n for n in SUMS if n.endswith("bytes")}


@pytest.mark.parametrize("seed", range(3))
def test_known_factors_come_out_as_errors(tmp_path, seed):
    dice = random.Random(seed)
    factors = {name: dice.uniform(0.6, 0.95) if name in SHARES else dice.uniform(0.8, 1.4) for name in COUNTERS}
    predicted = {}

    def changed(name, value):
        predicted.setdefault(name, []).append(value)
        return value * factors[name]

    data = load_file(measured(tmp_path / "out", changed))
    outcomes = predict([data], ["tile"]).outcomes
    assert [o.times["tile"] for o in outcomes] == pytest.approx([o.row.time_s / 1.5 for o in outcomes], rel=1e-4)
    for name, values in predicted.items():
        found = counter_score(outcomes, "tile", name)
        assert found.count == len(SHAPES)
        # The table has nine digits, so that the clock is not the same to the last one.
        if name in SHARES:
            errors = [v * (1 - factors[name]) for v in values]
            assert found.mean == pytest.approx(sum(errors) / len(errors), abs=1e-4)
            assert found.worst_row.row.where == outcomes[errors.index(max(errors))].row.where
        else:
            assert found.bias == pytest.approx(1 / factors[name] - 1, rel=1e-4)
            assert found.mean == pytest.approx(abs(1 / factors[name] - 1), rel=1e-4)
        assert found.bias == pytest.approx(found.mean if found.bias > 0 else -found.mean)
        assert found.worst == pytest.approx(max(found.worst, found.p90, found.mean))


@pytest.mark.parametrize(("l2", "megabytes"), [("cold", 4), ("cold", 60), ("dirty", 4), ("dirty", 60), ("warm", 4), ("warm", 60)])
def test_writes_are_those_that_reach_memory_while_kernels_run(table, l2, megabytes):
    gpu = load_gpu("l4")
    count = megabytes * 10**6 // 12
    path = table(f"l4,sum,count={count},1e-3,{l2},graph,1e6", header="gpu,kernel,sizes,time_s,l2,method,dram_write_bytes\n")
    data = load_file(path)
    (found,) = predict([data], ["tile", "roofline"]).outcomes
    written = found.counters["tile"]["dram_write_bytes"]
    result = run(gpu, build_program(gpu, found.row.workload, "copy"), l2=l2)
    stored = result.dram_write_bytes
    kept = gpu.l2.dirty_share * gpu.l2.capacity
    assert gpu.l2.partitions == 1
    assert stored >= found.row.workload.nbytes
    if l2 == "dirty":
        assert written == stored + result.evicted_bytes > stored
    elif l2 == "cold":
        assert written == pytest.approx(max(0, stored - kept))
    else:
        assert written == (0 if stored <= kept else stored)
    assert found.counters["roofline"]["dram_write_bytes"] == 4 * count


@pytest.mark.parametrize(("columns", "cells", "message"), [
    ("l2_hit_rate", "63", "column l2_hit_rate: must be a share from 0 to 1, got 63; is it in percent? Then write 0.63"),
    ("tensor_util", "1.2", "column tensor_util: must be a share from 0 to 1, got 1.2; is it in percent? Then write 0.012"),
    ("xu_util", "1200", "column xu_util: must be a share from 0 to 1, got 1200; correct it, or leave it empty"),
    ("fma_util", "-0.1", "column fma_util: must be at least 0, got -0.1; correct it, or leave it empty"),
    ("dram_write_bytes", "-1", "column dram_write_bytes: must be at least 0, got -1; correct it, or leave it empty"),
    ("dram_read_bytes", "1 MB", "column dram_read_bytes: must be a number without a unit, got '1 MB'"),
    ("dram_read_bytes", "nan", "column dram_read_bytes: must be a number without a unit, got 'nan'"),
    ("dram_read_bytes", "7e6", "column dram_read_bytes: must be bytes of one run, and l4 moves at most 6 MB in 20 us, got 7 MB; "
                               "are they of all repeats, or the time of another run?"),
    ("dram_read_bytes,dram_write_bytes", "3e6,4e6", "column dram_write_bytes: must be bytes of one run, and l4 moves at most 6 MB "
                                                    "in 20 us, got 3 MB + 4 MB; are they of all repeats, or the time of another run?"),
    ("dram_read_bytes", "394", "column dram_read_bytes: must be at least the inputs, which are not in L2, 393 kB, got 394 B; is it in "
                               "kB or MB? Then write bytes"),
    ("cycles", "4e6", "column cycles: must be SM cycles of the same run, at 100 MHz to 5 GHz, got 4e+06 in 20 us; are they summed "
                      "over SMs, or is the time in another unit than its column's?"),
])
def test_a_counter_that_cannot_be_is_named_with_its_place(table, columns, cells, message):
    path = table(ROW + cells, header=f"{HEADER}{columns}\n")
    place = len(ROW) + 1
    if "dram_write_bytes" in message and "," in columns:
        place += len("3e6,")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'data/rows.csv:2:{place}: {message}')}$"):
        load_file(path)


def test_the_place_of_a_cell_after_a_quoted_one(table):
    line = ROW.replace("l4,", '"l4",').replace("flash,", '"flash",') + '"a ""b"", c",7'
    path = table(line, header=f"{HEADER}reason,alu_util\n")
    with pytest.raises(ConfigError, match=rf"^data/rows\.csv:2:{len(line)}: column alu_util: must be a share"):
        load_file(path)


@pytest.mark.parametrize("name", sorted(SHARES))
def test_shares_of_several_replays_may_be_a_little_above_1(table, name):
    (row,) = load_file(table(f"{ROW}1.01,", header=f"{HEADER}{name},dram_read_bytes\n")).rows
    assert row.counters == ((name, 1.01),)


def test_cycles_give_the_clock_of_a_profiled_row_alone(table):
    path = table(f"{ROW}30000,", f"{ROW}30000,1e9", ROW.replace("ncu", "events") + "30000,", header=f"{HEADER}cycles,sm_clock_hz\n")
    assert [r.protocol.clock for r in load_file(path).rows] == [pytest.approx(1.5e9), 1e9, None]


def test_what_is_not_predicted_is_said_and_zero_bytes_are_left_out(table):
    path = table(f"{ROW}0.5,5e5,0", f"{ROW}0.5,5e5,1e5", header=f"{HEADER}l2_hit_rate,dram_read_bytes,dram_write_bytes\n")
    findings = predict([load_file(path)], ["roofline", "tile"])
    notes = validation_counters.notes(findings, ["roofline", "tile"])
    assert "roofline predicts no l2_hit_rate" in notes
    assert "dram_write_bytes: 1 rows with 0 measured bytes have no relative error and are left out" in notes
    assert set(findings.outcomes[0].counters["roofline"]) == set(ROOFLINE)
    counts = {(rung, name): s.count for _, rung, name, s in validation_counters.scores(findings, ["roofline", "tile"])}
    assert counts == {("roofline", "dram_read_bytes"): 2, ("roofline", "dram_write_bytes"): 1, ("tile", "dram_read_bytes"): 2,
                      ("tile", "dram_write_bytes"): 1, ("tile", "l2_hit_rate"): 2}


def test_rows_without_counters_have_none(table):
    findings = predict([load_file(table("l4,flash,prefill,1,4,4,256,256,64,true,2e-5"))], ["roofline", "tile"])
    assert findings.outcomes[0].counters == {}
    assert validation_counters.to_json(findings, ["roofline", "tile"]) == {"scores": [], "notes": []}
    assert validation_counters.picture(findings, ["roofline", "tile"]) is None


def test_table_json_csv_and_picture(tmp_path, capsys):
    path = measured(tmp_path / "out", lambda name, value: value * (0.5 if name in SHARES else 1.25), 2)
    command.validate(data=[path], engine="numba", report=str(tmp_path / "report"))
    shown = capsys.readouterr().out
    assert "Errors of predicted counters" in shown
    command.validate(data=[path], engine="numba", as_json=True)
    found = json.loads(capsys.readouterr().out)
    scores = {(s["model"], s["counter"]): s for s in found["counters"]["scores"]}
    assert scores["tile", "dram_read_bytes"]["bias"] == pytest.approx(-0.2, rel=1e-4)
    assert scores["tile", "dram_read_bytes"]["errors"] == "relative"
    assert scores["tile", "fma_util"]["errors"] == "difference"
    assert scores["tile", "fma_util"]["worst_where"].startswith(str(path))
    assert "dram_write_bytes" not in {name for _, name in scores}
    rows = list(csv.DictReader((tmp_path / "report" / "rows.csv").read_text().splitlines()))
    for row, plain in zip(rows, found["rows"], strict=True):
        assert float(row["tile_fma_util"]) == pytest.approx(2 * float(row["fma_util"]), rel=1e-4)
        assert float(row["tile_fma_util_error"]) == pytest.approx(plain["fma_util"], rel=1e-4)
        assert float(row["tile_dram_read_bytes_error"]) == pytest.approx(-0.2, rel=1e-4)
        assert row["roofline_fma_util"] == ""
    svg = (tmp_path / "report" / "counters.svg").read_text()
    assert [name for name in COUNTERS if f">{name}<" not in svg] == []
    assert (tmp_path / "report" / "counters.png").is_file()


def test_worst_rows_are_named_without_what_their_group_says(tmp_path):
    findings = predict([load_file(measured(tmp_path / "out", lambda _, value: value, 1))], ["tile"])
    (line, *_) = validation_counters.lines(findings, ["tile"])
    assert Group(*line[:3]) == Group("out", "a100_sxm_80gb", "flash")
    assert line[5].startswith("prefill b1 h8/4 512x1024 d64 causal")


@pytest.mark.parametrize(("limit", "met"), [(0.21, True), (0.19, False)])
def test_a_threshold_of_a_counter(tmp_path, monkeypatch, limit, met):
    path = measured(tmp_path / "out", lambda _, value: value / 1.2 if value > 1 else value - 0.2 * value, 2)
    (tmp_path / "thresholds.yaml").write_text(
        f"thresholds:\n  - {{set: out, counter: dram_read_bytes, mean: {limit}, p90: {limit}}}\n")
    (threshold,) = read_thresholds(tmp_path / "thresholds.yaml")
    (verdict,) = judge([threshold], predict([load_file(path)], ["tile"]).outcomes, ["tile"])
    assert verdict.reached["mean"] == pytest.approx(0.2, rel=1e-4)
    assert verdict.missed == ([] if met else ["mean", "p90"])
    monkeypatch.setattr(sets, "directory", lambda: tmp_path)
    if not met:
        (tmp_path / "measurements" / "layouts").mkdir(parents=True)
        (tmp_path / "out" / "meta.yaml").write_text(
            "title: t\nsource: s\nlicence: none\ntrust: A\nl2: cold\nmethod: ncu\nkernels:\n  flash: {schedule: flash, options: {path: auto}}\n")
        with pytest.raises(ThresholdError, match=r"out dram_read_bytes: mean error of tile is 20\.0%, above its limit of 19\.0%"):
            command.validate(data=[path], engine="numba")


@pytest.mark.parametrize(("entry", "message"), [
    ("{set: a, counter: dram_bytes, mean: 5 %}",
     f"counter: must be one of {', '.join(COUNTERS)}, got 'dram_bytes' (did you mean 'dram_read_bytes'?)"),
    ("{set: a, counter: l2_hit_rate, mean: 5 %, tau: 0.9}", "tau: is of times, not of a counter; write another threshold for it"),
    ("{set: a, tau: 1.1}", "tau: must be at most 1, got 1.1; it is the least rank correlation"),
])
def test_a_bad_threshold(tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(f"thresholds:\n  - {entry}\n")
    with pytest.raises(ConfigError, match=rf"^t\.yaml:2:\d+: {re.escape(message)}$"):
        read_thresholds(type(tmp_path)("t.yaml"))
