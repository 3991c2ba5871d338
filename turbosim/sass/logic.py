"""LOP3 on words of which some bits are known.

Compilers keep predicates as single bits of one register, those that follow from the launch beside those that depend on
data. Setting or testing one bit must not lose what is known of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from turbosim.sass import semantics as s
from turbosim.sass.instruction import Instruction, Kind
from turbosim.sass.opcodes import PREDICATES, Maker, need
from turbosim.sass.steps import (
    Slots,
    Source,
    Step,
    Unknown,
    Values,
    bits,
    flag,
    guard_bits,
    lanes_of,
    slot,
    store,
    word,
)


@dataclass(frozen=True, slots=True)
class Partly(Unknown):
    """A word whose bits are those of *known*, but for the bits of *doubt*, which are unknown (0 in *known*).

    To every instruction but this module's it is an unknown value.
    """

    known: Any
    doubt: int

    @property
    def origin(self) -> Unknown:
        """Where the doubt comes from."""
        return Unknown(self.index, self.what)


def _bounds(value: Any, change: Callable[[Any], Any] | None) -> tuple[Any, ...]:
    """Return the words that *value* may be, bit by bit: one, or the lowest and the highest."""
    if isinstance(value, Partly):
        found: tuple[Any, ...] = (value.known, value.known | value.doubt)
    elif isinstance(value, Unknown):
        found = (0, s.LOW)
    else:
        found = (value,)
    return found if change is None else tuple(change(v) for v in found)


def _joined(words: list[Any], origin: Unknown) -> Any:
    """Return the word that is one of *words*, bit by bit."""
    low: Any = reduce(lambda a, b: a & b, words)
    differs: Any = low ^ reduce(lambda a, b: a | b, words)
    doubt = int(np.bitwise_or.reduce(differs)) if isinstance(differs, np.ndarray) else differs
    if doubt == s.LOW:
        return origin.origin
    return Partly(origin.index, origin.what, low & (doubt ^ s.LOW), doubt) if doubt else low


def _is_set(value: Any) -> Any:
    """Return whether a word is not 0; unknown where it depends on the bits in doubt."""
    if not isinstance(value, Unknown):
        return s.as_flag(value)
    known = isinstance(value, Partly) and s.spread_flag(s.as_flag(value.known)).all()
    return True if known else value.origin


def logic(slots: Slots, inst: Instruction) -> Step:
    """LOP3.LUT [p,] d, a, b, c, table, q: p is whether d is not 0, or q."""
    operands = list(inst.operands)
    test = slot(operands.pop(0)) if operands[0].kind in PREDICATES else None
    need(inst.modifiers == ("LUT",) and len(operands) == 6 and operands[4].kind == Kind.INTEGER)
    table, target = int(operands[4].value), slot(operands[0])
    sources = [word(slots, o) for o in operands[1:4]]
    other = flag(operands[5]) if test is not None else Source(0)
    enabled = lanes_of(inst)

    def run(values: Values) -> None:
        lanes = enabled(values)
        if lanes is False:
            return
        inputs = [values[source.slot] for source in sources]
        origin = next((v for v in (lanes, *inputs) if isinstance(v, Unknown)), None)
        choices = [_bounds(v, source.change) for v, source in zip(inputs, sources, strict=True)]
        outcomes = [s.lookup(table, *each) for each in itertools.product(*choices)]
        if isinstance(lanes, Unknown):
            outcomes += _bounds(values[target], None)
        result = outcomes[0] if origin is None else _joined(outcomes, origin)
        acting = True if isinstance(lanes, Unknown) else lanes
        if test is not None:
            verdict, also = _is_set(result), values[other.slot]
            if isinstance(lanes, Unknown):
                verdict = lanes
            elif isinstance(also, Unknown):
                verdict = also if not isinstance(verdict, Unknown) else verdict
            elif not isinstance(verdict, Unknown):
                verdict = verdict | (also if other.change is None else other.change(also))
            store(values, test, verdict, acting)
        store(values, target, result, acting)

    reads = [source.slot for source in (*sources, *([other] if test is not None else []))]
    if inst.guard is not None:
        # Where it may not act, what was there counts.
        reads.append(target)
    writes = [target] if test is None else [target, test]
    return Step(inst.index, run, bits(reads) | guard_bits(inst), bits(writes), inst.guard is None, True)


LOGIC: dict[str, Maker] = {"LOP3": logic}
"""Steps by opcode, as :data:`turbosim.sass.opcodes.MODELLED`."""
