"""Hardware: what a GPU is, and the YAML files that describe one."""

from turbosim.hw.diff import diff_gpus
from turbosim.hw.find import config_directory, list_gpus
from turbosim.hw.load import Resolved, check_file, load_gpu, load_resolved
from turbosim.hw.override import with_overrides
from turbosim.hw.reader import Leaf
from turbosim.hw.schema import json_schema
from turbosim.hw.spec import Gpu

__all__ = ["Gpu", "Leaf", "Resolved", "check_file", "config_directory", "diff_gpus", "json_schema", "list_gpus",
           "load_gpu", "load_resolved", "with_overrides"]
