"""Pictures of ``turbosim validate --report``: what they show, and that their labels can be read."""

import itertools

import pytest

from turbosim.validation.predict import Findings, Outcome
from turbosim.validation.row import Protocol, Row
from turbosim.views.validation_report import BANDS, by_shape, residuals, scatter
from turbosim.workload import Attention, CopyBytes, Gemm, Phase

RUNGS = ("roofline", "tile", "sass")


def outcome(kernel, work, seconds, predicted, dataset="set", gpu="a100_pcie_80gb"):
    stream = (work.nbytes, work.nbytes) if isinstance(work, CopyBytes) else (0, 0)
    row = Row("data.csv:2", dataset, gpu, kernel, work, seconds, Protocol(), stream=stream)
    return Outcome(row, predicted, reasons={rung: "none" for rung in RUNGS if rung not in predicted})


def attention(keys, batch=4):
    return Attention(batch, 8, 8, keys, keys, 64, True, Phase.PREFILL)


def findings(least=2e-5, most=3e-4, sets=1):
    """Return rows of two kernels per set, whose times spread from *least* to *most*; sass has only one of the kernels."""
    found = []
    for number, n in itertools.product(range(sets), range(6)):
        seconds = least * (most / least) ** (n / 5)
        times = {"roofline": seconds * 0.7, "tile": seconds * 1.05, "sass": seconds * 1.2}
        found.append(outcome("Triton", attention(512 * 2**n), seconds, times, f"published_set_{number}"))
        found.append(outcome("FlashAttention-2", attention(512 * 2**n, 2**n), seconds * 1.1,
                             {r: t for r, t in times.items() if r != "sass"}, f"published_set_{number}"))
    return Findings(tuple(found), ())


def boxes(labels):
    return [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]


def legend_of(picture):
    (legend,) = picture.legends
    return legend, [text.get_text() for text in legend.get_texts()]


PICTURES = {"scatter": scatter, "error_by_shape": by_shape, "residuals": residuals}


@pytest.mark.parametrize("rungs", [("tile",), ("roofline", "tile"), RUNGS], ids=len)
@pytest.mark.parametrize("most", [2.2e-5, 6e-5, 3e-4, 5e-3, 2.0])
@pytest.mark.parametrize("name", PICTURES)
def test_labels_of_ticks_do_not_overlap(name, most, rungs):
    picture = PICTURES[name](findings(most=most), rungs)
    picture.draw_without_rendering()
    for axes in picture.axes:
        for axis, low, high in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
            first, last = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            labels = [tick.label1 for tick in ticks if first <= tick.get_loc() <= last]
            found = sorted(boxes(labels), key=lambda box: getattr(box, low))
            for before, after in itertools.pairwise(found):
                assert getattr(before, high) < getattr(after, low)
    figure = picture.bbox
    assert all(figure.x0 <= box.x0 and box.x1 <= figure.x1 and box.y1 <= figure.y1
               for box in boxes([axes.title for axes in picture.axes]))


@pytest.mark.parametrize("most", [2.2e-5, 6e-5, 3e-4, 2.0])
def test_both_axes_of_the_scatter_are_labelled_with_units(most):
    (axes,) = scatter(findings(most=most), ("tile",)).axes
    axes.figure.draw_without_rendering()
    for axis in (axes.xaxis, axes.yaxis):
        texts = [t.get_text() for t in axis.get_ticklabels() if t.get_text()]
        assert len(texts) >= 2
        assert all(text.split()[1] in ("ns", "us", "ms", "s") for text in texts)
    assert axes.get_xlim() == axes.get_ylim()


@pytest.mark.parametrize("sets", [1, 4, 12])
@pytest.mark.parametrize("name", PICTURES)
def test_the_legend_names_set_gpu_kernel_and_bands_and_fits(name, sets):
    picture = PICTURES[name](findings(sets=sets), ("tile", "sass"))
    picture.draw_without_rendering()
    legend, texts = legend_of(picture)
    groups = [f"published_set_{n}, a100_pcie_80gb, {kernel}" for n in range(sets) for kernel in ("Triton", "FlashAttention-2")]
    assert texts == groups + ([] if name == "residuals" else [f"within {band:.0%} of the measured time" for band in BANDS])
    box = legend.get_window_extent()
    assert picture.bbox.x0 <= box.x0
    assert box.x1 <= picture.bbox.x1
    assert all(axes.get_tightbbox().y0 >= box.y1 - 1 for axes in picture.axes)


