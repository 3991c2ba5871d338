"""Micro-benchmark files of a GPU that is made up: simulated, with noise."""

import csv

import numpy as np
import pytest

from turbosim.calibration.benchmarks import Chase, Copy, Empty, L2Read, Scale, SharedRead, Stream
from turbosim.hw import load_gpu, with_overrides

GPU = "l4"
BENCHES = ("source", "gpu", "kernel", "version", "batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim", "causal", "dtype",
           "metric", "value", "notes")
SUITE = ("source", "gpu", "kernel", "options", "phase", "sizes", "l2", "method", "time_s", "sm_clock_hz", "power_w", "status")
KIB = 1024


def write(path, columns, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def small_gpu(**changes):
    """Return a GPU with two L2 partitions and few SMs, so that simulations are short."""
    return with_overrides(load_gpu(GPU), {"sm.count": 12, "l2.partitions": 2, "l2.capacity": 16 * 2**20,
                                          "l2.bandwidth": 1.2e12, "l2.latency_near": 1.4e-7, "l2.latency_far": 2.4e-7,
                                          "hbm.bandwidth": 1.5e11, "hbm.latency": 4e-7, **changes})


def benches(gpu, noise, seed, label="L4", only=""):
    """Return rows in the layout of gpu-benches, of kernels whose name begins with *only*."""
    rng = np.random.default_rng(seed)
    clock = 2e9
    rows = []

    def add(kernel, benchmark, notes, traffic=1):
        if kernel.startswith(only):
            value = 1e-9 * traffic / benchmark.seconds(gpu, clock) * np.exp(noise * rng.normal())
            rows.append({"source": "s", "gpu": label, "kernel": kernel, "metric": "gbps", "value": f"{value:.6g}", "notes": notes})

    for level, sizes in (("near", (1000, 2000, 4000)), ("far", (12600, 13500, 15000)), ("dram", (30000, 60000, 90000))):
        for size in sizes if "pointer chase".startswith(only) else ():
            cycles = Chase(level).seconds(gpu, clock) * clock * np.exp(noise * rng.normal())
            rows.append({"source": "s", "gpu": label, "kernel": "pointer chase", "metric": "ns", "value": "1",
                         "notes": f"working set {size} kB; {cycles:.1f} cycles at 2000 MHz"})
    for chunks in (8, 10, 12, 14, 16, 18, 20, 22, 24, 27, 30, 33, 40, 50, 60, 70, 80):
        add("L2/DRAM load bandwidth, shared buffer", SharedRead(chunks),
            f"{512 * chunks} kB total working set, 512 kB chunk; spread 0.1%")
    for kernel, reads, writes in (("stream init (write)", 0, 1), ("stream read", 1, 0), ("stream scale (1r1w)", 1, 1)):
        for threads in (32, 64, 128, 256, 384, 512, 640, 768):
            add(kernel, Stream(reads, writes, threads),
                f"one block/SM of {threads} threads, 1 threads in all, {threads / 7.68:.1f}% occupancy")
    for kernel, method in (("back-to-back scale kernel, stream launches", "events"),
                           ("back-to-back scale kernel, CUDA graph", "graph")):
        for elements in (1024, 1536, 2048, 3072, 4096):
            add(kernel, Scale(elements, method), f"N={elements} doubles, traffic 16 B*N", 16 * elements)
    return rows


def suite(gpu, noise, seed, label="NVIDIA L4"):
    """Return rows as the micro suite writes them."""
    rng = np.random.default_rng(seed)
    clock = 1.9e9
    rows = []

    def add(kernel, sizes, options, l2, method, time, power="60"):
        rows.append({"source": "measured", "gpu": label, "kernel": kernel, "phase": "micro", "status": "ok", "l2": l2,
                     "sizes": ":".join(f"{n}={v}" for n, v in sizes.items()), "options": options, "method": method,
                     "time_s": f"{time * np.exp(noise * rng.normal()):.6g}", "sm_clock_hz": f"{clock:.6g}",
                     "power_w": power})

    for mib in (1, 4, 16, 64, 256):
        for l2, method in (("cold", "events"), ("warm", "events"), ("warm", "graph")):
            n = mib * 2**20
            add("copy", {"nbytes": n}, "block=4096:warps=4", l2, method,
                2 * n * Copy(n, 16384, 4, l2, method).seconds(gpu, clock))
    for mib in (4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 64):
        n, passes, ctas = mib * 2**20, 256 // mib, min(96, 64 * mib)
        add("l2_read", {"nbytes": n, "passes": passes, "ctas": ctas}, "block=4096:warps=4", "warm", "events",
            n * passes * L2Read(n, passes, ctas, 16384, 4, "warm", "events").seconds(gpu, clock))
    for ctas in (1, 1188, 11880, 118800):
        for method in ("events", "graph"):
            add("empty", {"ctas": ctas}, "warps=4", "warm", method, Empty(ctas, 4, method).seconds(gpu, clock))
    for n in range(5):
        add("mma_fp16", {"ctas": 1188, "iterations": 1024, "m": 64, "n": 64, "k": 64}, "unroll=4:warps=4", "warm", "events",
            1e-3, power="71.5")
        rows[-1]["sm_clock_hz"] = f"{1.4e9 * (1 + 0.004 * (n - 2)):.6g}"
    return rows


@pytest.fixture(scope="session")
def known():
    """What the fit is to find."""
    return {"hbm.efficiency": 0.8, "l2.bandwidth": 1.0e12, "l2.latency_near": 1.25e-7, "l2.latency_far": 2.1e-7,
            "hbm.latency": 4.6e-7, "launch.stream": 2.1e-6, "launch.graph": 8e-7, "l2.shared_fraction": 0.72}
