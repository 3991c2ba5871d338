"""What instructions cost on a GPU, and that the tables cover what the compiler writes."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from turbosim.errors import ConfigError, ProgramError, UsageError
from turbosim.hw import list_gpus, load_gpu
from turbosim.hw.names import MmaPath
from turbosim.sass.cubin import Kernel, read_cubin
from turbosim.sass.instruction import Control, Instruction, split_operands
from turbosim.sass.rules import Pipe, Rule, Rules, notes_on, unknown_opcodes
from turbosim.sass.tables import table_of


def instruction(text, stall=1):
    opcode, _, operands = text.partition(" ")
    return Instruction(0, opcode, split_operands(operands), None, Control(stall, False, None, None, (), 0))


def rule(gpu, text):
    return Rules.of(load_gpu(gpu)).rule(instruction(text))


@pytest.mark.parametrize(("gpu", "opcode", "pipe", "interval"), [
    # 64 FP32 lanes an SM, then 128.
    ("a100_sxm_80gb", "FFMA", Pipe.FMA, 2), ("rtx_3090", "FFMA", Pipe.FMA, 1), ("rtx_4090", "FADD.FTZ", Pipe.FMA, 1),
    ("h100_sxm", "FMUL", Pipe.FMA, 1), ("b200", "FFMA2", Pipe.FMA, 2), ("rtx_5090", "FFMA", Pipe.FMA, 1),
    # 64 integer multiplications; in a half of their own where the FMA pipe has two.
    ("a100_sxm_80gb", "IMAD", Pipe.FMA, 2), ("rtx_4090", "IMAD.MOV.U32", Pipe.HEAVY, 2), ("h100_sxm", "IMAD", Pipe.FMA, 2),
    ("a100_sxm_80gb", "IMAD.WIDE.U32", Pipe.FMA, 4), ("rtx_3090", "IMAD.HI.U32", Pipe.HEAVY, 4),
    ("a100_sxm_80gb", "HFMA2", Pipe.FP16, 2), ("h100_sxm", "HFMA2.RELU", Pipe.FMA, 2), ("h100_sxm", "HFMA2.MMA", Pipe.FP64, 2),
    ("a100_sxm_80gb", "HADD2.F32", Pipe.FP16, 2), ("rtx_4090", "HADD2.F32", Pipe.HEAVY, 2), ("rtx_4090", "HADD2", Pipe.FP16, 2),
    ("h100_sxm", "FMNMX", Pipe.ALU, 2), ("b200", "FMNMX3", Pipe.ALU, 2), ("a100_sxm_80gb", "LOP3.LUT", Pipe.ALU, 2),
    ("a100_sxm_80gb", "F2FP.PACK_AB", Pipe.ALU, 2), ("h100_sxm", "I2FP.F32.S32", Pipe.ALU, 2),
    # Two halves: sums, selections and comparisons at 128 an SM, logic and shifts at 64; forms of 64 bits take two.
    ("rtx_5090", "IADD", Pipe.LITE, 1), ("rtx_5090", "FMNMX", Pipe.LITE, 1), ("rtx_5090", "ISETP.GE.AND", Pipe.LITE, 1),
    ("rtx_5090", "IADD.64", Pipe.LITE, 2), ("rtx_5090", "ISETP.GE.S64.AND", Pipe.LITE, 2), ("rtx_5090", "IADD3", Pipe.ALU, 2),
    ("rtx_5090", "LOP3.LUT", Pipe.ALU, 2), ("rtx_5090", "HMNMX2", Pipe.ALU, 2), ("rtx_5090", "F2FP.F16.F32.PACK_AB", Pipe.ALU, 2),
    ("rtx_5090", "HFMA2", Pipe.FMA, 2), ("rtx_5090", "HADD2.F32", Pipe.HEAVY, 2), ("rtx_5090", "IMAD.WIDE", Pipe.HEAVY, 4),
    ("rtx_5090", "I2F.F64.S64", Pipe.FP64, 72), ("rtx_5090", "UIADD3.64", Pipe.UNIFORM, 1),
    # 16 an SM.
    ("a100_sxm_80gb", "MUFU.EX2", Pipe.XU, 8), ("h100_sxm", "MUFU.RCP", Pipe.XU, 8), ("a100_sxm_80gb", "I2F.S8", Pipe.XU, 8),
    ("h200_2x_sfu", "MUFU.EX2", Pipe.XU, 4),
    ("a100_sxm_80gb", "DMUL", Pipe.FP64, 4), ("rtx_4090", "DADD", Pipe.FP64, 64), ("h100_sxm", "DFMA", Pipe.FP64, 2),
    # 2048 multiply-adds at 256 a scheduler; GeForce parts halve FP32 accumulation.
    ("a100_sxm_80gb", "HMMA.16816.F32", Pipe.TENSOR, 8), ("a100_sxm_80gb", "HMMA.16816.F32.BF16", Pipe.TENSOR, 8),
    ("a100_sxm_80gb", "HMMA.16816.F16", Pipe.TENSOR, 8), ("a100_sxm_80gb", "HMMA.1688.F32.TF32", Pipe.TENSOR, 8),
    ("a100_sxm_80gb", "IMMA.16832.S8.S8.SAT", Pipe.TENSOR, 8), ("a100_sxm_80gb", "IMMA.16864.S4.S4", Pipe.TENSOR, 8),
    ("rtx_4090", "HMMA.16816.F32", Pipe.TENSOR, 32), ("rtx_4090", "HMMA.16816.F16", Pipe.TENSOR, 16),
    ("l40s", "HMMA.16816.F32", Pipe.TENSOR, 16), ("rtx_4090", "QMMA.16832.F32.E4M3.E4M3", Pipe.TENSOR, 32),
    ("rtx_5090", "HMMA.16816.F32", Pipe.TENSOR, 32), ("rtx_5090", "IMMA.16832.S8.S8.SAT", Pipe.TENSOR, 16),
    ("rtx_5090", "QMMA.16832.F32.E4M3.E4M3", Pipe.TENSOR, 32), ("rtx_5090", "QMMA.16832.F16.E4M3.E4M3", Pipe.TENSOR, 16),
    ("rtx_5090", "QMMA.SF.16832.F32.E4M3.E4M3.E8", Pipe.TENSOR, 16), ("rtx_5090", "OMMA.SF.16864.F32.E2M1.E2M1.E8", Pipe.TENSOR, 16),
    # 2:4 sparse products do half of their shape's multiply-adds.
    ("a100_sxm_80gb", "HMMA.SP.16832.F32", Pipe.TENSOR, 8), ("a100_sxm_80gb", "IMMA.SP.16864.S8.S8", Pipe.TENSOR, 8),
    ("h100_sxm", "HGMMA.SP.64x256x32.F32", Pipe.TENSOR, 128),
    # 62.9 % of the peak, 6.35 cycles.
    ("h100_sxm", "HMMA.16816.F32", Pipe.TENSOR, 6),
    # 64 x 256 x 16 by four schedulers that do 512 a clock each.
    ("h100_sxm", "HGMMA.64x256x16.F32", Pipe.TENSOR, 128), ("h100_sxm", "HGMMA.64x128x8.F32.TF32", Pipe.TENSOR, 64),
    ("h100_sxm", "IGMMA.64x64x32.S8.S8", Pipe.TENSOR, 32), ("b200", "UTCHMMA", Pipe.TENSOR, 128),
    ("h100_sxm", "UMOV", Pipe.UNIFORM, 1), ("a100_sxm_80gb", "UMOV", Pipe.UNIFORM, 2), ("h100_sxm", "BRA", Pipe.CONTROL, 2),
])
def test_intervals(gpu, opcode, pipe, interval):
    found = rule(gpu, opcode)
    assert (found.pipe, found.interval, found.known) == (pipe, interval, True)


@pytest.mark.parametrize(("gpu", "text", "interval", "latency", "read", "shared"), [
    ("a100_sxm_80gb", "LDS R1, [R2]", 4, 24, 9, 1), ("a100_sxm_80gb", "LDS.128 R4, [R2]", 8, 26, 9, 4),
    ("a100_sxm_80gb", "LDS.U8 R1, [R2]", 4, 24, 9, 1), ("a100_sxm_80gb", "LDS.128 R4, [UR4]", 8, 25, 9, 4),
    ("h100_sxm", "LDS.64 R4, [R2]", 4, 29, 9, 2), ("rtx_4090", "LDS R4, [R2]", 4, 24, 9, 2),
    ("a100_sxm_80gb", "STS.64 [R2+0x8], R4", 4, 14, 14, 2), ("a100_sxm_80gb", "STS.128 [R2], R4", 8, 18, 18, 4),
    ("a100_sxm_80gb", "LDSM.16.M88.4 R4, [R2]", 8, 26, 9, 4), ("a100_sxm_80gb", "LDSM.16.MT88.2 R4, [R2]", 4, 24, 9, 2),
    ("a100_sxm_80gb", "LDSM.16.M88 R4, [R2]", 4, 24, 9, 1), ("h100_sxm", "STSM.16.M88.4 [R2], R4", 8, 18, 18, 4),
    ("a100_sxm_80gb", "LDG.E.128.CONSTANT R4, [R2.64]", 8, 38, 11, 4), ("a100_sxm_80gb", "LDG.E R4, [UR4]", 4, 29, 9, 1),
    ("h100_sxm", "LDG.E.64 R4, desc[UR6][R2.64]", 4, 34, 11, 2), ("a100_sxm_80gb", "STG.E.128 [R2.64], R4", 8, 20, 20, 4),
    # Half a load or shuffle a cycle and SM; every scheduler lets one go in two.
    ("rtx_5090", "LDS R1, [R2]", 2, 24, 9, 2), ("rtx_5090", "LDS.128 R4, [R2]", 8, 26, 9, 4),
    ("rtx_5090", "SHFL.BFLY PT, R1, R2, 0x1, 0x1f", 2, 23, 9, 2),
    # Past the registers: no more than its address takes.
    ("a100_sxm_80gb", "LDGSTS.E.BYPASS.LTC128B.128 [R4], [R2.64]", 4, 39, 13, 4),
    ("a100_sxm_80gb", "SHFL.BFLY PT, R1, R2, 0x1, 0x1f", 4, 23, 9, 1), ("a100_sxm_80gb", "BAR.SYNC.DEFER_BLOCKING 0x0", 4, 25, 9, 0),
    ("h100_sxm", "LDC R1, c[0x0][0x210]", 8, 26, 10, 0), ("h100_sxm", "LDC R1, c[0x0][R2+0x210]", 8, 29, 29, 0),
    ("b200", "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R2", 2, 30, 9, 0),
    # 32 lanes of 64 columns of 4 bytes.
    ("b200", "STTM.x64 tmem[UR4], R4", 64, 64, 9, 0), ("b200", "LDTM.16dp32bit_t0_t15.x32 R4, tmem[UR4]", 16, 179, 9, 0),
])
def test_the_way_to_the_shared_part(gpu, text, interval, latency, read, shared):
    assert rule(gpu, text) == Rule(Pipe.MIO, interval, latency, read, shared, True, "")


def test_asynchronous_products_add_the_latency_of_their_path():
    path = load_gpu("h100_sxm").tensor[MmaPath.WGMMA]
    assert rule("h100_sxm", "HGMMA.64x256x16.F32").latency == 128 + path.latency
    assert rule("a100_sxm_80gb", "HMMA.16816.F32").latency == 25


@pytest.mark.parametrize(("gpu", "text", "like", "note"), [
    ("a100_sxm_80gb", "XYZ.F32 R1, R2", "IADD3 R1, R2, R3, R4", "XYZ.F32 is not in sm_80.yaml: taken as integer arithmetic, IADD3"),
    ("h100_sxm", "UXYZ UR4, UR5", "UIADD3 UR4, UR5, UR6, URZ", "UXYZ is not in sm_90.yaml: taken as uniform arithmetic, UIADD3"),
    ("rtx_4090", "LDX.128 R4, [R2]", "LDG.128 R4, [R2]", "LDX.128 is not in sm_89.yaml: taken as a load, LDG"),
    ("b200", "STX.64 [R2], R4", "STG.64 [R2], R4", "STX.64 is not in sm_100.yaml: taken as a store, STG"),
])
def test_unknown_opcodes_are_noted_and_cost_what_their_kind_does(gpu, text, like, note):
    found, other = rule(gpu, text), rule(gpu, like)
    assert (found.known, found.note) == (False, note)
    assert (found.pipe, found.interval, found.latency, found.read, found.shared) == (
        other.pipe, other.interval, other.latency, other.read, other.shared)


@pytest.mark.parametrize(("gpu", "text", "omits"), [
    ("a100_sxm_80gb", "NANOSLEEP 0x64", "the time that it sleeps"),
    ("a100_sxm_80gb", "MEMBAR.SC.GPU", "the wait until other threads see the memory accesses before it"),
    ("a100_sxm_80gb", "CCTL.E.PF2 [R2]", "what it brings into a cache or drops from it"),
    ("a100_sxm_80gb", "RED.E.ADD.STRONG.GPU [R2.64], R4",
     "that those at one address take turns, and that L2 keeps what they write"),
    ("h100_sxm", "USETMAXREG.TRY_ALLOC.CTAPOOL UP0, 0xe8", "the wait for registers that other warps give up"),
])
def test_what_is_left_out_of_the_time_is_noted_by_name(gpu, text, omits):
    inst = instruction(text)
    kernel = Kernel("k", 80, (inst, instruction("IADD3 R1, R2, R3, R4")), 32, 0, 0, (), 0, None)
    assert notes_on(kernel, load_gpu(gpu)) == [f"{inst.opcode} costs an issue slot and its latency: {omits} is left out"]


@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_only_control_flow_has_no_latency_without_saying_what_that_leaves_out(arch):
    free = {name for name, entry in table_of(arch).entries.items() if entry["latency"] == 0 and not entry["omits"]}
    assert free <= {"BPT", "BRA", "BREAK", "BRX", "BSSY", "BSYNC", "CALL", "EXIT", "JMP", "KILL", "RET", "WARPSYNC",
                    "YIELD", "NOP", "DEPBAR", "UVIRTCOUNT", "WARPGROUP", "WARPGROUPSET"}, free


def test_types_that_the_gpu_file_has_no_rate_of():
    found = rule("h100_sxm", "IMMA.16864.S4.S4")
    assert (found.known, found.note) == (False, "h100_sxm has no rate of int4 on mma.sync: that of fp16 is taken")
    gpu = load_gpu("h100_sxm")
    without = gpu.model_copy(update={"tensor": {MmaPath.MMA_SYNC: gpu.tensor[MmaPath.MMA_SYNC]}})
    message = "h100_sxm: tensor.wgmma: missing, but HGMMA.64x64x16.F32 needs its rates"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Rules.of(without).rule(instruction("HGMMA.64x64x16.F32"))


def test_a_matrix_product_without_a_rate_is_refused():
    message = "DMMA.884 is a matrix product that sm_80.yaml has no rate of, and no other instruction can stand for"
    with pytest.raises(ProgramError, match=f"^{re.escape(message)}$"):
        rule("a100_sxm_80gb", "DMMA.884 R4, R8, R10, R4")


def test_the_opcodes_of_a_kernel_without_a_rule():
    code = tuple(instruction(t) for t in ("FFMA R1, R2, R3, R4", "XYZ R1", "UVW.A UR4", "XYZ R2"))
    kernel = Kernel("k", 80, code, 8, 0, 0, (), 0, None)
    assert unknown_opcodes(kernel, load_gpu("a100_sxm_80gb")) == {"UVW.A": 1, "XYZ": 2}
    assert notes_on(kernel, load_gpu("a100_sxm_80gb")) == [
        "UVW.A is not in sm_80.yaml: taken as uniform arithmetic, UIADD3",
        "XYZ is not in sm_80.yaml: taken as integer arithmetic, IADD3"]


def test_every_gpu_has_a_table():
    for name in list_gpus():
        assert Rules.of(load_gpu(name)).rule(instruction("FFMA")).known


def test_other_architectures_are_refused():
    gpu = load_gpu("a100_sxm_80gb").model_copy(update={"arch": "sm_70"})
    message = "no instruction table of 'sm_70': not among sm_80, sm_86, sm_89, sm_90, sm_100, sm_120"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        Rules.of(gpu)


ROOT = Path(__file__).parents[2]
TIMED = (Pipe.FMA, Pipe.HEAVY, Pipe.ALU, Pipe.LITE, Pipe.FP16, Pipe.XU, Pipe.UNIFORM)


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "name"), [
    (80, "a100_sxm_80gb"), (89, "rtx_4090"), (90, "h100_sxm"), (100, "b200"), (120, "rtx_5090")])
def test_compiled_kernels(capability, name, tmp_path):
    """Every opcode has a rule, and the compiler leaves between neighbours of one opcode what the rule says."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_DEFAULT_FP_FUSION": "1"}
    environment.pop("TRITON_INTERPRET", None)
    subprocess.run([sys.executable, "-m", "tests.sass.compile_kernels", str(capability), str(tmp_path)], cwd=ROOT,
                   env=environment, check=True)
    gpu = load_gpu(name)
    rules = Rules.of(gpu)
    cubins = sorted(tmp_path.glob("*.cubin"))
    assert len(cubins) == 32
    stalls: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    costs = {}
    for path in cubins:
        kernel = read_cubin(path.read_bytes())
        assert unknown_opcodes(kernel, gpu) == {}
        for one, other in zip(kernel.instructions, kernel.instructions[1:], strict=False):
            if one.opcode == other.opcode:
                stalls[one.opcode][one.control.stall] += 1
                costs[one.opcode] = rules.rule(one)
    often = {o: s for o, s in stalls.items() if s.total() >= 5 and costs[o].pipe in TIMED}
    assert {"FMUL", "FMNMX", "HFMA2", "F2I.TRUNC.NTZ", "MUFU.EX2", "PRMT"} <= often.keys()
    # On compute capability 12.0 the XU takes two instructions and holds the third back itself.
    left = {o: 1 if capability == 120 and costs[o].pipe is Pipe.XU else costs[o].interval for o in often}
    assert {o: min(s) for o, s in often.items()} == left


def test_the_tables_give_sources():
    for arch in ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"):
        resolved = table_of(arch)
        numbers = [leaf for leaf in resolved.leaves.values() if not isinstance(leaf.value, str)]
        assert len(numbers) > 100
        assert [leaf.where for leaf in numbers if not leaf.sources] == []
        # Intervals that nothing settles are those of rare opcodes that cost an issue slot or two.
        assert {leaf.path[1] for leaf in numbers if leaf.path[-1] == "interval" and leaf.sources == ("assumed",)} <= {
            "DEPBAR", "ISETP.U64", "UFMUL", "UVIRTCOUNT", "USETMAXREG", "VOTEU", "WARPGROUP", "WARPGROUPSET"}
