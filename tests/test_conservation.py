"""Programs of every schedule on every GPU against closed forms that know nothing of programs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.closed_forms import COUNTED, closed_form
from tests.shapes import CASES, cases_of
from turbosim.hw import list_gpus, load_gpu
from turbosim.hw.spec import Dtype, MmaPath, OpClass
from turbosim.program.validate import validate
from turbosim.program.work import program_work
from turbosim.schedules.registry import SCHEDULES, get_schedule
from turbosim.workload import Attention, Gemm, Phase, Workload

GPUS = {name: load_gpu(name) for name in list_gpus()}

CAUSAL = Attention(2, 6, 2, 200, 330, 64, causal=True, phase=Phase.PREFILL)
FULL = Attention(1, 8, 4, 150, 300, 128, causal=False, phase=Phase.PREFILL)
WIDE = Attention(1, 4, 2, 300, 300, 96, causal=True, phase=Phase.PREFILL)
DECODE = Attention(2, 12, 4, 1, 1000, 64, causal=False, phase=Phase.DECODE)
MANY = Attention(3, 20, 1, 1, 700, 128, causal=False, phase=Phase.DECODE)
WHOLE = Attention(1, 8, 2, 1, 640, 96, causal=False, phase=Phase.DECODE)

PREFILL_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("flash", {}), ("flash", {"block_m": 128, "block_n": 32, "warps": 8, "stages": 3}),
    ("flash", {"block_m": 64, "block_n": 64, "warps": 4, "order": "heavy_first"}), ("flash", {"path": "auto"}),
    ("turbo", {}), ("turbo", {"bits": "4"}), ("turbo", {"bits": "2"}), ("turbo", {"two_bit_heads": 0}),
    ("turbo", {"sas": False}), ("turbo", {"sas": False, "convert": "i2f"}), ("turbo", {"flashq": False}),
    ("turbo", {"flashq": False, "sas": False}), ("turbo", {"flashq": False, "sas_variant": "naive"}),
    ("turbo", {"sas_variant": "naive", "convert": "i2f"}), ("turbo", {"sas_variant": "table", "p_scale": "fixed"}),
    ("turbo", {"sas_variant": "unit"}), ("turbo", {"p_scale": "row"}), ("turbo", {"quantise_inputs": True, "bits": "4"}),
    ("turbo", {"block_m": 128, "block_n": 128, "stages": 1}),
    ("kivi", {}), ("kivi", {"bits": "2"}), ("gear", {}), ("gear", {"bits": "2", "rank": 3}),
    ("flash3", {}), ("flash3", {"overlap": False}), ("flash3", {"pingpong": False, "scheduler": "single"}),
    ("flash3", {"dtype": "fp8"}), ("flash3", {"block_m": 64, "block_n": 96, "stages": 3, "order": "heavy_first"}),
    ("flash3", {"p_smem": True, "block_n": 64, "dtype": "bf16", "scheduler": "static"}),
    ("sage", {}), ("sage", {"accumulate": "fp16+fp32", "warps": 8}), ("sage", {"accumulate": "fp32", "stages": 2}),
]
DECODE_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("flash", {}), ("flash", {"splits": 1}), ("flash", {"splits": 3, "block_n": 64}),
    ("flash", {"block_m": 128, "block_n": 64, "stages": 2, "splits": 4}),
    ("turbo", {}), ("turbo", {"bits": "4"}), ("turbo", {"bits": "2"}), ("turbo", {"two_bit_heads": 1, "splits": 3}),
    ("turbo", {"bits": "4", "splits": 1, "block_n": 128}), ("turbo", {"sas": False, "splits": 2}),
    ("turbo", {"sas": False, "convert": "i2f"}), ("turbo", {"sas_variant": "naive", "convert": "i2f"}),
    ("turbo", {"sas_variant": "unit"}), ("turbo", {"product": "int4"}), ("turbo", {"product": "int4", "bits": "2"}),
    ("kivi", {}), ("kivi", {"bits": "2"}), ("kivi", {"fused": True}),
    ("kivi", {"fused": True, "bits": "2", "splits": 3, "block_n": 128}),
    ("gear", {}), ("gear", {"bits": "2", "rank": 3}),
]
OTHERS: list[tuple[str, dict[str, Any], Workload]] = [
    ("gemm", {}, Gemm(700, 900, 200)), ("gemm", {"dtype": "int8", "warps": 4, "block_m": 64}, Gemm(700, 900, 200)),
    ("gemm", {"dtype": "bf16", "stages": 2, "block_n": 64, "block_k": 32}, Gemm(130, 70, 50)),
    ("gemm", {"dtype": "fp8"}, Gemm(700, 900, 200)), ("gemm", {"dtype": "int4"}, Gemm(700, 900, 500)),
    *(case for case in CASES if case[0] in ("gemm", "copy")),
]
PROGRAMS: list[tuple[str, dict[str, Any], Workload]] = [
    *((kernel, options, shape) for kernel, options in PREFILL_OPTIONS for shape in (CAUSAL, FULL, WIDE)),
    *((kernel, options, shape) for kernel, options in DECODE_OPTIONS for shape in (DECODE, MANY, WHOLE)),
    *OTHERS,
]


def check(gpu, kernel, options, workload):
    program = get_schedule(kernel).program(gpu, workload, options)
    validate(program)
    expected, work = closed_form(kernel, gpu.arch, workload, options, program.meta), program_work(program)
    assert program.useful_flops == expected.flops
    # The published decode of KIVI and GEAR has no tensor-core products.
    assert not work.macs or expected.flops <= work.tensor_flops
    assert work.macs == expected.macs
    assert work.loaded == expected.loaded
    assert work.stored == expected.stored
    assert (work.read_bytes, work.write_bytes) == (sum(expected.loaded.values()), sum(expected.stored.values()))
    assert {c: work.lanes.get(c, 0) for c in COUNTED} == {c: expected.lanes[c] for c in COUNTED}


@pytest.mark.parametrize("kernel", sorted(SCHEDULES))
@pytest.mark.parametrize("name", sorted(GPUS))
def test_programs_do_what_the_closed_forms_say(name, kernel):
    for _, options, workload in (case for case in PROGRAMS if case[0] == kernel and can_run(GPUS[name], *case[:2])):
        check(GPUS[name], kernel, options, workload)


def can_run(gpu, kernel, options):
    """Whether the tensor cores have the type and the SM the unit that *kernel* and *options* ask for."""
    if kernel in ("flash3", "sage"):
        return kernel in {name for name, _, _ in cases_of(gpu)}
    if options.get("sas_variant") == "unit":
        return OpClass.SAS in gpu.pipes
    if options.get("product") == "int4":
        return Dtype.INT4 in gpu.tensor[MmaPath.MMA_SYNC].rates
    return "dtype" not in options or any(Dtype(options["dtype"]) in path.rates for path in gpu.tensor.values())


def test_every_case_runs_somewhere():
    for kernel, options, workload in PROGRAMS:
        able = [name for name, gpu in GPUS.items() if can_run(gpu, kernel, options)]
        assert able, (kernel, options, workload)
        special = {("sas_variant", "unit"), ("product", "int4"), ("dtype", "fp8"), ("dtype", "int4")}
        assert len(able) == len(GPUS) or kernel in ("flash3", "sage") or special & set(options.items())
