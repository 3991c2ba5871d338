"""Hardware: what a GPU is, and the YAML files that describe one."""

from turbosim.hw.diff import diff_gpus
from turbosim.hw.load import Leaf, Resolved, config_directory, list_gpus, load_gpu, load_resolved
from turbosim.hw.override import with_overrides
from turbosim.hw.schema import json_schema
from turbosim.hw.spec import Gpu

__all__ = ["Gpu", "Leaf", "Resolved", "config_directory", "diff_gpus", "json_schema", "list_gpus", "load_gpu",
           "load_resolved", "with_overrides"]
