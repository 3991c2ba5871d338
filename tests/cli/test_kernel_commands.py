"""``lift``, ``sass`` and ``tune`` as processes, from a Triton function to a time, without a GPU."""

from __future__ import annotations

import json
import re

import pytest

FLASH = ["kernels/flash.py:fwd", "--set", "queries=1k", "--set", "heads=8", "--set", "num_warps=4"]
A100 = ["--hw", "a100_sxm_80gb"]
OWN = """\
import triton
import triton.language as tl


@triton.jit
def scale(X, Y, n, factor, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, tl.load(X + at, mask=at < n) * factor, mask=at < n)


@triton.jit
def wrong(X, Y, n, factor, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(X + at, tl.zeros([BLOCK // 2], tl.float32))


@triton.jit
def search(X, Y, n, factor, BLOCK: tl.constexpr):
    at = 0
    while tl.load(X + at) > factor:
        at += 1
    tl.store(Y, at)


def plain():
    pass
"""
DESCRIPTION = """\
kernel: own.py:scale
sizes: {n: 1000000}
constants: {BLOCK: 1024}
arguments:
  X: {dtype: fp32, shape: [n]}
  Y: {dtype: fp32, shape: [n]}
  n: n
  factor: 2.0
grid: ["cdiv(n, BLOCK)"]
flops: n
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.scale.yaml").write_text(DESCRIPTION)
    return tmp_path


@pytest.fixture(scope="session")
def trace(turbosim, tmp_path_factory):
    path = tmp_path_factory.mktemp("lifted") / "flash.trace"
    done = turbosim("lift", *FLASH, "--target", "sm_80", "-o", path)
    assert done.returncode == 0, done.stderr
    said = done.stderr.replace("compiling the issue-level model, once for this installation ...\n", "")
    assert said == f"note: costs are those of a100_sxm_80gb; --hw takes another GPU of sm_80\nwrote {path}\n"
    return path


def test_a_lifted_kernel_is_simulated(turbosim, trace):
    done = turbosim("simulate", *A100, "--trace", trace, "--json")
    assert (done.returncode, done.stderr.replace("compiling the engine, once for this installation ...\n", "")) == (0, "")
    result = json.loads(done.stdout)
    # Two products over half of the keys.
    assert result["useful_flops"] == 4 * 4 * 8 * 1024 * 1024 * 64 // 2
    assert result["options"]["gpu"] == "a100_sxm_80gb"
    assert result["options"]["BLOCK_N"] == 64
    peak = 108 * 1024 * 2 * 1.41e9
    assert result["useful_flops"] / peak < result["time_s"] < 20 * result["useful_flops"] / peak
    assert result["launches"][0]["ctas"] == 8 * 8 * 4
    assert result["dram_write_bytes"] >= 4 * 8 * 1024 * 64 * 2


def test_the_time_of_a_block_is_not_called_that_of_its_busiest_pipe(turbosim, trace):
    said = turbosim("simulate", *A100, "--trace", trace).stdout
    assert "in blocks busiest on" in said
    assert "running on" not in said
    assert "(inside blocks: turbosim sass)" in said


def test_a_trace_is_for_gpus_with_the_same_sm(turbosim, trace, tmp_path):
    def said(hw):
        done = turbosim("simulate", "--hw", hw, "--trace", trace)
        return done.returncode, done.stderr

    assert said("a100_2x_hbm") == (0, "")
    assert said("h100_sxm") == (
        2, "error: fwd: was lifted from sm_80 code for a100_sxm_80gb, and h100_sxm is sm_90; lift it again with --hw "
           "h100_sxm\n")
    (tmp_path / "faster.yaml").write_text(
        "name: faster\nextends: a100_sxm_80gb\ntitle: A100 with faster SFUs\nhypothetical: true\n"
        "pipes: {sfu: {rate: {value: 32 /clk, source: what_if}}}\nsources: {what_if: a design point}\n")
    assert said(tmp_path / "faster.yaml") == (
        0, "warning: fwd was lifted for a100_sxm_80gb, whose SM differs from that of faster: durations of its blocks are "
           "those of a100_sxm_80gb; lift it again with --hw faster\n")


def test_sass_lists_the_hot_loop(turbosim):
    done = turbosim("sass", *FLASH, *A100, "--json")
    assert done.returncode == 0, done.stderr
    loop = json.loads(done.stdout)
    lines = loop["instructions"]
    assert loop["is_loop"]
    # 128 x 64 and 128 x 64 products over 64: the body has them once, a warp a quarter.
    products = [x for x in lines if x["text"].partition(" ")[0] == "HMMA.16816.F32"]
    assert len(products) == 2 * 128 * 64 * 64 // 4 // (16 * 8 * 16)
    assert {x["pipe"] for x in products} == {"tensor"}
    assert [x["address"] for x in lines] == list(range(lines[0]["address"], lines[-1]["address"] + 16, 16))
    at = 0.0
    for line in lines:
        at += sum(line["waits"].values())
        assert line["cycle"] == pytest.approx(at)
        at += line["issues_per_turn"]
    assert loop["cycles_per_turn"] == pytest.approx(at)
    assert sum(loop["waits"].values()) + loop["instructions_per_turn"] == pytest.approx(at)
    assert all(0 < share <= 1 for share in loop["busy"].values())
    # The pipe is busy as long as the products take at the peak's rate.
    assert loop["busy"]["tensor pipe"] == pytest.approx(loop["tensor_utilization"])
    busiest, share = max(loop["busy"].items(), key=lambda item: item[1])
    assert loop["critical"] == (busiest if share >= 0.6 else "latency")


def test_sass_as_text(turbosim):
    done = turbosim("sass", *FLASH, *A100)
    assert done.returncode == 0
    about, _, head, *rest = done.stdout.splitlines()
    assert about == ("cycles of a full SM, with all data at hand: no waiting for L2 or device memory, which turbosim lift and "
                     "simulate add")
    assert any(line.startswith("  L1/shared memory data path  ") for line in rest)
    assert head.split() == ["address", "cycle", "wait", "pipe", "takes", "why", "it", "waits", "(cycles)", "instruction"]
    hmma = next(line for line in rest if "HMMA.16816.F32" in line)
    assert hmma.split()[0].startswith("0x")
    facts = dict(line.split("  ", 1) for line in rest if line.startswith(("kernel", "occupancy", "critical", "tensor util")))
    assert facts["kernel"].strip() == "kernels/flash.py:fwd, sm_80 on a100_sxm_80gb"
    assert "\x1b" not in done.stdout


@pytest.fixture(scope="session")
def tuned(turbosim, tmp_path_factory):
    picture = tmp_path_factory.mktemp("tuned") / "flash.png"
    done = turbosim("tune", *FLASH, *A100, "--sweep", "BLOCK_N=48,64", "num_stages=2,12", "--png", picture, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), picture


def test_tune_ranks_what_fits_and_says_why_others_do_not(tuned, turbosim, tmp_path):
    rows, picture = tuned
    assert len(rows) == 4
    timed = [r for r in rows if r["time_s"]]
    assert [r["settings"] for r in timed] == [{"BLOCK_N": 64, "num_stages": 2}]
    reasons = {tuple(r["settings"].values()): r["reason"] for r in rows if not r["time_s"]}
    assert reasons[48, 2] == reasons[48, 12]
    assert reasons[48, 2].endswith("does not compile: arange's range must be a power of 2")
    assert reasons[64, 12] == (
        "a CTA needs 196,608 B of shared memory, 29,696 B more than the 166,912 B one CTA may have; use smaller tiles or "
        "fewer stages")
    assert rows[:1] == timed
    assert picture.read_bytes().startswith(b"\x89PNG")
    path = tmp_path / "best.trace"
    turbosim("lift", *FLASH, *A100, "--set", "BLOCK_N=64", "--set", "num_stages=2", "-o", path)
    alone = json.loads(turbosim("simulate", *A100, "--trace", path, "--json").stdout)
    assert timed[0]["time_s"] == alone["time_s"]


def test_tune_finds_a_clock_for_each_configuration(own, turbosim):
    done = turbosim("tune", "own.py:scale", "--hw", "h100_pcie", "--sweep", "BLOCK=512,1024", "--clock", "power", "--json",
                    cwd=own)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout):
        assert row["clock_hz"] == 1.755e9
        assert 105 < row["power_w"] < 350


def test_a_lifted_trace_is_the_same_at_every_clock(own, turbosim, tmp_path):
    traces = []
    for clock in ("sustained", "power"):
        path = tmp_path / f"{clock}.trace"
        assert turbosim("lift", "own.py:scale", *A100, "--clock", clock, "-o", path, cwd=own).returncode == 0
        traces.append(path.read_bytes())
    assert traces[0] == traces[1]


def test_tune_prints_two_tables(own, turbosim):
    done = turbosim("tune", "own.py:scale", *A100, "--sweep", "BLOCK=512,1024,999", cwd=own, COLUMNS="120")
    assert done.returncode == 0, done.stderr
    ranking, _, failures = done.stdout.partition("1 without a time")
    times = [line.split() for line in ranking.splitlines() if " us " in line]
    assert {row[0] for row in times} == {"512", "1024"}
    assert times[0][4] == "100%"
    assert [float(row[1]) for row in times] == sorted(float(row[1]) for row in times)
    narrow = turbosim("tune", "own.py:scale", *A100, "--sweep", "BLOCK=512,1024", cwd=own, COLUMNS="50").stdout
    assert "limited by" in ranking
    assert "limited by" not in narrow
    assert [line.split()[:3] for line in narrow.splitlines() if " us" in line] == [row[:3] for row in times]
    assert " ".join(failures.split()) == ": own.py:7:37: does not compile: arange's range must be a power of 2 BLOCK 999"


TWO_LOOPS = """import triton
import triton.language as tl


