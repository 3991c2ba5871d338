"""GenZ as a baseline: installed or told to be, two operators of attention, 16 bits only."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from turbosim.errors import UsageError
from turbosim.hw import load_gpu
from turbosim.validation.genz import genz_seconds
from turbosim.validation.predict import predict
from turbosim.validation.roofline import peak_flops
from turbosim.validation.sets import load_set


def first(dataset, kernel):
    data = load_set(dataset)
    return replace(data, rows=(next(r for r in data.rows if r.kernel == kernel),))


def test_without_genz_its_model_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "GenZ", None)
    with pytest.raises(UsageError, match=r"^--model genz: needs GenZ, which cannot be imported \(.+\); pip install genz-llm$"):
        predict([first("flashattention3_figure_h100", "Triton")], ["roofline", "genz"])


def test_it_is_two_operators_of_the_larger_of_compute_and_memory():
    pytest.importorskip("GenZ")
    gpu, data = load_gpu("h100_sxm"), first("flashattention3_figure_h100", "Triton")
    row = data.rows[0]
    work = row.workload
    # Without a mask. Each product takes its FLOPs at the peak, or Q and K (V and O) at the bandwidth of device memory and
    # the scores at GenZ's 18,000 GB/s of the chip, of 1024^3 bytes.
    rows = work.batch * work.q_heads * work.seq_q
    compute = 2 * rows * work.seq_k * work.head_dim / peak_flops(gpu, "fp16", gpu.clock.hertz("tensor_spec"))
    operands = 2 * work.head_dim * (rows + work.batch * work.kv_heads * work.seq_k)
    memory = operands / gpu.hbm.bandwidth + 2 * rows * work.seq_k / (18000 * 2**30)
    assert genz_seconds(gpu, row) == pytest.approx(2 * max(compute, memory))
    found = predict([data], ["roofline", "genz"]).outcomes[0]
    assert found.times["genz"] == genz_seconds(gpu, row)


def test_other_types_are_left_out_with_a_reason():
    pytest.importorskip("GenZ")
    found = predict([first("sageattention_figure", "SageAttention")], ["roofline", "genz"]).outcomes[0]
    assert "genz" not in found.times
    assert found.reasons["genz"] == "it is asked for attention in 16 bits only"
