"""The errors a user can cause, each carrying the exit code the command line reports it with.

Every message says what is wrong, where, the rule it breaks, the offending value and the likely fix.
Anything that is not a :class:`TurbosimError` is a defect of turbosim and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TurbosimError(Exception):
    """Base of all errors that are the input's fault."""

    exit_code = 1


class UsageError(TurbosimError):
    """An argument or workload is not acceptable (exit code 2)."""

    exit_code = 2


class ConfigError(TurbosimError):
    """A hardware, program or data file is not acceptable (exit code 3)."""

    exit_code = 3


class ProgramError(TurbosimError):
    """A program is not well formed, or cannot run on the given GPU (exit code 2)."""

    exit_code = 2


class SimulationError(TurbosimError):
    """The engine could not finish: a deadlock, or a limit of the engine was reached (exit code 1)."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest of *known*, or an empty string."""
    # The dashes that all flags begin with make none of them closer.
    by_lower = {k.lower().lstrip("-"): k for k in known}
    close = difflib.get_close_matches(word.lower().lstrip("-"), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""