@triton.jit
def norm(X, Y, W, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for at in range(0, columns, BLOCK):
        total += tl.load(X + row + at + tl.arange(0, BLOCK)).to(tl.float32)
    mean = tl.sum(total, 0) / columns
    for at in range(0, columns, BLOCK):
        here = at + tl.arange(0, BLOCK)
        tl.store(Y + row + here, (tl.load(X + row + here).to(tl.float32) - mean) * tl.load(W + here))
"""


def test_no_resource_is_taken_for_more_than_the_time(turbosim, tmp_path):
    """While some warps are in one loop, others are in another, so that a turn is shorter than all of them would need."""
    (tmp_path / "norm.py").write_text(TWO_LOOPS)
    (tmp_path / "norm.norm.yaml").write_text(
        "kernel: norm.py:norm\nsizes: {rows: 8192, columns: 4096}\nconstants: {BLOCK: 1024}\ngrid: [rows]\narguments:\n"
        "  X: {dtype: fp16, shape: [rows, columns]}\n  Y: {dtype: fp16, shape: [rows, columns]}\n"
        "  W: {dtype: fp16, shape: [columns]}\n  columns: columns\n")
    done = turbosim("sass", "norm.py:norm", *A100, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loop = json.loads(done.stdout)
    assert 0 < max(loop["busy"].values()) <= 1
    # What shares are of is said: 4 schedulers issue the turns of all warps in no less.
    needed = loop["instructions_per_turn"] * loop["warps_per_sm"] / 4
    assert loop["busy"]["issue slots"] * loop["cycles_of_shares"] == pytest.approx(needed)
    text = turbosim("sass", "norm.py:norm", *A100, cwd=tmp_path).stdout
    assert f"share of the {loop['cycles_of_shares']:.1f} cycles that each resource is taken" in text
    crowded = loop["cycles_of_shares"] > loop["cycles_per_turn"]
    busiest = max(loop["busy"], key=loop["busy"].get)
    explained = (
        rf"warps per SM +{loop['warps_per_sm']}; not all of them run this code at the same time +\n"
        rf"if all of them did +{loop['cycles_of_shares']:.1f} cycles per turn or more, since the {re.escape(busiest)} is busy for "
        rf"so long with one turn of {loop['warps_per_sm']} warps; the shares below are of these {loop['cycles_of_shares']:.1f} "
        r"cycles")
    assert crowded
    assert re.search(explained, re.sub(r" *\n {10,}", " ", text)), text


def test_a_value_that_no_launch_has_is_a_row_with_the_reason(own, turbosim):
    done = turbosim("tune", "own.py:scale", *A100, "--sweep", "BLOCK=512", "num_warps=4,64", "--json", cwd=own)
    assert done.returncode == 0, done.stderr
    fast, slow = json.loads(done.stdout)
    assert (fast["settings"]["num_warps"], slow["settings"]["num_warps"]) == (4, 64)
    assert slow["reason"] == "setting 'num_warps': is a power of two up to 32, got 64"
    every = turbosim("tune", "own.py:scale", *A100, "--sweep", "num_warps=3,64", cwd=own)
    assert (every.returncode, every.stderr.splitlines()[-1]) == (
        2, "error: setting 'num_warps': is a power of two up to 32, got 3")


def test_where_no_configuration_has_a_time_the_reason_is_an_error(own, turbosim):
    done = turbosim("tune", "own.py:scale", *A100, "--sweep", "BLOCK=99,999", "--json", cwd=own)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "error: own.py:7:37: does not compile: arange's range must be a power of 2"
    assert [row["time_s"] for row in json.loads(done.stdout)] == [None, None]
    done = turbosim("tune", "own.py:scale", *A100, "--sweep", "BLOCK=999", "num_warps=4,64", "--json", cwd=own)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1, "error: none of the 2 configurations has a time; the first: own.py:7:37: does not compile: arange's range must be a "
           "power of 2")


def test_the_description_of_a_kernel_gives_the_code_of_its_launch(turbosim):
    """The machine code is that of what the interface function launches, argument by argument."""
    done = turbosim("-c", """
import torch
from kernels.machine_code import captured, compiled
from kernels.ops.flash import flash_prefill
from kernels.ops.turbo import Int8KV, turbo_prefill
from turbosim.hw import load_gpu
from turbosim.sass.prepare import find_description, prepare

def empty(dtype, *shape):
    return torch.empty(shape, dtype=dtype, device="meta")

q, k = (empty(torch.float16, 4, heads, 1000, 64) for heads in (8, 2))
scales = empty(torch.float16, 4, 2, 16)
kv = Int8KV(1000, 64, empty(torch.int8, 4, 2, 1024, 64), empty(torch.int8, 4, 2, 64, 1024), scales, scales)
acts = {"flash": lambda: flash_prefill(q, k, k, False), "turbo": lambda: turbo_prefill(q, kv, False)}
for name, act in acts.items():
    launch = captured(act)[0]
    code, parameters = compiled(launch, 80)
    settings = {"queries": 1000, "heads": 8, "kv_heads": 2, "CAUSAL": False}
    made = prepare(find_description(f"kernels/{name}.py:fwd"), load_gpu("a100_sxm_80gb"), settings)
    given = [launch.arguments[p] for p in parameters]
    print(name, made.compiled.cubin == code.asm["cubin"], list(made.compiled.parameters) == parameters,
          [a.nbytes if isinstance(g, torch.Tensor) else a for a, g in zip(made.launch.arguments, given)]
          == [g.nbytes if isinstance(g, torch.Tensor) else g for g in given], made.launch.grid)
""")
    assert done.stdout.splitlines() == ["flash True True True (8, 8, 4)", "turbo True True True (16, 8, 4)"], done.stderr


def test_from_python(own, turbosim):
    (own / "script.py").write_text(OWN + """

if __name__ == "__main__":
    import turbosim

    tensor = {"dtype": "fp32", "shape": ["n"]}
    described = turbosim.Description(
        kernel=scale, sizes={"n": 1000000}, constants={"BLOCK": 1024}, grid=["cdiv(n, BLOCK)"], flops="n",
        arguments={"X": tensor, "Y": tensor, "n": "n", "factor": 2.0})
    result = turbosim.simulate_kernel("a100_sxm_80gb", described)
    best = turbosim.tune(described, turbosim.load_gpu("a100_sxm_80gb"), {"BLOCK": [512, 1024]})[0]
    print(result.time_s, best.result.time_s <= result.time_s)
""")
    done = turbosim("-c", "import runpy; runpy.run_path('script.py', run_name='__main__')", cwd=own)
    assert done.returncode == 0, done.stderr
    time, best = done.stdout.split()
    assert best == "True"
    turbosim("lift", "own.py:scale", *A100, "-o", "own.trace", cwd=own)
    alone = json.loads(turbosim("simulate", *A100, "--trace", "own.trace", "--json", cwd=own).stdout)
    assert float(time) == alone["time_s"]


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["lift", "own.py:wrong", *A100, "-o", "x.trace", "--launch-file", "own.scale.yaml"], 3,
     "error: own.py:14:5: does not compile: Cannot make_shape_compatible: incompatible dimensions at index 0: 1024 and 512"),
    (["lift", "own.py:search", *A100, "-o", "x.trace", "--launch-file", "own.scale.yaml"], 2, None),
    (["lift", "own.py:scald", *A100, "-o", "x.trace", "--launch-file", "own.scale.yaml"], 2,
     "error: own.py: has no function 'scald': its @triton.jit functions are scale, wrong, search (did you mean 'scale'?)"),
    (["lift", "own.py:plain", *A100, "-o", "x.trace", "--launch-file", "own.scale.yaml"], 2,
     "error: own.py:plain: is not a @triton.jit function; those of the file are scale, wrong, search"),
    (["lift", "own.py:scald", *A100, "-o", "x.trace"], 2,
     "error: own.py: has no function 'scald': it defines scale, wrong, search, plain (did you mean 'scale'?)"),
    (["lift", "own.py:wrong", *A100, "-o", "x.trace"], 2,
     "error: own.py:wrong: needs a launch description: write own.wrong.yaml, or name one with --launch-file"),
    (["lift", "own.scale.yaml", *A100, "-o", "x.trace", "--launch-file", "own.scale.yaml"], 2,
     "error: --launch-file: own.scale.yaml is a launch description already; drop one of the two"),
    (["lift", "own.py:scale", "-o", "x.trace"], 2,
     "error: name the GPU with --hw (a100_2x_hbm, a100_pcie_80gb, a100_sxm_40gb ...) or a target with --target sm_90"),
    (["lift", "own.py:scale", "--target", "sm_42", "-o", "x.trace"], 2,
     "error: target 'sm_42': no instruction table says what its instructions cost; there are tables of sm_80, sm_86, "
     "sm_89, sm_90, sm_100, sm_120"),
    (["lift", "own.py:scale", "--target", "fermi", "-o", "x.trace"], 2,
     "error: target 'fermi': must be a compute capability as sm_90, one of sm_80, sm_86, sm_89, sm_90, sm_100, sm_120"),
    (["lift", "own.py:scale", *A100, "--target", "sm_90", "-o", "x.trace"], 2,
     "error: --target: a100_sxm_80gb is sm_80 and does not run code for sm_90; drop --target, or name a GPU of that target"),
    (["lift", "own.py:scale", *A100, "--set", "BLOK=64", "-o", "x.trace"], 2,
     "error: setting 'BLOK': own.py:scale has n, num_warps, num_stages, maxnreg, BLOCK (did you mean 'BLOCK'?)"),
    (["lift", "own.py:scale", *A100, "--set", "n=-8k", "-o", "x.trace"], 2,
     "error: --set n: must be at least 1, got -8k"),
    (["tune", "own.py:scale", *A100, "--sweep", "n=4k,0k"], 2, "error: --sweep n: must be at least 1, got 0k"),
    (["lift", "own.py:scale", *A100, "-o", "nowhere/x.trace"], 2, "error: --output: no such folder 'nowhere'"),
    (["tune", "own.py:scale", *A100], 2,
     "error: --sweep: name what to try, for example --sweep BLOCK_M=64,128 num_warps=4,8"),
    (["tune", "own.py:scale", *A100, "--sweep", "BLOCK=64,"], 2,
     "error: --sweep: 'BLOCK=64,' is not name=value,value,...; write for example BLOCK_M=64,128"),
    (["tune", "own.py:scale", *A100, "--sweep", "BLOCK=64", "BLOCK=128"], 2,
     "error: --sweep: BLOCK is given twice; put its values into one list"),
    (["tune", "own.py:scale", *A100, "--set", "BLOCK=64", "--sweep", "BLOCK=64,128"], 2,
     "error: --set BLOCK: --sweep tries values of BLOCK; drop one of the two"),
    (["tune", "own.py:scale", *A100, "--sweep", "BLOCK=64", "--png", "x.pdf"], 2,
     "error: --png: must end in .png or .svg, got 'x.pdf'"),
])
def test_bad_input_is_one_clear_error(own, turbosim, arguments, code, message):
    done = turbosim(*arguments, cwd=own)
    if message is None:
        # Where the address is depends on the compiler.
        message = done.stderr.strip()
        assert message.startswith("error: kernel 'search', warp 0: the branch at 0x")
        assert message.endswith(
            ", from the contents of 'X'. The way of a warp must follow from sizes and integers of the launch: make a "
            "loop's turns an integer argument or a constant, choose between values with tl.where, and use "
            "approximations of functions that have a slow path for some values, as tl.sin has")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message + "\n")


def test_a_target_that_triton_does_not_know(turbosim, own):
    done = turbosim("-c", """
from turbosim.sass.compile import compile_kernel
from turbosim.sass.source import parse_reference
from turbosim.sass.specialise import Pointer
x = Pointer("fp32")
compile_kernel(parse_reference("own.py:scale"), {"X": x, "Y": x, "n": 64, "factor": 2.0}, {"BLOCK": 64}, 42, {})
""", cwd=own)
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "turbosim.errors.UsageError: own.py:scale: Triton 3.9.0 cannot compile for sm_42")


def test_arguments_that_the_function_does_not_have(turbosim, own):
    path = own / "own.scale.yaml"
    path.write_text(DESCRIPTION.replace("  factor:", "  facto:"))
    done = turbosim("lift", "own.scale.yaml", *A100, "-o", "x.trace", cwd=own)
    assert done.stderr == (
        "error: own.scale.yaml:8:10: arguments.facto: own.py:scale has no parameter 'facto'; it has X, Y, n, factor, BLOCK "
        "(did you mean 'factor'?)\n")
    assert done.returncode == 3
    path.write_text(DESCRIPTION.replace("  factor: 2.0\n", "").replace("{BLOCK: 1024}", "{}").replace(", BLOCK", ", 64"))
    done = turbosim("lift", "own.scale.yaml", *A100, "-o", "x.trace", cwd=own)
    assert (done.returncode, done.stderr) == (
        3, "error: own.scale.yaml:5:3: arguments: factor, BLOCK missing, parameters of own.py:scale; give them under arguments "
           "and constants\n")


def test_a_file_that_cannot_be_imported(turbosim, own):
    (own / "own.py").write_text("import triton\n\nimport nowhere_to_be_found\n")
    done = turbosim("lift", "own.scale.yaml", *A100, "-o", "x.trace", cwd=own)
    assert (done.returncode, done.stderr) == (
        3, "error: own.py:3: cannot be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'\n")


GATHER = """\
import triton
import triton.language as tl


@triton.jit
def gather(X, Idx, Y, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + place, tl.load(X + tl.load(Idx + place)))
"""
GATHER_LAUNCH = """\
kernel: far.py:gather
constants: {BLOCK: 256}
arguments:
  X: {dtype: fp32, shape: [65536]}
  Idx: {dtype: int32, shape: [4096]}
  Y: {dtype: fp32, shape: [4096]}
grid: ["4096 // BLOCK"]
"""


def test_assumed_traffic_is_told(turbosim, tmp_path):
    (tmp_path / "far.py").write_text(GATHER)
    (tmp_path / "far.gather.yaml").write_text(GATHER_LAUNCH)
    end = "depend on data: every active lane is taken to touch 32 B of its own, evenly over the tensor\n"
    one = r"note: kernel 'gather': addresses in 'X' of LDG\.E at 0x[0-9a-f, x]*(and \d+ more )?" + re.escape(end)
    done = turbosim("lift", "far.py:gather", *A100, "-o", "far.trace", cwd=tmp_path)
    assert done.returncode == 0
    assert re.search(f"{one}wrote far.trace\n$", done.stderr), done.stderr
    done = turbosim("simulate", *A100, "--trace", "far.trace", cwd=tmp_path)
    assert done.returncode == 0
    assert re.match(one, done.stderr), done.stderr
    assert "assumed" not in done.stdout
    # What configurations share is told once.
    done = turbosim("tune", "far.py:gather", *A100, "--sweep", "BLOCK=128,256", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.endswith(f"note: kernel 'gather': addresses in 'X' of some instructions {end}"), done.stderr
    assert done.stderr.count("note:") == 1


ODD = """
import triton
import triton.language as tl


@triton.jit
def odd(X, Y, BLOCK: tl.constexpr):
    p = tl.program_id(0)
    c = p * BLOCK + tl.arange(0, BLOCK)
    if p % 2 == 0:
        tl.store(Y + c, tl.load(X + c))


@triton.jit
def spin(X, Y, BLOCK: tl.constexpr):
    while tl.atomic_cas(X, 0, 1) == 1:
        pass

"""


@pytest.mark.parametrize(("name", "dtype", "said"), [
    ("odd", "fp32", "which CTAs run the code at 0x"), ("spin", "i32", "compare-and-swap looks like a lock")])
def test_kernels_that_cannot_be_followed_end_with_one_code(turbosim, tmp_path, name, dtype, said):
    (tmp_path / "o.py").write_text(ODD)
    (tmp_path / f"o.{name}.yaml").write_text(
        f"kernel: o.py:{name}\nsizes: {{n: 8388608}}\nconstants: {{BLOCK: 1024}}\ngrid: [n // BLOCK]\narguments:\n"
        f"  X: {{dtype: {dtype}, shape: [n]}}\n  Y: {{dtype: {dtype}, shape: [n]}}\n")
    for command in (["lift", f"o.py:{name}", *A100, "-o", "x.trace"], ["sass", f"o.py:{name}", *A100]):
        done = turbosim(*command, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
