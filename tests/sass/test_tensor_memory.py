"""Products in tensor memory: tiles from descriptors, measured intervals, mbarriers of commits and waits, what is refused."""

from __future__ import annotations

import re

import pytest

from turbosim.errors import ProgramError
from turbosim.hw import load_gpu
from turbosim.sass import oracle, replay
from turbosim.sass.build import check_units, code_of, kind_of, sm_model
from turbosim.sass.cubin import Kernel
from turbosim.sass.evaluate import walk
from turbosim.sass.flow import blocks_of, loops_of
from turbosim.sass.instruction import Control, Instruction, parse_operand, split_operands
from turbosim.sass.launch import Launch
from turbosim.sass.machine import CtaClass, Kind
from turbosim.sass.mbarrier import mbarriers
from turbosim.sass.rules import Rules
from turbosim.sass.tensor_memory import Event, allocated, operand_bytes, specified, tile_of

B200 = load_gpu("b200")
WAIT = "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR8], R4"
END = ", which the issue-level model does not have; use a schedule (turbosim simulate --kernel)"


def kernel(*lines: str, targets: dict[int, int] | None = None) -> Kernel:
    """Return a kernel of these instructions, with a stall of one cycle each; *targets* of branches by index."""
    instructions = []
    for index, text in enumerate(lines):
        guard = None
        if text.startswith("@"):
            name, _, text = text[1:].partition(" ")
            guard = parse_operand(name)
        opcode, _, operands = text.partition(" ")
        # A wait releases the scoreboard that what comes after it waits for.
        control = Control(1, False, 5 if "TRYWAIT" in opcode else None, None, (5,) if opcode == "EXIT" else (), 0)
        instructions.append(Instruction(index, opcode, split_operands(operands), guard, control, (targets or {}).get(index)))
    return Kernel("k", 100, tuple(instructions), 32, 0, 0, (), 0x380, 32)


def product(a: str = "gdesc[UR4]", opcode: str = "UTCHMMA") -> str:
    return f"{opcode} {a}, gdesc[UR10], tmem[UR13], tmem[UR26], idesc[UR27], !UPT"


def descriptor(m: int, n: int, kind: int = 0) -> int:
    """Return the word of an instruction descriptor, by the table of the PTX ISA."""
    return m // 16 << 24 | n // 8 << 17 | kind << 7 | 1 << 4


@pytest.mark.parametrize(("opcode", "word", "tile"), [
    # As the compiler wrote it for a tile of 128 x 64, and with B transposed.
    ("UTCHMMA", 0x8100010, "UTCHMMA.128x64x16"), ("UTCHMMA", 0x8110010, "UTCHMMA.128x64x16"),
    ("UTCHMMA", descriptor(64, 256, 1), "UTCHMMA.BF16.64x256x16"), ("UTCHMMA", descriptor(128, 32, 2), "UTCHMMA.TF32.128x32x8"),
    ("UTCIMMA", 0x82004A0, "UTCIMMA.128x128x32"), ("UTCQMMA", descriptor(128, 96), "UTCQMMA.128x96x32")])
def test_tiles_are_those_of_descriptors(opcode, word, tile):
    found = specified(kernel(product(opcode=opcode), "EXIT"), [Event(0, (word,))])
    assert [i.opcode for i in found.instructions] == [tile, "EXIT"]
    assert specified(found, [Event(0, (word,))]) is found
    assert tile_of(tile) == tuple(int(n) for n in tile.split(".")[-1].split("x"))


@pytest.mark.parametrize(("opcode", "a", "nbytes"), [
    ("UTCHMMA.128x64x16", "gdesc[UR4]", (128 + 64) * 16 * 2), ("UTCHMMA.128x64x16", "tmem[UR4]", 64 * 16 * 2),
    ("UTCIMMA.128x128x32", "gdesc[UR4]", 256 * 32), ("UTCHMMA.TF32.128x64x8", "tmem[UR4]", 64 * 8 * 4)])
def test_operands_in_shared_memory(opcode, a, nbytes):
    assert operand_bytes(kernel(product(a, opcode)).instructions[0]) == nbytes


