"""The page of a study: alone, safe with any text, of bounded size, and alive in a browser."""

from __future__ import annotations

import html
import json
import re

import pytest

from tests.study.studies import study_of, summary_of, turbosim
from tests.views.browser import complaints, requests, started
from tests.views.study_data import MANY, SMALL, written
from turbosim.views.study_report import page

EVIL = "</script><script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
LIMIT = 12e6
"""Bytes of the page of ten thousand points, of which 4.8 MB are plotly."""


def data_of(text):
    return json.loads(re.search(r'<script id=data type="application/json">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return written(tmp_path_factory.mktemp("report") / "made", SMALL.replace("title: SFUs", f'title: "{EVIL} SFUs').replace(
        "a made-up GPU", 'a made-up GPU"'))


@pytest.fixture(scope="module")
def opened(results, tmp_path_factory):
    """The page in a browser, with what it asked for while it loaded."""
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(page(results, {}, "turbosim report made --timeline POINT"), encoding="utf-8")
    driver = started(folder / "profile")
    try:
        driver.get("about:blank")
        requests(driver)
        driver.get(path.as_uri())
        wait(driver, "document.documentElement.dataset.ready === 'yes'")
        yield driver
    finally:
        driver.quit()


def wait(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 30).until(lambda d: d.execute_script(f"return {condition}"))


def cells(driver, column):
    """Return a column of the table as it is shown."""
    return driver.execute_script(
        "const n = [...document.querySelectorAll('#points thead tr:first-child th')]"
        ".findIndex(h => h.textContent.startsWith(arguments[0]));"
        "return [...document.querySelectorAll('#points tbody tr')].map(r => r.children[n].textContent)", column)


def fill(driver, column, text):
    field = driver.find_element("css selector", f'input[data-column="{column}"]')
    field.clear()
    field.send_keys(text or " \b")


def test_the_page_names_nothing_outside(results):
    text = page(results, {}, "c POINT")
    own = text.replace(re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0], "")
    assert re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)=(?!"data:,")', own) == []
    assert "default-src 'none'" in html.unescape(text)


def test_text_of_a_study_is_no_markup(results):
    text = page(results, {}, "c POINT")
    assert "<script>document.title" not in text
    assert "<img src=x" not in text
    assert "&lt;/script&gt;&lt;script&gt;" in text


def test_the_page_has_every_point_with_its_values(results):
    from turbosim.study.results import load_results

    data, frame = data_of(page(results, {}, "c POINT")), load_results(results)
    columns = {c["name"]: c for c in data["columns"]}
    points = [columns["point"]["words"][n] for n in columns["point"]["values"]]
    assert sorted(points) == sorted(frame["point"])
    times = dict(zip(points, columns["time_s"]["values"], strict=True))
    for row in frame[frame["status"] == "ok"].to_dict("records"):
        assert times[row["point"]] == pytest.approx(row["time_s"], rel=1e-4)
    assert "a100_sxm_80gb" in data["roofs"]


@pytest.mark.slow
def test_the_page_of_ten_thousand_points_is_bounded(tmp_path):
    folder = written(tmp_path / "many", MANY)
    text = page(folder, {}, "c POINT")
    assert data_of(text)["count"] == 10_000
    assert len(text.encode()) < LIMIT


def test_it_loads_without_complaints_and_requests(opened):
    assert complaints(opened) == []
    assert [u for u in requests(opened) if not u.startswith(("file:", "data:", "blob:"))] == []
    assert opened.title != "taken"
    assert opened.find_element("tag name", "h1").text.startswith(EVIL)


def test_both_charts_are_drawn(opened):
    for chart in ("roofline", "heatmap"):
        assert opened.find_elements("css selector", f"#{chart} svg.main-svg")


def test_a_click_on_a_name_sorts(opened):
    head = next(b for b in opened.find_elements("css selector", "#points th button") if b.text.startswith("time"))
    for up in (True, False):
        head.click()
        shown = [float(t.replace(",", "")) for t in cells(opened, "time") if t != "–"]
        assert len(shown) > 10
        assert shown == sorted(shown, reverse=not up)


