"""Folders of studies whose rows are made up, so that pictures of them change with nothing but the pictures' code."""

from __future__ import annotations

import math

from turbosim.study.document import read_study
from turbosim.study.evaluate import Done, failed
from turbosim.study.journal import Journal
from turbosim.study.saved import save_study
from turbosim.study.session import row_of

SMALL = """\
title: SFUs and memory of a made-up GPU
hw: [h200_sxm, a100_sxm_80gb]
kernel: [flash, turbo, flash3]
workload: {model: llama3-8b, phase: prefill, batch: [1, 16], seq: 2k}
axes:
  hbm.bandwidth: [1, 2, 4, 8 TB/s]
metrics:
  speedup: baseline.time_s / time_s
baseline: {kernel: flash}
"""
MANY = """\
title: many points
hw: h200_sxm
kernel: [flash, turbo, "turbo:bits=2", "flash:path=auto"]
workload: {model: llama3-8b, phase: prefill, batch: [1, 4, 16, 64], seq: 2k}
axes:
  hbm.bandwidth: {from: 1 TB/s, to: 8 TB/s, steps: 25}
  pipes.sfu.rate: {from: 4, to: 103, steps: 25}
metrics:
  speedup: baseline.time_s / time_s
baseline: {kernel: flash}
"""
_UNITS = ("tensor", "sfu", "fma", "int", "cvt", "smem", "issue", "copy", "l2", "hbm")
_REASONS = ("run_tensor", "run_sfu", "run_smem", "run_int", "wait_tensor", "wait_smem", "latency", "data_l2", "data_dram",
            "barrier", "no_cta", "kernel_launch")


def outcome_of(task, place, noise=0.0):
    """Return an outcome that a point could have."""
    axes = task.axes
    speed = {"flash": 1.0, "turbo": 1.6, "flash3": 2.2}.get(task.kernel, 1.3) * (1.0 if task.hw == "h200_sxm" else 0.5)
    batch = float(axes["batch"])
    memory = 4e-5 * batch / (axes["hbm.bandwidth"] / 1e12)
    time = math.hypot(memory, 3e-5 * batch / speed) * (1 + noise)
    shares = [1 / (2 + (n * 7 + place * 3) % 11) for n in range(len(_REASONS))]
    return {"status": "ok", "reason": "", "time_s": time, "clock_hz": 1.63e9, "cycles": int(time * 1.63e9),
            "flops": 6e9 * batch, "tflops": 6e9 * batch / time / 1e12, "hbm_bytes": 4e7 * batch,
            "hbm_gbps": 4e7 * batch / time / 1e9, "l2_bytes": 9e7 * batch, "l2_hit_rate": 0.7, "compulsory_bytes": 4e7,
            "roofline_s": time / 2, "intensity": 150.0 + 20 * (task.kernel == "turbo"),
            "bound": "hbm" if memory > time * 0.7 else "tensor" if batch == 1 else "latency", "ctas_per_sm": 2,
            "occupancy_limit": "registers", "waves": 3.5, "energy_j": time * 500, "power_w": 300 + 150 * speed + 5 * batch,
            "program": "block_m=128", "energy.static": time * 100, "energy.hbm": time * 400,
            **{f"util.{u}": round(((n * 5 + place * 2) % 19) / 20, 4) for n, u in enumerate(_UNITS)},
            **{f"stall.{r}": round(s / sum(shares), 6) for r, s in zip(_REASONS, shares, strict=True)}}


def written(folder, text=SMALL, noise=0.0):
    """Write a study and a row for each of its points to *folder*; flash3 fails on the A100."""
    source = folder.parent / f"{folder.name}.yaml"
    source.write_text(text)
    study = read_study(source)
    with Journal(folder) as journal:
        save_study(study, folder)
        for place, task in enumerate(study.tasks()):
            refused = task.kernel == "flash3" and task.hw.startswith("a100")
            outcome = failed("needs wgmma") if refused else outcome_of(task, place, noise)
            journal.append(row_of(study, task, Done(outcome, 0.01)))
    return folder
