"""Files of micro-benchmarks are read; whatever else there is, is refused with its place."""

import re
from pathlib import Path

import pytest

from tests.calibration.conftest import BENCHES, SUITE, small_gpu, suite, write
from turbosim.calibration.benchmarks import Chase, Scale, SharedRead, Stream, TileRead
from turbosim.calibration.rows import read_micro
from turbosim.errors import ConfigError, UsageError
from turbosim.hw import load_gpu
from turbosim.validation.sets import directory

ONLY = "hardware is fitted on micro-benchmarks only, so that kernels it is to predict stay unseen; give a file without such rows"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path()


def bench(kernel="stream read", value="100", notes="one block/SM of 64 threads, 1 threads in all, 6% occupancy", **more):
    return {"source": "s", "gpu": "A100 80GB", "kernel": kernel, "metric": "gbps", "value": value, "notes": notes, **more}


def read(here, *rows, columns=BENCHES, gpu="a100_sxm_80gb", wanted=None):
    return read_micro(write(here / "rows.csv", columns, rows), load_gpu(gpu), wanted)


def test_every_kind_of_row_of_gpu_benches(here):
    found = read(
        here, bench(), bench("stream init (write)"),
        bench("L2/DRAM load bandwidth, shared buffer", notes="10240 kB total working set, 512 kB chunk; spread 1%"),
        bench("pointer chase", "444.0", "working set 1000 kB; 211.0 cycles at 1000 MHz", metric="ns"),
        bench("pointer chase", "444.0", "working set 20000 kB; 300.0 cycles at 1000 MHz", metric="ns"),
        bench("pointer chase", "444.0", "working set 90000 kB; 571.0 cycles at 1000 MHz", metric="ns"),
        bench("back-to-back scale kernel, CUDA graph", "49.0", "N=4096 doubles, traffic"),
        bench("back-to-back scale kernel, CUDA graph", "1000", "N=655360 doubles, traffic"),
        bench("stream 5pt"), bench(gpu="H200"))
    assert [(r.curve, r.benchmark, r.fitted) for r in found.rows] == [
        ("stream read", Stream(1, 0, 64), True), ("stream write", Stream(0, 1, 64), False),
        ("L2 and DRAM read", SharedRead(20), True), ("latency, L2 near", Chase("near"), True),
        ("latency, DRAM", Chase("dram"), True), ("launch, graph", Scale(4096, "graph"), True),
        ("launch, graph", Scale(655360, "graph"), False)]
    assert [r.measured for r in found.rows[2:6]] == pytest.approx([1e-11, 211e-9, 571e-9, 16 * 4096 / 49e9])
    assert {r.clock for r in found.rows} == {1e9}
    assert found.skipped == {"pointer chase between two levels of memory": 1,
                             "stencils reuse L1, which is not modelled": 1, "of another GPU": 1}


def test_the_suite_is_read(here):
    rows = suite(small_gpu(), 0.0, 0)
    found = read(here, *rows, {**rows[0], "kernel": "exp2", "sizes": "ctas=1:iterations=1:elements=1"},
                 {**rows[0], "status": "failed", "time_s": ""}, columns=SUITE, gpu="l4")
    assert len(found.rows) == len(rows) - 5
    assert len(found.clocks) == 5
    assert found.skipped == {"of a unit of the SM, whose rates are not fitted": 1, "not timed": 1}
    assert {r.curve for r in found.rows} == {"copy, cold, events", "copy, warm, events", "copy, warm, graph",
                                             "l2_read, warm, events", "empty, events", "empty, graph"}


def test_reads_of_tiles_are_predicted_and_not_fitted(here):
    gpu = small_gpu()
    row = {**suite(gpu, 0.0, 0)[0], "kernel": "tile_read", "sizes": "ctas=32:rows=64:piece=128:depth=8192",
           "options": "stages=5:warps=4", "l2": "cold", "method": "graph", "time_s": "4e-5"}
    (found,) = read(here, row, columns=SUITE, gpu="l4").rows
    assert not found.fitted
    assert (found.curve, found.x, found.measured) == ("tile_read, pieces of 128 B, cold, graph", 32, 4e-5)
    assert found.benchmark == TileRead(32, 8192, 128, 64, 5, 4, "cold", "graph")
    # At least what device memory takes, and the turns that four loads in flight leave to wait for.
    assert found.benchmark.seconds(gpu, 1.9e9) > max(32 * 8192 * 64 / gpu.hbm.bandwidth, 64 / 4 * gpu.hbm.latency)
    with pytest.raises(ConfigError, match=re.escape("rows.csv:2: column sizes has no piece, which tile_read needs")):
        read(here, {**row, "sizes": "ctas=32:rows=64:depth=8192"}, columns=SUITE, gpu="l4")


