"""What ``lift``, ``simulate``, ``sass`` and ``tune`` say of bytes that a CTA loads again."""

from __future__ import annotations

import pytest

from tests.cli.test_kernel_commands import A100
from tests.sass.test_reuse import LAUNCH, NORM

REST = ("of the bytes that a CTA loads it has loaded before, from 'X': on hardware L1 serves those that it still holds, here L2 "
        "or memory all of them")


@pytest.fixture
def norm(tmp_path):
    (tmp_path / "norm.py").write_text(NORM)
    (tmp_path / "norm.norm.yaml").write_text(LAUNCH)
    return tmp_path


def notes(done):
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("note: ")]


def test_every_command_tells_what_is_loaded_again(norm, turbosim):
    told = [f"note: kernel 'norm': about 40% {REST}"]
    assert notes(turbosim("lift", "norm.py:norm", *A100, "-o", "norm.trace", cwd=norm)) == told
    assert notes(turbosim("simulate", *A100, "--trace", "norm.trace", cwd=norm)) == told
    assert notes(turbosim("sass", "norm.py:norm", *A100, cwd=norm)) == told


def test_configurations_that_load_different_shares_again_are_told_once(norm, turbosim):
    done = turbosim("tune", "norm.py:norm", *A100, "--sweep", "PASSES=2,3", "--jobs", "1", cwd=norm)
    assert notes(done) == [f"note: kernel 'norm': some {REST}"]
    one = turbosim("tune", "norm.py:norm", *A100, "--sweep", "PASSES=1", "--set", "columns=512", "--jobs", "1", cwd=norm)
    assert notes(one) == []
