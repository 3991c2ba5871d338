"""Pictures in a study file: what is wrong with them is told with its place."""

from __future__ import annotations

import pytest

from tests.study.studies import SMALL, study_of
from turbosim.errors import ConfigError


def test_pictures_are_read(tmp_path):
    text = SMALL + "pictures:\n  - {kind: lines, x: hbm.bandwidth, value: time_s}\n  - {kind: lines, name: other, by: hw}\n"
    assert [(p.file, p.x, p.by) for p in study_of(tmp_path, text).pictures] == [
        ("lines", "hbm.bandwidth", ""), ("other", "", "hw")]


def test_pictures_do_not_change_the_points(tmp_path):
    with_picture = study_of(tmp_path, SMALL + "pictures: [{kind: roofline}]\n", "other.yaml")
    assert with_picture.digest == study_of(tmp_path).digest


@pytest.mark.parametrize(("pictures", "place", "message"), [
    ("- {kind: line}", "9:12", "must be one of roofline, heatmap, lines, pareto, utilisation, stalls, got 'line' (did you "
                               "mean 'lines'?)"),
    ("- {kind: lines, x: hbm.bandwith}", "9:22", "'hbm.bandwith' is no column (did you mean 'hbm.bandwidth'?)"),
    ("- {kind: pareto, x: time_s, y: tflops, maximize: [time_s, tflop]}", "9:61",
     "'tflop' is no column (did you mean 'tflops'?)"),
    ("- {kind: lines, x: nothing}", "9:22", "'nothing' is no column; axes, metrics and outcomes are, for example time_s"),
    ("- {kind: lines, z: time_s}", "9:19", "unknown key; there are kind, x, y, value, by, where, maximize, name"),
    ("- {x: time_s}", "9:5", "kind is missing"),
    ("- {kind: lines, name: a/b}", "9:25", "is a file name of letters, digits, - and _, got 'a/b'"),
    ("- {kind: lines}\n  - {kind: lines}", "10:5", "a picture is called 'lines' already; give this one a name"),
    ("- lines", "9:5", "must be a table such as {kind: lines, value: time_s}, got 'lines'"),
])
def test_wrong_pictures_are_told(tmp_path, pictures, place, message):
    with pytest.raises(ConfigError) as caught:
        study_of(tmp_path, SMALL + f"pictures:\n  {pictures}\n")
    assert f"study.yaml:{place}: pictures" in str(caught.value)
    assert message in str(caught.value)
