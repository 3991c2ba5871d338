"""Reading data sets: what rows mean, and what is refused."""

import itertools
import re
from pathlib import Path

import pytest

from turbosim.errors import ConfigError, UsageError
from turbosim.validation.meta import read_meta
from turbosim.validation.row import Convention, Protocol
from turbosim.validation.sets import list_sets, load_file, load_set
from turbosim.workload import Attention, Gemm, Phase

GOOD = "l4,flash,prefill,1,4,4,256,256,64,true,2e-5"


def test_committed_sets_have_all_rows_of_a_known_kernel():
    counts = {name: len(load_set(name).rows) for name in list_sets()}
    assert counts == {
        "flashattention3_figure_h100": 36, "flashattention3_figure_h100_fa3": 29, "flashattention3_h100_1500mhz": 24,
        "inductor_int_mm_rtx4090": 3, "inductor_mm_h100": 170, "inductor_mm_h100_class": 5, "inductor_mm_l40s": 4,
        "profiled_attention_h100": 6, "sageattention_figure": 128, "tilelang_attention_h200": 36,
        "tileops_attention_h200": 72,
        "triton_attention_a100": 110, "triton_matmul_a100": 155, "triton_matmul_h100_class": 36,
        "triton_softmax_a100": 61, "triton_vector_add_a100": 32}
    assert all(load_set(name).skipped == 0 for name in counts)


def test_published_rate_becomes_a_time_with_causal_flops_halved():
    row = next(r for r in load_set("flashattention3_figure_h100").rows if r.workload.causal)
    w = row.workload
    assert 2 * w.batch * w.q_heads * w.seq_q**2 * w.head_dim / row.time_s / 1e12 == pytest.approx(180)


@pytest.mark.parametrize(("convention", "flops"), [
    (Convention.DENSE, 4 * 2 * 4 * 8 * 8 * 64), (Convention.CAUSAL_HALVED, 2 * 2 * 4 * 8 * 8 * 64),
    (Convention.UNMASKED, 4 * 2 * 4 * 36 * 64)])
def test_conventions(convention, flops):
    assert convention.flops(Attention(2, 4, 4, 8, 8, 64, True, Phase.PREFILL)) == flops


def test_locked_clock_and_profiler_are_part_of_the_protocol():
    assert load_set("flashattention3_h100_1500mhz").rows[0].protocol == Protocol("cold", "ncu", 1.5e9)
    assert load_set("tileops_attention_h200").rows[0].protocol == Protocol("dirty", "ncu", 1.5e9)


def test_a_clock_that_the_power_limit_may_lower_is_part_of_the_protocol():
    for name in ("flashattention3_figure_h100", "flashattention3_figure_h100_fa3"):
        assert load_set(name).rows[0].protocol == Protocol("warm", "events", highest=1.83e9)


def test_bandwidth_counts_what_is_read_and_written():
    row = load_set("triton_vector_add_a100").rows[0]
    assert row.stream == (8 * 4096, 4 * 4096)
    assert row.time_s == pytest.approx(12 * 4096 / 9.6e9)
    assert row.workload.nbytes == 6 * 4096


def test_a_row_of_the_tidy_schema(table):
    path = table("NVIDIA A100-SXM4-80GB,flash,decode,2,8,4,1,512,64,false,1e-4,warm,graph,1.2e9,block_m=64:warps=0",
                 header="gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s,l2,method,sm_clock_hz,options\n")
    (row,) = load_file(path).rows
    assert row.gpu == "a100_sxm_80gb"
    assert row.workload == Attention(2, 8, 4, 1, 512, 64, False, Phase.DECODE)
    assert row.protocol == Protocol("warm", "graph", 1.2e9)
    assert row.where == "data/rows.csv:2"


def test_rows_that_failed_and_micro_benchmarks_are_counted_not_compared(table):
    header = "gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s,status\n"
    data = load_file(table(f"{GOOD},ok", "l4,flash,prefill,1,4,4,256,256,64,true,,wrong", "l4,copy,micro,,,,,,,,1e-5,ok",
                           header=header))
    assert (len(data.rows), data.skipped) == (1, 2)


