"""The roofline picture: ceilings per path, intensities per memory level, marks."""

from __future__ import annotations

import pytest

from turbosim import Phase, attention_of, get_model, load_gpu, simulate
from turbosim.views.roofline import Point, compute_ceilings, figure, intensities, memory_ceilings


@pytest.fixture(scope="module")
def results():
    shape = attention_of(get_model("llama3-8b"), Phase.PREFILL, 1, 1024)
    return {(gpu, kernel): simulate(gpu, shape, kernel)
            for gpu, kernel in (("h200_sxm", "flash"), ("h200_sxm", "turbo"), ("a100_sxm_80gb", "flash"))}


def drawn(gpu, result, **options):
    axes = figure(load_gpu(gpu), [Point("k", "prefill", 1, 1024, result)], **options).axes[0]
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_ceilings_are_the_best_paths_and_those_in_use(results):
    gpu = load_gpu("h200_sxm")
    assert list(compute_ceilings(gpu)) == ["INT8 wgmma", "FP16 wgmma", "FP32 CUDA cores"]
    decode = simulate(gpu, attention_of(get_model("llama3-8b"), Phase.DECODE, 1, 1024), "flash")
    assert list(decode.peak_macs) == ["mma.sync fp16"]
    assert list(compute_ceilings(gpu, [decode])) == ["INT8 wgmma", "FP16 wgmma", "FP16 mma.sync", "FP32 CUDA cores"]


def test_ceilings_are_the_peaks_of_the_paths(results):
    for (gpu, _), result in results.items():
        ceilings = compute_ceilings(load_gpu(gpu), [result])
        for name, macs in result.peak_macs.items():
            path, dtype = name.split()
            assert ceilings[f"{dtype.upper()} {path}"][1] == pytest.approx(2 * macs)


def test_no_kernel_is_above_the_ceiling_of_a_level(results):
    for (gpu, _), result in results.items():
        ceilings = memory_ceilings(load_gpu(gpu))
        for level, intensity in intensities(load_gpu(gpu), result).items():
            assert result.tflops * 1e12 <= ceilings[level][0] * intensity


def test_distance_to_a_ceiling_is_the_busy_share(results):
    for (gpu, _), result in results.items():
        places = intensities(load_gpu(gpu), result)
        for level, unit in (("L2", "l2"), ("shared memory", "smem")):
            share = result.tflops * 1e12 / (places[level] * memory_ceilings(load_gpu(gpu))[level][1])
            assert share == pytest.approx(result.utilization[unit], rel=0.02)


def test_levels_are_marked_where_they_are(results):
    result = results["a100_sxm_80gb", "flash"]
    places = intensities(load_gpu("a100_sxm_80gb"), result)
    marked = drawn("a100_sxm_80gb", result)
    for level in ("L2", "shared memory"):
        line = marked[f"per byte of {level}"]
        assert list(line.get_xdata()) == [places[level]]
        assert list(line.get_ydata()) == [result.tflops * 1e12]
    assert not [name for name in drawn("a100_sxm_80gb", result, levels=False) if name.startswith("per byte")]


def test_many_points_are_marked_only_on_request(results):
    gpu, result = load_gpu("a100_sxm_80gb"), results["a100_sxm_80gb", "flash"]
    points = [Point("k", "prefill", 1, 64 * n, result) for n in range(1, 18)]
    for levels, expected in ((None, False), (True, True)):
        labels = [line.get_label() for line in figure(gpu, points, levels=levels).axes[0].lines]
        assert any(label.startswith("per byte") for label in labels) == expected