def test_filters_choose_rows(opened):
    fill(opened, "kernel", "flash3")
    assert set(cells(opened, "kernel")) == {"flash3"}
    fill(opened, "hbm.bandwidth", "> 3")
    assert set(cells(opened, "bandwidth")) == {"4", "8"}
    fill(opened, "kernel", "")
    fill(opened, "hbm.bandwidth", "")
    assert "of 48" in opened.find_element("id", "shown").text


def test_a_click_on_a_row_shows_the_point(opened):
    row = opened.find_element("css selector", "#points tbody tr")
    point = row.get_attribute("data-point")
    opened.execute_script("arguments[0].click()", row)
    detail = opened.find_element("id", "detail").text
    assert point in detail
    assert "running on tensor" in detail
    assert f"turbosim report made --timeline {point}" in detail


def test_a_click_on_a_chart_shows_its_point(opened):
    for chart in ("roofline", "heatmap"):
        opened.execute_script("document.getElementById('detail').hidden = true")
        index = opened.execute_script(
            "const node = document.getElementById(arguments[0]), trace = node.data[0];"
            "const i = trace.type === 'heatmap' ? trace.customdata[0][0] : trace.customdata[0];"
            "node.emit('plotly_click', {points: [{customdata: i}]}); return i", chart)
        assert index is not None
        assert not opened.execute_script("return document.getElementById('detail').hidden")
    assert complaints(opened) == []


def heat(driver):
    """Return the heat map's cells by (across, up), each (value, row of the data), without those that are empty."""
    return {(x, y): (value, point) for x, y, value, point in driver.execute_script(
        "const t = document.getElementById('heatmap').data[0];"
        "return t.y.flatMap((y, r) => t.x.map((x, c) => [x, y, t.z[r][c], t.customdata[r][c]]))") if point is not None}


def choose(driver, css, text):
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("css selector", css)).select_by_visible_text(text)


def test_a_cell_of_the_heat_map_is_one_point(opened, results):
    from turbosim.study.results import load_results

    data, frame = data_of(page(results, {}, "c POINT")), load_results(results).set_index("point")
    column = next(c for c in data["columns"] if c["name"] == "point")
    held = {"batch": "1", "hw": "h200_sxm"}
    shown = []
    for name, text in (("batch", "16"), ("hw", "a100_sxm_80gb"), ("hw", "h200_sxm"), ("batch", "1")):
        choose(opened, f'#heat-held select[data-held="{name}"]', text)
        held[name] = text
        cells = heat(opened)
        shown.append({place for _, place in cells.values()})
        # flash3 has no row on the A100, and its cells stay empty.
        assert len(cells) == (8 if held["hw"] == "a100_sxm_80gb" else 12)
        for (bandwidth, kernel), (value, place) in cells.items():
            row = frame.loc[column["words"][column["values"][place]]]
            assert (row["hw"], str(row["batch"]), row["kernel"]) == (held["hw"], held["batch"], kernel)
            assert row["hbm.bandwidth"] / 1e12 == float(bandwidth)
            assert value == pytest.approx(row["speedup"], rel=1e-4)
    assert shown[0] == shown[2]
    assert len(set().union(*shown)) == 12 + 8 + 12
    assert "12 of 40 points" in opened.find_element("id", "heat-note").text


def test_drawn_points_are_shown_where_they_lie(tmp_path):
    drawn = SMALL.replace("[1, 2, 4, 8 TB/s]", "{from: 1 TB/s, to: 8 TB/s}\n  pipes.sfu.rate: {from: 8, to: 64}\nsampling: "
                          "{method: latin-hypercube, points: 80, cross: [hw, kernel]}")
    path = tmp_path / "report.html"
    path.write_text(page(written(tmp_path / "drawn", drawn), {}, "c POINT"), encoding="utf-8")
    driver = started(tmp_path / "profile")
    try:
        driver.get(path.as_uri())
        wait(driver, "document.documentElement.dataset.ready === 'yes'")
        x, y, points, batch, hw = driver.execute_script(
            "const t = document.getElementById('heatmap').data[0];"
            "return [t.x, t.y, t.customdata, t.customdata.map(i => at('batch', i)), t.customdata.map(i => at('hw', i))]")
        assert len(points) == len(set(zip(x, y, strict=True))) > 20
        assert (len(set(batch)), set(hw)) == (1, {"h200_sxm"})
        assert complaints(driver) == []
    finally:
        driver.quit()


