"""What bounds a run is found by one rule, and said in the same words wherever it is shown."""

from __future__ import annotations

import json
import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from turbosim import simulate
from turbosim.bottleneck import BUSY, bound_of, bound_words
from turbosim.tuning import Resources, Trial
from turbosim.views import compare, summary, tune
from turbosim.views.tune_figure import figure
from turbosim.workload import Attention, Phase

LONE = simulate("a100_sxm_80gb", Attention(1, 1, 1, 64, 4096, 64, causal=False, phase=Phase.PREFILL), "flash")
FULL = simulate("a100_sxm_80gb", Attention(4, 16, 16, 2048, 2048, 128, causal=False, phase=Phase.PREFILL), "flash")


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1))
def test_latency_binds_where_no_unit_is_busy(shares):
    bound, most = bound_of(shares), max(shares.values())
    assert (bound == "latency") == (most < BUSY)
    assert shares.get(bound, most) == most
    unit = next(u for u, share in shares.items() if share == most)
    assert bound_words(bound, shares) == (
        f"{unit} ({most:.0%} busy)" if bound == unit else f"latency (busiest unit {unit}, {most:.0%})")


def test_a_launch_that_takes_longer_than_its_kernel_is_named():
    assert bound_words("launch", {"hbm": 0.1, "l2": 0.2}) == "launch (busiest unit l2, 20%)"


def printed(view):
    console = Console(width=400, file=StringIO())
    console.print(view)
    return console.file.getvalue()


@pytest.mark.parametrize(("result", "bound"), [(LONE, "latency"), (FULL, "tensor")], ids=["latency", "tensor"])
def test_every_view_says_the_same(result, bound):
    unit, share = max(result.utilization.items(), key=lambda item: item[1])
    words = bound_words(bound, result.utilization)
    assert result.bound == bound
    assert re.search(rf"^bound +{re.escape(words)} *$", printed(summary.to_table(result)), re.MULTILINE)
    trials = [Trial({"BLOCK": 64}, Resources(32, 0, 0, 4), result)]
    assert words in printed(tune.to_table(trials, Console(width=400)))
    said = json.loads(json.dumps([summary.to_json(result), *tune.to_rows(trials),
                                  *compare.to_rows([compare.Comparison(1, 8192, {"flash": result})])]))
    for row in said:
        assert (row["bound"], row["busiest"]) == (bound, {"unit": unit, "share": share})
    drawn = figure(trials, "title")
    texts = [t.get_text() for legend in drawn.legends for t in legend.get_texts()]
    assert texts == [f"bound by {bound}" + (" (no unit is busy 60% of the time)" if bound == "latency" else "")]
    other, = drawn.axes[0].child_axes
    assert next(t.get_text() for t in other.get_yticklabels()).split()[-2:] == [unit, f"{share:.0%}"]
