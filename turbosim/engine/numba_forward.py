"""Fast-forwarding."""

from __future__ import annotations

from turbosim.engine.numba_layout import Forward, Machine, jit


@jit
def replay_turn(m: Machine, f: Forward, sm: int, actor: int, now: int) -> None:
    """Nothing yet."""


@jit
def record_wait(m: Machine, f: Forward, sm: int, slot: int, counter: int, value: int, now: int, done: int) -> None:
    """Nothing yet."""


@jit
def record_access(m: Machine, f: Forward, sm: int, slot: int, actor: int, at: int, value: int, own_end: int,
                  now: int) -> None:
    """Nothing yet."""


@jit
def after_turn(m: Machine, f: Forward, sm: int, actor: int, at: int, now: int) -> None:
    """Nothing yet."""
