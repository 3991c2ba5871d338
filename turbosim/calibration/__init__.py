"""Fitting memory and launch parameters of a GPU on micro-benchmarks, with the simulator as the forward model."""
