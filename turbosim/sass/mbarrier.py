"""Which commits of products, and which expectations of bulk copies, the waits for mbarriers are for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from turbosim.errors import ProgramError
from turbosim.sass.cubin import Kernel
from turbosim.sass.instruction import Instruction
from turbosim.sass.machine import BARRIERS
from turbosim.sass.tensor_memory import (
    Event,
    is_bulk_load,
    is_commit,
    is_expectation,
    is_setting,
    is_wait,
    refusal,
)


def mbarriers(kernel: Kernel, walks: Iterable[Iterable[Event]]) -> Mapping[int, int]:
    """Return a number for the mbarrier of every commit, expectation, bulk copy and wait of *walks*, by instruction.

    Mbarriers that take turns at one instruction, the stages of a pipeline, have one number. The *n*-th wait of a warp
    must be for the *n*-th commit or expectation of its CTA. Raises ProgramError where it is not, where nothing commits
    or expects, and where there are more than the model has.

    A walk without commits and expectations is of a warp whose CTA's are in the walk with some before it.
    """
    matching = _Matching(kernel, [[e for e in events if _matters(kernel, e)] for events in walks])
    matching.check()
    return matching.numbers


def _matters(kernel: Kernel, event: Event) -> bool:
    """Return whether *event* concerns an mbarrier."""
    inst = kernel.instructions[event.index]
    return _completes(inst) or is_wait(inst) or is_setting(inst) or is_bulk_load(inst)


def _completes(inst: Instruction) -> bool:
    """Return whether *inst* leads to the completion of a phase."""
    return is_commit(inst) or is_expectation(inst)


class _Matching:
    def __init__(self, kernel: Kernel, walks: Sequence[list[Event]]) -> None:
        self.kernel, self.walks = kernel, walks
        self.numbers = self._numbers()

    def _numbers(self) -> dict[int, int]:
        """Number instructions so that two that name the same mbarrier have the same number."""
        of: dict[int, int] = {}
        at: dict[int | None, int] = {}
        for event in (e for walk in self.walks for e in walk):
            if self._is(is_setting, event):
                continue
            address = event.values[0]
            if address is None:
                raise self._error(event, "its address does not follow from the launch")
            one, other = of.get(event.index), at.get(address)
            number = one if one is not None else other if other is not None else event.index
            if one is not None and other is not None and one != other:
                of = {i: number if n == other else n for i, n in of.items()}
                at = {a: number if n == other else n for a, n in at.items()}
            of[event.index] = at[address] = number
            if len(set(of.values())) > BARRIERS:
                raise self._error(event, f"it is for one of more than {BARRIERS} mbarriers")
        dense = {number: n for n, number in enumerate(dict.fromkeys(of.values()))}
        return {index: dense[number] for index, number in of.items()}

    def check(self) -> None:
        """Raise ProgramError where a wait is not for the commit of its turn."""
        for number in sorted(set(self.numbers.values())):
            of = [e for walk in self.walks for e in walk if self.numbers.get(e.index) == number]
            commits = next((e for e in of if self._is(is_commit, e)), None)
            if commits is not None and any(self._is(is_expectation, e) for e in of):
                raise self._error(commits, "its mbarrier is one for bulk copies too")
            leading: list[Event] = []
            for walk in self.walks:
                waits = [e for e in walk if self._is(is_wait, e) and self.numbers[e.index] == number]
                if any(self._is(_completes, e) and self.numbers[e.index] == number for e in walk):
                    self._check_phases([e for e in walk if self.numbers.get(e.index, number) == number
                                        and not self._is(is_bulk_load, e)])
                    leading = waits
                for n, event in enumerate(waits):
                    if n == len(leading):
                        raise self._error(event, "no commit of products and no bulk copy completes its phase")
                    if event.values != leading[n].values:
                        raise self._error(event, "the warps of a CTA do not wait alike")

    def _check_phases(self, events: Iterable[Event]) -> None:
        """Check the waits of a warp against its own commits, and their parity against the phases that passed."""
        commits: list[int | None] = []
        passed: dict[int | None, int] = {}
        count = 0
        for event in events:
            address = event.values[0]
            if self._is(is_setting, event):
                passed[address] = 0
            elif self._is(_completes, event):
                commits.append(address)
            else:
                phase, parity = passed.get(address, 0), event.values[1]
                if count >= len(commits) or address != commits[count] or parity is None or parity >> 31 != phase & 1:
                    raise self._error(event, "it is out of the order of the commits")
                passed[address] = phase + 1
                count += 1

    def _is(self, what: Callable[[Instruction], bool], event: Event) -> bool:
        return what(self.kernel.instructions[event.index])

    def _error(self, event: Event, what: str) -> ProgramError:
        return refusal(self.kernel, self.kernel.instructions[event.index], what)
