"""What a schedule is: the recipe that writes the program of one kernel for one GPU and workload."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Gpu
from turbosim.program.program import Program
from turbosim.workload import Attention, Phase, Workload

OptionsT = TypeVar("OptionsT")
OptionsIn = TypeVar("OptionsIn", contravariant=True)


class Builder(Protocol[OptionsIn]):
    """Writes the program of one kernel."""

    def __call__(self, gpu: Gpu, workload: Any, options: OptionsIn, /) -> Program:
        """Return the program. Raises UsageError when the kernel cannot do the workload."""
        ...


@dataclass(frozen=True)
class Schedule(Generic[OptionsT]):
    """A kernel: its name, the workload types it takes, its options (a frozen dataclass) and its builder."""

    name: str
    title: str
    workloads: tuple[type, ...]
    options: type[OptionsT]
    build: Builder[OptionsT]
    only: Mapping[str, Phase] = field(default_factory=dict)
    """Options that matter in one phase alone; giving one in the other is refused rather than ignored."""

    def program(self, gpu: Gpu, workload: Workload, settings: dict[str, Any] | None = None) -> Program:
        """Build the program with *settings* over the options' defaults.

        Values may be text, as given on a command line; ``auto`` leaves the choice to the kernel. Raises UsageError for
        an unknown option, a value of the wrong type, an option of the other phase, or a workload the kernel does not
        do.
        """
        if not isinstance(workload, self.workloads):
            kinds = " or ".join(t.__name__.lower() for t in self.workloads)
            raise UsageError(f"kernel {self.name!r} runs {kinds} workloads, got {type(workload).__name__.lower()}")
        for name in settings or ():
            if isinstance(workload, Attention) and self.only.get(name, workload.phase) is not workload.phase:
                raise UsageError(f"kernel {self.name!r}: option {name} is for {self.only[name].value}, and this is "
                                 f"{workload.phase.value}; leave it out")
        return self.build(gpu, workload, self.parse_options(settings or {}))

    def parse_options(self, settings: dict[str, Any]) -> OptionsT:
        """Return the options with *settings* applied. Raises UsageError."""
        fields = {f.name: f for f in dataclasses.fields(self.options)}  # type: ignore[arg-type]
        types = get_type_hints(self.options)
        parsed = {}
        for name, value in settings.items():
            if name not in fields:
                raise UsageError(
                    f"kernel {self.name!r} has no option {name!r}: it has "
                    f"{', '.join(fields)}{did_you_mean(name, fields)}")
            parsed[name] = _parse(self.name, name, value, types[name])
        return self.options(**parsed)


def _parse(kernel: str, name: str, value: Any, expected: Any) -> Any:
    """Return *value* in the type of its option; text is converted, anything else must fit as it is."""
    if isinstance(value, str) and type(None) in get_args(expected) and value.lower() in ("none", "auto"):
        return None
    if expected is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    try:
        return TypeAdapter(expected).validate_python(value, strict=not isinstance(value, str))
    except ValidationError:
        raise UsageError(f"kernel {kernel!r}: option {name} must be {_KINDS[_bare(expected)]}, got {value!r}") from None


_KINDS = {int: "a whole number", bool: "true or false", str: "text"}


def _bare(expected: Any) -> Any:
    """Return the type of an option without its None."""
    return next((t for t in get_args(expected) if t is not type(None)), expected)
