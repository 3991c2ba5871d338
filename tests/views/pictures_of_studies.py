"""Pictures of studies that are held against those in ``tests/views/baseline``."""

from __future__ import annotations

from turbosim.study.pictures import Picture

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
