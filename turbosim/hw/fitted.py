"""The record in a hardware file of what its values were fitted on, so that those rows are not predicted with them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FittedFile(_Strict):
    """A file of measurements."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of its content."""
    rows: list[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]]
    """Digests of the rows that were used (:func:`turbosim.validation.identity.digest_of`)."""


class FittedValue(_Strict):
    """A fitted value, in SI units."""

    before: float
    value: float
    interval: Annotated[list[float], Field(min_length=2, max_length=2)]
    """Ends of the 95 % interval."""
    rows: int
    """Rows that depend on it."""
    on: list[str]
    """Kinds of micro-benchmarks that do."""


class FittedRecord(_Strict):
    """What a hardware file was fitted on, by which command, with which result."""

    by: str
    gpu: str
    """Name of the GPU in the files."""
    files: dict[str, FittedFile]
    parameters: dict[str, FittedValue]
    """By path of the field."""
    kept: dict[str, str] = {}
    """Fields that the rows do not determine, and why."""


def read_record(table: Any) -> tuple[FittedRecord | None, list[tuple[tuple[str, ...], str]]]:
    """Return the record in *table*, or None and the defects, each as path and rule."""
    try:
        return FittedRecord.model_validate(table), []
    except ValidationError as error:
        defects = [(tuple(str(part) for part in item["loc"]), item["msg"]) for item in error.errors()]
        return None, [(path, f"{text[0].lower()}{text[1:]}") for path, text in defects]
