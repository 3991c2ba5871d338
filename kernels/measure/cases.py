"""One configuration to measure: a kernel, its options and a shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turbosim.workload import Attention, Phase

Option = int | str | bool


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel on a shape. *sizes* describes a micro-benchmark, and is empty where *shape* is given."""

    kernel: str
    shape: Attention | None = None
    sizes: tuple[tuple[str, int], ...] = ()
    options: tuple[tuple[str, Option], ...] = ()
    """Options that differ from the kernel's defaults, sorted by name."""

    @property
    def phase(self) -> str:
        """``prefill``, ``decode`` or ``micro``."""
        return self.shape.phase.value if self.shape is not None else "micro"

    @property
    def key(self) -> str:
        """16 hexadecimal digits that name the case."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def workload(self) -> Attention | dict[str, int]:
        """What :attr:`kernels.case.Kernel.prepare` takes."""
        return self.shape if self.shape is not None else dict(self.sizes)

    def to_json(self) -> dict[str, Any]:
        """Return the case as plain values; :func:`from_json` reads them."""
        return {"kernel": self.kernel, "options": dict(self.options), "sizes": dict(self.sizes),
                "shape": shape_columns(self.shape) if self.shape is not None else None}

    def title(self) -> str:
        """Return the case on a line, for people."""
        if self.shape is None:
            where = text_of(dict(self.sizes)) or "-"
        else:
            s = self.shape
            where = (f"batch {s.batch}, {s.seq_q} x {s.seq_k}, heads {s.q_heads}/{s.kv_heads}, d {s.head_dim}"
                     f"{', causal' if s.causal else ''}")
        return f"{self.kernel} {self.phase}: {where}: {text_of(dict(self.options)) or 'defaults'}"


def from_json(data: Mapping[str, Any]) -> Case:
    """Return the case that :meth:`Case.to_json` described."""
    shape = data["shape"]
    if shape is not None:
        shape = Attention(**{**shape, "phase": Phase(shape["phase"])})
    return Case(data["kernel"], shape, tuple(data["sizes"].items()), tuple(data["options"].items()))


def shape_columns(shape: Attention) -> dict[str, int | str | bool]:
    """Return the columns of a row that describe *shape*."""
    return {"phase": shape.phase.value, "batch": shape.batch, "q_heads": shape.q_heads, "kv_heads": shape.kv_heads,
            "seq_q": shape.seq_q, "seq_k": shape.seq_k, "head_dim": shape.head_dim, "causal": shape.causal}


def columns_of(case: Case, defaults: Mapping[str, Option]) -> dict[str, int | str | bool | None]:
    """Return the columns of a row that describe *case*; *defaults* are the kernel's."""
    shape = shape_columns(case.shape) if case.shape is not None else {"phase": "micro"}
    return {"kernel": case.kernel, "options": text_of({**defaults, **dict(case.options)}) or None, **shape,
            "sizes": text_of(dict(case.sizes)) or None, "key": case.key}


def text_of(values: Mapping[str, Option]) -> str:
    """Return ``name=value:name=value``, sorted by name."""
    def show(value: Option) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    return ":".join(f"{name}={show(values[name])}" for name in sorted(values))
