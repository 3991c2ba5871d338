"""NVIDIA GPUs through torch: CUDA events, graphs, and an L2 that is emptied between repeats."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from kernels.case import Prepared
from kernels.measure.device import Timing
from kernels.measure.failures import reason_of
from kernels.measure.predict import repeats_for
from kernels.ops.common import MissingPackageError, check_version
from turbosim.errors import TurbosimError, UsageError

HARMFUL = {"TRITON_INTERPRET": "kernels would be interpreted on the CPU",
           "CUDA_LAUNCH_BLOCKING": "every launch would wait for its end, and events would time the host"}
"""Environment variables under which nothing can be measured."""
WARM_UP_S = 0.1
GRAPH_LAUNCHES = 100
CHUNK = 25
"""Warm repeats that are queued at once: a stream takes about a thousand entries before the host has to wait."""
L2_UNKNOWN = 128 * 1024**2
"""L2 size to assume where torch does not tell it [B]."""
LEAST_FLUSH = 256 * 1024**2
"""Bytes to flush with at least, so that writing them takes longer than enqueuing the write."""


class CudaDevice:
    """The current CUDA device.

    Raises MissingPackageError without torch or triton new enough, TurbosimError without an NVIDIA GPU or when its
    memory is full.
    """

    source = "measured"
    target = "cuda"

    def __init__(self) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingPackageError(f"torch cannot be imported: {error}; install torch 2.11 or newer, built with CUDA"
                                      ) from None
        try:
            import triton  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingPackageError(f"triton cannot be imported: {error}; install triton 3.6 or newer") from None
        check_version("torch", torch.__version__)
        check_version("triton", triton.__version__)
        if torch.version.cuda is None:
            raise TurbosimError(f"torch {torch.__version__} is built without CUDA; install a build for an NVIDIA GPU")
        if not torch.cuda.is_available():
            raise TurbosimError("no NVIDIA GPU: torch sees no CUDA device; check nvidia-smi and CUDA_VISIBLE_DEVICES")
        self._torch: Any = torch
        self._triton: Any = triton
        self._properties: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
        self._l2_bytes = int(getattr(self._properties, "L2_cache_size", 0)) or L2_UNKNOWN
        self._flush_bytes = max(2 * self._l2_bytes, LEAST_FLUSH)
        try:
            self._buffer = torch.empty(self._flush_bytes // 4, dtype=torch.float32, device="cuda")
        except RuntimeError as error:
            raise TurbosimError(f"no {self._flush_bytes >> 20} MiB of GPU memory to flush L2 with: {reason_of(error)}; "
                                "end the other processes on the GPU, or choose one with CUDA_VISIBLE_DEVICES") from None
        self._sink = torch.empty((), dtype=torch.float32, device="cuda")
        self._flush()
        self._write_s = _median(self._timed(self._buffer.zero_, 10))
        self._write_host_s = self._host_time(self._buffer.zero_)

    def probe(self) -> None:
        """Launch an empty kernel. Raises TurbosimError when that fails: every case would fail for the same reason, and
        a failed row is not tried again."""
        for name, effect in HARMFUL.items():
            if os.environ.get(name, "0") not in ("", "0"):
                raise UsageError(f"{name}={os.environ[name]} is set: {effect}; unset it")
        from kernels.micro import empty_kernel

        try:
            empty_kernel[(1,)](self._sink, num_warps=1)
            self._torch.cuda.synchronize()
        except Exception as error:
            what = f"triton {self._triton.__version__} cannot run an empty kernel on {self._properties.name}"
            raise TurbosimError(f"{what}: {reason_of(error)}; it needs a C compiler, Python's headers, a writable "
                                "cache (TRITON_CACHE_DIR) and a driver as new as torch's CUDA") from None

    def facts(self) -> dict[str, Any]:
        """Return GPU name, sizes and versions."""
        p = self._properties
        return {"gpu": p.name, "compute_capability": f"{p.major}.{p.minor}", "sm_count": p.multi_processor_count,
                "memory_bytes": p.total_memory, "l2_bytes": self._l2_bytes, "l2_flush_bytes": self._flush_bytes,
                "cuda": self._torch.version.cuda, "torch": self._torch.__version__,
                "triton": self._triton.__version__}

    def uuid(self) -> str | None:
        """Return the driver's identifier of the GPU, if torch tells it."""
        uuid = getattr(self._properties, "uuid", None)
        return None if uuid is None else f"GPU-{uuid}"

    def time_events(self, prepared: Prepared, cold: bool) -> Timing:
        """Time launches one by one between two events each."""
        launch = prepared.launch
        self._warm_up(launch)
        host_s = self._host_time(launch)
        run_s = _median(self._timed(launch, 3, self._flush if cold else None))
        repeats = repeats_for(run_s)
        began = time.monotonic()
        if cold:
            writes = self._writes_over(host_s)
            samples = self._timed(launch, repeats, lambda: self._flush(writes))
        else:
            samples = []
            while len(samples) < repeats:
                chunk = min(CHUNK, repeats - len(samples))
                if run_s < 2 * host_s:
                    self._flush(self._writes_over((chunk + 3) * host_s))
                # These bring the inputs back into L2.
                for _ in range(3):
                    launch()
                samples += self._timed(launch, chunk)
        return Timing(samples, began, time.monotonic())

    def time_graph(self, prepared: Prepared) -> Timing:
        """Time graphs of ``GRAPH_LAUNCHES`` launches, back to back."""
        cuda = self._torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(3):
                prepared.launch()
        cuda.current_stream().wait_stream(side)
        cuda.synchronize()
        graph = cuda.CUDAGraph()
        try:
            with cuda.graph(graph):
                for _ in range(GRAPH_LAUNCHES):
                    prepared.launch()
        except RuntimeError as error:
            # Ending a broken capture fails as well, and says less than what broke it.
            raise error.__context__ or error from None
        self._warm_up(graph.replay)
        repeats = repeats_for(_median(self._timed(graph.replay, 3)))
        began = time.monotonic()
        # The host gets ahead of the GPU.
        graph.replay()
        samples = [t / GRAPH_LAUNCHES for t in self._timed(graph.replay, repeats)]
        return Timing(samples, began, time.monotonic())

    def release(self) -> None:
        """Return cached memory to the driver, so that a case cannot fail for what an earlier one left."""
        gc.collect()
        self._torch.cuda.empty_cache()

    def healthy(self) -> bool:
        """Whether a kernel still runs."""
        try:
            self._sink.zero_()
            self._torch.cuda.synchronize()
        except RuntimeError:
            return False
        return True

    def _writes_over(self, host_s: float) -> int:
        """Return how many writes of the buffer keep the GPU busy while the host enqueues them and *host_s* longer.

        If the host were not ahead of the GPU, the time between two events would hold the host's.
        """
        gained = max(self._write_s - self._write_host_s, self._write_s / 4)
        return max(1, math.ceil(1.5 * host_s / gained))

    def _flush(self, writes: int = 1) -> None:
        """Write at least twice the size of L2, then read it: the read evicts the dirty lines, whose write-back would
        otherwise compete with the kernel that is timed."""
        for _ in range(writes):
            self._buffer.zero_()
        self._torch.sum(self._buffer, dim=0, out=self._sink)

    def _warm_up(self, step: Callable[[], object]) -> None:
        end = time.monotonic() + WARM_UP_S
        steps = 0
        while steps < 3 or time.monotonic() < end:
            step()
            self._torch.cuda.synchronize()
            steps += 1

    def _host_time(self, launch: Callable[[], object]) -> float:
        """Return the host's time to enqueue a launch and its events [s]."""
        self._torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(5):
            self._event().record()
            launch()
            self._event().record()
        host_s = (time.perf_counter() - began) / 5
        self._torch.cuda.synchronize()
        return host_s

    def _event(self) -> Any:
        return self._torch.cuda.Event(enable_timing=True)

    def _timed(self, step: Callable[[], object], repeats: int, before: Callable[[], object] | None = None
               ) -> list[float]:
        """Return seconds of each of *repeats* steps, with *before* run and not counted before each."""
        events = [(self._event(), self._event()) for _ in range(repeats)]
        for start, end in events:
            if before is not None:
                before()
            start.record()
            step()
            end.record()
        self._torch.cuda.synchronize()
        return [start.elapsed_time(end) * 1e-3 for start, end in events]


def _median(samples: Sequence[float]) -> float:
    return Timing(samples, 0.0, 0.0).quantile(0.5)
