"""Nsight Compute: its output, its failures, and which case a kernel belongs to."""

from __future__ import annotations

import re
import stat
import sys
import time
from pathlib import Path

import pytest

from kernels.measure import counters
from kernels.measure.counters import choose, combine, parse, profile, split
from kernels.measure.link import DeadlineError
from kernels.measure.suites import decode, make
from turbosim.errors import TurbosimError

HEADER = ('"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size",'
          '"Device","CC","Section Name","Metric Name","Metric Unit","Metric Value"\n')
KNOWN = "gpu__time_duration sm__cycles_elapsed dram__bytes_read lts__t_sector_hit_rate sm__inst_executed_pipe_tensor"
TENSOR = "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_elapsed"


def table(*kernels):
    """Return ncu's CSV of (name, ns, cycles, bytes read, hit rate in percent, tensor share in percent)."""
    lines = ["==PROF== Connected to process 7 (/usr/bin/python3)\n", HEADER]
    for number, (name, *values) in enumerate(kernels):
        metrics = (("gpu__time_duration.sum", "ns"), ("sm__cycles_elapsed.max", "cycle"), ("dram__bytes_read.sum", "byte"),
                   ("lts__t_sector_hit_rate.pct", "%"), (TENSOR, "%"))
        lines += [f'"{number}","7","python3","host","{name}","1","7","(128, 1, 1)","(4, 1, 1)","0","9.0","Command line '
                  f'profiler metrics","{metric}","{unit}","{value}"\n'
                  for (metric, unit), value in zip(metrics, values, strict=True)]
    return "".join(lines)


MARK = ("counters_marker", "900", "10", "0", "0", "0")
A = ("attention", "30,000", "50,000", "1,048,576", "80", "60")
B = ("combine", "10,000", "20,000", "1,024", "40", "20")
CASES = [make("flash", decode(128, 1024 * n, 1)) for n in (1, 2, 3)]


def test_a_case_is_what_follows_its_marker():
    groups = split(parse(table(A, MARK, A, B, MARK, MARK, B)))
    assert [[counts["sm__cycles_elapsed.max"] for counts in group] for group in groups] == [[50000, 20000], [], [20000]]


def test_times_and_bytes_add_up_and_shares_are_weighted_by_time():
    metrics = choose(set(KNOWN.split()))
    assert metrics == {"time_s": "gpu__time_duration.sum", "cycles": "sm__cycles_elapsed.max",
                       "dram_read_bytes": "dram__bytes_read.sum", "l2_hit_rate": "lts__t_sector_hit_rate.pct",
                       "tensor_util": TENSOR}
    [group] = split(parse(table(MARK, A, B)))
    assert combine(group, metrics) == pytest.approx({
        "time_s": 40e-6, "cycles": 70000, "dram_read_bytes": 1049600, "l2_hit_rate": 0.7, "tensor_util": 0.5})


def test_a_metric_that_a_kernel_lacks_leaves_its_column_out():
    metrics = choose(set(KNOWN.split()))
    [group] = split(parse(table(MARK, (*A[:4], "n/a", A[5]))))
    assert combine(group, metrics).keys() == {"time_s", "cycles", "dram_read_bytes", "tensor_util"}


@pytest.fixture
def ncu(tmp_path, monkeypatch):
    """Put a program on the PATH that writes what ncu, and the process it profiles, would write."""
    def install(log="", outcomes="", output="", code=0, seconds=0.0):
        script = tmp_path / "ncu"
        script.write_text(f"#!{sys.executable}\n" + f"""
import pathlib, subprocess, sys, time
if "--query-metrics" in sys.argv:
    print({KNOWN.replace(' ', chr(10))!r})
    sys.exit()
assert sys.argv[sys.argv.index("--clock-control") + 1] == "none"
if {seconds}:
    profiled = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path({str(tmp_path / "profiled")!r}).write_text(str(profiled.pid))
time.sleep({seconds})
pathlib.Path(sys.argv[sys.argv.index("--log-file") + 1]).write_text({log!r})
pathlib.Path(sys.argv[-1]).write_text({outcomes!r})
print({output!r})
sys.exit({code})
""")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path))
        counters._known_metrics.cache_clear()

    return install


def outcome(reason="null", marked="true", fatal="false"):
    return f'{{"reason": {reason}, "marked": {marked}, "fatal": {fatal}}}\n'


def run(seconds=60.0):
    results = profile(CASES, {}, time.monotonic() + seconds)
    assert list(results) == [case.key for case in CASES[:len(results)]]
    return [(row["status"], row.get("cycles"), row.get("reason")) for row in results.values()]


def test_every_case_has_its_own_kernels(ncu):
    ncu(table(MARK, A, B, MARK, MARK, B), outcome() + outcome('"out of memory: x"') + outcome())
    assert run() == [("ok", 70000, None), ("failed", None, "out of memory: x"), ("ok", 20000, None)]


def test_a_kernel_that_was_not_imported_has_no_marker(ncu):
    ncu(table(MARK, A, MARK, B), outcome() + outcome('"error: x"', "false") + outcome())
    assert run() == [("ok", 50000, None), ("failed", None, "error: x"), ("ok", 20000, None)]


def test_a_case_that_ends_the_process_is_failed_and_later_ones_are_left(ncu):
    ncu(table(MARK, A), outcome(), "==ERROR== The application returned an error code (11).", 11)
    assert run() == [("ok", 50000, None), (
        "failed", None, "ncu: exit code 11: ==ERROR== The application returned an error code (11).")]


def test_a_sticky_error_blames_no_later_case(ncu):
    ncu(table(MARK, A, MARK), outcome() + outcome('"CUDA error: x"', fatal="true"))
    assert run() == [("ok", 50000, None), ("failed", None, "CUDA error: x")]


def test_no_permission_to_read_counters(ncu):
    ncu("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", outcome() * 3, code=1)
    with pytest.raises(TurbosimError, match="^" + re.escape(
            "--counters: ncu cannot profile here: ERR_NVGPUCTRPERM - The user does not have permission") + "$"):
        run()


def test_the_time_limit_ends_a_batch_and_what_it_profiles(ncu, tmp_path):
    ncu(seconds=30)
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        run(seconds=3)
    assert time.monotonic() - began < 20
    stat_of = Path(f"/proc/{(tmp_path / 'profiled').read_text()}/stat")
    # It may be a zombie, if nothing adopts it.
    until = time.monotonic() + 10
    while stat_of.exists() and stat_of.read_text().split()[2] != "Z" and time.monotonic() < until:
        time.sleep(0.02)
    assert not stat_of.exists() or stat_of.read_text().split()[2] == "Z"
