"""The streams of ``flash3``: a producer that copies, consumers that multiply and take the softmax.

KV tiles run from the last to the first, so that the masked ones come first; j counts them in that order. Every
counter is signalled by one role, so that roles of a persistent CTA may be at different tiles of work.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Signal, Store, Wait, var
from turbosim.schedules import softmax
from turbosim.schedules.flash3_plan import ROWS, Flash3Plan
from turbosim.schedules.paged import page_address

Stream = tuple[Op | Loop, ...]


@dataclass(frozen=True)
class Producer:
    """Copies Q once and K and V tile by tile, each as soon as all consumers have left its stage.

    With *overlap* the consumers need K one tile before V, and it is copied in that order.
    """

    plan: Flash3Plan
    q_tile: Affine
    first_kv: Affine

    def stream(self) -> Stream:
        """Return the operations of one tile of work."""
        j = var("j")
        start = (*self._kv("K", Affine()), *self._released("Q", Affine()),
                 Load("load Q", "Q", self.q_tile, "Q", bulk=True),
                 # O was staged in V's shared memory.
                 *self._released("O", Affine()))
        if self.plan.overlap:
            loop = Loop("j", var("more"), (*self._kv("K", j + 1), *self._kv("V", j)))
            return (*start, loop, *self._kv("V", var("more")))
        loop = Loop("j", var("more"), (*self._kv("K", j + 1), *self._kv("V", j + 1)))
        return (*start, *self._kv("V", Affine()), loop)

    def _kv(self, tensor: str, j: Affine) -> tuple[Op, ...]:
        tile = self.first_kv + var("more") - j
        find = (page_address(),) if self.plan.paged else ()
        return (*self._released(tensor, j + (1 - self.plan.stages)), *find,
                Load(f"load {tensor}", tensor, tile, tensor, bulk=not self.plan.paged))

    def _released(self, what: str, times: Affine) -> tuple[Op, ...]:
        """Wait until every consumer has released *what* *times* times in this tile of work."""
        return tuple(Wait(f"wait free {what}", f"free {what} {i}", times) for i in range(self.plan.groups))


@dataclass(frozen=True)
class Consumer:
    """One warp group of 64 rows."""

    plan: Flash3Plan
    number: int
    q_tile: Affine

    def stream(self) -> Stream:
        """Return the operations of one tile of work."""
        out_tile = self.q_tile * self.plan.groups + self.number
        return (Wait("wait Q", "Q", Affine(1)), *(self._overlapped() if self.plan.overlap else self._in_order()),
                softmax.normalise(ROWS, self.plan.shape.head_dim), Store("store O", "O", out_tile),
                Store("store LSE", "LSE", out_tile), self._release("O"))

    def _overlapped(self) -> Stream:
        """Q K^T of tile j + 1 and P V of tile j are issued together, then comes the softmax of tile j + 1."""
        plan = self.plan
        first: Stream = (Wait("wait K", "K", Affine(1)), plan.scores(self._mma), self._done(Affine(1)),
                         self._release("K"), *plan.softmax(masked=True), plan.pack())
        products = 1 + len(plan.output_parts(self._mma))
        last: Stream = (self._release("Q"), *self._rescale(before=True), Wait("wait V", "V", var("n")),
                        plan.output(self._mma), self._done(var("more") * products + 2), self._release("V"))
        return (*first, Loop("jm", var("masked"), self._step(var("jm"), masked=True)),
                Loop("jr", var("rest"), self._step(var("jr") + var("masked"), masked=False)), *last)

    def _step(self, j: Affine, masked: bool) -> tuple[Op, ...]:
        """Return what the loop does after the softmax of tile *j*.

        The turn ends, and the softmax of tile *j* + 1 begins, when the rest of P V has been accepted for execution.
        """
        plan = self.plan
        parts = plan.output_parts(self._mma)
        before = j * (1 + len(parts)) + 1
        return (
            Wait("wait K", "K", j + 2), *self._turn(j + 1), plan.scores(self._mma), *self._rescale(before=True),
            Wait("wait V", "V", j + 1), *parts, self._done(before + len(parts)), *self._pass_turn(),
            self._release("K"), *plan.softmax(masked), self._done(before + 1 + len(parts)), self._release("V"),
            plan.pack(), *self._rescale(before=False))

    def _in_order(self) -> Stream:
        """Each product is waited for; a turn is P V of one tile and Q K^T of the next."""
        return (*self._turn(Affine(1)), *self._whole(Affine(), masked=True),
                Loop("jm", var("masked"), self._whole(var("jm") + 1, masked=True)),
                Loop("jr", var("rest"), self._whole(var("jr") + var("masked") + 1, masked=False)),
                *self._pass_turn(), self._release("Q"))

    def _whole(self, j: Affine, masked: bool) -> tuple[Op, ...]:
        plan = self.plan
        rescale = (softmax.rescale(ROWS, plan.shape.head_dim),) if j != Affine() else ()
        return (
            Wait("wait K", "K", j + 1), plan.scores(self._mma), *self._pass_turn(), self._done(j * 2 + 1),
            self._release("K"), *plan.softmax(masked), plan.pack(), *rescale, Wait("wait V", "V", j + 1),
            *self._turn(j + 2), plan.output(self._mma), self._done(j * 2 + 2), self._release("V"))

    def _rescale(self, before: bool) -> tuple[Compute, ...]:
        """Rescale O *before* the product of P and V where it is long, above 128 columns, else after it."""
        d = self.plan.shape.head_dim
        return (softmax.rescale(ROWS, d),) if before == (d > 128) else ()

    @property
    def _mma(self) -> str:
        return f"mma {self.number}"

    def _done(self, products: Affine) -> Wait:
        return Wait("wait product", self._mma, products)

    def _release(self, what: str) -> Signal:
        return Signal(f"release {what}", f"free {what} {self.number}")

    def _turn(self, number: Affine) -> tuple[Op, ...]:
        """Wait for turn *number*; the first warp group has its first without being passed it."""
        if not self.plan.pingpong:
            return ()
        passed = number if self.number else number - 1
        return (Wait("wait turn", f"turn {self.number}", passed),)

    def _pass_turn(self) -> tuple[Op, ...]:
        if not self.plan.pingpong:
            return ()
        return (Signal("pass turn", f"turn {(self.number + 1) % self.plan.groups}"),)