def test_groups_look_different():
    picture = scatter(findings(sets=20), ("tile",))
    looks = {(tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes()) for points in picture.axes[0].collections
             if not points.get_label().startswith("within ")}
    assert len(looks) == 40


def drawn_in(axes):
    return sorted((int(x), round(float(y), 9)) for points in axes.collections for x, y in points.get_offsets())


def test_errors_by_shape_show_every_model_with_the_rows_that_it_predicts():
    data = findings()
    picture = by_shape(data, RUNGS)
    assert len(picture.axes) == 2 * len(RUNGS)
    for line, rung in enumerate(RUNGS):
        expected = sorted((o.row.workload.seq_k, round(o.error(rung), 9)) for o in data.outcomes if rung in o.times)
        axes = picture.axes[2 * line]
        assert drawn_in(axes) == expected
        assert axes.get_ylabel() == f"{rung}: error of the time"
    assert len([1 for o in data.outcomes if "sass" not in o.times]) == 6


MIXED = {"attention": attention(1024), "product": Gemm(1024, 1024, 1024), "copy": CopyBytes(2**20)}


@pytest.mark.parametrize("predicted", list(itertools.product([(), ("attention",), ("copy",), ("attention", "copy"), tuple(MIXED)], repeat=2)),
                         ids=str)
def test_errors_by_shape_have_no_panel_without_a_point_and_label_those_there_are(predicted):
    by_model = {"roofline": tuple(MIXED), **dict(zip(("tile", "sass"), predicted, strict=True))}
    rows = tuple(outcome(kind, work, 1e-4, {rung: 1.1e-4 for rung, kinds in by_model.items() if kind in kinds})
                 for kind, work in MIXED.items())
    picture = by_shape(Findings(rows, ()), RUNGS)
    picture.draw_without_rendering()
    assert all(drawn_in(axes) for axes in picture.axes)
    columns = {"attention": 2, "product": 1, "copy": 1}
    assert len(picture.axes) == sum(columns[kind] for kinds in by_model.values() for kind in kinds)
    assert [axes.get_ylabel() for axes in picture.axes if axes.get_ylabel()] == [
        f"{rung}: error of the time" for rung, kinds in by_model.items() if kinds]
    assert len([1 for axes in picture.axes if axes.get_xlabel()]) == 4
    for axes in picture.axes:
        for axis, label in ((axes.xaxis, axes.get_xlabel()), (axes.yaxis, axes.get_ylabel())):
            assert any(tick.get_text() and tick.get_visible() for tick in axis.get_ticklabels()) or not label


def test_errors_by_shape_have_a_scale_for_each_model_and_one_of_sizes():
    seconds = 1e-4
    rows = tuple(outcome("Triton", attention(512 * 2**n), seconds, {"roofline": seconds * (0.02 + 0.01 * n), "tile": seconds * 1.05})
                 for n in range(6))
    roofline, _, tile, _ = by_shape(Findings(rows, ()), ("roofline", "tile")).axes
    assert roofline.get_ylim()[0] < -0.98
    assert -0.35 < tile.get_ylim()[0] < tile.get_ylim()[1] < 0.35
    assert roofline.get_xlim() == tile.get_xlim()


def test_columns_are_those_of_the_work_that_there_is():
    copy = outcome("copy", CopyBytes(2**20), 1e-5, {"tile": 1.1e-5})
    product = outcome("gemm", Gemm(1024, 1024, 1024), 1e-4, {"tile": 1.1e-4})
    labels = {name: [axes.get_xlabel() for axes in by_shape(Findings(rows, ()), ("tile",)).axes]
              for name, rows in (("copy", (copy,)), ("product", (product,)), ("both", (product, copy)))}
    assert labels == {"copy": ["elementwise kernels: bytes read and written"], "product": ["matrix products: size in FLOP"],
                      "both": ["matrix products: size in FLOP", "elementwise kernels: bytes read and written"]}
