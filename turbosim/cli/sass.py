"""``turbosim sass``."""

from __future__ import annotations

import sys
from typing import Any

from turbosim.cli import common, kernel

EXAMPLE = common.examples(
    "turbosim sass kernels/flash.py:fwd --hw a100_sxm_80gb --set HEAD_DIM=128",
    "turbosim sass kernels/examples/matmul.py:matmul --target sm_90 --set num_warps=4 --json",
    after="Columns: cycle is when a warp issues the instruction, counted from the begin of its turn, wait how long it "
          "waited for that, both averages over the warps of a full SM with all data at hand; takes is how long the "
          "instruction occupies its pipe.")


def sass(
    name: kernel.KernelName,
    hw: kernel.Hw = None,
    target: kernel.Target = None,
    settings: kernel.Settings = None,
    launch_file: kernel.LaunchFile = None,
    clock: common.Clock = "sustained",
    as_json: common.Json = False,
) -> None:
    """Print the hot loop of a compiled kernel: issue cycle, pipe and stall reasons per instruction, what bounds it."""
    from turbosim.sass.hotloop import hot_loop, tensor_share
    from turbosim.sass.prepare import lifted, prepare
    from turbosim.views.sass import listing, to_json, to_table

    gpu = kernel.chosen_gpu(hw, target)
    description, values = kernel.described(name, launch_file, settings)
    prepared = prepare(description, gpu, values)
    kernel.announce_replay()
    found = lifted(prepared, gpu, clock)  # type: ignore[arg-type]
    prices = found.prices
    common.tell_assumed(found.program.meta)
    loop = hot_loop(prices, prepared.launch.warps)
    share = tensor_share(loop)
    code, launch = prepared.kernel, prepared.launch
    about: dict[str, Any] = {
        "kernel": prepared.bound.kernel, "hw": gpu.name, "target": gpu.arch, "settings": dict(prepared.bound.values),
        "grid": list(launch.grid), "registers": code.registers, "spill_bytes": code.stack_bytes,
        "smem_bytes": code.smem_bytes + launch.smem_bytes, "ctas_per_sm": prices.resident,
        "warps_per_cta": launch.warps}
    if as_json:
        common.emit_json(about | to_json(loop, share))
        return
    sys.stdout.write("\n".join(listing(loop)) + "\n\n")
    facts = [("kernel", f"{about['kernel']}, {gpu.arch} on {gpu.name}"),
             ("settings", ", ".join(f"{n}={v}" for n, v in about["settings"].items())),
             ("resources", (f"{code.registers} registers, {code.stack_bytes} B spilled, "
                            f"{about['smem_bytes'] / 1024:.1f} KiB shared memory")),
             ("occupancy", f"{prices.resident} CTAs of {launch.warps} warps per SM")]
    common.console().print(to_table(loop, facts, share))
