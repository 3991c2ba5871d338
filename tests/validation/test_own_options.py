"""Options that a row states: obeyed by the models, refused where no kernel of the name has them."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kernels.measure.cases import text_of
from kernels.measure.tilings import PREFILL_TILINGS, PREFILL_VARIANTS
from kernels.ops.measured import FLASH_DEFAULTS, KIVI_DEFAULTS, ONLY, TURBO_DEFAULTS
from turbosim import simulate, simulate_kernel
from turbosim.errors import ConfigError
from turbosim.validation.jobs import triton_file
from turbosim.validation.meta import read_meta
from turbosim.validation.predict import jobs_of, predict, unmodelled
from turbosim.validation.row import TILING
from turbosim.validation.sets import directory, load_file, load_set
from turbosim.workload import CopyBytes, Gemm, Phase

ROOT = Path(__file__).resolve().parents[2]
HEADER = "gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s,options\n"
START = "l4,flash,prefill,1,4,4,256,256,64,true,2e-5,"
DEFAULTS = {"flash": FLASH_DEFAULTS, "turbo": TURBO_DEFAULTS, "kivi": KIVI_DEFAULTS}
TIDY = read_meta(directory() / "measurements" / "layouts" / "tidy.yaml").kernels


def tidy(folder, *rows):
    """Write rows of (kernel, phase, options) without a meta file; return the data set."""
    path = folder / "own.csv"
    path.write_text(HEADER + "".join(
        f"a100_sxm_80gb,{kernel},{phase},2,8,8,{1 if phase == 'decode' else 1024},1024,128,{phase == 'prefill'},1e-4,{text_of(options)}\n"
        for kernel, phase, options in rows))
    return load_file(path)


def variants():
    """Return (kernel, phase, options) of all that the full suite measures, and some more tilings."""
    dice = random.Random(0)
    for kernel, defaults in DEFAULTS.items():
        yield kernel, "decode", defaults
        for tiling in PREFILL_TILINGS.get(kernel, ()):
            yield kernel, "prefill", defaults | tiling
            yield kernel, "prefill", defaults | tiling | {"warps": dice.choice((2, 4, 8))}
    for form in PREFILL_VARIANTS:
        yield "turbo", "prefill", TURBO_DEFAULTS | form


def test_every_option_of_the_projects_kernels_is_known(tmp_path):
    data = tidy(tmp_path, *variants())
    assert len(data.rows) == len(list(variants()))
    for name, defaults in DEFAULTS.items():
        only = {n: p for n, p in ONLY.items() if n in defaults}
        assert TIDY[name].only == (only if name != "kivi" else {})


def test_models_take_the_tiling_of_the_row(tmp_path):
    for row, (kernel, phase, options) in zip(tidy(tmp_path, *variants()).rows, variants(), strict=True):
        for rung in ("tile", "sass"):
            for job in jobs_of(row, TIDY[kernel], rung, row.gpu):
                taken = dict(job.options)
                names = {"warps": "num_warps", "stages": "num_stages"}
                for name in TILING:
                    there = taken.get(name if rung == "tile" else names.get(name, name.upper()))
                    stated = options.get(name)
                    if (kernel == "kivi" and name == "warps") or ONLY.get(name, Phase(phase)).value != phase:
                        assert there is None
                    else:
                        assert there == (stated or None)


@pytest.mark.parametrize(("form", "tile", "sass"), [
    ({"sas": "exp2"}, {"sas": False}, {"VARIANT": 0}), ({"sas": "naive"}, {"sas_variant": "naive"}, {"VARIANT": 1}),
    ({"convert": "cast"}, {"convert": "i2f"}, {"CONVERT": True}), ({"p_scale": "row"}, {"p_scale": "row"}, {"P_SCALE": 2}),
    ({"q_scale": "row"}, "q_scale=row: its schedule has no scales of the rows of Q", {"Q_ROW": True}),
    ({"quantise": True}, {}, "quantise=true: only the product is compiled and not what quantises before it")])
def test_variants_of_turbo_are_translated_or_not_predicted(tmp_path, form, tile, sass):
    (row,) = tidy(tmp_path, ("turbo", "prefill", TURBO_DEFAULTS | form)).rows
    for rung, wanted in (("tile", tile), ("sass", sass)):
        jobs = jobs_of(row, TIDY["turbo"], rung, row.gpu)
        if isinstance(wanted, str):
            assert jobs == []
            assert unmodelled(row, TIDY["turbo"], rung) == wanted
        else:
            (job,) = jobs
            assert dict(job.options).items() >= wanted.items()


def test_warps_that_kivis_schedule_has_not_are_a_reason(tmp_path):
    data = tidy(tmp_path, ("kivi", "decode", KIVI_DEFAULTS), ("kivi", "decode", KIVI_DEFAULTS | {"warps": 8}))
    four, eight = predict([data], ["tile"]).outcomes
    assert set(four.times) == {"tile"}
    assert eight.reasons == {"tile": "warps=8: its schedule has four warps"}


def test_a_stated_tiling_is_in_place_of_the_list():
    data = load_set("triton_matmul_a100")
    model = data.meta.kernels["Triton"]
    row = next(r for r in data.rows if r.kernel == "Triton" and r.workload.m == 512)
    assert len(jobs_of(row, model, "tile", row.gpu)) == len(model.tilings) == 6
    own = replace(row, options=(("block_m", "64"), ("block_n", "64"), ("block_k", "32"), ("stages", "3"), ("warps", "4")))
    (found,) = predict([replace(data, rows=(own,))], ["tile"]).outcomes
    wanted = simulate(row.gpu, Gemm(512, 512, 512), "gemm", launch="stream", l2="dirty", options={
        **model.options, "block_m": 64, "block_n": 64, "block_k": 32, "stages": 3, "warps": 4})
    assert found.times["tile"] == wanted.time_s + row.protocol.overhead
    # What the row leaves open is still tried.
    half = replace(row, options=(("block_m", "128"), ("block_k", "32")))
    tried = [dict(j.options) for j in jobs_of(half, model, "tile", row.gpu)]
    assert {(t["block_m"], t["block_k"]) for t in tried} == {(128, 32)}
    assert len({tuple(sorted(t.items())) for t in tried}) == len(tried) == 5


def test_tritons_names_are_those_of_the_project(table):
    path = table(START + "BLOCK_M=64:BLOCK_N=32:num_warps=4:num_stages=2", START + "block_m=64:block_n=32:warps=4:stages=2", header=HEADER)
    first, second = load_file(path).rows
    assert dict(first.options) == dict(second.options) == {"block_m": "64", "block_n": "32", "warps": "4", "stages": "2"}
    assert first.tiling == "block_m=64:block_n=32:warps=4:stages=2"


@pytest.mark.parametrize(("options", "place", "message"), [
    ("warps=4:blck_m=64", 8, "kernel 'flash' has no option 'blck_m': it has path, block_m, block_n, warps, stages, splits, pieces, "
                             "order, paged, cache_write, sync (did you mean 'block_m'?)"),
    ("num_warp=4", 0, "kernel 'flash' has no option 'num_warp': it has path, block_m, block_n, warps, stages, splits, pieces, order, "
                      "paged, cache_write, sync (did you mean 'warps'?)"),
    ("block_m=64:BLOCK_M=128", 11, "option block_m is there twice; drop one"),
    ("block_m=64:block_m=128", 0, "has block_m twice: block_m=64:block_m=128; drop one"),
    ("block_m=0", 0, "option block_m must be a whole number of at least 1, got '0'"),
    ("block_m=64:warps=four", 11, "option warps must be a whole number of at least 0 (the kernel's own choice), got 'four'"),
    ("warps=4:path=foo", 8, "option path must be one of auto, mma.sync, wgmma, tcgen05, got 'foo'"),
    ("path=wgma", 0, "option path must be one of auto, mma.sync, wgmma, tcgen05, got 'wgma' (did you mean 'wgmma'?)"),
    ("sync=mbarier", 0, "option sync must be one of barrier, mbarrier, got 'mbarier' (did you mean 'mbarrier'?)"),
    ("pieces=x", 0, "kernel 'flash': option pieces must be a whole number, got 'x'"),
])
def test_an_option_that_no_kernel_of_the_name_has_is_refused_with_its_place(table, options, place, message):
    path = table(START + options, header=HEADER)
    where = f"data/rows.csv:2:{len(START) + 1 + place}: column options: {message}"
    with pytest.raises(ConfigError, match=f"^{re.escape(where)}$"):
        load_file(path)


def test_a_value_that_the_kernel_does_not_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r":2:\d+: column options: option sas must be one of exponent, table, naive, exp2, got 'tabel' "
                                          r"\(did you mean 'table'\?\)$"):
        tidy(tmp_path, ("turbo", "prefill", {"sas": "tabel"}))


def test_options_of_a_kernel_without_a_model_are_not_judged(table):
    (row,) = load_file(table(START.replace("flash", "other") + "anything=goes", header=HEADER)).rows
    assert row.options == (("anything", "goes"),)


OWN_WORK = [("gemm", Gemm(512, 512, 512), "m=512:n=512:k=512", text) for text in (
    "", "block_m=64:block_n=64:block_k=32:stages=3:warps=4", "block_m=128:group_m=1", "BLOCK_M=64:num_warps=4", "path=mma.sync")] + [
    ("copy", CopyBytes(4 * 1024 * 1024), "columns=1024:rows=1024", text) for text in ("", "tile_bytes=16384", "stages=1:ctas_per_sm=2")]


@pytest.mark.parametrize(("kernel", "work", "sizes", "options"), OWN_WORK)
def test_schedules_of_other_work_than_attention_are_predicted_without_a_meta_file(tmp_path, monkeypatch, kernel, work, sizes, options):
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(f"gpu,kernel,sizes,time_s,l2,method,options\na100_sxm_80gb,{kernel},{sizes},3e-5,cold,graph,{options}\n")
    (found,) = predict([load_file(Path("own.csv"))], ["tile"]).outcomes
    named = {"BLOCK_M": "block_m", "num_warps": "warps"}
    stated = {named.get(n, n): v for n, v in (part.split("=") for part in options.split(":") if part)}
    wanted = simulate("a100_sxm_80gb", work, kernel, launch="graph", l2="cold", options=stated)
    assert found.times == {"tile": wanted.time_s}


def test_a_decode_does_not_look_at_options_of_prefill(tmp_path):
    with_m, without = tidy(tmp_path, ("flash", "decode", FLASH_DEFAULTS), ("flash", "decode", {"block_n": 64})).rows
    assert jobs_of(with_m, TIDY["flash"], "tile", with_m.gpu) == jobs_of(without, TIDY["flash"], "tile", without.gpu)


def test_lifted_code_is_of_the_rows_tiling_and_what_does_not_compile_is_counted(tmp_path, triton_cache):
    """In a process of its own, since Triton's interpreter may be on in this one."""
    tilings = [(64, 32, 4, 2), (32, 64, 2, 3), (48, 64, 4, 2)]
    lines = [f"a100_sxm_80gb,flash,prefill,1,2,2,512,512,64,true,3e-5,cold,graph,block_m={m}:block_n={n}:warps={w}:stages={s}"
             for m, n, w, s in tilings]
    (tmp_path / "own.csv").write_text(HEADER.replace("options", "l2,method,options") + "\n".join(lines) + "\n")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {
        "TRITON_CACHE_DIR": triton_cache, "PYTHONPATH": str(ROOT)}
    script = ("import json, sys\nfrom pathlib import Path\nfrom turbosim.validation.predict import predict\n"
              "from turbosim.validation.sets import load_file\nfrom turbosim.views.validation import unpredicted\n"
              "from tests.validation.test_own_options import lifted\n"
              "found = predict([load_file(Path('own.csv'))], ['sass'])\n"
              "print(json.dumps([[o.times.get('sass') for o in found.outcomes], lifted(), unpredicted(found, ['sass'])]))\n")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    times, by_hand, notes = json.loads(done.stdout)
    assert times[:2] == by_hand
    assert times[0] != times[1]
    assert times[2] is None
    (note,) = notes
    assert re.fullmatch(r"own a100_sxm_80gb flash: sass predicts 1 of 3 rows not: .+flash\.py:\d+:\d+: does not compile: arange's "
                        r"range must be a power of 2", note)


def lifted():
    """Return the times of the two tilings that compile, each simulated by itself [s]."""
    sizes = {"batch": 1, "heads": 2, "kv_heads": 2, "queries": 512, "keys": 512, "HEAD_DIM": 64, "CAUSAL": True}
    return [simulate_kernel("a100_sxm_80gb", triton_file("kernels/flash.py:fwd"), sizes | {
        "BLOCK_M": m, "BLOCK_N": n, "num_warps": w, "num_stages": s}).time_s for m, n, w, s in ((64, 32, 4, 2), (32, 64, 2, 3))]
