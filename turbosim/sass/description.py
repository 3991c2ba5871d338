"""What a kernel is launched with, as a user writes it: sizes, grid, arguments, constants, as YAML or in Python.

Values are numbers or expressions (:mod:`turbosim.sass.expressions`) over the names that stand before them. The order is
sizes, compiler options, constants, arguments, grid and FLOPs; :meth:`Description.bind` evaluates it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
)
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.document import key_place, read_document, shown, value_place
from turbosim.sass.bound import DTYPES, Bound, Buffer
from turbosim.sass.expressions import Value, evaluate, parse

NOUN = "launch description"
Field_ = tuple[str | int, ...]
"""Keys from the top of the document."""


def _expression(value: Any) -> Any:
    if isinstance(value, str):
        try:
            parse(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"is a number or an expression, got {_seen(value)}")
    return value


def _dtype(value: Any) -> Any:
    if not isinstance(value, str) or value not in DTYPES:
        hint = did_you_mean(value, DTYPES) if isinstance(value, str) else ""
        raise ValueError(f"is one of {', '.join(sorted(set(DTYPES.values())))}, got {_seen(value)}{hint}")
    return DTYPES[value]


def _seen(value: Any) -> str:
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


Expression = Annotated[Any, BeforeValidator(_expression)]


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
    """How a ``@triton.jit`` function is launched.

    Raises :class:`pydantic.ValidationError` for fields that are missing, unknown or not of their kind.
    """

    kernel: Annotated[str, BeforeValidator(_reference)]
    """FILE.py:FUNCTION, in a file relative to it; in Python the function itself will do, if it stands in a file."""
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

    def bind(self, settings: Mapping[str, Value] | None = None) -> Bound:
        """Return the launch for *settings*, which replace sizes, constants and compiler options by name.

        A text in *settings* is an expression. Raises UsageError for an unknown setting, ConfigError, with the place,
        for an expression without a value of its kind.
        """
        return _Binding(self, dict(settings or {})).bound()

    def where(self, field: Field_) -> str:
        """Return the place of *field* and its name."""
        name = ".".join(str(part) for part in field)
        return f"{self._places[field]}: {name}" if field in self._places else f"{NOUN}: {name}"

    def with_kernel(self, kernel: str) -> Description:
        """Return the same for another FILE.py:FUNCTION."""
        made = self.model_copy(update={"kernel": kernel})
        made._places = self._places  # noqa: SLF001 - its own class
        return made


class _Binding:
    def __init__(self, description: Description, settings: dict[str, Value]) -> None:
        self.of, self.settings = description, settings
        self.names: dict[str, Value] = {}

    def bound(self) -> Bound:
        of = self.of
        adjustable = [*of.sizes, *OPTIONS, *of.constants]
        for name in self.settings:
            if name not in adjustable:
                raise UsageError(f"setting {name!r}: {of.kernel} has {', '.join(adjustable)}"
                                 f"{did_you_mean(name, adjustable)}")
        for name, value in of.sizes.items():
            self._set(("sizes", name), name, value)
        options = {}
        for name in OPTIONS:
            self._set((name,), name, getattr(of, name))
            if (value := self.names[name]) is not None:
                options[name] = self._integer((name,), value, 1)
        warps = options.get("num_warps")
        if warps is None or warps > 32 or warps & (warps - 1):
            raise self._error(("num_warps",), f"is a power of two up to 32, got {warps}")
        for name, value in of.constants.items():
            self._set(("constants", name), name, value)
        constants = {name: self.names[name] for name in of.constants}
        arguments = {name: self._argument(name, value) for name, value in of.arguments.items()}
        grid = [self._integer(("grid", n), self._value(("grid", n), e), 1) for n, e in enumerate(of.grid)] + [1, 1]
        flops = None if of.flops is None else self._integer(("flops",), self._value(("flops",), of.flops), 0)
        adjusted = {n: self.names[n] for n in adjustable}
        return Bound(of.kernel, (grid[0], grid[1], grid[2]), arguments, constants, options, flops or 0,
                     {n: v for n, v in adjusted.items() if v is not None})

    def _set(self, field: Field_, name: str, value: Value) -> None:
        if name in self.settings:
            try:
                self.names[name] = evaluate(self.settings[name], self.names)
            except UsageError as error:
                raise UsageError(f"setting {name!r}: {error}") from None
        else:
            self.names[name] = self._value(field, value)

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
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._error(field, f"is a whole number of at least {least}, got {value!r}")
        return value

    def _error(self, field: Field_, message: str) -> ConfigError | UsageError:
        if field[-1] in self.settings and field[0] in ("sizes", "constants", *OPTIONS):
            return UsageError(f"setting {field[-1]!r}: {message}")
        given = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return ConfigError(f"{self.of.where(field)}: {message}{f' with {given}' if given else ''}")


OPTIONS = ("num_warps", "num_stages", "maxnreg")
"""Compiler options."""


def read_description(path: Path) -> Description:
    """Return the description in a YAML file. Raises ConfigError with every defect, a line each."""
    document = read_document(path, NOUN)
    try:
        made = Description.model_validate(_plain(document))
    except ValidationError as error:
        raise ConfigError("\n".join(_defect(path, document, dict(e)) for e in error.errors())) from None
    made._places.update(_places_of(path, document, ()))  # noqa: SLF001 - made here
    file, colon, function = made.kernel.rpartition(":")
    if not colon:
        return made
    return made.with_kernel(f"{shown(path.parent / file)}:{function}")


def _plain(value: Any) -> Any:
    if isinstance(value, CommentedMap):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(v) for v in value]
    return value


def _places_of(path: Path, node: Any, above: Field_) -> dict[Field_, str]:
    """Return the place of every value."""
    found: dict[Field_, str] = {}
    if isinstance(node, CommentedMap):
        for key, value in node.items():
            line, column = value_place(node, key)
            found[(*above, str(key))] = f"{shown(path)}:{line}:{column}"
            found |= _places_of(path, value, (*above, str(key)))
    elif isinstance(node, CommentedSeq):
        for n, value in enumerate(node):
            line, column = node.lc.item(n)
            found[(*above, n)] = f"{shown(path)}:{line + 1}:{column + 1}"
            found |= _places_of(path, value, (*above, n))
    return found


_WORDS = {"missing": "missing", "extra_forbidden": "unknown field", "string_type": "is a text",
          "dict_type": "is a table", "tuple_type": "is a list", "model_type": "is a table",
          "model_attributes_type": "is a table", "too_short": "has at least one entry",
          "too_long": "has at most three entries"}


def _defect(path: Path, document: CommentedMap, error: dict[str, Any]) -> str:
    """Return a pydantic error with its place, in this project's words."""
    kind, loc = error["type"], [p for p in error["loc"] if p not in ("tensor", "scalar")]
    node: Any = document
    place, names = (1, 1), []
    for part in loc:
        names.append(str(part))
        if isinstance(node, CommentedMap) and part in node:
            place = key_place(node, part) if kind == "extra_forbidden" else value_place(node, part)
            node = node[part]
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line, column = node.lc.item(part)
            node, place = node[part], (line + 1, column + 1)
    if kind == "value_error":
        message = str(error["ctx"]["error"])
    else:
        message = _WORDS.get(kind, error["msg"])
        if kind == "extra_forbidden":
            known = list((Description if len(loc) == 1 else TensorArgument).model_fields)
            message += f"{did_you_mean(str(loc[-1]), known)}; fields are {', '.join(known)}"
        elif kind != "missing":
            message += f", got {_seen(error['input'])}"
    return f"{shown(path)}:{place[0]}:{place[1]}: {'.'.join(names)}: {message}"
