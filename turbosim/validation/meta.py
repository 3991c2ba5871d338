"""What holds for all rows of a data set, and how each of its kernels is predicted: ``meta.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.document import key_place, read_document, shown
from turbosim.units import parse, show
from turbosim.validation.meta_checks import AT_MOST, check_clock, defects
from turbosim.validation.row import Convention, L2State, Protocol
from turbosim.workload import Attention, Phase, Workload

Value = str | int | bool
Meanings = dict[str, dict[str, dict[str, Value] | str]]
"""Option of a row -> its value, as text -> the options of a model that it stands for, or why the model has none. The
value ``*`` is any other."""


LONGEST_OVERHEAD = 1e-3
"""That two events can add [s]."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _When(_Strict):
    when: dict[Literal["version", "phase", "group", "head_dim", "causal"], Value | list[Value]]
    """``group`` is query heads per KV head. Any value of a list will do."""

    def holds(self, workload: Workload, version: str) -> bool:
        """Return whether a row of *version* with *workload* has the properties."""
        if not isinstance(workload, Attention):
            return False
        has = {name: version if name == "version" else getattr(workload, name) for name in self.when}
        return all(has[name] in (value if isinstance(value, list) else [value]) for name, value in self.when.items())


class Case(_When):
    """Options, or tilings that are tried, for rows with given properties."""

    options: dict[str, Value] = {}
    sweep: dict[str, list[Value]] = {}
    """Instead of the model's sweep or tilings."""

    @model_validator(mode="after")
    def _says_something(self) -> Case:
        if not self.options and not self.sweep:
            raise ValueError("needs options or a sweep")
        return self


class TritonCase(_When):
    """Constants and compiler options to try for rows with given properties."""

    tilings: list[dict[str, Value]]


class Triton(_Strict):
    """A Triton kernel of the measured one's structure."""

    kernel: str
    """Launch description, or FILE.py:FUNCTION with one beside it, from the folder of the checkout."""
    tilings: list[dict[str, Value]] = [{}]
    """Constants and compiler options to try, where a row does not state them."""
    cases: list[TritonCase] = []
    """The last one that holds replaces the tilings."""
    own: Meanings = {}
    """Options of rows that are no constant or compiler option of the same name."""

    def tilings_of(self, workload: Workload, version: str) -> list[dict[str, Value]]:
        """Return the constants and compiler options to try for a row of *version* with *workload*."""
        return next((c.tilings for c in reversed(self.cases) if c.holds(workload, version)), self.tilings)


class Model(_Strict):
    """How a kernel is predicted, or why it is not."""

    schedule: str | None = None
    options: dict[str, Value] = {}
    cases: list[Case] = []
    """The options of all that hold are added, the last one's first; the last sweep of these counts."""
    sweep: dict[str, list[Value]] = {}
    """Values of which all combinations are tried, as an autotuner would."""
    tilings: list[dict[str, Value]] = []
    """Combinations that are tried instead. What a row states of them is in their place."""
    own: Meanings = {}
    """Options of rows that are no option of the schedule of the same name and values."""
    only: dict[str, Phase] = {}
    """Options of rows that the measured kernel has in one phase alone, and does not look at in the other."""
    triton: Triton | None = None
    l2: L2State | None = None
    """L2 before each run, where it is not that of the other kernels."""
    why: str = ""
    """Why there is no schedule."""
    note: str = ""

    @model_validator(mode="after")
    def _predicted_or_not(self) -> Model:
        if (self.schedule is None) == (not self.why):
            raise ValueError("needs either a schedule or, under why, the reason that there is none")
        if self.sweep and self.tilings:
            raise ValueError("has a sweep and tilings; give one of the two")
        return self


class Overhead(_Strict):
    """A time with the reason to believe it."""

    value: str
    source: str

    @field_validator("value")
    @classmethod
    def _time(cls, text: str) -> str:
        try:
            seconds = parse(text, "s")
        except UsageError as error:
            raise ValueError(f"must be a time: {error}") from None
        if not 0 <= seconds <= LONGEST_OVERHEAD:
            raise ValueError(f"must be a time of 0 to {show(LONGEST_OVERHEAD, 's')}, got {text!r}; events add a few us")
        return text


