"""The workload that the fields of a study describe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from turbosim.errors import UsageError, did_you_mean
from turbosim.schedules.base import Schedule
from turbosim.study.axis import Value
from turbosim.units import count, parse
from turbosim.workload import Attention, CopyBytes, Gemm, Phase, Workload, attention_of, get_model

FIELDS: dict[str, tuple[str, ...]] = {
    "attention": ("model", "phase", "batch", "seq", "seq_q", "seq_k", "q_heads", "kv_heads", "head_dim", "causal"),
    "gemm": ("m", "n", "k"),
    "copy": ("bytes",),
}
"""Fields by kind of workload."""
ALL = tuple(name for names in FIELDS.values() for name in names)
_TEXTS = ("model", "phase")
_WANTS = {"attention": "an attention shape", "gemm": "m, n and k", "copy": "bytes"}


def parse_field(name: str, value: object) -> Value:
    """Return the value of the field *name* as it is computed with: ``8k`` is 8192. Raises UsageError."""
    if name == "model":
        return get_model(str(value)).name
    if name == "phase":
        known = [p.value for p in Phase]
        if value not in known:
            raise UsageError(f"phase: must be one of {', '.join(known)}, got {value!r}"
                             f"{did_you_mean(str(value), known)}")
        return str(value)
    if name == "causal":
        if not isinstance(value, bool):
            raise UsageError(f"causal: must be true or false, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UsageError(f"{name}: must be a whole number, got {value!r}")
    if name == "bytes":
        nbytes = int(parse(value, "B")) if isinstance(value, str) else value
        if nbytes < 1:
            raise UsageError(f"bytes: must be at least 1 B, got {value}")
        return nbytes
    return count(str(value), name)


def workload_of(kernel: Schedule[object], fields: Mapping[str, Value]) -> Workload:
    """Return the workload that *fields* describe to *kernel*. Raises UsageError where they describe none."""
    kind = "gemm" if Gemm in kernel.workloads else "copy" if CopyBytes in kernel.workloads else "attention"
    if foreign := [name for name in fields if name not in FIELDS[kind]]:
        raise UsageError(f"workload: kernel {kernel.name!r} takes {_WANTS[kind]}, not {', '.join(foreign)}")
    if kind == "attention":
        return _attention(fields)
    if missing := [name for name in FIELDS[kind] if name not in fields]:
        raise UsageError(f"workload: kernel {kernel.name!r} needs {', '.join(missing)}")
    sizes = [int(fields[name]) for name in FIELDS[kind]]
    return Gemm(*sizes) if kind == "gemm" else CopyBytes(*sizes)


def _attention(fields: Mapping[str, Value]) -> Attention:
    sizes = {name: int(value) for name, value in fields.items() if name not in _TEXTS}
    phase, batch = Phase(str(fields.get("phase", "prefill"))), sizes.get("batch", 1)
    if "seq" in sizes and "seq_k" in sizes:
        raise UsageError("workload: seq and seq_k both give the keys per sequence; drop one")
    keys = sizes.get("seq", sizes.get("seq_k"))
    if keys is None:
        raise UsageError("workload: needs seq, for example seq: 8k")
    if "model" in fields:
        if heads := [name for name in ("q_heads", "kv_heads", "head_dim") if name in fields]:
            raise UsageError(f"workload: model brings the heads; drop {', '.join(heads)} or model")
        shape = attention_of(get_model(str(fields["model"])), phase, batch, keys)
    else:
        if missing := [name for name in ("q_heads", "head_dim") if name not in fields]:
            raise UsageError(f"workload: needs model, or {' and '.join(missing)}")
        prefill = phase is Phase.PREFILL
        shape = Attention(batch, sizes["q_heads"], sizes.get("kv_heads", sizes["q_heads"]), keys if prefill else 1,
                          keys, sizes["head_dim"], prefill, phase)
    return dataclasses.replace(shape, seq_q=sizes.get("seq_q", shape.seq_q),
                               causal=bool(fields.get("causal", shape.causal)))
