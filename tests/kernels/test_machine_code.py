"""What the attention kernels compile to, for GPUs that need not be present, and that kernels/README.md says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.report import README, TARGETS, main, tables

ROOT = Path(__file__).resolve().parents[2]
FP16 = {80: "HMMA", 89: "HMMA", 90: "HGMMA", 100: "UTCHMMA"}
INT8 = {80: "IMMA", 89: "IMMA", 90: "IGMMA", 100: "UTCIMMA"}


@pytest.fixture(scope="module", params=TARGETS)
def target(request, tmp_path_factory):
    """Compile in a process of its own: this one has the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    done = subprocess.run([sys.executable, "-m", "kernels.report", "--json", str(request.param)], cwd=ROOT, text=True,
                          env=environment, capture_output=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def per_score(row, name):
    return row["counts"][name] * 32 * row["warps"] / row["scores"]


def test_code_is_as_it_should_be(target):
    capability, rows = target
    for name, row in rows.items():
        if "naive" not in name:
            assert (row["stack"], row["spills"]) == (0, 0), name
        assert row["smem"] <= (99 if capability == 89 else 163) * 1024
    # Products run on the tensor cores, in the type and by the instructions they should.
    assert any(o.startswith(FP16[capability]) for o in rows["flash prefill"]["tensor"])
    for name, row in rows.items():
        if name.startswith("turbo"):
            wanted = "IMMA" if "decode" in name else INT8[capability]
            assert any(o.startswith(wanted) for o in row["tensor"]), name
            assert not any(o.startswith(("HMMA", "HGMMA", "UTCHMMA")) for o in row["tensor"]), name


def test_sas_avoids_slow_pipes(target):
    _, rows = target
    for name in ("exponent", "table"):
        row = rows[f"turbo prefill, {name}, magic"]
        assert (row["counts"]["F2I"], row["counts"]["I2F"]) == (0, 0)
        # What is left are the rescale factors of rows.
        assert per_score(row, "MUFU") < 0.4
    exp2 = rows["turbo prefill, exp2, magic"]
    assert 1 <= per_score(exp2, "MUFU") < 1.4
    # Eight packed instructions for two scores; the row sum and P's quantisation are the rest.
    assert 4 <= per_score(rows["turbo prefill, exponent, magic"], "half") <= 7
    naive = rows["turbo prefill, naive, magic"]
    assert per_score(naive, "F2I") == per_score(naive, "I2F") == 1
    for name in ("exponent", "table", "naive", "exp2"):
        cast, magic = rows[f"turbo prefill, {name}, cast"], rows[f"turbo prefill, {name}, magic"]
        # One I2F for a score, and d / 64 = 2 for the output; one F2I for P.
        assert per_score(cast, "I2F") - per_score(magic, "I2F") == 3
        assert per_score(cast, "F2I") - per_score(magic, "F2I") == 1


@pytest.mark.parametrize("name", ["turbo prefill, exponent, magic", "turbo decode"])
def test_p_relative_to_the_tile_spares_the_maximum_of_the_tile(target, name):
    _, rows = target
    row, tile = rows[f"{name}, row"], rows[name]
    for family in ("SHFL", "LDS/STS", "MUFU"):
        assert row["counts"][family] < tile["counts"][family]
    assert sum(row["counts"].values()) < sum(tile["counts"].values())


def test_the_readme_has_these_tables(target):
    capability, rows = target
    text = README.read_text()
    begin, end = f"<!-- sm_{capability} -->", f"<!-- end of sm_{capability} -->"
    assert text.split(begin)[1].split(end)[0].strip() == "\n".join(tables(capability, rows)).strip()


def test_an_unknown_target_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["75"])
    assert stopped.value.code == 2
    assert "error: targets are 80, 89, 90, 100, got 75" in capsys.readouterr().err
