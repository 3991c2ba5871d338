"""GenZ's prediction of an attention row, as a baseline beside the roofline.

GenZ-LLM-Analyzer (A. Bambhaniya et al., "Demystifying AI Platform Design for Distributed Inference of Next-Generation
LLM models", arXiv:2406.01698; ``genz-llm`` on PyPI) is an analytical model of whole LLMs. Its two operators of
attention are used with the scores on the chip, as its models of FlashAttention have them, and with the peak and the
bandwidth of turbosim's hardware file. It knows no causal mask; types other than 16-bit ones are left out.
"""

from __future__ import annotations

from turbosim.errors import UsageError
from turbosim.hw.spec import Gpu
from turbosim.validation.roofline import peak_flops
from turbosim.validation.row import Row
from turbosim.workload import Attention

NO_MODEL = "it is asked for attention in 16 bits only"


def check_installed() -> None:
    """Raise UsageError where GenZ is not installed."""
    try:
        import GenZ  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--model genz: needs GenZ, which cannot be imported ({error}); pip install genz-llm") from error


def genz_seconds(gpu: Gpu, row: Row) -> float | None:
    """Return the time of a row of 16-bit attention [s], None for others."""
    from GenZ.Models import OpType
    from GenZ.operators import Attend, Logit
    from GenZ.system import System

    work = row.workload
    if not isinstance(work, Attention) or row.dtype not in ("fp16", "bf16"):
        return None
    hertz = row.protocol.clock or gpu.clock.hertz("tensor_spec")
    # Its GB/s are of 1024^3 bytes, its TFLOP/s of 10^12.
    system = System(flops=peak_flops(gpu, row.dtype, hertz) / 1e12, offchip_mem_bw=gpu.hbm.bandwidth / 2**30,
                    bits="bf16")
    sizes = [work.batch, work.q_heads, work.seq_q, work.seq_k, work.head_dim, work.kv_heads, 0]
    scores = Logit(["QK^T", *sizes, OpType.Logit], (1.0, 1.0, 1.0))
    scores.set_mem_pin(output="on")
    output = Attend(["PV", *sizes, OpType.Attend], (1.0, 1.0, 1.0))
    output.set_mem_pin(input_a="on")
    return float(sum(max(op.get_compute_time(system), op.get_memory_time(system)) for op in (scores, output)))
