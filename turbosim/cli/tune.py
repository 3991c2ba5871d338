"""``turbosim tune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turbosim.cli import common, kernel
from turbosim.errors import TurbosimError, UsageError

if TYPE_CHECKING:
    from turbosim.tuning import Trial

EXAMPLE = common.examples(
    "turbosim tune kernels/flash.py:fwd --hw a100_sxm_80gb --sweep BLOCK_M=64,128 BLOCK_N=32,64 num_warps=4,8 "
    "num_stages=2,3 --png flash.png",
    "turbosim tune kernels/examples/matmul.py:matmul --hw h100_sxm --set m=8k --sweep BLOCK_M=64,128 --json",
    after="Configurations that do not compile or do not fit are rows with the reason. Ctrl-C keeps the rows that are "
          "finished.")


def tune(
    name: kernel.KernelName,
    more: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUES", help="Further lists, as of --sweep.")
                    ] = None,
    sweep: Annotated[list[str] | None, typer.Option(
        metavar="<name=v,v...>", help="Values to try of a constant, compiler option or size; all combinations are.")
                     ] = None,
    hw: kernel.Hw = None,
    target: kernel.Target = None,
    settings: kernel.Settings = None,
    launch_file: kernel.LaunchFile = None,
    jobs: Annotated[int | None, typer.Option(
        help="Processes that share the configurations; one per core unless given.", show_default=False)] = None,
    png: Annotated[Path | None, typer.Option(help="Also draw the ranking (.png or .svg).")] = None,
    clock: common.Clock = "sustained",
    as_json: common.Json = False,
) -> None:
    """Rank configurations of a Triton kernel for a GPU without running any: time, resources, what bounds each."""
    from turbosim.processes import cores
    from turbosim.tuning import configurations, fixed_values, tune

    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: must be at least 1, got {jobs}")
    if png is not None:
        common.check_output("--png", png, ".png", ".svg")
    lists = kernel.sweep_of([*(sweep or []), *(more or [])])
    if not lists:
        raise UsageError("--sweep: name what to try, for example --sweep BLOCK_M=64,128 num_warps=4,8")
    gpu = kernel.chosen_gpu(hw, target)
    description, values = kernel.described(name, launch_file, settings, lists)
    if both := [n for n in lists if n in values]:
        raise UsageError(f"--set {both[0]}: --sweep tries values of {both[0]}; drop one of the two")
    common.announce_compilation("numba")
    kernel.announce_replay()
    trials: list[Trial] = []
    title = f"{name} on {gpu.name}"
    try:
        with common.progress(f"tuning {title}") as report:
            tune(description, gpu, lists, values, clock=clock,  # type: ignore[arg-type]
                 jobs=jobs or cores(), progress=report, into=trials)
    except KeyboardInterrupt:
        raise common.InterruptError(f"{len(trials)} of {len(configurations(lists))} configurations") from None
    finally:
        if trials:
            common.tell_assumed(*(t.result.options for t in trials if t.result is not None))
            _write(trials, title, fixed_values(description, lists, values), clock, png, as_json)
    if all(t.result is None for t in trials):
        raise _NoTimeError(trials)


class _NoTimeError(TurbosimError):
    """No configuration has a time; the exit code is that of their errors, 1 where they differ."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        super().__init__(f"none of the {len(trials)} configurations has a time; the first: {trials[0].reason}")
        codes = {t.exit_code for t in trials}
        self.exit_code = codes.pop() if len(codes) == 1 else TurbosimError.exit_code


def _write(trials: list[Trial], title: str, fixed: Mapping[str, object], clock: str, png: Path | None, as_json: bool
           ) -> None:
    from turbosim.tuning import ranked
    from turbosim.views.tune import heading, to_rows, to_table

    order = ranked(trials)
    about = heading(order, fixed, clock)
    if as_json:
        common.emit_json(to_rows(order, fixed))
    else:
        out = common.console()
        out.print(to_table(order, out, [title, *about]))
    if png is not None:
        from turbosim.views.tune_figure import figure

        common.write_figure(figure(order, title, about), png)
