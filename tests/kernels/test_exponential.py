"""Every form of the exponential as the kernels have it, in the interpreter, against the exact one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from kernels.exponential import VARIANTS, exponential, unit

BLOCK = 4096


@triton.jit
def weights(x, out, variant: tl.constexpr, count: tl.constexpr):
    at = tl.program_id(0) * count + tl.arange(0, count)
    tl.store(out + at, exponential(tl.load(x + at), variant, False).to(tl.float32))


def of(natural, sas):
    """Return the weights of float64 scores."""
    scores = torch.from_numpy((natural * unit(sas)).astype(np.float32))
    out = torch.full_like(scores, float("nan"))
    weights[scores.numel() // BLOCK,](scores, out, VARIANTS[sas], BLOCK)
    return out.double().numpy()


@pytest.mark.parametrize(("sas", "bound"), [("exp2", 1e-6), ("naive", 1.1e-3), ("table", 1.1e-3), ("exponent", 1.1e-3)])
def test_largest_error_above_the_threshold(sas, bound):
    # Halves and FP32 scores between them; whole numbers are where the table changes. At the threshold itself the half
    # nearest to 6 log2(e) decides.
    natural = np.concatenate([np.linspace(-5.998, 0, 15 * BLOCK), -np.linspace(0, 5.998, BLOCK).astype(np.float16)])
    natural[:6] = -np.arange(6)
    assert np.abs(of(natural, sas) - np.exp(natural)).max() <= bound


@pytest.mark.parametrize("sas", ["naive", "table", "exponent"])
def test_nothing_is_left_below_the_threshold(sas):
    # Beyond the largest half numpy warns where hardware has -inf.
    natural = -np.concatenate([np.linspace(6.004, 100, BLOCK // 2), np.geomspace(100, 4e4, BLOCK // 2 - 1), [np.inf]])
    assert not of(natural, sas).any()
    above = of(np.linspace(-5.99, -5.5, BLOCK), sas)
    assert above.min() > 0.002


@pytest.mark.parametrize("sas", VARIANTS)
def test_a_score_that_rounding_leaves_above_0_weighs_about_1(sas):
    got = of(np.linspace(0, 0.01, BLOCK), sas)
    assert np.abs(got - 1).max() < 0.0115
