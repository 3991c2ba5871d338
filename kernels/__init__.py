"""Triton kernels of the attention systems that turbosim models, and the harness that measures them on a GPU.

Needs torch and triton, which are imported when a kernel is used. Nothing else is needed, not even an installed
turbosim: ``python -m kernels.measure`` runs from a checkout.
"""
