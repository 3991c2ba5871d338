"""What a schedule is: the recipe that writes the program of one kernel for one GPU and workload."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.spec import Gpu
from turbosim.program.program import Program
from turbosim.workload import Workload

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

    def program(self, gpu: Gpu, workload: Workload, settings: dict[str, Any] | None = None) -> Program:
        """Build the program with *settings* over the options' defaults.

        Values may be text, as given on a command line. Raises UsageError for an unknown option, a value of the wrong
        type, or a workload the kernel does not do.
        """
        if not isinstance(workload, self.workloads):
            kinds = " or ".join(t.__name__.lower() for t in self.workloads)
            raise UsageError(f"kernel {self.name!r} runs {kinds} workloads, got {type(workload).__name__.lower()}")
        return self.build(gpu, workload, self.parse_options(settings or {}))

    def parse_options(self, settings: dict[str, Any]) -> OptionsT:
        """Return the options with *settings* applied. Raises UsageError."""
        fields = {f.name: f for f in dataclasses.fields(self.options)}  # type: ignore[arg-type]
        parsed = {}
        for name, value in settings.items():
            if name not in fields:
                raise UsageError(
                    f"kernel {self.name!r} has no option {name!r}: it has "
                    f"{', '.join(fields)}{did_you_mean(name, fields)}")
            parsed[name] = _parse(self.name, name, value, fields[name].default)
        return self.options(**parsed)


def _parse(kernel: str, name: str, value: Any, default: Any) -> Any:
    """Convert command-line text to the type of the option's default."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    if isinstance(default, bool):
        table = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if value.lower() not in table:
            raise UsageError(f"kernel {kernel!r}: option {name} is true or false, got {value!r}")
        return table[value.lower()]
    if isinstance(default, int) or default is None:
        if value.lower() in ("none", "auto") and default is None:
            return None
        try:
            return int(value)
        except ValueError:
            raise UsageError(f"kernel {kernel!r}: option {name} is a whole number, got {value!r}") from None
    raise UsageError(f"kernel {kernel!r}: option {name} cannot be set from text")
