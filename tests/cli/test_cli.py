"""The command line as a process: output, exit codes, messages."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pytest

SHAPE = ["--hw", "a100_sxm_80gb", "--model", "phi3-medium", "--seq", "512"]


def turbosim(*arguments, **environment):
    return subprocess.run([sys.executable, "-m", "turbosim", *map(str, arguments)], capture_output=True, text=True,
                          check=False, env={**os.environ, **environment})


def test_help_imports_no_heavy_library():
    code = ("import sys\nfrom turbosim.cli.main import app\n"
            "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
            "heavy = {'numba', 'matplotlib', 'torch', 'triton', 'numpy', 'pandas', 'simpy'} & set(sys.modules)\n"
            "print('HEAVY', sorted(heavy))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "simulate" in done.stdout
    assert "HEAVY []" in done.stdout


@pytest.mark.parametrize("command", [
    [], ["simulate"], ["compare"], ["roofline"], ["timeline"], ["kv-size"], ["list"], ["hw"], ["hw", "list"],
    ["lift"], ["sass"], ["tune"], ["sweep"], ["results"], ["validate"], ["hw", "show"], ["hw", "check"], ["hw", "schema"], ["hw", "diff"], ["trace"], ["trace", "show"], ["trace", "check"]])
def test_every_command_has_help_with_an_example(command):
    done = turbosim(*command, "--help", COLUMNS="80")
    assert done.returncode == 0
    usage, _, rest = done.stdout.partition("\n")
    assert " ".join(["turbosim", *command]) in usage
    assert " ".join(["turbosim", *command]) in rest[rest.index("Example"):]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_simulate_json_is_one_object():
    done = turbosim("simulate", *SHAPE, "--kernel", "turbo", "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert {"time_s", "cycles", "tflops", "dram_read_bytes", "dram_write_bytes", "dram_bandwidth_Bps", "l2_hit_rate",
            "utilization", "bound", "stalls", "occupancy", "arithmetic_intensity", "hw", "kernel", "workload",
            "engine"} <= set(result)
    assert {"tensor", "sfu", "fma", "int", "smem", "l2", "hbm"} <= set(result["utilization"])
    assert result["engine"] == "numba"
    assert result["kernel"] == "turbo"


def test_the_power_clock_is_told_with_its_split():
    shape = ["--hw", "a100_pcie_80gb", "--kernel", "gemm", "--m", "4k", "--n", "4k", "--k", "4k", "--clock", "power"]
    result = json.loads(turbosim("simulate", *shape, "--json").stdout)
    power = result["power"]
    assert result["clock_hz"] < 1.41e9
    assert 298 <= power["average_w"] <= power["limit_w"] == 300
    assert list(power["split"]) == ["static_w", "tensor_w", "instructions_w", "smem_w", "l2_w", "hbm_w"]
    assert sum(power["split"].values()) == pytest.approx(power["average_w"])
    assert power["tokens_per_j"] is None
    text = turbosim("simulate", *shape).stdout
    assert f"a100_pcie_80gb at {result['clock_hz'] / 1e9:.4g} GHz" in text
    assert f"{power['average_w']:.3g} W of 300 W (static 22%, tensor " in text
    # At boost the limit is told.
    assert " W, above the limit of 300 W (static " in turbosim("simulate", *shape[:-1], "boost").stdout


def test_a_decode_step_tells_tokens_per_joule():
    done = turbosim("simulate", "--hw", "a100_sxm_80gb", "--model", "phi3-medium", "--phase", "decode", "--batch", "4",
                    "--seq", "1k", "--json")
    power = json.loads(done.stdout)["power"]
    assert power["tokens_per_j"] == pytest.approx(4 / power["energy_j"])


def test_kernels_are_compared_each_at_its_clock():
    done = turbosim("compare", "--hw", "a100_pcie_80gb", "--model", "phi3-medium", "--seq", "4k", "--kernels",
                    "flash,turbo", "--clock", "power", "--json")
    flash, turbo = json.loads(done.stdout)
    assert flash["clock_hz"] != turbo["clock_hz"]
    assert max(flash["power_w"], turbo["power_w"]) <= 300
    assert flash["energy_j"] == pytest.approx(flash["power_w"] * flash["time_s"])


def test_the_engines_print_the_same_but_for_their_name():
    small = ["simulate", "--hw", "l4", "--kernel", "flash", "--q-heads", "4", "--head-dim", "64", "--seq", "256", "--json"]
    a, b = (json.loads(turbosim(*small, "--engine", e).stdout) for e in ("numba", "simpy"))
    assert (a.pop("engine"), b.pop("engine")) == ("numba", "simpy")
    assert a == b


def test_command_line_and_python_agree():
    from turbosim import Phase, attention_of, get_model, simulate

    result = simulate("a100_sxm_80gb", attention_of(get_model("phi3-medium"), Phase.PREFILL, 1, 512), "flash")
    assert json.loads(turbosim("simulate", *SHAPE, "--json").stdout)["time_s"] == result.time_s


def test_output_to_a_pipe_has_no_escape_codes():
    done = turbosim("simulate", *SHAPE)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "where warp-group time goes" in done.stdout


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(f"{sys.executable} -m turbosim list | head -1", shell=True, capture_output=True, text=True,
                          check=True)
    assert done.stderr == ""


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["simulate", "--hw", "h200_smx", "--model", "llama3-8b", "--seq", "1k"], 2,
     "error: unknown GPU 'h200_smx': not among a100_2x_hbm, a100_pcie_80gb, a100_sxm_40gb, a100_sxm_80gb, b200, h100_pcie, h100_sxm, "
     "h200_2x_sfu, h200_int4, h200_sas, h200_sxm, l4, l40s, rtx_3090, rtx_4090, rtx_5090 (did you mean 'h200_sxm'?)\n"),
    (["simulate", *SHAPE, "--kernel", "flesh"], 2,
     "error: unknown kernel 'flesh': not among flash, flash3, sage, turbo, kivi, gear, gemm, copy (did you mean 'flash'?)\n"),
    (["simulate", "--hw", "l4", "--model", "llama3", "--seq", "1k"], 2,
     "error: unknown model 'llama3': not among phi3-medium, phi3-mini, llama3-8b, llama2-7b, llama2-70b, qwen2-7b (did "
     "you mean 'llama3-8b'?)\n"),
    (["simulate", "--hw", "l4", "--model", "llama3-8b", "--seq", "0"], 2, "error: --seq: must be at least 1, got 0\n"),
    (["simulate", "--hw", "l4", "--model", "llama3-8b", "--seq", "-4k"], 2,
     "error: --seq: must be at least 1, got -4k\n"),
    (["compare", "--hw", "l4", "--model", "llama3-8b", "--seq", "4k,"], 2,
     "error: --seq: '4k,' has an empty entry; write for example 4096,8192\n"),
    (["simulate", *SHAPE, "--batch", "0"], 2, "error: --batch: must be at least 1, got 0\n"),
    (["simulate", *SHAPE, "--phase", "prefil"], 2,
     "error: --phase: must be one of prefill, decode, got 'prefil' (did you mean 'prefill'?)\n"),
    (["simulate", "--hw", "l4", "--q-heads", "8", "--kv-heads", "3", "--head-dim", "64", "--seq", "64"], 2,
     "error: attention: q_heads must be a multiple of kv_heads, got 8 and 3\n"),
    (["simulate", *SHAPE, "--set", "stages=6"], 2,
     "error: launch 'flash' on a100_sxm_80gb: a CTA needs 229,376 B of shared memory, 62,464 B more than the 166,912 B "
     "one CTA may have; use smaller tiles or fewer stages\n"),
    (["simulate", "--hw", "nowhere.yaml", "--model", "llama3-8b", "--seq", "1k"], 3,
     "error: nowhere.yaml: no such file\n"),
    (["trace", "show", "nowhere.gz"], 3, "error: nowhere.gz: cannot be read: No such file or directory\n"),
    (["compare", *SHAPE, "--csv", "nowhere/x.csv"], 2, "error: --csv: no such folder 'nowhere'\n"),
    (["simulate", *SHAPE, "--save-trace", "nowhere/x.gz"], 2, "error: --save-trace: no such folder 'nowhere'\n"),
    (["roofline", *SHAPE[:4], "-o", "x.pdf"], 2, "error: --output: must end in .png or .svg, got 'x.pdf'\n"),
    (["timeline", *SHAPE, "--from", "5", "--to", "5"], 2, "error: --to: must be above --from, got 5 and 5\n"),
    (["timeline", *SHAPE, "--sm", "108"], 2, "error: --sm: must be 0 to 107 on a100_sxm_80gb, got 108\n"),
    (["timeline", *SHAPE, "--sm", "-1"], 2, "error: --sm: must be 0 to 107 on a100_sxm_80gb, got -1\n"),
    (["simulate", *SHAPE, "--engine", "nunba"], 2,
     "error: --engine: must be one of numba, simpy, got 'nunba' (did you mean 'numba'?)\n"),
    (["simulate", "--hw", "l4", "--model", "phi3-medium", "--seq", "512", "--clock", "power"], 2,
     "error: clock power: the hardware file of l4 has no energy, so the power is not known; add it, or take another "
     "clock: sustained, boost, tensor_spec\n"),
    (["compare", *SHAPE, "--clock", "bost"], 2,
     "error: --clock: must be one of sustained, boost, tensor_spec, power, got 'bost' (did you mean 'boost'?)\n"),
    (["timeline", *SHAPE, "--launch", "queue"], 2, "error: --launch: must be one of graph, stream, got 'queue'\n"),
    (["roofline", *SHAPE[:4], "--l2", "Warm"], 2,
     "error: --l2: must be one of cold, dirty, warm, got 'Warm' (did you mean 'warm'?)\n"),
    (["compare", *SHAPE, "--kernels", "flash,turbo, flash"], 2,
     "error: --kernels: 'flash' is listed twice; each is simulated once, so drop one\n"),
    (["simulate", *SHAPE, "--phase", "decode", "--set", "splits=99999"], 2,
     "error: kernel 'flash': option splits must leave no split without KV tiles, got 99999 for 4 tiles of 128 tokens; use "
     "splits=4\n"),
    (["simulate", "--hw", "l4", "--kernel", "gemm", "--m", "64"], 2, "error: kernel 'gemm' needs --m, --n and --k\n"),
    (["simulate", "--hw", "l4", "--kernel", "copy", "--bytes", "1 Gib"], 2,
     "error: --bytes: '1 Gib' counts bits; write bytes, for example '50 GiB'\n"),
    (["simulate", "--hw", "l4", "--kernel", "copy", "--bytes", "0 B"], 2,
     "error: --bytes: must be at least 1 B, got 0 B\n"),
])
def test_bad_input_is_one_clear_error(arguments, code, message):
    done = turbosim(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


def test_traces_are_saved_shown_checked_and_replayed(tmp_path):
    path = tmp_path / "x.gz"
    saved = turbosim("simulate", *SHAPE, "--save-trace", path, "--json")
    first = json.loads(saved.stdout)
    assert f"wrote {path}\n" in saved.stderr
    again = json.loads(turbosim("simulate", "--hw", "a100_sxm_80gb", "--trace", path, "--json").stdout)
    assert again["time_s"] == first["time_s"]
    assert "role wg0: 4 warps" in turbosim("trace", "show", path).stdout
    assert turbosim("trace", "check", path).stdout == f"{path}: ok\n"
    path.write_bytes(path.read_bytes()[:-9])
    done = turbosim("trace", "show", path)
    assert (done.returncode, done.stderr) == (
        3, f"error: {path}: truncated or damaged gzip data; write the trace again\n")


def test_compare_json_and_csv(tmp_path):
    rows = json.loads(turbosim("compare", *SHAPE, "--kernels", "flash,turbo:bits=2", "--csv", tmp_path / "x.csv",
                               "--json").stdout)
    assert [r["kernel"] for r in rows] == ["flash", "turbo:bits=2"]
    assert rows[0]["speedup"] == 1.0
    assert (tmp_path / "x.csv").read_text().startswith("hw,kernel,batch,seq,time_s,speedup,")


@pytest.mark.parametrize(("columns", "header"), [
    ("70", "batch seq kernel time speed-up busiest unit"),
    ("80", "batch seq kernel time over flash TFLOP/s busiest unit"),
    ("120", "batch seq kernel time over flash TFLOP/s DRAM busiest units"),
])
def test_compare_fits_the_terminal(columns, header):
    kernels = "flash,kivi,gear,turbo" + (":bits=2" if columns == "70" else "")
    done = turbosim("compare", *SHAPE[:4], "--seq", "512,8k", "--kernels", kernels, COLUMNS=columns)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 + 8
    assert max(map(len, lines)) <= int(columns)
    assert "…" not in done.stdout
    assert lines[1].split() == header.split()


def test_roofline_writes_png_and_svg(tmp_path):
    done = turbosim("roofline", *SHAPE[:4], "--seq", "512", "--batch", "1", "-o", tmp_path / "r.png",
                    MPLCONFIGDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"
    svg = (tmp_path / "r.svg").read_text()
    assert "<svg" in svg


def test_timeline_tracks_never_overlap(tmp_path):
    path = tmp_path / "t.json.gz"
    done = turbosim("timeline", *SHAPE, "-o", path, "--png", tmp_path / "t.png", "--to", "5000",
                    MPLCONFIGDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    trace = json.loads(gzip.decompress(path.read_bytes()))
    tracks = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    names = {e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert {"SM0/tensor", "SM0/sfu", "SM0/copy", "SM0/slot0/wg0", "SM0/slot0/wg0 reason"} <= names
    assert len(tracks) == len(names)
    for slices in tracks.values():
        slices.sort()
        assert all(b[0] >= a[1] - 1e-9 for a, b in zip(slices, slices[1:], strict=False))


def test_hw_commands(tmp_path):
    assert "h200_sxm" in turbosim("hw", "list").stdout
    shown = json.loads(turbosim("hw", "show", "h200_sas", "--resolved", "--json").stdout)
    assert shown["values"]["hbm.bandwidth"] == {"value": "4800 GB/s", "si": 4.8e12, "source": ["A"],
                                                "file": "h200_sxm.yaml"}
    assert json.loads(turbosim("hw", "diff", "h200_sxm", "h200_2x_sfu", "--json").stdout)["pipes.sfu.rate"] == [
        "16 /clk", "32 /clk"]
    bad = tmp_path / "bad.yaml"
    bad.write_text("extends: l4\nname: bad\nhbm: {bandwith: 3}\n")
    done = turbosim("hw", "check", bad)
    assert (done.returncode, done.stderr) == (
        3, f"error: {bad}:3:7: hbm.bandwith: unknown field (did you mean 'bandwidth'?)\n")
