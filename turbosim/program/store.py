"""Saving and loading programs: versioned JSON with a checksum, gzip-compressed when the name ends in ``.gz``."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from turbosim.errors import ConfigError
from turbosim.files import write_whole
from turbosim.program.ops import Compute, Load, Loop, Op, Signal, Store, Wait
from turbosim.program.program import Program

FORMAT = "turbosim-program"
VERSION = 2

_OPS: dict[str, type[Op | Loop]] = {
    "compute": Compute, "load": Load, "store": Store, "signal": Signal, "wait": Wait, "loop": Loop}
_KINDS: dict[type, str] = {kind: name for name, kind in _OPS.items()}


def save(program: Program, path: str | Path) -> None:
    """Write *program* to *path*, completely or not at all. Raises ConfigError when the file cannot be written."""
    target = Path(path)
    payload = _encode(program)
    text = _canonical(payload)
    document = {"format": FORMAT, "version": VERSION, "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "program": payload}
    data = json.dumps(document, separators=(",", ":")).encode()
    if target.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    try:
        write_whole(target, data)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None


def load(path: str | Path) -> Program:
    """Read a program. Raises ConfigError, with the reason, for a file that is not a complete program."""
    source = Path(path)
    try:
        data = source.read_bytes()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise ConfigError(f"{source}: truncated or damaged gzip data; write the trace again") from None
    try:
        document = json.loads(data)
    except ValueError as error:
        where = f" at line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"{source}: truncated or not JSON{where}; write the trace again") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ConfigError(f"{source}: not a turbosim program (format is not {FORMAT!r})")
    if document.get("version") != VERSION:
        raise ConfigError(f"{source}: version {document.get('version')!r} of the format, this turbosim reads "
                          f"version {VERSION}; write the trace again")
    payload = document.get("program")
    digest = hashlib.sha256(_canonical(payload).encode()).hexdigest()
    if digest != document.get("sha256"):
        raise ConfigError(f"{source}: checksum mismatch, the file was damaged or edited; write the trace again")
    try:
        program: Program = _adapter("program").validate_python(_decode(payload))
    except (ValidationError, TypeError, KeyError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"{source}: not a well-formed program: {reason}") from None
    return program


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    """Return what checks an operation of a kind, or a program; to make it takes longer than to use it."""
    return TypeAdapter(_OPS.get(kind, Program))


def _canonical(payload: Any) -> str:
    return json.dumps(payload, sort_keys=True, separators=(",", ":"))


def _encode(value: Any) -> Any:
    """Turn dataclasses into tables; operations carry their kind."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        table = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        kind = _KINDS.get(type(value))
        return {"kind": kind, **table} if kind else table
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {k: _encode(v) for k, v in value.items()}
    return value


def _decode(value: Any) -> Any:
    """Turn tables that carry a kind into operations; everything else is checked by the model."""
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if not isinstance(value, dict):
        return value
    table = {k: _decode(v) for k, v in value.items()}
    if (value.get("kind") in _OPS and "label" in value) or "variable" in value:
        kind = table.pop("kind")
        if kind not in _OPS:
            raise KeyError(kind)
        return _adapter(kind).validate_python(table)
    return table
