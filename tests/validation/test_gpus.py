"""Names of GPUs: what drivers report, what vendors sell, and those that leave the card open."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.errors import ConfigError, UsageError
from turbosim.hw import list_gpus
from turbosim.validation.gpus import NAMES, cards_of, gpu_of
from turbosim.validation.sets import load_file

METRIC = "source,gpu,kernel,version,batch,heads,kv_heads,seq_q,seq_k,head_dim,causal,dtype,metric,value,notes\n"


def attention(gpu, kernel="FlashAttention-2"):
    return f's,"{gpu}",{kernel},v,4,32,32,1024,1024,64,True,fp16,tflops,40,n\n'


@pytest.mark.parametrize(("text", "expected"), [
    ("H100 80GB SXM5", "h100_sxm"), ("H100 SXM", "h100_sxm"), ("NVIDIA H100 80GB HBM3", "h100_sxm"), ("H100-PCIE-80GB", "h100_pcie"),
    ("RTX 3090", "rtx_3090"), ("GeForce RTX 4090 24GB", "rtx_4090"), ("A100-SXM4-40GB", "a100_sxm_40gb"),
    ("A100 SXM 80GB", "a100_sxm_80gb"), ("A100 80GB PCIe", "a100_pcie_80gb"), ("NVIDIA L40S", "l40s"), ("L4", "l4"),
    ("H200 SXM 141GB", "h200_sxm"), ("B200 (8 in a node)", "b200")])
def test_marketing_names(text, expected):
    assert gpu_of(text) == expected
    assert gpu_of(text, ["h100_pcie"]) == expected


@pytest.mark.parametrize("name", list_gpus())
def test_hardware_files_are_themselves(name):
    assert cards_of(name) == [name]


@pytest.mark.parametrize("text", ["V100", "V100 (self-hosted docs runner)", "Tesla V100-SXM2-16GB", "H100 NVL", "A100-PCIE-40GB",
                                  "NVIDIA L40", "RTX 4080", "RTX 3090 Ti", "Tesla V100-SXM2-32GB", "A6000", "NVIDIA RTX A6000",
                                  "GB200", "GeForce RTX 4090 Laptop GPU", "H20"])
def test_gpus_without_a_hardware_file(text):
    assert gpu_of(text) is None


@pytest.mark.parametrize(("text", "cards", "files"), [
    ("A100 80GB", "a100_sxm_80gb, a100_pcie_80gb", ("a100_sxm_80gb", "a100_pcie_80gb")),
    ("A100 80GB (variant unstated on page)", "a100_sxm_80gb, a100_pcie_80gb", ("a100_sxm_80gb", "a100_pcie_80gb")),
    ("A100 PCIe", "a100_pcie_80gb or, without a hardware file, A100 PCIe 40GB", ("a100_pcie_80gb",)),
    ("H100-class (GPU not stated)", "h100_sxm, h100_pcie or, without a hardware file, H100 NVL", ("h100_sxm", "h100_pcie"))])
def test_a_name_that_leaves_the_card_open_needs_a_choice(text, cards, files):
    options = " or ".join(f"--hw {name}" for name in files)
    with pytest.raises(UsageError, match=f"^{re.escape(f'GPU {text!r} may be {cards}; say which: {options}')}$"):
        gpu_of(text)
    assert [gpu_of(text, [name, "l4"]) for name in files] == list(files)
    assert gpu_of(text, ["l4"]) is None


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(*lines):
        Path("fig.csv").write_text(METRIC + "".join(lines))
        return Path("fig.csv")

    return write


def test_rows_of_an_open_name_are_those_of_the_chosen_card(published):
    path = published(attention("A100 80GB"), attention("RTX 3090"), attention("V100"))
    with pytest.raises(ConfigError, match=(r"^fig\.csv:2: GPU 'A100 80GB' may be a100_sxm_80gb, a100_pcie_80gb; say which: "
                                           r"--hw a100_sxm_80gb or --hw a100_pcie_80gb$")):
        load_file(path)
    data = load_file(path, ["a100_pcie_80gb"])
    assert [r.gpu for r in data.rows] == ["a100_pcie_80gb", "rtx_3090"]
    assert data.left_out() == ["fig: 1 rows left out: there is no hardware file of 'V100'"]
    other = load_file(path, ["rtx_3090"])
    assert ([r.gpu for r in other.rows], other.unwanted) == (["rtx_3090"], {"A100 80GB": 1})
    with pytest.raises(ConfigError, match=r"^fig\.csv:2: GPU 'A100 80GB' may be a100_sxm_80gb, a100_pcie_80gb; say which"):
        load_file(path, ["a100_pcie_80gb", "a100_sxm_80gb"])


def test_a_file_of_gpus_without_a_hardware_file(published):
    with pytest.raises(ConfigError, match=(
            r"^fig\.csv: has no row that can be compared: 2 rows of 'V100', of which there is no hardware file$")):
        load_file(published(attention("V100"), attention("V100")))


@pytest.mark.parametrize(("text", "rule"), [
    ("a100_sxmm", "there is no hardware file of this name (did you mean 'a100_sxm'?)"),
    ("h100_smx", "there is no hardware file of this name (did you mean 'h100_sxm'?)"),
    ("a10_sxm_80gb", "there is no hardware file of this name (did you mean 'a100_sxm_80gb'?)"),
    ("h100_nvl", "there is no hardware file of this name"), ("v100_sxm2", "there is no hardware file of this name"),
    ("A100-SMX4-80GB", "'smx4' is no word of vendors' names of cards (did you mean 'sxm4'?)"),
    ("H100 PCI", "'pci' is no word of vendors' names of cards (did you mean 'pcie'?)"),
    ("H10 SXM", "neither a name from `turbosim hw list`")])
def test_a_mistyped_name_is_no_absent_card(published, text, rule):
    with pytest.raises(ConfigError, match=rf"^fig\.csv:3: (unknown )?GPU {re.escape(repr(text))}: {re.escape(rule)}"):
        load_file(published(attention("RTX 3090"), attention(text)))


@given(st.sampled_from(list_gpus()), st.integers(0, 30), st.sampled_from("abcxyz0189"))
def test_a_hardware_file_s_name_with_a_letter_too_many_is_never_an_absent_card(name, place, letter):
    mistyped = name[:place] + letter + name[place:]
    if "_" in name and mistyped not in (*list_gpus(), *NAMES):
        try:
            cards = cards_of(mistyped)
        except UsageError:
            return
        assert set(cards) & set(list_gpus())
