"""Pictures of studies: as they were, legible, in units, and refused where they cannot be drawn."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.views.as_before import assert_as_before, difference, save
from tests.views.pictures_of_studies import PICTURES
from tests.views.study_data import SMALL, written
from turbosim.errors import UsageError
from turbosim.study.pareto import front
from turbosim.study.pictures import Picture
from turbosim.views.study_lines import _spread
from turbosim.views.study_picture import draw


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return written(tmp_path_factory.mktemp("pictures") / "made")


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_as_they_were(results, tmp_path, name):
    assert_as_before(draw(results, PICTURES[name]), name, tmp_path)


@pytest.mark.parametrize("name", ["lines", "heatmap_of_words", "stalls", "pareto"])
def test_other_results_are_other_pictures(tmp_path, name):
    # Made-up rows of a study whose values are in another order: the tolerance would not hide it.
    other = written(tmp_path / "made", SMALL.replace("[1, 2, 4, 8 TB/s]", "[0.5, 1, 2, 3 TB/s]"))
    assert difference(draw(other, PICTURES[name]), name, tmp_path) is not None


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_picture_is_the_same_svg(results, tmp_path, name):
    for copy in "ab":
        save(draw(results, PICTURES[name]), tmp_path / f"{copy}.svg")
    text = (tmp_path / "a.svg").read_bytes()
    assert text == (tmp_path / "b.svg").read_bytes()
    assert b"SFUs and memory of a made-up GPU" in text


def labels_of(figure):
    found = [label for axes in figure.axes if axes.get_visible() for label in (axes.get_xlabel(), axes.get_ylabel())]
    return [x for x in [*found, figure.get_supxlabel()] if x]


@pytest.mark.parametrize("name", PICTURES)
def test_axes_of_numbers_have_units(results, name):
    labels = labels_of(draw(results, PICTURES[name]))
    assert labels
    for label in labels:
        # Words, counts and ratios, which say of what, have none.
        assert re.search(r"\[.+\]|^kernel$|^speedup\s= baseline\.time_s / time_s$", label), label


def test_no_two_names_of_lines_overlap(results):
    figure = draw(results, PICTURES["lines"])
    figure.draw_without_rendering()
    texts = [t for t in figure.axes[0].texts if t.get_text()]
    assert len(texts) == 6
    # Annotations include their leader lines in their extent; the text alone is what must not be covered.
    boxes = sorted((super(type(t), t).get_window_extent() for t in texts), key=lambda box: box.y0)
    for below, above in zip(boxes, boxes[1:], strict=False):
        assert above.y0 >= below.y1 - 3


@pytest.mark.parametrize(("picture", "message"), [
    (Picture(kind="lines", x="hbm.bandwith"), "x: no column 'hbm.bandwith' (did you mean 'hbm.bandwidth'?)"),
    (Picture(kind="lines", value="bound"), "value: bound has no numbers"),
    (Picture(kind="lines", where="time_s < 0"), "where: no simulated point meets 'time_s < 0'"),
    (Picture(kind="lines", where="times < 0"), "query: Binder Error"),
    (Picture(kind="lines", where="hw = 'h200_sxm' and kernel = 'flash' and batch = 1 and \"hbm.bandwidth\" = 1e12"),
     "lines: the points do not differ on any axis"),
    (Picture(kind="heatmap", x="kernel", y="kernel"), "heatmap: x and y are both kernel"),
    (Picture(kind="heatmap", where="hw = 'h200_sxm' and kernel = 'flash' and batch = 1"), "fewer than two axes"),
    (Picture(kind="heatmap", x="hbm.bandwidth", y="batch", value="point"), "different values; at most 7 can be told apart"),
    (Picture(kind="pareto", x="time_s", y="bound"), "y: bound has no numbers"),
    (Picture(kind="pareto", x="time_s", y="power_w", maximize=["tflops"]), "maximize: tflops is none of the objectives"),
    (Picture(kind="utilisation", by="nothing"), "by: no column 'nothing'"),
    (Picture(kind="pie"), "kind: must be one of roofline, heatmap, lines, pareto, utilisation, stalls, got 'pie'"),
])
def test_what_cannot_be_drawn_is_told(results, picture, message):
    with pytest.raises(UsageError) as caught:
        draw(results, picture)
    assert message in str(caught.value)


def test_too_many_bars_and_panels_are_told(tmp_path):
    many = SMALL.replace("[1, 2, 4, 8 TB/s]", "{from: 1 TB/s, to: 8 TB/s, steps: 40}")
    folder = written(tmp_path / "made", many)
    with pytest.raises(UsageError, match=r"stalls: 400 bars, at most 48 are legible; group points with by"):
        draw(folder, Picture(kind="stalls"))
    with pytest.raises(UsageError, match=r"heatmap: 80 panels for .*, at most 12; select points with where"):
        draw(folder, Picture(kind="heatmap", x="hw", y="kernel"))
    assert "mean of 240" in str([t.get_text() for t in draw(folder, Picture(kind="stalls", by="hw")).axes[0].get_yticklabels()])


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25)


@given(POINTS)
def test_the_front_is_what_none_beats(points):
    def beaten(a):
        return any(b[0] <= a[0] and b[1] <= a[1] and b != a for b in points)

    assert sorted(front(points)) == [n for n, a in enumerate(points) if not beaten(a)]


@given(st.lists(st.floats(0, 500), max_size=20), st.floats(1, 30))
def test_names_are_spread_no_further_than_needed(heights, least):
    heights = sorted(heights)
    found = _spread(heights, least)
    assert len(found) == len(heights)
    assert all(b - a >= least - 1e-6 for a, b in zip(found, found[1:], strict=False))
    if all(b - a >= least for a, b in zip(heights, heights[1:], strict=False)):
        assert found == pytest.approx(heights)
    assert sum(found) == pytest.approx(sum(heights), abs=1e-6)
