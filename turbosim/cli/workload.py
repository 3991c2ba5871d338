"""The options that say what is computed, shared by the commands that simulate one kernel.

A command takes them as one parameter ``workload: WorkloadOptions`` under the decorator :func:`with_workload`, which
puts an option in its place for every field. Options that do not apply together are refused rather than ignored.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from turbosim.cli import common
from turbosim.errors import UsageError

if TYPE_CHECKING:
    from turbosim.workload import Attention, Phase, Workload

_size = functools.partial(typer.Option, metavar="<size>")


@dataclass(frozen=True, kw_only=True)
class WorkloadOptions:
    """What the command line says about the kernel and its workload; a field per option."""

    kernel: Annotated[str, typer.Option(help="Kernel, see `turbosim list`.")] = "flash"
    model: Annotated[str | None, typer.Option(help="Attention of a model preset, see `turbosim list`.")] = None
    phase: common.PhaseName = "prefill"
    batch: Annotated[int, typer.Option(help="Sequences.")] = 1
    seq: Annotated[str | None, _size(
        help="Tokens per sequence: queries and keys in prefill, keys in decode; 8k is 8192.")] = None
    seq_q: Annotated[str | None, _size(
        help="Queries per sequence where they are fewer than the keys, as in a chunk of a prefill.")] = None
    seq_k: Annotated[str | None, _size(help="Keys per sequence: --seq by another name, for use with --seq-q.")] = None
    q_heads: Annotated[int | None, typer.Option(help="Query heads, without --model.")] = None
    kv_heads: Annotated[int | None, typer.Option(help="KV heads, without --model; --q-heads unless given.")] = None
    head_dim: Annotated[int | None, typer.Option(help="Head dimension, without --model.")] = None
    causal: Annotated[bool | None, typer.Option("--causal/--no-causal", help="Mask; prefill is causal unless told.")
                      ] = None
    m: Annotated[str | None, _size(help="Rows of A and C, for gemm; 4k is 4096.")] = None
    n: Annotated[str | None, _size(help="Columns of B and C, for gemm.")] = None
    k: Annotated[str | None, _size(help="Columns of A, rows of B, for gemm.")] = None
    nbytes: Annotated[str | None, _size("--bytes", help="Size with a unit, for copy: 1 GiB.")] = None
    settings: Annotated[list[str] | None, typer.Option(
        "--set", metavar="<key=value>", help="Kernel option, see `turbosim list`; may be repeated.")] = None
    given: frozenset[str] = frozenset()
    """Names of the fields that the command line has set."""

    def flags(self, *fields: str) -> str:
        """Return the options of those of *fields* that were given, as the command line writes them."""
        special = {"nbytes": "--bytes", "settings": "--set", "causal": "--causal" if self.causal else "--no-causal"}
        return ", ".join(special.get(name, f"--{name.replace('_', '-')}") for name in fields if name in self.given)

    def kernel_options(self) -> dict[str, str]:
        """Return the kernel's options. Raises UsageError."""
        return common.settings(self.settings)

    def build(self) -> Workload:
        """Return the workload. Raises UsageError for options that describe none or do not apply."""
        from turbosim.schedules.registry import get_schedule
        from turbosim.workload import CopyBytes, Gemm

        kinds = get_schedule(self.kernel).workloads
        kind = "gemm" if Gemm in kinds else "copy" if CopyBytes in kinds else "attention"
        if foreign := self.flags(*(name for other, names in _FIELDS.items() if other != kind for name in names)):
            raise UsageError(f"{foreign}: kernel {self.kernel!r} takes {_TAKES[kind]}; drop what it does not take")
        if kind == "gemm":
            if self.m is None or self.n is None or self.k is None:
                raise UsageError("kernel 'gemm' needs --m, --n and --k")
            return Gemm(common.count(self.m, "--m"), common.count(self.n, "--n"), common.count(self.k, "--k"))
        if kind == "copy":
            if self.nbytes is None:
                raise UsageError("kernel 'copy' needs --bytes, for example --bytes '1 GiB'")
            return CopyBytes(common.nbytes(self.nbytes, "--bytes"))
        return self._attention()

    def refuse_with_trace(self, *more: str) -> None:
        """Refuse options that a saved program has settled; *more* are such flags of the command itself."""
        names = [f.name for f in dataclasses.fields(self)]
        if flags := ", ".join(filter(None, (self.flags(*names), *more))):
            raise UsageError(
                f"{flags}: --trace replays a saved program with its kernel and shape; drop one or the other")

    def _attention(self) -> Attention:
        from turbosim.workload import Attention, Phase, attention_of, get_model

        phase = common.phase_of(self.phase)
        if self.batch < 1:
            raise UsageError(f"--batch: must be at least 1, got {self.batch}")
        if self.seq is not None and self.seq_k is not None:
            raise UsageError("--seq, --seq-k: both give the keys per sequence; drop one")
        text, flag = (self.seq, "--seq") if self.seq_k is None else (self.seq_k, "--seq-k")
        if self.model is not None:
            if heads := self.flags("q_heads", "kv_heads", "head_dim"):
                raise UsageError(f"{heads}: --model brings the heads; drop one or the other")
            model = get_model(self.model)
            if text is None:
                raise UsageError("--model needs --seq, for example --seq 8k")
            keys = common.count(text, flag)
            shape = attention_of(model, phase, self.batch, keys)
        else:
            if self.q_heads is None or self.head_dim is None or text is None:
                raise UsageError(
                    "describe the attention with --model and --seq, or with --q-heads, --head-dim and --seq")
            keys = common.count(text, flag)
            prefill = phase is Phase.PREFILL
            shape = Attention(self.batch, self.q_heads, self.q_heads if self.kv_heads is None else self.kv_heads,
                              keys if prefill else 1, keys, self.head_dim, prefill, phase)
        return dataclasses.replace(shape, seq_q=self._queries(phase, shape.seq_q, text),
                                   causal=shape.causal if self.causal is None else self.causal)

    def _queries(self, phase: Phase, default: int, keys: str) -> int:
        if self.seq_q is None:
            return default
        queries = common.count(self.seq_q, "--seq-q")
        if phase.value == "decode" and queries != 1:
            raise UsageError(f"--seq-q: decode has one query per sequence, got {self.seq_q}; several queries at the "
                             f"end of a cache are --phase prefill --seq-q {self.seq_q} --seq {keys}")
        return queries


