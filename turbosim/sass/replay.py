"""The issue-level model of one SM, compiled; :mod:`turbosim.sass.oracle` gives the same cycles, slowly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turbosim.errors import SimulationError
from turbosim.sass import replay_state as f
from turbosim.sass.machine import GROUPS, NEVER, Code, CtaClass, Replay, SmModel, deadlock
from turbosim.sass.replay_kernel import run


def is_compiled() -> bool:
    """Whether the loop is compiled, in this process or in the disk cache: if not, the first replay takes seconds."""
    # What Numba has on disk is not known before it is asked.
    kept = run.stats.cache_path
    return bool(run.signatures or (kept and any(Path(kept).glob("replay_kernel.run-*.nbc"))))


def replay(code: Code, ctas: list[CtaClass], order: list[int], slots: int, model: SmModel,
           limit: int = 10**10) -> Replay:
    """Run CTAs of the classes in *order*, *slots* at a time, on one SM. Raises SimulationError after *limit* cycles."""
    count, per_cta = len(code.table), len(ctas[0].walks)
    known: dict[int, int] = {}
    pieces, spans, at = [], np.zeros((len(ctas), per_cta, 2), np.int64), 0
    for number, cta in enumerate(ctas):
        for n, walk in enumerate(cta.walks):
            if id(walk) not in known:
                known[id(walk)] = at
                pieces.append(walk)
                at += len(walk)
            spans[number, n] = known[id(walk)], len(walk)
    result = Replay.empty(count, model.schedulers, len(order))
    sm = np.zeros(f.SM_FIELDS, np.int64)
    warp = np.zeros((slots * per_cta, f.WARP_FIELDS), np.int64)
    scheduler = np.zeros((model.schedulers, f.SCHEDULER_FIELDS), np.int64)
    for s in range(model.schedulers):
        scheduler[s, f.PICK] = -1
        scheduler[s, f.NEXT] = NEVER
    numbers = np.array([model.schedulers, model.port_window, model.queue_depth, model.l2_rate, model.l2_latency,
                        model.barrier_latency, model.cta_latency, model.bulk_latency, model.write_conflict], np.int64)
    end = run(code.table, code.first, code.last, np.concatenate(pieces).astype(np.int64), spans,
               np.array(order, np.int64), numbers, limit, result.issues, result.waits, result.first_issue,
               result.pipe_busy, result.cta_starts, result.cta_ends, sm, warp,
               np.zeros((slots * per_cta, f.ENDS, GROUPS), np.int64), scheduler,
               np.zeros((model.schedulers, f.RING), np.int64), np.zeros((slots, f.SLOT_FIELDS), np.int64))
    if end == f.TOO_LONG:
        raise SimulationError(f"the SM did not come to an end in {limit} cycles")
    if end == f.DEADLOCK:
        raise SimulationError(deadlock([(w, int(row[f.PC])) for w, row in enumerate(warp) if row[f.ALIVE]]))
    if end == f.OVERRUN:
        raise SimulationError("a warp ran past its last instruction: its walk does not end with EXIT")
    result.cycles, result.instructions = int(sm[f.CYCLES]), int(sm[f.INSTRUCTIONS])
    result.data_path_busy, result.l2_busy = int(sm[f.PATH_BUSY]), int(sm[f.L2_BUSY])
    return result