@pytest.mark.parametrize(("m", "n", "a", "interval", "latency"), [
    (128, 64, "gdesc[UR4]", 48, 168), (128, 128, "gdesc[UR4]", 64, 200), (128, 256, "gdesc[UR4]", 128, 264),
    (128, 64, "tmem[UR4]", 32, 136),
    # Half the rate: no faster than 128 rows.
    (64, 256, "gdesc[UR4]", 128, 264)])
@pytest.mark.parametrize("run", [oracle.replay, replay.replay], ids=["oracle", "compiled"])
def test_products_are_as_fast_as_measured(m, n, a, interval, latency, run):
    """Intervals and latencies of FP16 products that were measured on B200 [hardware facts B]."""
    def cycles(count: int) -> int:
        code = kernel(f"UMOV UR27, {descriptor(m, n):#x}", "UMOV UR8, 0x400", "MOV R4, RZ", *[product(a)] * count,
                      "UTCBAR [UR8], URZ", WAIT, "EXIT")
        found = walk(code, Launch((1, 1, 1), 1, ()), (0, 0, 0), 0)
        table = code_of(code, Rules.of(B200), [found])
        return run(table, [CtaClass((found.blocks,))], [0], 1, sm_model(B200, 1.6e9)).cycles

    assert cycles(9) - cycles(8) == interval
    # The last instructions of the kernel and the beginning of the CTA are in it.
    assert cycles(1) - B200.launch.cta == pytest.approx(latency, rel=0.3)


def test_commits_and_waits_have_the_number_of_their_mbarrier():
    """Stages that take turns at one instruction are one mbarrier; a setting begins its phases anew."""
    code = kernel("UTCBAR [UR8], URZ", WAIT, "UTCBAR [UR9], URZ", WAIT.replace("UR8", "UR9"), "SYNCS.EXCH.64 URZ, [UR9], UR4",
                  product(), "EXIT")
    low, high = 0, 1 << 31
    events = [Event(2, (0x20,)), Event(3, (0x20, low)), Event(0, (0x8,)), Event(1, (0x8, low)), Event(0, (0x10,)),
              Event(1, (0x10, low)), Event(0, (0x8,)), Event(1, (0x8, high)), Event(4, (0x20,)), Event(2, (0x20,)),
              Event(3, (0x20, low)), Event(5, (0x8100010,))]
    other = [e for e in events if e.index in (1, 3)]
    numbers = mbarriers(code, [events, other])
    assert numbers[0] == numbers[1] != numbers[2] == numbers[3]
    assert numbers.keys() == {0, 1, 2, 3}


@pytest.mark.parametrize(("events", "index", "what"), [
    ([Event(1, (0x8, 0))], 1, "no commit of products and no bulk copy completes its phase"),
    ([Event(0, (0x8,)), Event(1, (0x8, 1 << 31))], 1, "it is out of the order of the commits"),
    ([Event(0, (0x8,)), Event(0, (0x10,)), Event(1, (0x10, 0))], 1, "it is out of the order of the commits"),
    ([Event(1, (0x8, 0)), Event(0, (0x8,))], 1, "it is out of the order of the commits"),
    ([Event(2, (0x8, 64)), Event(0, (0x8,)), Event(1, (0x8, 0))], 0, "its mbarrier is one for bulk copies too"),
    ([Event(2, (0x8, 64)), Event(1, (0x8, 1 << 31))], 1, "it is out of the order of the commits"),
    ([Event(0, (None,))], 0, "its address does not follow from the launch")])
def test_other_uses_of_mbarriers_are_refused(events, index, what):
    code = kernel("UTCBAR [UR8], URZ", WAIT, "SYNCS.ARRIVE.TRANS64 RZ, [UR8], R2")
    where = f"kernel 'k': {code.instructions[index].opcode} at 0x{16 * index:x}: "
    with pytest.raises(ProgramError, match=f"^{re.escape(where + what + END)}$"):
        mbarriers(code, [events])


def test_warps_that_wait_for_other_phases_are_refused():
    with pytest.raises(ProgramError, match=re.escape(": the warps of a CTA do not wait alike" + END)):
        mbarriers(kernel("UTCBAR [UR8], URZ", WAIT), [[Event(0, (8,)), Event(1, (8, 0))], [Event(1, (8, 1 << 31))]])


