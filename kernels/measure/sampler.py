"""Clocks, power and temperature of the GPU, read every 50 ms by a thread of the parent process while a worker measures.

They come from NVML through ctypes, else from ``nvidia-smi``; where neither works the columns stay empty.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from kernels.measure.schema import Value

PERIOD_S = 0.05
COLUMNS = ("sm_clock_hz", "mem_clock_hz", "power_w", "temperature_c")
Sample = tuple[float | None, float | None, float | None, float | None]
"""Values of ``COLUMNS``; None where the GPU does not tell."""

NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
CLOCK_REASON_APPLICATIONS_SETTING = 0x2
"""NVML's reason for the present clock that stands for one set by an administrator."""


class Nvml:
    """A GPU's sensors through libnvidia-ml. Raises OSError when the library, or the GPU, is not there."""

    def __init__(self, uuid: str | None) -> None:
        self._library: Any = ctypes.CDLL("libnvidia-ml.so.1")
        self._check(self._library.nvmlInit_v2())
        self._handle = ctypes.c_void_p()
        if uuid is None or self._library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(self._handle)):
            self._check(self._library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._handle)))

    def read(self) -> Sample:
        """Return one sample."""
        library = self._library

        def value(function: Any, unit: float, *which: int) -> float | None:
            number = ctypes.c_uint()
            code = function(self._handle, *which, ctypes.byref(number))
            return None if code else number.value * unit

        return (value(library.nvmlDeviceGetClockInfo, 1e6, NVML_CLOCK_SM),
                value(library.nvmlDeviceGetClockInfo, 1e6, NVML_CLOCK_MEM),
                value(library.nvmlDeviceGetPowerUsage, 1e-3),
                value(library.nvmlDeviceGetTemperature, 1.0, NVML_TEMPERATURE_GPU))

    def driver(self) -> str | None:
        """Return the driver's version."""
        text = ctypes.create_string_buffer(96)
        return None if self._library.nvmlSystemGetDriverVersion(text, 96) else text.value.decode()

    def clock_policy(self) -> str:
        """Return in words whether the clocks are locked."""
        reasons = ctypes.c_ulonglong()
        # Newer drivers may drop the older name.
        ask = (getattr(self._library, "nvmlDeviceGetCurrentClocksThrottleReasons", None)
               or getattr(self._library, "nvmlDeviceGetCurrentClocksEventReasons", None))
        if ask is None or ask(self._handle, ctypes.byref(reasons)):
            return "unknown: the driver does not tell"
        if reasons.value & CLOCK_REASON_APPLICATIONS_SETTING:
            return "locked or limited by a setting of the GPU, made before this run"
        return "not locked"

    @staticmethod
    def _check(code: int) -> None:
        if code:
            raise OSError(f"NVML error {code}")


class NvidiaSmi:
    """A GPU's sensors through ``nvidia-smi``. Raises OSError when it is not there or fails."""

    def __init__(self, uuid: str | None) -> None:
        path = shutil.which("nvidia-smi")
        if path is None:
            raise OSError("nvidia-smi is not on the PATH")
        self._command = [path, f"--id={uuid or 0}", "--format=csv,noheader,nounits"]
        self._driver = self._query("driver_version")

    def read(self) -> Sample:
        """Return one sample; a call takes tens of milliseconds."""
        cells = self._query("clocks.sm,clocks.mem,power.draw,temperature.gpu").split(",")

        def value(text: str, unit: float) -> float | None:
            try:
                return float(text) * unit
            except ValueError:
                return None

        clock, memory, watts, celsius = cells
        return value(clock, 1e6), value(memory, 1e6), value(watts, 1), value(celsius, 1)

    def driver(self) -> str | None:
        """Return the driver's version."""
        return self._driver

    def clock_policy(self) -> str:
        """Return that it is not known."""
        return "unknown: read through nvidia-smi"

    def _query(self, fields: str) -> str:
        try:
            done = subprocess.run([*self._command, f"--query-gpu={fields}"], capture_output=True, text=True, check=True,
                                  timeout=5)
        except subprocess.SubprocessError as error:
            raise OSError(str(error)) from None
        return done.stdout.strip()


def open_sensors(uuid: str | None) -> Nvml | NvidiaSmi | None:
    """Return the sensors of the GPU with the driver's identifier *uuid*, the first GPU if None; None without any."""
    for kind in (Nvml, NvidiaSmi):
        with contextlib.suppress(OSError, AttributeError):
            return kind(uuid)
    return None


class Sampler:
    """Calls *read* every ``PERIOD_S`` in a thread, and means of what it returned over intervals."""

    def __init__(self, read: Callable[[], Sample], period_s: float = PERIOD_S) -> None:
        self._read = read
        self._period_s = period_s
        self._times: list[float] = []
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin sampling."""
        self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._stop.set()
        self._thread.join(timeout=10)

    def mean(self, began: float, ended: float) -> dict[str, Value]:
        """Return the means from *began* to *ended* (``time.monotonic()``), by column.

        When no sample lies between them, the one nearest to their middle is taken if it is at most two periods away.
        """
        count = len(self._samples)
        first = bisect.bisect_left(self._times, began, 0, count)
        last = bisect.bisect_right(self._times, ended, 0, count)
        chosen = self._samples[first:last]
        if not chosen and count:
            middle = (began + ended) / 2
            nearest = min(range(max(0, first - 1), min(count, first + 1)), key=lambda i: abs(self._times[i] - middle))
            if abs(self._times[nearest] - middle) <= 2 * self._period_s:
                chosen = [self._samples[nearest]]
        means: dict[str, Value] = {}
        for column, values in zip(COLUMNS, zip(*chosen, strict=True), strict=False):
            known = [v for v in values if v is not None]
            means[column] = sum(known) / len(known) if known else None
        return means

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                sample = self._read()
            except (OSError, ValueError, AttributeError):
                continue
            # Samples last, so that a reader never sees a time without its sample.
            self._times.append(time.monotonic())
            self._samples.append(sample)
