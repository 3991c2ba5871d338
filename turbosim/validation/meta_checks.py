"""What a meta file of the right form may still have wrong: options, conditions, files and ranges."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw import load_gpu
from turbosim.schedules.base import Schedule
from turbosim.schedules.registry import SCHEDULES, get_schedule
from turbosim.units import parse, show
from turbosim.validation.counters import CLOCKS
from turbosim.workload import Attention, CopyBytes, Gemm, Phase, Workload

Loc = tuple[int | str, ...]
Defect = tuple[Loc, str]
AT_MOST = "at most "
"""Before a frequency that the clock was set to."""
_KINDS: dict[str, tuple[type, str, str]] = {
    "version": (str, "a text, as in the rows", "'2024'"), "phase": (str, "prefill or decode", "prefill"),
    "group": (int, "a whole number, query heads per KV head", "4"), "head_dim": (int, "a whole number", "64"),
    "causal": (bool, "true or false", "true")}
"""Property of a row -> type, what it is, an example."""
_PROBES: tuple[Workload, ...] = (
    Attention(1, 8, 8, 4096, 4096, 128, True, Phase.PREFILL), Attention(1, 8, 8, 1, 65536, 128, False, Phase.DECODE),
    Gemm(8192, 8192, 8192), CopyBytes(2**28))
_PROBE_GPUS = ("h100_sxm", "a100_sxm_80gb", "b200", "h200_int4", "h200_sas")
"""Between them they have every instruction path, type and unit that schedules ask for."""


def check_clock(text: object) -> str:
    """Return *text*, an SM clock as ``clock`` has it. Raises ValueError for no clock of a GPU."""
    if text == "not locked":
        return str(text)
    rule = f"must be 'not locked', a frequency or '{AT_MOST}' and one"
    if not isinstance(text, (str, int, float)) or isinstance(text, bool):
        raise ValueError(f"{rule}, got {text!r}")
    low, high = CLOCKS
    bare = str(text).removeprefix(AT_MOST)
    for unit, size in (("Hz", 1.0), ("MHz", 1e6), ("GHz", 1e9)):
        if re.fullmatch(r"\d+(\.\d*)?(e\d+)?", bare) and low <= float(bare) * size <= high:
            raise ValueError(f"{rule}: {bare} has no unit; write for example {f'{bare} {unit}'!r}")
    try:
        hertz = parse(bare, "Hz")
    except UsageError as error:
        raise ValueError(f"{rule}: {error}") from None
    if not low <= hertz <= high:
        raise ValueError(f"must be an SM clock, {show(low, 'Hz', 3)} to {show(high, 'Hz', 3)}, got {text!r}; correct "
                         f"the number or its unit")
    return str(text)


def defects(kernels: Mapping[str, Any]) -> Iterator[Defect]:
    """Yield path and rule of all that is wrong in *kernels*, a table of a meta file in the right form."""
    for name, model in kernels.items():
        loc: Loc = ("kernels", name)
        if model.get("triton"):
            yield from _of_triton((*loc, "triton"), model["triton"])
        if model.get("schedule") is None:
            continue
        if model["schedule"] not in SCHEDULES:
            rule = f"not among {', '.join(SCHEDULES)}{did_you_mean(model['schedule'], SCHEDULES)}"
            yield (*loc, "schedule"), f"unknown schedule {model['schedule']!r}: {rule}"
            continue
        yield from _of_model(loc, model, get_schedule(model["schedule"]))


def _of_model(loc: Loc, model: Mapping[str, Any], schedule: Schedule[Any]) -> Iterator[Defect]:
    own = model.get("own") or {}
    yield from _of_options((*loc, "options"), model.get("options") or {}, schedule)
    yield from _of_sweep((*loc, "sweep"), model.get("sweep") or {}, schedule)
    for i, tiling in enumerate(model.get("tilings") or ()):
        yield from _of_options((*loc, "tilings", i), tiling, schedule)
    for i, case in enumerate(model.get("cases") or ()):
        yield from _of_when((*loc, "cases", i, "when"), case["when"])
        yield from _of_options((*loc, "cases", i, "options"), case.get("options") or {}, schedule)
        yield from _of_sweep((*loc, "cases", i, "sweep"), case.get("sweep") or {}, schedule)
    for name, values in own.items():
        for value, meaning in values.items():
            if isinstance(meaning, Mapping):
                yield from _of_options((*loc, "own", name, value), meaning, schedule)
    known = [*schedule.options.__dataclass_fields__, *own, *((model.get("triton") or {}).get("own") or {})]
    for name in model.get("only") or {}:
        if name not in known:
            yield (*loc, "only", name), _no_option(schedule, name, known)


def _of_triton(loc: Loc, triton: Mapping[str, Any]) -> Iterator[Defect]:
    kernel = triton["kernel"]
    path = f"{kernel.partition('.py:')[0]}.py" if ".py:" in kernel else kernel
    checkout = Path(__file__).resolve().parents[2]
    # An installed package has no kernels; models that need them say so when they are asked.
    installed = not (checkout / "kernels").is_dir() and path.startswith("kernels/")
    if not installed and not any((folder / path).is_file() for folder in (checkout, Path.cwd())):
        yield (*loc, "kernel"), (f"must be a launch description or FILE.py:FUNCTION, got {kernel!r}; there is no file "
                                 f"{path} in the folder of the checkout")
    if "tilings" in triton and not triton["tilings"]:
        yield (*loc, "tilings"), "is empty; give at least one, or leave it out"
    for i, case in enumerate(triton.get("cases") or ()):
        yield from _of_when((*loc, "cases", i, "when"), case["when"])
        if not case["tilings"]:
            yield (*loc, "cases", i, "tilings"), "is empty; give at least one"


def _of_when(loc: Loc, when: Mapping[str, Any]) -> Iterator[Defect]:
    if not when:
        yield loc, f"is empty; name a property of rows, {', '.join(_KINDS)}, or leave the case out"
    for name, value in when.items():
        kind, what, example = _KINDS[name]
        values = value if isinstance(value, list) else [value]
        if not values:
            yield (*loc, name), "is an empty list; give at least one value"
        for one in values:
            right = isinstance(one, kind) and (kind is bool or not isinstance(one, bool))
            if not right or (name == "phase" and one not in set(Phase)) or (kind is int and one < 1):
                hint = did_you_mean(str(one), [phase.value for phase in Phase]) if name == "phase" else ""
                yield (*loc, name), f"must be {what}, got {one!r}{hint or f'; write for example {example}'}"


def _of_sweep(loc: Loc, sweep: Mapping[str, Sequence[Any]], schedule: Schedule[Any]) -> Iterator[Defect]:
    for name, values in sweep.items():
        if not values:
            yield (*loc, name), "is an empty list; give at least one value"
        for value in values or (None,):
            yield from _of_options(loc, {name: value}, schedule)


def _of_options(loc: Loc, options: Mapping[str, Any], schedule: Schedule[Any]) -> Iterator[Defect]:
    for name, value in options.items():
        if name not in schedule.options.__dataclass_fields__:
            yield (*loc, name), _no_option(schedule, name, list(schedule.options.__dataclass_fields__))
        elif value is not None and (rule := _rule_against(schedule.name, name, value)):
            yield (*loc, name), rule


def _no_option(schedule: Schedule[Any], name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known) or f": it has {', '.join(known)}"
    return f"kernel {schedule.name!r} has no option {name!r}{hint}"


@lru_cache(maxsize=1024, typed=True)
def _rule_against(kernel: str, name: str, value: str | int | bool) -> str:
    """Return the rule that no kernel, whatever its other options, GPU and workload, can have *value*; else empty."""
    schedule = get_schedule(kernel)
    try:
        schedule.parse_options({name: value})
    except UsageError as error:
        return str(error)
    # Of rules between an option and others, GPUs or workloads, these words say nothing.
    fixed = re.compile(rf"option {name}( on \S+ in \S+)? must be (a positive multiple of|at least|one of|'|\d)")
    rule = ""
    for gpu in _PROBE_GPUS:
        for work in _PROBES:
            if not isinstance(work, schedule.workloads):
                continue
            try:
                schedule.program(load_gpu(gpu), work, {name: value})
            except UsageError as error:
                rule = rule or (str(error) if fixed.search(str(error)) else "")
            else:
                return ""
    return rule
