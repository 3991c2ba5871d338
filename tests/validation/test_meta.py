"""Everything wrong in a meta file is told at its place in it, with the rule, the value and the likely fix."""

import re
from pathlib import Path

import pytest

from turbosim.errors import ConfigError
from turbosim.schedules.registry import SCHEDULES
from turbosim.validation.meta import read_meta
from turbosim.validation.sets import directory

HEAD = "title: t\nsource: s\nlicence: none\ntrust: A\nl2: cold\nmethod: events\n"
OFTEN = "there are title, source, licence, trust, gpu_assumed, clock, l2, method, protocol, event_overhead, flops, kernels"
FILES = [*sorted((directory() / "measurements").glob("*/*/meta.yaml")), *sorted((directory() / "measurements" / "layouts").glob("*.yaml"))]
CLOCK = "must be 'not locked', a frequency or 'at most ' and one"


@pytest.fixture
def refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(model="{schedule: flash}", more=""):
        Path("meta.yaml").write_text(f"{HEAD}{more}kernels:\n  mine: {model}\n")
        with pytest.raises(ConfigError) as caught:
            read_meta(Path("meta.yaml"))
        return str(caught.value)

    return read


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_those_that_come_with_turbosim_are_good(path):
    assert read_meta(path).kernels


@pytest.mark.parametrize(("model", "message"), [
    ("{schedule: flsh}", "8:10: kernels.mine.schedule: unknown schedule 'flsh': not among flash, flash3, sage, turbo, kivi, gear, gemm, "
                         "copy (did you mean 'flash'?)"),
    ("{schedule: flash, sweep: {block_m: []}}", "8:35: kernels.mine.sweep.block_m: is an empty list; give at least one value"),
    ("{schedule: flash, cases: [{when: {head_dim: 64}, sweep: {block_m: []}}]}",
     "8:66: kernels.mine.cases.0.sweep.block_m: is an empty list; give at least one value"),
    ("{schedule: flash, cases: [{when: {head_dim: '64'}, options: {block_m: 64}}]}",
     "8:43: kernels.mine.cases.0.when.head_dim: must be a whole number, got '64'; write for example 64"),
    ("{schedule: flash, cases: [{when: {version: 2024}, options: {block_m: 64}}]}",
     "8:43: kernels.mine.cases.0.when.version: must be a text, as in the rows, got 2024; write for example '2024'"),
    ("{schedule: flash, cases: [{when: {causal: [true, 1]}, options: {block_m: 64}}]}",
     "8:43: kernels.mine.cases.0.when.causal: must be true or false, got 1; write for example true"),
    ("{schedule: flash, cases: [{when: {phase: prefil}, options: {block_m: 64}}]}",
     "8:43: kernels.mine.cases.0.when.phase: must be prefill or decode, got 'prefil' (did you mean 'prefill'?)"),
    ("{schedule: flash, cases: [{when: {}, options: {block_m: 64}}]}",
     "8:36: kernels.mine.cases.0.when: is empty; name a property of rows, version, phase, group, head_dim, causal, or leave the case out"),
    ("{schedule: flash, cases: [{when: {phase: []}, options: {block_m: 64}}]}",
     "8:43: kernels.mine.cases.0.when.phase: is an empty list; give at least one value"),
    ("{schedule: flash, only: {blck_m: prefill}}",
     "8:34: kernels.mine.only.blck_m: kernel 'flash' has no option 'blck_m' (did you mean 'block_m'?)"),
    ("{schedule: flash, triton: {kernel: 'kernels/none.py:fwd'}}",
     "8:36: kernels.mine.triton.kernel: must be a launch description or FILE.py:FUNCTION, got 'kernels/none.py:fwd'; there is no file "
     "kernels/none.py in the folder of the checkout"),
    ("{schedule: flash, triton: {kernel: 'kernels/flash.py:fwd', tilings: []}}",
     "8:68: kernels.mine.triton.tilings: is empty; give at least one, or leave it out"),
    ("{schedule: flash, options: {block_m: sixty}}",
     "8:37: kernels.mine.options.block_m: kernel 'flash': option block_m must be a whole number, got 'sixty'"),
    ("{schedule: flash, options: {block_m: 17}}",
     "8:37: kernels.mine.options.block_m: kernel 'flash': option block_m must be a positive multiple of 16, got 17"),
    ("{schedule: gemm, tilings: [{block_m: 64}, {block_n: 17}]}",
     "8:52: kernels.mine.tilings.1.block_n: kernel 'gemm': option block_n must be a positive multiple of 16, got 17"),
    ("{schedule: gemm, sweep: {dtype: [int8, int9]}}",
     "8:34: kernels.mine.sweep.dtype: kernel 'gemm': option dtype must be one of fp16, bf16, fp8, int8, int4, got 'int9' (did you mean "
     "'int8'?)"),
    ("{schedule: turbo, own: {fast: {'yes': {sass: true}}}}",
     "8:48: kernels.mine.own.fast.yes.sass: kernel 'turbo' has no option 'sass' (did you mean 'sas'?)"),
    ("{schedul: flash}", "8:10: kernels.mine.schedul: unknown key (did you mean 'schedule'?); there are schedule, options, cases, sweep, "
                         "tilings, own, only, triton, l2, why, note"),
    ("{schedule: flash, cases: [{when: {head_dim: 64}, option: {block_m: 64}}]}",
     "8:58: kernels.mine.cases.0.option: unknown key (did you mean 'options'?); there are when, options, sweep"),
    ("{schedule: flash, triton: {kernl: x}}", "8:36: kernels.mine.triton.kernl: unknown key (did you mean 'kernel'?); there are kernel, "
                                              "tilings, cases, own"),
])
def test_a_defect_of_a_kernel(refused, model, message):
    assert message in [line.removeprefix("meta.yaml:") for line in refused(model).splitlines()]