class Meta(_Strict):
    """A data set."""

    title: str
    source: str
    licence: str
    trust: Literal["A", "B", "C", "D"]
    """A: printed by the run itself. B: read off labels of a figure. C: as A or B, with a GPU, shape or version that is
    inferred. D: origin not known in full."""
    gpu_assumed: str = ""
    """Why the rows have the GPU they have, where the source does not say so."""
    clock: str = "not locked"
    """``not locked``, the frequency it was locked to, or ``at most`` the one it was set to, if the power limit may have
    lowered it."""
    l2: L2State
    method: Literal["events", "graph", "ncu"]
    protocol_text: str = Field("", alias="protocol")
    """How times were taken, in words."""
    event_overhead: Overhead | None = None
    """What events measure beside the launch and the kernel; none unless given."""
    flops: Convention = Convention.UNMASKED
    kernels: dict[str, Model]

    @field_validator("clock", mode="before")
    @classmethod
    def _frequency(cls, text: object) -> str:
        return check_clock(text)

    @model_validator(mode="after")
    def _overhead_of_events(self) -> Meta:
        if self.event_overhead is not None and self.method != "events":
            raise ValueError(f"event_overhead belongs to method: events, got method: {self.method}")
        return self

    @property
    def protocol(self) -> Protocol:
        """The protocol of rows that state none of their own."""
        overhead = 0.0 if self.event_overhead is None else parse(self.event_overhead.value, "s")
        hertz = None if self.clock == "not locked" else parse(self.clock.removeprefix(AT_MOST), "Hz")
        if self.clock.startswith(AT_MOST):
            return Protocol(self.l2, self.method, overhead=overhead, highest=hertz)
        return Protocol(self.l2, self.method, hertz, overhead)

    @property
    def gpu_known(self) -> bool:
        """Whether the source names the GPU."""
        return not self.gpu_assumed


def read_meta(path: Path) -> Meta:
    """Return the meta file *path*. Raises ConfigError with file:line:col for what is not acceptable in it."""
    document = read_document(path, "meta file")
    try:
        meta = Meta.model_validate(plain(document))
    except ValidationError as error:
        texts = [defect(path, document, x["loc"], _message(dict(x))) for x in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(texts))) from None
    if found := list(defects(plain(document)["kernels"])):
        raise ConfigError("\n".join(defect(path, document, loc, text) for loc, text in found))
    return meta


def _message(error: dict[str, Any]) -> str:
    """Return what *error*, one of pydantic, says, with the value and the likely fix."""
    loc, kind, given = error["loc"], error["type"], error["input"]
    if kind == "extra_forbidden":
        known = [info.alias or name for name, info in _table_at(loc[:-1]).model_fields.items()]
        return f"unknown key{did_you_mean(str(loc[-1]), known)}; there are {', '.join(known)}"
    if kind == "missing":
        return "missing; fill it in"
    if kind in ("literal_error", "enum"):
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"must be one of {', '.join(known)}, got {given!r}{did_you_mean(str(given), known)}"
    text = str(error["msg"]).removeprefix("Value error, ")
    return text if kind == "value_error" or isinstance(given, (Mapping, list)) else f"{text}, got {given!r}"


def _table_at(loc: tuple[int | str, ...]) -> type[_Strict]:
    """Return the class of the table at *loc* of a meta file."""
    if not loc:
        return Meta
    if loc[0] == "event_overhead":
        return Overhead
    inner = [part for part in loc[2:] if isinstance(part, str)]
    tables: dict[str, type[_Strict]] = {"": Model, "cases": Case, "triton": Triton, "triton.cases": TritonCase}
    return tables[".".join(inner)]


def plain(value: Any) -> Any:
    """Return a YAML document as dicts and lists."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def defect(path: Path, document: CommentedMap, loc: tuple[int | str, ...], message: str) -> str:
    """Return a defect at *loc* of *document* as ``file:line:col: path: message``."""
    place: tuple[int, int] = (1, 1)
    node: Any = document
    for key in loc:
        if isinstance(node, CommentedMap) and key in node:
            place, node = key_place(node, key), node[key]
        elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
            line, column = node.lc.item(key)
            place, node = (line + 1, column + 1), node[key]
        else:
            break
    text = message.removeprefix("Value error, ")
    return f"{shown(path)}:{place[0]}:{place[1]}: {'.'.join(map(str, loc))}: {text[0].lower()}{text[1:]}"
