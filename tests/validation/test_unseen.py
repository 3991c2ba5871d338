"""A hardware file does not predict rows that it was fitted on, whatever their file is called and however it is written."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.errors import ConfigError
from turbosim.validation.identity import STEP, chip, digest_of, digests
from turbosim.validation.jobs import gpu_at
from turbosim.validation.predict import predict
from turbosim.validation.sets import directory, list_sets, load_file, load_set

FITTED = "extends: a100_pcie_80gb\nname: mine\nsources: {F: fit}\nhbm: {efficiency: {value: 0.9, source: F, fitted_on: TEXT}}\n"
PUBLISHED = directory() / "measurements" / "published"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Files are kept by name, and every test has its own mine.yaml.
    gpu_at.cache_clear()
    return tmp_path


def copy_of(name, change=lambda rows: rows, meta=lambda text: text):
    """Write rows and meta file of the set *name* under another name, and return what is read from them."""
    rows = list(csv.DictReader((PUBLISHED / name / "rows.csv").read_text().splitlines()))
    rows = change(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    Path("copy.csv").write_text(text.getvalue())
    Path("copy.meta.yaml").write_text(meta((PUBLISHED / name / "meta.yaml").read_text()))
    return load_file(Path("copy.csv"))


def fitted_on(text, gpu="a100_pcie_80gb"):
    Path("mine.yaml").write_text(FITTED.replace("TEXT", f"'{text}'").replace("a100_pcie_80gb", gpu))
    return {gpu: "mine.yaml"}


def in_ms(rows):
    flops = [4 * int(r["batch"]) * int(r["q_heads"]) * int(r["seq_q"]) * int(r["seq_k"]) * int(r["head_dim"]) for r in rows]
    halves = [2 if r["causal"] == "true" else 1 for r in rows]
    return [{**{n: v for n, v in r.items() if n != "tflops"}, "time_s": f"{f / h / float(r['tflops']) / 1e12:.5g}"}
            for r, f, h in zip(rows, flops, halves, strict=True)]


def one_more(rows):
    return [*({**r, "tflops": str(float(r["tflops"]) * 0.97)} for r in rows[:5]), rows[7]]


@pytest.mark.parametrize(("change", "meta"), [
    (lambda rows: rows, lambda text: text),
    (lambda rows: rows[::-1], lambda text: text),
    (lambda rows: [dict(reversed(r.items())) for r in rows], lambda text: text),
    (lambda rows: [{**r, "notes": "more", "version": "x"} for r in rows], lambda text: text),
    (lambda rows: [{**r, "tflops": f"{float(r['tflops']):.6g}"} for r in rows], lambda text: text),
    (lambda rows: [{**r, "gpu": "NVIDIA A100 80GB PCIe"} for r in rows], lambda text: text),
    (lambda rows: [{**r, "kernel": r["kernel"] + " at sea"} for r in rows], lambda text: re.sub(r"(?m)^(  Triton\b[^:]*):", r"\1 at sea:", text)),
    (in_ms, lambda text: text), (one_more, lambda text: text),
    (lambda rows: rows, lambda text: text.replace("flops: causal halved", "flops: unmasked")),
    (lambda rows: rows, lambda text: text.replace("flops: causal halved", "flops: dense")),
], ids=["renamed", "reordered", "columns", "more columns", "rounded", "GPU's name", "kernel's name", "times", "rows added", "unmasked",
        "dense"])
@pytest.mark.parametrize("text", ["triton_attention_a100", "micro; analysis/measurements/published/triton_attention_a100/rows.csv."])
def test_a_copy_of_a_set_is_that_set(here, change, meta, text):
    data = copy_of("triton_attention_a100", change, meta)
    with pytest.raises(ConfigError, match=(
            r"^copy\.csv:\d+: copy a100_pcie_80gb .*: says what \S*triton_attention_a100/rows\.csv:\d+ says, and mine\.yaml:4:27: "
            r"hbm\.efficiency was fitted on triton_attention_a100 and would predict it; validate on other rows, or fit on other ones$")):
        predict([data], ["roofline"], hardware=fitted_on(text))


def test_the_set_itself_is_refused_by_its_name(here):
    with pytest.raises(ConfigError, match=r"^mine\.yaml:4:27: hbm\.efficiency was fitted on triton_attention_a100, whose rows"):
        predict([load_set("triton_attention_a100")], ["roofline"], hardware=fitted_on("triton_attention_a100"))


@pytest.mark.parametrize("text", ["mine_too", "mine_too.csv", "fit of measured/mine_too.csv.", "'mine_too.csv'; others", "mine_too/rows.csv"])
def test_a_set_goes_by_the_name_of_its_file(here, text):
    Path("mine_too.csv").write_text("gpu,kernel,sizes,time_s\na100_pcie_80gb,cuBLAS,m=4096:n=4096:k=4096,1e-3\n")
    data = load_file(Path("mine_too.csv"))
    with pytest.raises(ConfigError, match=r"^mine\.yaml:4:27: hbm\.efficiency was fitted on mine_too, whose rows"):
        predict([data], ["roofline"], hardware=fitted_on(text.replace("'", "''")))
    assert predict([replace(data, name="mine")], ["roofline"], hardware=fitted_on(text.replace("'", "''"))).outcomes


def test_a_file_of_rows_is_not_the_word_rows_in_a_text(here):
    Path("rows.csv").write_text("gpu,kernel,sizes,time_s\na100_pcie_80gb,cuBLAS,m=4096:n=4096:k=4096,1e-3\n")
    data = load_file(Path("rows.csv"))
    assert predict([data], ["roofline"]).outcomes
    assert predict([data], ["roofline"], hardware=fitted_on("rows of torch_softmax.csv")).outcomes


@pytest.mark.parametrize("name", list_sets())
def test_no_row_of_a_set_is_one_that_a_shipped_file_was_fitted_on(name):
    assert len(predict([load_set(name)], ["roofline"]).outcomes) > 0


@pytest.mark.parametrize("factor", [0.995, 1.0003])
def test_other_values_are_other_rows(here, factor):
    # Its rows differ in shape, so that none is near another's time.
    data = copy_of("flashattention3_h100_1500mhz", lambda rows: [{**r, "time_s": str(float(r["time_s"]) * factor)} for r in rows])
    hardware = fitted_on("flashattention3_h100_1500mhz", "h100_sxm")
    assert len(predict([data], ["roofline"], hardware=hardware).outcomes) == len(data.rows)


def test_another_gpu_may_be_fitted_on_the_rows(here):
    data = copy_of("triton_attention_a100")
    assert predict([data], ["roofline"], hardware=fitted_on("triton_attention_a100", "h100_sxm")).outcomes


@pytest.mark.parametrize("name", list_sets())
def test_no_row_of_another_set_is_taken_for_one_of_a_set(name):
    mine = {d for r in load_set(name).rows for d in digests(r)}
    assert not [r.where for other in set(list_sets()) - {name} for r in load_set(other).rows
                if digests(r)[0] in mine]


def test_a_record_is_of_rows_under_any_name_of_the_kernel(here):
    data = copy_of("triton_attention_a100")
    row = data.rows[0]
    Path("mine.yaml").write_text(
        "extends: a100_pcie_80gb\nname: mine\nfitted:\n  by: turbosim calibrate\n  gpu: A100\n  parameters: {}\n  files:\n"
        f"    other.csv: {{sha256: '{'0' * 64}', rows: ['{digests(row)[0]}']}}\n")
    hardware = {row.gpu: "mine.yaml"}
    for same in (row, replace(row, gpu=row.gpu, time_s=row.time_s * (1 + 0.5 * STEP)),
                 replace(row, kernel="eager attention"), replace(row, options=(("block_m", "64"),))):
        with pytest.raises(ConfigError, match=r"mine\.yaml was fitted on this row, in other\.csv, and would predict it"):
            predict([replace(data, rows=(same,))], ["roofline"], hardware=hardware)
    others = (replace(row, time_s=row.time_s * 1.001), replace(row, workload=replace(row.workload, batch=2)))
    assert len(predict([replace(data, rows=others)], ["roofline"], hardware=hardware).outcomes) == 2


@given(st.floats(1e-7, 1e2), st.floats(-STEP, STEP))
def test_times_within_a_step_are_the_same_and_those_beyond_two_are_not(seconds, change):
    def digest(time, shift=0):
        return digest_of("l4", {"read": 1, "written": 1}, time, shift)

    known = {digest(seconds, shift) for shift in (-1, 0, 1)}
    assert digest(seconds * (1 + 0.99 * change)) in known
    assert digest(seconds * (1 + 2.01 * STEP)) not in known
    assert digest(seconds / (1 + 2.01 * STEP)) not in known


@pytest.mark.parametrize(("name", "expected"), [
    ("a100_sxm_80gb", "a100"), ("NVIDIA A100-SXM4-80GB", "a100"), ("A100 80GB (variant unstated)", "a100"), ("rtx_3090", "rtx 3090"),
    ("NVIDIA GeForce RTX 3090", "rtx 3090"), ("L40S", "l40s"), ("L40", "l40"), ("NVIDIA H100 80GB HBM3", "h100"), ("b200", "b200"),
    ("My  Card", "my card")])
def test_cards_of_a_chip(name, expected):
    assert chip(name) == expected


@pytest.mark.parametrize("kernel", ["torch.softmax", "torch", "eager softmax"])
@pytest.mark.parametrize("line", [line for line in (directory() / "published" / "torch_softmax.csv").read_text()
                                  .splitlines() if line[0].isdigit()])
def test_rows_that_the_share_of_dirty_lines_was_derived_from_are_not_predicted(here, kernel, line):
    columns, rate = line.split(",")
    Path("softmax.csv").write_text(f"gpu,kernel,sizes,bandwidth_Bps\na100_pcie_80gb,{kernel},rows=4096:columns={columns},{rate}\n")
    with pytest.raises(ConfigError, match=(
            r"^softmax\.csv:2: .*a100_pcie_80gb\.yaml was fitted on this row, in torch_softmax\.csv, and would predict it")):
        predict([load_file(Path("softmax.csv"))], ["roofline"])
