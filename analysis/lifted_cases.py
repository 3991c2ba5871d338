"""Published measurements and the launches that correspond to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from analysis.lifting import Compiled, attention, attention_flops, lifted, machine_code, tensor
from kernels.machine_code import Launch
from turbosim.engine.api import L2Start
from turbosim.engine.lower import ClockName
from turbosim.hw import load_gpu
from turbosim.sass.launch import Launch as Called
from turbosim.sass.lift import resident
from turbosim.validation.row import Row as Measured
from turbosim.validation.sets import load_set
from turbosim.workload import Attention, Gemm

LATE_2024 = frozenset({"late 2024"})
"""Of pages that several versions were taken from."""
FEW = 3
"""Tilings that are tried on every row of a group, of those ranked on one."""

Builder = Callable[[], Compiled]


@dataclass(frozen=True)
class Run:
    """A GPU, one of its clocks, and L2 at the start."""

    gpu: str
    clock: ClockName = "sustained"
    l2: L2Start = "dirty"
    """As do_bench leaves it, unless said otherwise."""
    highest: float | None = None
    """The clock that was set [Hz], if one is known."""

    @property
    def name(self) -> str:
        """As tables show it."""
        clock = f" {self.clock}" if self.clock != "sustained" else ""
        if self.clock == "boost" and self.highest is not None:
            clock = f" {self.highest / 1e9:.2f} GHz"
        return f"{self.gpu}{clock}{'' if self.l2 == 'dirty' else f', {self.l2} L2'}"


PCIE, SXM = "a100_pcie_80gb", "a100_sxm_80gb"
COMPUTE = (Run(PCIE, "power"), Run(PCIE), Run(PCIE, "boost"), Run(SXM, "power"), Run(SXM))
"""The pages do not name the card. The clocks of the hardware files are the same for all kernels."""
MEMORY = (Run(PCIE), Run(PCIE, l2="cold"), Run(SXM))
"""As measured, and without what the flush before each run costs."""
HOPPER = (Run("h100_sxm", "power", "cold", 1.83e9), Run("h100_sxm", l2="cold"),
          Run("h100_sxm", "boost", "cold", 1.83e9))
"""FlashAttention-3's script launches again and again, on inputs larger than L2, at a clock set to 1830 MHz (arXiv
2407.08608, appendix C.1) that the power limit lowers."""


@dataclass(frozen=True)
class Row:
    """A measured quantity, and the kernels of which the fastest was measured."""

    label: str
    group: str
    """Rows of one group prefer the same tilings."""
    amount: float
    """Work of a run [1e12 FLOP] or [1e9 B]."""
    measured: tuple[float, ...]
    """[1e12 FLOP/s] or [1e9 B/s]; several where several versions were measured."""
    tilings: Mapping[str, Builder]
    overhead: float = 0.0
    """What the events of the measurement add to a launch and its kernel [s]."""


@dataclass(frozen=True)
class Table:
    """Rows of one source."""

    title: str
    unit: str
    runs: tuple[Run, ...]
    """Tilings are ranked by the first."""
    rows: tuple[Row, ...]
    ranked_on: Mapping[str, str]
    """Group -> label of the row on which all of its tilings are tried; without it they are tried on every row."""


def triton_rows(name: str, versions: frozenset[str] | None = None) -> list[Measured]:
    """Return the rows of a committed set that were measured with Triton, of all versions if None are given."""
    return [r for r in load_set(name).rows if r.kernel == "Triton" and (versions is None or r.version in versions)]


Tilings = tuple[tuple[int, int, int, int], ...]
"""Rows, keys, warps, stages."""
LATER: Tilings = tuple(t for t in product((64, 128), (32, 64, 128), (4, 8), (2, 3)) if (t[0], t[2]) != (64, 8))
"""Of tutorial 06 in 2025. Left out, as slower on every length tried: four stages, and 64 rows by eight warps."""
OF_2024: Tilings = tuple(product((64, 128), (32, 64), (4,), (3, 4, 7)))
"""What it kept from 2024 to early 2025 (triton-lang/triton at dc6ee3ed)."""


def attention_tilings(gpu: str, shape: tuple[int, ...], causal: bool, tried: Tilings = LATER) -> dict[str, Builder]:
    """Return the tilings of the tutorial that can win."""
    return {f"{m}x{n} w{w} s{s}": partial(attention, gpu, shape, causal,
                                          {"block_m": m, "block_n": n, "warps": w, "stages": s})
            for m, n, w, s in tried}


def _attention_rows(gpu: str, name: str, tried: Tilings = LATER) -> Iterator[Row]:
    found: dict[Attention, list[float]] = {}
    overhead = load_set(name).meta.protocol.overhead
    for measured in triton_rows(name):
        work = measured.workload
        assert isinstance(work, Attention)
        if work.head_dim == 64:
            found.setdefault(work, []).append(measured.time_s)
    for work, times in sorted(found.items(), key=lambda item: (item[0].causal, item[0].seq_q)):
        mask = "causal" if work.causal else "full"
        shape = (work.batch, work.q_heads, work.kv_heads, work.seq_q, work.head_dim)
        amount = 1e-12 * attention_flops(work.batch, work.q_heads, work.seq_q, work.head_dim, work.causal)
        yield Row(f"{mask} {work.seq_q}", mask, amount, tuple(amount / t for t in times),
                  attention_tilings(gpu, shape, work.causal, tried), overhead)


def attention_a100() -> Table:
    """Return tutorial 06's forward attention in four versions of the documentation."""
    return Table("Forward attention, FP16, d = 64, A100", "TFLOP/s", COMPUTE,
                 tuple(_attention_rows(PCIE, "triton_attention_a100")),
                 {m: f"{m} 4096" for m in ("full", "causal")})


