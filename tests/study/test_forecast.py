"""The forecast of a sweep: what is timed, and from what others are predicted."""

from __future__ import annotations

import pytest

from tests.study.studies import study_of
from turbosim.study import forecast
from turbosim.study.sweep import plan

MIXED = """\
hw: h200_sxm
kernel: [flash, turbo]
workload: {model: llama3-8b, phase: [decode, prefill], batch: 1, seq: [256, 512, 1k, 2k, 4k]}
"""


@pytest.fixture
def tasks(tmp_path):
    return plan(study_of(tmp_path, MIXED))[0]


def kind(task):
    return task.workload.phase, task.kernel


def test_every_kernel_and_phase_is_timed(tmp_path, tasks):
    timed = forecast._timed(study_of(tmp_path, MIXED), tasks)
    assert len(timed) == forecast.MOST_TIMED
    for of in {kind(task) for task in tasks}:
        efforts = sorted(task.effort for task, _ in timed if kind(task) == of)
        every = sorted(task.effort for task in tasks if kind(task) == of)
        assert efforts == [every[0], every[2], every[4]]


def test_what_is_timed_is_predicted_by_itself_and_others_by_their_kind(tasks):
    # A FLOP of every kind takes a time of its own.
    price = {of: 10.0 ** i for i, of in enumerate(sorted({kind(task) for task in tasks}, key=str))}
    timed = [(task, price[kind(task)] * task.effort) for task in tasks if task.workload.seq_k in (256, 4096)]
    for task in tasks:
        assert forecast._predicted(task, timed) == pytest.approx(price[kind(task)] * task.effort)


def test_another_kernel_of_the_phase_is_nearer_than_another_phase(tasks):
    timed = [(task, 1e-9 * task.effort if task.workload.phase.value == "prefill" else 1.0) for task in tasks
             if (task.workload.phase.value == "prefill") == (task.kernel == "turbo")]
    for task in tasks:
        if task.workload.phase.value == "prefill":
            assert forecast._predicted(task, timed) == pytest.approx(1e-9 * task.effort)
