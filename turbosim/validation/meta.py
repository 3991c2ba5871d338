"""What holds for all rows of a data set, and how each of its kernels is predicted: ``meta.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml.comments import CommentedMap

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.document import key_place, read_document, shown
from turbosim.schedules.registry import get_schedule
from turbosim.units import parse
from turbosim.validation.row import Convention, L2State, Protocol
from turbosim.workload import Attention, Workload

Value = str | int | bool


AT_MOST = "at most "
"""Before a frequency that the clock was set to."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Case(_Strict):
    """Options for rows with given properties."""

    when: dict[Literal["phase", "group", "head_dim", "causal"], Value]
    """``group`` is query heads per KV head."""
    options: dict[str, Value]

    def holds(self, workload: Workload) -> bool:
        """Return whether *workload* has the properties."""
        return isinstance(workload, Attention) and all(getattr(workload, n) == v for n, v in self.when.items())


class Triton(_Strict):
    """A Triton kernel of the measured one's structure."""

    kernel: str
    """Launch description, or FILE.py:FUNCTION with one beside it, from the folder of the checkout."""
    tilings: list[dict[str, Value]] = [{}]
    """Constants and compiler options to try."""


class Model(_Strict):
    """How a kernel is predicted, or why it is not."""

    schedule: str | None = None
    options: dict[str, Value] = {}
    cases: list[Case] = []
    """The options of all that hold are added, the last one's first."""
    sweep: dict[str, list[Value]] = {}
    """Values of which all combinations are tried, as an autotuner would."""
    tilings: list[dict[str, Value]] = []
    """Combinations that are tried instead."""
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
        if self.schedule is not None:
            names = {*self.options, *self.sweep, *(n for t in self.tilings for n in t),
                     *(n for c in self.cases for n in c.options)}
            known = get_schedule(self.schedule).options.__dataclass_fields__
            for name in sorted(names):
                if name not in known:
                    raise ValueError(f"kernel {self.schedule!r} has no option {name!r}{did_you_mean(name, known)}")
        return self


class Overhead(_Strict):
    """A time with the reason to believe it."""

    value: str
    source: str

    @field_validator("value")
    @classmethod
    def _time(cls, text: str) -> str:
        try:
            parse(text, "s")
        except UsageError as error:
            raise ValueError(f"must be a time: {error}") from None
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

    @field_validator("clock")
    @classmethod
    def _frequency(cls, text: str) -> str:
        if text != "not locked":
            try:
                parse(text.removeprefix(AT_MOST), "Hz")
            except UsageError as error:
                raise ValueError(f"must be 'not locked', a frequency or '{AT_MOST}' and one: {error}") from None
        return text

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
        return Meta.model_validate(plain(document))
    except ValidationError as error:
        raise ConfigError("\n".join(defect(path, document, x["loc"], x["msg"]) for x in error.errors())) from None


def plain(value: Any) -> Any:
    """Return a YAML document as dicts and lists."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def defect(path: Path, document: CommentedMap, loc: tuple[int | str, ...], message: str) -> str:
    """Return a defect at *loc* of *document* as ``file:line:col: path: message``."""
    place, node = (1, 1), document
    for key in loc:
        if not isinstance(node, CommentedMap) or key not in node:
            break
        place, node = key_place(node, key), node[key]
    text = message.removeprefix("Value error, ")
    return f"{shown(path)}:{place[0]}:{place[1]}: {'.'.join(map(str, loc))}: {text[0].lower()}{text[1:]}"
