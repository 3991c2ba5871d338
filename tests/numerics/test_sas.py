"""SAS: error bounds, threshold, and a rescale factor that does not drift."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbosim.numerics.sas import THRESHOLD, exponential, rescale_factor

GRID = torch.cat([torch.linspace(THRESHOLD, 0, 300_001), -torch.arange(7.0)])


@pytest.mark.parametrize(("form", "dtype", "bound"), [
    ("table", torch.float32, 4.1e-4), ("table", torch.float16, 1.1e-3),
    ("exponent", torch.float32, 1.1e-4), ("exponent", torch.float16, 1.1e-3),
])
def test_largest_error_above_the_threshold(form, dtype, bound):
    got = exponential(GRID, form, dtype=dtype)
    assert got.dtype == dtype
    assert float((got.double() - GRID.double().exp()).abs().max()) <= bound


@pytest.mark.parametrize("form", ["table", "exponent"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_below_the_threshold_nothing_is_left(form, dtype):
    x = torch.tensor([-6.001, -7.0, -100.0, -70000.0, -math.inf])
    assert exponential(x, form, dtype=dtype).tolist() == [0.0] * 5
    assert float(exponential(torch.tensor([-6.0]), form, dtype=dtype)[0]) > 0.002


@settings(max_examples=200, deadline=None)
@given(st.floats(-20, 0, width=32), st.floats(-8, -1, width=32), st.sampled_from(["table", "exponent"]))
def test_any_threshold(x, threshold, form):
    got = float(exponential(torch.tensor([x]), form, threshold)[0])
    assert (got == 0) == (x < threshold)
    assert abs(got - (math.exp(x) if x >= threshold else 0)) <= 4.1e-4


def test_the_exponent_form_keeps_the_maximum_whole():
    assert float(exponential(torch.zeros(1), "exponent", dtype=torch.float16)) == 1.0
    assert float(exponential(torch.zeros(1), "table")) == pytest.approx(0.9996)


@pytest.mark.parametrize("form", ["exact", "table", "exponent"])
def test_an_unchanged_maximum_rescales_by_exactly_one(form):
    m = torch.tensor([0.0, 3.5, -math.inf, -math.inf, 1.0])
    new = torch.tensor([0.0, 3.5, -math.inf, 2.0, 9.0])
    factor = rescale_factor(m, new, form)
    assert factor[:4].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert float(factor[4]) == pytest.approx(math.exp(-8) if form == "exact" else 0.0)
