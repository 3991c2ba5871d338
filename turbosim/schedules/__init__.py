"""Schedules: the recipes that write the programs of kernels."""