def test_rows_of_a_gpu_with_another_name(here):
    assert len(read(here, bench(gpu="L40"), gpu="l40s", wanted="L40").rows) == 1
    with pytest.raises(UsageError, match=re.escape(
            "rows.csv: no row was measured on l40s: there is L40; --gpu takes the rows of another name")):
        read(here, bench(gpu="L40"), gpu="l40s")


@pytest.mark.parametrize(("row", "message"), [
    (bench("flash", batch="4", heads="32", seq_q="1024", seq_k="1024", head_dim="64"),
     f"rows.csv:3: 'flash' is attention (column seq_q is filled); {ONLY}"),
    (bench("matmul", seq_q="1024", seq_k="1024"),
     f"rows.csv:3: 'matmul' is a kernel with sequences or sizes in their columns (column seq_q is filled); {ONLY}"),
    (bench("nonsense"), "rows.csv:3: unknown micro-benchmark 'nonsense': not among pointer chase, L2/DRAM load bandwidth, stream "
                        "init (write), stream read, stream scale (1r1w), stream triad (2r1w), back-to-back scale kernel, stream "
                        "launches, back-to-back scale kernel, CUDA graph"),
    (bench(metric="ms"), "rows.csv:3: column metric must be one of gbps, got 'ms'"),
    (bench(value="-1"), "rows.csv:3: column value must be a positive number without a unit, got '-1'"),
    (bench(notes="fast"), "rows.csv:3: column notes must begin like 'one block/SM of N threads', got 'fast'"),
    (bench("L2/DRAM load bandwidth", notes="1000 kB total working set, 512 kB chunk"),
     "rows.csv:3: a working set is a multiple of chunks of 512 kB, got 1000 and 512 kB")])
def test_other_rows_of_that_layout_are_refused(here, row, message):
    with pytest.raises(ConfigError, match=rf"^{re.escape(message)}$") as caught:
        read(here, bench(), row)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("change", "message"), [
    ({"phase": "prefill", "kernel": "flash"}, f"rows.csv:3: 'flash' is a kernel with sequences or sizes in their columns (phase is prefill); {ONLY}"),
    ({"phase": "", "kernel": "sum", "sizes": "count=4096"},
     f"rows.csv:3: 'sum' is no micro-benchmark (phase is '', not micro, sizes are count); {ONLY}"),
    ({"phase": "", "kernel": "Triton", "sizes": "m=64:n=64:k=64"},
     f"rows.csv:3: 'Triton' is no micro-benchmark (phase is '', not micro, sizes are m, n, k); {ONLY}"),
    ({"source": "simulated"}, "rows.csv:3: source is 'simulated', which is no measurement; calibrate needs measured rows"),
    ({"sizes": "ctas=4"}, "rows.csv:3: column sizes has no nbytes, which copy needs")])
def test_other_rows_of_the_suite_s_columns_are_refused(here, change, message):
    row = suite(small_gpu(), 0.0, 0)[0]
    with pytest.raises(ConfigError, match=rf"^{re.escape(message)}$"):
        read(here, row, {**row, **change}, columns=SUITE, gpu="l4")


@pytest.mark.parametrize("columns", [
    "gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s",
    "system,gemm_dtype,m,n,k,latency", "system,phase,kernel_source,batch_size,isl,step,num_heads,latency"])
def test_files_in_the_columns_of_other_kernels_are_refused(here, columns):
    (here / "rows.csv").write_text(f"{columns}\n{','.join('1' for _ in columns.split(','))}\n")
    with pytest.raises(ConfigError, match=re.escape(
            "rows.csv:1: the columns are of no micro-benchmarks: neither those of gpu-benches (kernel, metric, value, notes) nor of "
            "the micro suite (kernel, phase, sizes, time_s); hardware is fitted on nothing else, so that kernels it is to predict "
            "stay unseen")):
        read_micro(here / "rows.csv", load_gpu("l4"))


@pytest.mark.parametrize("path", sorted((directory() / "measurements" / "published").glob("*/rows.csv")), ids=lambda p: p.parent.name)
def test_no_committed_data_set_can_be_fitted_on(path):
    with pytest.raises(ConfigError):
        read_micro(path, load_gpu("a100_sxm_80gb"))


def test_a_folder_is_no_file(here):
    with pytest.raises(ConfigError, match=r"is a folder; --from takes a CSV file$"):
        read_micro(here, load_gpu("l4"))


def test_digests_name_what_a_line_says(here):
    rows = [bench(value=str(n)) for n in (1, 2)]
    first = read(here, *rows).rows
    again = read(here, rows[1], rows[0], columns=(*reversed(BENCHES), "more")).rows
    assert {r.digest for r in first} == {r.digest for r in again}
    assert len({r.digest for r in first}) == 2
