"""The fields marked as recorded, not simulated, are those that lowering, the schedules and the power model do not read."""

from __future__ import annotations

import re
from random import Random
from typing import get_args

from pydantic import BaseModel

from tests.shapes import cases_of
from tests.strategies import random_program
from turbosim.engine.api import run
from turbosim.engine.lower import lower
from turbosim.hw import config_directory, load_gpu
from turbosim.hw.fields import ROOT, _field_node
from turbosim.hw.spec import Frozen, Gpu
from turbosim.schedules.registry import get_schedule
from turbosim.workload import Gemm


def models(model=Gpu):
    """Every model of the hardware tree."""
    yield model
    for info in model.model_fields.values():
        for kind in (info.annotation, *get_args(info.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models(kind)


def test_what_is_marked_is_what_nothing_reads(monkeypatch):
    nodes = {(m.__name__, name): _field_node(info) for m in models() for name, info in m.model_fields.items()}
    hopper, ampere = load_gpu("h200_sxm"), load_gpu("a100_sxm_80gb")
    read = set()

    def spy(self, name):
        read.add((type(self).__name__, name))
        return BaseModel.__getattribute__(self, name)

    monkeypatch.setattr(Frozen, "__getattribute__", spy, raising=False)
    for gpu in (hopper, ampere):
        for kernel, options, workload in cases_of(gpu):
            program = get_schedule(kernel).program(gpu, workload, options)
            for clock, launch in (("boost", "graph"), ("tensor_spec", "stream"), ("sustained", "graph")):
                lower(gpu, program, clock, launch)
    for seed in range(20):
        lower(hopper, random_program(Random(seed)))
    run(hopper, get_schedule("gemm").program(hopper, Gemm(512, 512, 512), None), clock="power")
    monkeypatch.undo()
    recorded = {field for field, node in nodes.items() if node.recorded}
    numbers = {field for field, node in nodes.items() if node.kind == "quantity"}
    assert recorded & read == set()
    assert numbers - read == recorded & numbers
    assert recorded == {("L2", "latency_near"), ("Die", "area"), ("Die", "process"), ("Die", "product")}


def test_the_readme_names_what_is_not_simulated():
    text = (config_directory() / "README.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|.*recorded, not simulated", text, re.MULTILINE)
    marked = {f"{table}.{name}" for table, node in ROOT.children for name, child in node.children if child.recorded}
    assert {field for row in rows for field in re.findall(r"`([^`]+)`", row)} == marked
