"""Address forms and result sizes of single instructions."""

from __future__ import annotations

import numpy as np
import pytest

from turbosim.sass.access import accesses_of, results_of
from turbosim.sass.instruction import Control, Instruction, parse_operand, split_operands
from turbosim.sass.launch import SPACING
from turbosim.sass.plan import load
from turbosim.sass.steps import ACTIVE, ALIVE, MEMORY, RECORDS, VARIABLES, VISIT, Slots, Unknown

LANE = np.arange(32, dtype=np.uint64)


def instruction(text):
    guard = None
    if text.startswith("@"):
        guard, _, text = text.partition(" ")
        guard = parse_operand(guard[1:])
    opcode, _, operands = text.partition(" ")
    return Instruction(4, opcode, split_operands(operands), guard, Control.decode(0))


def state():
    values = [0] * VARIABLES
    values[512:1024] = [False] * 512
    values[ACTIVE] = values[ALIVE] = True
    values[RECORDS], values[MEMORY], values[VISIT] = [], {}, 3
    # R4 and R5, UR6 and UR7, P1.
    values[4], values[5], values[256 + 6], values[256 + 7], values[512 + 1] = 16 * LANE, 2, 0x100, 3, LANE < 5
    return values


@pytest.mark.parametrize(("text", "space", "nbytes", "first", "step"), [
    ("LDG.E.128 R8, [R4.64+0x20]", "global", 16, 2 << 32 | 0x20, 16),
    ("STG.E.U8 desc[UR2][R4.64+-0x10], R8", "global", 1, (2 << 32) - 16, 16),
    ("LDG.E.64.CONSTANT R8, desc[UR2][UR6.64]", "global", 8, 3 << 32 | 0x100, 0),
    ("LDG.E.S16 R8, [R4.U32+UR6+0x2]", "global", 2, (3 << 32) + 0x102, 16),
    ("LDS R8, [R4.X4+0x8]", "shared", 4, 8, 64),
    ("STS.64 [R4+UR6+0x8], R8", "shared", 8, 0x108, 16),
    ("LDS.128 R8, [UR6]", "shared", 16, 0x100, 0),
])
def test_addresses(text, space, nbytes, first, step):
    values = state()
    [recorder] = accesses_of(instruction(text))
    recorder.run(values)
    [access] = values[RECORDS]
    assert (access.index, access.visit, access.space, access.nbytes) == (4, 3, space, nbytes)
    assert access.addresses.tolist() == [(first + step * n) % 2**64 for n in range(32)]
    assert access.active.all()


def test_lanes():
    values = state()
    for text, lanes in (("@P1 STS [R4], R8", LANE < 5), ("@!P1 STS [R4], R8", LANE >= 5),
                        ("LDSM.16.M88.2 R8, [R4]", LANE < 16), ("LDSM.16.M88 R8, [R4]", LANE < 8),
                        ("LDG.E R8, [R4.64], !P1", LANE >= 5)):
        [recorder] = accesses_of(instruction(text))
        recorder.run(values)
        assert values[RECORDS].pop().active.tolist() == lanes.tolist()
    assert accesses_of(instruction("@!PT LDS RZ, [RZ]")) == []
    assert accesses_of(instruction("IMAD R4, R4, R4, R4")) == []


def test_an_asynchronous_copy_reads_under_its_predicate_and_writes_always():
    values = state()
    for recorder in reversed(accesses_of(instruction("LDGSTS.E.BYPASS.128 [R4+0x10], desc[UR2][R4.64], P1"))):
        recorder.run(values)
    shared, source = values[RECORDS]
    assert (shared.space, source.space) == ("shared", "global")
    assert shared.active.all()
    assert source.active.tolist() == (LANE < 5).tolist()


def test_what_is_not_known_is_none():
    values = state()
    [recorder] = accesses_of(instruction("@P1 STS [R4], R8"))
    values[4] = Unknown(0, "")
    recorder.run(values)
    values[512 + 1] = Unknown(0, "")
    recorder.run(values)
    known, unknown = values[RECORDS]
    assert (known.addresses, unknown.addresses, unknown.active) == (None, None, None)
    assert known.active.tolist() == (LANE < 5).tolist()


def test_loads_of_known_contents():
    values = state()
    data = np.arange(-64, 192, dtype=np.int64).tobytes()
    values[MEMORY] = {1: data}
    values[4], values[5] = 8 * LANE, SPACING >> 32
    load(Slots(), instruction("LDG.E.64 R8, [R4.64]")).run(values)
    assert (values[8] | values[9] << np.uint64(32)).view(np.int64).tolist() == list(range(-64, -32))
    load(Slots(), instruction("LDG.E.S8 R8, [R4.64]")).run(values)
    assert values[8].view(np.int64).tolist() == [2**32 + n for n in range(-64, -32)]
    load(Slots(), instruction("LDG.E.U8 R8, [R4.64]")).run(values)
    assert values[8].tolist() == [256 + n for n in range(-64, -32)]
    # One lane beyond the end is enough, unless it does not act.
    values[4] = values[4] + np.where(LANE == 31, np.uint64(len(data)), np.uint64(0))
    values[10] = 7
    load(Slots(), instruction("@P1 LDG.E R10, [R4.64]")).run(values)
    assert values[10].tolist() == [2**32 - 64 + n for n in range(5)] + [7] * 27
    load(Slots(), instruction("LDG.E R10, [R4.64]")).run(values)
    assert values[10] == Unknown(4, "")


@pytest.mark.parametrize(("text", "written"), [
    ("HMMA.16816.F32 R4, R8, R12, R4", [4, 5, 6, 7]), ("HMMA.16816.F16 R4, R8, R12, R4", [4, 5]),
    ("IMMA.16832.S8.S8.SAT R4, R8.ROW, R12.COL, R4", [4, 5, 6, 7]),
    ("HGMMA.64x32x16.F32 R24, gdesc[UR32], RZ, !UPT", list(range(24, 40))),
    ("LDSM.16.MT88.4 R4, [R8]", [4, 5, 6, 7]), ("LDTM.x32 R8, tmem[UR16]", list(range(8, 40))),
    ("LDG.E.128 R4, [R2.64]", [4, 5, 6, 7]), ("LDS.64 R4, [R2]", [4, 5]), ("DADD R4, R6, R8", [4, 5]),
    ("FSETP.GT.AND P1, PT, R4, R5, PT", [513, 767]), ("FADD R4, R5, R6", [4]), ("FADD2 R4, R6.F32x2, R8.F32x2", [4, 5]),
    ("ATOMG.E.ADD.STRONG.GPU PT, R4, [R2.64], R6", [767, 4]), ("STG.E [R2.64], R4", []), ("FADD RZ, R4, R5", []),
    ("UTCHMMA gdesc[UR6], gdesc[UR8], tmem[UR17], tmem[UR26], idesc[UR27], !UPT", [])])
def test_registers_of_results(text, written):
    assert results_of(instruction(text)) == written
