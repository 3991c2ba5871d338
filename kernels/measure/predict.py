"""How long measuring a case takes, roughly: what ``--dry-run`` prints and the time limit plans with."""

from __future__ import annotations

from collections.abc import Iterable

from kernels.measure.cases import Case

BANDWIDTH = 2e12
"""Bytes per second."""
PEAK = 2e14
"""Operations per second of a kernel."""
REFERENCE_PEAK = 2e13
"""Operations per second of the reference that a kernel is checked against."""
REFERENCE_BLOCK_S = 3e-3
"""A block of 64 keys in the reference of ``turbo`` and ``quantise``, which runs on the CPU block by block."""
LAUNCH_S = 10e-6
COMPILE_S = 3.0
"""First case of a kernel, phase, head dimension, mask and options."""
CASE_S = 0.4
"""Inputs, check and clean-up."""
ROW_S = 0.15
"""Warm-up before a row is timed."""
START_S = 10.0
"""Starting the worker, once a call."""
MICRO_S = 1e-3
"""A run of a micro-benchmark without a size in bytes."""
ROW_TARGET_S = 0.3
"""Time that the repeats of a row are to take."""
FEWEST, MOST = 20, 200
"""Repeats of a row."""

MODEL = (f"a run = bytes / {BANDWIDTH / 1e12:g} TB/s + operations / {PEAK / 1e12:g} TFLOP/s + {LAUNCH_S * 1e6:g} us; "
         f"a case = {CASE_S:g} s + operations / {REFERENCE_PEAK / 1e12:g} TFLOP/s for its check (turbo, quantise: and "
         f"{REFERENCE_BLOCK_S * 1e3:g} ms a block of 64 keys) + {COMPILE_S:g} s if newly compiled + two rows of "
         f"{ROW_S:g} s and {FEWEST} to {MOST} runs; a call = {START_S:g} s + its cases")


def repeats_for(time_s: float) -> int:
    """Return how many repeats of a run that takes *time_s* make a row."""
    return max(FEWEST, min(MOST, round(ROW_TARGET_S / max(time_s, 1e-9))))


def run_s(case: Case) -> float:
    """Return the predicted time of one run [s]."""
    if case.shape is None:
        nbytes = dict(case.sizes).get("nbytes")
        return LAUNCH_S + (MICRO_S if nbytes is None else 2 * nbytes / BANDWIDTH)
    s = case.shape
    nbytes = s.kv_bytes_fp16 + 4 * s.batch * s.q_heads * s.seq_q * s.head_dim
    return LAUNCH_S + nbytes / BANDWIDTH + s.flops / PEAK


def _compiled_as(case: Case) -> tuple[object, ...]:
    # Sizes that only set a trip count, a grid or a buffer are not compiled in.
    shape = ((case.shape.head_dim, case.shape.causal) if case.shape is not None
             else tuple(size for size in case.sizes if size[0] in ("m", "n", "k", "elements")))
    return case.kernel, case.phase, shape, case.options


def predict(cases: Iterable[Case], ncu: bool = False) -> list[float]:
    """Return the predicted time of each case [s], compilation counted where it first occurs; *ncu* adds profiling."""
    compiled = set()
    times = []
    for case in cases:
        time = run_s(case)
        total = CASE_S + 2 * (ROW_S + repeats_for(time) * (time + LAUNCH_S))
        if case.shape is not None:
            total += case.shape.flops / REFERENCE_PEAK
            if case.kernel in ("turbo", "quantise"):
                total += case.shape.seq_k / 64 * REFERENCE_BLOCK_S
        if _compiled_as(case) not in compiled:
            compiled.add(_compiled_as(case))
            total += COMPILE_S
        if ncu:
            total += COMPILE_S + 40 * time
        times.append(total)
    return times
