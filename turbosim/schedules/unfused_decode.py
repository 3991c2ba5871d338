"""Decode as KIVI and GEAR publish it: a pipeline of kernels over a quantised cache, without tensor cores.

Order and number of kernels follow jy-yuan/KIVI (``llama_kivi.py``, ``quant/matmul.py``, ``quant/csrc/gemv_cuda.cu``)
and opengear-project/GEAR. Tiles are 64 tokens of one KV head. Differences: a GEMV for P V works on 64 channels a CTA
(published: 32 at 4 bits, 64 at 2); scalar loads cost no more issue slots than vector loads; all cached tokens belong to
the prompt, so GEAR has one channel factor; steps that come once in 64 tokens (packing K, and V in GEAR) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from turbosim.program.ops import Affine, Compute, Load, Loop, Op, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, Dim, Launch, Role, Tensor
from turbosim.schedules.sas import PerElement
from turbosim.schedules.stream import stream_launch
from turbosim.workload import Attention
from turbosim.workload.kvcache import FORMATS

WINDOW = 64
"""Tokens (K) or channels (V) that share a scale, and recent tokens kept in FP16: TurboAttention's setting for both."""

GEMV = PerElement(integer=2, cvt=1, fp32=2)
"""Per code and query head: mask, shift, I2F, two FFMA (scale and minimum; accumulate)."""

DOT = PerElement(fp32=1)
"""One FFMA per element of a small FP16 product."""

HALF = PerElement(fp16x2=1 / 2)
"""One packed instruction per two elements."""

QUANTISE: tuple[tuple[str, PerElement], ...] = (
    ("min max", PerElement(fp16x2=1)), ("subtract", HALF), ("divide", HALF), ("clamp", HALF),
    ("round", PerElement(cvt=1)), ("pack", PerElement(integer=2)))
"""The published passes of quantisation, per element."""


def pipeline(shape: Attention, bits: int, rank: int = 0) -> tuple[list[Tensor], list[Launch]]:
    """Return tensors and launches of one decode step; with *rank* > 0, GEAR's correction of that rank."""
    step = _Step(shape, bits, rank)
    step.build()
    return list(step.tensors.values()), step.launches


