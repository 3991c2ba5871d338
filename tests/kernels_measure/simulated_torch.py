"""As much of torch as the CUDA device uses, on a host and a GPU whose clocks are simulated."""

from __future__ import annotations

from types import SimpleNamespace

HOST_S = 10e-6
"""The host's time to enqueue anything."""


class Gpu:
    """One stream. Work begins when it was enqueued and the work before it is done."""

    def __init__(self):
        self.host = 0.0
        self.done = 0.0
        self.captured = None
        self.log = []

    def enqueue(self, what, seconds):
        if self.captured is not None:
            self.captured.append((what, seconds))
            return self.done
        self.host += HOST_S
        self.log.append(what)
        self.done = max(self.done, self.host) + seconds
        return self.done

    def synchronize(self):
        self.host = max(self.host, self.done)


def make(gpu, l2_bytes=50 * 2**20, cuda="13.0"):
    """Return a torch whose launches go to *gpu*."""

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = gpu.enqueue("event", 0.0)

        def elapsed_time(self, end):
            assert end.at <= gpu.host, "read before the GPU was waited for"
            return (end.at - self.at) * 1e3

    class Stream:
        def wait_stream(self, other):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    class CUDAGraph:
        def replay(self):
            gpu.enqueue("graph", sum(seconds for _, seconds in self.work))

    class Capture:
        def __init__(self, graph):
            self.graph = graph

        def __enter__(self):
            gpu.captured = self.graph.work = []

        def __exit__(self, *_):
            gpu.captured = None

    def empty(*shape, dtype, device):
        assert device == "cuda"
        nbytes = 4 * (shape[0] if shape and shape[0] != () else 1)
        return SimpleNamespace(nbytes=nbytes, zero_=lambda: gpu.enqueue("write", nbytes / 2e12))

    def total(buffer, dim, out):
        gpu.enqueue("read", buffer.nbytes / 2e12)

    properties = SimpleNamespace(name="Simulated", major=9, minor=0, multi_processor_count=132, total_memory=2**37,
                                 L2_cache_size=l2_bytes, uuid="0-1")
    runtime = SimpleNamespace(
        is_available=lambda: True, current_device=lambda: 0, get_device_properties=lambda device: properties,
        Event=Event, Stream=Stream, CUDAGraph=CUDAGraph, graph=Capture, stream=lambda stream: stream,
        current_stream=Stream, synchronize=gpu.synchronize, empty_cache=lambda: gpu.log.append("empty cache"))
    return SimpleNamespace(__version__="2.11.0", float32="float32", empty=empty, sum=total, cuda=runtime,
                           version=SimpleNamespace(cuda=cuda))
