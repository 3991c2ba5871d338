"""FlashQ: error bounds, INT8 range, monotony, packing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbosim.errors import UsageError
from turbosim.numerics.flashq import (
    INT8_RANGE,
    PackedChannels,
    compress,
    decompress,
    dequantise_int8,
    quantise_int8,
)
from turbosim.numerics.packing import pack, unpack

codes = st.tuples(st.integers(1, 80), st.integers(1, 9), st.integers(0, 2**31), st.integers(-119, 118),
                  st.integers(1, 238)).map(
    lambda a: torch.randint(a[3], min(a[3] + a[4], 119) + 1, a[:2],
                            generator=torch.Generator().manual_seed(a[2])).to(torch.int8))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.floats(1e-3, 100), st.integers(0, 2**31))
def test_stage_1_is_within_half_a_scale(rows, channels, size, seed):
    x = (torch.randn(rows, channels, generator=torch.Generator().manual_seed(seed)) * size).half()
    block = quantise_int8(x)
    assert int(block.codes.abs().max()) <= INT8_RANGE
    # The scale is rounded to float16, so that the largest value may lie up to 119 * 2^-11 scales outside; subnormal
    # scales are rounded by up to 2^-25, whatever they are.
    bound = block.scale.float() * (0.5 + INT8_RANGE * 2**-11) + INT8_RANGE * 2**-25
    assert bool(((dequantise_int8(block) - x.float()).abs() <= bound).all())


def test_a_block_of_zeros_stays_zero():
    block = quantise_int8(torch.zeros(2, 64, 128).half())
    assert not block.codes.any()
    assert not block.scale.any()
    assert not dequantise_int8(block).isnan().any()


def test_values_beyond_a_given_scale_are_clamped():
    block = quantise_int8(torch.tensor([[1.0, -300.0, 2.4]]), torch.tensor(1.0).half())
    assert block.codes.tolist() == [[1, -119, 2]]


@settings(max_examples=300, deadline=None)
@given(codes, st.sampled_from([2, 4]))
def test_stage_2_is_within_half_a_step_and_inside_int8(x, bits):
    packed = compress(x, bits)
    assert int(packed.codes.max()) < 2**bits
    assert int(packed.scale.min()) >= 1
    wide = packed.codes.int() * packed.scale.int() + packed.zero.int()
    assert -128 <= int(wide.min()) <= int(wide.max()) <= 127
    back = decompress(packed)
    assert torch.equal(back.int(), wide)
    assert bool((2 * (back.int() - x.int()).abs() <= packed.scale.int()).all())


@pytest.mark.parametrize("bits", [2, 4])
def test_no_pair_of_extremes_overflows_int8(bits):
    """Every minimum and maximum a channel can have, with every value between them."""
    for low in range(-INT8_RANGE, INT8_RANGE + 1):
        highs = torch.arange(low, INT8_RANGE + 1)
        values = torch.arange(low, INT8_RANGE + 1)[:, None].minimum(highs).to(torch.int8)
        packed = compress(values, bits)
        wide = packed.codes.int() * packed.scale.int() + packed.zero.int()
        assert -128 <= int(wide.min()) <= int(wide.max()) <= 127


# More bits are not better for every block: the values may lie on the coarser grid. What holds for every block is that the
# bounds are ordered, and that errors are where the finer grid holds the coarser one. Of blocks that are not made for it,
# such as Gaussian ones, the errors themselves are ordered.


def stage_2_error(x, bits):
    """Reconstruction error in stage-1 steps; with 8 bits nothing is lost."""
    return torch.zeros(x.shape) if bits == 8 else decompress(compress(x, bits)).float() - x.float()


@settings(max_examples=200, deadline=None)
@given(codes)
def test_the_bound_of_the_error_norm_falls_with_the_bits(x):
    """No value is off by more than half a step, so no channel of n tokens by more than sqrt(n) / 2 steps in L2."""
    steps = {bits: compress(x, bits).scale.float() for bits in (4, 2)}
    assert bool((steps[4] <= steps[2]).all())
    for bits, step in steps.items():
        assert bool((stage_2_error(x, bits).norm(dim=0) <= step * x.shape[0]**0.5 / 2 + 1e-4).all())


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 15), st.integers(2, 80), st.integers(0, 2**31))
def test_more_bits_are_never_worse_where_the_grids_nest(step, tokens, seed):
    """A range of 15 steps is 3 of five times the step: each value is at least as near to a point of the finer grid."""
    generator = torch.Generator().manual_seed(seed)
    low = int(torch.randint(-119, 120 - 15 * step, (1,), generator=generator))
    x = torch.randint(low, low + 15 * step + 1, (tokens, 8), generator=generator).to(torch.int8)
    x[0], x[-1] = low, low + 15 * step
    assert [compress(x, bits).scale.unique().tolist() for bits in (4, 2)] == [[step], [5 * step]]
    eight, four, two = (stage_2_error(x, bits).abs() for bits in (8, 4, 2))
    assert bool((eight <= four).all())
    assert bool((four <= two).all())


def test_more_bits_can_be_worse_where_the_values_lie_on_the_coarser_grid():
    """Steps are whole: 21 in 3 steps of 7, or in 15 of 2, none of which is at 7."""
    x = torch.tensor([[0], [7], [14], [21]], dtype=torch.int8)
    assert stage_2_error(x, 2).abs().max() == 0
    assert stage_2_error(x, 4).abs().max() == 1


@settings(max_examples=200, deadline=None)
@given(st.integers(16, 96), st.integers(8, 64), st.sampled_from([0.0, 0.1, 0.5]), st.floats(1e-2, 50),
       st.integers(0, 2**31))
def test_more_bits_reconstruct_generated_blocks_better(tokens, channels, spread, size, seed):
    """Relative L2 of Gaussian blocks whose channels differ in size: 8, 4 and 2 bits, both stages.

    The steps of such channels are about 1, 10 and 50 steps of stage 1, so that the norms differ by about five times: far
    more than chance moves a norm over 128 values or more. It is no theorem.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.exp(spread * torch.randn(channels, generator=generator))
    x = (torch.randn(tokens, channels, generator=generator) * sizes * size).half()
    block = quantise_int8(x)
    scale = block.scale.float()
    errors = {8: (dequantise_int8(block) - x.float())}
    for bits in (4, 2):
        packed = compress(block.codes, bits)
        errors[bits] = decompress(packed).float() * scale - x.float()
        # Half a step of stage 2 on top of stage 1's own error.
        bound = scale * (0.5 + INT8_RANGE * 2**-11 + packed.scale.float() / 2) + 1e-6
        assert bool((errors[bits].abs() <= bound).all())
    eight, four, two = (float(errors[bits].norm() / x.float().norm()) for bits in (8, 4, 2))
    assert eight < four < two


def test_ties_do_not_shift_a_channel():
    """Rounding half up would put the mean of an even step half a unit too high."""
    x = torch.arange(-119, 121).clamp(max=119).to(torch.int8)[:, None]
    packed = compress(x, 4)
    assert int(packed.scale[0]) == 16
    error = (decompress(packed).float() - x.float()).mean()
    assert abs(float(error)) < 0.1


def test_a_constant_channel_is_exact():
    x = torch.full((64, 3), -119, dtype=torch.int8)
    assert torch.equal(decompress(compress(x, 2)), x)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_other_bits_are_refused(bits):
    with pytest.raises(UsageError, match=f"^FlashQ caches have 2 or 4 bits, got {bits}$"):
        compress(torch.zeros(1, 1, dtype=torch.int8), bits)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([2, 4]), st.sampled_from([-1, -2, 0]), st.integers(0, 2**31))
def test_packing_is_lossless(rows, quarters, bits, dim, seed):
    shape = [rows, 4 * quarters] if dim == -1 else [4 * quarters, rows]
    x = torch.randint(0, 2**bits, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    data = pack(x, bits, dim)
    assert data.numel() * 8 == x.numel() * bits
    assert torch.equal(unpack(data, bits, dim), x)


def test_channels_that_do_not_fill_bytes_are_refused():
    with pytest.raises(UsageError, match=r"^6 channels cannot be packed 4 to a byte; use a multiple of 4$"):
        pack(torch.zeros(1, 6, dtype=torch.uint8), 2)


def test_an_outlier_costs_only_its_channel():
    """Channel-wise steps: one wild channel leaves the steps of the others as they were."""
    x = torch.randint(-20, 21, (64, 8), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    wild = x.clone()
    wild[::2, 3], wild[1::2, 3] = 119, -119
    a, b = compress(x, 4), compress(wild, 4)
    others = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(decompress(a)[:, others], decompress(b)[:, others])
    assert isinstance(b, PackedChannels)
    assert int(b.scale[3]) == 16