def test_the_heat_map_holds_the_axes_that_it_does_not_show(opened):
    def held():
        return [s.get_attribute("data-held") for s in opened.find_elements("css selector", "#heat-held select")]

    assert held() == ["hw", "batch"]
    choose(opened, "#heat-y", "batch")
    assert held() == ["hw", "kernel"]
    assert {y for _, y in heat(opened)} == {"1", "16"}
    choose(opened, "#heat-y", "kernel")
    assert held() == ["hw", "batch"]
    assert complaints(opened) == []


def test_the_heat_map_does_not_begin_with_the_baseline_compared_with_itself(opened):
    def note():
        return opened.find_element("id", "heat-note").text

    assert note() == "12 of 40 points; baseline: flash"
    choose(opened, "#heat-y", "batch")
    kernel = opened.find_element("css selector", '[data-held="kernel"]')
    assert kernel.find_element("css selector", "option:checked").text == "turbo"
    assert all(value > 1.05 for value, _ in heat(opened).values())
    assert note() == "8 of 40 points; baseline: flash"
    choose(opened, '[data-held="kernel"]', "flash")
    assert {value for value, _ in heat(opened).values()} == {1}
    assert note() == "8 of 40 points; baseline: flash; these points are the baseline"
    choose(opened, "#heat-value", "time [us]")
    assert note() == "8 of 40 points"
    choose(opened, "#heat-value", "speedup")
    choose(opened, "#heat-y", "kernel")
    # What is held anew goes with what is held already: flash3 has no row on the A100.
    choose(opened, '[data-held="hw"]', "a100_sxm_80gb")
    choose(opened, "#heat-x", "batch")
    assert len(heat(opened)) == 4
    choose(opened, "#heat-x", "bandwidth of device memory [TB/s]")
    choose(opened, '[data-held="hw"]', "h200_sxm")
    assert complaints(opened) == []


@pytest.mark.parametrize(("metrics", "relative"), [
    ("{speedup: baseline.time_s / time_s}", {"speedup": "baseline: flash"}),
    ("{ms: 1e3 * time_s, gain: baseline.tflops - tflops, per_cent: 100 * gain, both: ms * per_cent}",
     dict.fromkeys(("gain", "per_cent", "both"), "baseline: flash")),
    ("{ms: 1e3 * time_s}", {})])
def test_metrics_are_told_from_those_over_the_baseline(tmp_path, metrics, relative):
    text = SMALL.replace("metrics:\n  speedup: baseline.time_s / time_s\n", f"metrics: {metrics}\n")
    data = data_of(page(written(tmp_path / "made", text), {}, "c POINT"))
    assert data["relative"] == relative
    assert data["heat"][2] == next(iter(relative), "time_s")


def test_the_command_writes_page_and_timelines(tmp_path):
    study_of(tmp_path, "title: t\nhw: h200_sxm\nkernel: flash\nworkload: {model: llama3-8b, phase: decode, batch: 1, seq: 1k}\n"
                       "axes:\n  hbm.bandwidth: [2, 4 TB/s]\npictures:\n  - {kind: lines, name: over}\n")
    summary_of(turbosim("sweep", "study.yaml", "-o", "made", "--jobs", "1", "--json", cwd=tmp_path))
    assert sorted(p.name for p in (tmp_path / "made" / "pictures").iterdir()) == ["over.png", "over.svg"]
    done = turbosim("report", "made", "-o", "r.html", "--timelines", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    data = data_of((tmp_path / "r.html").read_text(encoding="utf-8"))
    [link] = data["timelines"].values()
    assert (tmp_path / link).is_file()
    refused = turbosim("report", "made", "-o", "r.html", "--timeline", "none", cwd=tmp_path)
    assert (refused.returncode, "no simulated point is called 'none'" in refused.stderr) == (2, True)
