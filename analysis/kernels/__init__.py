"""Triton kernels of the tutorials' structure, for comparison with published timings."""
