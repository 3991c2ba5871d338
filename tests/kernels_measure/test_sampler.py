"""Clocks and power: means over intervals, and GPUs or tools that are not there."""

from __future__ import annotations

import stat
import time
from types import SimpleNamespace

import pytest

from kernels.measure import sampler
from kernels.measure.sampler import COLUMNS, NvidiaSmi, Nvml, Sampler, open_sensors


def filled(samples):
    """Return a sampler that has seen *samples*: (time, values)."""
    made = Sampler(lambda: samples[0][1], period_s=0.05)
    made._times = [at for at, _ in samples]
    made._samples = [values for _, values in samples]
    return made


SAMPLES = [(1.0, (1e9, 2e9, 100.0, 40.0)), (2.0, (2e9, 2e9, 200.0, None)), (3.0, (3e9, None, 300.0, None))]


@pytest.mark.parametrize(("began", "ended", "expected"), [
    (0.5, 3.5, (2e9, 2e9, 200.0, 40.0)),
    (1.5, 3.0, (2.5e9, 2e9, 250.0, None)),
    (2.05, 2.06, (2e9, 2e9, 200.0, None)),  # none inside, one near
    (1.93, 1.94, (2e9, 2e9, 200.0, None)),
    (3.05, 3.06, (3e9, None, 300.0, None)),
])
def test_means(began, ended, expected):
    assert filled(SAMPLES).mean(began, ended) == dict(zip(COLUMNS, expected, strict=True))


@pytest.mark.parametrize(("began", "ended"), [(0.1, 0.2), (1.4, 1.5), (3.2, 3.3)])
def test_no_sample_near(began, ended):
    assert filled(SAMPLES).mean(began, ended) == {}


def test_no_sample_at_all():
    assert Sampler(lambda: SAMPLES[0][1]).mean(0.0, 1.0) == {}


def test_the_thread_samples_and_survives_errors():
    answers = iter([(1.0, 2.0, 3.0, 4.0), OSError("gone"), (3.0, 2.0, 3.0, 4.0)])

    def read():
        answer = next(answers, None)
        if answer is None or isinstance(answer, OSError):
            raise OSError("gone")
        return answer

    made = Sampler(read, period_s=0.01)
    began = time.monotonic()
    made.start()
    until = began + 10
    while len(made._samples) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    made.stop()
    assert made.mean(began, time.monotonic()) == dict(zip(COLUMNS, (2.0, 2.0, 3.0, 4.0), strict=True))


def smi(tmp_path, monkeypatch, line):
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncase \"$*\" in *driver_version*) echo 580.1;; *) {line};; esac\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")


def test_nvidia_smi_stands_in_for_the_library(tmp_path, monkeypatch):
    smi(tmp_path, monkeypatch, "echo '1980, 3201, 412.35, [N/A]'")
    monkeypatch.setattr(sampler.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    sensors = open_sensors("GPU-1")
    assert isinstance(sensors, NvidiaSmi)
    assert sensors.read() == (1.98e9, 3.201e9, 412.35, None)
    assert (sensors.driver(), sensors.clock_policy()) == ("580.1", "unknown: read through nvidia-smi")
    smi(tmp_path, monkeypatch, "exit 9")
    with pytest.raises(OSError, match="returned non-zero exit status 9"):
        sensors.read()


def test_without_library_and_tool_there_are_no_sensors(tmp_path, monkeypatch):
    monkeypatch.setattr(sampler.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert open_sensors(None) is None


@pytest.mark.parametrize(("name", "reasons", "policy"), [
    ("nvmlDeviceGetCurrentClocksThrottleReasons", 2, "locked or limited by a setting of the GPU, made before this run"),
    ("nvmlDeviceGetCurrentClocksEventReasons", 1, "not locked"),
    ("nvmlSomethingElse", 0, "unknown: the driver does not tell")])
def test_the_clock_policy_of_old_new_and_other_drivers(monkeypatch, name, reasons, policy):
    def tell(_handle, place):
        place._obj.value = reasons
        return 0

    library = SimpleNamespace(nvmlInit_v2=lambda: 0, nvmlDeviceGetHandleByUUID=lambda uuid, handle: 0, **{name: tell})
    monkeypatch.setattr(sampler.ctypes, "CDLL", lambda _: library)
    assert Nvml("GPU-0").clock_policy() == policy