_FIELDS = {
    "attention": ("model", "phase", "batch", "seq", "seq_q", "seq_k", "q_heads", "kv_heads", "head_dim", "causal"),
    "gemm": ("m", "n", "k"),
    "copy": ("nbytes",),
}
_TAKES = {"attention": "an attention shape", "gemm": "--m, --n and --k", "copy": "--bytes"}


def with_workload(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* an option per field of :class:`WorkloadOptions` in place of its parameter ``workload``."""
    hints = get_type_hints(WorkloadOptions, include_extras=True)
    shared = [f for f in dataclasses.fields(WorkloadOptions) if f.name != "given"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
    for own in inspect.signature(command, eval_str=True).parameters.values():
        if own.name == "workload":
            parameters += [inspect.Parameter(f.name, keyword, default=f.default, annotation=hints[f.name])
                           for f in shared]
        else:
            parameters.append(own.replace(kind=keyword))

    @functools.wraps(command)
    def run(ctx: typer.Context, **values: Any) -> None:
        given = frozenset(f.name for f in shared if was_given(ctx, f.name))
        workload = WorkloadOptions(**{f.name: values.pop(f.name) for f in shared}, given=given)
        command(workload=workload, **values)

    # typer reads the options off the signature.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def was_given(ctx: typer.Context, name: str) -> bool:
    """Whether the command line, not a default, has set the parameter called *name*."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
