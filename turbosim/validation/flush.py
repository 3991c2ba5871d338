"""What a benchmark's flush of L2 costs the kernel after it.

Triton's do_bench overwrites 256 MB before each run, which leaves all that L2 holds dirty. Each line that the kernel
brings in evicts one, which has to be written to device memory first. The engines write through, so that this traffic is
none of theirs.
"""

from __future__ import annotations

from turbosim.hw import Gpu
from turbosim.result import Result


def held(gpu: Gpu) -> float:
    """Return how much L2 holds of data that one SM touches each [B].

    A line is in the partition it is homed in, and in the SM's own where that is another one: with *p* partitions,
    1 + (p - 1) / p copies. The L2 sweeps of gpu-benches, whose chunks few SMs share, agree: on an A100 bandwidth falls
    from 27 MB on, on an H100 PCIe from 37 MB, which have 40 and 50 MiB.
    """
    partitions = gpu.l2.partitions
    return gpu.l2.capacity * partitions / (2 * partitions - 1)


def write_back(gpu: Gpu, result: Result) -> float:
    """Return the time to write what was dirty, less what the kernel leaves dirty itself [s].

    Old lines are evicted as long as there are any, then the kernel's own, of which *result* counts the written ones as
    written already.
    """
    read, written = result.dram_read_bytes, result.dram_write_bytes
    if not read:
        return 0.0
    more = min(read + written, held(gpu)) * read / (read + written)
    beside = min(read, written + more) - min(read, written)
    return (more + gpu.hbm.turnaround * beside) / (gpu.hbm.bandwidth * gpu.hbm.efficiency)
