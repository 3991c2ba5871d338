"""Random well-formed, deadlock-free programs and small random GPUs."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from turbosim.hw.spec import (
    L2,
    Barrier,
    Clock,
    Copy,
    Dtype,
    Gpu,
    Hbm,
    MmaPath,
    OpClass,
    Pipe,
    Power,
    Sm,
    TensorPath,
    Unit,
)
from turbosim.hw.spec import Launch as LaunchCosts
from turbosim.program.ops import Affine, Compute, Load, Loop, Mma, Op, Signal, Store, Wait, var
from turbosim.program.program import (
    Counter,
    CounterKind,
    CtaClass,
    Dim,
    Launch,
    Program,
    Role,
    Scheduler,
    Tensor,
)

CLASSES = [c for c in OpClass if c is not OpClass.SAS]


def random_gpu(r: Random) -> Gpu:
    """Return a GPU with odd rates, a tiny L2 and few channels."""
    def rate() -> float:
        return r.choice([3.0, 16.0, 17.3, 64.0, 128.0])

    near = r.choice([5e-9, 40e-9, 150e-9])
    far = near * r.choice([1.0, 1.7])
    return Gpu(
        schema_version=1, name="random", title="random", arch="sm_0", clock=Clock(boost=r.choice([1e9, 1.41e9, 1.98e9])),
        sm=Sm(count=r.randint(1, 4), schedulers=4, max_warps=64, max_ctas=r.randint(1, 4), registers=65536,
              max_registers_per_thread=255, register_allocation=256, smem_capacity=164 * 1024, smem_per_cta=163 * 1024,
              smem_reserved=1024, smem_bandwidth=rate(), smem_latency=r.randint(0, 30)),
        pipes={c: Pipe(rate=rate(), unit=r.choice([Unit.SFU, Unit.FMA, Unit.FP16, Unit.INT, Unit.CVT, Unit.SMEM]),
                       latency=r.choice([0, 4, 20])) for c in CLASSES},
        tensor={path: TensorPath(rates={Dtype.FP16: r.choice([100, 1024]), Dtype.INT8: 2048},
                                 latency=r.choice([0, 33]), macs_per_instruction_fp16=2048)
                for path in (MmaPath.MMA_SYNC, MmaPath.WGMMA)},
        l2=L2(capacity=r.choice([2048, 9000, 1e6]), partitions=1, shared_fraction=1.0, bandwidth=r.choice([2e11, 5e12]),
              dirty_share=r.choice([0.3, 1.0]),
              latency_near=near, latency_far=far),
        hbm=Hbm(capacity=1e9, bandwidth=r.choice([5e10, 2e12]), efficiency=0.9, channels=r.randint(1, 5),
                interleave=r.choice([256, 1024]), turnaround=r.choice([0.0, 0.25, 1.5]), latency=far * r.choice([1.0, 2.5]),
                pseudo_channels=r.randint(1, 4), activation=r.choice([0.0, 4e-9, 5e-8]),
                loaded_latency=r.choice([0.0, 1e-7, 3e-6])),
        copy_engine=Copy(bandwidth=r.choice([16.0, 64.0]), tma=True, tma_latency=r.choice([0, 170])),
        barrier=Barrier(sync=r.choice([0, 25]), mbarrier=r.choice([0, 20])),
        launch=LaunchCosts(stream=2e-6, graph=1e-6, cta=r.choice([0, 200])), power=Power(limit=100))


def _compute(r: Random, label: str) -> Compute:
    lanes = tuple((c, r.choice([1, 40, 999, 4096])) for c in r.sample(CLASSES, r.randint(0, 3)))
    mma = None
    if r.random() < 0.4:
        mma = Mma(16 * r.randint(1, 4), 16 * r.randint(1, 4), 16 * r.randint(1, 8), r.choice([Dtype.FP16, Dtype.INT8]),
                  r.choice([MmaPath.MMA_SYNC, MmaPath.WGMMA]))
    if r.random() < 0.25:
        # Of given durations, by the CTAs on the SM.
        cycles = tuple(r.choice([0.01, 40.0, 250.5, 999.9, 3000.0]) for _ in range(r.randint(1, 5)))
        return Compute(label, lanes, mma, r.choice([0, 512]), cycles=cycles)
    chain = tuple((c, r.randint(1, 3)) for c in r.sample(CLASSES, r.randint(0, 1)))
    return Compute(label, lanes, mma, r.choice([0, 0, 512, 5000]), chain, pieces=r.randint(1, 4))


def _load(r: Random, tensor: Tensor, tile: Affine, counter: str, ctas: int) -> Load:
    """Return a copy of any kind; of bulk copies to shared memory, some that as many CTAs share as divide *ctas*."""
    smem, bulk = r.random() < 0.7, r.random() < 0.4
    shared_by = r.choice([n for n in (1, 2, 3, 4) if ctas % n == 0]) if smem and bulk else 1
    return Load("load", tensor.name, tile, counter, r.choice([None, tensor.tile_bytes // 2 or 1]), smem, bulk, shared_by)


def _plain_ops(r: Random, role: int, tensors: list[Tensor], j: Affine, done: int, ctas: int) -> tuple[list[Op], int]:
    """Return operations that only touch the role's own counters, and the loads made per iteration."""
    ops: list[Op] = []
    loads = r.randint(0, 3)
    for _ in range(loads):
        tensor = r.choice(tensors)
        tile = r.choice([j, var("x"), j + var("x"), Affine(r.randint(0, 3))])
        ops.append(_load(r, tensor, tile, f"data{role}", ctas))
    ops += [_compute(r, "work") for _ in range(r.randint(0, 3))]
    if r.random() < 0.4:
        tensor = r.choice(tensors)
        ops.append(Store("store", tensor.name, r.choice([j, var("x")])))
    r.shuffle(ops)
    if loads and r.random() < 0.9:
        ops.append(Wait("wait", f"data{role}", j * loads + (done + r.randint(1, loads))))
    return ops, loads