@pytest.mark.parametrize(("opcode", "events", "what"), [
    ("UTCHMMA", [Event(0, (None,))], "its instruction descriptor, which has its tile, does not follow from the launch"),
    ("UTCHMMA", [Event(0, (descriptor(128, 64),)), Event(0, (descriptor(128, 32),))],
     "its tile changes between UTCHMMA.128x64x16 and UTCHMMA.128x32x16"),
    ("UTCHMMA.2CTA", [Event(0, (descriptor(256, 64),))], "is done by two SMs together")])
def test_other_products_are_refused(opcode, events, what):
    text = f"kernel 'k': {opcode} at 0x0: {what}{END}"
    with pytest.raises(ProgramError, match=f"^{re.escape(text)}$"):
        specified(kernel(product(opcode=opcode)), events)


def test_tensor_memory_is_allocated_in_columns_of_all_lanes():
    code = kernel("UTCATOMSWS.FIND_AND_SET.ALIGN UP0, UR4, UR7")
    assert allocated(code, [Event(0, (4,))]) == 128 * 128 * 4
    with pytest.raises(ProgramError, match=re.escape("UTCATOMSWS.FIND_AND_SET.ALIGN at 0x0: how much tensor memory it allocates "
                                                     "does not follow from the launch" + END)):
        allocated(code, [Event(0, (None,))])


@pytest.mark.parametrize(("opcode", "what"), [
    ("UTMALDG.2D.MULTICAST", "bulk copies (TMA) to several CTAs of a cluster"),
    ("UTMALDG.2D.2CTA", "bulk copies (TMA) of two CTAs of a cluster"), ("UTMALDG.4D.IM2COL", "bulk copies (TMA) in im2col mode"),
    ("UTMALDG.2D.GATHER4", "bulk copies (TMA) of gathered rows"), ("UTMASTG.2D.SCATTER4", "bulk copies (TMA) to scattered rows"),
    ("UTMALDG.6D", "bulk copies (TMA) of a form that is not known"), ("UTMAPF.2D", "bulk prefetches (TMA)"),
    ("UTMAREDG.2D.ADD", "bulk reductions (TMA)"), ("UBLKCP.S.G", "bulk copies without a tensor map"),
    ("UTCOMMA", "products with scales of blocks"), ("UTCCP.T.S", "copies to tensor memory")])
def test_units_that_are_not_modelled(opcode, what):
    text = f"kernel 'k': {opcode} at 0x10 uses {what}, which the issue-level model does not have; use a schedule"
    with pytest.raises(ProgramError, match=f"^{re.escape(text)} "):
        check_units(kernel("NOP", opcode))


def test_warps_that_free_what_bulk_copies_fill_are_refused():
    """Arrivals that expect no bytes; without bulk copies they may be of anything."""
    arrival = "SYNCS.ARRIVE.TRANS64.A1T0 RZ, [UR4], RZ"
    check_units(kernel(arrival))
    with pytest.raises(ProgramError, match="^" + re.escape(
            "kernel 'k': SYNCS.ARRIVE.TRANS64.A1T0 at 0x10 uses mbarriers that warps arrive at to free the places of bulk copies "
            "(warp specialisation), which the issue-level model does not have; use a schedule (turbosim simulate --kernel)")):
        check_units(kernel("UTMALDG.2D [UR8], [UR4]", arrival))


def test_a_wait_behind_the_code_is_no_loop():
    """The spin and the branch back from it span the code between, which is not a loop for that."""
    code = kernel("NOP", WAIT, "@!P0 BRA `(.L_0)", "NOP", "EXIT", WAIT, "@!P0 BRA `(.L_0)", "BRA `(.L_1)",
                  targets={2: 5, 6: 5, 7: 3})
    assert loops_of(code.instructions, blocks_of(code.instructions)) == ()


def test_kinds_of_instructions(compiled):
    """What the compiler writes for a product: it is committed, waited for, and stores to its sums are fenced."""
    kinds = {kind_of(inst)[0]: inst.name for inst in compiled("full", 100).kernel.instructions}
    assert [kinds[k] for k in (Kind.UNIT_MMA, Kind.COMMIT, Kind.WAIT_PHASE, Kind.STORE_TENSOR, Kind.FENCE_TENSOR)] == [
        "UTCHMMA", "UTCBAR", "SYNCS", "STTM", "FENCE"]
