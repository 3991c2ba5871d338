"""turbosim: a cycle-level simulator and performance model of GPUs running quantised attention.

>>> import turbosim
>>> shape = turbosim.attention_of(turbosim.get_model("llama3-8b"), turbosim.Phase.PREFILL, batch=1, seq=8192)
>>> result = turbosim.simulate("h200_sxm", shape, "flash")
>>> print(f"{result.time_s * 1e3:.2f} ms, bound by {result.bound}")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turbosim.api import build_program, lift_kernel, simulate, simulate_kernel
    from turbosim.hw import list_gpus, load_gpu, with_overrides
    from turbosim.result import Result
    from turbosim.sass.description import Description
    from turbosim.study.document import read_study
    from turbosim.study.results import load_results
    from turbosim.study.sweep import run_study
    from turbosim.tuning import Trial, tune
    from turbosim.workload import Attention, CopyBytes, Gemm, Phase, attention_of, get_model

__version__ = "0.1.0"

_WHERE = {
    "build_program": "turbosim.api", "simulate": "turbosim.api", "list_gpus": "turbosim.hw", "load_gpu": "turbosim.hw",
    "with_overrides": "turbosim.hw", "Result": "turbosim.result", "Attention": "turbosim.workload",
    "CopyBytes": "turbosim.workload", "Gemm": "turbosim.workload", "Phase": "turbosim.workload",
    "attention_of": "turbosim.workload", "get_model": "turbosim.workload", "lift_kernel": "turbosim.api",
    "simulate_kernel": "turbosim.api", "Description": "turbosim.sass.description", "Trial": "turbosim.tuning",
    "tune": "turbosim.tuning", "load_results": "turbosim.study.results", "read_study": "turbosim.study.document",
    "run_study": "turbosim.study.sweep",
}

__all__ = ["Attention", "CopyBytes", "Description", "Gemm", "Phase", "Result", "Trial", "__version__", "attention_of",
           "build_program", "get_model", "lift_kernel", "list_gpus", "load_gpu", "load_results", "read_study",
           "run_study", "simulate", "simulate_kernel", "tune", "with_overrides"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import turbosim`` stays light."""
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'turbosim' has no attribute {name!r}")
