"""``turbosim validate`` as a process: table, JSON, Markdown, report, limits, exit codes."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from turbosim.cli import validate as command
from turbosim.errors import ConfigError
from turbosim.validation import sets
from turbosim.validation.predict import predict
from turbosim.validation.thresholds import Threshold, ThresholdError, judge, read_thresholds

ROOT = Path(__file__).resolve().parents[2]
GOOD = "l4,flash,prefill,1,4,4,256,256,64,true,2e-5"


def validate(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "turbosim", "validate", *map(str, arguments)], capture_output=True, text=True,
                          check=False, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"})


def test_table_names_groups_rungs_worst_rows_and_limits(tmp_path):
    done = validate("--set", "flashattention3_h100_1500mhz", cwd=tmp_path)
    assert (done.returncode, done.stderr.replace("compiling the engine, once for this installation ...\n", "")) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["set", "GPU", "kernel", "model", "rows", "mean", "median", "p90", "worst", "bias", "slope", "tau"] in lines
    assert any(line[:5] == ["flashattention3_h100_1500mhz", "h100_sxm", "FlashAttention-3", "roofline", "24"] for line in lines)
    assert any(line[:2] == ["tile", "24"] for line in lines)
    assert ["Worst", "rows", "of", "tile"] in lines
    assert any("mean" in line and "met" in line for line in lines)


def test_a_missed_threshold_is_exit_code_4(monkeypatch, capsys, tmp_path, table):
    (tmp_path / "thresholds.yaml").write_text("thresholds:\n  - {set: data, mean: 0.1 %, p90: 99 %, aim: {mean: 5 %}}\n")
    monkeypatch.setattr(sets, "directory", lambda: tmp_path)
    with pytest.raises(ThresholdError, match=(
            r"^thresholds\.yaml:2: data: mean error of tile is \d+\.\d%, above its limit of 0\.1%$")) as caught:
        command.validate(data=[table(GOOD)], engine="numba")
    assert caught.value.exit_code == 4
    shown = capsys.readouterr().out
    assert "MISSED" in shown
    assert "missed" in shown


def test_limits_are_for_the_sustained_clock(tmp_path):
    arguments = ["--set", "triton_vector_add_a100", "--json"]
    judged, other = (json.loads(validate(*arguments, *more, cwd=tmp_path).stdout) for more in ([], ["--clock", "boost"]))
    assert judged["thresholds"]
    assert other["thresholds"] == []


def test_json_report_and_excluded_rows(table, tmp_path):
    path = table(GOOD, "l4,other,prefill,1,4,4,256,256,64,true,2e-5", "l4,flash,prefill,8,32,32,4096,4096,64,true,1e-3")
    done = validate("--data", path, "--json", "--report", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(g["kernel"], g["rows"]) for g in found["groups"]] == [("flash", 1), ("other", 1)]
    assert found["groups"][0]["scores"]["tile"]["count"] == 1
    assert found["groups"][1]["scores"]["tile"] is None
    assert [x["where"] for x in found["impossible"]] == ["data/rows.csv:4"]
    assert found["unpredicted"] == ["data l4 other: tile predicts 1 of 1 rows not: unknown kernel"]
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"scatter.png", "scatter.svg", "error_by_shape.png", "error_by_shape.svg", "residuals.png", "residuals.svg",
                     "rows.csv", "table.md"}
    rows = list(csv.DictReader((tmp_path / "out" / "rows.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert float(rows[0]["tile_error"]) == pytest.approx(found["rows"][0]["tile_time_s"] / 2e-5 - 1)


def test_a_file_of_impossible_rows_is_exit_code_3_after_their_report(table, tmp_path):
    path = table("l4,flash,prefill,8,32,32,4096,4096,64,true,1e-3")
    for arguments in ([], ["--json"]):
        done = validate("--data", path, "--report", "out", *arguments, cwd=tmp_path)
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1].startswith("error: tile: no row could be predicted: 1 of 1 rows cannot have been measured")
        assert "data/rows.csv:2" in done.stdout
        assert "Errors of the predicted time" not in done.stdout
    assert not (tmp_path / "out").exists()


def test_published_figures_as_they_lie(tmp_path):
    (tmp_path / "fig.csv").write_text(
        "source,gpu,kernel,version,batch,heads,kv_heads,seq_q,seq_k,head_dim,causal,dtype,metric,value,notes\n"
        "s,A100 80GB (variant unstated),FlashAttention-2,v,4,32,32,1024,1024,64,True,fp16,tflops,110,n\n"
        "s,A100 80GB (variant unstated),FlashAttention-2a,v,4,32,32,1024,1024,64,True,fp16,tflops,110,n\n"
        "s,V100,FlashAttention-2,v,4,32,32,1024,1024,64,True,fp16,tflops,40,n\n")
    done = validate("--data", "fig.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == ("error: fig.csv:2: GPU 'A100 80GB (variant unstated)' may be a100_sxm_80gb, a100_pcie_80gb; say which: "
                           "--hw a100_sxm_80gb or --hw a100_pcie_80gb\n")
    done = validate("--data", "fig.csv", "--hw", "a100_pcie_80gb", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(g["gpu"], g["kernel"], g["scores"]["tile"] is None) for g in found["groups"]] == [
        ("a100_pcie_80gb", "FlashAttention-2", False), ("a100_pcie_80gb", "FlashAttention-2a", True)]
    assert found["unpredicted"] == ["fig a100_pcie_80gb FlashAttention-2a: tile predicts 1 of 1 rows not: unknown kernel "
                                    "'FlashAttention-2a' (did you mean 'FlashAttention-2'?); say in fig.meta.yaml beside the file "
                                    "how it is predicted"]
    assert found["left_out"] == ["fig: 1 rows left out: there is no hardware file of 'V100'"]
    assert "there is no hardware file of 'V100'" in validate("--data", "fig.csv", "--hw", "a100_pcie_80gb", cwd=tmp_path).stdout
    done = validate("--data", "fig.csv", "--hw", "l4", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: --hw: no row has 'l4': there is a100_pcie_80gb, a100_sxm_80gb\n")


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["--set", "nothing"], 2, "unknown data set 'nothing'"),
    (["--model", "tiles"], 2, "--model: must be one of roofline, genz, tile, sass, got 'tiles' (did you mean 'tile'?)"),
    (["--set", "triton_softmax_a100", "--hw", "l4"], 2, "--hw: no row has 'l4': there is a100_pcie_80gb"),
    (["--set", "triton_softmax_a100", "--kernel", "Tritn"], 2,
     "--kernel: no row has 'Tritn': there is Triton, torch (did you mean 'Triton'?)"),
    (["--data", "none.csv"], 3, "none.csv: cannot be read: No such file or directory"),
    (["--hw", "a100_sxm_80gb="], 2,
     "--hw: 'a100_sxm_80gb=' names no file; write a100_sxm_80gb=FILE, or a100_sxm_80gb alone for the shipped one"),
    (["--hw", "a100_sxm_80gb=h100_sxm"], 2, "--hw: 'a100_sxm_80gb=h100_sxm': 'h100_sxm' is another GPU, which a100_sxm_80gb was not "
     "measured on; give the path of a hardware file of a100_sxm_80gb"),
    (["--hw", "l4=a.yaml", "--hw", "l4=b.yaml"], 2, "--hw: l4 is given twice, as a.yaml and as b.yaml; drop one"),
    (["--report", ""], 2, "--report: is empty; name a folder"),
    (["--report", " "], 2, "--report: is empty; name a folder"),
    (["--report", "file"], 2, "--report: 'file' is no folder, or below a file"),
    (["--report", "file/a/b"], 2, "--report: 'file/a/b' is no folder, or below a file"),
    (["--report", "a" * 300], 2, f"--report: '{'a' * 300}' cannot be written: File name too long"),
    (["--markdown", "--json"], 2, "--markdown and --json exclude each other; drop one of the two"),
])
def test_errors(tmp_path, arguments, code, message):
    (tmp_path / "file").touch()
    done = validate(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {message}")
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["out", "a/b/out"])
def test_a_report_is_written_where_folders_are_missing(tmp_path, table, name):
    done = validate("--data", table(GOOD), "--report", name, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name / "table.md").is_file()


@pytest.mark.parametrize(("entry", "message"), [
    ("{set: a, means: 5 %}", "means: unknown key: not among set, gpu, kernel, model, counter, decode_above, mean, p90, tau, aim (did you mean 'mean'?)"),
    ("{set: a}", "a threshold needs a set, and mean, p90 or tau"),
    ("{set: a, mean: 0 %}", "mean: must be above 0, got 0 %"),
    ("{set: a, mean: 5 ms}", "mean: '5 ms': takes no unit, got 'ms'; write 5"),
    ("{set: a, mean: 5 %, model: til}", "model: must be one of roofline, genz, tile, sass, got 'til' (did you mean 'tile'?)"),
])
def test_a_bad_threshold(tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(tmp_path)
    Path("t.yaml").write_text(f"thresholds:\n  - {entry}\n")
    with pytest.raises(ConfigError, match=rf"^t\.yaml:2:\d+: {re.escape(message)}$"):
        read_thresholds(Path("t.yaml"))


def test_a_threshold_without_rows_is_no_pass(table):
    outcomes = predict([sets.load_file(table(GOOD))]).outcomes
    limit = Threshold("t.yaml:2", "data", "tile", {"mean": 1.0}, {}, kernel="flsh")
    with pytest.raises(ThresholdError, match=(
            r"^t\.yaml:2: no row of data flsh has a prediction of model tile; correct the names, or remove the threshold$")):
        judge([limit], outcomes, ["tile"])
    assert judge([limit], outcomes, ["tile"], partial=True) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_committed_sets_stay_within_their_limits_and_the_readme_says_so():
    done = validate("--markdown", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.partition("<!-- errors -->\n")[2].partition("<!-- end -->")[0] == done.stdout
