"""Micro-benchmarks of a GPU's units, by name in :data:`MICRO`. Importing this needs neither torch nor triton.

The shape is a mapping of sizes, all of them positive integers:

=========================== ====================================================================================
``empty``                   ``ctas``
``copy``                    ``nbytes`` read, and as many written; a multiple of 64
``l2_read``                 ``nbytes`` of the buffer, which should fit L2; ``passes`` over it; ``ctas`` that share them
``tile_read``               ``ctas``, each reading ``rows`` rows of ``depth`` bytes, ``piece`` of each at a time
``smem``                    ``ctas``; ``iterations``, each storing and loading a tile of ``4 * tile**2`` bytes
``mma_fp16``, ``mma_int8``  ``ctas``; ``iterations``, each a product of ``m`` x ``k`` and ``k`` x ``n``
``exp2``, ``fma_fp16``,     ``ctas``; ``iterations``; ``elements``, the values in a thread's registers, each of which
``i2f``, ``f2i``, ``f2h``   is a chain of dependent operations: 8 or more (``fma_fp16``: 16, two a register)
=========================== ====================================================================================

Tiles for ``mma_*``: 64 x 64 x 32 (INT8: k = 64) with four warps on sm_80, sm_89 and sm_120; with two warps the same
instructions run on sm_90 and sm_100. Their own (``wgmma``, tcgen05) need four warps and m of 64 or more:
128 x 128 x 64 with four or 128 x 256 x 64 with eight (INT8: k = 128).

``tile_read`` streams tiles of rows that lie ``depth`` bytes apart, as a matrix product does an operand. Two depths give
the time of a turn without the launch; where nothing is busy, turns times loads in flight (``stages - 1``) are how long
a load takes until it can be used.

Options: ``warps`` of a CTA; ``block``, the 4-byte elements of a CTA's access; ``tile``, side of the matrix; ``stages``
of the copies; ``unroll``, iterations in one turn of the loop. Several CTAs must share an SM to saturate it; loads, sums
and stores are outside the loop, so rates come from many iterations, or from the difference of two counts.

``Prepared.flops`` counts operations of the unit under test: a multiply-add is two (``mma_*``, ``fma_fp16``), an
exponential or a conversion one (``f2h`` converts two values per element). It is 0 for the others, whose work in bytes
:func:`unit_work` has. ``Prepared.nbytes`` is device memory's share: inputs and outputs once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from kernels.case import Kernel, Prepared
from turbosim.errors import UsageError, did_you_mean

Values = Mapping[str, Any]

MIN_SHARED_MEMORY = 99 * 1024
"""Bytes that a CTA can have on every GPU from compute capability 8.0 on: CUDA C++ Programming Guide, table of 8.6."""


@dataclass(frozen=True, slots=True)
class _Micro:
    title: str
    sizes: tuple[str, ...]
    defaults: Values
    work: Callable[[Values, Values], int]
    """Work of the unit under test, from sizes and options."""
    unit: str
    rules: Callable[[str, Values, Values], None]
    operations: bool = True
    """Whether the work is operations, not bytes or CTAs."""


def _refuse(name: str, kind: str, key: str, value: object, rule: str, fix: str) -> NoReturn:
    raise UsageError(f"micro-benchmark {name}: {kind} {key!r} is {value!r}, {rule}; {fix}")


def _power_of_two(name: str, kind: str, values: Values, key: str, low: int, high: int) -> None:
    value = values[key]
    if value & (value - 1) or not low <= value <= high:
        near = min(max(1 << (value.bit_length() - 1), low), high)
        _refuse(name, kind, key, value, f"must be a power of two from {low} to {high}", f"use {near}")


def _no_rules(_name: str, _sizes: Values, _options: Values) -> None:
    pass


def _block(name: str, options: Values) -> None:
    # Four 4-byte elements a thread make one vector; 128 fill half of a thread's registers.
    threads = 32 * options["warps"]
    _power_of_two(name, "option", options, "block", 4 * threads, 128 * threads)


def _copy_rules(name: str, sizes: Values, options: Values) -> None:
    _block(name, options)
    if sizes["nbytes"] % 64:
        _refuse(name, "size", "nbytes", sizes["nbytes"], "must be a multiple of 64, so that all accesses are vectors",
                f"use {-(-sizes['nbytes'] // 64) * 64}")


def _l2_rules(name: str, sizes: Values, options: Values) -> None:
    _block(name, options)
    nbytes, of_block = sizes["nbytes"], 4 * options["block"]
    if nbytes % of_block:
        _refuse(name, "size", "nbytes", nbytes, f"must be a multiple of a block's {of_block} bytes",
                f"use {-(-nbytes // of_block) * of_block}")
    blocks = nbytes // of_block
    if sizes["ctas"] > blocks:
        _refuse(name, "size", "ctas", sizes["ctas"], f"must not exceed the {blocks} blocks of {of_block} bytes",
                "use fewer CTAs, a smaller block or more bytes")
    # The block number and the element's index are 32-bit.
    if nbytes >= 2**33:
        _refuse(name, "size", "nbytes", nbytes, "must be below 8 GiB", "use what fits L2")
    if sizes["passes"] * blocks + sizes["ctas"] >= 2**31:
        _refuse(name, "size", "passes", sizes["passes"], f"must keep passes times {blocks} blocks below 2**31",
                f"use at most {(2**31 - 1 - sizes['ctas']) // blocks}")


def _tile_rules(name: str, sizes: Values, options: Values) -> None:
    _power_of_two(name, "size", sizes, "piece", 16, 4096)
    _power_of_two(name, "size", sizes, "rows", 1, 512)
    if not 1 <= options["stages"] <= 8:
        _refuse(name, "option", "stages", options["stages"], "must be from 1 to 8", "use 3")
    tile, vectors = sizes["rows"] * sizes["piece"], 16 * 32 * options["warps"]
    if not vectors <= tile <= 32 * vectors:
        _refuse(name, "size", "rows", sizes["rows"], f"must give each thread of {options['warps']} warps 1 to 32 "
                f"vectors of 16 bytes of a tile (here {tile} bytes in all)", "use other rows, piece or warps")
    if max(1, options["stages"] - 1) * tile > MIN_SHARED_MEMORY - 1024:
        _refuse(name, "option", "stages", options["stages"], f"must keep its tiles of {tile} bytes in "
                f"{MIN_SHARED_MEMORY - 1024} bytes of shared memory", "use fewer stages or a smaller tile")
    if sizes["depth"] % sizes["piece"]:
        _refuse(name, "size", "depth", sizes["depth"], f"must be a multiple of size 'piece' ({sizes['piece']})",
                f"use {-(-sizes['depth'] // sizes['piece']) * sizes['piece']}")


def _smem_rules(name: str, _sizes: Values, options: Values) -> None:
    _power_of_two(name, "option", options, "tile", 32, 128)
    if options["warps"] < options["tile"] // 16:
        _refuse(name, "option", "warps", options["warps"],
                f"must be at least tile / 16 = {options['tile'] // 16}, or the loop is not LDS and STS",
                "use more warps or a smaller tile")


def _turns(name: str, sizes: Values, options: Values) -> None:
    _power_of_two(name, "option", options, "unroll", 1, 64)
    iterations, unroll = sizes["iterations"], options["unroll"]
    if iterations % unroll:
        _refuse(name, "size", "iterations", iterations, f"must be a multiple of option 'unroll' ({unroll})",
                f"use {-(-iterations // unroll) * unroll}")


def _mma_rules(name: str, sizes: Values, options: Values) -> None:
    _turns(name, sizes, options)
    of_element, least_k = (2, 16) if name == "mma_fp16" else (1, 32)
    for key, least in (("m", 16), ("n", 16), ("k", least_k)):
        _power_of_two(name, "size", sizes, key, least, 512)
    accumulators = sizes["m"] * sizes["n"] // (32 * options["warps"])
    if accumulators > 128:
        _refuse(name, "option", "warps", options["warps"],
                f"must hold {sizes['m']} x {sizes['n']} accumulators, at most 128 a thread (here {accumulators})",
                "use more warps or a smaller tile")
    shared = (sizes["m"] + sizes["n"]) * sizes["k"] * of_element
    if shared > MIN_SHARED_MEMORY:
        _refuse(name, "size", "k", sizes["k"], f"must keep both operands in {MIN_SHARED_MEMORY} bytes of shared memory "
                f"(here {shared})", "use a smaller tile")


def _chain_rules(name: str, sizes: Values, options: Values) -> None:
    _turns(name, sizes, options)
    _power_of_two(name, "size", sizes, "elements", 2 if name == "fma_fp16" else 1, 128)


def _mma_work(sizes: Values, _options: Values) -> int:
    return 2 * int(sizes["ctas"] * sizes["iterations"] * sizes["m"] * sizes["n"] * sizes["k"])


def _chain_work(each: int) -> Callable[[Values, Values], int]:
    return lambda sizes, options: each * int(sizes["ctas"] * sizes["iterations"] * 32 * options["warps"]
                                             * sizes["elements"])


_CHAIN = ("ctas", "iterations", "elements")
_MMA = ("ctas", "iterations", "m", "n", "k")
_LOOP = {"warps": 4, "unroll": 4}

_SPECS = {
    "copy": _Micro("streaming copy in device memory", ("nbytes",), {"warps": 4, "block": 4096},
                   lambda sizes, _: 2 * sizes["nbytes"], "bytes read from and written to device memory", _copy_rules,
                   operations=False),
    "l2_read": _Micro("reads that hit L2", ("nbytes", "passes", "ctas"), {"warps": 4, "block": 4096},
                      lambda sizes, _: sizes["nbytes"] * sizes["passes"], "bytes read from L2", _l2_rules,
                      operations=False),
    "tile_read": _Micro("pipelined reads of tiles of rows", ("ctas", "rows", "piece", "depth"),
                        {"warps": 4, "stages": 3},
                        lambda sizes, _: sizes["ctas"] * sizes["rows"] * sizes["depth"],
                        "bytes read from device memory or L2", _tile_rules, operations=False),
    "mma_fp16": _Micro("FP16 matrix products with FP32 accumulators", _MMA, _LOOP, _mma_work, "FP16 operations",
                       _mma_rules),
    "mma_int8": _Micro("INT8 matrix products with INT32 accumulators", _MMA, _LOOP, _mma_work, "INT8 operations",
                       _mma_rules),
    "exp2": _Micro("FP32 exponentials", _CHAIN, _LOOP, _chain_work(1), "exponentials", _chain_rules),
    "fma_fp16": _Micro("packed FP16 multiply-adds", _CHAIN, _LOOP, _chain_work(2), "FP16 operations", _chain_rules),
    "i2f": _Micro("conversions from INT32 to FP32", _CHAIN, _LOOP, _chain_work(1), "conversions", _chain_rules),
    "f2i": _Micro("conversions from FP32 to INT32", _CHAIN, _LOOP, _chain_work(1), "conversions", _chain_rules),
    "f2h": _Micro("packed conversions from FP32 to FP16", _CHAIN, _LOOP, _chain_work(2), "conversions", _chain_rules),
    "smem": _Micro("stores to and loads from shared memory", ("ctas", "iterations"), {"warps": 4, "tile": 64},
                   lambda sizes, options: sizes["ctas"] * sizes["iterations"] * 8 * options["tile"] ** 2,
                   "bytes stored to and loaded from shared memory", _smem_rules, operations=False),
    "empty": _Micro("CTAs that do nothing", ("ctas",), {"warps": 4}, lambda sizes, _: sizes["ctas"], "CTAs",
                    _no_rules, operations=False),
}


def _checked(name: str, shape: Any, options: Values) -> tuple[Values, Values]:
    """Return sizes and all options; raises UsageError for what the kernel cannot do."""
    spec = _SPECS[name]
    wanted = ", ".join(spec.sizes)
    if not isinstance(shape, Mapping):
        raise UsageError(f"micro-benchmark {name}: the shape is of type {type(shape).__name__}, must be a mapping of "
                         f"sizes; give {wanted}")
    for kind, given, known in (("size", shape, spec.sizes), ("option", options, tuple(spec.defaults))):
        for key, value in given.items():
            if key not in known:
                raise UsageError(f"micro-benchmark {name}: unknown {kind} {key!r}{did_you_mean(str(key), known)}; "
                                 f"known are {', '.join(known)}")
            bits = 63 if key == "nbytes" else 31
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**bits:
                _refuse(name, kind, key, value, f"must be an integer from 1 to 2**{bits} - 1", "give such a number")
    for key in spec.sizes:
        if key not in shape:
            raise UsageError(f"micro-benchmark {name}: size {key!r} is missing; give {wanted}")
    chosen = {**spec.defaults, **options}
    _power_of_two(name, "option", chosen, "warps", 1, 32)
    spec.rules(name, shape, chosen)
    return shape, chosen


def unit_work(name: str, shape: Values, options: Values | None = None) -> tuple[int, str]:
    """Return how much work the unit under test does in a run, and in what: operations, conversions or bytes."""
    sizes, chosen = _checked(name, shape, options or {})
    return _SPECS[name].work(sizes, chosen), _SPECS[name].unit


def plan_of(name: str, shape: Any, options: Values, device: str, seed: int) -> Any:
    """Return the :class:`kernels.micro_plan.Plan` of a kernel, which can be compiled for a GPU that is not present."""
    from kernels import micro_plan

    sizes, chosen = _checked(name, shape, options)
    return getattr(micro_plan, name)(sizes, chosen, device, seed)


def _kernel(name: str) -> Kernel:
    def prepare(shape: Any, options: Values, device: str, seed: int) -> Prepared:
        sizes, chosen = _checked(name, shape, options)
        from kernels import micro

        if device == "cpu" and not micro.INTERPRETED:
            raise UsageError(f"micro-benchmark {name}: device 'cpu' can only interpret kernels; use a GPU, or set "
                             "TRITON_INTERPRET=1 before triton is imported")
        flops = _SPECS[name].work(sizes, chosen) if _SPECS[name].operations else 0
        return plan_of(name, sizes, chosen, device, seed).prepared(flops)  # type: ignore[no-any-return]

    return Kernel(name, _SPECS[name].title, _SPECS[name].defaults, prepare)


MICRO: dict[str, Kernel] = {name: _kernel(name) for name in _SPECS}

COPY = MICRO["copy"]
L2_READ = MICRO["l2_read"]
TILE_READ = MICRO["tile_read"]
MMA_FP16 = MICRO["mma_fp16"]
MMA_INT8 = MICRO["mma_int8"]
EXP2 = MICRO["exp2"]
FMA_FP16 = MICRO["fma_fp16"]
I2F = MICRO["i2f"]
F2I = MICRO["f2i"]
F2H = MICRO["f2h"]
SMEM = MICRO["smem"]
EMPTY = MICRO["empty"]
