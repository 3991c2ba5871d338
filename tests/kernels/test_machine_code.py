"""What the attention kernels compile to, for GPUs that need not be present, and that kernels/README.md says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.measure.suites import MICRO, get_suite
from kernels.report import README, TARGETS, main, tables
from kernels.report_micro import CASES, loop_cell

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
FP16 = {80: "HMMA", 89: "HMMA", 90: "HGMMA", 100: "UTCHMMA", 120: "HMMA"}
INT8 = {80: "IMMA", 89: "IMMA", 90: "IGMMA", 100: "UTCIMMA", 120: "IMMA"}
SPILLED = {(120, "turbo prefill, naive, magic, 128 rows")}
"""Its chain of selects runs into the limit of 255 registers there even with eight warps."""
# Half a minute a target, and many times that on a machine with other work; the compiling process has a limit of its own.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=TARGETS)
def target(request, triton_cache):
    """Compile in a process of its own: this one has the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = triton_cache
    done = subprocess.run([sys.executable, "-m", "kernels.report", "--json", str(request.param)], cwd=ROOT, text=True,
                          env=environment, capture_output=True, check=False, timeout=560)
    assert done.returncode == 0, done.stderr
    return request.param, *json.loads(done.stdout)


def per_score(row, name):
    return row["counts"][name] * 32 * row["warps"] / row["scores"]


def test_code_is_as_it_should_be(target):
    capability, rows, micro = target
    for name, row in [*rows.items(), *micro.items()]:
        assert (row["stack"] > 0, row["spills"] > 0) == ((capability, name) in SPILLED,) * 2, name
        assert row["smem"] <= (99 if capability in (89, 120) else 163) * 1024
    # Products run on the tensor cores, in the type and by the instructions they should.
    assert any(o.startswith(FP16[capability]) for o in rows["flash prefill"]["tensor"])
    for name, row in rows.items():
        if name.startswith("turbo"):
            wanted = "IMMA" if "decode" in name else INT8[capability]
            assert any(o.startswith(wanted) for o in row["tensor"]), name
            assert not any(o.startswith(("HMMA", "HGMMA", "UTCHMMA")) for o in row["tensor"]), name


def test_sas_avoids_slow_pipes(target):
    capability, rows, _ = target
    for name in ("exponent", "table"):
        row = rows[f"turbo prefill, {name}, magic"]
        assert {row["counts"][c] for c in ("F2I", "I2F", "I2FP", "F2F")} == {0}
        # What is left are the rescale factors of rows.
        assert per_score(row, "MUFU") < 0.4
    exp2 = rows["turbo prefill, exp2, magic"]
    assert 1 <= per_score(exp2, "MUFU") < 1.4
    # Eight packed instructions for two scores; the row sum and P's quantisation are the rest.
    assert 4 <= per_score(rows["turbo prefill, exponent, magic"], "half") <= 7
    naive = rows["turbo prefill, naive, magic, 128 rows"]
    # The whole part becomes FP16, which is I2F everywhere.
    assert (per_score(naive, "F2I"), per_score(naive, "I2F"), per_score(naive, "I2FP")) == (1, 1, 0)
    for name in ("exponent", "table", "naive", "exp2"):
        tile = ", 128 rows" if name == "naive" else ""
        cast, magic = rows[f"turbo prefill, {name}, cast{tile}"], rows[f"turbo prefill, {name}, magic{tile}"]
        # One conversion for a score, and d / 64 = 2 for the output; one F2I for P.
        to_float = ("I2F", "I2FP") if capability == 80 else ("I2FP", "I2F")
        assert [per_score(cast, c) - per_score(magic, c) for c in to_float] == [3, 0]
        assert per_score(cast, "F2I") - per_score(magic, "F2I") == 1


def test_decode_converts_nothing_and_copies_the_cache_in_wide_pieces(target):
    _, rows, _ = target
    for name in ("turbo decode", "turbo decode, d 64", "turbo decode, table", "turbo decode, exp2", "turbo decode, row",
                 "turbo decode, element, magic"):
        assert {rows[name]["counts"][c] for c in ("F2I", "I2F", "I2FP", "F2F")} == {0}
        assert any(o.startswith("LDGSTS") and "128" in o for o in rows[name]["loads"]), name
        # Steps of V, which act on its tiles with "element", are a byte for each of a thread's channels.
        assert any(o.startswith("LDG.E.U8") for o in rows[name]["loads"]) == ("element" in name), name
    # Beside the rescale factors of rows, P's scale and its inverse.
    assert 1 <= per_score(rows["turbo decode, exp2"], "MUFU") - per_score(rows["turbo decode"], "MUFU") < 1.2
    naive = rows["turbo decode, naive"]
    assert (per_score(naive, "F2I"), per_score(naive, "I2F"), per_score(naive, "I2FP")) == (1, 1, 0)
    cast = rows["turbo decode, fold, cast"]
    # Of a tile of 16 rows and 64 keys: scores, the output of 128 channels, and steps, zero points, weights.
    assert 3 <= per_score(cast, "I2F") + per_score(cast, "I2FP") <= 6
    assert per_score(cast, "F2I") == 1


