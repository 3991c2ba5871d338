"""What the commands on compiled kernels share: which kernel, which GPU, which settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turbosim.cli import common
from turbosim.errors import TurbosimError, UsageError

if TYPE_CHECKING:
    from turbosim.hw.spec import Gpu
    from turbosim.sass.description import Description
    from turbosim.sass.expressions import Value

KernelName = Annotated[str, typer.Argument(
    metavar="KERNEL", help="FILE.py:FUNCTION, a @triton.jit function, FILE.cubin, or a launch description (YAML) "
                            "of either.")]
LaunchFile = Annotated[Path | None, typer.Option(
    "--launch-file", help="Launch description of FILE.py:FUNCTION or FILE.cubin; FILE.FUNCTION.yaml or FILE.yaml "
                              "beside it unless given.")]
Hw = Annotated[str | None, typer.Option("--hw", help="GPU: a name from `turbosim hw list`, or a YAML file.")]
Target = Annotated[str | None, typer.Option(
    "--target", help="Compiler target, as sm_90; without --hw its usual GPU is taken.")]
Settings = Annotated[list[str] | None, typer.Option(
    "--set", metavar="<name=value>", help="Size, constant or compiler option (num_warps, num_stages, maxnreg) of the "
                                          "description; may be repeated.")]


def value_of(text: str, what: str) -> Value:
    """Return a value of the command line for *what*: 8k is 8192, everything else an expression. Raises UsageError."""
    return common.count(text, what) if re.fullmatch(r"-?\d+[kKmM]", text) else text


def chosen_gpu(hw: str | None, target: str | None) -> Gpu:
    """Return the GPU that the options name, and say which where --target alone does. Raises UsageError."""
    from turbosim.hw import load_gpu
    from turbosim.sass.prepare import capability, gpu_for

    gpu = load_gpu(gpu_for(target, hw))
    capability(gpu, target)
    if hw is None:
        common.console(stderr=True).print(f"note: costs are those of {gpu.name}; --hw takes another GPU of {target}",
                                          soft_wrap=True)
    return gpu


def described(kernel: str, launch_file: Path | None, pairs: list[str] | None,
              sweep: Mapping[str, Sequence[Value]] | None = None) -> tuple[Description, dict[str, Value]]:
    """Return the description and the settings, which have a launch, with the first values of *sweep* that do.

    What the description says of a name that they replace is not looked at. Raises UsageError and ConfigError.
    """
    from turbosim.sass.prepare import find_description

    settings = {name: value_of(value, f"--set {name}") for name, value in common.settings(pairs).items()}
    description = find_description(kernel, launch_file, {*settings, *(sweep or {})})
    every: Sequence[Mapping[str, Value]] = [{}]
    if sweep:
        from turbosim.tuning import configurations

        every = configurations(sweep)
    wrong: list[TurbosimError] = []
    for changes in every:
        try:
            description.bind({**settings, **changes})
            return description, settings
        except TurbosimError as error:
            wrong.append(error)
    raise wrong[0]


def sweep_of(entries: list[str]) -> dict[str, list[Value]]:
    """Parse entries such as ``BLOCK_M=64,128``. Raises UsageError."""
    sweep: dict[str, list[Value]] = {}
    for entry in entries:
        name, sign, text = entry.partition("=")
        values = [v.strip() for v in text.split(",")]
        if not sign or not name.strip() or not all(values):
            raise UsageError(f"--sweep: {entry!r} is not name=value,value,...; write for example BLOCK_M=64,128")
        if name in sweep:
            raise UsageError(f"--sweep: {name} is given twice; put its values into one list")
        sweep[name.strip()] = [value_of(v, f"--sweep {name}") for v in dict.fromkeys(values)]
    return sweep


def announce_replay() -> None:
    """Say on stderr that the first replay compiles the issue-level model."""
    from turbosim.sass.replay import is_compiled

    if not is_compiled():
        common.console(stderr=True).print("compiling the issue-level model, once for this installation ...")
