"""Put together what the issue-level model runs: instructions with their costs, walks of CTAs, and the SM of a GPU."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from turbosim.errors import ProgramError
from turbosim.hw.names import MmaPath
from turbosim.hw.spec import Gpu
from turbosim.sass import bulk, machine, tensor_memory
from turbosim.sass.access import results_of
from turbosim.sass.cubin import Kernel
from turbosim.sass.evaluate import Walk, walk
from turbosim.sass.flow import blocks_of
from turbosim.sass.instruction import ZERO, Instruction
from turbosim.sass.instruction import Kind as Operand
from turbosim.sass.launch import Launch
from turbosim.sass.machine import CONFLICT_TICKS, TICKS, Code, Column, CtaClass, Kind, SmModel
from turbosim.sass.mbarrier import mbarriers
from turbosim.sass.ports import port_cycles
from turbosim.sass.rules import Rules
from turbosim.sass.tables import Pipe
from turbosim.sass.tensor_memory import is_expectation
from turbosim.sass.traffic import SECTOR, Traffic, traffic_of

_MATRIX_ASYNC = ("HGMMA", "IGMMA", "QGMMA", "BGMMA")
_GROUP_SHAPE = re.compile(r"[A-Z]GMMA\.(\d+)x(\d+)x(\d+)")
WARPS_PER_GROUP = 4
_KINDS = {"LDGSTS": Kind.COPY, "LDGDEPBAR": Kind.GROUP, "LDG": Kind.LOAD, "STG": Kind.STORE, "ATOMG": Kind.LOAD,
          "ATOM": Kind.LOAD, "RED": Kind.STORE, "REDG": Kind.STORE, "LDL": Kind.LOAD, "STL": Kind.STORE,
          "EXIT": Kind.EXIT, "UTCBAR": Kind.COMMIT, "STTM": Kind.STORE_TENSOR, "UTMALDG": Kind.BULK_LOAD,
          "UTMASTG": Kind.BULK_STORE, "UTMACMDFLUSH": Kind.GROUP,
          **dict.fromkeys(tensor_memory.PRODUCTS, Kind.UNIT_MMA)}
_NOT_MODELLED = {
    "UBLKCP": "bulk copies without a tensor map", "UBLKPF": "bulk prefetches", "UBLKRED": "bulk reductions",
    "UTMAPF": "bulk prefetches (TMA)", "UTMAREDG": "bulk reductions (TMA)",
    "UTCOMMA": "products with scales of blocks", "UTCCP": "copies to tensor memory"}


def sm_model(gpu: Gpu, hertz: float, memory: bool = True) -> SmModel:
    """Return the SM of *gpu* at the clock *hertz*; without *memory*, global data is there at once."""
    table = Rules.of(gpu).table.table
    bandwidth = gpu.copy_engine.bandwidth * TICKS if memory else 1 << 40
    latency = gpu.l2.latency_far * hertz if memory else 0
    groups = gpu.tensor.get(MmaPath.WGMMA)
    conflict = groups.write_conflict if groups else None
    return SmModel(schedulers=gpu.sm.schedulers, port_window=round(table.registers.window),
                   queue_depth=round(table.mio.depth), l2_rate=round(bandwidth), l2_latency=round(latency),
                   barrier_latency=round(gpu.barrier.sync), cta_latency=round(gpu.launch.cta),
                   bulk_latency=round(gpu.copy_engine.tma_latency) if memory else 0,
                   write_conflict=round(CONFLICT_TICKS * (conflict or 0)))


def cta_class(kernel: Kernel, launch: Launch, cta: tuple[int, int, int]) -> tuple[CtaClass, list[Walk]]:
    """Return what the warps of *cta* execute. Raises as :func:`turbosim.sass.evaluate.walk`."""
    walks = [walk(kernel, launch, cta, warp) for warp in range(launch.warps)]
    return CtaClass(tuple(w.blocks for w in walks)), walks


def check_units(kernel: Kernel) -> None:
    """Raise ProgramError where *kernel* uses a unit that the model does not have."""
    copying = any(i.name in bulk.COPIES for i in kernel.instructions)
    for instruction in kernel.instructions:
        what = _NOT_MODELLED.get(instruction.name)
        if copying and instruction.opcode.startswith("SYNCS.ARRIVE") and not is_expectation(instruction):
            what = "mbarriers that warps arrive at to free the places of bulk copies (warp specialisation)"
        if instruction.name in bulk.COPIES and (variant := bulk.variant_of(instruction)):
            what = f"bulk copies (TMA) {variant}"
        if what:
            where = f"kernel {kernel.name!r}: {instruction.opcode} at 0x{16 * instruction.index:x}"
            raise ProgramError(f"{where} uses {what}, which the issue-level model does not have; use a schedule "
                               "(turbosim simulate --kernel)")


def code_of(kernel: Kernel, rules: Rules, walks: Sequence[Walk]) -> Code:
    """Return the costs of *kernel*'s instructions on a GPU; memory traffic is that of *walks*.

    Raises as :func:`check_units`, :func:`turbosim.sass.tensor_memory.specified`, :func:`turbosim.sass.bulk.copies` and
    :func:`turbosim.sass.mbarrier.mbarriers`.
    """
    check_units(kernel)
    kernel = tensor_memory.specified(kernel, (e for w in walks for e in w.events))
    copies = bulk.copies(kernel, walks)
    numbers = mbarriers(kernel, (w.events for w in walks))
    blocks = blocks_of(kernel.instructions)
    traffic = traffic_of(a for w in walks for a in w.accesses)
    table = np.zeros((len(kernel.instructions), len(Column)), np.int64)
    for block in blocks:
        instructions = kernel.instructions[block.first:block.last + 1]
        for instruction, ports in zip(instructions, port_cycles(instructions), strict=True):
            index = instruction.index
            table[index] = _row(instruction, rules, traffic.get(index), ports)
            table[index, Column.ARGUMENT] = numbers.get(index, table[index, Column.ARGUMENT])
            if copy := copies.get(index):
                table[index, Column.ARGUMENT] |= copy.box << 8
                table[index, Column.WARPS] = copy.warps
                if instruction.name in bulk.COPIES:
                    table[index, Column.SHARED] = -(-copy.box // round(rules.gpu.sm.smem_bandwidth))
                    table[index, Column.GLOBAL] = round(copy.moved)
    return Code(table, np.array([b.first for b in blocks]), np.array([b.last for b in blocks]))


def _row(instruction: Instruction, rules: Rules, traffic: Traffic | None, ports: int) -> list[int]:
    rule, control = rules.rule(instruction), instruction.control
    kind, argument, wait = kind_of(instruction)
    shared, moved = rule.shared, 0
    queued = kind in (Kind.ASYNC_MMA, Kind.UNIT_MMA)
    if queued:
        nbytes = operand_bytes(instruction) if kind is Kind.ASYNC_MMA else tensor_memory.operand_bytes(instruction)
        shared = round(nbytes / rules.gpu.sm.smem_bandwidth)
    if traffic is not None:
        shared = max(shared, round(traffic.turns)) if traffic.turns or traffic.sectors else 0
        moved = round(traffic.sectors * SECTOR)
    # The machine adds service to latency; rules count it in.
    service = rule.interval if queued else rule.shared if rule.pipe is Pipe.MIO else 0
    row = {
        Column.PIPE: machine.Pipe[rule.pipe.name], Column.INTERVAL: rule.interval,
        Column.LATENCY: max(0, rule.latency - service), Column.READ: rule.read,
        Column.SHARED: shared if rule.pipe is Pipe.MIO or queued else 0,
        Column.GLOBAL: moved, Column.KIND: kind, Column.ARGUMENT: argument, Column.STALL: control.stall,
        Column.WRITE_BARRIER: -1 if control.write_barrier is None else control.write_barrier,
        Column.READ_BARRIER: -1 if control.read_barrier is None else control.read_barrier,
        Column.WAIT: sum(1 << b for b in {*control.wait, *wait}), Column.PORTS: ports, Column.WARPS: 0,
        Column.WRITES: 0 if rule.pipe is Pipe.TENSOR else written_registers(instruction)}
    return [int(row[c]) for c in Column]


def written_registers(instruction: Instruction) -> int:
    """Return the general registers that *instruction* writes: two for a result of 64 bits, none for RZ."""
    return sum(written < ZERO for written in results_of(instruction))


def operand_bytes(instruction: Instruction) -> float:
    """Return the bytes of shared memory that one of the four warps of a group reads for its product.

    B comes from there, and A unless it is in registers; each is read once for the group.
    """
    shape = _GROUP_SHAPE.match(instruction.opcode)
    if shape is None:
        return 0.0
    m, n, k = (int(v) for v in shape.groups())
    size = 2 if instruction.name == "HGMMA" else 1
    a_in_registers = len(instruction.operands) > 1 and instruction.operands[1].kind is Operand.REGISTER
    return (n + (0 if a_in_registers else m)) * k * size / WARPS_PER_GROUP


def kind_of(instruction: Instruction) -> tuple[Kind, int, tuple[int, ...]]:
    """Return how *instruction* acts, its argument, and scoreboards that it waits for beside those of its control."""
    name, operands = instruction.name, instruction.operands
    if name == "BAR":
        return _barrier(instruction)
    if name == "DEPBAR":
        if operands and operands[0].text == "SB0" and len(operands) > 1:
            return Kind.WAIT_GROUP, int(operands[1].value), ()
        boards = tuple(int(o.text[2:]) for o in operands if o.text.startswith("SB"))
        if operands and operands[0].text.startswith("{"):
            boards = tuple(int(n) for n in re.findall(r"\d+", operands[0].text))
        return Kind.PLAIN, 0, boards
    if name == "WARPGROUP" and "DEPBAR" in instruction.modifiers:
        return Kind.WAIT_MMA, int(operands[-1].value), ()
    if tensor_memory.is_expectation(instruction):
        return Kind.EXPECT, 0, ()
    if tensor_memory.is_wait(instruction):
        return Kind.WAIT_PHASE, 0, ()
    if name == "FENCE" and instruction.modifiers[:3] == ("VIEW", "ASYNC", "T"):
        return Kind.FENCE_TENSOR, 0, ()
    if name in _MATRIX_ASYNC:
        return Kind.ASYNC_MMA, int(any(o.text.startswith("gsb") for o in operands)), ()
    return _KINDS.get(name, Kind.PLAIN), 0, ()


def _barrier(instruction: Instruction) -> tuple[Kind, int, tuple[int, ...]]:
    numbers = [int(o.value) for o in instruction.operands if o.kind is Operand.INTEGER]
    if not numbers:
        raise ProgramError(f"{instruction} at 0x{16 * instruction.index:x}: the barrier's number is in a register, "
                           "which the issue-level model does not follow")
    warps = numbers[1] // 32 if len(numbers) > 1 else 0
    kind = Kind.ARRIVE if "ARV" in instruction.modifiers else Kind.BARRIER
    return kind, numbers[0] | warps << 8, ()