def test_causal_and_narrow_kernels_are_no_slower_a_score(target):
    """The mask is in a loop of its own, and half the channels need no more instructions."""
    _, rows, _ = target

    def instructions(name):
        return sum(per_score(rows[name], c) for c in rows[name]["counts"])

    for name, slack in (("flash prefill", 0.05), ("turbo prefill, exponent, magic", 0.05)):
        assert instructions(f"{name}, causal") < (1 + slack) * instructions(name)
        assert instructions(f"{name}, d 64") < instructions(name)
    assert instructions("turbo decode, d 64") < instructions("turbo decode")


def test_micro_benchmarks_are_what_they_say(target):
    """The opcodes that the table names are there, and in chains little else; tests/kernels/test_micro_sass.py has more."""
    capability, _, micro = target
    cells = {name: loop_cell(row) for name, row in micro.items()}
    for name, what in {"exp2": "64 MUFU.EX2", "fma_fp16": "32 HFMA2", "f2i": "64 F2I.TRUNC.NTZ, 64 LOP3.LUT",
                       "i2f": "64 I2F" if capability == 80 else "64 I2FP.F32.S32",
                       "f2h": "64 F2FP.PACK_AB" if capability == 80 else "64 F2FP.F16.F32.PACK_AB"}.items():
        assert re.fullmatch(rf"{re.escape(what)}, \d others", cells[name].replace("HFMA2.MMA", "HFMA2")), cells[name]
    assert cells["copy"].startswith("no loop: 8 LDG.E.128, 8 STG.E.128, ")
    assert cells["empty"] == "no loop: 3 others"
    for row in (micro["mma_int8, 128 x 128 x 64"], micro["mma_fp16, 16 x 64 x 64"]):
        assert any("MMA" in opcode for opcode in row["counts"])


def test_the_table_has_every_tile_that_is_measured():
    measured = {(c.kernel, *(dict(c.sizes)[n] for n in "mnk"), dict(c.options)["warps"])
                for c in get_suite("micro").cases if c.kernel.startswith("mma")}
    assert measured == {(kernel, *(sizes[n] for n in "mnk"), options["warps"])
                        for kernel, sizes, options, _ in CASES.values() if kernel.startswith("mma")}
    assert {kernel for kernel, *_ in CASES.values()} == set(MICRO)


@pytest.mark.parametrize("name", ["turbo prefill, exponent, magic", "turbo decode"])
def test_p_relative_to_the_tile_spares_the_maximum_of_the_tile(target, name):
    _, rows, _ = target
    row, tile = rows[f"{name}, row"], rows[name]
    for family in ("SHFL", "LDS/STS", "MUFU"):
        assert row["counts"][family] < tile["counts"][family]
    assert sum(row["counts"].values()) < sum(tile["counts"].values())


def test_the_readme_has_these_tables(target):
    capability, rows, micro = target
    text = README.read_text()
    begin, end = f"<!-- sm_{capability} -->", f"<!-- end of sm_{capability} -->"
    assert text.split(begin)[1].split(end)[0].strip() == "\n".join(tables(capability, rows, micro)).strip()


def test_interpreted_kernels_are_not_reported(capsys):
    """Nothing would be captured, and every launch would run."""
    with pytest.raises(SystemExit) as stopped:
        main(["80"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(
        "error: TRITON_INTERPRET is set, and interpreted kernels are not compiled; unset it\n")


def test_an_unknown_target_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["75"])
    assert stopped.value.code == 2
    assert "error: targets are 80, 89, 90, 100, 120, got 75" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "message"), [
    ("triton", "the kernels need triton, which cannot be imported (no triton); install it, for example with pip install "
               "triton"),
    ("pydantic", "the GPUs' limits are read with pydantic, which cannot be imported; install turbosim's dependencies with "
                 "pip install .")])
def test_what_the_tables_need(tmp_path, name, message):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name}', name={name!r})\n")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-m", "kernels.report", "80"], cwd=ROOT, text=True, capture_output=True,
                          env={**environment, "PYTHONPATH": str(tmp_path)}, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"error: {message}\n")
