"""Pictures of studies that are held against those in ``tests/views/baseline``."""

from __future__ import annotations

from turbosim.study.pictures import Picture

PICTURES = {
    "roofline": Picture(kind="roofline"),
    "heatmap": Picture(kind="heatmap", x="hbm.bandwidth", y="kernel"),
    "heatmap_of_words": Picture(kind="heatmap", x="hbm.bandwidth", y="kernel", value="bound", where="hw = 'h200_sxm'"),
    "lines": Picture(kind="lines", x="hbm.bandwidth", value="time_s", where="hw = 'h200_sxm'"),
    "lines_in_one_panel": Picture(kind="lines", where="hw = 'h200_sxm' and batch = 1"),
    "pareto": Picture(kind="pareto", x="time_s", y="power_w", where="batch = 1"),
    "utilisation": Picture(kind="utilisation", by="hw,kernel"),
    "stalls": Picture(kind="stalls", where="batch = 16 and hw = 'h200_sxm'"),
}
