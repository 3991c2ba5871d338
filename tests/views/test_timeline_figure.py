"""The picture of a timeline: every operation and every reason can be told from the others."""

from __future__ import annotations

import pytest

from turbosim import Phase, attention_of, build_program, get_model, simulate
from turbosim.result import Reason
from turbosim.schedules.registry import SCHEDULES
from turbosim.views.summary import reason_words
from turbosim.views.timeline_figure import figure, operation_looks, reason_looks

LLAMA = get_model("llama3-8b")


def test_reasons_all_look_different():
    looks = reason_looks()
    assert set(looks) == {reason_words(r.name.lower()) for r in Reason}
    assert len(set(looks.values())) == len(Reason)


@pytest.mark.parametrize(("kernel", "phase"), [
    (kernel, phase) for kernel in SCHEDULES if kernel not in ("gemm", "copy") for phase in Phase
    if kernel not in ("flash3", "sage") or phase is Phase.PREFILL])
def test_operations_of_every_kernel_look_different(kernel, phase):
    from turbosim.engine.lower import lower
    from turbosim.hw import load_gpu

    for gpu in map(load_gpu, ("h200_sxm",) if kernel == "flash3" else ("a100_sxm_80gb", "h200_sxm")):
        for launch in lower(gpu, build_program(gpu, attention_of(LLAMA, phase, 1, 1000), kernel)).launches:
            looks = operation_looks(i.label for stream in launch.streams for i in stream)
            told = [look for name, look in looks.items()
                    if not name.startswith(("wait", "arrive", "barrier", "release", "pass"))]
            assert len(set(told)) == len(told)


def test_more_operations_than_colours_are_told_by_their_hatching():
    looks = operation_looks([f"work {n}" for n in range(20)] + [f"{what} {n}" for what in ("load", "store")
                                                               for n in range(8)])
    assert len(set(looks.values())) == 36


def test_the_picture_explains_what_it_shows():
    shape = attention_of(LLAMA, Phase.PREFILL, 1, 512)
    result = simulate("h200_sxm", shape, "flash", options={"path": "auto"}, record=(0,))
    picture = figure(result, 0, 20_000)
    operations, reasons = ([text.get_text() for text in legend.get_texts()] for legend in picture.legends)
    assert {"QK^T", "PV", "load K", "load V", "store O", "store LSE"} <= set(operations)
    assert {"running on tensor", "queueing for tensor", "waiting for data from L2", "own instruction latency"} <= set(
        reasons)
    rows = [text.get_text() for text in picture.axes[0].get_yticklabels()]
    assert {"tensor", "slot0/wg0", "slot0/wg0 reason", "slot0/copy 0"} <= set(rows)
    only_start = figure(result, 0, 10)
    assert len(only_start.legends[0].get_texts()) < len(operations)
