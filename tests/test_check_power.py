"""The tables of the power model beside known rows: fits on rows that are made up, and what is refused."""

from __future__ import annotations

import re

import pytest

from analysis import instruction_energy
from analysis.check_power import PRODUCTS, Sweep, VoltageFit, external_products, fit_voltage, main, product, watts_of
from analysis.instruction_energy import with_sweep_fma
from turbosim.errors import UsageError
from turbosim.hw import load_gpu


def test_the_voltage_of_made_up_rows_is_found_again():
    made = VoltageFit(0.85, 2.5, 0.1, 110.0, 6.0, 0.0)
    rows = []
    for gbps, tflops, ghz in ((800, 5, 2.5), (800, 20, 2.5), (750, 40, 2.3), (600, 45, 2.2), (400, 50, 2.1), (300, 52, 1.9)):
        square = (1 + made.slope * (ghz / made.top - 1)) ** 2
        rows.append(Sweep(gbps, tflops, ghz, 0.1 * gbps + square * (110 * ghz / made.top + 6 * tflops)))
    found = fit_voltage(rows)
    assert (found.slope, found.top) == (0.85, 2.5)
    assert (found.hbm, found.idle, found.fma) == pytest.approx((0.1, 110, 6))
    assert [found.clock(r) for r in rows] == pytest.approx([r.ghz for r in rows], rel=1e-3)


def test_power_of_a_sweep_row_by_hand():
    # 105 W, 1000 GB/s of 122 pJ/B, 10 TFLOP/s of 5.8 pJ: the sweep's own FMA.
    assert watts_of(with_sweep_fma(load_gpu("h200_sxm")), Sweep(1000, 10, 1.98, 0)) == pytest.approx(105 + 122 + 58)


@pytest.mark.parametrize(("gpu", "measured"), [
    ("a100_sxm_80gb", 262.5), ("h100_sxm", 783.0),
    pytest.param("h200_sxm", 806.0, marks=pytest.mark.xfail(strict=True, reason="D7: FP16 products on an H200"))])
def test_products_at_the_limit_are_within_5_percent(gpu, measured):
    assert product(load_gpu(gpu), 8192, 8192, 8192, "bf16").tflops == pytest.approx(measured, rel=0.05)


@pytest.mark.xfail(strict=True, reason="D8: FP8 products on Hopper")
def test_d8_fp8_products_within_10_percent():
    assert product(load_gpu("h100_sxm"), 8192, 8192, 8192, "fp8").tflops == pytest.approx(1243, rel=0.10)


@pytest.mark.parametrize("file", [PRODUCTS, instruction_energy.PRODUCTS], ids=lambda f: f.stem)
def test_every_product_has_a_source_that_is_explained(file):
    lines = file.read_text().splitlines()
    notes = " ".join(line for line in lines if line.startswith("#"))
    column = next(line for line in lines if not line.startswith("#")).split(",").index("source")
    tags = {line.split(",")[column] for line in lines if not line.startswith(("#", "gpu,"))}
    assert tags == set(re.findall(r"\b([A-Z]): ", notes))


def test_what_is_not_there_is_refused(tmp_path, capsys):
    message = (f"--external: no file {tmp_path / 'gemm_a100_int8_int4_bf16.csv'}; give the folder with "
               "gpu_microbenchmarks.csv and gemm_a100_int8_int4_bf16.csv")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        next(external_products(tmp_path))
    for arguments, told in ((["voltage"], "table 'voltage' needs --external DIR, which is not part of this repository"),
                            (["volts"], "unknown table 'volts': not among products, instruction, l2, sensitivity, external, sweep, voltage")):
        with pytest.raises(SystemExit):
            main(arguments)
        assert capsys.readouterr().err.splitlines()[-1] == f"python -m analysis.check_power: error: {told}"