LATENCY = "system,phase,kernel_source,batch_size,isl,step,num_heads,num_key_value_heads,head_dim,latency\n"


def test_latency_layout_is_in_ms_and_one_token_is_a_decode(tmp_path):
    path = tmp_path / "serving.csv"
    path.write_text(LATENCY + "a100_sxm,prefill,vllm_flash_attn,2,1024,3072,8,4,128,0.5\n"
                    "a100_sxm,prefill,vllm_flash_attn,2,1,0,8,4,128,0.03\n"
                    "h100_sxm,decode,vllm_flash_attn_fa3,2,1024,31,8,4,128,0.03\n")
    chunk, one, decode = load_file(path).rows
    assert chunk.workload == Attention(2, 8, 4, 1024, 4096, 128, True, Phase.PREFILL)
    assert chunk.time_s == pytest.approx(5e-4)
    assert chunk.protocol == Protocol("warm", "graph")
    assert one.workload == Attention(2, 8, 4, 1, 1, 128, False, Phase.DECODE)
    assert decode.workload.seq_k == 1055


def test_gemm_and_metric_layouts(tmp_path):
    gemm = tmp_path / "gemm.csv"
    gemm.write_text("system,gemm_dtype,m,n,k,latency\na100_sxm,sq,64,128,256,0.02\n")
    assert load_file(gemm).rows[0].workload == Gemm(64, 128, 256)
    assert load_file(gemm).rows[0].dtype == "int8"
    metric = tmp_path / "metric.csv"
    metric.write_text("gpu,kernel,batch,heads,kv_heads,seq_q,seq_k,head_dim,causal,metric,value\n"
                      "a100_sxm_80gb,torch.matmul,,,,64.0,128.0,256.0,,us,20\n"
                      "a100_sxm_80gb,torch gelu,,,,,,,,gelements/s,20\n")
    data = load_file(metric)
    assert (data.rows[0].workload, data.rows[0].time_s, data.skipped) == (Gemm(64, 128, 256), pytest.approx(2e-5), 1)


def test_elementwise_kernels_of_the_metric_layout(tmp_path):
    path = tmp_path / "metric.csv"
    path.write_text("gpu,kernel,batch,heads,kv_heads,seq_q,seq_k,head_dim,causal,dtype,metric,value\n"
                    "A100-SXM4-80GB,Triton vector add,,,,4096,,,,fp32,gbps,9.6\n"
                    "A100-SXM4-80GB,torch.softmax,,,,4096,256,,,fp32,us,20\n"
                    "A100-SXM4-80GB,torch.softmax,,,,4096,256,,,fp16,us,20\n"
                    "A100-SXM4-80GB,torch.matmul,,,,256,256,256,,fp16,gbps,20\n")
    data = load_file(path)
    add, softmax = data.rows
    assert (add.stream, add.time_s, add.column, add.unit) == ((8 * 4096, 4 * 4096), pytest.approx(12 * 4096 / 9.6e9), "value", "GB/s")
    assert (softmax.stream, softmax.time_s, softmax.unit) == ((2**22, 2**22), pytest.approx(2e-5), "us")
    assert {r.protocol.l2 for r in data.rows} == {"dirty"}
    assert data.left_out() == ["metric: 2 lines left out: no time of attention, a matrix product or an elementwise kernel"]


