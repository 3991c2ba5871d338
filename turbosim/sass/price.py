"""What the instructions of a kernel cost, by how many of its CTAs are on an SM, as the issue-level model finds it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turbosim.hw.names import MmaPath, OpClass
from turbosim.hw.spec import Gpu
from turbosim.program.ops import Mma
from turbosim.sass.build import code_of, sm_model
from turbosim.sass.bulk import check_counts
from turbosim.sass.cubin import Kernel
from turbosim.sass.evaluate import Walk
from turbosim.sass.flow import blocks_of, loops_of
from turbosim.sass.machine import Code, Column, CtaClass, Kind, Pipe, Replay
from turbosim.sass.observe import Observation
from turbosim.sass.product import Product, product_of
from turbosim.sass.replay import replay
from turbosim.sass.rules import Rules
from turbosim.sass.skeleton import shape_of, shortened
from turbosim.sass.tensor_memory import specified

TURNS = 48
"""Turns of a loop that are replayed; its cost settles in a few."""
ROUNDS = 4
"""CTAs that each place of the SM runs one after the other."""
MOST_ONE_BY_ONE = 4
"""CTAs on the SM up to which every number of them is replayed."""
_CLASS = {Pipe.FMA: OpClass.FP32, Pipe.HEAVY: OpClass.IMAD, Pipe.ALU: OpClass.INT, Pipe.LITE: OpClass.INT,
          Pipe.FP16: OpClass.FP16X2, Pipe.XU: OpClass.SFU}


@dataclass(frozen=True)
class Prices:
    """Cost of every instruction, in the time of the warp that executes it, by the CTAs on the SM."""

    gpu: Gpu
    kernel: Kernel
    code: Code
    replayed: Replay
    """With the SM full."""
    per_issue: NDArray[np.float64]
    """(resident, instructions): cycles from the end of the warp's instruction before to the end of this one, with 1, 2,
    ... CTAs on the SM, on average over all warps, for each time that the first warp executes it. An instruction that no
    replayed warp comes to costs its stall count."""
    share: NDArray[np.float64]
    """Of the warps, those that execute an instruction where the first one does: 1, but for code of some warps."""

    @property
    def resident(self) -> int:
        """CTAs on a full SM."""
        return len(self.per_issue)

    def cycles(self, indices: Sequence[int]) -> tuple[float, ...]:
        """Return the time of a warp for *indices*, executed once each, with 1, 2, ... CTAs on the SM [cycles]."""
        return tuple(round(float(c), 3) for c in self.per_issue[:, list(indices)].sum(axis=1))

    def work(self, indices: Sequence[int], warps: int) -> tuple[tuple[tuple[OpClass, int], ...], Mma | None, int, int]:
        """Return what *warps* warps that execute *indices* need: lanes by class, product, shared bytes, issue slots.

        Lanes are counted by the time that they take of their pipe, in those of the class's rate.
        """
        busy: dict[int, float] = defaultdict(float)
        shared = 0.0
        products: Counter[Product] = Counter()
        pipes, intervals, kinds, served = (
            self.code.table[:, c].tolist() for c in (Column.PIPE, Column.INTERVAL, Column.KIND, Column.SHARED))
        shares = (self.share * self.code.acting(warps)).tolist()
        for index in indices:
            share = shares[index]
            busy[pipes[index]] += intervals[index] * share
            if kinds[index] not in (Kind.COPY, Kind.BULK_LOAD):
                # What asynchronous copies write is the load's.
                shared += served[index] * share
            if product := product_of(self.kernel.instructions[index].opcode, self.gpu):
                products[product] += 1 if product.served.path is MmaPath.TCGEN05 else warps
        sm = self.gpu.sm
        # Two pipes of one class work side by side, and it is busy for as long as the busier.
        cycles_of: dict[OpClass, float] = {}
        for pipe, op_class in _CLASS.items():
            if busy[pipe]:
                cycles_of[op_class] = max(cycles_of.get(op_class, 0.0), busy[pipe])
        lanes = tuple((c, round(cycles * self.gpu.pipes[c].rate / sm.schedulers * warps))
                      for c, cycles in cycles_of.items())
        mma = None
        if products:
            # The first stands for all. What others take of the tensor cores is counted in its operands' rate, so that
            # each has its share of the peak of its own type.
            first = next(iter(products))
            cycles = sum(product.peak_cycles * count for product, count in products.items())
            macs, kind = cycles * first.served.rate, first.served
            count = max(1, round(macs / (first.m * first.n * first.k)))
            mma = Mma(first.m, first.n, first.k, kind.dtype, kind.path, count)
        issued = max(1, round(sum(shares[index] for index in indices) * warps))
        return lanes, mma, round(shared * sm.smem_bandwidth * warps), issued


def prices_of(kernel: Kernel, gpu: Gpu, hertz: float, seen: Observation, resident: int) -> Prices:
    """Return the prices of *kernel* on *gpu* at the clock *hertz*, with 1 to *resident* CTAs on the SM.

    All data is at hand. CTAs of median and of greatest length take turns. Every number of CTAs up to four is replayed;
    of more only 1, 2, 4, 8, ... and *resident*, with straight lines between them.
    """
    loops = loops_of(kernel.instructions, blocks_of(kernel.instructions))
    samples = sorted(seen.sampler.known.values(), key=lambda s: len(s.walk.blocks))
    # The longest of those along x, whose warps have been walked already where there are several of that length.
    longest, median = max(seen.sampler.known.values(), key=lambda s: len(s.walk.blocks)), samples[len(samples) // 2]
    chosen = [longest] if median.counts == longest.counts else [median, longest]
    walks: list[Walk] = []
    classes = []
    for sample in chosen:
        of_warps = seen.sampler.walks(sample)
        check_counts(kernel, of_warps)
        # Warps are alike in how they use the banks; of the second CTA one is enough to see what the first does not run.
        walks += of_warps if not walks else of_warps[:1]
        classes.append(CtaClass(tuple(
            np.array(shortened(shape_of([int(b) for b in w.blocks], loops), TURNS), np.int32) for w in of_warps)))
    kernel = specified(kernel, (e for w in (*walks, *(s.walk for s in seen.sampler.known.values())) for e in w.events))
    code = code_of(kernel, Rules.of(gpu), walks)
    model = sm_model(gpu, hertz, memory=False)
    numbers = replayed_numbers(resident)
    per_issue = []
    for ctas in numbers:
        order = [n % len(classes) for n in range(ctas * ROUNDS)]
        found = replay(code, classes, order, ctas, model)
        spent = found.waits.sum(axis=1) + found.issues
        first = _executions(code, [classes[n].walks[0] for n in order]) * len(classes[0].walks)
        unseen = np.where(found.issues > 0, 0.0, np.maximum(1.0, code.table[:, Column.STALL]))
        per_issue.append(np.divide(spent, first, out=unseen, where=first > 0))
    wanted = np.arange(1, resident + 1)
    between = np.array([np.interp(wanted, numbers, column) for column in np.transpose(per_issue)]).T
    share = np.divide(found.issues, first, out=np.ones(len(first)), where=first > 0)
    return Prices(gpu, kernel, code, found, between, share)


def _executions(code: Code, walks: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
    """Return how often *walks* together execute every instruction."""
    blocks = np.bincount(np.concatenate(walks), minlength=len(code.first))
    return np.repeat(blocks, code.last - code.first + 1)


def replayed_numbers(resident: int) -> list[int]:
    """Return the numbers of CTAs, up to *resident*, with which an SM is replayed."""
    few = range(1, min(resident, MOST_ONE_BY_ONE) + 1)
    return [*few, *(1 << n for n in range(3, resident.bit_length()) if 1 << n < resident),
            *([resident] if resident > MOST_ONE_BY_ONE else [])]