def random_launch(r: Random, name: str, tensors: list[Tensor], trips: int) -> Launch:
    """Return a launch of 1 to 3 roles with barriers, own copies, asynchronous products, and maybe a pipeline."""
    roles = r.randint(1, 3)
    grid = (Dim("x", r.randint(1, 7)), Dim("y", r.randint(1, 4)))
    ctas = grid[0].size * grid[1].size
    classes = tuple(CtaClass(f"c{i}", (("n", r.randint(0, trips)), ("k", r.randint(0, 2)))) for i in range(3))
    class_of = (("x", tuple(r.randint(0, 1) for _ in range(grid[0].size))),
                ("y", tuple(r.randint(0, 1) for _ in range(grid[1].size))))
    pipeline = roles > 1 and r.random() < 0.6
    stages = r.randint(1, 3)
    barriers = r.randint(0, 2)
    streams = []
    for role in range(roles):
        body: list[Op] = []
        done = 0
        if pipeline and role == 0:
            body += [Wait("empty", "empty", (var("j") + (1 - stages)) * (roles - 1)),
                     _load(r, tensors[0], var("j"), "full", ctas)]
        elif pipeline:
            body += [Wait("full", "full", var("j") + 1), _compute(r, "consume"), Signal("free", "empty")]
        else:
            body, _ = _plain_ops(r, role, tensors, var("j"), done, ctas)
            if r.random() < 0.4:
                body += [Compute("async", ((OpClass.FP32, 999),), Mma(64, 64, 64, Dtype.FP16, MmaPath.WGMMA),
                                 r.choice([0, 512, 5000]), signal=f"mma{role}"),
                         _compute(r, "under"), Wait("mma", f"mma{role}", var("j") + 1)]
        for b in range(barriers):
            body.insert(r.randint(0, len(body)) if not pipeline else len(body),
                        Compute("skew", ((OpClass.FP32, r.choice([1, 5000])),)))
            body += [Signal("arrive", "bar"), Wait("bar", "bar", (var("j") * barriers + (b + 1)) * roles)]
        items: list[Op | Loop] = [Loop("j", var("n"), tuple(body))]
        if r.random() < 0.5:
            inner = Loop("i", var("k"), (_compute(r, "inner"), Store("store", tensors[-1].name, var("i"))))
            items.append(Loop("o", Affine(r.randint(0, 2)), (_compute(r, "outer"), inner)))
        streams.append(Role(f"r{role}", r.randint(1, 8), tuple(items)))
    counters = [Counter("bar", CounterKind.BARRIER), Counter("full", CounterKind.DATA),
                Counter("empty", CounterKind.MBARRIER)]
    for role in range(roles):
        counters += [Counter(f"data{role}", CounterKind.DATA), Counter(f"mma{role}", CounterKind.MMA)]
    return Launch(name, grid, tuple(streams), tuple(counters), classes, class_of, r.choice([0, 20000]), 32,
                  scheduler=r.choice(list(Scheduler)))


def random_program(r: Random, trips: int = 5) -> Program:
    """Return a program of 1 to 3 launches over shared tensors."""
    tensors = [Tensor(f"t{i}", trips + 11, r.choice([32, 100, 1000, 4096]), "fp16",
                      run_bytes=r.choice([None, 32, 16])) for i in range(r.randint(1, 3))]
    launches = tuple(random_launch(r, f"l{i}", tensors, trips) for i in range(r.randint(1, 3)))
    return Program("random", tuple(tensors), launches)


def programs(trips: int = 5) -> st.SearchStrategy[Program]:
    """Random programs whose main loops run up to *trips* times."""
    return st.randoms(use_true_random=False).map(lambda r: random_program(r, trips))


def gpus() -> st.SearchStrategy[Gpu]:
    """Random GPUs."""
    return st.randoms(use_true_random=False).map(random_gpu)
