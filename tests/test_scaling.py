"""Twice the HBM bandwidth, SFUs or SMs under the same program: never slower, as far as first come first served allows.

Requests are served whole and in the order of their arrival, so a shorter step of one CTA can put its next request ahead
of another's and end in a worse interleaving, as list scheduling does. Grids that put one CTA on an SM have no such
competition inside the SM and must never be slower; small shapes must not either. Grids of several waves may lose what
is written here. Between them, single waves of several CTAs per SM can lose a little too, and are not tested.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.shapes import case_id, cases_of
from turbosim.engine.api import run
from turbosim.hw import list_gpus, load_gpu, with_overrides
from turbosim.hw.spec import Gpu
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Attention, Gemm, Phase, Workload

LARGEST_SLOWDOWN = {"flash": 0.045, "turbo": 0.06, "gemm": 0.05}
"""Of grids of three waves and more: the largest measured over MANY_WAVES on every GPU, rounded up to half a per cent.

Not zero: servers that take requests in the order of arrival can reorder work when one of its steps gets shorter.
"""
LEAST_WAVES = 3

GPUS = {name: load_gpu(name) for name in list_gpus()}
TWICE = {
    "hbm": lambda g: {"hbm.bandwidth": 2 * g.hbm.bandwidth},
    "sfu": lambda g: {"pipes.sfu.rate": 2 * g.pipes["sfu"].rate},
    "sm": lambda g: {"sm.count": 2 * g.sm.count},
}


def prefill(batch, heads, kv_heads, seq, d, causal):
    return Attention(batch, heads, kv_heads, seq, seq, d, causal, Phase.PREFILL)


def decode(batch, heads, kv_heads, seq, d):
    return Attention(batch, heads, kv_heads, 1, seq, d, causal=False, phase=Phase.DECODE)


MANY_WAVES: list[tuple[str, dict[str, Any], Workload]] = [
    ("flash", {}, prefill(26, 48, 12, 256, 128, causal=False)),
    ("flash", {}, prefill(14, 48, 12, 512, 64, causal=False)),
    ("flash", {}, prefill(26, 48, 12, 256, 128, causal=True)),
    ("flash", {}, decode(266, 40, 10, 1000, 128)),
    ("flash", {}, decode(333, 32, 8, 200, 64)),
    ("turbo", {}, prefill(14, 48, 12, 512, 64, causal=False)),
    ("turbo", {}, prefill(26, 48, 12, 256, 128, causal=True)),
    ("turbo", {}, decode(266, 40, 10, 512, 128)),
    ("turbo", {}, decode(333, 32, 8, 200, 64)),
    ("gemm", {}, Gemm(4096, 4096, 128)),
    ("gemm", {"dtype": "int8"}, Gemm(3000, 5000, 256)),
]


def slowdowns(gpu: Gpu, kernel: str, options: dict[str, Any], workload: Workload) -> tuple[Any, dict[str, float]]:
    """Return the result on *gpu*, and by how much of its time each doubled unit makes the same program slower."""
    program = get_schedule(kernel).program(gpu, workload, options)
    base = run(gpu, program)
    return base, {what: run(with_overrides(gpu, change(gpu)), program).time_s / base.time_s - 1
                  for what, change in TWICE.items()}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in sorted(GPUS) for case in cases_of(GPUS[name])],
                         ids=lambda x: x if isinstance(x, str) else case_id(x))
def test_small_shapes_are_never_slower(name, case):
    _, slower = slowdowns(GPUS[name], *case)
    assert max(slower.values()) <= 0, slower


@pytest.mark.parametrize("case", MANY_WAVES, ids=lambda c: f"{c[0]}-{'-'.join(map(str, dataclasses.astuple(c[2])))}")
@pytest.mark.parametrize("name", sorted(GPUS))
def test_grids_of_many_waves_lose_no_more_than_reordering_costs(name, case):
    base, slower = slowdowns(GPUS[name], *case)
    first = base.launches[0]
    assert first.ctas >= LEAST_WAVES * GPUS[name].sm.count * first.ctas_per_sm
    assert max(slower.values()) <= LARGEST_SLOWDOWN[case[0]], slower


def one_cta_per_sm(gpu: Gpu) -> list[tuple[str, dict[str, Any], Workload]]:
    """Grids of as many CTAs as the GPU has SMs, or nearly, of each kernel."""
    shapes: list[tuple[str, dict[str, Any], Workload]] = [
        (kernel, {}, prefill(gpu.sm.count // (-(-seq // 64)), 1, 1, seq, d, causal))
        for kernel in ("flash", "turbo") for seq, d, causal in ((256, 64, True), (700, 64, False), (700, 128, True))]
    shapes += [(kernel, {"splits": 1}, decode(gpu.sm.count, 4, 1, seq, d))
               for kernel in ("flash", "turbo") for seq, d in ((700, 128), (256, 64))]
    return [*shapes, ("gemm", {"block_n": 128}, Gemm(128 * gpu.sm.count, 128, 700))]


@pytest.mark.parametrize("name", sorted(GPUS))
def test_one_cta_per_sm_is_never_slower(name):
    for case in one_cta_per_sm(GPUS[name]):
        base, slower = slowdowns(GPUS[name], *case)
        assert base.launches[0].ctas <= GPUS[name].sm.count
        assert base.launches[0].ctas_per_sm == 1
        assert max(slower.values()) <= 0, (case, slower)
