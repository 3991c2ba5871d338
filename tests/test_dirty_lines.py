"""The share of overwritten lines that is dirty, from torch.softmax after do_bench has overwritten L2."""

from __future__ import annotations

import pytest

from analysis.dirty_lines import GPU, measured, predicted, share_of, with_share
from turbosim.hw import load_gpu


def test_the_a100s_share_is_the_one_that_the_rows_give():
    assert load_gpu(GPU).l2.dirty_share == pytest.approx(share_of(load_gpu(GPU), measured()), abs=0.01)


def test_a_known_share_is_found_again():
    gpu = load_gpu(GPU)
    known = with_share(gpu, 0.4)
    assert share_of(gpu, {columns: predicted(known, columns) for columns in measured()}) == pytest.approx(0.4, abs=0.02)


def test_all_rows_lie_between_no_dirty_lines_and_only_such():
    gpu = load_gpu(GPU)
    for columns, time in measured().items():
        assert predicted(gpu, columns, "cold") < time < predicted(with_share(gpu, 1.0), columns)
