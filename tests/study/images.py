"""Pictures held against reference images in ``tests/study/images/``; TURBOSIM_IMAGES=write makes these anew."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.testing.compare import compare_images

FOLDER = Path(__file__).parent / "images"
TOLERANCE = 6
"""Root mean square of the differences, of 255: fonts may be drawn a little differently."""


def assert_looks_as_before(figure, name, tmp_path):
    expected = FOLDER / f"{name}.png"
    if os.environ.get("TURBOSIM_IMAGES") == "write":
        FOLDER.mkdir(exist_ok=True)
        figure.savefig(expected, dpi=60)
    actual = tmp_path / f"{name}.png"
    figure.savefig(actual, dpi=60)
    difference = compare_images(str(expected), str(actual), TOLERANCE)
    assert difference is None, difference
