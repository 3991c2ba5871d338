"""A study as one HTML page that needs nothing else: table, charts, every point, the study and its hardware."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbosim.study.results import load_results, needed, plain
from turbosim.study.saved import hardware_text, open_study
from turbosim.study.study import Study
from turbosim.views.study_columns import Columns
from turbosim.views.study_roofline import roofs

if TYPE_CHECKING:
    import pandas as pd

_LEFT_OUT = ("key", "version", "program", "wall_s")
"""Columns of no use to a reader, which would be a third of the page; ``turbosim results`` has them."""
_SHOWN = ("status", "time_s", "tflops", "hbm_gbps", "bound")
_DIGITS = 5
"""Of outcomes; axes are exact."""
TOP = 5


def page(folder: Path, timelines: Mapping[str, str], command: str) -> str:
    """Return the page of the study in *folder*.

    *timelines* has addresses by point; *command*, with POINT in it, is what writes the others. Raises UsageError where
    there are no results, or plotly is missing.
    """
    offline = needed("plotly.offline", "turbosim report")
    study, frame = open_study(folder), load_results(folder)
    # In the order of the study, not that in which points were finished.
    places = {name: {v: n for n, v in enumerate(Columns(study, frame).order(name))} for name in study.axis_names}
    frame = frame.sort_values(list(places), key=lambda s: s.map(places[s.name]), kind="stable") if places else frame
    columns = Columns(study, frame.reset_index(drop=True))
    scripts = [offline.get_plotlyjs(), _asset("report.js")]
    # Nothing but these two scripts runs, and nothing is fetched, whatever a study is called.
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    data = _data(columns, timelines, command)
    body = [
        f"<h1>{html.escape(study.title)}</h1>",
        f"<p class=facts>{html.escape(_facts(columns))}</p>",
        "<h2>Summary</h2>", _summary(columns),
        "<h2>Charts</h2>", _CHARTS if (frame["status"] == "ok").any() else "<p>No point has an outcome.</p>",
        _POINTS,
        f"<h2>Study</h2><pre id=study>{html.escape(study.text)}</pre>", "<h2>Hardware</h2>",
        *(f"<details><summary>{html.escape(f'{r.gpu.title} ({name})')}</summary>"
          f"<pre>{html.escape(hardware_text(r))}</pre></details>" for name, r in study.hardware.items())]
    # No text ends the element: JSON may have < as a code.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join((
        "<!doctype html>", '<html lang=en>', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
        '<meta name="viewport" content="width=device-width">', '<link rel="icon" href="data:,">',
        f"<title>{html.escape(study.title)}</title>", f"<style>{_asset('report.css')}</style>", "</head>",
        "<body>", *body, f'<script id=data type="application/json">{text}</script>',
        *(f"<script>{script}</script>" for script in scripts), "</body>", "</html>", ""))


def _asset(name: str) -> str:
    return resources.files("turbosim.views").joinpath("page", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts(columns: Columns) -> str:
    frame = columns.frame
    failed = int((frame["status"] != "ok").sum())
    parts = [f"{len(frame):,} points", f"{failed:,} failed" if failed else "", columns.fixed(frame)]
    return ", ".join(filter(None, parts))


def _summary(columns: Columns) -> str:
    """Return the fastest points and the reasons of failures, as tables."""
    frame = columns.frame
    names = [*columns.study.axis_names, "time_s", *columns.study.metrics, "bound"]
    labels = {n: columns.column(n) for n in names if n in frame.columns}
    head = "".join(f"<th>{html.escape(c.label)}</th>" for c in labels.values())
    best = frame[frame["status"] == "ok"].nsmallest(TOP, "time_s") if "time_s" in frame.columns else frame.iloc[:0]
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(_word(row[n], c.factor))}</td>" for n, c in labels.items())
                   + "</tr>" for row in best.to_dict("records"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    parts = [f"<p class=facts>fastest</p><div class=scroll>{table}</div>"] if rows else []
    reasons = frame.loc[frame["status"] != "ok", "reason"].value_counts()
    if len(reasons):
        rows = "".join(f"<tr><td class=number>{n:,}</td><td>{html.escape(str(reason))}</td></tr>"
                       for reason, n in reasons.head(2 * TOP).items())
        parts.append(f"<p class=facts>failed</p><div class='scroll reasons'><table><tbody>{rows}</tbody></table></div>")
    return "\n".join(parts)


def _word(value: Any, factor: float) -> str:
    value = plain(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value * factor:.5g}"
    return "–" if value is None else str(value)


def _data(columns: Columns, timelines: Mapping[str, str], command: str) -> dict[str, Any]:
    """Return what the script needs: columns of numbers, and of words by number."""
    study, frame = columns.study, columns.frame
    found = []
    for name in frame.columns:
        values = [plain(v) for v in frame[name].tolist()]
        if name in _LEFT_OUT or all(v is None for v in values):
            continue
        # A label without the definition of a metric, which stands in the study.
        column = columns.column(name)
        entry: dict[str, Any] = {"name": name, "label": column.label.split(" = ")[0], "factor": column.factor}
        digits = 12 if name in study.axis_names else _DIGITS
        if all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in values):
            entry["values"] = [v if v is None or isinstance(v, int) else float(f"{v:.{digits}g}") for v in values]
            if name.startswith(("util.", "stall.")):
                entry["factor"] = 100
        else:
            known = [str(v) for v in columns.order(name) if not isinstance(v, bool)]
            words = list(dict.fromkeys([*known, *(str(v) for v in values if v is not None)]))
            place = {word: n for n, word in enumerate(words)}
            entry |= {"words": words, "values": [None if v is None else place[str(v)] for v in values]}
        found.append(entry)
    names = [entry["name"] for entry in found]
    axes = [n for n in study.axis_names if n in names]
    table = [n for n in dict.fromkeys((*axes, *_SHOWN, *study.metrics)) if n in names]
    if "reason" in names and (frame["status"] != "ok").any():
        table.append("reason")
    done = frame[frame["status"] == "ok"]
    varying = Columns(study, done).varying() or axes
    varying.sort(key=lambda n: -done[n].nunique())
    value = next((n for n in (columns.default_value(), "time_s") if n in names), "")
    fixed = axes or ["hw"]
    heat = [*varying, *fixed, *fixed][:2]
    return {
        "count": len(frame), "columns": found, "table": table, "axes": fixed, "heat": [*heat, value],
        "baseline": {n: float(f"{v:.12g}") if isinstance(v, float) else v if type(v) is int else str(v)
                     for n, v in study.baseline.items()},
        "relative": {n: columns.baseline(n) for n in columns.relative()},
        "roofs": _roofs(study, done), "timelines": dict(timelines), "command": command,
        "words": {n: columns.words(n).removeprefix("busy share of ") for n in names
                  if n.startswith(("util.", "stall."))}}


def _roofs(study: Study, done: pd.DataFrame) -> dict[str, Any]:
    """Return the ceilings of the hardware files by GPU."""
    found = {hw: roofs(study, hw, done.iloc[:0]) for hw in study.hardware if (done["hw"] == hw).any()}
    return {hw: {"compute": {n: float(f"{v:.5g}") for n, v in r.compute.items()}, "memory": float(f"{r.memory:.5g}")}
            for hw, r in found.items()}


_CHARTS = """<div class=charts>
<div class=chart><div class=choices><label>GPU <select id=roof-hw></select></label>
<label>colours <select id=roof-by></select></label><span>roofs are those of the hardware file</span></div>
<div class=plot id=roofline></div></div>
<div class=chart><div class=choices><label>across <select id=heat-x></select></label>
<label>up <select id=heat-y></select></label><label>value <select id=heat-value></select></label>
<span id=heat-note></span></div><div class=choices id=heat-held></div><div class=plot id=heatmap></div></div>
</div>"""
_POINTS = """<h2>Points</h2>
<p class=facts>A click on a name sorts, a click on a row shows the point; numbers are filtered with &lt;, &gt; or =.</p>
<div class=pages><button id=before type=button>previous</button><span id=shown></span>
<button id=after type=button>next</button></div>
<div class=scroll><table id=points><thead></thead><tbody></tbody></table></div>
<section id=detail hidden aria-live=polite></section>"""
