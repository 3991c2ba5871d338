"""``turbosim calibrate`` as a process, the file it writes, and that ``validate`` refuses what was fitted on."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.calibration.conftest import BENCHES, SUITE, benches, suite, write
from turbosim.calibration.calibrate import calibrate as fit
from turbosim.calibration.hardware_file import text_of
from turbosim.errors import ConfigError
from turbosim.hw import load_gpu, load_resolved, with_overrides
from turbosim.validation.identity import digests
from turbosim.validation.predict import predict
from turbosim.validation.sets import load_file

ROOT = Path(__file__).resolve().parents[2]
ATTENTION = "gpu,kernel,phase,batch,q_heads,kv_heads,seq_q,seq_k,head_dim,causal,time_s\n"


def turbosim(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "turbosim", *map(str, arguments)], capture_output=True, text=True, check=False,
                          cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"})


@pytest.fixture(scope="module")
def chases(tmp_path_factory):
    """Return a folder with rows of latencies and launches of an L4 that is made up."""
    folder = tmp_path_factory.mktemp("micro")
    gpu = with_overrides(load_gpu("l4"), {"hbm.latency": 3.3e-7, "l2.latency_near": 1.5e-7, "l2.latency_far": 1.5e-7,
                                          "launch.graph": 7e-7, "launch.stream": 1.2e-6})
    rows = benches(gpu, 0.002, 3, only="back-to-back")
    notes = [("1000", 1.5e-7), ("2000", 1.501e-7), ("4000", 1.499e-7), ("90000", 3.3e-7), ("120000", 3.31e-7), ("180000", 3.29e-7)]
    for size, seconds in notes:
        rows.append({"source": "s", "gpu": "L4", "kernel": "pointer chase", "metric": "ns", "value": "1",
                     "notes": f"working set {size} kB; {2e9 * seconds + 8:.1f} cycles at 2000 MHz"})
    write(folder / "micro.csv", BENCHES, rows)
    return folder


@pytest.fixture(scope="module")
def calibrated(chases):
    done = turbosim("calibrate", "--from", "micro.csv", "--hw", "l4", "-o", "mine.yaml", "--png", "mine.png", "--png", "mine.svg",
                    cwd=chases)
    assert done.returncode == 0, done.stderr
    return done


def test_the_table_names_parameters_intervals_and_errors(calibrated):
    lines = [line.split() for line in calibrated.stdout.splitlines()]
    assert ["parameter", "before", "after", "95", "%", "interval", "rows"] in lines
    graph = next(line for line in lines if line[:1] == ["launch.graph"])
    assert graph[1:3] == ["940", "ns"]
    assert 680 < float(graph[3]) < 720
    assert any(line[:6] == ["launch.cta", "200", "clk", "kept", "not", "told"] for line in lines)
    assert any(line[:4] == ["latency,", "DRAM", "3", "yes"] for line in lines)
    assert [line for line in calibrated.stderr.splitlines() if line.startswith("wrote")] == [
        "wrote mine.yaml", "wrote mine.png", "wrote mine.svg"]


def test_the_file_extends_says_its_rows_and_can_be_used(calibrated, chases, monkeypatch):
    monkeypatch.chdir(chases)
    found = load_resolved("mine.yaml")
    assert found.gpu.launch.graph == pytest.approx(7e-7, rel=0.03)
    assert found.gpu.hbm.latency == pytest.approx(3.3e-7, rel=0.03)
    assert found.gpu.l2.latency_near == found.gpu.l2.latency_far
    assert found.gpu.sm == load_gpu("l4").sm
    leaf = found.leaves["hbm", "latency"]
    assert (leaf.sources, leaf.fitted_on) == (("calibrated",), "micro-benchmarks under fitted.files")
    (record,) = found.records
    assert record.gpu == "L4"
    assert record.files["micro.csv"].sha256 == hashlib.sha256((chases / "micro.csv").read_bytes()).hexdigest()
    assert len(record.files["micro.csv"].rows) == 16
    value = record.parameters["launch.graph"]
    assert value.interval[0] < value.value < value.interval[1]
    assert record.kept["l2.shared_fraction"] == "no row depends on it"
    assert turbosim("hw", "check", "mine.yaml", cwd=chases).returncode == 0
    assert turbosim("simulate", "--hw", "mine.yaml", "--kernel", "copy", "--bytes", "1 MiB", cwd=chases).returncode == 0


def test_json_has_every_row(chases):
    done = turbosim("calibrate", "--from", "micro.csv", "--hw", "l4", "-o", "other.yaml", "--json", cwd=chases)
    found = json.loads(done.stdout)
    assert (found["hw"], found["gpu"], len(found["files"][0]["used"])) == ("l4", "L4", 16)
    assert {p["path"] for p in found["parameters"] if p["determined"]} == {
        "l2.latency_near", "l2.latency_far", "hbm.latency", "launch.stream", "launch.graph", "hbm.efficiency"}
    # The last write of a kernel drains over one channel, which is how launches know of it.
    share = next(p for p in found["parameters"] if p["path"] == "hbm.efficiency")
    assert share["interval"][0] <= load_gpu("l4").hbm.efficiency <= share["interval"][1]
    assert sum(len(c["rows"]) for c in found["curves"]) == 16


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("--from", "flash.csv", "--hw", "l4", "-o", "x.yaml"), 3,
     "flash.csv:1: the columns are of no micro-benchmarks: neither those of gpu-benches (kernel, metric, value, notes) nor of the "
     "micro suite (kernel, phase, sizes, time_s); hardware is fitted on nothing else, so that kernels it is to predict stay unseen"),
    (("--from", "micro.csv", "--hw", "l4", "-o", "l4.yaml"), 2,
     "-o: 'l4.yaml' would extend a file of its own name; choose another, for example l4_calibrated.yaml"),
    (("--from", "micro.csv", "--hw", "l4", "-o", "mine.txt"), 2, "-o: a hardware file is called NAME.yaml, got 'mine.txt'"),
    (("--from", "micro.csv", "--from", "micro.csv", "--hw", "l4", "-o", "x.yaml"), 2,
     "--from: a file is given twice, and its rows would count twice"),
    (("--from", "none.csv", "--hw", "l4", "-o", "x.yaml"), 3, "none.csv: cannot be read: No such file or directory")])
def test_what_is_refused(chases, arguments, code, message):
    (chases / "flash.csv").write_text(ATTENTION + "l4,flash,prefill,1,4,4,256,256,64,true,2e-5\n")
    done = turbosim("calibrate", *arguments, cwd=chases)
    assert (done.returncode, done.stderr) == (code, f"error: {message}\n")
    assert not (chases / "x.yaml").exists()


def test_a_row_that_the_file_was_fitted_on_is_not_predicted_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("flash.csv").write_text(ATTENTION + "l4,flash,prefill,1,4,4,256,256,64,true,2e-5\n"
                                 "l4,flash,prefill,2,4,4,256,256,64,true,3e-5\n")
    Path("flash.meta.yaml").write_text("title: t\nsource: s\nlicence: none\ntrust: A\nl2: cold\nmethod: events\n"
                                       "kernels:\n  flash: {schedule: flash}\n")
    data = load_file(Path("flash.csv"))
    Path("mine.yaml").write_text(
        "extends: l4\nname: mine\nfitted:\n  by: turbosim calibrate\n  gpu: L4\n  parameters: {}\n  files:\n"
        f"    other.csv: {{sha256: '{'0' * 64}', rows: ['{digests(data.rows[1])[0]}']}}\n")
    message = ("flash.csv:3: flash l4 flash prefill b2 h4/4 256x256 d64 causal: mine.yaml was fitted on this row, in other.csv, and "
               "would predict it; validate on other rows, or fit on other ones")
    with pytest.raises(ConfigError, match=rf"^{re.escape(message)}$"):
        predict([data], hardware={"l4": "mine.yaml"})
    done = turbosim("validate", "--data", "flash.csv", "--hw", "l4=mine.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, f"error: {message}\n")
    # Nor with a file that extends it.
    Path("further.yaml").write_text("extends: mine\nname: further\n")
    with pytest.raises(ConfigError, match=re.escape("further.yaml was fitted on this row, in other.csv")):
        predict([data], hardware={"l4": "further.yaml"})


def test_a_micro_benchmark_restated_as_a_row_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "micro.csv", SUITE, suite(load_gpu("l4"), 0, 1))
    found = fit("l4", [Path("micro.csv")])
    Path("mine.yaml").write_text(text_of(found, "mine"))
    copy = next(r for r in csv.DictReader(Path("micro.csv").read_text().splitlines()) if r["kernel"] == "copy")
    side = int(copy["sizes"].partition("=")[2]) // 4
    Path("again.csv").write_text(f"gpu,kernel,sizes,time_s\nl4,copy,rows=1:columns={side},{copy['time_s']}\n")
    Path("again.meta.yaml").write_text("title: t\nsource: s\nlicence: none\ntrust: A\nl2: cold\nmethod: events\n"
                                       "kernels:\n  copy: {schedule: copy}\n")
    with pytest.raises(ConfigError, match=re.escape("mine.yaml was fitted on this row, in micro.csv, and would predict it")):
        predict([load_file(Path("again.csv"))], hardware={"l4": "mine.yaml"})


def test_a_broken_record_is_refused_at_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("extends: l4\nname: mine\nfitted:\n  by: me\n  gpu: L4\n  parameters: {}\n  files:\n"
                                 "    a.csv: {sha256: abc, rows: []}\n")
    with pytest.raises(ConfigError, match=re.escape(
            "mine.yaml:8:13: fitted.files.a.csv.sha256: string should match pattern '^[0-9a-f]{64}$'")):
        load_resolved("mine.yaml")


def test_validate_compares_with_the_shipped_file(tmp_path):
    (tmp_path / "flash.csv").write_text(ATTENTION + "l4,flash,decode,4,4,4,1,8192,128,false,4e-4\n")
    (tmp_path / "flash.meta.yaml").write_text("title: t\nsource: s\nlicence: none\ntrust: A\nl2: cold\nmethod: events\n"
                                              "kernels:\n  flash: {schedule: flash}\n")
    (tmp_path / "slow.yaml").write_text("extends: l4\nname: slow\nsources: {d: t}\nhbm: {efficiency: {value: 0.5, source: d}}\n")
    done = turbosim("validate", "--data", "flash.csv", "--hw", "l4=slow.yaml", "--compare", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tile = next(c for c in json.loads(done.stdout)["compared"] if c["model"] == "tile")
    assert tile["given"]["bias"] > tile["shipped"]["bias"] + 0.2
    table = turbosim("validate", "--data", "flash.csv", "--hw", "l4=slow.yaml", "--compare", cwd=tmp_path).stdout
    assert "Errors with the shipped and with the given hardware files" in table
    for arguments, message in ((("--hw", "l4", "--compare"), "--compare: name the hardware file to compare, --hw GPU=FILE"),
                               (("--hw", "l4=slow.yaml", "--compare", "--markdown"), "--compare: goes without --markdown")):
        done = turbosim("validate", "--data", "flash.csv", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (2, f"error: {message}\n")
