"""One result as JSON values and as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbosim.bottleneck import bound_words, busiest_of
from turbosim.power import describe
from turbosim.result import TICKS_PER_CYCLE, LaunchResult, Result
from turbosim.sass.origin import ASSUMED, COSTS
from turbosim.units import show

if TYPE_CHECKING:
    from rich.console import RenderableType

REASON_WORDS = {
    "latency": "own instruction latency", "data_l2": "waiting for data from L2",
    "data_dram": "waiting for data from device memory", "mma": "waiting for asynchronous MMA",
    "barrier": "waiting at a barrier", "cta_launch": "CTA launch", "done": "ended, CTA still running",
    "no_cta": "no CTA left", "kernel_launch": "kernel launch",
}


def reason_words(reason: str, blocks: bool = False) -> str:
    """Return a stall reason in words; *blocks* where the code is blocks of machine code, whose time has one reason."""
    if reason.startswith("run_"):
        return f"in blocks busiest on {reason[4:]}" if blocks else f"running on {reason[4:]}"
    if reason.startswith("wait_"):
        return f"queueing for {reason[5:]}"
    return REASON_WORDS[reason]


def waves(launch: LaunchResult, sms: int) -> float:
    """Return how often the launch fills the GPU."""
    return launch.ctas / (sms * launch.ctas_per_sm)


def tail_share(launch: LaunchResult) -> float:
    """Return the share of the launch in which SMs have run out of CTAs, averaged over SMs."""
    if not launch.ticks:
        return 0.0
    return sum(launch.ticks - end for end in launch.sm_last_end) / (launch.ticks * len(launch.sm_last_end))


def to_json(result: Result) -> dict[str, Any]:
    """Return the result as plain values; units are in the key names (``_s``, ``_bytes``, ``_Bps``)."""
    main = max(result.launches, key=lambda x: x.ticks)
    return {
        "hw": result.hw, "kernel": result.kernel, "workload": result.workload, "options": result.options,
        "engine": result.engine, "clock_hz": result.clock_hz, "power": _power_json(result),
        "time_s": result.time_s, "cycles": result.cycles, "tflops": result.tflops,
        "useful_flops": result.useful_flops,
        "dram_read_bytes": result.dram_read_bytes, "dram_write_bytes": result.dram_write_bytes,
        "evicted_bytes": result.evicted_bytes,
        "dram_bandwidth_Bps": result.dram_bandwidth_Bps,
        "l2_bytes": result.l2_bytes, "l2_hit_rate": result.l2_hit_rate,
        "compulsory_dram_bytes": result.compulsory_bytes,
        "utilization": result.utilization, "bound": result.bound, "busiest": busiest_json(result),
        "stalls": result.stalls,
        "occupancy": {"ctas_per_sm": main.ctas_per_sm, "warps_per_sm": main.ctas_per_sm * main.warps_per_cta,
                      "limit": main.occupancy_limit},
        "waves": waves(main, result.sms), "tail": tail_share(main),
        "arithmetic_intensity": result.arithmetic_intensity,
        "roofline_s": result.bound_s, "roofline_ratio": result.time_s / result.bound_s if result.bound_s else None,
        "launches": [_launch_json(x, result) for x in result.launches],
    }


def busiest_json(result: Result) -> dict[str, Any]:
    """Return the busiest unit and its share of the time, whether it bounds the run or not."""
    unit, share = busiest_of(result.utilization)
    return {"unit": unit, "share": share}


def _power_json(result: Result) -> dict[str, Any] | None:
    power, energy = result.power_w, result.total_energy_j
    if power is None or energy is None:
        return None
    shares = {f"{name}_w": joules / result.time_s for name, joules in result.energy_j.items()}
    tokens = decoded_tokens(result)
    return {"average_w": power, "limit_w": result.power_limit_w, "split": shares, "energy_j": energy,
            "tokens_per_j": tokens / energy if tokens else None}


def decoded_tokens(result: Result) -> int:
    """Return the tokens that a decode step makes; 0 for other work."""
    w = result.workload
    return int(str(w["batch"])) * int(str(w["seq_q"])) if w.get("phase") == "decode" else 0


def _launch_json(launch: LaunchResult, result: Result) -> dict[str, Any]:
    seconds = TICKS_PER_CYCLE * result.clock_hz
    return {"name": launch.name, "time_s": launch.ticks / seconds, "overhead_s": launch.overhead_ticks / seconds,
            "ctas": launch.ctas, "ctas_per_sm": launch.ctas_per_sm, "occupancy_limit": launch.occupancy_limit,
            "waves": waves(launch, result.sms), "tail": tail_share(launch), "tile_ops": launch.ops,
            "dram_read_bytes": launch.dram_read_bytes, "dram_write_bytes": launch.dram_write_bytes,
            "evicted_bytes": launch.evicted_bytes}


def describe_workload(result: Result) -> str:
    """Return the workload on one line."""
    w = result.workload
    if w.get("kind") != "attention":
        return ", ".join(f"{k} {v}" for k, v in w.items() if k != "kind") or "from a trace"
    heads = f"{w['q_heads']}/{w['kv_heads']} heads, d {w['head_dim']}"
    model = f"{w['model']}: " if w.get("model") else ""
    causal = ", causal" if w["causal"] else ""
    return f"{model}{w['phase']}, batch {w['batch']}, {w['seq_q']} x {w['seq_k']} tokens, {heads}{causal}"


def bar(share: float, width: int = 20) -> str:
    """Return a horizontal bar for a share of 1."""
    full = round(min(1.0, share) * width)
    return "█" * full + "·" * (width - full)


def to_table(result: Result) -> RenderableType:
    """Return the result for a terminal."""
    from rich.console import Group
    from rich.table import Table

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    for name, value in _facts(result):
        facts.add_row(name, value)
    units = Table(title="busy share of every unit", title_justify="left", box=None, show_header=False, padding=(0, 2))
    for unit, share in result.utilization.items():
        if share >= 0.005:
            units.add_row(unit, bar(share), f"{share:6.1%}")
    blocks = "lifted" in result.options
    title = "where warp-group time goes" + " (inside blocks: turbosim sass)" * blocks
    stalls = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2))
    top = sorted(result.stalls.items(), key=lambda item: -item[1])[:8]
    for reason, share in top:
        stalls.add_row(reason_words(reason, blocks), bar(share), f"{share:6.1%}")
    rest = 1 - sum(share for _, share in top)
    if rest > 0.0005:
        stalls.add_row("everything else", bar(rest), f"{rest:6.1%}")
    parts: list[RenderableType] = [facts, "", units, "", stalls]
    if len(result.launches) > 1:
        parts += ["", _launch_table(result)]
    return Group(*parts)


def _facts(result: Result) -> list[tuple[str, str]]:
    main = max(result.launches, key=lambda x: x.ticks)
    shown = [f"{k}={v}" for k, v in result.options.items() if k not in (COSTS, ASSUMED)]
    facts = [("GPU", f"{result.hw} at {show(result.clock_hz, 'Hz')}"),
             ("kernel", f"{result.kernel} ({', '.join(shown)})"),
             ("workload", describe_workload(result)),
             ("time", f"{show(result.time_s, 's')} ({result.cycles:,} cycles)")]
    energy, tokens = result.total_energy_j, decoded_tokens(result)
    if energy is not None:
        each = f", {tokens / energy:.3g} tokens/J for one layer's attention" if tokens else ""
        facts += [("power", describe(result.energy_j, result.time_s, result.power_limit_w)),
                  ("energy", show(energy, "J") + each)]
    if result.useful_flops:
        done = result.tflops * 1e12 / 2
        peaks = ", ".join(f"{done / macs:.1%} of {name}" for name, macs in result.peak_macs.items())
        facts.append(("throughput", f"{result.tflops:.1f} TFLOP/s" + (f" ({peaks})" if peaks else "")))
    moved = f"{show(result.dram_read_bytes, 'B')} read, {show(result.dram_write_bytes, 'B')} written"
    if result.evicted_bytes:
        moved += f", {show(result.evicted_bytes, 'B')} evicted"
    facts += [
        ("device memory", f"{show(result.dram_bandwidth_Bps, 'B/s')} ({moved})"),
        ("L2 hit rate", f"{result.l2_hit_rate:.1%}"),
        ("bound", bound_words(result.bound, result.utilization)),
        ("roofline", f"{show(result.bound_s, 's')}, {result.time_s / result.bound_s:.2f}x of it taken"),
        ("occupancy", (f"{main.ctas_per_sm} CTAs, {main.ctas_per_sm * main.warps_per_cta} warps per SM, limited by "
                       f"{main.occupancy_limit}")),
        ("waves", f"{waves(main, result.sms):.2f}; SMs idle at the end {tail_share(main):.1%} of the time"),
    ]
    return facts


def _launch_table(result: Result) -> RenderableType:
    from rich.table import Table

    table = Table(title="launches", title_justify="left", box=None, padding=(0, 2))
    for name in ("kernel", "time", "CTAs", "DRAM read", "DRAM written"):
        table.add_column(name, justify="left" if name == "kernel" else "right")
    for x in result.launches:
        table.add_row(x.name, show(x.ticks / (TICKS_PER_CYCLE * result.clock_hz), "s"), f"{x.ctas:,}",
                      show(x.dram_read_bytes, "B"), show(x.dram_write_bytes, "B"))
    return table
