"""What a serving engine adds to attention over a paged KV cache: writing new tokens, lengths, page tables, copies.

vLLM (``reshape_and_cache_flash_kernel`` in csrc/cache_kernels.cu) writes the K and V of new tokens by a kernel of its
own, a CTA a token of at most 512 threads. FlashAttention-2's ``mha_varlen_fwd`` (csrc/flash_attn/flash_api.cpp) reads
where the pages are, and where query heads share a KV head in decode it brings them together by a copy of the queries
before and one of the outputs after the kernel.
"""

from __future__ import annotations

from dataclasses import replace

from turbosim.hw.spec import OpClass
from turbosim.program.ops import Affine, Compute, Load, Op, Store, Wait, var
from turbosim.program.program import Counter, CounterKind, Dim, Launch, Program, Role, Tensor
from turbosim.schedules.stream import stream_launch
from turbosim.schedules.tiles import THREADS, ceil_div
from turbosim.workload import Attention, Phase

MOST_THREADS = 512
SECTOR = 32
"""Bytes: the least a load of a length or of a page's number moves."""
SLOT_INSTRUCTIONS = 46
"""Of a thread, from the token's slot to the addresses in its page: a division and a remainder of 64-bit integers on the
path for small ones."""
MOVE_INSTRUCTIONS = 13
"""Of a thread that copies 16 bytes, beside the load and the store."""
PAGE_INSTRUCTIONS = 51
"""Of a thread and tile: a division and a remainder of 32-bit integers, a table entry that is in L1 (its latency put at
that of a shuffle, which takes the same path), 64-bit products. All three are counted in the machine code for sm_80 of
``analysis/kernels/serving.cu``."""
COPY_TILE = 4096


def with_cache_write(program: Program, shape: Attention) -> Program:
    """Return *program* after the kernel that writes K and V of the new tokens."""
    tensors, launch = cache_write(shape)
    return replace(program, tensors=(*program.tensors, *tensors), launches=(launch, *program.launches),
                   meta={**program.meta, "cache_write": True})


def with_regrouping(program: Program, shape: Attention) -> Program:
    """Return the decode *program* between the copies of :func:`regrouping`."""
    tensors, before, after = regrouping(shape)
    return replace(program, tensors=(*program.tensors, *tensors), launches=(*before, *program.launches, *after))


def cache_write(shape: Attention) -> tuple[tuple[Tensor, ...], Launch]:
    """Return the kernel that writes K and V of the new tokens, and its tensors."""
    tokens = shape.batch * (shape.seq_q if shape.phase is Phase.PREFILL else 1)
    nbytes = 2 * shape.kv_heads * shape.head_dim
    warps = ceil_div(min(MOST_THREADS, shape.kv_heads * shape.head_dim), 32)
    token = var("t")

    def move(name: str) -> tuple[Op, ...]:
        counter = f"new {name}"
        return (Load(f"load new {name}", f"new {name}", token, counter, smem=False),
                Wait(f"wait new {name}", counter, Affine(1)), Store(f"write {name}", f"{name} pages", token))

    instructions = SLOT_INSTRUCTIONS * 32 * warps + MOVE_INSTRUCTIONS * 2 * nbytes // 16
    body: tuple[Op, ...] = (
        Load("load slot", "slots", token, "slot", smem=False), Wait("wait slot", "slot", Affine(1)),
        Compute("address", lanes=((OpClass.INT, instructions),),
                chain=((OpClass.CVT, 2), (OpClass.SFU, 1), (OpClass.INT, 12))),
        *move("K"), *move("V"))
    tensors = (Tensor("slots", tokens, SECTOR, "int64", 8 * tokens),
               *(Tensor(f"{kind}{name}{place}", tokens, nbytes, "fp16") for name in ("K", "V")
                 for kind, place in (("new ", ""), ("", " pages"))))
    counters = tuple(Counter(n, CounterKind.DATA) for n in ("slot", "new K", "new V"))
    return tensors, Launch("cache write", (Dim("t", tokens),), (Role("all", warps, body),), counters,
                           registers_per_thread=32)


def lengths(batch: Affine) -> tuple[Op, ...]:
    """Return how a CTA finds its sequence's lengths, and with them its first pages."""
    return (Load("load lengths", "lengths", batch, "pages", smem=False), Wait("wait lengths", "pages", Affine(1)),
            Load("load pages", "page table", batch, "pages", smem=False), Wait("wait pages", "pages", Affine(2)))


def page_address() -> Compute:
    """Return how the warps of a CTA find the page of the next tile's rows before they copy them."""
    return Compute("page address", lanes=((OpClass.INT, PAGE_INSTRUCTIONS * THREADS),),
                   chain=((OpClass.SHUFFLE, 1), (OpClass.CVT, 2), (OpClass.SFU, 1), (OpClass.INT, 12)))


def length_tensors(shape: Attention) -> tuple[Tensor, ...]:
    """Return the tensors that :func:`lengths` reads."""
    return tuple(Tensor(name, shape.batch, SECTOR, "int32") for name in ("lengths", "page table"))


PAGES = Counter("pages", CounterKind.DATA)
"""The counter of :func:`lengths`."""


def regrouping(shape: Attention) -> tuple[tuple[Tensor, ...], tuple[Launch, ...], tuple[Launch, ...]]:
    """Return tensors and launches, before and after a decode, that bring the query heads of a KV head together.

    A single KV head has its queries in order already; its outputs are copied all the same.
    """
    if shape.group == 1:
        return (), (), ()
    tiles = ceil_div(2 * shape.batch * shape.q_heads * shape.head_dim, COPY_TILE)
    lanes = ((OpClass.INT, 20 * 128),)
    tensors = tuple(Tensor(name, tiles, COPY_TILE, "fp16") for name in ("O by group", "O by head"))
    after = (stream_launch("regroup O", tiles, ("O by group",), ("O by head",), lanes),)
    if shape.kv_heads == 1:
        return tensors, (), after
    tensors += tuple(Tensor(name, tiles, COPY_TILE, "fp16") for name in ("Q by head", "Q by group"))
    return tensors, (stream_launch("regroup Q", tiles, ("Q by head",), ("Q by group",), lanes),), after
