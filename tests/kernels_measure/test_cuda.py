"""The CUDA device on a simulated torch: what is inside the events, and what is not."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from kernels.case import Check, Prepared
from kernels.measure import cuda
from kernels.measure.cuda import CHUNK, GRAPH_LAUNCHES, CudaDevice
from tests.kernels_measure import simulated_torch


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
