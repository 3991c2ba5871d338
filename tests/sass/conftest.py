"""Kernels compiled once a session, all targets at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from turbosim.sass.cubin import Kernel, read_cubin

ROOT = Path(__file__).resolve().parents[2]
TARGETS = (80, 89, 90, 100, 120)


@dataclass(frozen=True)
class Compiled:
    kernel: Kernel
    parameters: list[str]
    warps: int
    smem_bytes: int


@pytest.fixture(scope="session")
def compiled(tmp_path_factory, triton_cache):
    """Return a function of case and capability that gives the kernel; see compile_cubins.py."""
    # Compilation wants a process without Triton's interpreter.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    running: dict[int, tuple[Any, Path]] = {}
    for capability in TARGETS:
        folder = tmp_path_factory.mktemp(f"sm_{capability}")
        environment["TRITON_CACHE_DIR"] = triton_cache
        running[capability] = subprocess.Popen(
            [sys.executable, "-m", "tests.sass.compile_cubins", str(capability), str(folder)], cwd=ROOT,
            env=environment, stderr=subprocess.PIPE, text=True), folder
    said: dict[int, str] = {}
    read: dict[tuple[str, int], Compiled] = {}

    def kernel(case: str, capability: int) -> Compiled:
        process, folder = running[capability]
        if process.returncode is None:
            _, said[capability] = process.communicate(timeout=280)
        assert process.returncode == 0, said[capability]
        if (case, capability) not in read:
            about = json.loads((folder / f"{case}.json").read_text())
            read[case, capability] = Compiled(read_cubin((folder / f"{case}.cubin").read_bytes()), **about)
        return read[case, capability]

    yield kernel
    for process, _ in running.values():
        process.kill()
        process.communicate()
