"""The command as a process, with caches of the session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def turbosim(tmp_path_factory, triton_cache):
    """Return a function that runs a command; what it compiles is kept for the session."""
    caches = tmp_path_factory.mktemp("caches")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TURBOSIM_CACHE_DIR": str(caches / "turbosim"), "TRITON_CACHE_DIR": triton_cache,
                    "PYTHONPATH": str(ROOT)}

    def run(*arguments, cwd=ROOT, **more):
        return subprocess.run([sys.executable, *([] if arguments[0] == "-c" else ["-m", "turbosim"]),
                               *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd,
                              env={**environment, **more})

    return run
