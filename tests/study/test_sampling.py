"""Which points a sampling takes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.study.axis import Axis, Kind, Range
from turbosim.study.sampling import Sampling, sample

# SciPy takes longer to load than an example may.
list(sample([Axis("a", Kind.WORKLOAD, (1,))], Sampling("random", 1)))
NAMES = ("a", "b", "c", "d")


@st.composite
def listed(draw, least=1):
    """Axes with lists of values."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    return [Axis(n, Kind.WORKLOAD, tuple(draw(st.lists(st.integers(), unique=True, min_size=least, max_size=5))))
            for n in names]


@st.composite
def ranges(draw):
    """Axes with bounds."""
    found = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1)):
        log, whole = draw(st.booleans()), draw(st.booleans())
        low = draw(st.integers(1, 1000)) if whole else draw(st.floats(1e-3, 1e3))
        high = low + draw(st.integers(1, 1000)) if whole else low * draw(st.floats(1.01, 1e3))
        found.append(Axis(name, Kind.HARDWARE, (), "", Range(low, high, log, whole)))
    return found


@given(listed())
def test_a_grid_has_every_combination_once(axes):
    points = list(sample(axes, Sampling()))
    assert len(points) == math.prod(len(a.values) for a in axes) == len({tuple(p.items()) for p in points})
    for axis in axes:
        assert {p[axis.name] for p in points} == set(axis.values)


@given(st.integers(1, 5), st.data())
def test_zip_takes_values_together(count, data):
    axes = [Axis(n, Kind.WORKLOAD, tuple(data.draw(st.lists(st.integers(), unique=True, min_size=count, max_size=count))))
            for n in NAMES]
    points = list(sample(axes, Sampling("zip")))
    assert [tuple(p.values()) for p in points] == list(zip(*(a.values for a in axes), strict=True))


@given(ranges(), st.sampled_from(["random", "latin-hypercube"]), st.integers(1, 40), st.integers(0, 9))
def test_samples_lie_in_their_bounds_and_follow_from_the_seed(axes, method, count, seed):
    points = list(sample(axes, Sampling(method, count, seed)))
    assert points == list(sample(axes, Sampling(method, count, seed)))
    assert 1 <= len(points) <= count
    for point in points:
        assert list(point) == [a.name for a in axes]
        for axis in axes:
            assert axis.range.low <= point[axis.name] <= axis.range.high
            assert isinstance(point[axis.name], int if axis.range.whole else float)


@given(st.integers(2, 40), st.integers(0, 9), st.booleans())
def test_a_latin_hypercube_has_one_sample_in_every_part_of_an_axis(count, seed, log):
    bounds = Range(2.0, 50.0, log, whole=False)
    axes = [Axis(n, Kind.HARDWARE, (), "", bounds) for n in NAMES]
    points = list(sample(axes, Sampling("latin-hypercube", count, seed)))
    for name in NAMES:
        shares = [math.log(p[name] / 2) / math.log(25) if log else (p[name] - 2) / 48 for p in points]
        assert sorted(math.floor(s * count + 1e-9) for s in shares) == list(range(count))


@given(ranges(), listed(least=2), st.integers(1, 10))
def test_crossed_axes_have_all_values_at_every_sample(drawn, crossed, count):
    drawn = [Axis(f"drawn {a.name}", a.kind, (), "", a.range) for a in drawn]
    points = list(sample([*crossed, *drawn], Sampling("random", count, 0, tuple(a.name for a in crossed))))
    combinations = math.prod(len(a.values) for a in crossed)
    samples = {tuple(p[a.name] for a in drawn) for p in points}
    assert len(points) == len(samples) * combinations == len({tuple(p.items()) for p in points})


@given(st.lists(st.integers(), unique=True, min_size=1, max_size=3), st.sampled_from(["random", "latin-hypercube"]))
def test_points_that_come_up_twice_are_one(values, method):
    axes = [Axis("a", Kind.WORKLOAD, tuple(values))]
    points = list(sample(axes, Sampling(method, 50, 1)))
    assert sorted(p["a"] for p in points) == sorted(values)


def test_other_seeds_give_other_points():
    axes = [Axis("a", Kind.HARDWARE, (), "", Range(0.0, 1.0, log=False, whole=False))]
    assert [p["a"] for p in sample(axes, Sampling("random", 5, 1))] != pytest.approx(
        [p["a"] for p in sample(axes, Sampling("random", 5, 2))])


@pytest.mark.parametrize("method", ["grid", "zip", "random", "latin-hypercube"])
def test_without_axes_there_is_one_point(method):
    assert list(sample([], Sampling(method, 3))) == [{}]
    crossed = Axis("a", Kind.WORKLOAD, (1, 2))
    assert list(sample([crossed], Sampling(method, 3, 0, ("a",)))) == [{"a": 1}, {"a": 2}]
