"""Pictures held against those in ``tests/views/baseline``; TURBOSIM_IMAGES=write makes these anew."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib import rc_context
from matplotlib.testing.compare import compare_images

BASELINE = Path(__file__).parent / "baseline"
TOLERANCE = 6.0
"""Root mean square of the difference of pixels, of 255: other versions of the font renderer are within it."""


def save(figure, path):
    """Write a picture as the command does, but smaller."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "turbosim"}):
        figure.savefig(path, dpi=70, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})


def difference(figure, name, folder):
    """Return how the picture differs from the one called *name*, None if it does not."""
    actual = folder / f"{name}.png"
    save(figure, actual)
    return compare_images(str(BASELINE / f"{name}.png"), str(actual), TOLERANCE)


def assert_as_before(figure, name, folder):
    """Fail where the picture differs from the one called *name*."""
    if os.environ.get("TURBOSIM_IMAGES") == "write":
        save(figure, BASELINE / f"{name}.png")
    found = difference(figure, name, folder)
    assert found is None, found
