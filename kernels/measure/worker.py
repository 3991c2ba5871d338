"""The process that runs kernels. It reads requests from stdin and answers on stdout, a JSON document a line.

First request: ``{"device", "names", "parent"}``; answer: ``{"hello": ...}``, or ``{"fatal", "code"}`` and the end. Then
cases: ``{"case", "have"}``; answers: ``{"row", "interval"}``, each acknowledged by a line before the next row is begun,
and at last ``{"done", "healthy"}``. After a sticky CUDA error the worker says that it is not healthy, and ends.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from kernels.case import Kernel
from kernels.measure.cases import from_json
from kernels.measure.device import Device
from kernels.measure.failures import reason_of
from kernels.measure.measuring import measure
from turbosim.errors import TurbosimError

PR_SET_PDEATHSIG = 1


def open_device(name: str) -> Device:
    """Return the device called *name*. Raises TurbosimError when it cannot be used."""
    if name == "fake":
        from kernels.measure.fake import FakeDevice

        return FakeDevice()
    from kernels.measure.cuda import CudaDevice

    device = CudaDevice()
    device.probe()
    return device


def load(names: dict[str, str]) -> tuple[dict[str, Kernel], dict[str, str]]:
    """Return kernels by name, and the reasons of those whose module cannot be imported."""
    kernels, broken = {}, {}
    for name, where in names.items():
        module, _, attribute = where.partition(":")
        try:
            kernels[name] = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            broken[name] = reason_of(error)
    return kernels, broken


def serve(read: Callable[[], bytes], send: Callable[[dict[str, Any]], None]) -> None:
    """Answer requests until there are no more."""
    first = json.loads(read())
    if os.getppid() != first["parent"]:
        return
    try:
        device = open_device(first["device"])
    except TurbosimError as error:
        send({"fatal": str(error), "code": error.exit_code})
        return
    except RuntimeError as error:
        send({"fatal": f"the GPU cannot be used: {reason_of(error)}", "code": 1})
        return
    kernels, broken = load(first["names"])
    send({"hello": {"facts": device.facts(), "uuid": device.uuid(), "source": device.source, "broken": broken,
                    "defaults": {name: dict(kernel.defaults) for name, kernel in kernels.items()}}})
    while line := read():
        request = json.loads(line)
        case = from_json(request["case"])
        have = {(l2, method): time for l2, method, time in request["have"]}
        for measured in measure(device, kernels[case.kernel], case, have):
            send({"row": measured.values, "interval": measured.interval})
            if not read():
                return
        healthy = device.healthy()
        if healthy:
            device.release()
        send({"done": True, "healthy": healthy})
        if not healthy:
            return


def main() -> None:
    """Run a worker on stdin and stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # A parent that is killed cannot stop its worker.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # What kernels and compilers print must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    serve(sys.stdin.buffer.readline, send)


if __name__ == "__main__":
    main()