@pytest.mark.parametrize(("more", "message"), [
    ("clock: 1410\n", f"7:1: clock: {CLOCK}: 1410 has no unit; write for example '1410 MHz'"),
    ("clock: at most 1.41\n", f"7:1: clock: {CLOCK}: 1.41 has no unit; write for example '1.41 GHz'"),
    ("clock: -1 GHz\n", "7:1: clock: must be an SM clock, 100 MHz to 5 GHz, got '-1 GHz'; correct the number or its unit"),
    ("clock: 1.41 MHz\n", "7:1: clock: must be an SM clock, 100 MHz to 5 GHz, got '1.41 MHz'; correct the number or its unit"),
    ("clock: [1]\n", f"7:1: clock: {CLOCK}, got [1]"),
    ("event_overhead: {value: -2 us, source: s}\n",
     "7:18: event_overhead.value: must be a time of 0 to 1 ms, got '-2 us'; events add a few us"),
    ("event_overhead: {value: 2 s, source: s}\n",
     "7:18: event_overhead.value: must be a time of 0 to 1 ms, got '2 s'; events add a few us"),
    ("clok: 1 GHz\n", f"7:1: clok: unknown key (did you mean 'clock'?); {OFTEN}"),
    ("flops: dens\n", "7:1: flops: must be one of causal halved, unmasked, dense, got 'dens' (did you mean 'dense'?)"),
])
def test_a_defect_of_the_protocol(refused, more, message):
    assert refused(more=more) == f"meta.yaml:{message}"


def test_all_defects_are_told_at_once(refused):
    places = re.findall(r"(?m)^meta\.yaml:8:(\d+): ", refused("{schedule: flash, options: {block_m: 17, block_n: 18, warp: 4}}"))
    assert places == ["37", "50", "63"]


@pytest.mark.parametrize("value", [16, 48, 64, 128, 256])
@pytest.mark.parametrize("schedule", [name for name, s in SCHEDULES.items() if name != "flash3" and "block_m" in s.options.__dataclass_fields__])
def test_tilings_that_some_kernel_can_have_are_taken(tmp_path, schedule, value):
    path = tmp_path / "meta.yaml"
    path.write_text(f"{HEAD}kernels:\n  mine: {{schedule: {schedule}, options: {{block_m: {value}}}}}\n")
    assert read_meta(path).kernels["mine"].options == {"block_m": value}