def attention_h100() -> Table:
    """Return the Triton bars of FlashAttention-3's figure, which is of July 2024."""
    return Table("Forward attention, FP16, d = 64, H100", "TFLOP/s", HOPPER,
                 tuple(_attention_rows(HOPPER[0].gpu, "flashattention3_figure_h100", OF_2024)),
                 {m: f"{m} 4096" for m in ("full", "causal")})


MATMUL_TILINGS = ((128, 256, 64, 3, 8), (64, 256, 32, 4, 4), (128, 128, 32, 4, 4), (128, 64, 32, 4, 4),
                  (64, 128, 32, 4, 4), (128, 32, 32, 4, 4), (64, 32, 32, 5, 2), (32, 64, 32, 5, 2))
"""Rows, columns, depth, stages, warps: the tutorial's list for FP16. Groups are of eight row tiles."""


def matmul_of(gpu: str, size: int, tiling: tuple[int, ...]) -> Compiled:
    """Return the product of square matrices."""
    from analysis.kernels.matmul import matmul

    m, n, k, stages, warps = tiling
    x = tensor(size, size)
    launch = Launch(matmul, {
        "A": x, "B": x, "C": x, "rows": size, "columns": size, "inner": size, "stride_a": size, "stride_b": size,
        "stride_c": size, "BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, "GROUP": 8},
        {"num_warps": warps, "num_stages": stages})
    return lifted(gpu, launch, (-(-size // m) * -(-size // n),), 2 * size ** 3)


def matmul_a100() -> Table:
    """Return tutorial 03's products of sizes that 256 divides.

    Tiles below 64 x 128 are tried up to 1024 only: they can win nowhere else.
    """
    rows = []
    for measured in triton_rows("triton_matmul_a100", LATE_2024):
        assert isinstance(measured.workload, Gemm)
        size, amount = measured.workload.m, 1e-12 * measured.workload.flops
        if size % 256:
            continue
        tilings = {"{}x{}x{} s{} w{}".format(*t): partial(matmul_of, PCIE, size, t) for t in MATMUL_TILINGS
                   if size <= 1024 or t[0] * t[1] >= 8192}
        rows.append(Row(f"{size}", "large" if size >= 1024 else "small", amount,
                        (amount / measured.time_s,), tilings, measured.protocol.overhead))
    return Table("Matrix product, FP16, A100", "TFLOP/s", COMPUTE, tuple(rows), {})


def softmax_of(gpu: str, rows: int, columns: int) -> Compiled:
    """Return softmax by as many CTAs as fit the GPU, loads two stages ahead (four where shared memory is larger)."""
    from analysis.kernels.rowwise import softmax

    sm = load_gpu(gpu).sm
    x = tensor(rows, columns, dtype="float32")
    launch = Launch(softmax, {
        "OUT": x, "X": x, "stride": columns, "rows": rows, "columns": columns,
        "BLOCK": 1 << (columns - 1).bit_length(), "STAGES": 4 if sm.smem_per_cta > 200_000 else 2}, {"num_warps": 8})
    kernel, called = machine_code(launch, gpu)
    # As many as an SM can hold.
    most = resident(kernel, called_over(called, rows * sm.count), load_gpu(gpu))
    return lifted(gpu, launch, (min(rows, sm.count * most),), 0)


def called_over(called: Called, ctas: int) -> Called:
    """Return *called* with a grid of *ctas*."""
    return replace(called, grid=(ctas, 1, 1))


def softmax_a100() -> Table:
    """Return tutorial 02's softmax over 4096 rows of lengths that 512 divides, 256 and 768."""
    rows = []
    for measured in triton_rows("triton_softmax_a100", LATE_2024):
        columns, amount = measured.stream[0] // (4096 * 4), 1e-9 * sum(measured.stream)
        if columns in (256, 768) or not columns % 512:
            rows.append(Row(f"{columns}", "all", amount, (amount / measured.time_s,),
                            {"": partial(softmax_of, PCIE, 4096, columns)}, measured.protocol.overhead))
    return Table("Softmax, FP32, 4096 rows, A100", "GB/s", MEMORY, tuple(rows), {})


def vector_add_of(gpu: str, count: int) -> Compiled:
    """Return the sum of two vectors by CTAs of 1024 elements."""
    from analysis.kernels.rowwise import vector_add

    x = tensor(count, dtype="float32")
    launch = Launch(vector_add, {"X": x, "Y": x, "OUT": x, "count": count, "BLOCK": 1024}, {"num_warps": 4})
    return lifted(gpu, launch, (-(-count // 1024),))


def vector_add_a100() -> Table:
    """Return tutorial 01's sums."""
    rows = []
    for measured in triton_rows("triton_vector_add_a100", LATE_2024):
        count, amount = measured.stream[1] // 4, 1e-9 * sum(measured.stream)
        rows.append(Row(f"{count}", "20 us or more" if measured.time_s > 20e-6 else "shorter", amount,
                        (amount / measured.time_s,), {"": partial(vector_add_of, PCIE, count)},
                        measured.protocol.overhead))
    return Table("Vector addition, FP32, A100", "GB/s", MEMORY, tuple(rows), {})


TABLES: dict[str, Callable[[], Table]] = {
    "attention": attention_a100, "matmul": matmul_a100, "softmax": softmax_a100, "vector_add": vector_add_a100,
    "h100": attention_h100}
