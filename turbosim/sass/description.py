"""What a kernel is launched with, as a user writes it: sizes, grid, arguments, constants, as YAML or in Python.

Values are numbers or expressions (:mod:`turbosim.sass.expressions`) over the names that stand before them. The order is
sizes, compiler options, constants, arguments, grid and FLOPs; :meth:`Description.bind` evaluates it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.sass.bound import DTYPES, Bound, Buffer
from turbosim.sass.expressions import Value, evaluate, parse

NOUN = "launch description"
Field_ = tuple[str | int, ...]
"""Keys from the top of the document."""


def checked_expression(value: Any) -> Any:
    """Return *value*, a number, an expression or None. Raises ValueError for anything else."""
    if isinstance(value, str):
        try:
            parse(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"is a number or an expression, got {seen(value)}")
    return value


def _dtype(value: Any) -> Any:
    if not isinstance(value, str) or value not in DTYPES:
        hint = did_you_mean(value, DTYPES) if isinstance(value, str) else ""
        raise ValueError(f"is one of {', '.join(sorted(set(DTYPES.values())))}, got {seen(value)}{hint}")
    return DTYPES[value]


def seen(value: Any) -> str:
    """Return *value* as a message shows it."""
    if isinstance(value, (Mapping, list)):
        kind = "list" if isinstance(value, list) else "table"
        return f"a {kind}" if value else f"an empty {kind}"
    return "nothing" if value is None else repr(value)


def _reference(value: Any) -> Any:
    """Return FILE.py:FUNCTION of a Triton function."""
    inner = value
    while not isinstance(inner, str) and hasattr(inner, "fn"):
        inner = inner.fn
    code = getattr(inner, "__code__", None)
    return value if code is None else f"{code.co_filename}:{inner.__name__}"


Expression = Annotated[Any, BeforeValidator(checked_expression)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorArgument(_Model):
    """A pointer to a tensor in global memory, or with *block* a tensor descriptor that the host makes of it."""

    dtype: Annotated[str, BeforeValidator(_dtype)]
    shape: tuple[Expression, ...] = Field(min_length=1)
    block: tuple[Expression, ...] | None = None
    """Shape of the blocks that the kernel loads and stores by the descriptor."""


def _form(value: Any) -> str:
    return "tensor" if isinstance(value, (Mapping, TensorArgument)) else "scalar"


Argument = Annotated[Annotated[TensorArgument, Tag("tensor")] | Annotated[Expression, Tag("scalar")],
                     Discriminator(_form)]


class Description(_Model):
    """How a ``@triton.jit`` function, or a kernel of a cubin, is launched.

    Raises :class:`pydantic.ValidationError` for fields that are missing, unknown or not of their kind.
    """

    kernel: Annotated[str, BeforeValidator(_reference)] = ""
    """FILE.py:FUNCTION, in a file relative to it; in Python the function itself will do, if it stands in a file."""
    cubin: str = ""
    """Instead of *kernel*: a file of machine code. *arguments* are then its parameters, in order."""
    entry: str = ""
    """Which kernel of the cubin, where it holds several."""
    smem_bytes: Expression = 0
    """Dynamic shared memory that a kernel of a cubin is launched with [B per CTA]."""
    about: str = ""
    sizes: dict[str, Expression] = {}
    """What a user may want to change: lengths, head counts, flags."""
    num_warps: Expression = 4
    num_stages: Expression = 3
    maxnreg: Expression = None
    constants: dict[str, Expression] = {}
    """The kernel's ``tl.constexpr`` parameters."""
    arguments: dict[str, Argument]
    """The other parameters: tensors with *dtype* and *shape*, scalars as values."""
    grid: tuple[Expression, ...] = Field(min_length=1, max_length=3)
    flops: Expression = None
    """Useful FLOPs, those of the mathematical definition."""
    _places: dict[Field_, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _one_kernel(self) -> Description:
        if bool(self.kernel) == bool(self.cubin):
            raise ValueError("kernel: missing; write FILE.py:FUNCTION, or cubin: FILE.cubin" if not self.kernel else
                             "cubin: is named beside a kernel; drop one of the two")
        if found := self._misplaced(bool(self.cubin)):
            raise ValueError(": ".join(found))
        return self

    def _misplaced(self, machine_code: bool) -> tuple[str, str] | None:
        """Return a field that is only for the other kind of kernel, and what is wrong with it."""
        for name in COMPILED_IN if machine_code else OF_CUBINS:
            if name in self.model_fields_set:
                return name, ("is for a Triton function, and a cubin is compiled already; names that other values need "
                              "go under sizes" if machine_code else "is for a cubin; of a Triton function it is known")
        return None

    @property
    def name(self) -> str:
        """FILE.py:FUNCTION, FILE.cubin or FILE.cubin:ENTRY."""
        return self.kernel or self.cubin + (f":{self.entry}" if self.entry else "")

    def bind(self, settings: Mapping[str, Value] | None = None) -> Bound:
        """Return the launch for *settings*, which replace sizes, constants and compiler options by name.

        A text in *settings* is an expression. Raises UsageError for an unknown setting, ConfigError, with the place,
        for an expression without a value of its kind.
        """
        return _Binding(self, dict(settings or {})).bound()

    def where(self, field: Field_) -> str:
        """Return the place of *field* and its name; of one that the file does not have, that of what it belongs to."""
        name = ".".join(str(part) for part in field)
        place = next((self._places[f] for f in (field, ("kernel",), ("cubin",)) if f in self._places), NOUN)
        return f"{place}: {name}"

    def with_code(self, *, kernel: str = "", cubin: str = "") -> Description:
        """Return the same for another FILE.py:FUNCTION, or another FILE.cubin.

        Raises ConfigError where it has fields that only the other kind of kernel has.
        """
        if found := self._misplaced(bool(cubin)):
            raise ConfigError(f"{self.where((found[0],))}: {found[1]}")
        made = self.model_copy(update={"kernel": kernel, "cubin": cubin})
        made._places = self._places  # noqa: SLF001 - its own class
        return made


class _Binding:
    def __init__(self, description: Description, settings: dict[str, Value]) -> None:
        self.of, self.settings = description, settings
        self.names: dict[str, Value] = {}
        self.options: tuple[str, ...] = OPTIONS
        if description.cubin:
            # Machine code says how many warps it is for, unless it runs with any number.
            said = "num_warps" in description.model_fields_set or "num_warps" in self.settings
            self.options = ("num_warps",) if said else ()

    def bound(self) -> Bound:
        of = self.of
        adjustable = [*of.sizes, *(OPTIONS if of.kernel else ("num_warps",)), *of.constants]
        for name in self.settings:
            if name not in adjustable:
                raise UsageError(f"setting {name!r}: {of.name} has {', '.join(adjustable)}"
                                 f"{did_you_mean(name, adjustable)}")
        for name, value in of.sizes.items():
            self._set(("sizes", name), name, value)
        options = {}
        for name in self.options:
            self._set((name,), name, getattr(of, name))
            if (value := self.names[name]) is not None:
                options[name] = self._integer((name,), value, 1)
        warps = options.get("num_warps")
        if of.kernel and (warps is None or warps > 32 or warps & (warps - 1)):
            raise self._error(("num_warps",), f"is a power of two up to 32, got {warps}")
        for name, value in of.constants.items():
            self._set(("constants", name), name, value)
        constants = {name: self.names[name] for name in of.constants}
        arguments = {name: self._argument(name, value) for name, value in of.arguments.items()}
        grid = [self._integer(("grid", n), self._value(("grid", n), e), 1) for n, e in enumerate(of.grid)] + [1, 1]
        flops = None if of.flops is None else self._integer(("flops",), self._value(("flops",), of.flops), 0)
        smem = self._integer(("smem_bytes",), self._value(("smem_bytes",), of.smem_bytes), 0)
        adjusted = {n: self.names.get(n) for n in adjustable}
        return Bound(of.name, (grid[0], grid[1], grid[2]), arguments, constants, options, flops or 0,
                     {n: v for n, v in adjusted.items() if v is not None}, smem)

    def _set(self, field: Field_, name: str, value: Value) -> None:
        if name not in self.settings:
            self.names[name] = self._value(field, value)
            return
        described = self._described(value)
        kind = _kind(described)
        try:
            found = evaluate(self.settings[name], self.names)
        except UsageError as error:
            hint = "" if re.search(r"[^\w.]", str(self.settings[name])) else f"; {self._kinds(name, kind, value)}"
            raise UsageError(f"setting {name!r}: {error}{hint}") from None
        if "nothing" not in (kind, _kind(found)) and _kind(found) != kind:
            raise UsageError(f"setting {name!r}: is a {kind}, got {found!r}; {self._kinds(name, kind, value)}")
        negative = isinstance(found, (int, float)) and found < 0
        if field[0] == "sizes" and negative and not (isinstance(described, (int, float)) and described < 0):
            raise UsageError(f"setting {name!r}: is a size, of at least 0, got {found}")
        self.names[name] = found

    def _described(self, value: Value) -> Value:
        """Return what the description says itself, None where that has no value with the settings before it."""
        try:
            return evaluate(value, self.names)
        except UsageError:
            return None

    def _kinds(self, name: str, kind: str, value: Value) -> str:
        """Return how setting *name*, described as *value*, is written, and which settings there are, with values."""
        null = f"{name} is null in the description: it" if value is None else name
        forms = {"text": f"a text is written in quotes, as --set \"{name}='{self.settings[name]}'\"",
                 "number": f"{name} is a number",
                 "nothing": f"{null} takes a number, true, false, or a text in quotes, but no function"}
        form = forms[kind]
        given, self.settings = self.settings, {}
        self.names = {}
        try:
            shown = ", ".join(f"{n}={v!r} ({_kind(v)})" for n, v in self.bound().values.items())
        except (ConfigError, UsageError):
            return form
        finally:
            self.settings = given
        return f"{form}; settings are, as described, {shown}"

    def _argument(self, name: str, given: Any) -> Buffer | Value:
        if not isinstance(given, TensorArgument):
            value = self._value(("arguments", name), given)
            if isinstance(value, str):
                raise self._error(("arguments", name), f"is a number, got {value!r}")
            self.names.setdefault(name, value)
            return value
        shape = self._sides(("arguments", name, "shape"), given.shape)
        if given.block is None:
            return Buffer(given.dtype, shape)
        field = "arguments", name, "block"
        block = self._sides(field, given.block)
        if len(block) != len(shape) or any(side & (side - 1) for side in block):
            raise self._error(field, f"has a power of two for each of the {len(shape)} sides of the tensor, got "
                              f"{list(block)}")
        return Buffer(given.dtype, shape, block)

    def _sides(self, field: Field_, given: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self._integer((*field, n), self._value((*field, n), side), 1) for n, side in enumerate(given))

    def _value(self, field: Field_, expression: Value) -> Value:
        try:
            return evaluate(expression, self.names)
        except UsageError as error:
            raise self._error(field, str(error)) from None

    def _integer(self, field: Field_, value: Value, least: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        none = [n for n in self.settings if n in self.of.sizes and self.names.get(n) == 0]
        if none and value == 0 and least and field[0] in ("arguments", "grid"):
            raise UsageError(f"setting {none[0]!r}: must be at least 1, got 0, with which there is nothing in "
                             f"{self.of.where(field)}")
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._error(field, f"is a whole number of at least {least}, got {value!r}")
        return value

    def _error(self, field: Field_, message: str) -> ConfigError | UsageError:
        if field[-1] in self.settings and field[0] in ("sizes", "constants", *OPTIONS):
            return UsageError(f"setting {field[-1]!r}: {message}")
        given = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return ConfigError(f"{self.of.where(field)}: {message}{f' with {given}' if given else ''}")


def _kind(value: Value) -> str:
    return "nothing" if value is None else "text" if isinstance(value, str) else "number"


OPTIONS = ("num_warps", "num_stages", "maxnreg")
"""Compiler options."""
COMPILED_IN = ("constants", "num_stages", "maxnreg")
"""Fields that machine code has no use for."""
OF_CUBINS = ("entry", "smem_bytes")
"""Fields that say of machine code what the compiler says of a Triton function."""
