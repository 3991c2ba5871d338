"""Pictures of a study's results: which points, and which of the kinds draws them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from turbosim.errors import UsageError, did_you_mean
from turbosim.study.pictures import KINDS, Picture
from turbosim.study.results import load_results, query
from turbosim.study.saved import open_study
from turbosim.views import study_heatmap, study_lines, study_pareto, study_roofline, study_stacks
from turbosim.views.study_columns import Columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from turbosim.study.study import Study

_DRAW: dict[str, Callable[[Columns, Picture], Figure]] = {
    "roofline": study_roofline.figure, "heatmap": study_heatmap.figure, "lines": study_lines.figure,
    "pareto": study_pareto.figure, "utilisation": study_stacks.utilisation, "stalls": study_stacks.stalls}
assert set(_DRAW) == set(KINDS)


def select(folder: Path, study: Study, where: str = "") -> Columns:
    """Return the simulated points in *folder* that meet the SQL condition *where*; failed ones have no outcome.

    Raises UsageError if there are none, or for a condition that is not acceptable.
    """
    frame = load_results(folder)
    frame = frame[frame["status"] == "ok"].reset_index(drop=True)
    if where:
        chosen = query(folder, f"select point from points where ({where})")["point"]
        frame = frame[frame["point"].isin(set(chosen))].reset_index(drop=True)
    if frame.empty:
        raise UsageError(f"where: no simulated point meets {where!r}" if where else f"{folder}: no point is simulated")
    return Columns(study, frame)


def draw(folder: Path, picture: Picture) -> Figure:
    """Return *picture* of the results in *folder*. Raises UsageError for what cannot be drawn, ConfigError."""
    if picture.kind not in _DRAW:
        raise UsageError(f"kind: must be one of {', '.join(KINDS)}, got {picture.kind!r}"
                         f"{did_you_mean(picture.kind, KINDS)}")
    return _DRAW[picture.kind](select(folder, open_study(folder), picture.where), picture)
