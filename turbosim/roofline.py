"""The roofline bound: what no schedule of a program's work can beat on a GPU.

The bound is taken at the hardware's own peaks (specified device-memory bandwidth, not the achievable share), so that a
simulated time below it is a defect of the simulator.
"""

from __future__ import annotations

from turbosim.hw.spec import Gpu, Unit
from turbosim.program.program import Program
from turbosim.program.work import Work, compulsory_read_bytes, program_work


def bound_seconds(gpu: Gpu, program: Program, hertz: float, warm: bool = False, work: Work | None = None) -> float:
    """Return the largest of tensor, pipe, shared-memory, L2 and device-memory time of *program* [s].

    With *warm* set device-memory reads are left out, since the cache may hold the inputs. *work* is the program's, if
    it is known.
    """
    work = program_work(program) if work is None else work
    cycles = max(_unit_cycles(gpu, work).values(), default=0.0) / gpu.sm.count
    dram = work.write_bytes + (0 if warm else compulsory_read_bytes(program, work))
    return max(cycles / hertz, dram / gpu.hbm.bandwidth, (work.read_bytes + work.write_bytes) / gpu.l2.bandwidth)


def _unit_cycles(gpu: Gpu, work: Work) -> dict[Unit, float]:
    """Return the cycles each unit needs if one SM did all the work."""
    cycles: dict[Unit, float] = {}
    for (path, dtype), macs in work.macs.items():
        cycles[Unit.TENSOR] = cycles.get(Unit.TENSOR, 0.0) + macs / gpu.tensor[path].rates[dtype]
    for op_class, lanes in work.lanes.items():
        pipe = gpu.pipes[op_class]
        cycles[pipe.unit] = cycles.get(pipe.unit, 0.0) + lanes / pipe.rate
    cycles[Unit.SMEM] = cycles.get(Unit.SMEM, 0.0) + work.smem_bytes / gpu.sm.smem_bandwidth
    return cycles


def peaks_used(gpu: Gpu, work: Work, hertz: float) -> dict[str, float]:
    """Return the chip's MACs per second for every instruction path and type that *work* uses."""
    return {
        f"{path.value} {dtype.value}": gpu.tensor[path].rates[dtype] * gpu.sm.count * hertz
        for path, dtype in work.macs
    }
