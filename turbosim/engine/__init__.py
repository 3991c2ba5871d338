"""Engines: SimPy as the definition, numba for speed."""
