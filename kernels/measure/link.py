"""The parent's end of a worker process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kernels.measure.cases import Case
from kernels.measure.failures import shorten
from kernels.measure.measuring import Have
from kernels.measure.store import ROOT
from turbosim.errors import TurbosimError, UsageError

START_TIMEOUT_S = 120.0


class WorkerLostError(Exception):
    """The worker ended, or was killed because it took too long; the text is the row's reason."""


class DeadlineError(Exception):
    """The worker was killed because the time of this call is over."""


def child_environment() -> dict[str, str]:
    """Return the environment of a child that imports from this checkout, whatever the current directory.

    Multiply-adds are fused whatever triton's default is: versions differ in it, and the kernels are meant with fusion.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"TRITON_DEFAULT_FP_FUSION": "1", **os.environ, "PYTHONPATH": path}


class Worker:
    """A started worker process. Raises TurbosimError or UsageError when the device cannot be used."""

    def __init__(self, device: str, names: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kernels.measure.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, env=child_environment())
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._pump, daemon=True).start()
        try:
            self._send({"device": device, "names": dict(names), "parent": os.getpid()})
            answer = self._receive(START_TIMEOUT_S, None)
        except WorkerLostError as error:
            raise TurbosimError(f"the worker process did not start: {error}") from None
        except BaseException:
            self.kill()
            raise
        if "fatal" in answer:
            self.kill()
            raise (UsageError if answer["code"] == UsageError.exit_code else TurbosimError)(answer["fatal"])
        self.hello: dict[str, Any] = answer["hello"]

    def measure(self, case: Case, have: Have, timeout_s: float, deadline: float | None) -> Iterator[dict[str, Any]]:
        """Yield the rows of *case*; each must be on disk before the next is asked for.

        Raises WorkerLostError when the worker ends or is silent for *timeout_s*, DeadlineError at *deadline* on the
        monotonic clock. The worker is dead then, and also when :attr:`alive` is false afterwards.
        """
        self._send({"case": case.to_json(), "have": [[*row, time_s] for row, time_s in have.items()]})
        while "done" not in (answer := self._receive(timeout_s, deadline)):
            yield answer
            self._send({"ack": True})
        if not answer["healthy"]:
            self.kill()

    @property
    def alive(self) -> bool:
        """Whether it takes another case."""
        return self._process.returncode is None

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            # A process inside the driver may take longer to die; nothing waits for it.
            self._process.returncode = -9
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._lost() from None

    def _receive(self, timeout_s: float, deadline: float | None) -> dict[str, Any]:
        until = time.monotonic() + timeout_s
        over = deadline is not None and deadline < until
        if over and deadline is not None:
            until = deadline
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            self.kill()
            if over:
                raise DeadlineError from None
            raise WorkerLostError(f"timed out: no answer within {timeout_s:g} s") from None
        if not line.endswith(b"\n"):
            raise self._lost()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _lost(self) -> WorkerLostError:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = -9
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        self.kill()
        last = f": {lines[-1].strip()}" if lines else ""
        return WorkerLostError(shorten(f"the worker process ended with {how}{last}"))

    def _pump(self) -> None:
        assert self._process.stdout is not None
        # The pipe may be closed under this thread when the worker is killed.
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(b"")
