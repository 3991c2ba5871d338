"""Compiled kernels: machine code, read and replayed instruction by instruction."""
