"""Kernels that the worker process imports by name: right, wrong, failing, crashing, slow."""

from __future__ import annotations

import math
import os
import signal
import time
from types import SimpleNamespace

from kernels.case import Check, Kernel, Prepared
from kernels.measure.fake import FakeDevice
from turbosim.errors import UsageError

DEFAULTS = {"warps": 4, "stages": 2, "bits": "4", "splits": 8, "block_m": 64, "block_n": 64, "sas": "exponent",
            "convert": "magic", "p_scale": "tile", "q_scale": "tile", "dequant": "fold", "quantise": False}


class OutOfResources(Exception):  # noqa: N818 - the name triton gives it
    pass


def stub(name, error=0.0, launch=lambda: None, refuse=None):
    def prepare(shape, options, device, seed):
        if refuse is not None:
            refuse(options)

        def run():
            launch()
            return [SimpleNamespace(n_regs=n, n_spills=0, metadata=SimpleNamespace(shared=1024 * n)) for n in (40, 96)]

        return Prepared(run, lambda: Check(error, 0.25, "relative L2 of O"), 10**9, 10**6)

    return Kernel(name, name, DEFAULTS, prepare)


def raising(error):
    def do(*_):
        raise error

    return do


def sticky():
    FakeDevice.healthy = lambda self: False
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def check_types(options):
    assert all(type(value) is type(DEFAULTS[name]) for name, value in options.items())


RIGHT = stub("right", refuse=check_types)
WRONG = stub("wrong", error=0.5)
UNWRITTEN = stub("unwritten", error=math.nan)
SLOW = stub("slow", launch=lambda: time.sleep(0.02))
HANGING = stub("hanging", launch=lambda: time.sleep(60))
CRASHING = stub("crashing", launch=crash)
STICKY = stub("sticky", launch=sticky)
REFUSING = stub("refusing", refuse=raising(UsageError("kernel 'refusing': option warps is 3, must be a power of two")))
TOO_LARGE = stub("too large", launch=raising(OutOfResources("shared memory, Required: 300000, Hardware limit: 232448")))
NO_MEMORY = stub("no memory", refuse=raising(RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")))
BUGGY = stub("buggy", launch=raising(KeyError("x")))
