"""Study files: what they become, and every defect with its exact place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.study.studies import SMALL, study_of
from turbosim.errors import ConfigError
from turbosim.hw.fields import node_at
from turbosim.study.axis import Kind
from turbosim.study.document import read_study
from turbosim.study.saved import hardware_text, open_study, save_study

HEAD = "hw: h200_sxm\nkernel: flash\nworkload: {model: llama3-8b, seq: 8k}\n"


def axes_of(tmp_path, text):
    return {a.name: a for a in study_of(tmp_path, text).axes}


@pytest.mark.parametrize(("line", "values"), [
    ("hbm.bandwidth: [2, 4.8, 8 TB/s]", (2e12, 4.8e12, 8e12)),
    ("hbm.bandwidth: [2 TB/s, 4800 GB/s, 8 TB/s]", (2e12, 4.8e12, 8e12)),
    ("hbm.bandwidth: [2.0e+12 B/s, 8.0e+12 B/s]", (2e12, 8e12)),
    ("hbm.bandwidth: {from: 2, to: 8 TB/s, steps: 3, scale: log}", (2e12, 4e12, 8e12)),
    ("pipes.sfu.rate: [16, 32, 64]", (16.0, 32.0, 64.0)),
    ("sm.count: {from: 100, to: 132, steps: 3}", (100, 116, 132)),
    ("tensor.mma.sync.rates.fp16: [512, 1024]", (512.0, 1024.0)),
    ("copy_engine.tma: [true, false]", (True, False)),
    ("batch: [1, 4]", (1, 4)),
    ("batch: {from: 1, to: 64, steps: 7, scale: log}", (1, 2, 4, 8, 16, 32, 64)),
    ("set.block_m: [64, 128]", (64, 128)),
    ("clock: [boost, sustained]", ("boost", "sustained")),
    ("clock: [1.4, 1.8 GHz]", (1.4e9, 1.8e9)),
    ("l2: [cold, warm]", ("cold", "warm")),
    ("phase: [prefill, decode]", ("prefill", "decode")),
])
def test_values_of_an_axis(tmp_path, line, values):
    name = line.partition(":")[0]
    axis = axes_of(tmp_path, f"{HEAD}axes:\n  {line}\n")[name]
    assert axis.values == pytest.approx(values) if isinstance(values[0], float) else axis.values == values
    assert [type(v) for v in axis.values] == [type(v) for v in values]
    assert (axis.line, axis.column) == (5, 3)


def test_lists_anywhere_are_axes(tmp_path):
    study = study_of(tmp_path, "hw: [h100_sxm, h200_sxm]\nkernel: [flash, turbo:bits=2]\n"
                               "workload: {model: llama3-8b, seq: [1k, 8k], batch: 2}\noptions: {clock: [boost]}\n"
                               "set: {pieces: [1, 16]}\naxes: {hbm.bandwidth: [4 TB/s]}\n")
    assert [(a.name, a.kind) for a in study.axes] == [
        ("hw", Kind.HW), ("kernel", Kind.KERNEL), ("seq", Kind.WORKLOAD), ("clock", Kind.RUN),
        ("set.pieces", Kind.SET), ("hbm.bandwidth", Kind.HARDWARE)]
    tasks = list(study.tasks())
    assert len(tasks) == len({t.point for t in tasks}) == len({t.key for t in tasks}) == 16
    assert tasks[-1].axes == {"hw": "h200_sxm", "kernel": "turbo:bits=2", "seq": 8192, "clock": "boost",
                              "set.pieces": 16, "hbm.bandwidth": 4e12}
    assert (tasks[-1].kernel, tasks[-1].settings) == ("turbo", {"bits": "2", "pieces": 16})
    assert study.gpu_of(tasks[-1].axes).hbm.bandwidth == 4e12
    assert tasks[-1].workload.batch == 2


DEFECTS = {
    "yaml": ("hw: [h200_sxm\n", "2:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    "no table": ("- a\n", "1:1: a study is a table of fields, got a list"),
    "empty": ("", "1:1: a study is a table of fields, got nothing"),
    "no hw": ("kernel: flash\n", "1:1: hw: missing; write for example hw: h200_sxm"),
    "no kernel": ("hw: h200_sxm\n", "1:1: kernel: missing; write for example kernel: flash"),
    "unknown key": (HEAD + "axis: {}\n", "4:1: axis: unknown key (did you mean 'axes'?); there are title, hw, kernel, "
                    "workload, options, set, axes, sampling, constraints, metrics, baseline, pictures"),
    "unknown gpu": ("hw: h200_sxmm\nkernel: flash\n", "1:5: hw: unknown GPU 'h200_sxmm': not among a100_2x_hbm, "),
    "second gpu": ("hw: [h100_sxm, h300]\nkernel: flash\n", "1:16: hw: unknown GPU 'h300': not among "),
    "unknown kernel": ("hw: h200_sxm\nkernel: flush\n", "2:9: kernel: unknown kernel 'flush': not among flash, flash3, "
                       "sage, turbo, kivi, gear, gemm, copy (did you mean 'flash'?)"),
    **{f"compiled {text}": (
        f"hw: h200_sxm\nkernel: [flash, '{text}']\n", f"2:17: kernel: '{name}' is a compiled kernel, and studies take "
        "schedules: flash, flash3, sage, turbo, kivi, gear, gemm, copy; `turbosim tune "
        f"{name} --sweep NAME=V,V` tries its configurations") for text, name in (
            ("kernels/flash.py:fwd:BLOCK_M=128", "kernels/flash.py:fwd"), ("kernels/flash.py:fwd", "kernels/flash.py:fwd"),
            ("flash.py", "flash.py"), ("kernels/flash.fwd.yaml:BLOCK_M=128", "kernels/flash.fwd.yaml"),
            ("a/fwd.cubin", "a/fwd.cubin"))},
    "kernel option": (HEAD + "axes: {}\n".replace("axes: {}", "metrics: {a: 1}").replace("a: 1", "a: '1'") +
                      "title: x\nset: {block: 64}\n",
                      "6:7: set.block: kernel 'flash' has no option 'block': it has path, block_m, block_n, warps, "),
    "option of the kernel": ("hw: h200_sxm\nkernel: [flash, 'turbo:bit=2']\n", "2:17: kernel: kernel 'turbo' has no "
                             "option 'bit': it has bits, "),
    "value of an option": (HEAD + "axes: {set.block_m: [64, big]}\n",
                           "4:26: axes.set.block_m: kernel 'flash': option block_m must be a whole number, got 'big'"),
    "unknown model": ("hw: h200_sxm\nkernel: flash\nworkload: {model: llama3-9b, seq: 8k}\n",
                      "3:19: workload.model: unknown model 'llama3-9b': not among "),
    "workload field": ("hw: h200_sxm\nkernel: flash\nworkload: {model: llama3-8b, sek: 8k}\n",
                       "3:30: workload.sek: unknown field (did you mean 'seq_k'?); there are model, phase, batch, "),
    "size": ("hw: h200_sxm\nkernel: flash\nworkload: {model: llama3-8b, seq: 8x}\n",
             "3:35: workload.seq: seq: '8x' is not a size; write for example 8192 or 8k"),
    "run option": (HEAD + "options: {clocks: boost}\n",
                   "4:11: options.clocks: unknown option (did you mean 'clock'?); there are clock, launch, l2, engine, "
                   "and kernel options stand under set"),
    "run value": (HEAD + "options: {clock: bost}\n", "4:18: options.clock: must be one of boost, tensor_spec, "
                  "sustained, power or a frequency, got 'bost' (did you mean 'boost'?)"),
    "unknown field": (HEAD + "axes:\n  sm.sfu_per_clk: [16, 32, 64]\n",
                      "5:3: axes.sm.sfu_per_clk: unknown hardware field (did you mean 'pipes.sfu.rate'?); turbosim hw "
                      "show GPU --resolved lists all"),
    "unknown bandwidth": (HEAD + "axes:\n  hbm.bandwith: [2 TB/s]\n",
                          "5:3: axes.hbm.bandwith: unknown hardware field (did you mean 'hbm.bandwidth'?); turbosim hw "
                          "show GPU --resolved lists all"),
    "table": (HEAD + "axes:\n  pipes.sfu: [16]\n",
              "5:3: axes.pipes.sfu: hardware field 'pipes.sfu' is a table: name one of rate, unit, latency"),
    "nothing simulated": (HEAD + "axes:\n  title: [a, b]\n",
                          "5:3: axes.title: cannot vary: nothing that is simulated depends on it"),
    "wrong unit": (HEAD + "axes:\n  hbm.bandwidth: [2, 4.8, 8 TB]\n",
                   "5:27: axes.hbm.bandwidth: '8 TB': unit 'TB' does not measure B/s (did you mean 'TB/s'?)"),
    "no such unit": (HEAD + "axes:\n  hbm.bandwidth: [2, 8 furlong]\n",
                     "5:22: axes.hbm.bandwidth: '8 furlong': unit 'furlong' does not measure B/s; write for example '4.8 TB/s'"),
    "base unit left out": (HEAD + "axes:\n  hbm.bandwidth: [4.8e+12]\n",
                           "5:19: axes.hbm.bandwidth: '4.8e+12' has no unit; write for example '4.8e+12 B/s'"),
    "one without unit": (HEAD + "axes:\n  hbm.bandwidth: [2 TB/s, 4.8]\n",
                         "5:27: axes.hbm.bandwidth: '4.8' has no unit; write for example '4.8 TB/s'"),
    "no unit at all": (HEAD + "axes:\n  hbm.bandwidth: [4.8]\n",
                       "5:19: axes.hbm.bandwidth: '4.8' has no unit; write for example '4.8 TB/s'"),
    "unit of a count": (HEAD + "axes:\n  sm.count: [132, 264 clk]\n",
                        "5:19: axes.sm.count: '264 clk': takes no unit, got 'clk'; write 264"),
    "negative": (HEAD + "axes:\n  pipes.sfu.rate: [16, -1]\n",
                 "5:24: axes.pipes.sfu.rate: must be greater than 0, got -1"),
    "impossible": (HEAD + "axes:\n  sm.smem_per_cta: [227, 300 KiB]\n",
                   "5:26: axes.sm.smem_per_cta: no point can have it: must be at most sm.smem_capacity (228 KiB), got "
                   "300 KiB"),
    "impossible on every GPU": (HEAD.replace("h200_sxm", "[h100_sxm, h200_sxm]") + "axes:\n  l2.latency_far: [1 s]\n",
                                "5:20: axes.l2.latency_far: no point can have it: must be at most hbm.latency (373 ns), "
                                "got 1 s: a miss cannot be faster than a hit"),
    "impossible end": (HEAD + "axes:\n  sm.smem_capacity: {from: 64 KiB, to: 256 KiB, steps: 4}\n",
                       "5:28: axes.sm.smem_capacity.from: no point can have it: must be at least sm.smem_per_cta (227 KiB)"
                       ", got 64 KiB"),
    "impossible with all of another axis": (
        HEAD + "axes:\n  sm.smem_per_cta: [200, 300 KiB]\n  sm.smem_capacity: [228, 250 KiB]\n",
        "5:26: axes.sm.smem_per_cta: no point can have it: must be at most sm.smem_capacity (250 KiB), got 300 KiB"),
    "part of a table": (HEAD + "axes:\n  pipes.sas.rate: [16]\n", "5:20: axes.pipes.sas.rate: no point can have it: "
                        "h200_sxm has no pipes.sas.unit, which goes with it"),
    "no axis": (HEAD + "axes:\n  seq_len: [1]\n",
                "5:3: axes.seq_len: unknown hardware field (did you mean 'seq_q'?); turbosim hw "),
    "axis with its table": (HEAD + "axes:\n  workload.batch: [1, 2]\n",
                            "5:3: axes.workload.batch: fields of the workload vary under their own names; write 'batch'"),
    "misspelt axis with its table": (
        HEAD + "axes:\n  options.lunch: [graph]\n", "5:3: axes.options.lunch: options of a run vary under their own names; "
        "write one of clock, launch, l2, engine (did you mean 'launch'?)"),
    **{f"option as {name}": (
        HEAD + f"axes:\n  {name}: [64]\n", f"5:3: axes.{name}: unknown hardware field, and options of kernels vary as "
        "set.NAME; write 'set.block_m'") for name in ("block_m", "kernel.block_m", "options.block_m", "flash.block_m")},
    "axis twice": (HEAD + "axes:\n  batch: [1]\n  batch: [2]\n", "6:3: not valid YAML: found duplicate key \"batch\" with value "
                   "\"[2]\" (original value: \"[1]\"); drop one"),
    "list of axes": (HEAD + "axes: [batch]\n", "4:7: axes: must be a table, for example {name: value}, got a list"),
    "missing hardware": ("hw: mine.yaml\nkernel: flash\n", "1:5: hw: no file 'mine.yaml', neither beside the study nor in the "
                         "working directory; write the path of a hardware file, or the name of a GPU, for example h200_sxm"),
    "scalar axis": (HEAD + "axes:\n  batch: 4\n",
                    "5:10: axes.batch: must be a list of values or a range {from, to, steps}, got 4"),
    "empty axis": (HEAD + "axes:\n  batch: []\n", "5:10: axes.batch: has no values; give at least one"),
    "twice": (HEAD + "axes:\n  batch: [1, 2, 1]\n", "5:17: axes.batch: 1 is listed twice; drop one"),
    "the same": (HEAD + "axes:\n  hbm.bandwidth: [4.8 TB/s, 4800 GB/s]\n",
                 "5:29: axes.hbm.bandwidth: 4800 GB/s is the same as 4.8 TB/s; drop one"),
    "given twice": (HEAD + "axes:\n  seq: [1k, 2k]\n",
                    "5:3: axes.seq: seq is given twice, first as workload.seq; drop one"),
    "kernel twice": (HEAD + "axes:\n  kernel: [flash, turbo]\n",
                     "5:3: axes.kernel: kernel is given twice, first as kernel; drop one"),
    "range without to": (HEAD + "axes:\n  batch: {from: 1, steps: 3}\n", "5:3: axes.batch: to is missing"),
    "range key for another": (HEAD + "axes:\n  batch: {from: 1, too: 3, steps: 3}\n",
                              "5:20: axes.batch.too: unknown key (did you mean 'to'?); there are from, to, steps, scale"),
    "nothing": (HEAD + "axes:\n  batch:\n",
                "5:3: axes.batch: must be a list of values or a range {from, to, steps}, got nothing"),
    "list in a list": (HEAD + "axes:\n  sm.count: [[100], 2]\n",
                       "5:14: axes.sm.count: must be a single value, got a list"),
    "fraction of an option": (HEAD + "set: {block_m: 64.5}\n", "4:16: set.block_m: must be a whole number, true, false or a "
                              "text, got 64.5"),
    "tag": ("hw: h200_sxm\nkernel: !mine flash\n",
            "2:9: kernel: must be a kernel, with options after colons if any, got a value with the tag !mine"),
    "range key": (HEAD + "axes:\n  batch: {from: 1, to: 3, step: 3}\n",
                  "5:27: axes.batch.step: unknown key (did you mean 'steps'?); there are from, to, steps, scale"),
    "range backwards": (HEAD + "axes:\n  batch: {from: 4, to: 2, steps: 3}\n",
                        "5:24: axes.batch.to: must be above from, got 2 and 4"),
    "range scale": (HEAD + "axes:\n  batch: {from: 1, to: 2, steps: 2, scale: lin}\n",
                    "5:44: axes.batch.scale: must be linear or log, got 'lin' (did you mean 'linear'?)"),
    "range steps": (HEAD + "axes:\n  batch: {from: 1, to: 2, steps: 1}\n",
                    "5:34: axes.batch.steps: must be 2 to 1,000,000, got 1"),
    "range of names": (HEAD + "axes:\n  copy_engine.tma: {from: false, to: true, steps: 2}\n",
                       "5:27: axes.copy_engine.tma.from: must be a number, got False"),
    "range without steps": (HEAD + "axes:\n  batch: {from: 1, to: 2}\n",
                            "5:3: axes.batch: needs steps: only random and latin-hypercube draw from a range"),
    "sampling": (HEAD + "sampling: gird\n", "4:11: sampling: must be one of grid, zip, random, latin-hypercube, got "
                 "'gird' (did you mean 'grid'?)"),
    "no points": (HEAD + "sampling: {method: random}\n", "4:20: sampling.method: random needs points, 1 to 1,000,000, "
                  "for example {method: random, points: 200}, got 0"),
    "seed of a grid": (HEAD + "sampling: {method: grid, seed: 1}\n",
                       "4:26: sampling.seed: does not apply to grid"),
    "zip": (HEAD + "axes: {batch: [1, 2], hbm.bandwidth: [1, 2, 3 TB/s]}\nsampling: zip\n",
            "5:11: sampling: zip needs as many values on every axis, got batch 2, hbm.bandwidth 3"),
    "cross": (HEAD + "axes: {batch: [1, 2]}\nsampling: {method: random, points: 3, cross: [bach]}\n",
              "5:47: sampling.cross: 'bach' is no axis (did you mean 'batch'?)"),
    "too many": (HEAD + "axes:\n  batch: {from: 1, to: 1000, steps: 1000}\n  sm.count: {from: 1, to: 2000, steps: 2000}\n",
                 "1:1: sampling: the axes have 2,000,000 points, at most 1,000,000 are taken; draw some of them: "
                 "{method: latin-hypercube, points: 1000}"),
    "expression": (HEAD + "constraints: ['batch <=']\n", "4:15: constraints: 'batch <=' is not an expression"),
    "its unit": (HEAD + "constraints:\n  - hbm.bandwidth <= 8 TBs\n",
                 "5:5: constraints: 'hbm.bandwidth <= 8 TBs' is not an expression: '8 TBs' has no unit that is known"),
    "its name": (HEAD + "constraints: ['batch * sek <= 1M']\n",
                 "4:15: constraints: 'batch * sek <= 1M': unknown name 'sek' (did you mean 'seq_k'?)"),
    "its table": (HEAD + "constraints: ['workload.seq < 3']\n",
                  "4:15: constraints: 'workload.seq < 3': unknown name 'workload.seq' (did you mean 'seq'?)"),
    "its option": (HEAD + "constraints: ['block_m < 3']\n",
                   "4:15: constraints: 'block_m < 3': unknown name 'block_m' (did you mean 'set.block_m'?)"),
    "constraint outside a list": (HEAD + "constraints: batch < 3\n",
                                  "4:14: constraints: must be a list, for example ['batch < 3'], got 'batch < 3'"),
    "a number without unit": (HEAD + "constraints: ['batch < 3', 'hbm.bandwidth < 3']\n", "4:28: constraints: 'hbm.bandwidth "
                              "< 3': '3' has no unit, and hbm.bandwidth is in B/s; write for example '3 TB/s'"),
    "a metric's number without unit": (
        HEAD + "axes: {batch: [1, 2]}\nbaseline: {batch: 1}\nmetrics: {big: baseline.l2.capacity >= 50M}\n", "6:16: metrics.big: "
        "'baseline.l2.capacity >= 50M': '50M' has no unit, and baseline.l2.capacity is in B; write for example '50 MiB'"),
    "a clock without unit": (HEAD + "axes: {clock: [1.4, 1.8 GHz]}\nconstraints: [clock < 1.5]\n", "5:15: constraints: 'clock "
                             "< 1.5': '1.5' has no unit, and clock is in Hz; write for example '1.5 GHz'"),
    "no value": (HEAD + "metrics: {s: 1/0}\n",
                 "4:14: metrics.s: '1/0' never has a value: division by zero; correct it"),
    "a part without value": (HEAD + "constraints: ['batch < 3 and seq > log(0)']\n", "4:15: constraints: 'batch < 3 and seq > "
                             "log(0)': a part that reads no name never has a value: math domain error; correct it"),
    "its call": (HEAD + "metrics: {a: '__import__(1)'}\n", "4:14: metrics.a: '__import__(1)' calls '__import__': "
                 "functions are min, max, abs, sqrt, exp, log, log2, ceil, floor"),
    "a subscript": (HEAD + "metrics: {a: 'time_s[0]'}\n", "4:14: metrics.a: 'time_s[0]': Subscript is not allowed; "),
    "operands": (HEAD + "constraints: ['batch > 1', 'kernel > 2']\n",
                 "4:28: constraints: 'kernel > 2' has no value: '>' not supported between instances of 'str' and 'int'"),
    "operands of a metric": (HEAD + "metrics: {a: time_s * 2, b: a + bound}\n",
                             "4:29: metrics.b: 'a + bound' has no value: a text is not a number"),
    "its quantity": (HEAD + "constraints: ['sm.smem_capacity < 300 KiB and 8 TB >= hbm.bandwidth']\n",
                     "4:15: constraints: 'sm.smem_capacity < 300 KiB and 8 TB >= hbm.bandwidth': '8 TB': unit 'TB' does not "
                     "measure B/s, as hbm.bandwidth does (did you mean 'TB/s'?)"),
    "a metric's quantity": (HEAD + "metrics: {fast: time_s < 3 GHz}\n", "4:17: metrics.fast: 'time_s < 3 GHz': '3 GHz': unit "
                            "'GHz' does not measure s, as time_s does; write for example '650 ns'"),
    "no condition": (HEAD + "constraints: [batch]\n", "4:15: constraints: 'batch' is 1 at the first point, and a constraint "
                     "is true or false; compare it, for example with <="),
    "an outcome": (HEAD + "constraints: [time_s < 1 ms]\n", "4:15: constraints: 'time_s < 1 ms': time_s is what a simulation "
                   "finds, and constraints choose the points before; `turbosim results` has a condition of SQL for it"),
    "metric's name": (HEAD + "metrics: {time_s: '1'}\n",
                      "4:11: metrics.time_s: is the name of a column already; choose another"),
    "metric's shape": (HEAD + "metrics: {a-b: '1'}\n",
                       "4:11: metrics.a-b: is a name of letters, digits and underscores"),
    "metric's order": (HEAD + "metrics: {a: b, b: '1'}\n", "4:14: metrics.a: 'b': unknown name 'b'"),
    "metric is a number": (HEAD + "metrics: {a: 1}\n", "4:14: metrics.a: must be a text, for example '1', got 1"),
    "no baseline": (HEAD + "metrics: {a: baseline.time_s / time_s}\n",
                    "4:14: metrics.a: reads a baseline, and the study has none; write for example baseline: {kernel: "),
    "baseline of no axis": (HEAD + "axes: {sm.count: [1]}\nbaseline: {hw: h200_sxm}\n",
                            "5:12: baseline.hw: is no axis; there are sm.count"),
    "baseline's value": (HEAD + "axes: {batch: [1, 2]}\nbaseline: {batch: 3}\n",
                         "5:19: baseline.batch: 3 is not among the values of the axis"),
    "baseline drawn": (HEAD + "axes: {batch: [1, 2]}\nsampling: {method: random, points: 2}\nbaseline: {batch: 1}\n",
                       "6:12: baseline.batch: is drawn with the others, so that few points have a baseline; add it to "
                       "sampling.cross: {method: latin-hypercube, points: 100, cross: [batch]}"),
}


@pytest.mark.parametrize("case", DEFECTS)
def test_defects(tmp_path, case):
    text, message = DEFECTS[case]
    with pytest.raises(ConfigError) as error:
        study_of(tmp_path, text)
    assert len(str(error.value).splitlines()) == 1
    found = str(error.value).removeprefix(f"{tmp_path}/study.yaml:")
    assert found == message or (message.endswith((" ", "kernel: ")) and found.startswith(message))


@pytest.mark.parametrize("axes", [
    "  sm.smem_per_cta: [227, 300 KiB]\n  sm.smem_capacity: [228, 350 KiB]\n",
    "  hw: [h200_sxm, h200_sas]\n  pipes.sas.rate: [16]\n",
    "  sm.smem_capacity: {from: 228 KiB, to: 256 KiB, steps: 4}\n"])
def test_values_that_some_points_can_have_are_accepted(tmp_path, axes):
    text = HEAD.replace("hw: h200_sxm\n", "") if "hw" in axes else HEAD
    assert len(list(study_of(tmp_path, f"{text}axes:\n{axes}").tasks())) in (2, 4)


@pytest.mark.parametrize("text", [
    "constraints: [energy.hbm < 5 pJ/B]\nmetrics: {low: energy.hbm < 3 J, bare: energy.hbm < 3, short: time_s < 0.001}\n",
    "constraints: ['sm.smem_bandwidth > 64 and pipes.sfu.rate >= 16 and area_mm2 < 900 and nbytes > 1']\n",
    "axes: {clock: [boost, sustained]}\nconstraints: ['clock == \"boost\"']\n"])
def test_comparisons_that_are_accepted(tmp_path, text):
    """Columns that share their name with a hardware field are the field in constraints alone."""
    assert len(study_of(tmp_path, HEAD + text).constraints) == 1


def test_defects_are_told_together_in_the_order_of_the_file(tmp_path):
    text = "hw: h200\nkernel: flsh\nworkload: {modl: llama3-8b}\naxes:\n  batch: [1, 1]\n  nothing.here: [1]\n"
    with pytest.raises(ConfigError) as error:
        study_of(tmp_path, text)
    places = [re.match(r".*study\.yaml:(\d+:\d+): (\S+):", line)[2] for line in str(error.value).splitlines()]
    assert places == ["hw", "kernel", "workload.modl", "axes.batch", "axes.nothing.here"]


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match=re.escape("none.yaml: cannot be read: No such file or directory")):
        read_study(tmp_path / "none.yaml")


def test_hardware_files_beside_the_study_and_their_defects(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: h200_sxm\nname: mine\nsources: {x: guess}\n"
                                        "hbm:\n  bandwidth: {value: 6 TB/s, source: x}\n")
    study = study_of(tmp_path, SMALL.replace("h200_sxm", "mine.yaml"))
    assert study.hardware["mine"].gpu.hbm.bandwidth == 6e12
    (tmp_path / "mine.yaml").write_text("extends: h200_sxm\nname: mine\nhbm:\n  bandwidth: 6 TB/s\n")
    with pytest.raises(ConfigError) as error:
        study_of(tmp_path, SMALL.replace("h200_sxm", "mine.yaml"))
    first, second = str(error.value).splitlines()
    assert first.endswith("study.yaml:2:5: hw: hardware file 'mine.yaml' is not acceptable")
    assert "mine.yaml:4:3: hbm.bandwidth: a number needs a source" in second


@pytest.mark.parametrize("name", ["h200_sxm", "a100_sxm_80gb", "b200", "h200_sas", "rtx_4090"])
def test_a_saved_study_is_the_same(tmp_path, name):
    study = study_of(tmp_path, SMALL.replace("h200_sxm", name))
    (tmp_path / "kept").mkdir()
    save_study(study, tmp_path / "kept")
    again = open_study(tmp_path / "kept")
    assert again.digest == study.digest
    assert again.hardware[name].gpu == study.hardware[name].gpu
    assert {p: (x.value, x.sources) for p, x in again.hardware[name].leaves.items()} == {
        p: (x.value, x.sources) for p, x in study.hardware[name].leaves.items()}
    assert hardware_text(again.hardware[name]) == (tmp_path / "kept" / "hardware" / f"{name}.yaml").read_text()


def test_keys_follow_from_what_is_simulated_alone(tmp_path):
    one = next(study_of(tmp_path, HEAD + "axes: {set.block_m: [128]}\n").tasks())
    default = next(study_of(tmp_path, HEAD + "axes: {hbm.bandwidth: [4800 GB/s]}\ntitle: other\n").tasks())
    assert one.point != default.point
    assert one.key != default.key
    plain = next(study_of(tmp_path, HEAD).tasks())
    assert plain.key == default.key
    assert node_at(("die", "area")).recorded
    recorded = list(study_of(tmp_path, HEAD + "axes: {die.area: [800, 900 mm2]}\n").tasks())
    assert {t.key for t in recorded} == {plain.key}
    assert len({t.point for t in recorded}) == 2
    for change in ("options: {clock: boost}\n", "options: {l2: warm}\n", "set: {pieces: 4}\n",
                   "axes: {batch: [2]}\n", "axes: {l2.bandwidth: [9 TB/s]}\n"):
        assert next(study_of(tmp_path, HEAD + change).tasks()).key != plain.key


def test_the_study_in_the_readme_is_acceptable(tmp_path):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    study = study_of(tmp_path, readme.partition("## Design points at scale")[2].split("```yaml\n")[1].split("```")[0])
    allowed = sum(study.allows(axes) for axes in study.candidates())
    assert 0 < allowed < sum(1 for _ in study.candidates()) == 3 * 2 * 4 * 3 * 3 * 2


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "analysis" / "studies").glob("*.yaml")),
                         ids=lambda path: path.stem)
def test_worked_studies_are_acceptable(path):
    assert all(not task.refused for task in read_study(path).tasks())
