"""The options that a row states of the kernel that was measured, as the models of the kernel take them.

Names are those of the schedule, of ``own`` in ``meta.yaml``, or of a Triton kernel's constants and compiler options:
``BLOCK_M`` is ``block_m``, ``num_warps`` is ``warps``. 0 warps, stages or splits are the kernel's own choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.spec import MmaPath
from turbosim.schedules.prefill import SYNCS
from turbosim.schedules.registry import get_schedule
from turbosim.validation.cells import Line
from turbosim.validation.meta import Meanings, Model, Value
from turbosim.validation.row import TILING, Row
from turbosim.workload import Attention, Phase, Workload

T = TypeVar("T")
COMPILER = {"warps": "num_warps", "stages": "num_stages"}
"""Option -> compiler option of Triton."""
_ALIASES = {name: option for option, name in COMPILER.items()}
ANY = "*"
_WORDS = {"path": ("auto", *(path.value for path in MmaPath)), "sync": SYNCS}
"""Options of schedules -> their values on all GPUs."""
CHOSEN = ("warps", "stages", "splits")
"""Options that 0 leaves to the kernel."""


class UnmodelledError(Exception):
    """A model does not have what an option of a row asks for; the message says why."""


def check_options(line: Line, row: Row, model: Model) -> tuple[tuple[str, str], ...]:
    """Return the options of *row* by the names of its *model*.

    Raises ConfigError, with the place in *line*, for an option that the kernel does not have, one that is there twice,
    or a value that it cannot have. A kernel without a model may have any.
    """
    if model.schedule is None:
        return row.options
    schedule = get_schedule(model.schedule)
    fields = schedule.options.__dataclass_fields__
    translated = model.triton.own if model.triton else {}
    known = dict.fromkeys([*fields, *model.own, *translated])
    found: dict[str, str] = {}
    for given, text in row.options:
        name = given if given in known else _ALIASES.get(given, given.lower())
        if name not in known:
            raise _error(line, given, f"kernel {row.kernel!r} has no option {given!r}: it has {', '.join(known)}"
                                      f"{did_you_mean(given, known)}")
        if name in found:
            raise _error(line, given, f"option {name} is there twice; drop one")
        if name in TILING and not (text.isdigit() and (int(text) > 0 or name in CHOSEN)):
            least = "0 (the kernel's own choice)" if name in CHOSEN else "1"
            raise _error(line, given, f"option {name} must be a whole number of at least {least}, got {text!r}")
        for meanings in (model.own, translated):
            values = meanings.get(name, {text: {}})
            if text not in values and ANY not in values:
                raise _error(line, given, f"option {name} must be one of {', '.join(values)}, got {text!r}"
                                          f"{did_you_mean(text, values)}")
        if name in _WORDS and name not in model.own and text not in _WORDS[name]:
            raise _error(line, given, f"option {name} must be one of {', '.join(_WORDS[name])}, got {text!r}"
                                      f"{did_you_mean(text, _WORDS[name])}")
        found[name] = text
    try:
        schedule.parse_options({n: v for n, v in found.items()
                                if n in fields and n not in model.own and not _left(n, v)})
    except UsageError as error:
        raise line.error_in("options", str(error)) from None
    return tuple(found.items())


def _error(line: Line, name: str, message: str) -> ConfigError:
    """Return *message* as an error at option *name* of *line*."""
    at = re.search(rf"(?:^|:){re.escape(name)}=", line.cells["options"])
    before = at.start() + (at[0][0] == ":") if at else 0
    places = {**line.places, "options": line.places.get("options", 1) + before}
    return Line(line.where, line.cells, places).error_in("options", message)


def _left(name: str, text: str) -> bool:
    return name in CHOSEN and text == "0"


def schedule_options(row: Row, model: Model) -> dict[str, Value]:
    """Return what *row* says of the options of its schedule; those of the other phase are left out.

    Raises UnmodelledError for what the schedule does not have.
    """
    assert model.schedule is not None
    schedule = get_schedule(model.schedule)
    known = schedule.options.__dataclass_fields__
    found: dict[str, Value] = {}
    for name, text in _of_phase(row.options, model.only, row.workload):
        if name in model.own:
            found |= _meaning(model.own, name, text)
        elif name in known and not _left(name, text):
            found[name] = _value(text)
    return dict(_of_phase(tuple(found.items()), schedule.only, row.workload))


def triton_settings(row: Row, model: Model) -> dict[str, Value]:
    """Return what *row*, no decode, says of the constants and compiler options of its Triton kernel.

    Raises UnmodelledError for what the kernel does not have.
    """
    assert model.schedule is not None
    assert model.triton is not None
    only = {**get_schedule(model.schedule).only, **model.only}
    found: dict[str, Value] = {}
    for name, text in _of_phase(row.options, only, row.workload):
        if name in model.triton.own:
            found |= _meaning(model.triton.own, name, text)
        elif not _left(name, text):
            found[COMPILER.get(name, name.upper())] = _value(text)
    return found


def _of_phase(options: tuple[tuple[str, T], ...], only: Mapping[str, Phase], work: Workload
              ) -> list[tuple[str, T]]:
    """Return the *options* that are not of another phase than *work*."""
    phase = work.phase if isinstance(work, Attention) else None
    return [(name, value) for name, value in options if phase is None or only.get(name, phase) is phase]


def _meaning(meanings: Meanings, name: str, text: str) -> Mapping[str, Value]:
    values = meanings[name]
    meaning = values[text] if text in values else values[ANY]
    if isinstance(meaning, str):
        raise UnmodelledError(f"{name}={text}: {meaning}")
    return meaning


def _value(text: str) -> Value:
    return int(text) if text.isdigit() else text


def with_own(tilings: Iterable[Mapping[str, Value]], own: Mapping[str, Value]) -> Sequence[dict[str, Value]]:
    """Return *tilings* with the options that a row states in place of theirs, each once."""
    found: dict[tuple[tuple[str, Value], ...], dict[str, Value]] = {}
    for tiling in tilings:
        merged = {**tiling, **own}
        found.setdefault(tuple(sorted(merged.items(), key=lambda item: item[0])), merged)
    return list(found.values())
