"""Measuring one case: correctness, then a row for each L2 state and method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernels.case import Check, Kernel, Prepared
from kernels.measure.cases import Case, Option
from kernels.measure.device import Device, Timing
from kernels.measure.failures import reason_of
from kernels.measure.schema import Value

SEED = 0
GRAPH_BELOW_S = 20e-6
"""Kernels that are faster than this, warm, are timed within graphs too: launching would dominate."""
ROWS: tuple[tuple[str, str], ...] = (("cold", "events"), ("warm", "events"), ("warm", "graph"))
"""(l2, method) of the rows of a case; the last one for fast kernels alone."""

Have = Mapping[tuple[str | None, str | None], float | None]
"""Rows of a case that are on disk: (l2, method) -> time [s]."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A row without the columns that only the parent knows."""

    values: dict[str, Value]
    interval: tuple[float, float] | None
    """Begin and end on the monotonic clock, for what was sampled meanwhile."""


def missing(have: Have) -> list[tuple[str, str]]:
    """Return which rows a case lacks. A row without L2 state, wrong or failed, is the only one of its case."""
    if (None, None) in have:
        return []
    warm = have.get(("warm", "events"))
    fast = warm is not None and warm < GRAPH_BELOW_S
    return [row for row in ROWS if row not in have and (row[1] != "graph" or fast)]


def with_types(options: Mapping[str, Option], defaults: Mapping[str, Option]) -> dict[str, Option]:
    """Return *options* in the types of the kernel's defaults: a suite may write 4 for ``"4"``."""
    typed: dict[str, Option] = {}
    for name, value in options.items():
        kind = type(defaults.get(name, value))
        try:
            typed[name] = value if kind is bool else kind(value)
        except ValueError:
            typed[name] = value
    return typed


def measure(device: Device, kernel: Kernel, case: Case, have: Have) -> Iterator[Measured]:
    """Yield the rows of *case* that are not in *have*, each when it is measured. Errors become rows."""
    try:
        options = with_types(dict(case.options), kernel.defaults)
        prepared = kernel.prepare(case.workload, options, device.target, SEED)
        check = prepared.check()
        resources = _resources(prepared.launch())
    except Exception as error:
        yield Measured({"status": "failed", "reason": reason_of(error)}, None)
        return
    common: dict[str, Value] = {"flops": prepared.flops, "nbytes": prepared.nbytes, **resources,
                                "error": check.error, "tolerance": check.tolerance}
    if not check.ok:
        yield Measured({**common, "status": "wrong", "reason": _wrong(check)}, None)
        return
    times = dict(have)
    while todo := missing(times):
        l2, method = todo[0]
        row: dict[str, Value] = {**common, "l2": l2, "method": method}
        try:
            timing = device.time_graph(prepared) if method == "graph" else device.time_events(prepared, l2 == "cold")
        except Exception as error:
            times[l2, method] = None
            yield Measured({**row, "status": "failed", "reason": reason_of(error)}, None)
            continue
        times[l2, method] = timing.quantile(0.5)
        yield Measured({**row, **_times(timing, prepared), "status": "ok"}, (timing.began, timing.ended))


def _wrong(check: Check) -> str:
    if math.isnan(check.error):
        return f"{check.measure} is NaN: an output was not written, or is not a number"
    return f"{check.measure} is {check.error:.3g}, more than {check.tolerance:.3g}"


def _times(timing: Timing, prepared: Prepared) -> dict[str, Value]:
    median = timing.quantile(0.5)
    return {"time_s": median, "time_p10_s": timing.quantile(0.1), "time_p90_s": timing.quantile(0.9),
            "repeats": len(timing.samples), "tflops": prepared.flops / median * 1e-12,
            "bandwidth_Bps": prepared.nbytes / median}


def _resources(compiled: Sequence[Any]) -> dict[str, Value]:
    """Return registers, spills and shared memory of triton's compiled kernels; nothing of interpreted ones, None."""
    if not compiled or None in compiled:
        return {}
    columns = {"registers": [k.n_regs for k in compiled], "spills": [k.n_spills for k in compiled],
               "smem_bytes": [k.metadata.shared for k in compiled]}
    return {name: "+".join(map(str, values)) for name, values in columns.items()}
