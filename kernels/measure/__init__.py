"""Measures kernels on an NVIDIA GPU: ``python -m kernels.measure --suite quick --out DIR``.

The parent process (:mod:`~kernels.measure.runner`) never touches the GPU: it plans, samples clocks and power, and
writes rows. A worker process (:mod:`~kernels.measure.worker`) runs the kernels, and is replaced when a CUDA error, a
crash or a hang has made it useless. Columns are described in ``analysis/README.md``.
"""