def test_other_operands_make_another_kernel_in_the_metric_layout(tmp_path):
    path = tmp_path / "metric.csv"
    line = "RTX 3090,{},4,32,32,1024,1024,128,True,{},tflops,50\n"
    path.write_text("gpu,kernel,batch,heads,kv_heads,seq_q,seq_k,head_dim,causal,dtype,metric,value\n"
                    + line.format("FlashAttention-2", '"fp16 in/out, 8/4-bit inside"') + line.format("FlashAttention-2", "fp8_e5m2")
                    + line.format('"SageAttention 8+16 (INT8 QK, FP16 PV)"', "fp16"))
    data = load_file(path)
    assert [(r.kernel, r.dtype) for r in data.rows] == [
        ("FlashAttention-2", "fp16"), ("FlashAttention-2 (fp8_e5m2)", "fp8_e5m2"), ("SageAttention 8+16 (INT8 QK, FP16 PV)", "int8")]
    assert [data.model_of(r).schedule for r in data.rows] == ["flash", None, "sage"]


def test_a_kernel_that_nothing_is_said_of_has_a_reason(table):
    data = load_file(table(GOOD, "l4,flsh,prefill,1,4,4,256,256,64,true,2e-5"))
    assert [data.model_of(r).schedule for r in data.rows] == ["flash", None]
    assert data.model_of(data.rows[1]).why == (
        "unknown kernel 'flsh' (did you mean 'flash'?); say in data/meta.yaml how it is predicted")


@pytest.mark.parametrize(("line", "message"), [
    ("l5,flash,prefill,1,4,4,256,256,64,true,2e-5",
     "unknown GPU 'l5': neither a name from `turbosim hw list` nor one of a GPU that drivers or vendors use"),
    ("l4,flash,prefill,1,4,4,256,256,64,true", "has 10 cells, and there are 11 columns; texts with commas stand in double quotes"),
    ("l4,flash,prefill,1,4,4,256,256,64,true,", "has no time; fill in time_s, tflops or bandwidth_Bps"),
    ("l4,flash,prefill,1,4,4,256,256,64,true,2e-5 s", "column time_s must be a positive number without a unit, got '2e-5 s'"),
    ("l4,flash,prefill,1,4,4,256,256,64,true,nan", "column time_s must be a positive number without a unit, got 'nan'"),
    ("l4,flash,prefill,1,4,4,256,256,64,true,-1", "column time_s must be a positive number without a unit, got '-1'"),
    ("l4,flash,prefill,1.5,4,4,256,256,64,true,2e-5", "column batch must be a whole number of at least 1, got '1.5'"),
    ("l4,flash,prefill,1,4,3,256,256,64,true,2e-5", "attention: q_heads must be a multiple of kv_heads, got 4 and 3"),
    ("l4,flash,prefil,1,4,4,256,256,64,true,2e-5",
     "column phase must be one of prefill, decode, got 'prefil' (did you mean 'prefill'?)"),
    ("l4,flash,prefill,1,4,4,256,256,64,yes,2e-5", "column causal must be true or false, got 'yes'"),
    ("l4,flash,prefill,1,4,4,,256,64,true,2e-5",
     "neither attention (seq_q) nor other work: sizes must be m, n, k or rows, columns or count, got none"),
])
def test_a_bad_line_is_named(table, line, message):
    path = table(GOOD, line)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'data/rows.csv:3: {message}')}$"):
        load_file(path)


@pytest.mark.parametrize("source", ["simulated", "fake"])
def test_rows_that_measure_nothing_are_refused(table, source):
    path = table(f"{GOOD},{source}", header="gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s,source\n")
    with pytest.raises(ConfigError, match=re.escape(
            f"data/rows.csv:2: source is '{source}', which is no measurement; validate needs measured rows")):
        load_file(path)


