"""Values of the command line in place of those of a launch description that have defects."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_kernel_commands import A100, DESCRIPTION, own

__all__ = ["own"]


@pytest.fixture
def broken(own):
    """Return the folder of a kernel with a description whose size is none."""
    (own / "own.scale.yaml").write_text(DESCRIPTION.replace("n: 1000000", "n: 1M"))
    return own


TOLD = "error: own.scale.yaml:2:12: sizes.n: '1M' is not an expression; write 1048576: M is for the command line\n"


def test_a_value_of_the_command_line_is_taken_for_a_bad_one(broken, turbosim):
    lifting = ["lift", "own.py:scale", *A100, "-o", "own.trace"]
    done = turbosim(*lifting, cwd=broken)
    assert (done.returncode, done.stderr) == (3, TOLD)
    # Another setting is no help.
    done = turbosim(*lifting, "--set", "BLOCK=512", cwd=broken)
    assert (done.returncode, done.stderr) == (3, TOLD)
    done = turbosim(*lifting, "--set", "n=1M", cwd=broken)
    assert done.returncode == 0, done.stderr


def test_tune_takes_its_values_for_a_bad_one(broken, turbosim):
    sweep = ["tune", "own.py:scale", *A100, "--json", "--sweep"]
    done = turbosim(*sweep, "BLOCK=512,1024", cwd=broken)
    assert (done.returncode, done.stderr) == (3, TOLD)
    done = turbosim(*sweep, "n=64k,128k", cwd=broken)
    assert done.returncode == 0, done.stderr
    assert [row["settings"] for row in json.loads(done.stdout)] == [{"n": 65536}, {"n": 131072}]


def test_a_description_in_python_takes_settings_for_bad_values(broken, turbosim):
    code = "import turbosim; print(turbosim.lift_kernel('a100_sxm_80gb', 'own.py:scale', {'n': 4096}).launches[0].ctas)"
    done = turbosim("-c", code, cwd=broken)
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr
