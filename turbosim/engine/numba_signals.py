"""Signals of a CTA's counters in the compiled engine, and what instructions' expressions give."""

from __future__ import annotations

from turbosim.compiled import jit
from turbosim.engine.numba_layout import (
    CONST,
    ISSUED,
    LAST_CODE,
    LAST_DONE,
    RING_CODE,
    RING_DONE,
    TERM,
    TERMS,
    WINDOW,
    Array,
)


@jit
def complete(signals: Array, rings: Array, slot: int, counter: int, end: int, code: int) -> tuple[int, int, int]:
    """Enter a signal that is done at *end*, but not before its predecessor: signals complete in the order of issue.

    Returns when it completes, the reason a wait for it has, and how many were issued before it.
    """
    if end < signals[slot, counter, LAST_DONE]:
        end = signals[slot, counter, LAST_DONE]
        code = signals[slot, counter, LAST_CODE]
    signals[slot, counter, LAST_DONE] = end
    signals[slot, counter, LAST_CODE] = code
    count = signals[slot, counter, ISSUED]
    rings[slot, counter, count & (WINDOW - 1), RING_DONE] = end
    rings[slot, counter, count & (WINDOW - 1), RING_CODE] = code
    signals[slot, counter, ISSUED] = count + 1
    return end, code, count


@jit
def value_of(table: Array, terms: Array, env: Array, inst: int, actor: int) -> int:
    """Return the value of the expression of the instruction at *inst* of the table."""
    value: int = table[inst + CONST]
    for term in range(table[inst + TERM], table[inst + TERM] + table[inst + TERMS]):
        value += terms[term, 1] * env[actor, terms[term, 0]]
    return value
