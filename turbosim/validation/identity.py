"""What a measured row says, as a digest: the same under any file name, in any order, layout and unit.

A digest is of the GPU's chip, the shape and the measured time, not of the kernel and its options, which go by other
names elsewhere or may be left out. Times enter by their logarithm in steps, and are looked up with those one step
away, so that a time which was written with five digits, or worked out from a rate, is still the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from turbosim.validation.row import TIMES, Convention, Row
from turbosim.workload import Attention, Gemm

STEP = 1e-4
"""Relative difference up to which two times are surely the same; those above twice as much surely differ."""
_CHIP = re.compile(r"(?<![a-z0-9])(rtx[ _]?\d{4}|[a-z]{1,2}\d{1,4}[a-z]?)(?![a-z0-9])")


def chip(gpu: str) -> str:
    """Return the chip that a GPU's name begins with: one for all its cards, since sources often leave the card open."""
    text = " ".join(gpu.lower().split())
    found = _CHIP.search(text)
    return found[1].replace("_", " ").replace("rtx", "rtx ").replace("  ", " ") if found else text


def digest_of(gpu: str, shape: Mapping[str, int | bool], seconds: float, shift: int = 0) -> str:
    """Return 16 hexadecimal digits for a measurement of *seconds*, or of a time *shift* steps away.

    *shape* is what was run, by name; for an elementwise kernel the bytes that are ``read`` and ``written``.
    """
    step = math.floor(math.log(seconds) / STEP) + shift
    what = [chip(gpu), sorted((n, int(v)) for n, v in shape.items()), step]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def digests(row: Row) -> tuple[str, str, str]:
    """Return the digest of *row*, and those under which one of the same time may be known."""
    work = row.workload
    shape: dict[str, int | bool]
    if isinstance(work, Attention):
        shape = {"batch": work.batch, "q_heads": work.q_heads, "kv_heads": work.kv_heads, "seq_q": work.seq_q,
                 "seq_k": work.seq_k, "head_dim": work.head_dim, "causal": work.causal and work.seq_q > 1}
    elif isinstance(work, Gemm):
        shape = {"m": work.m, "n": work.n, "k": work.k}
    else:
        shape = {"read": row.stream[0], "written": row.stream[1]}
    first, below, above = (digest_of(row.gpu, shape, row.time_s, shift) for shift in (0, -1, 1))
    return first, below, above


def readings(row: Row, counted: Convention) -> Iterator[Row]:
    """Yield *row*, and what it becomes where its rate, of FLOPs *counted* so, is read as one of FLOPs counted else."""
    yield row
    if row.unit in TIMES:
        return
    flops = counted.flops(row.workload)
    for other in {convention.flops(row.workload) for convention in Convention} - {flops}:
        yield replace(row, time_s=row.time_s * other / flops)