@pytest.mark.parametrize(("text", "message"), [
    ("", "data/rows.csv: has no columns; a CSV file starts with their names"),
    ("gpu,kernel\n", "data/rows.csv: has columns, but no rows"),
    ("gpu,gpu\n1,2\n", "data/rows.csv:1: column 'gpu' is there twice"),
    ("gpu,kernel\nl4,\"fla\nsh\"\n",
     "data/rows.csv:2:4: not CSV: the double quote that starts here does not end in its line; close it, and write the text "
     "without a line break"),
    ("gpu,kernel\n\"l4,flash\n", "data/rows.csv:2:1: not CSV: the double quote that starts here does not end in its line; "
                                "close it, and write the text without a line break"),
    ("# a; b\ngpu;kernel;time_s\nl4;flash;2e-5\n",
     "data/rows.csv:2:1: columns are separated by ';'; use commas, with points in decimal numbers"),
    ('"gpu, or card"\t"kernel"\nl4\tflash\n',
     "data/rows.csv:1:1: columns are separated by tabs; use commas, with points in decimal numbers"),
    ("kernel,GPU\nflash,l4\n", "data/rows.csv:1:8: column 'GPU' must be 'gpu'"),
    ("gpu,kernel,TIME_S\nl4,flash,1\n", "data/rows.csv:1:12: column 'TIME_S' must be 'time_s'"),
    ("a,b\n1,2\n", "data/rows.csv:1: the columns are of no known layout (metric, latency, gemm, tidy); nearest is tidy, "
                   "which also has gpu, kernel"),
])
def test_a_file_that_is_no_table(table, text, message):
    path = table(header=text)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_file(path)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_files_of_spreadsheets_are_read(tmp_path, table, mark, ends):
    expected = load_file(table("# a comment", GOOD, '"l4","flash",prefill,1,4,4,512,512,64,true,6e-5')).rows
    path = tmp_path / "data" / "rows.csv"
    path.write_bytes(mark + path.read_text().replace("\n", ends).encode())
    assert load_file(path.relative_to(tmp_path)).rows == expected
    assert len(expected) == 2


def test_columns_that_differ_in_capitals_may_stand_beside_each_other(table):
    (row,) = load_file(table(f"{GOOD},NVIDIA L4", header="gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s,GPU\n")
                       ).rows
    assert row.gpu == "l4"


@pytest.mark.parametrize("sizes", list(itertools.permutations(["m=1024", "n=1024", "k=1024", "k=2048"])), ids=":".join)
def test_a_size_that_is_there_twice_is_refused(table, sizes):
    text = ":".join(sizes)
    path = table(f"l4,gemm,{text},2e-5", header="gpu,kernel,sizes,time_s\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'data/rows.csv:2:9: column sizes: has k twice: {text}; drop one')}$"):
        load_file(path)


def test_missing_file_and_unknown_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^none\.csv: cannot be read: No such file or directory$"):
        load_file(Path("none.csv"))
    with pytest.raises(UsageError, match=r"unknown data set 'triton_softmax': not among .* \(did you mean 'triton_softmax_a100'\?\)"):
        load_set("triton_softmax")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("trust: A", "trust: E", "meta.yaml:4:1: trust: must be one of A, B, C, D, got 'E'"),
    ("l2: cold", "l2: cold\nevent_overhead: {value: 2 GB, source: none}",
     "meta.yaml:6:18: event_overhead.value: must be a time: '2 GB': unit 'GB' does not measure s; write for example '650 ns'"),
    ("l2: cold", "l2: cold\nclock: 1500",
     "meta.yaml:6:1: clock: must be 'not locked', a frequency or 'at most ' and one: 1500 has no unit; write for example '1500 MHz'"),
    ("l2: cold", "l2: cold\nclock: 1500 MB",
     "meta.yaml:6:1: clock: must be 'not locked', a frequency or 'at most ' and one: '1500 MB': unit 'MB' does not measure Hz; "
     "write for example '1.98 GHz'"),
    ("flash: {schedule: flash}", "flash: {schedule: flash, options: {blck_m: 1}}",
     "meta.yaml:9:38: kernels.flash.options.blck_m: kernel 'flash' has no option 'blck_m' (did you mean 'block_m'?)"),
    ("flash: {schedule: flash}", "flash: {}",
     "meta.yaml:9:3: kernels.flash: needs either a schedule or, under why, the reason that there is none"),
])
def test_a_bad_meta_file(table, old, new, message):
    path = table(GOOD).with_name("meta.yaml")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=f"^{re.escape(f'data/{message}')}$"):
        read_meta(path)