@dataclass
class _Step:
    """Tensors and launches of one decode step, collected in order."""

    shape: Attention
    bits: int
    rank: int
    tensors: dict[str, Tensor] = field(default_factory=dict)
    launches: list[Launch] = field(default_factory=list)

    def __post_init__(self) -> None:
        cache = FORMATS[f"kivi-{self.bits}"]
        packed, self.recent = cache.split(self.shape.seq_k)
        self.blocks = packed // cache.block_tokens
        self.items = {name.split()[-1]: int(n) for name, n in cache.block_items(self.shape.head_dim).items()}
        self.heads = self.shape.batch * self.shape.kv_heads
        self.queries = self.shape.batch * self.shape.q_heads

    def _tensor(self, name: str, tiles: int, nbytes: int, dtype: str = "fp16") -> str:
        self.tensors.setdefault(name, Tensor(name, tiles, nbytes, dtype))
        return name

    def _stream(self, name: str, tiles: int, reads: tuple[str, ...], writes: tuple[str, ...],
                work: PerElement, elements: int) -> None:
        self.launches.append(stream_launch(name, tiles, reads, writes, work.lanes(elements)))

    def build(self) -> None:
        d, queries = self.shape.head_dim, self.queries
        row = 2 * (WINDOW * self.blocks + self.recent)
        self._tensor("q", queries, 2 * d)
        self._tensor("scores", queries, row)
        self._copies("K")
        if self.blocks:
            self._query_key()
        self._tensor("scores recent", queries, 2 * self.recent)
        self._recent("K", "q", (Store("store scores", "scores recent", self.query),))
        self._joined_scores()
        self._stream("divide", queries, ("scores",), ("scores",), HALF, row // 2)
        self._tensor("P fp32", queries, 2 * row, "fp32")
        self._stream("softmax", queries, ("scores",), ("P fp32",), PerElement(fp32=4, sfu=1, integer=1), row // 2)
        self._probabilities()
        self._copies("V")
        if self.blocks:
            self._probability_value()
        self._recent("V", "P recent", self._outputs("O recent"))
        self._outputs("O")
        parts = tuple(name for name in ("O recent", "O packed", "O low rank") if name in self.tensors)
        self._stream("add", queries * self.slices, parts, ("O",), HALF, d // self.slices * (len(parts) - 1))
        if self.blocks and not self.rank:
            self._append_value()

    def _copies(self, name: str) -> None:
        """Contiguous copies of the transposed codes, scales and minima."""
        for item, nbytes in self.items.items() if self.blocks else ():
            dtype = f"int{self.bits}" if item == "codes" else "fp16"
            slices = self.slices if name == "V" else 1
            tiles = self.heads * self.blocks * slices
            source = self._tensor(f"{name} {item}", tiles, nbytes // slices, dtype)
            target = self._tensor(f"{name} {item} contiguous", tiles, nbytes // slices, dtype)
            self._stream(f"transpose {source}", tiles, (source,), (target,), PerElement(), 0)

    @property
    def slices(self) -> int:
        """CTAs that share the channels of V and O: 64 each where they divide."""
        d = self.shape.head_dim
        return d // WINDOW if d % WINDOW == 0 else 1

    @property
    def query(self) -> Affine:
        """Query head of a CTA with grid dimensions g (in the group) and h (KV head and sequence)."""
        return var("h") * self.shape.group + var("g")

    def _outputs(self, name: str) -> tuple[Store, ...]:
        """Declare an output tensor and return the stores of one query head's row of it."""
        self._tensor(name, self.queries * self.slices, 2 * self.shape.head_dim // self.slices)
        return tuple(Store(f"store {name}", name, self.query * self.slices + c) for c in range(self.slices))

    def _launch(self, name: str, grid: tuple[Dim, ...], body: tuple[Op | Loop, ...]) -> None:
        self.launches.append(Launch(name, grid, (Role("all", 4, body),), (Counter("in", CounterKind.DATA),),
                                    registers_per_thread=40))

    def _query_key(self) -> None:
        """One CTA per 64 tokens and query head; GEAR adds (q Q) P^T, of which q Q is a launch of its own."""
        shape, d = self.shape, self.shape.head_dim
        grid = (Dim("s", self.blocks), Dim("g", shape.group), Dim("h", self.heads))
        query = self.query
        tile, out = var("h") * self.blocks + var("s"), query * self.blocks + var("s")
        self._tensor("scores packed", self.queries * self.blocks, 2 * WINDOW)
        cache = tuple(_load(f"K {item} contiguous", tile) for item in self.items)
        self._launch("gemv QK^T", grid, (
            _load("q", query), *cache, Wait("wait", "in", Affine(len(cache) + 1)),
            Compute("dot", lanes=GEMV.lanes(WINDOW * d)), Store("store scores", "scores packed", out)))
        if not self.rank:
            return
        self._tensor("K channel factor", self.heads, 2 * d * self.rank)
        self._tensor("K token factor", self.heads * self.blocks, 2 * WINDOW * self.rank)
        self._tensor("q factor", self.queries, 2 * self.rank)
        self._launch("K low rank: q Q", grid[1:], (
            _load("q", query), _load("K channel factor", var("h")), Wait("wait", "in", Affine(2)),
            Compute("dot", lanes=DOT.lanes(d * self.rank)), Store("store", "q factor", query)))
        self._launch("K low rank: P^T", grid, (
            _load("q factor", query), _load("K token factor", tile), _load("scores packed", out),
            Wait("wait", "in", Affine(3)), Compute("dot", lanes=DOT.lanes(WINDOW * self.rank)),
            Store("store scores", "scores packed", out)))

    def _recent(self, name: str, operand: str, stores: tuple[Store, ...]) -> None:
        """Append the new token to the FP16 window (a copy), then multiply with the window."""
        shape = self.shape
        nbytes = 2 * self.recent * shape.head_dim
        window = self._tensor(f"{name} recent", self.heads, nbytes)
        longer = self._tensor(f"{name} recent appended", self.heads, nbytes)
        self._stream(f"append {name} recent", self.heads, (window,), (longer,), PerElement(), 0)
        self._launch(f"recent {'QK^T' if name == 'K' else 'PV'}", (Dim("g", shape.group), Dim("h", self.heads)), (
            _load(operand, self.query), _load(longer, var("h")), Wait("wait", "in", Affine(2)),
            Compute("dot", lanes=DOT.lanes(self.recent * shape.head_dim)), *stores))

    def _joined_scores(self) -> None:
        """Concatenate the scores of packed and recent tokens."""
        tile = var("q") * self.blocks
        loads = (Loop("s", Affine(self.blocks), (_load("scores packed", tile + var("s")),)),) if self.blocks else ()
        self._launch("concatenate scores", (Dim("q", self.queries),), (
            *loads, _load("scores recent", var("q")), Wait("wait", "in", Affine(self.blocks + 1)),
            Store("store scores", "scores", var("q"))))

    def _probabilities(self) -> None:
        """Convert P to FP16; its packed part in tiles, as the next GEMV reads it."""
        stores: tuple[Op | Loop, ...] = (Store("store P", self._tensor("P recent", self.queries, 2 * self.recent),
                                               var("q")),)
        if self.blocks:
            packed = self._tensor("P packed", self.queries * self.blocks, 2 * WINDOW)
            place = var("q") * self.blocks + var("s")
            stores += (Loop("s", Affine(self.blocks), (Store("store P", packed, place),)),)
        tokens = WINDOW * self.blocks + self.recent
        self._launch("convert P", (Dim("q", self.queries),), (
            _load("P fp32", var("q")), Wait("wait", "in", Affine(1)),
            Compute("convert", lanes=PerElement(pack=1 / 2).lanes(tokens)), *stores))

    def _probability_value(self) -> None:
        """One CTA per 64 channels and query head walks over all tokens."""
        shape, d, slices = self.shape, self.shape.head_dim, self.slices
        query = self.query
        self._outputs("O packed")
        block, cut = var("h") * self.blocks + var("s"), query * self.blocks + var("s")
        loads = (_load("P packed", cut),
                 *(_load(f"V {item} contiguous", block * slices + var("c")) for item in self.items))
        step: tuple[Op, ...] = (
            *loads, Wait("wait", "in", (var("s") + 1) * len(loads)),
            Compute("dot", lanes=GEMV.lanes(WINDOW * d // slices)))
        self._launch("gemv PV", (Dim("c", slices), Dim("g", shape.group), Dim("h", self.heads)), (
            Loop("s", Affine(self.blocks), step), Store("store O", "O packed", query * slices + var("c"))))
        if not self.rank:
            return
        self._tensor("V channel factor", self.heads, 2 * d * self.rank)
        self._tensor("V token factor", self.heads * self.blocks, 2 * WINDOW * self.rank)
        self._tensor("P factor", self.queries, 2 * self.rank)
        grid = (Dim("g", shape.group), Dim("h", self.heads))
        self._launch("V low rank: p P", grid, (
            Loop("s", Affine(self.blocks), (_load("P packed", cut), _load("V token factor", block))),
            Wait("wait", "in", Affine(2 * self.blocks)),
            Compute("dot", lanes=DOT.lanes(WINDOW * self.blocks * self.rank)), Store("store", "P factor", query)))
        self._launch("V low rank: Q^T", grid, (
            _load("P factor", query), _load("V channel factor", var("h")), Wait("wait", "in", Affine(2)),
            Compute("dot", lanes=DOT.lanes(d * self.rank)), *self._outputs("O low rank")))

    def _append_value(self) -> None:
        """Quantise the oldest recent token and concatenate: copies the codes, scales and minima of V."""
        d = self.shape.head_dim
        token = self._tensor("V token", self.heads, 2 * d)
        for step, work in QUANTISE:
            self._stream(f"quantise V token: {step}", self.heads, (token,), (token,), work, d)
        for item in self.items:
            source = f"V {item}"
            tensor = self.tensors[source]
            target = self._tensor(f"{source} appended", tensor.tiles, tensor.tile_bytes, tensor.dtype)
            self._stream(f"append {source}", tensor.tiles, (source,), (target,), PerElement(), 0)


def _load(tensor: str, tile: Affine) -> Load:
    return Load(f"load {tensor}", tensor, tile, "in", smem=False)
