"""The pictures that are held against tests/views/baseline; ``python -m tests.views.pictures_of_studies`` draws them anew."""

from __future__ import annotations

import tempfile
from pathlib import Path

from matplotlib import rc_context

from tests.views.study_data import written
from turbosim.study.pictures import Picture
from turbosim.views.study_picture import draw

BASELINE = Path(__file__).parent / "baseline"
PICTURES = {
    "roofline": Picture("roofline"),
    "heatmap": Picture("heatmap", x="hbm.bandwidth", y="kernel"),
    "heatmap_of_words": Picture("heatmap", x="hbm.bandwidth", y="kernel", value="bound", where="hw = 'h200_sxm'"),
    "lines": Picture("lines", x="hbm.bandwidth", value="time_s", where="hw = 'h200_sxm'"),
    "lines_in_one_panel": Picture("lines", where="hw = 'h200_sxm' and batch = 1"),
    "pareto": Picture("pareto", x="time_s", y="power_w", where="batch = 1"),
    "utilisation": Picture("utilisation", by="hw,kernel"),
    "stalls": Picture("stalls", where="batch = 16 and hw = 'h200_sxm'"),
}


def save(figure, path):
    """Write a picture as the command does, but smaller."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "turbosim"}):
        figure.savefig(path, dpi=70, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        results = written(Path(scratch) / "made")
        BASELINE.mkdir(exist_ok=True)
        for name, picture in PICTURES.items():
            save(draw(results, picture), BASELINE / f"{name}.png")
