"""``turbosim list``."""

from __future__ import annotations

import dataclasses

from turbosim.cli import common

EXAMPLE = common.examples("turbosim list", "turbosim list --json")


def listing(as_json: common.Json = False) -> None:
    """List kernels with their options, model presets and GPUs."""
    from rich.table import Table

    from turbosim.hw import list_gpus
    from turbosim.schedules.registry import SCHEDULES
    from turbosim.workload import MODELS

    options = {name: {f.name: f.default for f in dataclasses.fields(s.options)} for name, s in SCHEDULES.items()}
    if as_json:
        common.emit_json({"kernels": options, "models": {n: dataclasses.asdict(m) for n, m in MODELS.items()},
                          "gpus": list_gpus()})
        return
    out = common.console()
    kernels = Table(title="kernels", title_justify="left", box=None, padding=(0, 2))
    for column in ("name", "what", "options (defaults)"):
        kernels.add_column(column)
    for name, schedule in SCHEDULES.items():
        shown = ", ".join(f"{k}={'auto' if v is None else v}" for k, v in options[name].items())
        kernels.add_row(name, schedule.title, shown)
    out.print(kernels)
    models = Table(title="\nmodels", title_justify="left", box=None, padding=(0, 2))
    for column in ("name", "layers", "query heads", "KV heads", "head dim"):
        models.add_column(column)
    for model in MODELS.values():
        models.add_row(model.name, *(str(x) for x in (model.layers, model.q_heads, model.kv_heads, model.head_dim)))
    out.print(models)
    out.print("\nGPUs\n  " + ", ".join(list_gpus()))
