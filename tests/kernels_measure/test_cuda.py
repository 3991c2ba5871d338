"""The CUDA device on a simulated torch: what is inside the events, and what is not."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from kernels.case import Check, Prepared
from kernels.measure import cuda
from kernels.measure.cuda import CHUNK, GRAPH_LAUNCHES, CudaDevice
from tests.kernels_measure import simulated_torch
from turbosim.errors import TurbosimError


@pytest.fixture
def gpu(monkeypatch):
    gpu = simulated_torch.Gpu()
    monkeypatch.setitem(sys.modules, "torch", simulated_torch.make(gpu))
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.6.0"))
    # Host times that the device measures are those of the simulation.
    clock = SimpleNamespace(monotonic=lambda: gpu.host, perf_counter=lambda: gpu.host)
    monkeypatch.setattr(cuda, "time", clock)
    return gpu


def prepared(gpu, seconds, kernels=1):
    def launch():
        for _ in range(kernels):
            gpu.enqueue("kernel", seconds)
        return []

    return Prepared(launch, lambda: Check(0.0, 0.0, ""), 0, 0)


def test_facts(gpu):
    device = CudaDevice()
    assert device.facts() == {
        "gpu": "Simulated", "compute_capability": "9.0", "sm_count": 132, "memory_bytes": 2**37,
        "l2_bytes": 50 * 2**20, "l2_flush_bytes": 2**28, "cuda": "13.0", "torch": "2.11.0", "triton": "3.6.0"}
    assert device.uuid() == "GPU-0-1"
    assert device.healthy()
    device.release()
    assert gpu.log[-1] == "empty cache"


@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize("seconds", [3e-6, 50e-6, 5e-3])
def test_events_hold_the_kernel_alone(gpu, cold, seconds):
    timing = CudaDevice().time_events(prepared(gpu, seconds), cold)
    assert timing.samples == pytest.approx([seconds] * len(timing.samples), rel=1e-3)
    assert len(timing.samples) == {3e-6: 200, 50e-6: 200, 5e-3: 60}[seconds]
    assert timing.ended - timing.began >= seconds * len(timing.samples)


def test_events_hold_a_pipeline_of_kernels_that_the_host_enqueues_slowly(gpu):
    for cold in (True, False):
        timing = CudaDevice().time_events(prepared(gpu, 2e-6, kernels=12), cold)
        assert timing.samples == pytest.approx([24e-6] * 200, rel=1e-3)


def test_cold_evicts_before_every_repeat_and_warm_before_none(gpu):
    for cold in (True, False):
        timing = CudaDevice().time_events(prepared(gpu, 5e-3), cold)
        assert len(timing.samples) == 60
        # The last repeats only, since before them the kernel was warmed up.
        each = ["write", "read", "event", "kernel", "event"] if cold else ["event", "kernel", "event"]
        last = 60 if cold else 60 % CHUNK
        assert gpu.log[-last * len(each):] == each * last


def test_inputs_are_back_in_l2_before_warm_repeats_of_a_fast_kernel(gpu):
    CudaDevice().time_events(prepared(gpu, 3e-6), cold=False)
    chunk = ["read", *["kernel"] * 3, *["event", "kernel", "event"] * CHUNK]
    for n in range(200 // CHUNK):
        end = max(i for i, what in enumerate(gpu.log) if what == "read") + len(chunk)
        assert gpu.log[end - len(chunk):end] == chunk, n
        del gpu.log[end - len(chunk):]
        while gpu.log[-1] == "write":
            gpu.log.pop()


def test_a_graph_sample_is_the_mean_of_its_launches(gpu):
    timing = CudaDevice().time_graph(prepared(gpu, 3e-6))
    assert timing.samples == pytest.approx([3e-6] * 200)
    assert gpu.log.count("graph") >= 200
    assert gpu.log.count("kernel") == 3
    assert GRAPH_LAUNCHES == 100


class Launching:
    """Stands in for a triton kernel."""

    def __init__(self, gpu, error=None):
        self.gpu, self.error = gpu, error

    def __getitem__(self, grid):
        def launch(*_, num_warps):
            if self.error is not None:
                raise self.error
            self.gpu.enqueue("probe", 1e-6)

        return launch


@pytest.fixture
def probing(gpu, monkeypatch):
    """Return a call that probes a device on which an empty kernel raises *error*."""
    def call(error=None):
        monkeypatch.setitem(sys.modules, "kernels.micro", SimpleNamespace(empty_kernel=Launching(gpu, error)))
        CudaDevice().probe()

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("CUDA_LAUNCH_BLOCKING", raising=False)
    return call


def test_a_kernel_is_launched_before_any_case(gpu, probing):
    probing()
    assert gpu.log[-1] == "probe"


def test_a_triton_that_cannot_launch_ends_the_call(probing):
    message = ("triton 3.6.0 cannot run an empty kernel on Simulated: error: RuntimeError: Failed to find C compiler.; it "
               "needs a C compiler, Python's headers, a writable cache (TRITON_CACHE_DIR) and a driver as new as torch's "
               "CUDA")
    with pytest.raises(TurbosimError, match="^" + re.escape(message) + "$"):
        probing(RuntimeError("Failed to find C compiler."))


@pytest.mark.parametrize(("name", "effect"), [
    ("TRITON_INTERPRET", "kernels would be interpreted on the CPU"),
    ("CUDA_LAUNCH_BLOCKING", "every launch would wait for its end, and events would time the host")])
def test_settings_that_spoil_measurements(probing, monkeypatch, name, effect):
    monkeypatch.setenv(name, "0")
    probing()
    monkeypatch.setenv(name, "1")
    with pytest.raises(TurbosimError, match=f"^{name}=1 is set: {effect}; unset it$"):
        probing()


def test_a_gpu_without_memory_for_the_flush(gpu, monkeypatch):
    def full(*shape, **_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 256.00 MiB")

    monkeypatch.setattr(sys.modules["torch"], "empty", full)
    message = ("no 256 MiB of GPU memory to flush L2 with: out of memory: CUDA out of memory. Tried to allocate 256.00 "
               "MiB; end the other processes on the GPU, or choose one with CUDA_VISIBLE_DEVICES")
    with pytest.raises(TurbosimError, match="^" + re.escape(message) + "$"):
        CudaDevice()


def test_a_host_that_allocates_is_in_no_timing(gpu):
    """A launch may allocate its outputs: that is the host's time, and the GPU does not wait for the host."""
    def launch():
        gpu.host += 60e-6
        gpu.enqueue("kernel", 4e-6)
        gpu.host += 40e-6
        return []

    run = Prepared(launch, lambda: Check(0.0, 0.0, ""), 0, 0)
    for timing in (*(CudaDevice().time_events(run, cold) for cold in (True, False)), CudaDevice().time_graph(run)):
        assert timing.samples == pytest.approx([4e-6] * 200, rel=1e-3)


def test_a_broken_capture_is_reported_by_what_broke_it(gpu, monkeypatch):
    class Capture:
        def __init__(self, graph):
            pass

        def __enter__(self):
            gpu.captured = []

        def __exit__(self, *_):
            gpu.captured = None
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def launch():
        if gpu.captured is not None:
            raise ValueError("a kernel that reads back while it is captured")
        return []

    monkeypatch.setattr(sys.modules["torch"].cuda, "graph", Capture)
    device = CudaDevice()
    with pytest.raises(ValueError, match=r"^a kernel that reads back while it is captured$"):
        device.time_graph(Prepared(launch, lambda: Check(0.0, 0.0, ""), 0, 0))
    with pytest.raises(RuntimeError, match=r"^CUDA error: operation failed due to a previous error during capture$"):
        device.time_graph(Prepared(list, lambda: Check(0.0, 0.0, ""), 0, 0))
